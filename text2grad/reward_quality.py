"""The reward model's feedback against the annotation, beside baselines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from text2grad.agreement import (
    NEUTRAL,
    SpanCounts,
    Unit,
    Units,
    bootstrap_interval,
    class_scores,
    classes_of,
    label_table,
    macro_f1,
    match_spans,
    precision_recall,
    sign_accuracy,
    word_units,
)
from text2grad.alignment import locate_spans
from text2grad.baselines import (
    BagOfWordsBaseline,
    ConstantBaseline,
    CritiqueBaseline,
    spans_of_labels,
)
from text2grad.files import side_file
from text2grad.schema import MATCHES, Feedback, Record, Span, Unparseable, UserError
from text2grad.tasks import TaskSpec

REWARD_MODEL = "reward_model"
SpanTuple = tuple[Span, ...]


def decoding_path(judged: str | Path) -> Path:
    """Where `2_infer.py` says how the replies of its output `judged` were decoded."""
    return side_file(judged, ".decoding.json")


@dataclass(frozen=True)
class Case:
    """One response with its gold spans and the reward model's verdict on it."""

    record: Record
    units: list[Unit]
    gold: SpanTuple
    gold_critique: str
    reply: Feedback | Unparseable
    predicted: SpanTuple | None
    """located spans; None for an unreadable reply"""


def reward_model_report(
    gold_records: Sequence[Record],
    predicted_records: Sequence[Record],
    train_records: Sequence[Record],
    task: TaskSpec,
    units: Units = word_units,
    unit_name: str = "words",
    seed: int = 42,
    apart: str = "",
) -> dict[str, Any]:
    """Everything there is to say about a reward model's feedback.

    Args:
        gold_records: annotated responses; those without readable feedback are counted and left out.
        predicted_records: the same ids with the reward model's feedback; a missing one counts as
            an unreadable reply.
        train_records: for the bag-of-words baseline; none leaves it out.
        task: gives the labels.
        units: what is compared, words or a tokenizer's tokens.
        unit_name: what the units are called.
        seed: of the bootstrap over posts.
        apart: regular expression; the responses in whose ids it is found, and the others, are also
            measured by themselves.

    Raises:
        UserError: no gold record has feedback, or `apart` is no regular expression.
    """
    predictions = {record.id: record.feedback for record in predicted_records}
    usable = [record for record in gold_records if isinstance(record.feedback, Feedback)]
    if not usable:
        raise UserError("no record has gold feedback to measure against")
    cases = [_case(record, predictions.get(record.id), task, units) for record in usable]
    guesses = {REWARD_MODEL: [case.predicted for case in cases]}
    guesses |= _baseline_spans(cases, train_records, task)
    counts = {name: _unit_counts(cases, spans, task) for name, spans in guesses.items()}
    systems = {
        name: {"tokens": _unit_scores(counts[name], task), **_span_scores(cases, spans, task)}
        for name, spans in guesses.items()
    }
    gold_quotes = [span for case in cases for span in case.gold]
    report = {
        "task": task.name,
        "responses": len(cases),
        "without_gold": len(gold_records) - len(usable),
        "gold_quotes": _quote_counts(gold_quotes),
        "parse": _parse_counts(cases),
        "quotes": _quote_counts([span for case in cases for span in case.predicted or ()]),
        "critique": _critique_rouge(cases, train_records),
        "human": _human_agreement(cases, counts[REWARD_MODEL], task),
        "unit": unit_name,
        "systems": systems,
    }
    if apart:
        report |= {"apart": apart, "parts": _parts(cases, counts, task, seed, apart)}
    return report | _intervals(cases, counts, task, seed)


def _parts(
    cases: Sequence[Case], counts: Mapping[str, np.ndarray], task: TaskSpec, seed: int, apart: str
) -> dict[str, Any]:
    """Unit scores and intervals of the cases that `apart` finds, and of the others."""
    try:
        found = [bool(re.search(apart, case.record.id)) for case in cases]
    except re.error as error:
        raise UserError(f"--apart {apart}: no regular expression: {error}") from error
    parts = {}
    for name, wanted in (("apart", True), ("others", False)):
        rows = [row for row, inside in enumerate(found) if inside is wanted]
        if rows:
            own = {system: tables[rows] for system, tables in counts.items()}
            scores = {system: {"tokens": _unit_scores(own[system], task)} for system in own}
            intervals = _intervals([cases[row] for row in rows], own, task, seed)
            parts[name] = {"responses": len(rows), "systems": scores, **intervals}
    return parts


def _case(
    record: Record, reply: Feedback | Unparseable | None, task: TaskSpec, units: Units
) -> Case:
    reply = reply or Unparseable("no prediction")
    response = record.response
    predicted = None
    if isinstance(reply, Feedback):
        predicted = locate_spans(reply.spans, response, task)
    gold = locate_spans(record.feedback.spans, response, task)
    return Case(record, units(response), gold, record.feedback.critique, reply, predicted)


def _baseline_spans(
    cases: Sequence[Case], train_records: Sequence[Record], task: TaskSpec
) -> dict[str, list[SpanTuple]]:
    baselines: dict[str, Any] = {"all_neutral": ConstantBaseline(NEUTRAL)}
    baselines |= {f"all_{label.name}": ConstantBaseline(label.name) for label in task.labels}
    if train_records:
        baselines["bag_of_words"] = BagOfWordsBaseline(task).fit(train_records)
    return {
        name: [
            spans_of_labels(baseline.predict(case.record), case.record.response) for case in cases
        ]
        for name, baseline in baselines.items()
    }


