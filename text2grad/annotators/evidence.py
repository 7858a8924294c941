"""What a text says, ready to be asked whether it supports another text's words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

from text2grad.annotators.clauses import Clause, split_clauses
from text2grad.annotators.lexicon import Word

_NEGATION_REACH = 4  # words after "not" that it turns round
_NUMBER_REACH = 7  # words around a number that may say what is counted
_LONGEST_STEM = 40  # of which other forms are looked for


class WordSet:
    """Words of one place of a text, looked up in any form."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.stems = {word.stem: None for word in words}
        self._by_prefix: dict[str, str] = {}
        for known in self.stems:
            for prefix in _telling_prefixes(known):
                self._by_prefix.setdefault(prefix, known)

    def covers(self, word: Word) -> bool:
        """Whether the word is here in some form; numbers must agree exactly."""
        return self.find(word) is not None

    def find(self, word: Word) -> str | None:
        """The stem under which the word is here in some form, None if it is not here.

        Two stems are one word in two forms if they begin with the same letters: at least four, and
        65 % of the longer one.
        """
        if word.stem in self.stems:
            return word.stem
        if word.kind == "number":
            return None
        found = (self._by_prefix.get(prefix) for prefix in _telling_prefixes(word.stem))
        return next((known for known in found if known is not None), None)

    def count(self, words: Sequence[Word]) -> int:
        """How many of `words` are here."""
        return sum(self.covers(word) for word in words)


class Evidence:
    """A source text and a reference: what a response may say.

    Attributes:
        all: every word of both.
        reference: the words of the reference; of the source where there is no reference.
    """

    def __init__(self, source: str, reference: str) -> None:
        texts = [split_clauses(text) for text in (source, reference) if text.strip()]
        self._texts = [[word for clause in text for word in clause.words] for text in texts]
        self.all = WordSet([word for words in self._texts for word in words])
        self.reference = WordSet(self._texts[-1] if self._texts else [])
        self._places = [WordSet(words) for text in texts for words in _places(text)]
        self._figures = [
            (WordSet(words), [word.text for word in words if word.kind == "number"])
            for text in texts
            for words in _sentences(text)
        ]
        self._negated: dict[str, set[bool]] = {}
        for text in texts:
            for clause in text:
                for word, negated in mark_negation(clause):
                    self._negated.setdefault(word.stem, set()).add(negated)

    def share_together(self, words: Sequence[Word]) -> float:
        """Largest share of `words` found within two neighbouring sentences."""
        most = max((place.count(words) for place in self._places), default=0)
        return most / max(1, len(words))

    def figures_near(self, words: Sequence[Word]) -> list[str]:
        """The numbers of the sentences that share most of `words`, as they are written."""
        best = max(self._figures, key=lambda pair: pair[0].count(words), default=None)
        return best[1] if best and best[0].count(words) else []

    def always_negated(self, stem: str) -> bool | None:
        """Whether the word is negated wherever it occurs; None if it is not, or in places only."""
        seen = self._negated.get(stem, set())
        return next(iter(seen)) if len(seen) == 1 else None

    def counts_otherwise(self, number: Word, counted: Word) -> bool:
        """Whether the number is there, each time with another thing after it and not this near."""
        others = False
        for words in self._texts:
            for place, word in enumerate(words):
                if word.kind == "number" and word.stem == number.stem:
                    near = words[max(0, place - _NUMBER_REACH) : place + _NUMBER_REACH + 1]
                    after = words[place + 1 : place + 2]
                    names_nothing = not after or after[0].kind == "function"
                    if names_nothing or WordSet(near).covers(counted):
                        return False
                    others = True
        return others


def mark_negation(clause: Clause) -> list[tuple[Word, bool]]:
    """Words of a clause that say something, each with whether a negation stands close before it."""
    marks = []
    for place, word in enumerate(clause.words):
        if word.kind != "function":
            before = clause.words[max(0, place - _NEGATION_REACH) : place]
            marks.append((word, any(other.is_negative for other in before)))
    return marks


def _places(clauses: Sequence[Clause]) -> list[list[Word]]:
    ordered = _sentences(clauses)
    return [here + after for here, after in zip_longest(ordered, ordered[1:], fillvalue=[])]


def _sentences(clauses: Sequence[Clause]) -> list[list[Word]]:
    sentences: dict[int, list[Word]] = {}
    for clause in clauses:
        sentences.setdefault(clause.sentence, []).extend(clause.words)
    return list(sentences.values())


def _telling_prefixes(stem: str) -> list[str]:
    if len(stem) > _LONGEST_STEM:
        return []
    shortest = max(4, math.ceil(0.65 * len(stem)))
    return [stem[:end] for end in range(len(stem), shortest - 1, -1)]
