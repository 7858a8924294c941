"""The types that cross a stage border; nothing else does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Match = Literal["exact", "normalised", "fuzzy", "unmatched"]
MATCHES: tuple[Match, ...] = get_args(Match)


def utf8_text(text: str) -> str:
    """The text with lone surrogates, which JSON can spell and UTF-8 cannot, as U+FFFD.

    Example: half an emoji, as a text cut in its middle ends with -> U+FFFD
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class UserError(Exception):
    """A mistake the user can mend; the message is one line naming file, record or flag."""


class Stopped(Exception):
    """The run was asked to stop and did, with all its work saved; the message says where."""


@dataclass(frozen=True)
class Span:
    """A quoted phrase with its label and, once located, its place in the response.

    Attributes:
        text: the phrase as it was quoted.
        label: one of the task's labels, for example "good".
        start: first character of the response, or None where the phrase is not in it.
        end: one past the last character, or None.
        match: how it was found; None until `alignment.locate_spans` has looked.
        copies: places of the response at which the phrase was found; above 1 it is ambiguous.
    """

    text: str
    label: str
    start: int | None = None
    end: int | None = None
    match: Match | None = None
    copies: int = 1

    def to_json(self) -> dict[str, Any]:
        """The span as one stage writes it and the next reads it."""
        row: dict[str, Any] = {"text": self.text, "label": self.label}
        if self.start is not None:
            row |= {"start": self.start, "end": self.end}
        row["match"] = self.match or "unmatched"
        return row | ({"copies": self.copies} if self.copies > 1 else {})


@dataclass(frozen=True)
class Feedback:
    """What an annotator or the reward model said about one response.

    Attributes:
        critique: the natural-language feedback.
        spans: the quotes, in the order given.
        reasoning: the chain of thought behind the critique, "" if none was asked for.
        repair: the rung of the parsing ladder that read the reply, "none" if it was clean.
    """

    critique: str
    spans: tuple[Span, ...] = ()
    reasoning: str = ""
    repair: str = "none"


@dataclass(frozen=True)
class Grade(Feedback):
    """A score of a whole response, without quotes; it is paid on the last token."""

    grade: float = 0.0


@dataclass(frozen=True)
class Unparseable:
    """A reply that is no feedback. It is counted and never becomes a reward."""

    reason: str
    raw: str = ""


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        content: its text.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Record:
    """One prompt with, where the file has them, a response, a reference and feedback.

    Attributes:
        id: unique in its file.
        prompt: the post or the question; of a conversation its text.
        response: the text that is judged, "" where the file has none.
        reference: the human answer, "" where the file has none.
        human_feedback: free text a person wrote about the response, "" where there is none.
        test: a test file for the response, "" where there is none.
        feedback: the annotation, None where the file has none.
        fields: the record as it was read; writers keep all of it.
        origin: "FILE, record N (id ID)", for messages.
        turns: the conversation that the response continues, () where that is `prompt` alone.
    """

    id: str
    prompt: str
    response: str = ""
    reference: str = ""
    human_feedback: str = ""
    test: str = ""
    feedback: Feedback | Unparseable | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True)
class FieldNames:
    """Key names of the user's own file; "" means the task's own spellings, A+B joins two keys."""

    prompt: str = ""
    """key of the prompt (the post, the question)"""
    response: str = ""
    """key of the response that is judged"""
    reference: str = ""
    """key of the human reference"""
    human_feedback: str = ""
    """key of a person's free-text feedback on the response"""
    test: str = ""
    """key of the tests, where the task has some"""
    id: str = ""
    """key of the record's id"""
