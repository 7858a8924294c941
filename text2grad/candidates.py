"""Rows of a raw data set, which hold several responses each, as records with one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from text2grad.conversations import is_conversation, prompt_value
from text2grad.files import Row
from text2grad.records import read_value
from text2grad.schema import FieldNames, Record, UserError
from text2grad.tasks import TaskSpec


@dataclass
class Expansion:
    """Rows with one response each.

    Attributes:
        rows: with the task's own keys, "candidate" (where the response comes from) and the other
            keys of the raw row. What a raw row says under KEY_CANDIDATE is also under KEY.
        empty: candidates without a text that were left out, with those that would have had their
            text as the reference.
        repeated: candidates that say what an earlier one of their row does, left out.
        faults: messages about records that could not be used, where they are collected.
    """

    rows: list[Row] = field(default_factory=list)
    empty: int = 0
    repeated: int = 0
    faults: list[str] = field(default_factory=list)


def expand_records(
    records: Sequence[Record],
    task: TaskSpec,
    candidates: str = "feedback",
    fields: FieldNames | None = None,
    skip_faults: bool = False,
) -> Expansion:
    """One row per response.

    Args:
        records: as they were read; a raw row of the task's data set has `task.candidate_keys`.
        task: names the keys.
        candidates: "feedback" for the first candidate of a raw row, "all" for every one, or the
            key of one.
        fields: the user's key names; with a response key of their own there are no candidates.
        skip_faults: collect what is wrong with a record in place of raising it.

    Raises:
        UserError: there is no such key, or a record has neither a response nor a candidate key, or
            a candidate that is no text or continues another conversation.
    """
    found = Expansion()
    chosen = _chosen_candidates(candidates, task)
    for record in records:
        try:
            _expand(record, task, chosen, candidates == "all", fields or FieldNames(), found)
        except UserError as error:
            if not skip_faults:
                raise
            found.faults.append(str(error))
    return found


def _expand(
    record: Record,
    task: TaskSpec,
    chosen: Sequence[tuple[str, str]],
    every: bool,
    fields: FieldNames,
    found: Expansion,
) -> None:
    is_raw = any(key in record.fields for key, _ in task.candidate_keys)
    if fields.response or not is_raw:
        if not record.response:
            keys = fields.response or ", ".join(task.response_keys)
            raise UserError(f"{record.origin}: the response is missing: expected {keys}")
        found.rows.append(_native_row(record, "", task, fields))
        return
    texts = {key: _candidate_text(record, key) for key, _ in chosen}
    if not record.reference and _lacks_reference(record, task):
        found.empty += len(chosen)
        return
    taken: set[str] = set()
    for key, ending in chosen:
        text = texts[key]
        if not text.strip():
            found.empty += key in record.fields or not every
        elif text in taken:
            found.repeated += 1
        else:
            taken.add(text)
            identity = f"{record.id}-{ending}" if ending else record.id
            own = replace(record, id=identity, response=text)
            found.rows.append(_native_row(own, key, task, fields))


def _lacks_reference(record: Record, task: TaskSpec) -> bool:
    """Whether the reference would be a candidate that is empty, and there are no tests instead."""
    named = [key for key, _ in task.candidate_keys if key in task.reference_keys]
    return not task.test_keys and any(key in record.fields for key in named)


def _candidate_text(record: Record, key: str) -> str:
    """The text of a candidate, "" where the record has none.

    Raises:
        UserError: it is no text, or answers another conversation than the record's.
    """
    value = record.fields.get(key)
    if value is None:
        return ""
    try:
        read = read_value(value)
    except ValueError as error:
        raise UserError(f'{record.origin}: "{key}" is no conversation: {error}') from error
    if read is None:
        raise UserError(f'{record.origin}: "{key}" must be a string or chat messages')
    turns, text = read
    if text and turns and (turns if is_conversation(turns) else ()) != record.turns:
        raise UserError(f'{record.origin}: "{key}" continues another conversation than the prompt')
    return text


def _chosen_candidates(candidates: str, task: TaskSpec) -> Sequence[tuple[str, str]]:
    if candidates in ("all", "feedback"):
        return task.candidate_keys if candidates == "all" else task.candidate_keys[:1]
    chosen = [(key, ending) for key, ending in task.candidate_keys if key == candidates]
    if not chosen:
        known = ", ".join(["feedback", "all", *(key for key, _ in task.candidate_keys)])
        raise UserError(f"--candidates {candidates}: unknown, known are {known}")
    return chosen


def _native_row(record: Record, candidate: str, task: TaskSpec, fields: FieldNames) -> Row:
    read = {*task.prompt_keys, *task.response_keys, *task.reference_keys}
    read |= {*task.human_feedback_keys, *task.test_keys, "id"}
    read |= {key for key, _ in task.candidate_keys}
    read |= {key for name in dataclasses.asdict(fields).values() for key in name.split("+")}
    row: Row = {"id": record.id, task.prompt_keys[0]: prompt_value(record)}
    row[task.response_keys[0]] = record.response
    if record.reference:
        row[task.reference_keys[0]] = record.reference
    is_first = not candidate or candidate == task.candidate_keys[0][0]
    if record.human_feedback and is_first:
        row[task.human_feedback_keys[0]] = record.human_feedback
    if record.test and task.test_keys:
        row[task.test_keys[0]] = record.test
    if candidate:
        row["candidate"] = candidate
    others = {key: value for key, value in record.fields.items() if key not in read}
    return (
        row | {k: v for k, v in _of_candidate(others, candidate).items() if k not in row} | others
    )


def _of_candidate(others: Mapping[str, Any], candidate: str) -> Row:
    """What the row says of this candidate alone: `score_chosen` is `score` of the chosen one."""
    ending = f"_{candidate}"
    return {
        key.removesuffix(ending): value
        for key, value in others.items()
        if candidate and key.endswith(ending)
    }
