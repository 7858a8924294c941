"""Errors put into critiques on purpose, to see what they cost: spans in, spans out."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from text2grad.borders import UNSPACED
from text2grad.schema import Span, UserError

NoiseKind = Literal["flip", "drop", "shift", "replace", "irrelevant"]
NOISE_KINDS: tuple[NoiseKind, ...] = get_args(NoiseKind)
MOST_SHIFTED_WORDS = 3

Place = tuple[int, int]
"""Half-open interval of characters of the response."""

_LETTERS = rf"(?:(?!{UNSPACED.pattern})\w[\u0300-\u036f]*)+"
_WORD = re.compile(rf"{UNSPACED.pattern}|{_LETTERS}(?:['’]{_LETTERS})*")


@dataclass(frozen=True)
class Noise:
    """Errors in critiques.

    Attributes:
        kind: "flip" calls good what is poor and the reverse; "drop" leaves a span out; "shift"
            quotes 1 to 3 words too far to the left or the right; "replace" quotes another place of
            the response, of as many words; an "irrelevant" critique quotes as many phrases as it
            should, chosen and labelled by chance.
        rate: share of the spans, of the critiques for "irrelevant".
    """

    kind: NoiseKind
    rate: float

    @property
    def name(self) -> str:
        """As folders and tables call it."""
        return f"{self.kind}-{self.rate:g}"

    @property
    def flag(self) -> str:
        """As flags spell it."""
        return f"{self.kind}:{self.rate:g}"

    def draw(self, seed: int, record_id: str, response: str) -> random.Random:
        """Decides about the errors in one critique: the same ones whoever asks and how often."""
        return random.Random(f"{seed}-{self.kind}-{record_id}-{response}")


def read_noise(text: str, flag: str) -> Noise | None:
    """The noise that a flag asks for, None for "".

    Raises:
        UserError: no such kind, or no share.

    Example: "flip:0.2" -> Noise("flip", 0.2)
    """
    if not text:
        return None
    kind, _, share = text.partition(":")
    if kind not in NOISE_KINDS:
        raise UserError(f"{flag} {text}: unknown, known are {', '.join(NOISE_KINDS)}, as flip:0.2")
    try:
        rate = float(share)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        raise UserError(
            f"{flag} {text}: after the colon comes a share of more than 0 and at most 1, as "
            f"{kind}:0.2"
        )
    return Noise(kind, rate)


def disturb_spans(
    spans: Sequence[Span],
    response: str,
    noise: Noise,
    draw: random.Random,
    opposite: Mapping[str, str],
    judged: Sequence[Place] = (),
) -> list[Span]:
    """The spans with errors.

    Args:
        spans: with their places.
        response: what they are in.
        noise: each span gets an error with the probability of its rate; of "irrelevant" noise all
            spans do, with that probability, or none.
        draw: decides; every span takes the same number of draws, so that at a higher rate the
            spans that were wrong at a lower one are wrong too.
        opposite: what "flip" makes of each label.
        judged: stretches of the response that may be quoted, none of them left by a span that
            moves; () for all of it.

    Returns:
        Spans of which those with an error have no `match`. One that fills its stretch of the
        response cannot be moved and stays as it is.
    """
    if noise.kind == "irrelevant":
        if draw.random() >= noise.rate:
            return list(spans)
        labels = tuple(opposite)
        return [
            replace(_move(span, response, None, draw.random(), judged), label=draw.choice(labels))
            for span in spans
        ]
    out = []
    for span in spans:
        is_hit, where = draw.random() < noise.rate, draw.random()
        if not is_hit:
            out.append(span)
        elif noise.kind == "flip":
            out.append(replace(span, label=opposite[span.label], match=None))
        elif noise.kind != "drop":
            reach = MOST_SHIFTED_WORDS if noise.kind == "shift" else None
            out.append(_move(span, response, reach, where, judged))
    return out


def word_places(text: str, start: int = 0, end: int | None = None) -> list[Place]:
    """Start and end of each word; of scripts without spaces each character is one.

    Example: "so, it's" -> [(0, 2), (4, 8)]
    """
    return [word.span() for word in _WORD.finditer(text, start, len(text) if end is None else end)]


def _move(
    span: Span, response: str, reach: int | None, where: float, judged: Sequence[Place]
) -> Span:
    """The span at another place, as many words long; `where` in [0, 1) chooses among the places.

    Args:
        span: with its place.
        response: what it is in.
        reach: words that it may move by, None for any number.
        where: chooses.
        judged: see `disturb_spans`.
    """
    held = [block for block in judged if block[0] <= span.start < block[1]]
    words = word_places(response, *(held[0] if held else ()))
    inside = [n for n, (start, end) in enumerate(words) if start < span.end and end > span.start]
    if not inside:
        return span
    own, size = inside[0], len(inside)
    last = len(words) - size
    low, high = (0, last) if reach is None else (max(0, own - reach), min(last, own + reach))
    places = [place for place in range(low, high + 1) if place != own]
    if not places:
        return span
    place = places[int(where * len(places))]
    start, end = words[place][0], words[place + size - 1][1]
    return Span(response[start:end], span.label, start, end)
