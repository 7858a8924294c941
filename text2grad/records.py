"""Rows of a file as `Record`s of a task, and back."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from text2grad.conversations import (
    conversation_text,
    is_conversation,
    is_messages,
    prompt_value,
    read_messages,
)
from text2grad.files import read_rows
from text2grad.parsing import read_feedback
from text2grad.schema import (
    Feedback,
    FieldNames,
    Record,
    Span,
    Turn,
    Unparseable,
    UserError,
)
from text2grad.tasks import TaskSpec

Item = TypeVar("Item")

Part = Literal["prompt", "response", "reference", "human_feedback", "test", "feedback"]


def read_records(
    path: str | Path,
    task: TaskSpec,
    need: Sequence[Part] = ("prompt",),
    fields: FieldNames | None = None,
    flag: str = "--data_path",
    faults: list[str] | None = None,
) -> list[Record]:
    """Read a file of any accepted shape.

    Args:
        path: JSON or JSON Lines.
        task: gives the accepted spellings of the keys.
        need: parts that every record must have, non-empty.
        fields: the user's own key names; they go before the task's. None if the script has no
            flag for them.
        flag: the flag that named the file, for messages.
        faults: gets the message about each record that cannot be read, which is then left out;
            without it the first such message is raised.

    Raises:
        UserError: naming file, record and key: a needed part is missing, empty or no string; two
            records have the same "id". Other keys of ids name a prompt and count up where they
            come again.
    """
    return rows_to_records(read_rows(path, flag), path, task, need, fields, flag, faults)


def rows_to_records(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    task: TaskSpec,
    need: Sequence[Part] = ("prompt",),
    fields: FieldNames | None = None,
    flag: str = "--data_path",
    faults: list[str] | None = None,
) -> list[Record]:
    """Rows as records; `path` says where they come from, the rest is as in `read_records`."""
    own = fields or FieldNames()
    records, seen = [], {}
    for number, row in enumerate(rows, 1):
        try:
            record = _to_record(row, number, path, task, own, flag, seen)
            for part in need:
                if not getattr(record, part):
                    reason = _missing(part, task, fields, row)
                    raise UserError(f"{record.origin}: {reason} (from {flag})")
        except UserError as error:
            if faults is None:
                raise
            faults.append(str(error))
            continue
        if record.id in seen:
            raise UserError(
                f"{path}: records {seen[record.id]} and {number} have the same id "
                f'"{record.id}"; ids must be unique (from {flag})'
            )
        seen[record.id] = number
        records.append(record)
    return records


def annotated_row(
    record: Record, feedback: Feedback, spans: Sequence[Span], task: TaskSpec, annotation: Mapping
) -> dict[str, Any]:
    """The record as it was read, the task's flat keys, verified spans, and provenance."""
    drop = {"annotations", "analysis", "spans", "annotation"}
    row = {key: value for key, value in record.fields.items() if key not in drop}
    row = {"id": record.id, **row, task.critique_keys[0]: feedback.critique}
    for label in task.labels:
        row[label.key] = [span.text for span in spans if span.label == label.name]
    row["spans"] = [span.to_json() for span in spans]
    row["annotation"] = {**annotation, "reasoning": feedback.reasoning}
    return row


def with_native_keys(record: Record, task: TaskSpec, fields: FieldNames) -> Record:
    """The record with the task's own keys beside the user's, so that the next stage reads it."""
    own = {
        task.prompt_keys[0]: prompt_value(record) if fields.prompt else "",
        task.response_keys[0]: record.response if fields.response else "",
        task.reference_keys[0]: record.reference if fields.reference else "",
        task.human_feedback_keys[0]: record.human_feedback if fields.human_feedback else "",
        **{key: record.test if fields.test else "" for key in task.test_keys[:1]},
    }
    native = {key: text for key, text in own.items() if text and key not in record.fields}
    return replace(record, fields={**native, **record.fields})


def predicted_feedback(row: Record, task: TaskSpec, response: str = "") -> Feedback | Unparseable:
    """What a row says of its response, or why nothing; the "gold" that stands beside is left out.

    Args:
        row: from an annotated file, or from what `2_infer.py` wrote.
        task: gives the keys.
        response: the judged text, "" where the row has it under a key of the task.
    """
    fields = row.fields
    if "unparseable" in fields:
        return Unparseable(str(fields["unparseable"]), str(fields.get("reply", "")))
    own = {key: value for key, value in fields.items() if key != "gold"}
    return read_feedback(own, task, response) or Unparseable("no prediction")


def sample_in_order(items: Sequence[Item], most: int, chance: random.Random) -> list[Item]:
    """`most` of the items chosen by chance, in their order; all of them for 0."""
    if not 0 < most < len(items):
        return list(items)
    return [items[place] for place in sorted(chance.sample(range(len(items)), most))]


def read_value(value: Any) -> tuple[tuple[Turn, ...], str] | None:
    """What a key holds: the turns before an answer, and the answer or any other text.

    Known are a string, passages, which are joined by blank lines, and chat messages.

    Returns:
        None if the value is none of these.

    Raises:
        ValueError: see `read_messages`.
    """
    if isinstance(value, str):
        return (), value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return (), "\n\n".join(value)
    return read_messages(value) if is_messages(value) else None


