"""Annotations by annotators, reward models or other people against the spans that people marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from text2grad.agreement import Units, word_units
from text2grad.alignment import locate_spans
from text2grad.annotators import Answer
from text2grad.annotators.human import ERRORS_KEY, HumanAnnotator
from text2grad.files import check_writable, sha256_file, side_file, write_json, write_text
from text2grad.human_figures import Marked, alignment_report, alignment_tables, labels_given
from text2grad.metrics import read_units
from text2grad.records import predicted_feedback, read_records
from text2grad.schema import Feedback, FieldNames, Record, Unparseable, UserError
from text2grad.tasks import TaskSpec, get_task

if TYPE_CHECKING:
    from text2grad.config import HumanAlignmentConfig

WRITTEN_KEY = "critique_written"
"""in an annotation: whether a person wrote its critique, or it was composed of marks"""
LACKING = "not in the file"


def align_with_people(args: HumanAlignmentConfig) -> None:
    """Measure every file of `args.compare_files` against `args.human_file`, print and write it.

    Raises:
        UserError: a file cannot be read, is about other responses, or nobody marked anything.
    """
    task = get_task(args.task)
    units = read_units(args.tokenizer) if args.tokenizer else word_units
    people, without = read_people(args.human_file, task, units, args.fields)
    names = system_names(args.compare_files)
    answers = {
        name: read_answers(path, people, task, args)
        for name, path in zip(names, args.compare_files, strict=True)
    }
    if args.only_shared:
        people, answers = _shared(people, answers)
    check_writable(Path(args.output_file).parent, "--output_file")
    report = {
        "human_file": args.human_file,
        "sha256": sha256_file(args.human_file),
        "unit": "tokens" if args.tokenizer else "words",
        "without_human": without,
        "files": dict(zip(names, args.compare_files, strict=True)),
        **alignment_report(people, answers, task, args.seed),
    }
    text = alignment_tables(report)
    beside = side_file(args.output_file, ".md")
    write_json(args.output_file, report, "--output_file")
    write_text(beside, text, "--output_file")
    print(text)
    print(f"all figures: {args.output_file}; tables: {beside}")


def read_people(
    path: str,
    task: TaskSpec,
    units: Units,
    fields: FieldNames | None = None,
    flag: str = "--human_file",
) -> tuple[list[Marked], int]:
    """The responses that people marked, and how many others the file has.

    Args:
        path: annotated records, or records with `human_errors`.
        task: gives keys and labels.
        units: what labels are compared on.
        fields: the user's own key names.
        flag: the flag that named the file, for messages.

    Raises:
        UserError: it cannot be read, no record has spans, or one does not lie in its response.
    """
    records = read_records(path, task, ("response",), fields, flag)
    try:
        said = HumanAnnotator(task, good="none", fields=fields).annotate(records)
    except UserError as error:
        raise UserError(f"{error} (from {flag})") from error
    people = [
        Marked(
            record,
            units(record.response),
            locate_spans(feedback.spans, record.response, task),
            _written_critique(record),
        )
        for record, feedback in zip(records, said, strict=True)
        if isinstance(feedback, Feedback)
    ]
    return people, len(records) - len(people)


def check_people(path: str, task: TaskSpec, flag: str) -> None:
    """That others can be measured against a file of what people marked.

    Raises:
        UserError: see `read_people`; or nobody marked anything.
    """
    people, _ = read_people(path, task, word_units, flag=flag)
    labels_given(people, task, f"{flag} {path}")


def read_answers(
    path: str, people: Sequence[Marked], task: TaskSpec, args: HumanAlignmentConfig
) -> list[Answer]:
    """What a file says of each response, its spans located; `LACKING` where it has none.

    Raises:
        UserError: it has none of the responses, or another text for one of them.
    """
    names = FieldNames(response=args.fields.response, id=args.fields.id)
    found = read_records(path, task, (), names, "--compare_files")
    rows = {row.id: row for row in found}
    answers: list[Answer] = []
    for one in people:
        row, response = rows.get(one.record.id), one.record.response
        if row is None:
            answers.append(Unparseable(LACKING))
            continue
        if row.response and row.response != response:
            raise UserError(
                f"{row.origin}: another response than that of --human_file {args.human_file} "
                "(from --compare_files)"
            )
        said = predicted_feedback(row, task, response)
        if isinstance(said, Feedback):
            said = replace(said, spans=locate_spans(said.spans, response, task))
        answers.append(said)
    if all(_is_lacking(answer) for answer in answers):
        raise UserError(f"--compare_files {path}: has none of the ids of --human_file")
    return answers


def system_names(paths: Sequence[str]) -> list[str]:
    """A short name for each file: its stem, with its folder where two have the same.

    Raises:
        UserError: two are still the same.
    """
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{Path(path).resolve().parent.name}/{Path(path).stem}" for path in paths]
    for name in stems:
        if stems.count(name) > 1:
            raise UserError(f"--compare_files: two files are called {name}; rename one")
    return stems


def _written_critique(record: Record) -> str:
    """What a person wrote about a response; a critique that was composed of marks is none."""
    provenance = record.fields.get("annotation")
    composed = isinstance(provenance, Mapping) and provenance.get(WRITTEN_KEY) is False
    if composed:
        return ""
    if ERRORS_KEY in record.fields or not isinstance(record.feedback, Feedback):
        return record.human_feedback
    return record.feedback.critique


def _shared(
    people: Sequence[Marked], answers: Mapping[str, Sequence[Answer]]
) -> tuple[list[Marked], dict[str, list[Answer]]]:
    """The responses that no file lacks.

    Raises:
        UserError: there is none.
    """
    kept = [
        place
        for place in range(len(people))
        if not any(_is_lacking(own[place]) for own in answers.values())
    ]
    if not kept:
        raise UserError("--only_shared true: no response is in all files")
    chosen = {name: [own[place] for place in kept] for name, own in answers.items()}
    return [people[place] for place in kept], chosen


def _is_lacking(answer: Answer) -> bool:
    return isinstance(answer, Unparseable) and answer.reason == LACKING
