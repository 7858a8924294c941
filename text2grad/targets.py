"""What an annotation becomes as a target of the reward model: only what it may write itself."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Sequence

from text2grad.alignment import locate_spans
from text2grad.borders import quote_borders
from text2grad.grammar import ReplyGrammar
from text2grad.parsing import target_json
from text2grad.schema import Feedback, Span
from text2grad.tasks import TaskSpec

SENTENCE_END = re.compile(r"[.!?]['\")\]”’]*(?=\s|$)|[。！？]")

OVERLAPPING = "quotes that start with or inside another left out"

Place = tuple[int, int]


class TargetTrimmer:
    """Fits feedback into the bounds of the reply grammars.

    People and large models quote more, longer and less exactly than the reply may. Quotes become
    the response's own words, widened to whole words; those that are not in the response go; longer
    ones are cut at a word's end; of each label the longest stay, in the order of the text, without
    those that start inside another one, or where a quote of a later label does. A long critique is
    cut at the end of a sentence.

    Attributes:
        counts: how often each of these was needed, by a few words that say what.
    """

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.counts: Counter[str] = Counter()

    def trim(self, feedback: Feedback, response: str) -> Feedback:
        """The feedback as the reward model may write it about this response."""
        located = locate_spans(feedback.spans, response, self.task)
        starts, ends = quote_borders(response, self.task.quote_border)
        taken: set[int] = set()
        lists: list[list[Span]] = []
        for label in reversed(self.task.labels):
            own = [span for span in located if span.label == label.name]
            places = self._quotes(own, response, starts, ends, taken)
            taken |= {start for start, _ in places}
            lists.append([Span(response[slice(*place)], label.name) for place in places])
        spans = [span for quotes in reversed(lists) for span in quotes]
        return Feedback(self._critique(feedback.critique), self._writable(spans, response))

    def place(self, feedback: Feedback, response: str) -> Feedback:
        """The feedback with the places of its quotes, for a target that scores every word.

        Only the critique has a bound there; quotes that are not in the response go.
        """
        located = locate_spans(feedback.spans, response, self.task)
        found = tuple(span for span in located if span.start is not None)
        self.counts["quotes not in the response left out"] += len(located) - len(found)
        self.counts += Counter()  # drops zeros
        return Feedback(self._critique(feedback.critique), found)

    def summary(self) -> str:
        """The counts as a phrase, "" if nothing was trimmed."""
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))

    def _quotes(
        self,
        spans: Sequence[Span],
        response: str,
        starts: list[int],
        ends: list[int],
        taken: Collection[int],
    ) -> list[Place]:
        places: dict[Place, None] = {}
        for span in spans:
            place = None
            if span.start is not None:
                place = self._fit((span.start, span.end), response, starts, ends)
            if place is None:
                self.counts["quotes not in the response left out"] += 1
            else:
                places[place] = None
        apart = self._apart(sorted(places), taken)
        self.counts[OVERLAPPING] += len(places) - len(apart)
        by_length = sorted(apart, key=lambda place: (place[0] - place[1], place))
        kept = sorted(by_length[: self.task.max_quotes])
        self.counts["quotes over the number left out"] += len(apart) - len(kept)
        self.counts += Counter()  # drops zeros
        return kept

    def _writable(self, spans: Sequence[Span], response: str) -> tuple[Span, ...]:
        """Those that the grammar lets follow each other.

        Of words that occur several times it may take another copy than the one that was meant.
        """
        grammar = ReplyGrammar(self.task, response)
        kept: tuple[Span, ...] = ()
        for span in spans:
            reply = target_json(Feedback("x", (*kept, span)), self.task)
            state = grammar.advance(grammar.initial, reply.encode())
            if state is not None and grammar.closed(state):
                kept += (span,)
            else:
                self.counts[OVERLAPPING] += 1
        return kept

    def _apart(self, places: Sequence[Place], taken: Collection[int]) -> list[Place]:
        """Those of the sorted places that start at none of `taken` and in none before them."""
        apart: list[Place] = []
        for start, end in places:
            if start not in taken and (not apart or start >= apart[-1][1]):
                apart.append((start, end))
        return apart

    def _fit(self, place: Place, response: str, starts: list[int], ends: list[int]) -> Place | None:
        quote = response[slice(*place)]
        start = place[0]
        if starts[bisect_right(starts, start) - 1 :][:1] != [start]:  # in code, indentation stays
            start += len(quote) - len(quote.lstrip())
        end = place[1] - (len(quote) - len(quote.rstrip()))
        before, after = bisect_right(starts, start), bisect_left(ends, end)
        if start >= end or not before or after == len(ends):
            return None
        start, end = starts[before - 1], ends[after]
        if end - start > self.task.max_quote_chars:
            self.counts["quotes shortened"] += 1
            fitting = bisect_right(ends, start + self.task.max_quote_chars)
            end = ends[fitting - 1] if fitting else start
        return (start, end) if end > start else None

    def _critique(self, critique: str) -> str:
        limit = self.task.max_critique_chars
        if len(critique) <= limit:
            return critique
        self.counts["critiques shortened"] += 1
        head = critique[:limit]
        # The rest is looked at too: a full stop at the limit may stand inside a number.
        stops = [stop.end() for stop in SENTENCE_END.finditer(critique, 0, limit + 1)]
        stops = [stop for stop in stops if stop <= limit]
        if stops:
            return head[: stops[-1]]
        at = critique.rfind(" ", 1, limit + 1)
        return (head[:at] if at > 0 else head).rstrip()
