"""The published word format, `[["word", 1], ["other", 0], ...]`, from spans and back to spans.

A word is a run of letters, digits and underscores, with apostrophes inside it; punctuation is no
word and has no score of its own. So a list cannot say what a span of punctuation says, and which
marks stood at the ends of a span: read back, a span ends with its last word, and what stands
between two neighbours of one score belongs to both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rapidfuzz.distance import LCSseq

from text2grad.alignment import score_tokens
from text2grad.locate import fold
from text2grad.schema import Span
from text2grad.tasks.spec import TaskSpec

WORD_SCORES_KEY = "word_score_list"

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_WORD_KEYS = ("word", "token", "text")


class Unreadable(ValueError):
    """Why a reply is no feedback; the message is one of `parsing.reasons(task)`."""


def words_of(response: str) -> list[str]:
    """The words of a response, in order.

    Example: "It's 3 p.m., isn't it?" -> ["It's", "3", "p", "m", "isn't", "it"]
    """
    return _WORD.findall(response)


def written_scores(task: TaskSpec) -> list[str]:
    """The scores that a word can have, as JSON writes them; that of an unmarked word first."""
    scores = [task.unmarked_score, *(label.score for label in task.labels)]
    return list(dict.fromkeys(json.dumps(_number(score)) for score in scores))


def word_scores(spans: Sequence[Span], response: str, task: TaskSpec) -> list[tuple[str, float]]:
    """Every word of the response with its score, whole numbers as integers.

    A word takes a label's score by the rule of `alignment.score_tokens`: if at least half of its
    bytes lie in spans of that label; the lowest score wins where several do.

    Args:
        spans: located in the response; those without offsets give nothing.
        response: the text that is scored.
        task: the labels' scores.

    Example: "cat sat" good on "the cat sat." -> [("the", 0), ("cat", 1), ("sat", 1)]
    """
    pieces, is_word, position = [], [], 0
    for found in _WORD.finditer(response):
        pieces += [response[position : found.start()], found.group()]
        is_word += [False, True]
        position = found.end()
    data = [piece.encode("utf-8", "replace") for piece in pieces]
    scores = score_tokens(data, spans, task)
    return [
        (piece, _number(score))
        for piece, word, score in zip(pieces, is_word, scores, strict=True)
        if word
    ]


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
    words = [(part, label) for word, label in scored for part in words_of(word)]
    if words and not response.strip():
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


def _number(score: float) -> float:
    return int(score) if score == int(score) else score


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
