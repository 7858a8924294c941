"""Words of a text with their stems, so that two wordings of one fact can be recognised by hand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from text2grad.annotators import word_lists as lists
from text2grad.borders import UNSPACED

Kind = Literal["number", "name", "content", "light", "function"]

# Marks that belong to the letter before them, and whole scripts in which letters carry such marks.
_MARKS = (
    "\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0900-\u0963\u0971-\u0df3\u200c\u200d"
)
_LETTERS = rf"(?:[^\W\d_][{_MARKS}]*)"
_WORD = re.compile(
    rf"\d+(?:[.,:]\d+)*|{UNSPACED.pattern}|(?:(?!{UNSPACED.pattern}){_LETTERS})+"
    rf"(?:['’]{_LETTERS}+)*"
)

_FUNCTION = frozenset(lists.FUNCTION.split())
_NEGATIVE = frozenset(lists.NEGATIVE.split())
_UNITS = lists.UNITS.split()
_TENS = lists.TENS.split()
_NUMBER = (
    {word: value for value, word in enumerate(_UNITS)}
    | {word: 10 * value for value, word in enumerate(_TENS, 2)}
    | {"hundred": 100, "thousand": 1000, "dozen": 12, "twice": 2, "thrice": 3}
)
_IRREGULAR = {
    form: forms.split()[0] for forms in lists.IRREGULAR.split(";") for form in forms.split()[1:]
}
_ABBREVIATION = re.compile(r"\b(?:[Mm]rs?|[Mm]s|[Dd]r|[Ss]t|vs|etc|e\.g|i\.e|[A-HJ-Z])$")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？｡؟۔।॥]+[」』”’）)]*|\n+")
_LONGEST_ABBREVIATION = 8
_HIRAGANA = re.compile("[\u3040-\u309f]")


@dataclass(frozen=True)
class Word:
    """One word of a text.

    Attributes:
        text: as it is written.
        start, end: its characters, half-open.
        stem: what two forms of the word have in common; of a number its digits.
        kind: "light" words say little about the topic, "function" words nothing.
    """

    text: str
    start: int
    end: int
    stem: str
    kind: Kind

    @property
    def is_informative(self) -> bool:
        """Whether the word says what the text is about."""
        return self.kind in ("number", "name", "content")

    @property
    def is_negative(self) -> bool:
        """Whether the word turns a statement into its opposite."""
        lower = self.text.lower().replace("’", "'")
        return lower in _NEGATIVE or lower.endswith("n't")


def read_words(text: str) -> list[Word]:
    """The words of a text in order; "forty-four" and "44" are the same number."""
    words: list[Word] = []
    opens = True  # the next word opens a sentence, so its capital letter is no sign of a name
    for match in _WORD.finditer(text):
        gap = text[words[-1].end if words else 0 : match.start()]
        opens = opens if not words else bool(re.search(r"[.!?…:\n\"“]", gap))
        word = _read_word(match, opens)
        if words and gap in ("-", " ") and _joins(words[-1], word):
            tens = words.pop()
            total = str(int(tens.stem) + int(word.stem))
            word = Word(text[tens.start : word.end], tens.start, word.end, total, "number")
        words.append(word)
    return words


def stem(word: str) -> str:
    """What all forms of a word, and the words that stand for it, have in common.

    Example: "scrubs" and "scrubbing" give "scrub"; "mum" and "mothers" give "mother".
    """
    base = _cut_endings(word)
    return _GROUP_OF.get(base, base)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Character intervals of the sentences, without the white space around them."""
    ends = [
        match.end()
        for match in _SENTENCE_END.finditer(text)
        if not _ABBREVIATION.search(
            text[max(0, match.start() - _LONGEST_ABBREVIATION) : match.start()]
        )
    ]
    borders = [0, *ends, len(text)]
    trimmed = (trim(text, start, end) for start, end in pairwise(borders))
    return [(start, end) for start, end in trimmed if start < end]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """An interval without white space at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _read_word(match: re.Match[str], opens_sentence: bool) -> Word:
    text, (start, end) = match.group(), match.span()
    lower = text.lower().replace("’", "'")
    if text[0].isdigit():
        digits = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", text)
        return Word(text, start, end, digits, "number")
    if lower in _NUMBER:
        return Word(
            text, start, end, str(_NUMBER[lower]), "number" if lower != "one" else "function"
        )
    if UNSPACED.match(text):
        return _read_character(match)
    if lower in _FUNCTION:
        return Word(text, start, end, lower, "function")
    lower = lower.removesuffix("'s")
    base = stem(lower)
    if _cut_endings(lower) in _LIGHT_STEMS:
        return Word(text, start, end, base, "light")
    if text[0].isupper() and not opens_sentence:
        return Word(text, start, end, base, "name")
    return Word(text, start, end, base, "content")


def _read_character(match: re.Match[str]) -> Word:
    """A character of a script without spaces, known by itself and the one after it."""
    text, (start, end) = match.group(), match.span()
    after = match.string[end : end + 1]
    pair = text + after if UNSPACED.match(after) else text
    telling = len(pair) == 2 and not _HIRAGANA.search(pair) and text not in lists.COMMON_CHARACTERS
    return Word(text, start, end, pair, "content" if telling else "light")


def _joins(tens: Word, unit: Word) -> bool:
    return tens.text.lower() in _TENS and unit.text.lower() in _UNITS[1:10]


def _cut_endings(word: str) -> str:
    word = _IRREGULAR.get(word, word)
    for ending, rest in (("ies", "y"), ("sses", "ss"), ("ied", "y"), ("ing", ""), ("ed", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + rest
            break
    else:
        if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
            word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


_GROUP_OF = {
    _cut_endings(word): _cut_endings(line.split()[0])
    for line in reversed(lists.SAME.strip().split("\n"))
    for word in line.split()
}
_LIGHT_STEMS = frozenset(_cut_endings(word) for word in lists.LIGHT.split())
