"""What a reference answer says, ready to be asked about a clause of another answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from text2grad.annotators.answer_text import AnswerText
from text2grad.annotators.clauses import Clause
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import Word, read_words

_KIND_WEIGHTS = {"name": 1.5, "number": 1.5, "content": 1.0, "light": 0.4, "function": 0.0}
_NEIGHBOURS = 3  # clauses before and after one that count as its sentence
_MOST_PLACES = 24  # clauses that one word can point to; a word in more of them tells nothing


@dataclass(frozen=True)
class Support:
    """How far texts bear out some words; shares of their weight.

    Attributes:
        weight: of all the words.
        answer: said by the reference answer, anywhere.
        together: said within two neighbouring clauses of it.
        asked: said by the prompt and not by the answer.
        fresh: said by the answer and not by the prompt.
        words: how many of the words say what the clause is about.
    """

    weight: float
    answer: float
    together: float
    asked: float
    fresh: float
    words: int

    @property
    def novel(self) -> float:
        """Share that neither text has."""
        return 1.0 - self.answer - self.asked


class AnswerEvidence:
    """The reference answer as what is right, the prompt as what may be said besides.

    Rare words weigh more: the inverse frequency of a word over the clauses of both texts, times
    what its kind tells.
    """

    def __init__(self, prompt: str, reference: AnswerText) -> None:
        self.reference = reference
        self.clauses = reference.clauses
        self.prompt = prompt
        asked = read_words(prompt)
        self.asked = WordSet(asked)
        self.answer = WordSet(reference.words)
        self._first: dict[int, int] = {}
        for place, clause in enumerate(self.clauses):
            self._first.setdefault(clause.sentence, place)
        self._places: dict[str, list[int]] = {}
        for place, clause in enumerate(self.clauses):
            for stem in {word.stem for word in clause.words}:
                self._places.setdefault(stem, []).append(place)
        self._counts = Counter(word.stem for word in asked)
        self._counts.update(word.stem for word in reference.words)
        self._total = sum(self._counts.values())

    def weight(self, word: Word) -> float:
        """How much the word tells, from 0 for "the" to 1.5 for a name that occurs once."""
        kind = _KIND_WEIGHTS[word.kind]
        if not kind or self._total == 0:
            return kind
        count = self._counts[self.answer.find(word) or word.stem]
        rarity = math.log((1 + self._total) / (1 + count)) / math.log(1 + self._total)
        return kind * (0.3 + 0.7 * rarity)

    def support(self, words: Sequence[Word]) -> Support:
        """How far the texts bear out `words`."""
        told = [word for word in words if word.kind != "function"]
        weights = [self.weight(word) for word in told]
        total = sum(weights) or 1.0
        here = asked = fresh = 0.0
        for word, weight in zip(told, weights, strict=True):
            was_asked, is_answer = self.asked.covers(word), self.answer.covers(word)
            here += weight * is_answer
            asked += weight * (was_asked and not is_answer)
            fresh += weight * (is_answer and not was_asked)
        votes = self._votes(told)
        pairs = [votes[place] + votes.get(place + 1, 0.0) for place in votes]
        together = min(here, max(pairs, default=0.0))
        informative = sum(word.is_informative for word in told)
        shares = (here / total, together / total, asked / total, fresh / total)
        return Support(sum(weights), *shares, informative)

    @cached_property
    def fresh(self) -> float:
        """Share of the reference that the prompt has not said."""
        return self.support(self.reference.words).fresh

    def sentence_around(self, clause: Clause) -> Clause:
        """The reference's sentence that the clause belongs to, as one clause, not too long."""
        place = self.clauses.index(clause, max(0, self._first[clause.sentence]))
        near = self.clauses[max(0, place - _NEIGHBOURS) : place + _NEIGHBOURS + 1]
        words = [w for other in near if other.sentence == clause.sentence for w in other.words]
        return replace(clause, words=tuple(words))

    def closest(self, words: Sequence[Word]) -> Clause | None:
        """The reference's clause that shares most of what `words` tell, None if none does."""
        votes = self._votes([word for word in words if word.kind != "function"])
        if not votes:
            return None
        best = max(votes, key=lambda place: (votes[place], -place))
        return self.clauses[best]

    def _votes(self, told: Sequence[Word]) -> dict[int, float]:
        votes: dict[int, float] = {}
        for word in told:
            places = self._places.get(self.answer.find(word) or "", ())
            if len(places) <= _MOST_PLACES:
                for place in places:
                    votes[place] = votes.get(place, 0.0) + self.weight(word)
        return votes
