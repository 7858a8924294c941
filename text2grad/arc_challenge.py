"""ARC-Challenge through lm-eval, on the hub's questions or on a local file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2grad.config import ArcConfig
from text2grad.external import Program, ask_program, program_folder, ready, run_program
from text2grad.files import Row, check_writable, read_rows, sha256_file, write_json, write_rows
from text2grad.schema import UserError
from text2grad.tables import interval_text, text_table
from text2grad.verdicts import wilson_interval

_HUB_TASK, _LOCAL_TASK = "arc_challenge", "arc_challenge_of_a_file"
_METRICS = {"acc": "accuracy", "acc_norm": "accuracy, by characters"}
_PROGRAM = Program("lm-eval", "lm_eval", ("lm-eval==0.4.13",), shared=True)
_WHERE = (
    "import importlib.util, json; "
    "print(json.dumps(list(importlib.util.find_spec('lm_eval').submodule_search_locations)[0]))"
)


def evaluate_arc(args: ArcConfig) -> None:
    """Run lm-eval, read its figures, print and write them with intervals.

    Raises:
        UserError: a file or flag is wrong, lm-eval fails, or its results are not as expected.
    """
    output = Path(args.output_file)
    folder = check_writable(program_folder(output), "--output_file").resolve()
    files = _write_data(folder, args) if args.data else {}  # before anything is installed
    python = ready(_PROGRAM, args.environment, folder)
    package = ask_program([python, "-c", _WHERE], folder, f"--environment {args.environment}")
    task = _LOCAL_TASK if args.data else _HUB_TASK
    if args.data:
        _write_task(folder, Path(package), files, args)
    before = set(folder.rglob("results_*.json"))
    run_program(
        [python, "-m", "lm_eval", *lm_eval_words(args, task, folder)],
        folder,
        _offline(args),
        "lm-eval",
    )
    written = sorted(set(folder.rglob("results_*.json")) - before)
    if not written:
        raise UserError(f"lm-eval wrote no results_*.json into {folder}")
    found = json.loads(written[-1].read_text(encoding="utf-8"))
    report = {
        "benchmark": "ARC-Challenge",
        "model": args.model_path,
        "data": args.data or "allenai/ai2_arc, ARC-Challenge, test",
        **({"sha256": sha256_file(args.data)} if args.data else {}),
        **read_results(found, task, args.num_fewshot, str(written[-1])),
        "chat_template": args.apply_chat_template,
        "lm_eval_version": found.get("lm_eval_version"),
        "results": str(written[-1]),
    }
    write_json(output, report, "--output_file")
    print(arc_table(report))
    print(f"all figures: {output}")


def lm_eval_words(args: ArcConfig, task: str, folder: Path) -> list[str]:
    """What follows `python -m lm_eval`."""
    words = ["run", "--model", "hf", "--model_args", _model_words(args), "--tasks", task]
    words += ["--num_fewshot", str(args.num_fewshot), "--batch_size", str(args.batch_size)]
    words += ["--output_path", str(folder), "--log_samples", "--seed", str(args.seed)]
    if args.data:
        words += ["--include_path", str(folder)]
    if args.apply_chat_template:
        several_turns = args.fewshot_as_multiturn and args.num_fewshot > 0
        words += ["--apply_chat_template"]
        words += ["--fewshot_as_multiturn", str(several_turns).lower()]
    if args.device:
        words += ["--device", args.device]
    if args.max_samples:
        words += ["--limit", str(args.max_samples)]
    return words


def read_results(
    found: Mapping[str, Any], task: str, num_fewshot: int, origin: str
) -> dict[str, Any]:
    """The figures in lm-eval's results.

    Args:
        found: the JSON that it wrote.
        task: as lm-eval names it.
        num_fewshot: what it was asked for.
        origin: of the JSON, for messages.

    Returns:
        "n", "num_fewshot", and for "acc" and "acc_norm" {"value", "interval"}: 95 %, Wilson.

    Raises:
        UserError: it does not say so, or says that something else was run.
    """
    try:
        figures = found["results"][task]
        count = int(found["n-samples"][task]["effective"])
        shown = int(found["n-shot"][task])
        values = {name: float(figures[f"{name},none"]) for name in _METRICS}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{origin}: not as lm-eval 0.4 writes it ({error!r})") from error
    if shown != num_fewshot or count < 1:
        raise UserError(
            f"{origin}: {count} questions with {shown} solved ones each, where --num_fewshot "
            f"{num_fewshot} was asked for"
        )
    shares = {
        name: {"value": value, "interval": wilson_interval(round(value * count), count)}
        for name, value in values.items()
    }
    return {"n": count, "num_fewshot": shown, **shares}


def arc_table(report: Mapping[str, Any]) -> str:
    """The printed form of the figures."""
    title = f"ARC-Challenge, {report['n']} questions, {report['num_fewshot']}-shot"
    rows = [
        [f"{name} ({words})", report[name]["value"], interval_text(report[name]["interval"])]
        for name, words in _METRICS.items()
    ]
    return text_table([title, "value", "95 % interval"], rows)


def _model_words(args: ArcConfig) -> str:
    name = args.model_path
    is_folder = Path(name).is_dir()
    path = str(Path(name).resolve()) if is_folder else name
    parts = {"pretrained": path, "dtype": _DTYPES[args.dtype]}
    if is_folder and (Path(name) / "adapter_config.json").exists():
        from text2grad.pretrained import base_of  # loads transformers

        parts |= {"pretrained": base_of(name), "peft": path}
    for value in parts.values():
        if "," in value or "=" in value:
            raise UserError(f"--model_path {name}: lm-eval takes no path with a comma or = in it")
    return ",".join(f"{key}={value}" for key, value in parts.items())


_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def _offline(args: ArcConfig) -> dict[str, str]:
    """Nothing is looked for on the hub where everything is here."""
    if args.data and os.path.isdir(args.model_path):
        return {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return {}


def _write_data(folder: Path, args: ArcConfig) -> dict[str, str]:
    """The user's questions, and the solved ones to show, as files by split."""
    files = {"test": _write_questions(args.data, "--data", folder / "test.jsonl")}
    if args.fewshot_data:
        files["train"] = _write_questions(
            args.fewshot_data, "--fewshot_data", folder / "train.jsonl", args.num_fewshot
        )
    return files


