"""A page on which a person marks responses, and its import as annotated records."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.annotators.human import ERRORS_KEY, HumanAnnotator
from text2grad.files import sha256_text, write_rows, write_text
from text2grad.human_alignment import WRITTEN_KEY
from text2grad.records import annotated_row, read_records, with_native_keys
from text2grad.report_data import read_object
from text2grad.report_page import render_page
from text2grad.schema import Feedback, Record, Span, UserError
from text2grad.shapes import NUMBER, TEXT, TRUTH, check_shape
from text2grad.tasks import TaskSpec, get_task

if TYPE_CHECKING:
    from text2grad.config import SheetConfig, SheetImportConfig

FORMAT = "text2grad annotation sheet 1"
_SAVED = {"format": TEXT, "task": TEXT, "sheet": TEXT}
_ENTRY = {"id": TEXT, "sha256": TEXT, "done": TRUTH, "critique": TEXT}
_MARK = {"text": TEXT, "label": TEXT, "start": NUMBER, "end": NUMBER}
_ADVICE = "import the file that the sheet saved, as it is"
_TAKEN = "ubnd"  # keys of the page that are no label's


def write_sheet(args: SheetConfig) -> None:
    """Write the page: responses in random order, so that those done are a sample at any time.

    Raises:
        UserError: the records cannot be read, or the page cannot be written.
    """
    task = get_task(args.task)
    records = read_records(args.data_path, task, ("prompt", "response"), args.fields)
    count = min(args.max_samples or len(records), len(records))
    records = random.Random(args.seed).sample(records, count)
    payload = sheet_payload(records, task, args.show_reference)
    source = Path(args.data_path).name
    page = render_page(
        "sheet.html.j2",
        payload | {"name": Path(args.output_path).stem},
        scripts=("page.js", "sheet.js"),
        styles=("report.css", "sheet.css"),
        title=f"Responses to mark: {source}",
        facts=[("task", task.name), ("responses", len(records)), ("seed", args.seed)],
        sections=[],
        labels=payload["labels"],
        show_reference=args.show_reference,
        count=len(records),
    )
    write_text(args.output_path, page)
    print(
        f"{len(records)} responses to mark: {args.output_path}; open it in a browser, save the "
        "marks, and read them by paper/import_sheet.py"
    )


def sheet_payload(
    records: Sequence[Record], task: TaskSpec, show_reference: bool = False
) -> dict[str, Any]:
    """What the page's script reads."""
    hashes = [record_hash(record) for record in records]
    return {
        "format": FORMAT,
        "task": task.name,
        "sheet": sha256_text(task.name, *hashes),
        "labels": sheet_labels(task),
        "records": [
            {"id": record.id, "sha256": own, "prompt": record.prompt, "response": record.response}
            | ({"reference": record.reference} if show_reference else {})
            for record, own in zip(records, hashes, strict=True)
        ],
    }


def sheet_labels(task: TaskSpec) -> list[dict[str, str]]:
    """Name, title, key and colour of each label; the key is a letter of its name, else a number."""
    found: list[dict[str, str]] = []
    for number, label in enumerate(task.labels, 1):
        taken = {*_TAKEN, *(one["key"] for one in found)}
        letters = (char for char in label.name.lower() if char.isascii() and char.isalpha())
        key = next((char for char in letters if char not in taken), str(number))
        side = "plus" if label.score > 0 else "minus" if label.score < 0 else ""
        title = label.name.replace("_", " ")
        found.append({"name": label.name, "title": title, "key": key, "side": side})
    return found


def record_hash(record: Record) -> str:
    """Hash of what a person sees of a record, by which its marks find it again."""
    return sha256_text(record.id, record.prompt, record.response)


def import_sheet(args: SheetImportConfig) -> None:
    """Write the responses that are done as annotated records of the annotator `human`.

    Offsets are characters of the response, as the person marked them. Where no critique was
    written one is composed of the marks, and the annotation says so.

    Raises:
        UserError: the file was not saved from a sheet of these records, or nothing in it is done.
    """
    task = get_task(args.task)
    source = f"--marks_path {args.marks_path}"
    saved = _read_saved(args.marks_path, source, task)
    entries = saved["records"]
    read = read_records(args.data_path, task, ("prompt", "response"), args.fields)
    records = {record.id: record for record in read}
    annotator = HumanAnnotator(task, good="none", fields=args.fields)
    rows = []
    for number, entry in enumerate(entries, 1):
        where = f"{source}, record {number}"
        check_shape(entry, _ENTRY, where, _ADVICE)
        record = records.get(entry["id"])
        if record is None or record_hash(record) != entry["sha256"]:
            raise UserError(
                f"{where} (id {entry['id']}): --data_path {args.data_path} has no such response; "
                "give the file that the sheet was made of"
            )
        if entry["done"]:
            spans = read_marks(entry.get("spans"), record, task, where)
            feedback = _feedback(entry["critique"], spans, record, annotator)
            about = {"annotator": "human", "sheet": saved["sheet"][:16]}
            about[WRITTEN_KEY] = bool(entry["critique"].strip())
            record = with_native_keys(record, task, args.fields)
            row = annotated_row(record, feedback, spans, task, about)
            row.pop(ERRORS_KEY, None)  # marks of somebody else
            rows.append(row)
    if not rows:
        raise UserError(f"{source}: none of its {len(entries)} responses is done")
    write_rows(args.output_path, rows)
    marks = sum(len(row["spans"]) for row in rows)
    print(f"{len(rows)} of {len(entries)} responses, {marks} spans: {args.output_path}")


def read_marks(value: Any, record: Record, task: TaskSpec, where: str) -> tuple[Span, ...]:
    """The spans of one response.

    Raises:
        UserError: one is malformed, or does not hold the text that it says.
    """
    if not isinstance(value, list):
        raise UserError(f'{where}: the key "spans" must be a list; {_ADVICE}')
    labels = {label.name for label in task.labels}
    spans = []
    for mark in value:
        check_shape(mark, _MARK, where, _ADVICE)
        start, end, text = mark["start"], mark["end"], mark["text"]
        whole = type(start) is int and type(end) is int and 0 <= start < end
        if not whole or record.response[start:end] != text or mark["label"] not in labels:
            raise UserError(
                f"{where} (id {record.id}): a span from {start} to {end}, labelled "
                f'"{mark["label"]}", is not in the response as it was saved; {_ADVICE}'
            )
        spans.append(Span(text, mark["label"], start, end, "exact"))
    return tuple(sorted(spans, key=lambda span: (span.start, span.end)))


def _read_saved(path: str, source: str, task: TaskSpec) -> dict[str, Any]:
    """What the page saved, with a list of records.

    Raises:
        UserError: it is missing, something else, or of another task.
    """
    if not Path(path).exists():
        raise UserError(f"{source}: no such file; the page saves it")
    saved = read_object(path, "--marks_path")
    if saved.get("format") != FORMAT:
        raise UserError(f"{source}: was not saved from an annotation sheet; {_ADVICE}")
    check_shape(saved, _SAVED, source, _ADVICE)
    if saved["task"] != task.name:
        raise UserError(f"{source}: of task {saved['task']}; pass --task {saved['task']}")
    if not isinstance(saved.get("records"), list):
        raise UserError(f'{source}: the key "records" must be a list; {_ADVICE}')
    return saved


def _feedback(
    critique: str, spans: tuple[Span, ...], record: Record, annotator: HumanAnnotator
) -> Feedback:
    marked = [(span, span.label) for span in spans]
    return Feedback(critique.strip() or annotator.compose_critique(marked, record), spans)
