"""Solutions of a benchmark's problems: `infer_val.py`'s responses, or EvalPlus' own format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from text2grad.files import Row, read_rows
from text2grad.schema import UserError

RESPONSE = "response"
_NAMED = 5  # problems that a message lists


@dataclass(frozen=True)
class Sample:
    """One solution of a problem.

    Attributes:
        id: of the row it comes from.
        task_id: the problem's.
        text: a response, from which EvalPlus takes the code, or the code itself.
        is_response: which of them.
    """

    id: str
    task_id: str
    text: str
    is_response: bool


def read_samples(
    path: str, flag: str, problems: Mapping[str, Row], size: int, k: Sequence[int]
) -> list[Sample]:
    """The solutions in a file, in the order of its rows.

    Args:
        path: rows of `infer_val.py` (`id`, `response`), or EvalPlus' own (`task_id`, and
            `solution` or `completion`, which goes on where the prompt ends).
        flag: the flag that named it, for messages.
        problems: of the benchmark, by `task_id`.
        size: how many of them must be solved, as `infer_val.py --sample_size` chose them; 0: all.
        k: for pass@k; a problem must have that many solutions.

    Raises:
        UserError: a row that is neither, an unknown problem, a problem without a solution, or one
            with fewer than the largest k.
    """
    rows = enumerate(read_rows(path, flag), 1)
    samples = [_sample(row, f"{flag} {path}, record {n}", problems) for n, row in rows]
    counts = Counter(sample.task_id for sample in samples)
    wanted = min(size or len(problems), len(problems))
    if len(counts) < wanted:
        missing = [name for name in problems if name not in counts]
        raise UserError(
            f"{flag} {path}: {len(counts)} of {wanted} problems have a solution (none: "
            f"{_some(missing)}); let infer_val.py answer all, or say by --sample_size how many"
        )
    few = [name for name in problems if 0 < counts[name] < max(k)]
    if few:
        raise UserError(
            f"--k {' '.join(map(str, k))}: {flag} {path} has {counts[few[0]]} of {few[0]}, and "
            f"k = {max(k)} needs at least as many; let infer_val.py write more by "
            "--samples_per_prompt"
        )
    return samples


def _sample(row: Row, origin: str, problems: Mapping[str, Row]) -> Sample:
    keys = [key for key in (RESPONSE, "solution", "completion") if key in row]
    name = row.get("task_id", row.get("id"))
    if not keys or name is None:
        raise UserError(
            f'{origin}: expected "id" and "response" (infer_val.py), or "task_id" and "solution" '
            f'or "completion" (EvalPlus), found {", ".join(row) or "nothing"}'
        )
    key = keys[0]
    if not isinstance(row[key], str):
        raise UserError(f'{origin} (id {name}): "{key}" must be a string')
    # infer_val.py adds "-0", "-1", ... where it writes several responses to a prompt
    whole, _, number = str(name).rpartition("-")
    task_id = whole if str(name) not in problems and number.isdecimal() else str(name)
    if task_id not in problems:
        raise UserError(
            f'{origin}: there is no problem "{task_id}" in this data set, only such as '
            f"{_some(list(problems)[:1])}; see --dataset, --humaneval_path and --mbpp_path"
        )
    start = problems[task_id]["prompt"] if key == "completion" else ""
    return Sample(str(name), task_id, start + row[key], key == RESPONSE)


def check_same_problems(first: Sequence[Sample], second: Sequence[Sample], flag: str) -> None:
    """Both are solutions of the same problems.

    Raises:
        UserError: they are not.
    """
    apart = {sample.task_id for sample in first} ^ {sample.task_id for sample in second}
    if apart:
        raise UserError(
            f"{flag}: {len(apart)} problems are in one of the two files only ({_some(apart)}); "
            "give infer_val.py the same --input_path and --sample_size"
        )


def _some(names: Collection[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*list(names)[:_NAMED], *more])
