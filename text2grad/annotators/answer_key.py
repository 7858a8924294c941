"""The short answer that a question wants, where the reference begins with it or is nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass

from text2grad.annotators import answer_lists as lists
from text2grad.annotators.answer_text import AnswerText
from text2grad.annotators.evidence import WordSet
from text2grad.annotators.lexicon import Word, read_words

_BARE = 6  # words of a reference that is the answer and nothing else
_LABEL = 4  # words of a first line that is the answer, with reasons after it
_SHORT = 14  # words of a response that must be the answer itself

_GRADE = re.compile(lists.GRADES, re.I)
_LABELS = frozenset(lists.LABELS.split())
_AFFIRMING = frozenset(lists.AFFIRMING.split())
_DENYING = frozenset(lists.DENYING.split())


@dataclass(frozen=True)
class KeyAnswer:
    """What the answer is, and what became of it in the response.

    Attributes:
        text: the answer as the reference has it.
        right: characters of the response that give it, None where it does not.
        wrong: characters that give another one instead.
        absent: whether the response gives neither.
    """

    text: str
    right: tuple[int, int] | None = None
    wrong: tuple[int, int] | None = None
    absent: bool = False


def find_key(prompt: str, reference: AnswerText, response: AnswerText) -> KeyAnswer | None:
    """The key answer with its fate; None where the reference has no such answer."""
    words = _key_words(prompt, reference)
    if not words or not response.words:
        return None
    text = reference.text[words[0].start : words[-1].end]
    opposite = _opposite_verdict(words, response)
    if opposite:
        return KeyAnswer(text, wrong=opposite)
    place = _find(words, response)
    if place:
        return KeyAnswer(text, right=place)
    said = _first_words(response)
    inside = WordSet(words)
    if said and len(said) <= _BARE and len(_without_grades(response)) <= _SHORT:
        if all(inside.covers(word) for word in said):
            return None  # a part of the answer is neither right nor wrong
        return KeyAnswer(text, wrong=(said[0].start, said[-1].end))
    is_verdict = words[0].text.lower() in _AFFIRMING | _DENYING
    return None if is_verdict else KeyAnswer(text, absent=True)


def _key_words(prompt: str, reference: AnswerText) -> list[Word]:
    first, whole = _first_words(reference), _without_grades(reference)
    if not first or reference.code:
        return []
    after = reference.text[first[-1].end :].lstrip(" \t*`\"'”")[:1]
    bare = len(whole) == len(first) <= _BARE
    label = len(first) <= _LABEL and after in (".", "\n", "\r", ",", "")
    if first[0].text.lower() in _AFFIRMING | _DENYING and after != "\n":
        return first[:1] if len(first) == 1 or _ends_at(reference, first[0]) else []
    if not bare and not label:
        return []
    known = WordSet(read_words(prompt))
    chosen = all(known.covers(w) for w in first) or all(w.kind == "number" for w in first)
    return first if bare or chosen else []


def _ends_at(answer: AnswerText, word: Word) -> bool:
    return answer.text[word.end : word.end + 1] in (",", ".", ":", ";", "\n", "\r", "!", "")


def _first_words(answer: AnswerText) -> list[Word]:
    """The words of the first line that is no AI's grade of itself, without "Answer:"."""
    at = 0
    for line in answer.plain.splitlines(keepends=True):
        if line.strip() and not _GRADE.match(line):
            words = [w for w in answer.words if at <= w.start < at + len(line)]
            return _without_labels(words)
        at += len(line)
    return []


def _without_labels(words: list[Word]) -> list[Word]:
    """The words without "Answer:" before and "Confidence: 60%" after them."""
    while len(words) > 1 and words[0].text.lower() in _LABELS:
        words = words[1:]
    grade = next((i for i, word in enumerate(words) if word.text.lower() == "confidence"), 0)
    return words[:grade] if grade else words


def _without_grades(answer: AnswerText) -> list[Word]:
    grades, at = [], 0
    for line in answer.plain.splitlines(keepends=True):
        if _GRADE.match(line):
            grades.append((at, at + len(line)))
        at += len(line)
    return _without_labels(
        [w for w in answer.words if not any(a <= w.start < b for a, b in grades)]
    )


def _opposite_verdict(words: list[Word], response: AnswerText) -> tuple[int, int] | None:
    first, said = words[0].text.lower(), _first_words(response)
    if not said:
        return None
    theirs = said[0].text.lower()
    opposite = (first in _AFFIRMING and theirs in _DENYING) or (
        first in _DENYING and theirs in _AFFIRMING
    )
    if not opposite or not (len(said) == 1 or _ends_at(response, said[0])):
        return None
    return said[0].start, said[0].end


def _find(words: list[Word], response: AnswerText) -> tuple[int, int] | None:
    """Where the response has these words one after the other, the last place if it is long.

    A single letter or "yes" counts only where the response begins with it.
    """
    wanted = [(word.stem, word.text.lower()) for word in words]
    letters = all(len(text) == 1 and text.isalpha() for _, text in wanted)
    small = letters or wanted[0][1] in _AFFIRMING | _DENYING
    pool = _first_words(response)[: len(wanted)] if small else response.words
    places = [
        (pool[i].start, pool[i + len(wanted) - 1].end)
        for i in range(len(pool) - len(wanted) + 1)
        if all(
            word.text.lower() == text or (len(text) > 3 and word.stem == stem)
            for word, (stem, text) in zip(pool[i : i + len(wanted)], wanted, strict=True)
        )
    ]
    return places[-1] if places else None
