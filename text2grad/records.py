"""Rows of a file as `Record`s of a task, and back."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from text2grad.files import read_rows
from text2grad.parsing import read_feedback
from text2grad.schema import Feedback, FieldNames, Record, Span, UserError
from text2grad.tasks import TaskSpec

Item = TypeVar("Item")

Part = Literal["prompt", "response", "reference", "human_feedback", "feedback"]


def read_records(
    path: str | Path,
    task: TaskSpec,
    need: Sequence[Part] = ("prompt",),
    fields: FieldNames | None = None,
    flag: str = "--data_path",
) -> list[Record]:
    """Read a file of any accepted shape.

    Args:
        path: JSON or JSON Lines.
        task: gives the accepted spellings of the keys.
        need: parts that every record must have, non-empty.
        fields: the user's own key names; they go before the task's. None if the script has no
            flag for them.
        flag: the flag that named the file, for messages.

    Raises:
        UserError: naming file, record and key: a needed part is missing, empty or no string; two
            records have the same id.
    """
    return rows_to_records(read_rows(path, flag), path, task, need, fields, flag)


def rows_to_records(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    task: TaskSpec,
    need: Sequence[Part] = ("prompt",),
    fields: FieldNames | None = None,
    flag: str = "--data_path",
) -> list[Record]:
    """Rows as records; `path` says where they come from, the rest is as in `read_records`."""
    own = fields or FieldNames()
    records, seen = [], {}
    for number, row in enumerate(rows, 1):
        record = _to_record(row, number, path, task, own, flag)
        for part in need:
            if not getattr(record, part):
                reason = _missing(part, task, fields, row)
                raise UserError(f"{record.origin}: {reason} (from {flag})")
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


def sample_in_order(items: Sequence[Item], most: int, chance: random.Random) -> list[Item]:
    """`most` of the items chosen by chance, in their order; all of them for 0."""
    if not 0 < most < len(items):
        return list(items)
    return [items[place] for place in sorted(chance.sample(range(len(items)), most))]


def tests_of(record: Record, task: TaskSpec) -> str:
    """The record's tests, "" where it has none."""
    found = (record.fields.get(key) for key in task.test_keys)
    return next((test for test in found if isinstance(test, str) and test.strip()), "")


def message_text(value: Any) -> str | None:
    """A string, the last assistant turn of chat messages, or passages joined by blank lines.

    None if it is none of these.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        answers = [turn.get("content") for turn in value if turn.get("role") == "assistant"]
        chosen = answers[-1] if answers else value[-1].get("content")
        return chosen if isinstance(chosen, str) else None
    return None


def _to_record(
    row: Mapping[str, Any],
    number: int,
    path: str | Path,
    task: TaskSpec,
    fields: FieldNames,
    flag: str,
) -> Record:
    keys = (fields.id,) if fields.id else task.id_keys
    given = (row[key] for key in keys if row.get(key) is not None)
    identity = next(given, f"{Path(path).stem}-{number}")
    origin = f"{path}, record {number} (id {identity})"

    def text(own: str, keys: Sequence[str]) -> str:
        if "+" in own and own not in row:
            return "\n\n".join(filter(None, (text(key, ()) for key in own.split("+"))))
        for key in (own,) if own else keys:
            if key in row and row[key] is not None:
                value = message_text(row[key])
                if value is None:
                    kind = type(row[key]).__name__
                    raise UserError(
                        f'{origin}: "{key}" must be a string, strings or chat messages, not {kind} '
                        f"(from {flag})"
                    )
                return value if value.strip() else ""
        return ""

    return Record(
        id=str(identity),
        prompt=text(fields.prompt, task.prompt_keys),
        response=text(fields.response, task.response_keys),
        reference=text(fields.reference, task.reference_keys),
        human_feedback=text(fields.human_feedback, task.human_feedback_keys),
        feedback=read_feedback(row, task),
        fields=row,
        origin=origin,
    )


def _missing(part: Part, task: TaskSpec, fields: FieldNames | None, row: Mapping[str, Any]) -> str:
    if part == "feedback":
        return f'no annotation: expected the key "{task.critique_keys[0]}"'
    own = getattr(fields, part, "")
    keys = (own,) if own else getattr(task, f"{part}_keys")
    text = f"the {part} is missing or empty: expected one of the keys {', '.join(keys)}"
    if own or any(key in row for key in keys):
        return text
    how = f"; name yours by --fields.{part}" if fields else ""
    return f"{text}, found {', '.join(row)}{how}"
