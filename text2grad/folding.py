"""Texts without the differences that quoting brings about, and the way back."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_SINGLES = {ord(mark): "'" for mark in "\"'`´‘’‚‛“”„‟«»‹›′″‵‶＂＇ʼʻʹ"}
_SINGLES |= {ord(mark): "-" for mark in "-‐‑‒–—―−﹘﹣－"}
_RUNS = frozenset(" '-")
# ASCII that folds to its lower case, as far as no combining mark can follow.
_PLAIN = re.compile(r"[!#-&(-,./0-9:-_a-~]+(?=[\x00-\x7f]|\Z)")


@dataclass(frozen=True)
class Folded:
    """A text without the differences that quoting brings about, and the way back.

    Attributes:
        text: NFKC, case folded; quote marks are ', dashes -, white space is one space, runs of
            any of the three are one; invisible format characters are gone.
        starts, ends: for each character of `text`, the interval of the original it stands for.
    """

    text: str
    starts: list[int]
    ends: list[int]

    def original(self, place: tuple[int, int]) -> tuple[int, int]:
        """The interval of the original text behind an interval of `text`."""
        return self.starts[place[0]], self.ends[place[1] - 1]


def fold(text: str) -> Folded:
    """Fold a text for comparison, with an index map back to it.

    Example: 'A “B” —' -> "a 'b' -", and every folded character maps to one original character.
    """
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    while position < len(text):
        if plain := _PLAIN.match(text, position):
            end = plain.end()
            folded += plain.group().lower()
            starts += range(position, end)
            ends += range(position + 1, end + 1)
            position = end
            continue
        end = position + 1
        while end < len(text) and _continues(text[end]):
            end += 1
        for character in _fold_cluster(text[position:end]):
            if folded and character in _RUNS and folded[-1] == character:
                ends[-1] = end
            else:
                folded.append(character)
                starts.append(position)
                ends.append(end)
        position = end
    return Folded("".join(folded), starts, ends)


def _continues(character: str) -> bool:
    # Marks and Korean vowel and final parts compose with what stands before them.
    if character < "\u0300":
        return False
    return unicodedata.category(character)[0] == "M" or "\u1160" <= character <= "\u11ff"


@lru_cache(maxsize=8192)
def _fold_cluster(cluster: str) -> str:
    text = unicodedata.normalize("NFKC", cluster.translate(_SINGLES)).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_SINGLES)
    visible = (" " if c.isspace() else c for c in text if not _is_invisible(c))
    return "".join(visible)


def _is_invisible(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or unicodedata.category(character) == "Cf"
