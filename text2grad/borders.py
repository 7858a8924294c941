"""Where a quote may start and end: never inside a word, an operator, or a visible character."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

# Scripts written without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, kana and bopomofo, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u2fdf\u3005-\u3007"
    "\u3021-\u302f\u3031-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f"
    "\uf900-\ufaff\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
)
OPERATOR = re.compile(
    r"\*\*=|//=|<<=|>>=|===|!==|\.\.\.|<=>|->|=>|:=|::|==|!=|<=|>=|\+=|-=|\*=|/=|%=|&=|\|=|\^=|@="
    r"|\*\*|//|<<|>>|&&|\|\||\+\+|--"
)
JOINERS = "\u200c\u200d"


def quote_borders(text: str, border: Literal["word", "token"]) -> tuple[list[int], list[int]]:
    """Positions of `text` at which a quote may start, and at which it may end.

    A quote starts before and ends after a character that is no space, at a word border; between
    any two characters of a script without spaces; for "token" neither inside an operator, and a
    quote may also start at the beginning of a line, before its indentation.

    Returns:
        (starts, ends), character positions in rising order; an end is one past the last character.

    Example: "a cat" -> ([0, 2], [1, 5])
    """
    whole = _inside_characters(text)
    inside = [whole[i] or _inside_word(text, i) for i in range(len(text))]
    line_starts = set()
    if border == "token":
        for operator in OPERATOR.finditer(text):
            inside[operator.start() + 1 : operator.end()] = [True] * (len(operator[0]) - 1)
        line_starts = {0, *(i + 1 for i, char in enumerate(text) if char == "\n")}
    starts = [
        i
        for i, char in enumerate(text)
        if not inside[i] and (i in line_starts or not char.isspace())
    ]
    ends = [
        i + 1
        for i, char in enumerate(text)
        if not char.isspace() and (i + 1 == len(text) or not inside[i + 1])
    ]
    return starts, ends


def _inside_characters(text: str) -> list[bool]:
    """Whether position i lies inside what a reader sees as one character."""
    inside, flags = [], 0
    for i, char in enumerate(text):
        flag = "\U0001f1e6" <= char <= "\U0001f1ff"
        inside.append(
            i > 0
            and (
                _extends(char)
                or text[i - 1] == "\u200d"
                or (flag and flags % 2 == 1)
                or (char == "\n" and text[i - 1] == "\r")
            )
        )
        flags = flags + 1 if flag else 0
    return inside


def _extends(char: str) -> bool:
    """Combining marks, joiners, skin tones and tags belong to the character before them."""
    if char < "\u0300":
        return False
    return (
        unicodedata.category(char) in ("Mn", "Mc", "Me")
        or char in JOINERS
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
    )


def _inside_word(text: str, i: int) -> bool:
    if i == 0 or not _is_word(text[i]):
        return False
    base = i - 1
    while base > 0 and _extends(text[base]):
        base -= 1
    if UNSPACED.match(text[i]) or UNSPACED.match(text[base]):
        return False
    return _is_word(text[base])


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"