def _write_task(folder: Path, package: Path, files: Mapping[str, str], args: ArcConfig) -> None:
    """A task of lm-eval's own ARC, wording included, on the user's questions."""
    wording = package / "tasks" / "arc" / "arc_easy.yaml"
    if not wording.exists():
        raise UserError(f"--environment {args.environment}: its lm-eval has no {wording}")
    settings = {
        "include": str(wording),
        "task": _LOCAL_TASK,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": dict(files)},
        "training_split": "train" if "train" in files else None,
        "validation_split": None,
        "test_split": "test",
        "num_fewshot": args.num_fewshot,
    }
    # JSON is YAML; lm-eval looks for the ending
    write_json(folder / f"{_LOCAL_TASK}.yaml", settings, "--output_file")


def _write_questions(source: str, flag: str, target: Path, at_least: int = 1) -> str:
    rows = read_rows(source, flag)
    for number, row in enumerate(rows, 1):
        fault = _fault(row)
        if fault:
            raise UserError(f"{flag} {source}: record {number}: {fault}")
    if len(rows) < at_least:
        raise UserError(
            f"{flag} {source}: {len(rows)} questions, --num_fewshot {at_least} needs more"
        )
    keys = ("question", "choices", "answerKey")
    write_rows(
        target,
        ({"id": str(row.get("id", n)), **{k: row[k] for k in keys}} for n, row in enumerate(rows)),
        "--output_file",
    )
    return str(target)


def _fault(row: Row) -> str:
    """What keeps a row from being a question of ARC, "" for nothing."""
    choices = row.get("choices")
    if not isinstance(row.get("question"), str) or not row["question"].strip():
        return 'the key "question" is missing or empty'
    if not isinstance(choices, dict) or not _are_texts(choices.get("text")):
        return 'the key "choices" must hold {"text": [...], "label": [...]}'
    labels = choices.get("label")
    if not _are_texts(labels) or len(labels) != len(choices["text"]) or len(set(labels)) < 2:
        return "choices need a label each, and at least two of them"
    if row.get("answerKey") not in labels:
        return f"answerKey {row.get('answerKey')!r} is none of the labels {', '.join(labels)}"
    return ""


def _are_texts(values: Any) -> bool:
    return isinstance(values, Sequence) and all(isinstance(text, str) and text for text in values)