def _unit_counts(
    cases: Sequence[Case], predictions: Sequence[SpanTuple | None], task: TaskSpec
) -> np.ndarray:
    """(N, C, C + 1) counts of `agreement.compare`, one table for each response."""
    tables = [
        label_table(case.gold, spans, case.record.response, task, case.units)
        for case, spans in zip(cases, predictions, strict=True)
    ]
    return np.array(tables)


def _unit_scores(tables: np.ndarray, task: TaskSpec) -> dict[str, Any]:
    counts = tables.sum(axis=0)
    names = enumerate(classes_of(task))
    return {name: class_scores(counts, row) for row, name in names} | {
        "macro_f1": macro_f1(counts),
        "sign_accuracy": sign_accuracy(counts, task),
    }


def _span_scores(
    cases: Sequence[Case], predictions: Sequence[SpanTuple | None], task: TaskSpec
) -> dict[str, Any]:
    half, exact = {}, {}
    for label in task.labels:
        total = SpanCounts()
        for case, spans in zip(cases, predictions, strict=True):
            total += match_spans(case.gold, spans or (), label.name)
        half[label.name] = precision_recall(total.hits, total.gold, total.predicted)
        half[label.name]["mean_iou"] = total.mean_iou
        exact[label.name] = precision_recall(total.exact, total.gold, total.predicted)
    return {"spans": half, "spans_exact": exact}


def _human_agreement(cases: Sequence[Case], tables: np.ndarray, task: TaskSpec) -> dict[str, Any]:
    """Sign accuracy on the responses that a person marked, None where there are none."""
    by_person = np.array([_annotator(case.record) == "human" for case in cases])
    return {
        "responses": int(by_person.sum()),
        "sign_accuracy": sign_accuracy(tables[by_person].sum(axis=0), task),
    }


def _annotator(record: Record) -> str:
    """Who gave a record its gold: in the output of `2_infer.py` that moved under "gold"."""
    row = record.fields.get("gold", record.fields)
    provenance = row.get("annotation") if isinstance(row, Mapping) else None
    return provenance.get("annotator", "") if isinstance(provenance, Mapping) else ""


def _critique_rouge(
    cases: Sequence[Case], train_records: Sequence[Record]
) -> dict[str, dict[str, float | None]]:
    """Mean ROUGE F against gold of the critiques, and of baselines that read nothing.

    An unreadable reply is an empty critique.
    """
    cases = [case for case in cases if case.gold_critique.strip()]
    said = {
        REWARD_MODEL: [
            case.reply.critique if isinstance(case.reply, Feedback) else "" for case in cases
        ]
    }
    if train_records:
        for name, similar in (("most_typical", False), ("most_similar", True)):
            baseline = CritiqueBaseline(train_records, similar)
            said[name] = [baseline.predict(case.record) for case in cases]
    from text2grad.text_metrics import ROUGE_TYPES, Rouge  # seconds to import

    if not cases:
        return {name: dict.fromkeys(ROUGE_TYPES) for name in said}
    references = [case.gold_critique for case in cases]
    found = {}
    for name, critiques in said.items():
        scores = Rouge().compute(predictions=critiques, references=references)
        found[name] = {kind: float(np.mean(scores[kind])) for kind in ROUGE_TYPES}
    return found


def _parse_counts(cases: Sequence[Case]) -> dict[str, Any]:
    reasons = Counter(c.reply.reason for c in cases if isinstance(c.reply, Unparseable))
    repairs = Counter(c.reply.repair for c in cases if isinstance(c.reply, Feedback))
    return {
        "rate": sum(repairs.values()) / len(cases),
        "unparseable": dict(reasons.most_common()),
        "repairs": dict(repairs.most_common()),
    }


def _quote_counts(spans: Sequence[Span]) -> dict[str, Any]:
    kinds = Counter(span.match or "unmatched" for span in spans)
    return {
        "quotes": len(spans),
        **{name: kinds[name] for name in MATCHES},
        "unmatched_rate": kinds["unmatched"] / len(spans) if spans else None,
    }


def _intervals(
    cases: Sequence[Case], counts: Mapping[str, np.ndarray], task: TaskSpec, seed: int
) -> dict[str, Any]:
    """Bootstrap over posts: macro-F1 of each system, and by how much the reward model leads."""
    posts = {case.record.prompt: None for case in cases}
    number = {post: i for i, post in enumerate(posts)}
    member = np.zeros((len(posts), len(cases)))
    for column, case in enumerate(cases):
        member[number[case.record.prompt], column] = 1
    by_post = {name: np.tensordot(member, tables, 1) for name, tables in counts.items()}
    own = by_post[REWARD_MODEL]

    def sign_lead(pair: np.ndarray) -> float | None:
        signs = [sign_accuracy(tables, task) for tables in pair]
        return None if None in signs else signs[0] - signs[1]

    leads = {}
    for name, other in by_post.items():
        if name != REWARD_MODEL:
            pairs = np.stack([own, other], axis=1)
            leads[name] = {
                "macro_f1": _lead(pairs.sum(axis=0)),
                "interval": bootstrap_interval(pairs, seed, _lead),
                "sign_accuracy": sign_lead(pairs.sum(axis=0)),
                "sign_accuracy_interval": bootstrap_interval(pairs, seed, sign_lead),
            }
    return {
        "posts": len(posts),
        "macro_f1_interval": {
            name: bootstrap_interval(tables, seed, macro_f1) for name, tables in by_post.items()
        },
        "lead": leads,
    }


def _lead(pair: np.ndarray) -> float:
    return (macro_f1(pair[0]) or 0.0) - (macro_f1(pair[1]) or 0.0)
