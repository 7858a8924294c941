"""Synthetic annotators: critiques from the known worth of phrases, exact, dense or with errors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

from text2grad.schema import Feedback, Record, Span
from text2grad.span_noise import Noise, disturb_spans
from text2grad.testbed.language import find_phrases

Marks = Literal["phrases", "everything"]
OPPOSITE = {"good": "poor", "poor": "good"}


class SyntheticAnnotator:
    """Critiques as a reward model would hand them over: quotes whose place is still to be found.

    The same response to the same prompt gets the same critique, errors included, whoever asks and
    how often: methods that are compared on one seed are told the same.

    Args:
        marks: "phrases" quotes good and poor phrases; "everything" labels every word, and gives
            those that decide nothing the label of the whole response.
        noise: errors in the critiques, None for exact ones.
        seed: of the errors.
    """

    def __init__(self, marks: Marks = "phrases", noise: Noise | None = None, seed: int = 0) -> None:
        self.marks, self.noise, self.seed = marks, noise, seed

    def annotate(self, records: Sequence[Record]) -> list[Feedback]:
        """One critique per record, in order."""
        return [Feedback(*self._critique(record)) for record in records]

    def facts(self) -> dict[str, Any]:
        """What the run's record says of the critic."""
        noise = self.noise.name if self.noise else "none"
        return {"reward_model": f"synthetic, marks {self.marks}, noise {noise}"}

    def _critique(self, record: Record) -> tuple[str, tuple[Span, ...]]:
        spans = self._spans(record.response)
        if self.noise:
            spans = self._disturb(record, spans, self.noise)
        good = sum(span.label == "good" for span in spans)
        critique = f"{good} good and {len(spans) - good} poor phrases."
        if self.marks == "everything":
            return critique, tuple(spans)  # word by word, so that places are known
        return critique, tuple(Span(span.text, span.label) for span in spans)

    def _spans(self, response: str) -> list[Span]:
        if self.marks == "everything":
            return dense_spans(response)
        return exact_spans(response)

    def _disturb(self, record: Record, spans: list[Span], noise: Noise) -> list[Span]:
        draw = noise.draw(self.seed, record.id, record.response)
        if noise.kind != "irrelevant":
            return disturb_spans(spans, record.response, noise, draw, OPPOSITE)
        if draw.random() >= noise.rate:
            return spans
        return irrelevant_spans(record.response, len(spans), draw)


def exact_spans(response: str) -> list[Span]:
    """Every good phrase at its first copy, and every copy of a poor one, with its place."""
    found = find_phrases(response)
    return [Span(p.text, p.worth, p.start, p.end) for p in found if p.worth != "neutral"]


def dense_spans(response: str) -> list[Span]:
    """A label for every word.

    Words outside good and poor phrases say nothing about themselves, and whoever has to label them
    all the same goes by the impression of the whole: good where good phrases outnumber poor ones,
    else poor.
    """
    decided = exact_spans(response)
    labels = [span.label for span in decided]
    whole = "good" if labels.count("good") > labels.count("poor") else "poor"
    borders = [0, *(place for span in decided for place in (span.start, span.end)), len(response)]
    gaps = zip(borders[::2], borders[1::2], strict=True)
    rest = [Span(response[a:b], whole, a, b) for a, b in gaps if response[a:b].strip()]
    return sorted([*decided, *rest], key=lambda span: span.start)


def irrelevant_spans(response: str, count: int, draw: random.Random) -> list[Span]:
    """As many phrases of the response as there would be, any of them, good or poor by chance."""
    found = find_phrases(response)
    chosen = sorted(draw.sample(range(len(found)), count))
    return [
        Span(found[i].text, draw.choice(("good", "poor")), found[i].start, found[i].end)
        for i in chosen
    ]
