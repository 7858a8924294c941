"""Prompts as text or token ids, never too long, special tokens kept out of user data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text2grad.conversations import conversation_text, without_oldest
from text2grad.schema import Turn, UserError
from text2grad.tasks import PromptTemplate

ELLIPSIS = " [...] "
# what chat templates are written with, for models whose tokenizer is not at hand
COMMON_SPECIALS = re.compile(
    r"<\|[^\s<>|]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<[bep]os>"
)


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        ids: token ids, with the template's own special tokens.
        shortened: whether the long slot had to be cut to fit.
        text: the user turn that they say.
    """

    ids: Sequence[int]
    shortened: bool = False
    text: str = ""


class PromptTooLong(UserError):
    """A prompt that does not fit even without all that may be cut."""


class TextRenderer:
    """Fills a prompt template.

    Args:
        template: the wording.
        max_tokens: bound on the rendered prompt.
        encode: a user turn as the ids of the whole prompt.
        specials: finds the special tokens that are spelled out in a text, None for none.
        long_slot: the slot that is shortened, in its middle, when the prompt is too long; the
            other slots and the instructions are never cut.
        flag: the flag that set `max_tokens`, for messages.
    """

    def __init__(
        self,
        template: PromptTemplate,
        max_tokens: int,
        encode: Callable[[str], Sequence[int]],
        specials: re.Pattern[str] | None,
        long_slot: str = "prompt",
        flag: str = "--prompt_max_length",
    ) -> None:
        self.template, self.max_tokens = template, max_tokens
        self.long_slot, self.flag = long_slot, flag
        self._encode_turn, self._special = encode, specials

    def render(self, origin: str = "", turns: Sequence[Turn] = (), **slots: str) -> Prompt:
        """The prompt.

        Args:
            origin: names the record in messages.
            turns: the conversation whose text the long slot is, () where it is none; the oldest
                turns go first where it is too long.
            slots: the template's slots; special tokens spelled out in them are defused.

        Raises:
            PromptTooLong: the prompt is too long even without its long slot.
        """
        safe = {name: self.defuse(text) for name, text in slots.items()}
        made = self._made(safe)
        if len(made.ids) <= self.max_tokens:
            return made
        for fewer in without_oldest(turns):
            safe[self.long_slot] = f"{ELLIPSIS.strip()}\n\n{self.defuse(conversation_text(fewer))}"
            made = self._made(safe, shortened=True)
            if len(made.ids) <= self.max_tokens:
                return made
        text = self.cut(safe[self.long_slot], lambda text: self._with(safe, text).ids, origin)
        return self._with(safe, text)

    def _with(self, slots: Mapping[str, str], text: str) -> Prompt:
        return self._made({**slots, self.long_slot: text}, shortened=True)

    def cut(self, text: str, encode: Callable[[str], Sequence[int]], origin: str) -> str:
        """The text without as much of its middle as makes the prompt too long.

        Args:
            text: what may be cut.
            encode: ids of the whole prompt with another text in its place.
            origin: names the record in messages.

        Raises:
            PromptTooLong: the prompt is too long even with "" in its place.
        """
        length, rest = len(encode(text)), len(encode(""))
        if rest > self.max_tokens:
            raise PromptTooLong(
                f"{origin or 'a prompt'}: {rest} tokens even with an empty {self.long_slot}, but "
                f"{self.flag} is {self.max_tokens}; raise it"
            )
        keep, shown = len(text), text
        while length > self.max_tokens:
            # Characters per token vary along the text, so cut in proportion and look again.
            keep = min(keep - 1, keep * (self.max_tokens - rest) // (length - rest))
            head = text[: keep * 2 // 3]
            tail = text[len(text) - (keep - len(head)) :] if keep > len(head) else ""
            shown = head.rstrip() + ELLIPSIS + tail.lstrip() if keep else ""
            length = len(encode(shown))
        return shown

    def _made(self, slots: Mapping[str, str], shortened: bool = False) -> Prompt:
        text = self.template.render(**slots)
        return Prompt(self._encode_turn(text), shortened, text)

    def defuse(self, text: str) -> str:
        """The text with a space inside every spelled-out special token, which ends its power."""
        if self._special is None:
            return text
        return self._special.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)


class PromptRenderer(TextRenderer):
    """Fills a prompt template and renders it as one user turn of the model's chat template.

    Args:
        tokenizer: must have a chat template.
        template, max_tokens, long_slot, flag: as `TextRenderer` takes them.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: PromptTemplate,
        max_tokens: int,
        long_slot: str = "prompt",
        flag: str = "--prompt_max_length",
    ) -> None:
        if not tokenizer.chat_template:
            raise UserError(
                f"model {tokenizer.name_or_path}: its tokenizer has no chat template; use an "
                "instruction-tuned model, give one by --chat_template FILE where the model is "
                "trained, or put a chat_template.jinja into its folder"
            )
        self.tokenizer = tokenizer
        names = sorted(map(str, _special_strings(tokenizer)), key=len, reverse=True)
        specials = re.compile("|".join(map(re.escape, names))) if names else None
        super().__init__(
            template,
            max_tokens,
            lambda text: encode_chat(tokenizer, text),
            specials,
            long_slot,
            flag,
        )


def encode_chat(tokenizer: Any, user_text: str) -> list[int]:
    """One user turn and the header of the assistant's turn, as ids."""
    messages = [{"role": "user", "content": user_text}]
    return encode_messages(tokenizer, messages)


def encode_messages(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Chat messages and the header of the assistant's turn, as ids."""
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    # Most templates write the BOS themselves; the tokenizer must not add a second.
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is not None and ids[0] != bos and tokenizer("")["input_ids"][:1] == [bos]:
        ids = [bos, *ids]
    return ids


def _special_strings(tokenizer: Any) -> set[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    special = {token.content for token in added if token.special}
    return {text for text in special | set(tokenizer.all_special_tokens) if len(text) > 1}
