"""Figures of annotations against what people marked and wrote, with intervals. No file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import numpy as np

from text2grad.agreement import (
    SpanCounts,
    Unit,
    bootstrap_interval,
    class_scores,
    classes_of,
    cohen_kappa,
    label_table,
    macro_f1,
    match_spans,
    one_against_rest,
    precision_recall,
    sign_accuracy,
)
from text2grad.consensus import Answer
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.tables import cell_text, interval_text, markdown_table
from text2grad.tasks import TaskSpec

_UNIT_KINDS = ("precision", "recall", "f1")
_UNIT_TITLES = {"precision": "precision", "recall": "recall", "f1": "F1", "kappa": "kappa"}
_SPAN_TITLES = {
    "span_precision": "span precision",
    "span_recall": "span recall",
    "span_f1": "span F1",
    "span_iou": "span IoU",
}
_OVERALL_TITLES = {
    "macro_f1": "macro-F1",
    "kappa": "kappa, all labels",
    "alike": "labelled alike",
    "sign_accuracy": "sign accuracy",
}
_CRITIQUE_TITLES = {
    "rougeL": "critiques ROUGE-L",
    "rougeL_of_others": "with another response's",
    "lead": "lead",
}

Figure = dict[str, Any]
"""{"value", "interval"}: 95 %, bootstrap over responses; None where nothing defines it"""


@dataclass(frozen=True)
class Marked:
    """A response that people marked.

    Attributes:
        record: prompt and response.
        units: what labels are compared on.
        spans: what they marked.
        critique: what they wrote, "" for nothing.
    """

    record: Record
    units: Sequence[Unit]
    spans: tuple[Span, ...]
    critique: str


def alignment_report(
    people: Sequence[Marked], answers: Mapping[str, Sequence[Answer]], task: TaskSpec, seed: int
) -> dict[str, Any]:
    """Agreement of every system with people, beside systems that give every unit one label.

    A label that people never gave is left out: they may not have been asked for it. An unreadable
    answer labels nothing right, marks no span and says nothing.

    Args:
        people: what they marked.
        answers: of each system, one per response, spans located.
        task: gives the labels.
        seed: of the bootstrap over responses.

    Returns:
        "responses", "labels", "left_out" (labels), "systems" {name: {"unreadable" {reason: count},
        "labels" {label: figures}, "overall" figures, "critique" figures}}. The figures of a label:
        precision, recall and F1 over units, kappa, precision, recall and F1 of spans of which half
        the union is shared, and the mean IoU of people's spans.

    Raises:
        UserError: nobody marked anything.
    """
    labels = labels_given(people, task, "--human_file")
    systems = {}
    for name in labels:
        constant = [
            Feedback("", (Span(one.record.response, name, 0, len(one.record.response)),))
            for one in people
        ]
        systems[f"every word {name}"] = _system(people, constant, labels, task, seed)
        systems[f"every word {name}"]["critique"] = None
    measured = {name: _system(people, said, labels, task, seed) for name, said in answers.items()}
    return {
        "task": task.name,
        "responses": len(people),
        "labels": labels,
        "left_out": [label.name for label in task.labels if label.name not in labels],
        "systems": measured | systems,
    }


def labels_given(people: Sequence[Marked], task: TaskSpec, source: str) -> list[str]:
    """The labels that people gave at all, in the order of the task.

    Raises:
        UserError: they gave none; `source` is the flag that named the file.
    """
    given = {span.label for one in people for span in one.spans}
    labels = [label.name for label in task.labels if label.name in given]
    if not labels:
        raise UserError(f"{source}: nobody marked a span in any of the responses")
    return labels


def alignment_tables(report: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    lines = [
        f"{report['responses']} responses that people marked, {report['unit']} as units; 95 % "
        "intervals by bootstrap over responses.\n"
    ]
    if report["without_human"]:
        lines.append(f"{report['without_human']} more have no marks of people and are left out.\n")
    for label in report["left_out"]:
        lines.append(f"People never marked anything as {label}: it is not compared.\n")
    systems = report["systems"]
    for label in report["labels"]:
        own = {name: found["labels"][label] for name, found in systems.items()}
        lines.append(_table(label, own, _UNIT_TITLES | _SPAN_TITLES))
    unread = {name: str(sum(found["unreadable"].values())) for name, found in systems.items()}
    own = {name: found["overall"] | (found["critique"] or {}) for name, found in systems.items()}
    has_critiques = any(found["critique"] for found in systems.values())
    titles = _OVERALL_TITLES | (_CRITIQUE_TITLES if has_critiques else {})
    lines.append(_table("overall", own, titles, {"unreadable": unread}))
    return "\n".join(lines)


def _table(
    first: str,
    rows: Mapping[str, Mapping[str, Figure]],
    titles: Mapping[str, str],
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    more = more or {}
    body = []
    for name, own in rows.items():
        others = [column[name] for column in more.values()]
        body.append([name, *(_cell(own.get(key)) for key in titles), *others])
    return markdown_table([first, *titles.values(), *more], body)


def _cell(figure: Figure | None) -> str:
    if figure is None or figure["value"] is None:
        return ""
    return f"{cell_text(figure['value'])} {interval_text(figure['interval'])}".strip()


def _system(
    people: Sequence[Marked],
    answers: Sequence[Answer],
    labels: Sequence[str],
    task: TaskSpec,
    seed: int,
) -> dict[str, Any]:
    spans = [_spans(answer, labels) for answer in answers]
    pairs = list(zip(people, spans, strict=True))
    tables = np.array(
        [label_table(one.spans, own, one.record.response, task, one.units) for one, own in pairs]
    )
    found = {}
    for row, name in enumerate(classes_of(task)):
        if name in labels:
            matched = np.array([astuple(match_spans(p.spans, own or (), name)) for p, own in pairs])
            figures = _unit_figures(tables, row, seed)
            found[name] = figures | _span_figures(matched, seed)
    overall = {
        "macro_f1": _figure(tables, macro_f1, seed),
        "kappa": _figure(tables, cohen_kappa, seed),
        "alike": _figure(tables, _share_alike, seed),
        "sign_accuracy": _figure(tables, partial(sign_accuracy, task=task), seed),
    }
    return {
        "unreadable": dict(Counter(a.reason for a in answers if isinstance(a, Unparseable))),
        "labels": found,
        "overall": overall,
        "critique": _critique_figures(people, answers, seed),
    }


def _spans(answer: Answer, labels: Sequence[str]) -> list[Span] | None:
    if isinstance(answer, Unparseable):
        return None
    return [span for span in answer.spans if span.label in labels]


def _unit_figures(tables: np.ndarray, row: int, seed: int) -> dict[str, Figure]:
    figures = {
        kind: _figure(tables, lambda counts, kind=kind: class_scores(counts, row)[kind], seed)
        for kind in _UNIT_KINDS
    }
    kappa = _figure(tables, lambda counts: cohen_kappa(one_against_rest(counts, row)), seed)
    return figures | {"kappa": kappa}


def _span_figures(matched: np.ndarray, seed: int) -> dict[str, Figure]:
    """Args: (N, 5) the fields of `SpanCounts` of each response."""

    def score(counts: np.ndarray, kind: str) -> float | None:
        total = SpanCounts(*counts)
        return precision_recall(total.hits, total.gold, total.predicted)[kind]

    figures = {
        f"span_{kind}": _figure(matched, partial(score, kind=kind), seed) for kind in _UNIT_KINDS
    }
    return figures | {"span_iou": _figure(matched, lambda n: SpanCounts(*n).mean_iou, seed)}


def _critique_figures(
    people: Sequence[Marked], answers: Sequence[Answer], seed: int
) -> dict[str, Figure] | None:
    """ROUGE-L of critiques with those that people wrote, None where they wrote none.

    Critiques of one hand resemble each other whatever they are about, so each is also compared
    with what people wrote about the next response.
    """
    written = [
        (one.critique, answer.critique if isinstance(answer, Feedback) else "")
        for one, answer in zip(people, answers, strict=True)
        if one.critique
    ]
    if not written:
        return None
    from text2grad.text_metrics import Rouge  # seconds to import

    theirs, said = zip(*written, strict=True)
    own = Rouge().compute(predictions=list(said), references=list(theirs))["rougeL"]
    figures = {"rougeL": _figure(own, float, seed)}
    if len(written) > 1:
        moved = [*theirs[1:], theirs[0]]
        others = Rouge().compute(predictions=list(said), references=moved)["rougeL"]
        figures["rougeL_of_others"] = _figure(others, float, seed)
        figures["lead"] = _figure(np.subtract(own, others), float, seed)
    return figures


def _figure(
    entries: Sequence | np.ndarray, statistic: Callable[[np.ndarray], float | None], seed: int
) -> Figure:
    """A statistic of the mean entry, which must not depend on the scale of counts."""
    values = np.asarray(entries, dtype=float)
    value = statistic(values.mean(axis=0))
    interval = bootstrap_interval(values, seed, statistic) if value is not None else None
    return {"value": value, "interval": interval}


def _share_alike(counts: np.ndarray) -> float | None:
    total = counts.sum()
    return float(counts.diagonal().sum() / total) if total else None
