"""The problems of HumanEval+ and MBPP+ in EvalPlus' format: found, checked, and as prompts."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.download import fetch
from text2grad.files import Row, check_writable, write_rows
from text2grad.schema import UserError
from text2grad.tasks import get_task

if TYPE_CHECKING:
    from text2grad.config import EvalPlusConfig, EvalPlusProblemsConfig

RELEASES = "https://github.com/evalplus"
TEXTS = ("task_id", "prompt", "canonical_solution", "contract", "entry_point")
INPUTS = ("base_input", "plus_input")
# Our own wording; figures of a policy asked in EvalPlus' own may differ a little.
QUESTION = (
    "Solve this problem in Python. Answer with one code block that holds the whole function and "
    "all that it needs to run:\n```\n{prompt}\n```\n"
)


@dataclass(frozen=True)
class Benchmark:
    """A set of problems with two sets of tests: its own ("base"), and EvalPlus' as well ("plus").

    Attributes:
        title: as people write it; with a "+" for both sets of tests.
        release: its name among EvalPlus' releases.
        version: of the data; the one that EvalPlus 0.3.1 takes.
        variable: EvalPlus' environment variable for a file of one's own.
    """

    title: str
    release: str
    version: str
    variable: str

    @property
    def url(self) -> str:
        """Where the data is released."""
        place = f"{self.release.lower()}_release/releases/download/{self.version}"
        return f"{RELEASES}/{place}/{self.release}.jsonl.gz"


BENCHMARKS = {
    "humaneval": Benchmark("HumanEval", "HumanEvalPlus", "v0.1.10", "HUMANEVAL_OVERRIDE_PATH"),
    "mbpp": Benchmark("MBPP", "MbppPlus", "v0.2.0", "MBPP_OVERRIDE_PATH"),
}


def installed_version() -> str:
    """The version of EvalPlus in this environment, which the sandbox sees as well.

    Raises:
        UserError: there is none.
    """
    try:
        return importlib.metadata.version("evalplus")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("EvalPlus is not installed here: run bash env.sh") from error


def write_problems(args: EvalPlusProblemsConfig) -> None:
    """Write the problems of `args.dataset` as prompts for `infer_val.py`.

    Raises:
        UserError: no EvalPlus to judge the answers later, no data, or data that EvalPlus could not
            use.
    """
    installed_version()
    task = get_task(args.task)
    check_writable(Path(args.output_path).parent, "--output_path")
    path, problems = read_problems(args)
    rows = [
        {
            "id": name,
            task.prompt_keys[0]: QUESTION.format(prompt=problem["prompt"].strip()),
            task.reference_keys[0]: problem["prompt"] + problem["canonical_solution"],
        }
        for name, problem in problems.items()
    ]
    write_rows(args.output_path, rows, "--output_path")
    print(f"{len(rows)} problems of {path}: {args.output_path}")


def read_problems(
    args: EvalPlusProblemsConfig | EvalPlusConfig,
) -> tuple[Path, dict[str, dict[str, Any]]]:
    """The file of a benchmark, and its problems by their `task_id`, as EvalPlus has them.

    Raises:
        UserError: no file and no way to fetch one, no JSON Lines, or a problem that lacks a part.
    """
    path, flag = find_data(args)
    problems: dict[str, Row] = {}
    for number, row in enumerate(_read_lines(path, flag), 1):
        origin = f"{flag} {path}, line {number}"
        fault = _fault_of(row, args.dataset)
        if fault:
            raise UserError(f"{origin}: {fault}; expected a problem in EvalPlus' format")
        name = row["task_id"]
        if name in problems:
            raise UserError(f'{origin}: a second problem "{name}"')
        problems[name] = row
    if not problems:
        raise UserError(f"{flag} {path}: the file is empty")
    return path, problems


def find_data(args: EvalPlusProblemsConfig | EvalPlusConfig) -> tuple[Path, str]:
    """The data of `args.dataset`, and the flag that names it.

    In this order: the flag's file, that of EvalPlus' own environment variable, EvalPlus' cache,
    and EvalPlus' release, which is fetched into the cache.

    Raises:
        UserError: there is no such file, or it cannot be fetched.
    """
    benchmark, flag = BENCHMARKS[args.dataset], f"--{args.dataset}_path"
    given = getattr(args, flag[2:]) or os.environ.get(benchmark.variable, "")
    if given and not Path(given).is_file():
        raise UserError(f"{flag} {given}: no such file (looked in {Path.cwd()})")
    if given:
        return Path(given), flag
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(home, "evalplus", f"{benchmark.release}-{benchmark.version}.jsonl")
    if not path.is_file():
        fetch(benchmark.url, path, flag, unpack=True)
    return path, flag


def _read_lines(path: Path, flag: str) -> Iterator[Any]:
    """The JSON values of a file of lines, packed by gzip or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007 - for the message
                if line.strip():
                    yield json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{flag} {path}, line {number}: not JSON ({error.msg}); expected JSON Lines in "
            "EvalPlus' format"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: not UTF-8 text (byte {error.start})") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{flag} {path}: cannot be read: {error}") from error


def _fault_of(row: Any, dataset: str) -> str:
    """Why EvalPlus could not use a row, "" if it can."""
    if not isinstance(row, dict):
        return "no JSON object"
    missing = [key for key in (*TEXTS, *INPUTS, "atol") if key not in row]
    if missing:
        return f"the key{'s' * (len(missing) > 1)} {', '.join(missing)} missing"
    for key in TEXTS:
        if not isinstance(row[key], str):
            return f'"{key}" is no string'
    for key in INPUTS:
        if row[key] and not (
            isinstance(row[key], list) and all(isinstance(i, list) for i in row[key])
        ):
            return f'"{key}" is no list of lists of arguments'
    if not row["base_input"]:
        return '"base_input" is empty, so nothing would be tested'
    if isinstance(row["atol"], bool) or not isinstance(row["atol"], (int, float)):
        return '"atol" is no number'
    if dataset == "mbpp" and not row["task_id"].rpartition("/")[2].isdecimal():
        return f'the task_id "{row["task_id"]}" does not end in a number, as MBPP\'s do'
    return ""
