"""Quotes of an answer: cut at the borders the task allows, bounded in length, faults joined."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace

from text2grad.annotators import word_lists
from text2grad.annotators.answer_signals import Verdict
from text2grad.annotators.answer_text import AnswerText
from text2grad.annotators.clauses import Clause
from text2grad.borders import quote_borders
from text2grad.schema import Span
from text2grad.tasks import TaskSpec

Place = tuple[int, int]
"""A half-open interval of characters of the response."""

_LOOSE = {*word_lists.LOOSE_START.split(), "such", "as", "which", "who", "however"}


class Quotes:
    """Cuts quotes out of one response as its task allows."""

    def __init__(self, answer: AnswerText, task: TaskSpec) -> None:
        self._answer = answer
        self._task = task
        self._starts, self._ends = quote_borders(answer.text, task.quote_border)

    def fit(self, start: int, end: int) -> Place:
        """The interval moved to the next borders, and no longer than a quote may be."""
        start, end = self._with_brackets(start, end)
        first = self._starts[max(0, bisect_right(self._starts, start) - 1)]
        last = self._ends[min(len(self._ends) - 1, bisect_left(self._ends, end))]
        if last - first > self._task.max_quote_chars:
            place = bisect_right(self._ends, first + self._task.max_quote_chars) - 1
            last = self._ends[place] if self._ends[place] > first else last
        return first, last

    def of_clause(self, clause: Clause) -> Place:
        """Where the clause is quoted."""
        return self.fit(clause.words[0].start, clause.words[-1].end)

    def of_everything(self) -> Place | None:
        """The beginning of the response, None if there is nothing to see in it."""
        return self.fit(self._starts[0], self._ends[-1]) if self._starts else None

    def shown(self, place: Place) -> str:
        """A quote as the critique shows it, without marks of layout."""
        start, end = place
        plain = " ".join(self._answer.plain[start:end].split())
        return plain or self._answer.text[start:end]

    def span(self, place: Place, label: str) -> Span:
        """The quote itself, verbatim."""
        return Span(self._answer.text[slice(*place)], label, *place)

    def _with_brackets(self, start: int, end: int) -> Place:
        """The interval with the quotation mark or bracket that belongs to one inside it."""
        text = self._answer.text
        inside, before, after = (
            text[start:end],
            text[max(0, start - 1) : start],
            text[end : end + 1],
        )
        if inside.count('"') % 2 or inside.count("“") != inside.count("”"):
            if before in {'"', "“"}:
                start -= 1
            elif after in {'"', "”"}:
                end += 1
        if inside.count("(") > inside.count(")") and after == ")":
            end += 1
        return start, end


def overlaps(place: Place, others: Sequence[Place]) -> bool:
    """Whether the interval shares a character with one of the others."""
    return any(place[0] < end and start < place[1] for start, end in others)


def phrase_of(clause: Clause) -> str:
    """A clause of the reference as the critique names it, without "and" or "such as" before it."""
    words = clause.words
    while len(words) > 2 and words[0].text.lower() in _LOOSE:
        words = words[1:]
    start, end = words[0].start, words[-1].end
    phrase = " ".join(clause.text[start:end].split())
    closes = phrase.count("(") > phrase.count(")") and clause.text[end : end + 1] == ")"
    return f"{phrase})" if closes else phrase


def join_faults(verdicts: Sequence[Verdict], most_chars: int) -> list[Verdict]:
    """The faulty verdicts; neighbours with the same fault become one.

    Neighbours are clauses of one sentence; empty phrases and refusals also join over its end, and
    one quote of such a sentence is enough.
    """
    joined: list[Verdict] = []
    previous: Verdict | None = None
    quoted: set[int] = set()
    for verdict in verdicts:
        clause = verdict.clause
        if verdict.doubt <= 0:
            previous = None
            continue
        near = previous is not None and previous.fault == verdict.fault
        near = near and (previous.clause.sentence == clause.sentence or not verdict.is_content)
        if near and clause.words[-1].end - joined[-1].clause.words[0].start <= most_chars:
            whole = replace(clause, words=joined[-1].clause.words + clause.words)
            doubt = max(joined[-1].doubt, verdict.doubt)
            joined[-1] = replace(joined[-1], clause=whole, doubt=doubt)
        elif verdict.is_content or clause.sentence not in quoted:
            joined.append(verdict)
        quoted.add(clause.sentence)
        previous = verdict
    return joined
