"""An answer as it is compared: clauses without marks of layout, lists, code and language."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from text2grad.annotators import answer_lists as lists
from text2grad.annotators.clauses import Clause, split_clauses
from text2grad.annotators.lexicon import Word, split_sentences

_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})")
_CODE_LINE = re.compile(r"(?=[^\n]*[(){}=\[\]])[^\n]*[;{}]\s*$")
_HTML_CODE = re.compile(r"<pre\b|<code\b|<script\b|<html\b", re.I)
_MARKER = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+|>[ \t]*|(?P<item>[-*+•–][ \t]+|\(?\d{1,3}[.)][ \t]+(?=\S)))*"
)
_LAYOUT = re.compile(r"[*`|~#]|(?<=\W)_|_(?=\W|$)|</?\w{1,20}[^>\n]{0,80}>")
_TABLE = re.compile(r"^[ \t]*(?:\|[ \t]*)?:?-{3,}:?[ \t]*\|", re.M)
_LONGEST_CLAUSE = 40  # words
_WORDS_TO_TELL = 12  # of a text in Latin letters, before its language is named
_SURE_SHARE = 0.12  # of its words are frequent words of its language


@dataclass(frozen=True)
class AnswerText:
    """A text and what can be seen of it without another text.

    Attributes:
        text: as it is written.
        plain: the same characters with code and marks of layout blanked, so that places agree.
        code: lines of its code blocks, and others that can only be code, half-open intervals.
        fenced: whether it has a code block.
        items: places of the list items' first characters.
    """

    text: str
    plain: str
    code: tuple[tuple[int, int], ...]
    fenced: bool
    items: tuple[int, ...]

    @cached_property
    def clauses(self) -> list[Clause]:
        """The clauses outside code; no clause is long, so that what compares two is quick."""
        return [
            replace(clause, words=clause.words[first : first + _LONGEST_CLAUSE])
            for clause in split_clauses(self.plain)
            for first in range(0, len(clause.words), _LONGEST_CLAUSE)
        ]

    @cached_property
    def sentences(self) -> list[tuple[int, int]]:
        """Character intervals of the sentences outside code."""
        return [(a, b) for a, b in split_sentences(self.plain) if self.plain[a:b].strip()]

    @cached_property
    def words(self) -> list[Word]:
        """The words outside code."""
        return [word for clause in self.clauses for word in clause.words]

    @cached_property
    def has_table(self) -> bool:
        """Whether it has a table in Markdown or HTML."""
        return bool(_TABLE.search(self.text)) or "<table" in self.text.lower()

    @cached_property
    def language(self) -> str:
        """The language or script that most of it is in; "" if it is too short to tell."""
        return _tell_language(self.plain, self.words)


def read_answer(text: str) -> AnswerText:
    """Look at a text once, in time that grows with its length."""
    plain: list[str] = []
    code: list[tuple[int, int]] = []
    items: list[int] = []
    at, inside, fenced = 0, False, False
    for line in text.splitlines(keepends=True):
        end = at + len(line)
        if _FENCE.match(line):
            inside, fenced = not inside, True
            plain.append(_blank(line))
        elif inside or _CODE_LINE.match(line):
            if line.strip():
                code.append((at, at + len(line.rstrip())))
            plain.append(_blank(line))
        else:
            marker = _MARKER.match(line)
            if marker["item"]:
                items.append(at + marker.end())
            rest = line[marker.end() :]
            plain.append(_blank(marker[0]) + _LAYOUT.sub(lambda m: _blank(m[0]), rest))
        at = end
    fenced = fenced or bool(_HTML_CODE.search(text))
    return AnswerText(text, "".join(plain), tuple(code), fenced, tuple(items))


def _blank(text: str) -> str:
    return re.sub(r"[^\n\r]", " ", text)


def _tell_language(text: str, words: Sequence[Word]) -> str:
    letters = Counter(_script_of(char) for char in text if char.isalpha())
    letters.pop("", None)
    if not letters:
        return ""
    script, count = letters.most_common(1)[0]
    if letters["Japanese"] * 10 > count and script == "Chinese":
        script = "Japanese"
    if script != "Latin":
        return script if count >= 4 else ""
    if len(words) < _WORDS_TO_TELL:
        return ""
    spelled = Counter(word.text.lower() for word in words)
    ranked = sorted(
        (-sum(spelled[word] for word in frequent.split()), name)
        for name, frequent in lists.LANGUAGES.items()
    )
    best, second = -ranked[0][0], -ranked[1][0]
    is_sure = best >= 3 and best >= _SURE_SHARE * len(words) and best >= 1.5 * second
    return ranked[0][1] if is_sure else ""


def _script_of(char: str) -> str:
    return next((name for name, low, high in lists.SCRIPTS if low <= char <= high), "")
