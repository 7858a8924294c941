"""Figures that say whether annotations are fit for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from text2grad.alignment import match_statistics
from text2grad.files import side_file
from text2grad.schema import MATCHES, Feedback, Record, Unparseable
from text2grad.tables import text_table
from text2grad.tasks import TaskSpec

MAX_UNMATCHED = 0.05
MIN_PARSED = 0.9


def annotation_quality(
    records: Sequence[Record], answers: Sequence[Feedback | Unparseable], task: TaskSpec
) -> dict[str, Any]:
    """Figures of a set of annotations.

    Args:
        records: what was annotated.
        answers: one per record, spans located.
        task: gives the labels.

    Returns:
        "records", "parsed", "parse_rate", "failed" {reason: count}, "repairs" {rung: count}, what
        `match_statistics` counts, "spans" {label: count}, "label_balance" {label: share},
        "quotes_over_limit", "critique_words" and "critique_characters" (means).
    """
    parsed = [(r, a) for r, a in zip(records, answers, strict=True) if isinstance(a, Feedback)]
    feedback = [answer for _, answer in parsed]
    statistics = match_statistics([a.spans for a in feedback], [r.response for r, _ in parsed])
    labels = statistics.pop("labels")
    counts = {label.name: labels.get(label.name, 0) for label in task.labels}
    total = max(1, sum(counts.values()))
    per_answer = [Counter(span.label for span in answer.spans) for answer in feedback]
    over = sum(max(0, n - task.max_quotes) for labels in per_answer for n in labels.values())
    return {
        "records": len(records),
        "parsed": len(parsed),
        "parse_rate": len(parsed) / max(1, len(records)),
        "failed": dict(Counter(a.reason for a in answers if isinstance(a, Unparseable))),
        "repairs": dict(Counter(answer.repair for answer in feedback)),
        **statistics,
        "spans": counts,
        "label_balance": {name: count / total for name, count in counts.items()},
        "quotes_over_limit": over,
        "critique_words": mean([len(a.critique.split()) for a in feedback] or [0]),
        "critique_characters": mean([len(a.critique) for a in feedback] or [0]),
    }


def quality_table(quality: dict[str, Any]) -> str:
    """The figures as a table for the terminal, with those of several samples where there are."""
    rows: list[tuple[str, Any]] = [
        ("records", quality["records"]),
        ("parsed", f"{quality['parsed']} ({quality['parse_rate']:.1%})"),
    ]
    rows += [(f"  failed: {reason}", n) for reason, n in quality["failed"].items()]
    rows += [(f"  repaired: {rung}", n) for rung, n in quality["repairs"].items() if rung != "none"]
    rows += [("quotes", quality["n_spans"])]
    rows += [(f"  {kind}", quality[kind]) for kind in MATCHES]
    rows += [
        ("unmatched rate", f"{quality['unmatched_rate']:.1%}"),
        ("ambiguous", f"{quality['ambiguous']} ({quality['ambiguous_rate']:.1%})"),
        ("coverage of the responses", f"{quality['coverage']:.1%}"),
        ("responses without a quote", quality["without_spans"]),
    ]
    shares = quality["label_balance"]
    rows += [
        (f"{name} quotes", f"{n} ({shares[name]:.0%})") for name, n in quality["spans"].items()
    ]
    if agreement := quality.get("agreement"):
        rows += [(f"samples, {name.replace('_', ' ')}", n) for name, n in agreement.items()]
    rows.append(("critique, mean words", f"{quality['critique_words']:.0f}"))
    return text_table(("annotation", ""), rows)


def warnings(quality: dict[str, Any], output: Path, again: str) -> list[str]:
    """What a user should look at before training on these annotations.

    Args:
        quality: see `annotation_quality`.
        output: the annotated records.
        again: how to ask once more for those without an annotation, "" where it would not help.
    """
    found = []
    if quality["unmatched_rate"] > MAX_UNMATCHED:
        found.append(
            f"{quality['unmatched_rate']:.1%} of the quotes are not in their response (more than "
            f'{MAX_UNMATCHED:.0%}); look at "match": "unmatched" in {output}, then lower '
            "--temperature, take a stronger --annotator_model, or say it clearer by --prompt_file"
        )
    if quality["parse_rate"] < MIN_PARSED:
        found.append(
            f"only {quality['parse_rate']:.1%} of the records have an annotation; the reasons are "
            f"in {side_file(output, '.failed.jsonl')}{again}"
        )
    if quality["n_spans"] and min(quality["label_balance"].values()) < MAX_UNMATCHED:
        rare = min(quality["label_balance"], key=quality["label_balance"].get)
        found.append(
            f'hardly any quote is "{rare}"; a reward model trained on this will not give that label'
        )
    return found
