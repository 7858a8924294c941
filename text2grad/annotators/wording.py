"""Findings about a response as one readable paragraph.

Wording varies, so that a model trained on it learns what is said and not one sentence; which
variant is taken depends on the response alone, so a record always gets the same critique.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

_GOOD_ONE = (
    "“{0}” is accurate and matters.",
    "The summary gets the main point across with “{0}”.",
    "“{0}” is right and essential.",
    "It correctly says “{0}”.",
)
_GOOD_TWO = (
    "“{0}” and “{1}” are accurate and carry what matters.",
    "The summary is right about the essentials: “{0}” and “{1}”.",
    "It correctly keeps “{0}” and “{1}”.",
    "The main points are there: “{0}”, and “{1}”.",
)
_GOOD_NONE = (
    "The summary carries hardly any of the post's main points.",
    "Little of what matters in the post is in this summary.",
)
_FAULTS = {
    "number": (
        "“{quote}” has a wrong figure{detail}.",
        "The figure in “{quote}” does not agree with the post{detail}.",
        "The number in “{quote}” is not what the post says{detail}.",
    ),
    "unsupported": (
        "“{quote}” is not supported by the post{detail}.",
        "Nothing in the post says “{quote}”{detail}.",
        "“{quote}” is not in the post{detail}.",
    ),
    "reversed": (
        "“{quote}” contradicts the post{detail}.",
        "The post says the opposite of “{quote}”{detail}.",
    ),
    "repeated": (
        "“{quote}” repeats what was already said{detail}.",
        "“{quote}” is redundant{detail}.",
        "“{quote}” adds nothing new{detail}.",
    ),
    "vague": (
        "“{quote}” is vague and should name the facts.",
        "“{quote}” says nothing specific.",
        "“{quote}” is too general to inform the reader.",
    ),
}
_DETAILS = {
    "number": ", which has {0}",
    "unsupported": ", which never mentions {0}",
    "reversed": "",
    "repeated": " after “{0}”",
    "vague": "",
}
_MISSING = (
    "It leaves out “{0}”.",
    "What is missing is “{0}”.",
    "It should also say “{0}”.",
    "The reader does not learn “{0}”.",
)
_NO_QUESTION = (
    "The writer's question is missing.",
    "It does not say what the writer asks.",
    "It leaves out the question the post ends with.",
)
_CLEAN = (
    "Nothing is invented or repeated.",
    "It adds nothing that is not in the post.",
    "There is no mistake or repetition in it.",
)


@dataclass(frozen=True)
class Remark:
    """What is wrong with one quote.

    Attributes:
        fault: a key of the wordings above.
        quote: the faulty phrase.
        detail: the true figure, the unknown words or the phrase that is repeated; "" for none.
    """

    fault: str
    quote: str
    detail: str = ""


@dataclass(frozen=True)
class Remarks:
    """Everything a critique says.

    Attributes:
        good: the phrases to praise.
        faults: the phrases to blame.
        missing: a phrase of the reference that the response has no part of, "" for none.
        lacks_question: whether the reference asks something and the response does not.
    """

    good: Sequence[str]
    faults: Sequence[Remark]
    missing: str = ""
    lacks_question: bool = False


def write_critique(remarks: Remarks, response: str) -> str:
    """One paragraph: what is good, what is wrong and why, what is missing."""
    choose = VariantChooser(response)
    sentences = []
    if remarks.good:
        praise = _GOOD_ONE if len(remarks.good) == 1 else _GOOD_TWO
        sentences.append(choose(praise).format(*remarks.good))
    elif not remarks.faults:
        sentences.append(choose(_GOOD_NONE))
    for remark in remarks.faults:
        detail = _DETAILS[remark.fault].format(remark.detail) if remark.detail else ""
        sentences.append(choose(_FAULTS[remark.fault]).format(quote=remark.quote, detail=detail))
    if remarks.good and not remarks.faults:
        sentences.append(choose(_CLEAN))
    if remarks.missing:
        sentences.append(choose(_MISSING).format(remarks.missing))
    elif remarks.lacks_question:
        sentences.append(choose(_NO_QUESTION))
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


class VariantChooser:
    """Takes variants by the bytes of the response's hash."""

    def __init__(self, response: str) -> None:
        self._bytes = iter(hashlib.sha256(response.encode("utf-8", "backslashreplace")).digest())

    def __call__(self, variants: Sequence[str]) -> str:
        """The next choice, one of the variants."""
        return variants[next(self._bytes) % len(variants)]
