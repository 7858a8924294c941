"""A small language in which the worth of every phrase is known, so that quality is exact.

A phrase is an adjective and a noun, and it is the pair that is good, poor or neither: a quarter of
the pairs are good and a quarter poor, and no word alone tells which. Nothing but critiques says so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

ADJECTIVES = ("calm", "bold", "dry", "old", "red", "slow", "loud", "thin")
NOUNS = ("river", "house", "garden", "engine", "letter", "winter")
SUBJECTS = ("travel", "trade", "music", "sport")
READERS = ("doctors", "sailors", "farmers", "pilots")
NAMES = (
    *("anna", "ben", "carl", "dora", "emma", "finn", "gina", "hugo", "ines", "jack", "kate"),
    *("liam", "mara", "nils", "olga", "paul", "rosa", "sven", "tara", "ulla", "vera", "walt"),
    *("yara", "zeno"),
)
PHRASES = tuple(f"{adjective} {noun}" for adjective, noun in product(ADJECTIVES, NOUNS))
PAIRS = tuple(product(SUBJECTS, READERS))
HELD_OUT_PAIRS = tuple(zip(SUBJECTS, READERS, strict=True))
"""each subject and each reader once; never trained on"""

Worth = Literal["good", "poor", "neutral"]


def _worths() -> dict[str, Worth]:
    """What each phrase is worth where it stands for the first time; fixed."""
    order = random.Random("worths").sample(PHRASES, len(PHRASES))
    kinds: tuple[Worth, ...] = ("good", "poor", "neutral", "neutral")
    return {phrase: kinds[place % len(kinds)] for place, phrase in enumerate(order)}


WORTHS = _worths()


@dataclass(frozen=True)
class Phrase:
    """One phrase of a response.

    Attributes:
        text: adjective and noun.
        worth: "good" at its first copy only, a repetition is neutral; "poor" at every copy.
        start, end: characters of the response, half-open.
    """

    text: str
    worth: Worth
    start: int
    end: int


@dataclass(frozen=True)
class Quality:
    """What a response is worth.

    Attributes:
        good: different good phrases in it.
        poor: poor phrases in it, each copy counted.
    """

    good: int
    poor: int

    @property
    def net(self) -> int:
        """Good minus poor phrases."""
        return self.good - self.poor


def prompts(held_out: bool) -> list[str]:
    """All prompts about the pairs held out, or all about the others."""
    chosen = [pair for pair in PAIRS if (pair in HELD_OUT_PAIRS) == held_out]
    return [
        f"{name} asks for {subject} for {reader}" for name in NAMES for subject, reader in chosen
    ]


def find_phrases(response: str) -> list[Phrase]:
    """The phrases of a response from left to right; other words are none.

    Example: " calm river, river" -> the one phrase "calm river" at characters 1 to 11
    """
    found: list[Phrase] = []
    seen: set[str] = set()
    for (start, _), (_, end) in pairwise(word_places(response)):
        text = response[start:end]
        if text in WORTHS:
            worth = WORTHS[text]
            repeated = worth == "good" and text in seen
            found.append(Phrase(text, "neutral" if repeated else worth, start, end))
            seen.add(text)
    return found


def word_places(response: str) -> list[tuple[int, int]]:
    """Start and end of each word; a comma is part of none."""
    return [word.span() for word in re.finditer(r"[^\s,]+", response)]


def quality(response: str) -> Quality:
    """Known good and poor phrases of a response, counted exactly."""
    worths = [phrase.worth for phrase in find_phrases(response)]
    return Quality(worths.count("good"), worths.count("poor"))


def written_response(draw: random.Random, most_phrases: int) -> str:
    """A text to learn the form from: up to `most_phrases` phrases, each as likely as the others."""
    count = draw.randint((most_phrases + 1) // 2, most_phrases)
    return join_phrases(draw.choices(PHRASES, k=count))


def join_phrases(phrases: Sequence[str]) -> str:
    """A response of these phrases, as the policy writes them."""
    return " " + ", ".join(phrases)
