"""Files of responses, as `infer_val.py` writes them, and two of them joined."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from text2grad.records import FieldNames, read_records
from text2grad.schema import Record, UserError
from text2grad.tasks import TaskSpec

_NAMED = 5  # ids that a message lists


def read_responses(path: str, task: TaskSpec, flag: str) -> dict[str, Record]:
    """Records by id, or by prompt where the file has no ids.

    Raises:
        UserError: unreadable, a row without the key "response", two rows with the same id, or, in
            a file without ids, with the same prompt.
    """
    names = FieldNames(prompt="query", response="response")
    records = read_records(path, task, ("prompt",), names, flag)
    if any(record.reference for record in records):  # then all must have one
        records = read_records(path, task, ("prompt", "reference"), names, flag)
    found: dict[str, Record] = {}
    for record in records:
        if "response" not in record.fields:
            raise UserError(f'{record.origin}: the key "response" is missing (from {flag})')
        key = record.id if "id" in record.fields else record.prompt
        if key in found:
            raise UserError(
                f"{record.origin}: the same prompt as {found[key].origin}, and no ids that tell "
                f'them apart; add the key "id" (from {flag})'
            )
        found[key] = record
    return found


def join_responses(
    first: Mapping[str, Record], second: Mapping[str, Record], flag: str
) -> list[tuple[Record, Record]]:
    """Both responses to every prompt, in the order of `first`.

    Args:
        first: from `read_responses`, the file of --input_file.
        second: likewise, of the file that `flag` names.
        flag: with its value, for messages.

    Raises:
        UserError: one file answers what the other does not, or one id stands for two prompts.
    """
    faults = [
        f"{len(keys)} prompts are only in {where} ({_some(keys)})"
        for keys, where in (
            (first.keys() - second.keys(), "--input_file"),
            (second.keys() - first.keys(), "this file"),
        )
        if keys
    ]
    if faults:
        raise UserError(
            f"{flag}: {' and '.join(faults)}; both must answer the same ones, give infer_val.py "
            "the same --input_path and --sample_size"
        )
    for key, record in first.items():
        if record.prompt != second[key].prompt:
            raise UserError(
                f"{flag}: id {key} is another prompt here than in --input_file; both files must "
                "come from the same --input_path of infer_val.py"
            )
    return [(record, second[key]) for key, record in first.items()]


def join_problems(first: Sequence[Record], second: Sequence[Record], flag: str) -> None:
    """Both files are about the same prompts, each with one or several responses, or an error.

    Raises:
        UserError: one file has a prompt that the other has not.
    """
    prompts = [{record.prompt for record in records} for records in (first, second)]
    if prompts[0] != prompts[1]:
        apart = len(prompts[0] ^ prompts[1])
        raise UserError(
            f"{flag}: {apart} prompts are in one of the two files only; give infer_val.py the "
            "same --input_path and --sample_size"
        )


def _some(keys: Collection[str]) -> str:
    shown = [key if len(key) <= 40 else f"{key[:40]}..." for key in sorted(keys)[:_NAMED]]
    more = [f"{len(keys) - _NAMED} more"] if len(keys) > _NAMED else []
    return " ".join(", ".join([*shown, *more]).split())
