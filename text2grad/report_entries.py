"""Judged responses as the report's page shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from text2grad.alignment import locate_spans
from text2grad.alignment_health import LocatedQuotes, Places, read_span, token_places
from text2grad.code_blocks import in_scope
from text2grad.files import Row
from text2grad.parsing import read_feedback
from text2grad.schema import Feedback, Record, Span, Unparseable
from text2grad.tasks import TaskSpec

Entry = dict[str, Any]
PER_TOKEN = {
    "score": "scores",
    "reward": "rewards",
    "kl": "kl",
    "advantage": "advantages",
    "logp": "logp",
}


def sample_entry(row: Row, task: TaskSpec | None) -> Entry:
    """A line of `samples.jsonl` as the page shows it."""
    values = {}
    for name, key in PER_TOKEN.items():
        if isinstance(row.get(key), list):
            values[name] = [rounded(value) for value in row[key]]
    scores = [score for score in row.get("scores") or () if score is not None]
    reasons = row.get("unparseable")
    response = row.get("response") or ""
    tokens = row.get("tokens") or [response]
    spans = [read_span(span, response) for span in row.get("spans") or ()]
    return {
        "step": row.get("step"),
        "id": row.get("id"),
        "prompt": row.get("prompt") or "",
        "tokens": tokens,
        "values": values,
        "critique": row.get("critique") or "",
        "quotes": _quotes(spans, task, token_places(tokens, response) or []),
        "total": rounded(sum(scores)) if scores else None,
        "reward": rounded(row.get("reward_total")),
        "note": f"no usable critique: {reasons}" if reasons else "",
    }


def sample_quotes(row: Row) -> LocatedQuotes:
    """The quotes of a line of `samples.jsonl`."""
    response = row.get("response") or ""
    spans = [read_span(span, response) for span in row.get("spans") or ()]
    reason = str(row.get("unparseable") or "")
    return LocatedQuotes(response, spans, row.get("tokens") or (), reason)


def record_entry(record: Record, task: TaskSpec) -> Entry:
    """A judged record as the page shows it.

    Its response is cut where a span starts or ends; where the file holds tokens and their scores,
    as `text2grad.align` writes them, it is cut into those.
    """
    entry = {"id": record.id, "prompt": record.prompt}
    tokens, scores = record.fields.get("tokens"), record.fields.get("token_scores")
    whole = bool(tokens and scores) and "".join(tokens) == record.response
    pieces = (tokens, scores) if whole and len(tokens) == len(scores) else None
    entry |= _feedback_entry(record.response, verdict(record), task, pieces)
    gold = record.fields.get("gold")
    if isinstance(gold, Mapping):
        feedback = read_feedback(gold, task)
        if isinstance(feedback, Feedback):
            entry["gold"] = _feedback_entry(record.response, feedback, task)
    return entry


def record_quotes(record: Record, task: TaskSpec) -> LocatedQuotes:
    """The located quotes of a judged record."""
    feedback = verdict(record)
    if not isinstance(feedback, Feedback):
        return LocatedQuotes(record.response, unreadable=feedback.reason if feedback else "none")
    spans = locate_spans(feedback.spans, record.response, task)
    return LocatedQuotes(record.response, spans, record.fields.get("tokens") or ())


def verdict(record: Record) -> Feedback | Unparseable | None:
    """What was said of a record, or why that could not be read; None if nothing was."""
    if "unparseable" in record.fields:
        reply = str(record.fields.get("reply") or "")
        return Unparseable(str(record.fields["unparseable"]), reply)
    return record.feedback


def rounded(value: Any) -> Any:
    """A float with four decimals, without them where it is whole; anything else as it is."""
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else round(value, 4)


def _feedback_entry(
    response: str,
    feedback: Feedback | Unparseable | None,
    task: TaskSpec,
    pieces: tuple[list[str], list[float]] | None = None,
) -> Entry:
    if not isinstance(feedback, Feedback):
        note = f"unreadable reply: {feedback.reason}" if feedback else ""
        raw = feedback.raw if feedback else ""
        return {"tokens": [response], "values": {}, "critique": raw, "quotes": [], "note": note}
    spans = locate_spans(feedback.spans, response, task)
    tokens, scores = pieces or _segments(response, spans, task)
    quotes = _quotes(spans, task, token_places(tokens, response) or [])
    return {
        "tokens": tokens,
        "values": {"score": [rounded(score) for score in scores]},
        "critique": feedback.critique,
        "quotes": quotes,
        "total": sum(quote["sign"] for quote in quotes if quote["match"] != "unmatched"),
        "note": "",
    }


def _segments(
    response: str, spans: Sequence[Span], task: TaskSpec
) -> tuple[list[str], list[float]]:
    """The response cut where spans or code begin and end, and each piece's score (the lowest)."""
    located = [span for span in spans if span.start is not None]
    judged = in_scope(response, task.scope)
    places = [*judged, *((span.start, span.end) for span in located)]
    cuts = sorted({0, len(response), *(edge for place in places for edge in place)})
    tokens, scores = [], []
    for start, end in pairwise(cuts):
        over = [task.label_scores[s.label] for s in located if s.start <= start and end <= s.end]
        tokens.append(response[start:end])
        inside = any(a <= start and end <= b for a, b in judged)
        scores.append(min(over, default=task.unmarked_score) if inside else 0.0)
    return tokens, scores


def _quotes(spans: Sequence[Span], task: TaskSpec | None, places: Places) -> list[Entry]:
    known = task.label_scores if task else {"good": 1.0, "poor": -1.0}
    quotes = []
    for span in spans:
        score = known.get(span.label, 0.0)
        quote = {"text": span.text, "label": span.label, "match": span.match or ""}
        quote["sign"] = (score > 0) - (score < 0)
        if span.copies > 1:
            quote["copies"] = span.copies
        if span.start is not None and span.end is not None:
            over = [i for i, (a, b) in enumerate(places) if a < span.end and b > span.start]
            if over:
                quote["tokens"] = [over[0], over[-1] + 1]
        quotes.append(quote)
    return quotes
