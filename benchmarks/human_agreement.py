"""How well the annotator without a model finds the errors that people marked in answers.

    python benchmarks/human_agreement.py --data_path qa_feedback.json

In: rows of question, reference answer, response and `human_errors` (`start`, `end` in characters of
the response), in any JSON shape; the keys are flags. The `reference` annotator judges each response
as the task of `--task` does, and its poor quotes are compared with the marked errors, unit by unit:
white-space separated words, each with one label. Beside it stand annotators that need no thought:
every word poor, none, and every word poor that occurs neither in the reference nor in the question.

Out: a table and, with `--output_path`, the figures as JSON. Intervals: 95 %, from resampling rows.
The annotator's weights and threshold were fitted on even rows (counted from 0) of the QA-Feedback
file of FineGrainedRLHF, but which signals it weighs was settled with a look at the odd ones too:
`--rows odd` is not fitted on, and yet no untouched test.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from text2grad.agreement import bootstrap_interval, class_scores, compare, label_units, word_units
from text2grad.annotators.reference import ReferenceAnnotator
from text2grad.files import write_json
from text2grad.records import read_records
from text2grad.schema import Feedback, FieldNames, Record, Span, UserError
from text2grad.tables import interval_text, text_table
from text2grad.tasks import TaskSpec, get_task

ERRORS_KEY = "human_errors"
ALL_QUOTES = 1000

Predict = Callable[[Record], Sequence[Span] | None]


def main() -> None:
    """Measure, print and write."""
    args = _parser().parse_args()
    task = get_task(args.task)
    names = FieldNames(prompt=args.prompt, response=args.response, reference=args.reference)
    need = ("prompt", "response", "reference")
    records = read_records(args.data_path, task, need, names)
    records = records[{"all": 0, "even": 0, "odd": 1}[args.rows] :: 1 if args.rows == "all" else 2]
    figures = {
        name: measure(records, predict, task, args.seed)
        for name, predict in _annotators(task).items()
    }
    _print(figures, len(records))
    if args.output_path:
        write_json(Path(args.output_path), {"rows": len(records), "annotators": figures})


def measure(
    records: Sequence[Record], predict: Predict, task: TaskSpec, seed: int
) -> dict[str, float | list[float] | None]:
    """Precision, recall and F1 of the poor label over words, with an interval of the F1."""
    classes = (task.worst_label, "neutral")
    counts = []
    for record in records:
        units = word_units(record.response)
        gold, found = (
            _poor(label_units(spans, record.response, task, units), task)
            for spans in (human_spans(record, task), predict(record) or ())
        )
        counts.append(compare(gold, found, classes))
    scores = class_scores(sum(counts), 0)
    span = bootstrap_interval(counts, seed, lambda mean: class_scores(mean, 0)["f1"])
    return {**scores, "f1_interval": list(span) if span else None}


def human_spans(record: Record, task: TaskSpec) -> list[Span]:
    """What people marked as errors."""
    errors = record.fields.get(ERRORS_KEY)
    if not isinstance(errors, list):
        raise UserError(f'{record.origin}: no list "{ERRORS_KEY}" (from --data_path)')
    places = [(error["start"], error["end"]) for error in errors]
    return [Span(record.response[a:b], task.worst_label, a, b) for a, b in places if a < b]


def _poor(labels: Sequence[str], task: TaskSpec) -> list[str]:
    return [label if label == task.worst_label else "neutral" for label in labels]


def _annotators(task: TaskSpec) -> dict[str, Predict]:
    def whole(record: Record) -> list[Span]:
        return [Span(record.response, task.worst_label, 0, len(record.response))]

    def unknown_words(record: Record) -> list[Span]:
        known = set(_words(f"{record.prompt} {record.reference}"))
        return [
            Span(match[0], task.worst_label, *match.span())
            for match in re.finditer(r"\S+", record.response)
            if not known.issuperset(_words(match[0]))
        ]

    def annotated(most: int) -> Predict:
        annotator = ReferenceAnnotator(replace(task, max_quotes=most))

        def predict(record: Record) -> Sequence[Span]:
            (answer,) = annotator.annotate([record])
            return answer.spans if isinstance(answer, Feedback) else ()

        return predict

    return {
        f"reference, {task.max_quotes} quotes": annotated(task.max_quotes),
        "reference, all quotes": annotated(ALL_QUOTES),
        "every word poor": whole,
        "words in neither text poor": unknown_words,
        "nothing poor": lambda record: (),
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _print(figures: dict[str, dict], rows: int) -> None:
    header = ["poor words", "precision", "recall", "F1", "95 % interval"]
    lines = [
        [
            name,
            *(scores[key] for key in ("precision", "recall", "f1")),
            interval_text(scores["f1_interval"]),
        ]
        for name, scores in figures.items()
    ]
    print(text_table(header, lines))
    print(f"{rows} rows")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data_path", required=True, help="rows with human_errors")
    parser.add_argument("--task", default="ultrafeedback", help="task, or a .py file with TASK")
    parser.add_argument("--prompt", default="question", help="key of the question")
    parser.add_argument("--response", default="prediction", help="key of the judged answer")
    parser.add_argument("--reference", default="gold", help="key of the reference answer")
    parser.add_argument("--rows", choices=("all", "even", "odd"), default="all")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--output_path", default="", help="figures as JSON")
    return parser


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
