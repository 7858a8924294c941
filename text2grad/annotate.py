"""Stage 1: a critique and verified quotes for every response of a file, resumable."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from text2grad.alignment import locate_spans
from text2grad.annotation_plan import annotation_plan, journal_path, sample_keys
from text2grad.annotators import Annotator, Answer, make_annotator
from text2grad.config import AnnotateConfig
from text2grad.consensus import Agreement, find_consensus
from text2grad.files import Journal, Row, check_writable, side_file, write_json, write_rows
from text2grad.quality import annotation_quality, quality_table, warnings
from text2grad.records import (
    annotated_row,
    read_records,
    sample_in_order,
    with_native_keys,
)
from text2grad.resumable import ask_missing
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.tasks import TaskSpec, get_task


def annotate_file(args: AnnotateConfig) -> None:
    """Annotate `args.data_path` into `args.output_path` and print the quality table.

    Beside the output lie NAME.journal.jsonl (finished answers; a second run asks only for what is
    missing or has changed), NAME.failed.jsonl (records without an answer, with the reason) and
    NAME.qc.json (the figures of the table).

    Raises:
        UserError: unusable input, output folder or annotator, or no record could be annotated.
    """
    task = get_task(args.task)
    if args.density == "dense":
        task = replace(task, max_quotes=sys.maxsize)
    output = Path(args.output_path)
    need = ("prompt", "response")
    records = read_records(args.data_path, task, need, args.fields)
    records = sample_in_order(records, args.max_samples, random.Random(args.seed))
    annotator = make_annotator(args, task)
    if args.dry_run:
        print(annotation_plan(annotator, records, journal_path(output), args))
        return
    check_writable(output.parent, "--output_path")
    answers = collect_answers(annotator, records, output, args)
    located, agreement = settle_answers(answers, records, task, args.samples_per_record)
    provenance = annotator.provenance()
    rows, failed = [], []
    for record, answer in zip(records, located, strict=True):
        if isinstance(answer, Unparseable):
            failed.append({"id": record.id, "reason": answer.reason, "raw": answer.raw})
        else:
            record = with_native_keys(record, task, args.fields)
            rows.append(annotated_row(record, answer, answer.spans, task, provenance))
    failures = side_file(output, ".failed.jsonl")
    _write_failures(failures, failed)
    again = "; --retry_failed true asks again" if annotator.is_costly else ""
    if not rows:
        raise UserError(
            f"--data_path {args.data_path}: none of {len(records)} records could be annotated, the "
            f"first reason: {failed[0]['reason']} (see {failures}{again})"
        )
    write_rows(output, rows)
    quality = annotation_quality(records, located, task) | agreement
    write_json(side_file(output, ".qc.json"), {**quality, "provenance": provenance})
    print(f"{quality_table(quality)}\n{len(rows)} annotated records: {output}")
    if failed:
        print(f"{len(failed)} without an annotation: {failures}{again}")
    for warning in warnings(quality, output, again):
        print(f"WARNING: {warning}", file=sys.stderr)


def collect_answers(
    annotator: Annotator, records: Sequence[Record], output: Path, args: AnnotateConfig
) -> list[Answer]:
    """One answer per record: from the journal where it has one, else from the annotator.

    Records that need the same answer (the same texts twice) are asked for once. With
    `--samples_per_record N` a costly annotator gives N answers per record, one after the other.
    """
    if not annotator.is_costly:
        progress = tqdm(total=len(records), desc=f"annotating ({args.annotator})", unit="record")
        with progress:
            return annotator.annotate(records, lambda place, answer: progress.update())
    records = [record for record in records for _ in range(args.samples_per_record)]
    return ask_missing(
        Journal(journal_path(output)),
        sample_keys(annotator, records),
        lambda places, done: annotator.annotate([records[place] for place in places], done),
        lambda place, answer: _to_row(records[place], answer),
        _from_row,
        args.retry_failed,
        f"annotating ({args.annotator_model if args.annotator == 'openai' else args.annotator})",
        "record",
    )


def settle_answers(
    answers: Sequence[Answer], records: Sequence[Record], task: TaskSpec, samples: int
) -> tuple[list[Answer], Row]:
    """One answer per record, every quote looked up, and how far several samples agreed.

    Args:
        answers: `samples` per record in a row.
        records: what was annotated.
        task: gives the labels.
        samples: asked for per record.

    Returns:
        The answers, and figures for the quality file: none for one sample.
    """
    located = [
        locate_answer(answer, records[place // samples], task)
        for place, answer in enumerate(answers)
    ]
    if samples == 1:
        return located, {}
    settled, total = [], Agreement()
    for place, record in enumerate(records):
        of_record = located[place * samples : (place + 1) * samples]
        answer, agreement = find_consensus(of_record, record.response, task)
        settled.append(answer)
        total += agreement
    return settled, {"samples_per_record": samples, "agreement": total.figures()}


def locate_answer(answer: Answer, record: Record, task: TaskSpec) -> Answer:
    """The answer with every quote looked up in the response."""
    if isinstance(answer, Unparseable):
        return answer
    return replace(answer, spans=locate_spans(answer.spans, record.response, task))


def _write_failures(path: Path, failed: Sequence[Row]) -> None:
    if failed:
        write_rows(path, failed)
    else:
        path.unlink(missing_ok=True)


def _to_row(record: Record, answer: Answer) -> Row:
    if isinstance(answer, Unparseable):
        return {"id": record.id, "reason": answer.reason, "raw": answer.raw}
    return {
        "id": record.id,
        "critique": answer.critique,
        "spans": [[span.text, span.label, span.start, span.end] for span in answer.spans],
        "reasoning": answer.reasoning,
        "repair": answer.repair,
    }


def _from_row(row: Mapping[str, Any]) -> Answer:
    if "reason" in row:
        return Unparseable(row["reason"], row["raw"])
    spans = tuple(Span(*parts) for parts in row["spans"])
    return Feedback(row["critique"], spans, row["reasoning"], row["repair"])
