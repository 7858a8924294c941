"""A small language in which the worth of every phrase is known, so that quality is exact.

A phrase is an adjective and a noun. A prompt names a subject and a reader: a phrase about that
subject is good, one that the reader dislikes is poor, whatever it is about, and the others are
neither. Which phrases these are, the policy has to find out, for pairs of subject and reader that
it was trained on and for pairs that it was not.
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
GOOD_WEIGHT = 3.0
"""how much likelier a good phrase is in the texts that the start model learns from"""

Worth = Literal["good", "poor", "neutral"]


def _meanings() -> dict[str, tuple[str, str]]:
    """The subject that each phrase is about, and the reader who dislikes it; fixed."""
    order = random.Random("meanings").sample(PHRASES, len(PHRASES))
    return {
        phrase: (SUBJECTS[place % 4], READERS[place // 4 % 4]) for place, phrase in enumerate(order)
    }


MEANINGS = _meanings()


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


def prompt_text(name: str, subject: str, reader: str) -> str:
    """A prompt; the name says nothing about what is good."""
    return f"{name} asks for {subject} for {reader}"


def prompt_meaning(prompt: str) -> tuple[str, str]:
    """Subject and reader of a prompt."""
    words = prompt.split()
    return words[3], words[5]


def worth_of(phrase: str, prompt: str) -> Worth:
    """What a phrase is worth where it stands for the first time."""
    subject, reader = prompt_meaning(prompt)
    about, disliked_by = MEANINGS[phrase]
    if disliked_by == reader:
        return "poor"
    return "good" if about == subject else "neutral"


def find_phrases(prompt: str, response: str) -> list[Phrase]:
    """The phrases of a response from left to right; other words are none.

    Example: " calm river, river" -> the one phrase "calm river" at characters 1 to 11
    """
    found: list[Phrase] = []
    seen: set[str] = set()
    for (start, _), (_, end) in pairwise(word_places(response)):
        text = response[start:end]
        if text in MEANINGS:
            worth = worth_of(text, prompt)
            repeated = worth == "good" and text in seen
            found.append(Phrase(text, "neutral" if repeated else worth, start, end))
            seen.add(text)
    return found


def word_places(response: str) -> list[tuple[int, int]]:
    """Start and end of each word; a comma is part of none."""
    return [word.span() for word in re.finditer(r"[^\s,]+", response)]


def quality(prompt: str, response: str) -> Quality:
    """Known good and poor phrases of a response, counted exactly."""
    worths = [phrase.worth for phrase in find_phrases(prompt, response)]
    return Quality(worths.count("good"), worths.count("poor"))


def prompts(held_out: bool) -> list[str]:
    """All prompts about the pairs held out, or all about the others."""
    chosen = [pair for pair in PAIRS if (pair in HELD_OUT_PAIRS) == held_out]
    return [prompt_text(name, *pair) for name in NAMES for pair in chosen]


def other_prompt(prompt: str, draw: random.Random) -> str:
    """A prompt with another subject and another reader."""
    subject, reader = prompt_meaning(prompt)
    pairs = [pair for pair in PAIRS if pair[0] != subject and pair[1] != reader]
    return prompt_text(draw.choice(NAMES), *draw.choice(pairs))


def written_response(prompt: str, draw: random.Random, most_phrases: int) -> str:
    """A text to learn the form from: up to `most_phrases` phrases, good ones a little likelier."""
    weights = [GOOD_WEIGHT if worth_of(p, prompt) == "good" else 1.0 for p in PHRASES]
    count = draw.randint((most_phrases + 1) // 2, most_phrases)
    return join_phrases(draw.choices(PHRASES, weights, k=count))


def join_phrases(phrases: Sequence[str]) -> str:
    """A response of these phrases, as the policy writes them."""
    return " " + ", ".join(phrases)