class _RowReader:
    """The parts of one row.

    Args:
        row: as it was read.
        origin: names it in messages.
        flag: the flag that named the file.
    """

    def __init__(self, row: Mapping[str, Any], origin: str, flag: str) -> None:
        self.row, self.origin, self.flag = row, origin, flag

    def answer(self, own: str, keys: Sequence[str]) -> str:
        """The text under the user's own key, else under the first of the task's with a value."""
        return _join(text for _, _, text in self._parts(own, keys))

    def prompt(self, own: str, keys: Sequence[str]) -> tuple[tuple[Turn, ...], str]:
        """The turns of a prompt that is given as messages, else (), and its text."""
        parts = self._parts(own, keys)
        for key, turns, text in parts:
            if turns and text:
                raise self._fault(key, "ends with a message of the assistant, so nothing is asked")
        shown = _join(conversation_text(turns) or text for _, turns, text in parts)
        return (parts[0][1] if len(parts) == 1 else ()), shown

    def before(self, own: str, keys: Sequence[str]) -> tuple[Turn, ...]:
        """The turns that the answer under the first key with a value continues."""
        return next((turns for _, turns, _ in self._parts(own, keys)), ())

    def _parts(self, own: str, keys: Sequence[str]) -> list[tuple[str, tuple[Turn, ...], str]]:
        """Key, turns and text of each part of A+B, else of the first key that has a value."""
        if "+" in own and own not in self.row:
            found = [key for key in own.split("+") if self.row.get(key) is not None]
        else:
            keys = (own,) if own else keys
            found = [key for key in keys if self.row.get(key) is not None][:1]
        return [(key, *self._read(key)) for key in found]

    def _read(self, key: str) -> tuple[tuple[Turn, ...], str]:
        try:
            found = read_value(self.row[key])
        except ValueError as error:
            raise self._fault(key, f"is no conversation: {error}") from error
        if found is None:
            kind = type(self.row[key]).__name__
            raise self._fault(key, f"must be a string, strings or chat messages, not {kind}")
        return found

    def _fault(self, key: str, what: str) -> UserError:
        return UserError(f'{self.origin}: "{key}" {what} (from {self.flag})')


def _join(texts: Iterable[str]) -> str:
    return "\n\n".join(text for text in texts if text.strip())


def _to_record(
    row: Mapping[str, Any],
    number: int,
    path: str | Path,
    task: TaskSpec,
    fields: FieldNames,
    flag: str,
    seen: Collection[str],
) -> Record:
    identity = _identity(row, number, path, task, fields, seen)
    origin = f"{path}, record {number} (id {identity})"
    reader = _RowReader(row, origin, flag)
    turns, prompt = reader.prompt(fields.prompt, task.prompt_keys)
    candidates = [key for key, _ in task.candidate_keys]
    before = reader.before(fields.response, (*task.response_keys, *candidates))
    if not turns and (is_conversation(before) or not prompt):
        turns, prompt = before, conversation_text(before)
    if turns and not any(turn.role == "user" for turn in turns):
        raise UserError(f"{origin}: its messages have none of the user (from {flag})")
    response = reader.answer(fields.response, task.response_keys)
    return Record(
        id=identity,
        prompt=prompt,
        response=response,
        reference=reader.answer(fields.reference, task.reference_keys),
        human_feedback=reader.answer(fields.human_feedback, task.human_feedback_keys),
        test=reader.answer(fields.test, task.test_keys).removeprefix("\ufeff"),
        feedback=read_feedback(row, task, response),
        fields=row,
        origin=origin,
        turns=turns if is_conversation(turns) else (),
    )


def _identity(
    row: Mapping[str, Any],
    number: int,
    path: str | Path,
    task: TaskSpec,
    fields: FieldNames,
    seen: Collection[str],
) -> str:
    keys = (fields.id,) if fields.id else task.id_keys
    key = next((key for key in keys if row.get(key) is not None), None)
    identity = f"{Path(path).stem}-{number}" if key is None else str(row[key])
    if key in (None, "id", fields.id) or identity not in seen:
        return identity
    later = (f"{identity}-{count}" for count in itertools.count(2))
    return next(name for name in later if name not in seen)


def _missing(part: Part, task: TaskSpec, fields: FieldNames | None, row: Mapping[str, Any]) -> str:
    if part == "feedback":
        return f'no annotation: expected the key "{task.critique_keys[0]}"'
    own = getattr(fields, part, "")
    keys = (own,) if own else getattr(task, f"{part}_keys")
    text = f"the {part} is missing or empty: expected one of the keys {', '.join(keys)}"
    raw = [key for key, _ in task.candidate_keys if key in row]
    if part == "response" and raw and not own:
        return f"{text}; prepare_data.py makes records of {', '.join(raw)}"
    if own or any(key in row for key in keys):
        return text
    how = f"; name yours by --fields.{part}" if fields else ""
    return f"{text}, found {', '.join(row)}{how}"
