"""A text as clauses: the pieces that a critique quotes."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from text2grad.annotators import word_lists as lists
from text2grad.annotators.lexicon import Word, read_words, split_sentences

MAX_QUOTE_WORDS = 12  # a clause up to this length is quoted whole

_BREAK = re.compile(r"[,;:—–、，；：،؛]|\s-\s")
_OPENERS = frozenset(lists.OPENERS.split())
_LOOSE_START = frozenset(lists.LOOSE_START.split())
_LOOSE_END = frozenset(lists.LOOSE_END.split())
_PREPOSITIONS = frozenset(lists.PREPOSITIONS.split())


@dataclass(frozen=True)
class Clause:
    """A stretch of a text.

    Attributes:
        text: the whole text it belongs to.
        words: its words, at least one.
        sentence: number of its sentence in the text.
        is_question: whether that sentence ends with a question mark.
    """

    text: str
    words: tuple[Word, ...]
    sentence: int
    is_question: bool

    @property
    def informative(self) -> list[Word]:
        """The words that say what it is about."""
        return [word for word in self.words if word.is_informative]

    @property
    def is_negative(self) -> bool:
        """Whether an odd number of its words negate."""
        return sum(word.is_negative for word in self.words) % 2 == 1


def split_clauses(text: str) -> list[Clause]:
    """The clauses of a text, in order; they cover all of its words."""
    words = read_words(text)
    starts = [word.start for word in words]
    clauses = []
    for number, (start, end) in enumerate(split_sentences(text)):
        inside = words[bisect_left(starts, start) : bisect_left(starts, end)]
        is_question = text[start:end].rstrip("\"'”’)").endswith("?")
        pieces = _split(text, inside) if len(inside) > 8 else [inside]
        clauses += [Clause(text, tuple(p), number, is_question) for p in pieces if p]
    return clauses


def cut_phrase(clause: Clause, around: Sequence[Word] = ()) -> tuple[int, int]:
    """Characters of the clause that are worth quoting.

    Args:
        clause: where to quote from.
        around: words the quote is about; then a phrase with them is cut out of a long clause.

    Returns:
        Half-open interval of at most `MAX_QUOTE_WORDS` words, from word border to word border.
    """
    words = list(clause.words)
    around = [word for word in words if word in around]
    if len(words) > MAX_QUOTE_WORDS:
        words = _phrase(words, around) if around else _fuller_end(words)
    while len(words) > 2 and words[0].text.lower() in _LOOSE_START:
        words = words[1:]
    while len(words) > 2 and words[-1].text.lower() in _LOOSE_END:
        words = words[:-1]
    start, end = words[0].start, words[-1].end
    if clause.text[start:end].count("(") > clause.text[start:end].count(")"):
        end += clause.text[end : end + 1] == ")"
    return start, end


def _split(text: str, words: list[Word]) -> list[list[Word]]:
    pieces: list[list[Word]] = [[]]
    for place, word in enumerate(words):
        piece = pieces[-1]
        gap = text[piece[-1].end : word.start] if piece else ""
        lower = word.text.lower()
        lists = "," in gap and word.kind != "function" and not lower.endswith(("ing", "ed"))
        opens = (bool(_BREAK.search(gap)) and not lists) or lower in _OPENERS
        if opens and _can_stand(piece) and _can_stand(words[place:]):
            pieces.append([])
        pieces[-1].append(word)
    return pieces


def _can_stand(words: list[Word]) -> bool:
    return len(words) >= 3 and any(word.kind != "function" for word in words)


def _phrase(words: list[Word], around: list[Word]) -> list[Word]:
    first, last = words.index(around[0]), words.index(around[-1])
    start = first
    while start > 0 and words[start - 1].kind == "function" and first - start < 3:
        start -= 1
        if words[start].text.lower() in _PREPOSITIONS:
            break
    leads = words[start].text.lower() in _PREPOSITIONS
    if start > 0 and not leads and words[start - 1].kind != "function":
        start -= 1
    while last - start < 2 and start > 0:
        start -= 1
    return words[start : last + 1]


def _fuller_end(words: list[Word]) -> list[Word]:
    """The first words of a long clause, or its last where those say clearly more."""
    first, last = words[:MAX_QUOTE_WORDS], words[-MAX_QUOTE_WORDS:]
    gain = sum(word.is_informative for word in last) - sum(word.is_informative for word in first)
    return last if gain > 1 else first
