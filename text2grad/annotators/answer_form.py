"""Whether an answer has the form that was asked for: length, items, code, table, language.

Wishes are read from the prompt by pattern and believed only where the reference fulfils them, so
that a number in an example or in a quoted text is not taken for a limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from text2grad.annotators import answer_lists as lists
from text2grad.annotators.answer_text import AnswerText, read_answer
from text2grad.annotators.lexicon import read_words

MATTERS_OF_TASTE = ("unstructured", "brief", "wordy")

_TOLERANCE = 1.1  # of a word limit
_MANY_ITEMS = 3  # that make the reference a list
_LONG = 80  # words from which a list is missed
_TERSE = 12  # words up to which the reference is a bare answer
_MUCH_LONGER = 6  # times the words of the reference
_BRIEF_SHARE = 0.2  # of the words of a long reference


@dataclass(frozen=True)
class FormFault:
    """One demand of form that the response does not fulfil.

    Attributes:
        kind: a key of the wording.
        wanted: what should be there.
        found: what is there instead.
        place: characters of the response to quote, None where there is nothing to quote.
    """

    kind: str
    wanted: str = ""
    found: str = ""
    place: tuple[int, int] | None = None


def check_form(prompt: str, reference: AnswerText, response: AnswerText) -> list[FormFault]:
    """The demands that the reference fulfils and the response does not, the gravest first."""
    checks: tuple[Callable[[str, AnswerText, AnswerText], FormFault | None], ...] = (
        _language,
        _code,
        _item_count,
        _sentence_limit,
        _word_limit,
        _least_words,
        _table,
        _json,
        _list,
        _bare_answer,
        _brief,
    )
    asked = prompt.lower()
    found = (check(asked, reference, response) for check in checks)
    return [fault for fault in found if fault]


def is_one_language(one: AnswerText, other: AnswerText) -> bool:
    """Whether two texts are in one language, or too short to tell."""
    return not one.language or not other.language or one.language == other.language


def _language(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    wanted, found = reference.language, response.language
    if is_one_language(reference, response):
        return None
    if read_answer(asked).language == found and not re.search(lists.LANGUAGE_WORDS, asked):
        return None  # who asks in a language may be answered in it
    place = response.sentences[0] if response.sentences else None
    return FormFault("language", wanted, found, place)


def _code(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    if reference.code and not response.fenced and re.search(lists.CODE_WORDS, asked):
        return FormFault("code")
    return None


def _item_count(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    match = re.search(lists.ITEM_COUNT, asked)
    if not match:
        return None
    wanted, there = _number(match[1]), len(response.items)
    if len(reference.items) != wanted or there == wanted or there == 0:
        return None
    surplus = response.items[wanted] if there > wanted else None
    place = None
    if surplus is not None:
        last = response.items[-1]
        place = next((s for s in response.sentences if s[0] <= last < s[1]), None)
    kind = "too many items" if there > wanted else "too few items"
    return FormFault(kind, f"{wanted} {match[2]}", str(there), place)


def sentence_limit(asked: str) -> int | None:
    """How many sentences a prompt in lower case asks for at most, None if it does not say."""
    match = re.search(lists.SENTENCE_LIMIT, asked)
    return _number(match[1]) if match else None


def _sentence_limit(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    wanted, there = sentence_limit(asked), len(response.sentences)
    if wanted is None or len(reference.sentences) > wanted or there <= wanted:
        return None
    allowed = f"{wanted} {'sentence' if wanted == 1 else 'sentences'}"
    return FormFault("too long", allowed, f"{there} sentences", response.sentences[wanted])


def _word_limit(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    match = re.search(lists.WORD_LIMIT, asked)
    if not match or re.search(lists.LEAST_WORDS, asked):
        return None
    wanted, there = int(match[1] or match[2]), len(response.words)
    if wanted < 2 or len(reference.words) > _TOLERANCE * wanted or there <= _TOLERANCE * wanted:
        return None
    return FormFault("too long", f"{wanted} words", f"{there} words", _beyond(response, wanted))


def _least_words(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    match = re.search(lists.LEAST_WORDS, asked)
    if not match:
        return None
    wanted, there = int(match[1]), len(response.words)
    if len(reference.words) * _TOLERANCE < wanted or there * _TOLERANCE >= wanted:
        return None
    return FormFault("too short", f"{wanted} words", f"{there} words")


def _table(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    wanted = reference.has_table and re.search(lists.TABLE_WORDS, asked)
    return FormFault("table") if wanted and not response.has_table else None


def _json(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    wanted = re.search(lists.JSON_WORDS, asked) and re.search(r"[{\[]\s*[\"{\[]", reference.text)
    return FormFault("json") if wanted and not re.search(r"[{\[]", response.text) else None


def _list(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    if len(reference.items) < _MANY_ITEMS or len(response.items) >= 2 or response.fenced:
        return None
    if re.search(lists.LIST_WORDS, asked):
        return FormFault("list")
    return FormFault("unstructured") if len(response.words) >= _LONG else None


def _bare_answer(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    there, enough = len(response.words), len(reference.words)
    if not 0 < enough <= _TERSE or reference.code or there <= _MUCH_LONGER * max(enough, 5):
        return None
    wanted = f"{enough} words" if enough > 1 else "a single word"
    return FormFault("wordy", wanted, f"{there} words")


def _brief(asked: str, reference: AnswerText, response: AnswerText) -> FormFault | None:
    there, enough = len(response.words), len(reference.words)
    return FormFault("brief") if enough >= _LONG and there < _BRIEF_SHARE * enough else None


def _beyond(response: AnswerText, limit: int) -> tuple[int, int] | None:
    """The first sentence that begins after the limit."""
    start = response.words[limit].start
    return next((sentence for sentence in response.sentences if sentence[0] >= start), None)


def _number(text: str) -> int:
    if text == "single":
        return 1
    word = read_words(text)[0]
    return int(word.stem) if word.stem.isdecimal() else 1  # "one" is a function word
