"""What the policy continues: a record's turns, each as a turn of the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from text2grad.chat import Prompt, PromptRenderer, encode_messages
from text2grad.conversations import alternating, chat_messages, without_oldest
from text2grad.schema import Record, Turn, UserError


class TurnRenderer(PromptRenderer):
    """Renders what a response continues; takes what `PromptRenderer` does.

    The wording is put around the last turn of the user.
    """

    def render_record(self, record: Record) -> Prompt:
        """The ids of a record's turns, special tokens spelled out in any of them defused.

        Of a conversation that is too long the oldest turns go first, then the middle of the
        longest one that is left.

        Raises:
            PromptTooLong: the prompt is too long even without the text of any turn.
            UserError: the chat template does not take the conversation.
        """
        if not record.turns:
            return self.render(record.origin, prompt=record.prompt)
        turns = [replace(turn, content=self.defuse(turn.content)) for turn in record.turns]
        last = max(place for place, turn in enumerate(turns) if turn.role == "user")
        asked = _with_text(turns, last, self.template.render(prompt=turns[last].content))
        for place, fewer in enumerate((asked, *without_oldest(asked))):
            ids = self._encode_turns(fewer, record.origin)
            if len(ids) <= self.max_tokens:
                return Prompt(ids, shortened=place > 0)
        return Prompt(self._shorten_longest(fewer, record.origin), shortened=True)

    def _shorten_longest(self, turns: Sequence[Turn], origin: str) -> list[int]:
        """Cut the longest turn; where leaving it out is not enough, the next too."""
        for place in sorted(range(len(turns)), key=lambda place: -len(turns[place].content)):
            encode = partial(self._encode_with, turns, place, origin)
            if len(encode("")) <= self.max_tokens:
                break
            turns = _with_text(turns, place, "")
        return encode(self.cut(turns[place].content, encode, origin))

    def _encode_with(self, turns: Sequence[Turn], place: int, origin: str, text: str) -> list[int]:
        return self._encode_turns(_with_text(turns, place, text), origin)

    def _encode_turns(self, turns: Sequence[Turn], origin: str) -> list[int]:
        try:
            return encode_turns(self.tokenizer, turns)
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from error


def encode_turns(tokenizer: Any, turns: Sequence[Turn]) -> list[int]:
    """A conversation and the header of the assistant's next turn, as ids.

    Templates differ in the roles that they take. Where one refuses the conversation, or leaves out
    what the system, the user or a tool says, the user says it (see `alternating`).

    Raises:
        ValueError: the template refuses that too.
    """
    from jinja2 import TemplateError

    def shows_all() -> bool:
        text = tokenizer.apply_chat_template(
            chat_messages(turns), add_generation_prompt=True, tokenize=False
        )
        return all(_is_in(turn, text) for turn in turns if turn.role != "assistant")

    try:
        if shows_all():
            return encode_messages(tokenizer, chat_messages(turns))
    except TemplateError:
        pass
    try:
        return encode_messages(tokenizer, chat_messages(alternating(turns)))
    except TemplateError as error:
        raise ValueError(f"the chat template refuses its messages: {error}") from error


def _is_in(turn: Turn, text: str) -> bool:
    """Whether a turn's text is there, as it is or, as some templates write a tool's, as JSON."""
    content = turn.content.strip()
    return content in text or json.dumps(content, ensure_ascii=False)[1:-1] in text


def _with_text(turns: Sequence[Turn], place: int, text: str) -> tuple[Turn, ...]:
    return (*turns[:place], replace(turns[place], content=text), *turns[place + 1 :])
