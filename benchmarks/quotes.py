"""Answers to quote from, quotes cut out of them, and the ways in which quoting changes a text."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from text2grad.files import read_rows

SAMPLE = Path(__file__).resolve().parent.parent / "RM_Data_Anno/SLF5K/sample/train.jsonl"
MISTYPED_CHARS = 30
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
SCRIPTS = (
    "Das „schöne“ Café — geöffnet seit 1999 — heißt “Öl & Mehl”. Niemand weiß, warum 🤷🏽‍♀️ es so "
    "heißt.",
    "日本語の文章です。とても短い文章ですが、絵文字も入っています🙂。终于到了最后一句话。",
    "def área(radius):\n\treturn 3.14159 * radius ** 2  # “pi”, more or less\n\nprint(área(2))",
    "Emoji say it all 👩‍👩‍👧‍👦🇩🇪 and some more 🎉🎉 at the end. Naïve façade, cafe\u0301.",
)


Texts = list[tuple[str, int]]
"""answers, each with the number of its question"""
Places = list[tuple[int, int, int]]
"""(number of the answer, start, end) of quotes"""


@dataclass(frozen=True)
class Quote:
    """A phrase cut out of an answer.

    Attributes:
        answer: number of the answer.
        start, end: where it was cut.
        copies: how often its text stands in the answer.
        label: "good" or "poor".
    """

    answer: int
    start: int
    end: int
    copies: int
    label: str


@dataclass(frozen=True)
class Answer:
    """A response with its tokens; `group` is the same for answers to one question."""

    text: str
    group: int
    pieces: list[bytes]


def human_quotes(path: str) -> tuple[Texts, Places]:
    """Answers with their groups, and (answer, start, end) of what people marked."""
    texts, places = [], []
    for number, row in enumerate(read_rows(path, "--qa")):
        texts.append((row["prediction"], number))
        for error in row["human_errors"]:
            if error.get("start") is not None and error["start"] < error["end"]:
                places.append((number, error["start"], error["end"]))
    return texts, places


def sentence_quotes(
    texts: Texts,
) -> tuple[Texts, Places]:
    """The answers, and (answer, start, end) of every sentence with a letter in it."""
    places = []
    for number, (text, _) in enumerate(texts):
        at = 0
        for part in SENTENCE_END.split(text):
            start = text.index(part, at)
            at = start + len(part)
            inner = part.strip()
            start += part.index(inner) if inner else 0
            if any(char.isalpha() for char in inner):
                places.append((number, start, start + len(inner)))
    return texts, places


def read_sets(qa: str, ultrafeedback: str) -> dict[str, tuple[Texts, Places]]:
    """The answers and places of each data set asked for."""
    sets = {}
    if qa:
        sets["human"] = human_quotes(qa)
    if ultrafeedback:
        rows = read_rows(ultrafeedback, "--ultrafeedback")
        texts = [(row[key], n) for n, row in enumerate(rows) for key in ("chosen", "rejected")]
        sets["sentences"] = sentence_quotes([text for text in texts if text[0].strip()])
    if not sets:
        rows = read_rows(SAMPLE)
        texts = [(row["post"], number) for number, row in enumerate(rows)]
        sets["sample"] = sentence_quotes(texts + [(text, -n) for n, text in enumerate(SCRIPTS, 1)])
    return sets


def change_spaces(quote: str, rng: random.Random) -> str:
    """Other white space between the words."""
    return re.sub(r"\s+", lambda _: rng.choice(("\n", "  ", "\t", "\u00a0", " \n ")), quote)


def change_case(quote: str, rng: random.Random) -> str:
    """Upper, lower or title case."""
    return rng.choice((str.upper, str.lower, str.title))(quote)


def change_marks(quote: str, rng: random.Random) -> str:
    """Other quote marks and dashes."""
    swaps = {
        "'": "’‘ʼ`",
        '"': "“”«'",
        "’": "'",
        "“": '"',
        "”": '"',
        "-": "–—‑−",
        "—": "-",
        "–": "-",
    }
    return "".join(rng.choice(swaps.get(char, char)) for char in quote)


def change_form(quote: str, rng: random.Random) -> str:
    """Another Unicode form of the same text."""
    decomposed = unicodedata.normalize("NFD", quote)
    return decomposed.replace("fi", "ﬁ").replace("...", "…")


def change_all(quote: str, rng: random.Random) -> str:
    """White space, case, marks and form at once."""
    for change in (change_case, change_marks, change_form, change_spaces):
        quote = change(quote, rng)
    return quote


def mistype(quote: str, rng: random.Random, count: int = 1) -> str:
    """Swap, drop, double or replace letters."""
    for _ in range(count):
        at = rng.randrange(1, len(quote) - 1)
        letter = rng.choice("abcdefghijklmnopqrstuvwxyz")
        quote = rng.choice(
            (
                quote[:at] + quote[at + 1 :],
                quote[:at] + letter + quote[at + 1 :],
                quote[:at] + letter + quote[at:],
                quote[: at - 1] + quote[at] + quote[at - 1] + quote[at + 1 :],
            )
        )
    return quote


def drop_word(quote: str, rng: random.Random) -> str:
    """Leave out a word that is neither the first nor the last."""
    words = list(re.finditer(r"\S+\s+", quote))[1:]
    if not words:
        return quote
    word = rng.choice(words)
    return quote[: word.start()] + quote[word.end() :]


CHANGES: dict[str, tuple[Callable[[str, random.Random], str], int]] = {
    "white space": (change_spaces, 0),
    "case": (change_case, 0),
    "quote marks, dashes": (change_marks, 0),
    "Unicode form": (change_form, 0),
    "all of these": (change_all, 0),
    "one typo": (mistype, MISTYPED_CHARS),
    "two typos": (lambda quote, rng: mistype(quote, rng, 2), MISTYPED_CHARS),
    "a dropped word": (drop_word, MISTYPED_CHARS),
}
"""name -> how quotes are changed, and the shortest quote that is"""
