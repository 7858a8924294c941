"""How doubtful a clause of a response is: a few signals, each a number, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from text2grad.annotators import word_lists as lists
from text2grad.annotators.clauses import Clause
from text2grad.annotators.evidence import Evidence, WordSet, mark_negation
from text2grad.annotators.lexicon import Word, stem

Fault = Literal["number", "reversed", "unsupported", "repeated", "vague"]

# Log-odds that a clause is faulty, fitted by logistic regression on the clauses of the sample's
# training posts and rounded; BASE is moved so that above 0 a clause is worth a poor quote.
BASE = -1.4
WEIGHTS = {
    "wrong_numbers": 2.3,  # a number that neither text has
    "miscounted": 1.5,  # a number that counts something else there
    "unknown": 0.9,  # a word that says something and is in neither text, at most two
    "loose": 0.5,  # an everyday word that is in neither text, at most two
    "apart": 1.5,  # share of the words that never stand together in two sentences
    "reversed": 1.9,  # a word that is denied there and affirmed here; half for the converse
    "said_before": 1.8,  # share of its informative words that the response has used already
    "sentence_before": 2.1,  # the same over all words, in earlier sentences
    "vague": 0.4,  # "some issues", "the situation" and nothing to go with it
    "essential": -0.5,  # share of its informative words that the reference uses too
    "question": -2.2,  # it asks, so it claims nothing
    "opening": -1.1,  # the first clause says what the text is about
}

_VAGUE = frozenset(stem(word) for word in lists.VAGUE.split())
_PEOPLE = frozenset(stem(word) for word in lists.PEOPLE.split())
_YEAR = stem("year")  # ages are written in many ways
_WISHES = frozenset(stem(word) for word in lists.WISHES.split())


@dataclass(frozen=True)
class Signals:
    """What was found about one clause; the names are those of `WEIGHTS`.

    Attributes:
        wrong_numbers, unknown: words of the clause that neither text has.
        miscounted: numbers that stand beside something else there.
        denied: words that are affirmed here and denied wherever the texts have them.
        values: every signal as the number that is weighted.
    """

    wrong_numbers: tuple[Word, ...]
    unknown: tuple[Word, ...]
    miscounted: tuple[Word, ...]
    denied: tuple[Word, ...]
    values: dict[str, float]

    @property
    def doubt(self) -> float:
        """Log-odds that the clause is faulty; above 0 it is worth a poor quote."""
        return BASE + sum(WEIGHTS[name] * value for name, value in self.values.items())

    @property
    def culprits(self) -> tuple[Word, ...]:
        """The words that a quote of the fault must have."""
        return (*self.wrong_numbers, *self.miscounted) or self.unknown

    @property
    def fault(self) -> Fault:
        """The reason to give for it."""
        if self.wrong_numbers or self.miscounted:
            return "number"
        repeats = max(self.values["said_before"], self.values["sentence_before"])
        if repeats > 0.5 and not self.unknown:
            return "repeated"
        if self.denied and len(self.unknown) < 2:
            return "reversed"
        return "vague" if self.values["vague"] else "unsupported"


def measure(clauses: Sequence[Clause], place: int, evidence: Evidence) -> Signals:
    """The signals of clause number `place` of a response."""
    clause = clauses[place]
    said = [word for word in clause.words if word.kind != "function"]
    informative = clause.informative
    absent = [word for word in said if not evidence.all.covers(word)]
    unknown = tuple(w for w in absent if w.is_informative and w.kind != "number")
    numbers = tuple(word for word in absent if word.kind == "number")
    miscounted = _miscounted(clause, numbers, evidence)
    turned = [] if clause.is_question else _reversed(clause, evidence)
    before = WordSet([w for other in clauses[:place] for w in other.words])
    sentences = WordSet(
        [w for other in clauses[:place] if other.sentence != clause.sentence for w in other.words]
    )
    values = {
        "wrong_numbers": len(numbers),
        "miscounted": len(miscounted),
        "unknown": min(2, len(unknown)),
        "loose": min(2, sum(word.kind == "light" for word in absent)),
        "apart": 1 - evidence.share_together(said) if said else 0.0,
        "reversed": min(1.0, sum(weight for _, weight in turned)),
        "said_before": before.count(informative) / max(1, len(informative)),
        "sentence_before": _share_of_two(sentences, said),
        "vague": not clause.is_question and _is_vague(said),
        "essential": evidence.reference.count(informative) / max(1, len(informative)),
        "question": clause.is_question,
        "opening": place == 0,
    }
    denied = tuple(word for word, weight in turned if weight == 1)
    return Signals(numbers, unknown, miscounted, denied, values)


def _miscounted(clause: Clause, wrong: Sequence[Word], evidence: Evidence) -> tuple[Word, ...]:
    found = []
    for number, counted in zip(clause.words, clause.words[1:], strict=False):
        if number.kind != "number" or number in wrong or counted.kind not in ("light", "content"):
            continue
        if counted.stem != _YEAR and evidence.counts_otherwise(number, counted):
            found.append(number)
    return tuple(found)


def _reversed(clause: Clause, evidence: Evidence) -> list[tuple[Word, float]]:
    found = []
    for word, negated in mark_negation(clause):
        there = evidence.always_negated(word.stem)
        if there is not None and there != negated and word.stem not in _WISHES:
            found.append((word, 1.0 if there else 0.5))
    return found


def _share_of_two(known: WordSet, words: Sequence[Word]) -> float:
    count = known.count(words)
    return count / len(words) if count >= 2 else 0.0


def _is_vague(said: Sequence[Word]) -> bool:
    telling = [w for w in said if w.is_informative and w.stem not in _VAGUE | _PEOPLE]
    return len(telling) <= 1 and any(word.stem in _VAGUE for word in said)
