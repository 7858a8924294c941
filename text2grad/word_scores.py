"""The published word format, `[["word", 1], ["other", 0], ...]`, as spans of the response."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

from text2grad.locate import fold
from text2grad.schema import Span
from text2grad.tasks.spec import TaskSpec

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_WORD_KEYS = ("word", "token", "text")


class Unreadable(ValueError):
    """Why a reply is no feedback; the message is one of `parsing.reasons(task)`."""


def word_spans(entries: Any, response: str, task: TaskSpec) -> list[Span]:
    """Runs of words with one score, as spans.

    The words of the list and of the response are aligned as sequences (longest common
    subsequence), so a word that one of them lacks shifts nothing. Neighbours of the response with
    the same score make one span; words that the response has nowhere in order make spans without
    offsets, to be looked for as quotes.

    Args:
        entries: pairs, or objects with a word and a score; scores as numbers or strings.
        response: the text that was scored.
        task: gives the scores of the labels; its unmarked score and 0 mark nothing.

    Raises:
        Unreadable: the list is malformed, a score means nothing, or there is no response.

    Example: [["the", 0], ["cat", "1"], ["sat", 1]] on "the cat sat" -> one span, characters 4 to 11
    """
    scored = [_labelled(entry, task) for entry in _list_of(entries)]
    words = [(found.group(), label) for word, label in scored for found in _WORD.finditer(word)]
    if not response.strip():
        raise Unreadable("word scores need the response")
    places = _align([word for word, _ in words], response)
    spans: list[Span] = []
    previous: tuple[str | None, int | None] = (None, None)
    for (word, label), place in zip(words, places, strict=True):
        number, start, end = place or (None, None, None)
        if label is not None and spans and previous == (label, number and number - 1):
            start = spans[-1].start
            text = response[start:end] if number is not None else f"{spans[-1].text} {word}"
            spans[-1] = Span(text, label, start, end)
        elif label is not None:
            spans.append(Span(word if start is None else response[start:end], label, start, end))
        previous = (label, number)
    return spans


def _list_of(entries: Any) -> Sequence[Any]:
    if not isinstance(entries, list):
        raise Unreadable("word_score_list is not a list")
    return entries


def _labelled(entry: Any, task: TaskSpec) -> tuple[str, str | None]:
    """The word of one entry and its label, None for an unmarked one."""
    if isinstance(entry, Mapping):
        lower = {str(key).strip().lower(): value for key, value in entry.items()}
        word = next((lower[key] for key in _WORD_KEYS if key in lower), None)
        entry = [word, lower.get("score")]
    if not (isinstance(entry, (list, tuple)) and len(entry) == 2 and isinstance(entry[0], str)):
        raise Unreadable("word_score_list holds no pairs of word and score")
    try:
        score = float(entry[1])
    except (TypeError, ValueError):
        raise Unreadable("word score is not a number") from None
    for label in task.labels:
        if score == label.score:
            return entry[0], label.name
    if score not in (0.0, task.unmarked_score):
        raise Unreadable("word score out of range")
    return entry[0], None


def _align(words: Sequence[str], response: str) -> list[tuple[int, int, int] | None]:
    """(number of the word in the response, start, end) for each word, None where it has none."""
    there = list(_WORD.finditer(response))
    ours = [fold(word).text for word in words]
    theirs = [fold(found.group()).text for found in there]
    places: list[tuple[int, int, int] | None] = [None] * len(words)
    for step in LCSseq.opcodes(ours, theirs):
        if step.tag == "equal":
            for offset in range(step.src_end - step.src_start):
                number = step.dest_start + offset
                places[step.src_start + offset] = (number, *there[number].span())
    return places
