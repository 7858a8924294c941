"""How the quotes of a set of judged responses found their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from text2grad.alignment import match_statistics
from text2grad.schema import MATCHES, Span

_BROKEN = "\ufffd"

Places = list[tuple[int, int]]


@dataclass(frozen=True)
class LocatedQuotes:
    """One response with the quotes about it.

    Attributes:
        response: its text.
        spans: the quotes, located in it.
        tokens: the sampled tokens as text, () where only the text is known.
        unreadable: why there are no quotes, "" where the critique could be read.
    """

    response: str
    spans: Sequence[Span] = ()
    tokens: Sequence[str] = field(default=())
    unreadable: str = ""


def alignment_health(judged: Sequence[LocatedQuotes]) -> dict[str, Any]:
    """Figures of how quotes became scores.

    Returns:
        What `match_statistics` counts over the readable ones, with "labels" as {label: {kind:
        count, "ambiguous": count}}; "n_unreadable" and "unreadable" {reason: count}; and
        "tokens", "cut" and "cut_kept": tokens whose places are known, those that the edge of a
        quote cuts, and those of them that took its score because at least half lies inside.
        Without tokens these three are 0.
    """
    read = [one for one in judged if not one.unreadable]
    labels: dict[str, Counter] = {}
    n_tokens, n_cut, n_kept = 0, 0, 0
    for one in read:
        for span in one.spans:
            counts = labels.setdefault(span.label, Counter())
            counts[span.match or "unmatched"] += 1
            counts["ambiguous"] += span.copies > 1
        places = token_places(one.tokens, one.response) or []
        cut, kept = cut_tokens(one.response, places, one.spans)
        n_tokens, n_cut, n_kept = n_tokens + len(places), n_cut + cut, n_kept + kept
    reasons = Counter(one.unreadable for one in judged if one.unreadable)
    statistics = match_statistics([one.spans for one in read], [one.response for one in read])
    return statistics | {
        "labels": {
            label: {kind: counts[kind] for kind in (*MATCHES, "ambiguous")}
            for label, counts in labels.items()
        },
        "n_unreadable": reasons.total(),
        "unreadable": dict(reasons),
        "tokens": n_tokens,
        "cut": n_cut,
        "cut_kept": n_kept,
    }


def token_places(tokens: Sequence[str], response: str) -> Places | None:
    r"""Characters of the response that each token stands for.

    A token that holds a part of a character was written with U+FFFD in its place; it shares the
    interval with its neighbours that hold the rest.

    Returns:
        One half-open interval per token; None where the tokens are not those of the response.

    Example: ["a", " \ufffd", "\ufffd", "!"] in "a é!" -> [(0, 1), (1, 3), (2, 3), (3, 4)]
    """
    places: Places = []
    at = number = 0
    while number < len(tokens):
        token = tokens[number]
        if _BROKEN not in token or response.startswith(token, at):
            if not response.startswith(token, at):
                return None
            places.append((at, at + len(token)))
            at, number = at + len(token), number + 1
            continue
        last = number
        while last + 1 < len(tokens) and tokens[last + 1].startswith(_BROKEN):
            last += 1
        start = at + token.index(_BROKEN)
        following = tokens[last + 1].partition(_BROKEN)[0] if last + 1 < len(tokens) else ""
        tail = tokens[last].rpartition(_BROKEN)[2] if last > number else ""
        end = response.find(tail + following, start + 1) if following else len(response)
        if end < 0:
            return None
        end += len(tail) if following else 0
        places += [(at, end), *[(start, end)] * (last - number)]
        at, number = end, last + 1
    return places if at == len(response) else None


def cut_tokens(response: str, places: Places, spans: Sequence[Span]) -> tuple[int, int]:
    """Tokens that the edge of a quote cuts, and how many of them took the quote's score.

    Counted in bytes that are not white space, as `alignment.score_tokens` does.

    Example: "cats", one token, quoted "cat" -> (1, 1); quoted "c" -> (1, 0)
    """
    weights = [0 if char.isspace() else len(char.encode("utf-8", "replace")) for char in response]
    cut = kept = 0
    for label in {span.label for span in spans}:
        inside = [0] * len(response)
        for span in spans:
            if span.label == label and span.start is not None and span.end is not None:
                inside[span.start : span.end] = weights[span.start : span.end]
        for start, end in places:
            covered, size = sum(inside[start:end]), sum(weights[start:end])
            if 0 < covered < size:
                cut += 1
                kept += 2 * covered >= size
    return cut, kept


def read_span(row: Mapping[str, Any], response: str) -> Span:
    """A span as `Span.to_json` wrote it; without a place in the response it is unmatched."""
    text, label = str(row.get("text", "")), str(row.get("label", ""))
    start, end = row.get("start"), row.get("end")
    inside = isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(response)
    if not inside:
        return Span(text, label, match="unmatched")
    return Span(text, label, start, end, row.get("match"), row.get("copies", 1))
