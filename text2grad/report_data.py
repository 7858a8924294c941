"""What a report shows, read from a run folder or from a file of judged responses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from text2grad.alignment import locate_spans
from text2grad.files import Row, read_text
from text2grad.parsing import read_feedback
from text2grad.records import read_records
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.tasks import TASKS, TaskSpec

Entry = dict[str, Any]
PER_TOKEN = {"score": "scores", "reward": "rewards", "kl": "kl", "advantage": "advantages"}


@dataclass(frozen=True)
class ReportData:
    """Everything a report may show; what is empty is left out of the page.

    Attributes:
        title: heading.
        config: a run's `config.json`.
        steps: a run's `metrics.jsonl`, by step.
        entries: judged responses, as `sample_entry` and `record_entry` make them.
        entries_total: how many there were before `spread` picked some.
        evaluation: `summary_quality.summary_report` with a before and an after.
        reward_model: `reward_quality.reward_model_report`.
        quality: figures of the annotation, any nesting.
        figures: (name, value, remark) for the top of a page without steps.
    """

    title: str
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Row] = ()
    entries: Sequence[Entry] = ()
    entries_total: int = 0
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    reward_model: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[tuple[str, str, str]] = ()


def read_run(folder: str | Path, max_samples: int, flag: str = "--run_dir") -> ReportData:
    """Read a policy run's folder; a run that is still going or was killed is read as far as it is.

    Raises:
        UserError: the folder has neither `metrics.jsonl` nor `evaluation.json`.
    """
    folder = Path(folder)
    lines, _ = _read_lines(folder / "metrics.jsonl", flag)
    steps = {row["step"]: row for row in lines if isinstance(row.get("step"), int)}
    evaluation = read_object(folder / "evaluation.json", flag) if folder.exists() else {}
    if not steps and not evaluation:
        raise UserError(f"{flag} {folder}: holds no metrics.jsonl and no evaluation.json")
    config = read_object(folder / "config.json", flag)
    flags = config.get("flags") or {}
    task = TASKS.get(config.get("task") or flags.get("task") or "")
    samples, n_samples = _read_lines(folder / "samples.jsonl", flag, max_samples)
    return ReportData(
        title=f"Text2Grad run {folder.resolve().name}",
        config=config,
        steps=sorted(steps.values(), key=lambda row: row["step"]),
        entries=[sample_entry(row, task) for row in samples],
        entries_total=n_samples,
        evaluation=evaluation,
    )


def read_judged(path: str | Path, task: TaskSpec, max_samples: int) -> ReportData:
    """Read a file of annotated responses, or of those that `2_infer.py` judged.

    Raises:
        UserError: no record has feedback.
    """
    records = read_records(path, task, ("response",))
    judged = [record for record in records if _verdict(record) is not None]
    if not judged:
        key = task.critique_keys[0]
        raise UserError(f'--data_path {path}: no record has feedback (the key "{key}")')
    return ReportData(
        title=f"Judged responses, {Path(path).name}",
        entries=[record_entry(record, task) for record in spread(judged, max_samples)],
        entries_total=len(judged),
        figures=_judged_figures(judged, len(records), task),
    )


def read_object(path: str | Path, flag: str) -> dict[str, Any]:
    """A JSON object, {} if there is no such file."""
    if not Path(path).exists():
        return {}
    try:
        value = json.loads(read_text(path, flag))
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {path}: line {error.lineno} is not JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise UserError(f"{flag} {path}: expected a JSON object")
    return value


def spread(rows: Sequence, count: int) -> list:
    """At most `count` of the rows, evenly over their order; 0 for all.

    Example: 3 of [0 .. 8] -> [1, 4, 7]
    """
    if not count or len(rows) <= count:
        return list(rows)
    return [rows[int((number + 0.5) * len(rows) / count)] for number in range(count)]


def sample_entry(row: Row, task: TaskSpec | None) -> Entry:
    """A line of `samples.jsonl` as the page shows it."""
    values = {}
    for name, key in PER_TOKEN.items():
        if isinstance(row.get(key), list):
            values[name] = [_rounded(value) for value in row[key]]
    scores = [score for score in row.get("scores") or () if score is not None]
    reasons = row.get("unparseable")
    return {
        "step": row.get("step"),
        "id": row.get("id"),
        "prompt": row.get("prompt") or "",
        "tokens": row.get("tokens") or [row.get("response") or ""],
        "values": values,
        "critique": row.get("critique") or "",
        "quotes": _quotes(row.get("spans") or (), task),
        "total": _rounded(sum(scores)) if scores else None,
        "reward": _rounded(row.get("reward_total")),
        "note": f"no usable critique: {reasons}" if reasons else "",
    }


def record_entry(record: Record, task: TaskSpec) -> Entry:
    """A judged record as the page shows it: its response cut where a span starts or ends."""
    entry = {"id": record.id, "prompt": record.prompt}
    entry |= _feedback_entry(record.response, _verdict(record), task)
    gold = record.fields.get("gold")
    if isinstance(gold, Mapping):
        feedback = read_feedback(gold, task)
        if isinstance(feedback, Feedback):
            entry["gold"] = _feedback_entry(record.response, feedback, task)
    return entry


def _feedback_entry(
    response: str, feedback: Feedback | Unparseable | None, task: TaskSpec
) -> Entry:
    if not isinstance(feedback, Feedback):
        note = f"unreadable reply: {feedback.reason}" if feedback else ""
        raw = feedback.raw if feedback else ""
        return {"tokens": [response], "values": {}, "critique": raw, "quotes": [], "note": note}
    spans = locate_spans(feedback.spans, response, task)
    tokens, scores = _segments(response, spans, task)
    quotes = _quotes([span.to_json() for span in spans], task)
    total = sum(quote["sign"] for quote in quotes if quote["match"] != "unmatched")
    return {
        "tokens": tokens,
        "values": {"score": scores},
        "critique": feedback.critique,
        "quotes": quotes,
        "total": total,
        "note": "",
    }


def _segments(
    response: str, spans: Sequence[Span], task: TaskSpec
) -> tuple[list[str], list[float]]:
    """The response cut at span borders, and the score of each piece (the lowest of its spans)."""
    located = [span for span in spans if span.start is not None]
    cuts = sorted({0, len(response), *(s.start for s in located), *(s.end for s in located)})
    tokens, scores = [], []
    for start, end in pairwise(cuts):
        over = [task.label_scores[s.label] for s in located if s.start <= start and end <= s.end]
        tokens.append(response[start:end])
        scores.append(min(over, default=task.unmarked_score))
    return tokens, scores


def _quotes(spans: Sequence[Mapping[str, Any]], task: TaskSpec | None) -> list[Entry]:
    known = task.label_scores if task else {"good": 1.0, "poor": -1.0}
    return [
        {
            "text": span.get("text", ""),
            "label": span.get("label", ""),
            "match": span.get("match", ""),
            "sign": (score > 0) - (score < 0),
        }
        for span in spans
        for score in [known.get(span.get("label", ""), 0.0)]
    ]


def _verdict(record: Record) -> Feedback | Unparseable | None:
    if "unparseable" in record.fields:
        reply = str(record.fields.get("reply") or "")
        return Unparseable(str(record.fields["unparseable"]), reply)
    return record.feedback


def _judged_figures(
    judged: Sequence[Record], n_records: int, task: TaskSpec
) -> list[tuple[str, str, str]]:
    parsed = [record for record in judged if isinstance(_verdict(record), Feedback)]
    spans = [
        span
        for record in parsed
        for span in locate_spans(record.feedback.spans, record.response, task)
    ]
    unmatched = sum(span.start is None for span in spans)
    labels = ", ".join(
        f"{sum(span.label == label.name for span in spans)} {label.name}" for label in task.labels
    )
    silent = n_records - len(judged)
    figures = [
        ("Responses", str(len(judged)), f"{silent} without feedback left out" if silent else ""),
        ("Readable", f"{len(parsed) / len(judged):.1%}", f"{len(judged) - len(parsed)} not"),
        ("Quotes", str(len(spans)), labels),
    ]
    if spans:
        rate = f"{unmatched / len(spans):.1%}"
        figures.append(("Quotes not in the response", rate, f"{unmatched} of {len(spans)}"))
    return figures


def _read_lines(path: Path, flag: str, count: int = 0) -> tuple[list[Row], int]:
    """Objects of a JSON Lines file that may be missing, or torn at its end.

    Returns:
        `count` of them, spread evenly (0 for all), and how many lines there are.
    """
    if not path.exists():
        return [], 0
    lines = [line for line in enumerate(read_text(path, flag).split("\n"), 1) if line[1].strip()]
    rows = []
    for number, line in spread(lines, count):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{flag} {path}: line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise UserError(f"{flag} {path}: line {number} is no JSON object")
        rows.append(row)
    return rows, len(lines)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
