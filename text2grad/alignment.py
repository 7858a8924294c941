"""From located phrases to one score per sampled token.

A token is the bytes of its id, never a re-encoding of text: the response *is* those bytes, joined
and decoded once, so tokens tile it by construction whatever the ids are. SentencePiece writes the
space before a word into the piece, so a response may start with a space; it stays, as it was
sampled. `locate_spans` finds phrases in that text (see `text2grad.locate`).
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from text2grad.code_blocks import in_scope
from text2grad.locate import locate_spans
from text2grad.schema import MATCHES, Span
from text2grad.tasks.spec import TaskSpec
from text2grad.token_bytes import TokenBytes, byte_pieces, response_text

__all__ = [
    "NEUTRAL",
    "OUTSIDE",
    "TokenBytes",
    "byte_pieces",
    "label_scores",
    "label_tokens",
    "locate_spans",
    "match_statistics",
    "response_text",
    "score_tokens",
    "token_offsets",
]

NEUTRAL = "neutral"
"""the label of what is judged and in no quote"""
OUTSIDE = ""
"""the label of what is not judged"""


_BROKEN = "\ufffd"


def token_offsets(pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    r"""Interval of `response_text(pieces)` that each token stands for, in characters.

    Each interval starts where the one before ends, or one character earlier where the two tokens
    split a character between them: then both include it. A token without bytes gets an empty
    interval.

    Example: [b"a", b" \xc3", b"\xa9"] -> [(0, 1), (1, 3), (2, 3)], the text being "a é"
    """
    return _offsets(pieces, _decode(b"".join(pieces))[1])


def score_tokens(pieces: Sequence[bytes], spans: Sequence[Span], task: TaskSpec) -> list[float]:
    """One score per token: that of its label, see `label_tokens`.

    A token that no quote marks scores `task.unmarked_score`, one outside the task's scope (text
    around code, where code is judged) and white space score 0.

    Example: pieces [b"ab", b"cdef", b" "], "abcd" good (1) and "a" poor (-1) -> [-1, 1, 0]
    """
    return label_scores(label_tokens(pieces, spans, task), task)


def label_scores(labels: Sequence[str], task: TaskSpec) -> list[float]:
    """The score of each token's label."""
    scores = {**task.label_scores, NEUTRAL: task.unmarked_score, OUTSIDE: 0.0}
    return [scores[label] for label in labels]


def label_tokens(pieces: Sequence[bytes], spans: Sequence[Span], task: TaskSpec) -> list[str]:
    """The label of each token.

    A token takes a label if at least half of its bytes that are not white space lie in spans of
    that label; the label with the lowest score wins where several do. Tokens that split a
    character between them are judged as one.

    Args:
        pieces: bytes of each token.
        spans: located in `response_text(pieces)`; those without offsets mark nothing.
        task: the labels' scores, and what of the response is judged.

    Returns:
        len(pieces) names: of a label; `NEUTRAL` where no quote is; `OUTSIDE` for white space
        alone, special tokens among it, and for tokens mostly outside the task's scope.
    """
    text, begins = _decode(b"".join(pieces))
    weights = [
        0 if character.isspace() else end - begin
        for character, begin, end in zip(text, begins, begins[1:], strict=False)
    ]
    total = [0, *accumulate(weights)]

    def covered_by(places: Iterable[tuple[int, int]]) -> list[int]:
        covered = [0] * len(text)
        for start, end in places:
            covered[start:end] = weights[start:end]
        return [0, *accumulate(covered)]

    judged = covered_by(in_scope(text, task.scope))
    inside = []
    for label in sorted(task.labels, key=lambda label: label.score):
        own = [span for span in spans if span.label == label.name]
        places = [(s.start, s.end) for s in own if s.start is not None and s.end is not None]
        inside.append((label.name, covered_by(places)))

    def label_of(start: int, end: int) -> str:
        size = total[end] - total[start]
        if 2 * (judged[end] - judged[start]) < size:
            return OUTSIDE
        for name, covered in inside:
            if 2 * (covered[end] - covered[start]) >= size:
                return name
        return NEUTRAL

    offsets = _offsets(pieces, begins)
    labels: list[str] = []
    for start, end, members in _join_split(offsets):
        label = label_of(start, end)
        labels += [label if total[b] > total[a] else OUTSIDE for a, b in offsets[members]]
    return labels


def match_statistics(
    located: Sequence[Sequence[Span]], responses: Sequence[str]
) -> dict[str, float | int | dict[str, int]]:
    """How the quotes of several responses were found.

    Args:
        located: spans of each response, from `locate_spans`.
        responses: the texts they were located in.

    Returns:
        Counts "n_responses", "n_spans", "exact", "normalised", "fuzzy", "unmatched", "ambiguous"
        (matched, with several copies) and "without_spans" (responses); "labels", spans by label;
        the shares "unmatched_rate" and "ambiguous_rate" of the spans; and "coverage", the share
        of the characters, white space aside, that lie in a span. Shares of nothing are 0.
    """
    spans = [span for group in located for span in group]
    matches = Counter(span.match or "unmatched" for span in spans)
    ambiguous = sum(span.copies > 1 for span in spans)
    marked, total = 0, 0
    for group, response in zip(located, responses, strict=True):
        inside = bytearray(len(response))
        for span in group:
            if span.start is not None and span.end is not None:
                inside[span.start : span.end] = b"\1" * (span.end - span.start)
        visible = [flag for flag, char in zip(inside, response, strict=True) if not char.isspace()]
        marked, total = marked + sum(visible), total + len(visible)
    return {
        "n_responses": len(responses),
        "n_spans": len(spans),
        **{kind: matches[kind] for kind in MATCHES},
        "ambiguous": ambiguous,
        "without_spans": sum(not group for group in located),
        "labels": dict(Counter(span.label for span in spans)),
        "unmatched_rate": matches["unmatched"] / len(spans) if spans else 0.0,
        "ambiguous_rate": ambiguous / len(spans) if spans else 0.0,
        "coverage": marked / total if total else 0.0,
    }


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    # A low surrogate cannot come out of UTF-8, so it can carry the number of bytes it replaces.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(0xDC00 + error.end - error.start), error.end


codecs.register_error("text2grad.mark", _mark_broken)


def _decode(data: bytes) -> tuple[str, Sequence[int]]:
    """`data` as text with errors="replace", and the byte at which each character begins.

    The last entry of the bytes is the end of the data.
    """
    if data.isascii():
        return data.decode("ascii"), range(len(data) + 1)
    marked = data.decode("utf-8", errors="text2grad.mark")
    begins, characters = [0], []
    for character in marked:
        code = ord(character)
        broken = 0xDC00 < code < 0xDC80
        width = code - 0xDC00 if broken else len(character.encode())
        characters.append(_BROKEN if broken else character)
        begins.append(begins[-1] + width)
    return "".join(characters), begins


def _offsets(pieces: Sequence[bytes], begins: Sequence[int]) -> list[tuple[int, int]]:
    offsets, start, first = [], 0, 0
    for piece in pieces:
        if not piece:
            offsets.append((first, first))
            continue
        start += len(piece)
        last = bisect_left(begins, start, lo=first)
        offsets.append((first, last))
        first = last if begins[last] == start else last - 1
    return offsets


def _join_split(offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, slice]]:
    """(start, end, tokens) of each run of tokens of which neighbours split a character."""
    first = 0
    while first < len(offsets):
        start, end = offsets[first]
        after = first + 1
        while after < len(offsets) and offsets[after][0] < end:
            end = max(end, offsets[after][1])
            after += 1
        yield start, end, slice(first, after)
        first = after
