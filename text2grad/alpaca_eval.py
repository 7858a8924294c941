"""AlpacaEval 2.0: our model answers its instructions, its own program compares the answers."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2grad.chat_errors import KEY_VARIABLES, read_key
from text2grad.config import AlpacaEvalConfig
from text2grad.download import fetch
from text2grad.external import Program, ask_program, program_folder, ready, run_program
from text2grad.files import (
    Journal,
    Row,
    check_writable,
    read_rows,
    sha256_file,
    sha256_text,
    write_json,
    write_rows,
)
from text2grad.records import sample_in_order
from text2grad.schema import Unparseable, UserError
from text2grad.tables import interval_text, text_table

_URL = (
    "https://huggingface.co/datasets/tatsu-lab/alpaca_eval/resolve/main/"
    "alpaca_eval_gpt4_baseline.json"
)
# with pandas 3 it cannot read its own cache
_PROGRAM = Program(
    "alpaca_eval", "alpaca_eval", ("alpaca_eval==0.6.6", "pandas==2.3.3"), shared=False
)
# its own configuration as JSON, with the folder that its paths start from
_READ_CONFIG = """
import importlib.util, json, pathlib, sys, yaml
folder = pathlib.Path(list(importlib.util.find_spec("alpaca_eval").submodule_search_locations)[0])
path = folder / "evaluators_configs" / sys.argv[1]
path = path / "configs.yaml" if path.is_dir() else path
config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
print(json.dumps({"base": str(path.parent.parent), "config": config}))
"""
_FIGURES = {
    "win_rate": ("win_rate", "standard_error"),
    "length_controlled_win_rate": ("length_controlled_winrate", "lc_standard_error"),
}
_Z = 1.959964  # 95 % of the normal distribution


def evaluate_alpaca(args: AlpacaEvalConfig) -> None:
    """Answer the instructions, let alpaca_eval judge, read its leaderboard, print and write it.

    In the folder named like the output lie `outputs.json` and `reference.json` (what is compared),
    `answers.jsonl` (the journal of the answers), the judge's configuration, and all that
    alpaca_eval writes; a second run asks the judge only for what is missing.

    Raises:
        UserError: a file or flag is wrong, or alpaca_eval fails.
    """
    output = Path(args.output_file)
    folder = check_writable(program_folder(output), "--output_file").resolve()
    variables = server_variables(args)
    python = ready(_PROGRAM, args.environment, folder)
    config = _write_config(args, python, folder)
    data = args.data or fetch(_URL, folder / "alpaca_eval_gpt4_baseline.json", "--data")
    rows = read_instructions(data, "--data")
    rows = sample_in_order(rows, args.max_samples, random.Random(args.seed))
    name = Path(args.model_path).name
    failed = _write_answers(rows, name, folder, args)
    run_program(
        [python, "-m", "alpaca_eval.main", *alpaca_words(args, folder, config)],
        folder,
        variables,
        "alpaca_eval",
    )
    report = {
        "benchmark": "AlpacaEval 2.0" if not args.data else "AlpacaEval, own instructions",
        "model": args.model_path,
        "data": {"path": args.data or _URL, "sha256": sha256_file(data)},
        "judge": {
            "config": args.annotators_config,
            "model": args.judge_model or None,
            "base_url": args.base_url,
        },
        "instructions": len(rows),
        "without_answer": failed,
        **read_leaderboard(folder / "leaderboard.csv", name, args.length_controlled),
        **_count_unread(folder / "annotations.json"),
    }
    write_json(output, report, "--output_file")
    print(alpaca_table(report))
    print(f"all figures: {output}")


def read_instructions(path: str, flag: str) -> list[Row]:
    """Rows {instruction, output, generator, ...} of reference answers.

    Raises:
        UserError: a row lacks one of them.
    """
    rows = read_rows(path, flag)
    for number, row in enumerate(rows, 1):
        for key in ("instruction", "output", "generator"):
            if not isinstance(row.get(key), str) or not row[key].strip():
                raise UserError(
                    f'{flag} {path}: record {number}: the key "{key}" is missing or empty'
                )
    return rows


def server_variables(args: AlpacaEvalConfig) -> dict[str, str]:
    """The environment of alpaca_eval: the server and its key, never a file with the key.

    Raises:
        UserError: OpenAI's own server, and no key.
    """
    key = read_key(KEY_VARIABLES[0])
    if not (key or args.base_url or os.environ.get("OPENAI_BASE_URL")):
        raise UserError(
            f"OpenAI's own server needs the environment variable {KEY_VARIABLES[0]}; export it, or "
            "give --base_url of an own server"
        )
    found = {"OPENAI_API_KEY": key or "none", "OPENAI_MAX_CONCURRENCY": str(args.concurrency)}
    if args.base_url:
        # its own file of servers goes before these variables
        found |= {"OPENAI_BASE_URL": args.base_url, "OPENAI_CLIENT_CONFIG_PATH": os.devnull}
    if not args.length_controlled:
        found["HF_HUB_OFFLINE"] = "1"
    return found


def alpaca_words(args: AlpacaEvalConfig, folder: Path, config: Path) -> list[str]:
    """What follows `python -m alpaca_eval.main`."""
    # a cache of one judge must never answer for another of the same name
    judge = sha256_text(config.read_text(encoding="utf-8"), args.base_url)[:16]
    words = ["evaluate", "--model_outputs", str(folder / "outputs.json")]
    words += ["--reference_outputs", str(folder / "reference.json")]
    words += ["--annotators_config", str(config), "--output_path", str(folder)]
    words += ["--precomputed_leaderboard", "None"]
    words += ["--caching_path", str(folder / f"judged_{judge}.json")]
    if not args.length_controlled:
        words += ["--fn_metric", "get_winrate", "--sort_by", "win_rate"]
    return words


def read_leaderboard(path: Path, name: str, length_controlled: bool) -> dict[str, Any]:
    """The row of our model, rates in per cent.

    Args:
        path: the CSV file that alpaca_eval wrote.
        name: of our model in it.
        length_controlled: that win rate has to be there too.

    Returns:
        "n" judged pairs, "avg_length" of an answer in characters, and for each win rate {"value",
        "standard_error", "interval"}, the interval from the error.

    Raises:
        UserError: the row or one of its columns is not there.
    """
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            rows = {row[""]: row for row in csv.DictReader(lines)}
        row = rows[name]
        found: dict[str, Any] = {
            "n": int(float(row["n_total"])),
            "avg_length": int(float(row["avg_length"])),
        }
        for figure, (column, error) in list(_FIGURES.items())[: 1 + length_controlled]:
            value, spread = float(row[column]), float(row[error] or "nan")
            interval = [value - _Z * spread, value + _Z * spread] if spread == spread else None
            found[figure] = {
                "value": value,
                "standard_error": spread if spread == spread else None,
                "interval": interval,
            }
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not as alpaca_eval 0.6 writes it ({error!r})") from error
    if not found["n"]:
        raise UserError(f"{path}: no reply of the judge could be read; see {path.parent}")
    return found


def alpaca_table(report: Mapping[str, Any]) -> str:
    """The printed form of the figures."""
    rows = [
        [
            name.replace("_", " "),
            report[name]["value"],
            report[name]["standard_error"],
            interval_text(report[name]["interval"]),
        ]
        for name in _FIGURES
        if name in report
    ]
    left = f"{report['unread']} replies of the judge unread, " if report["unread"] else ""
    title = f"{report['benchmark']}, {report['n']} pairs, per cent"
    table = text_table([title, "value", "standard error", "95 % interval"], rows)
    return f"{table}\n{left}{report['avg_length']} characters per answer"


def _write_answers(
    rows: Sequence[Row], name: str, folder: Path, args: AlpacaEvalConfig
) -> list[str]:
    """Write both sides' answers as alpaca_eval reads them; why instructions have none."""
    from text2grad.chat_answers import Answerer, Asked  # loads torch

    if name in {row["generator"] for row in rows}:
        raise UserError(
            f"--model_path {args.model_path}: the reference answers are of a generator of the same "
            f'name, "{name}"; rename one of them'
        )
    asked = [
        Asked(str(n), ({"role": "user", "content": row["instruction"]},), args.temperature)
        for n, row in enumerate(rows, 1)
    ]
    journal = Journal(folder / "answers.jsonl", "--output_file")
    try:
        answers = Answerer(args, journal, args.top_p).answer(asked, "answering")
    finally:
        journal.close()
    reference, own, failed = [], [], []
    for one, row, answer in zip(asked, rows, answers, strict=True):
        if isinstance(answer, Unparseable):
            failed.append(f"instruction {one.name}: {answer.reason}")
            continue
        reference.append(row)
        own.append({**row, "output": answer, "generator": name})
    if failed and (args.length_controlled or not own):
        raise UserError(
            f"{len(failed)} of {len(rows)} instructions have no answer ({failed[0]}); raise the "
            "bound, or, where some have one, pass --length_controlled false"
        )
    write_rows(folder / "reference.json", reference, "--output_file")
    write_rows(folder / "outputs.json", own, "--output_file")
    return failed


def _write_config(args: AlpacaEvalConfig, python: str, folder: Path) -> Path:
    """The judge's configuration with absolute paths and the user's model."""
    named = args.annotators_config
    named = str(Path(named).resolve()) if Path(named).is_file() else named
    command = [python, "-c", _READ_CONFIG, named]
    found = ask_program(command, folder, f"--environment {args.environment}")
    if not isinstance(found["config"], dict):
        raise UserError(
            f"--annotators_config {args.annotators_config}: neither a file nor a configuration of "
            "alpaca_eval"
        )
    for settings in found["config"].values():
        prompt = Path(found["base"]) / settings["prompt_template"]
        if prompt.exists():  # else it is the wording itself
            settings["prompt_template"] = str(prompt)
        if args.judge_model:
            settings.setdefault("completions_kwargs", {})["model_name"] = args.judge_model
    path = folder / "judge" / "configs.yaml"
    write_json(path, found["config"], "--output_file")  # JSON is YAML
    return path


def _count_unread(path: Path) -> dict[str, int]:
    """How many replies of the judge could not be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {"unread": sum(row["preference"] is None for row in rows)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not as alpaca_eval 0.6 writes it ({error!r})") from error
