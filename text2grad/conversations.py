"""Conversations: chat messages read from a record, shown as text, and shortened turn by turn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from text2grad.schema import Record, Turn

_NAMES = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
_OTHER_NAMES = {"developer": "system", "human": "user", "function": "tool", "model": "assistant"}


def is_messages(value: Any) -> bool:
    """Whether a value of a record is a list of chat messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) for m in value)


def read_messages(messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[Turn, ...], str]:
    """The turns before the answer, and the answer: the text of the last message.

    A single message without a role is an answer. Where the last message is not the assistant's
    there is no answer, and all turns stand before it. An empty system message is none.

    Raises:
        ValueError: a message lacks its role or its text, or one before the answer is empty.
    """
    if len(messages) == 1 and "role" not in messages[0]:
        return (), _content(messages[0], 1)
    turns = [
        Turn(_role(message, number), _content(message, number))
        for number, message in enumerate(messages, 1)
    ]
    answer = ""
    if turns[-1].role == "assistant":
        answer = turns.pop().content
    for number, turn in enumerate(turns, 1):
        if not turn.content.strip() and turn.role != "system":
            raise ValueError(f"message {number} ({turn.role}) is empty")
    return tuple(turn for turn in turns if turn.content.strip()), answer


def is_conversation(turns: Sequence[Turn]) -> bool:
    """Whether turns are more than one message of the user, which is an ordinary prompt."""
    return len(turns) > 1 or any(turn.role != "user" for turn in turns)


def conversation_text(turns: Sequence[Turn]) -> str:
    """The turns as a person would write them down; of an ordinary prompt its text.

    Example: user "Hi", assistant "Hello." -> "User: Hi", an empty line, "Assistant: Hello."
    """
    if not is_conversation(turns):
        return "".join(turn.content for turn in turns)
    return "\n\n".join(f"{_NAMES[turn.role]}: {turn.content}" for turn in turns)


def chat_messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    """The turns as chat templates and records have them."""
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def as_prompt(turns: Sequence[Turn]) -> Record:
    """A record that asks for what the turns do, and holds nothing else."""
    own = tuple(turns) if is_conversation(turns) else ()
    return Record("", conversation_text(turns), turns=own)


def prompt_turns(record: Record) -> tuple[Turn, ...]:
    """What the response of a record continues."""
    return record.turns or (Turn("user", record.prompt),)


def prompt_value(record: Record) -> str | list[dict[str, str]]:
    """The prompt as it is written into a record: a text, or the messages of a conversation."""
    return chat_messages(record.turns) or record.prompt


def without_oldest(turns: Sequence[Turn]) -> Iterator[tuple[Turn, ...]]:
    """Shorter and shorter conversations, down to the last message of the user and what follows it.

    The oldest exchange goes first, as a whole; what the system says before all others stays.
    """
    first = next((place for place, turn in enumerate(turns) if turn.role != "system"), len(turns))
    for place in range(first + 1, len(turns)):
        if turns[place].role == "user":
            yield (*turns[:first], *turns[place:])


def alternating(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns for a chat template that knows users and assistants only, and takes them by turns.

    What system and tools say, and what an assistant says before any user, is said by the user.
    """
    spoken, heard_user = [], False
    for turn in turns:
        heard_user = heard_user or turn.role == "user"
        if turn.role == "user" or (turn.role == "assistant" and heard_user):
            spoken.append(turn)
        elif turn.role == "system":
            spoken.append(Turn("user", turn.content))
        else:
            spoken.append(Turn("user", f"{_NAMES[turn.role]}: {turn.content}"))
    return tuple(
        Turn(role, "\n\n".join(turn.content for turn in group))
        for role, group in groupby(spoken, lambda turn: turn.role)
    )


def _role(message: Mapping[str, Any], number: int) -> str:
    role = message.get("role")
    if not isinstance(role, str) or not role.strip():
        raise ValueError(f'message {number} has no "role"')
    role = role.strip().lower()
    role = _OTHER_NAMES.get(role, role)
    if role not in _NAMES:
        known = ", ".join(_NAMES)
        raise ValueError(f'message {number} has the unknown role "{role}", known are {known}')
    return role


def _content(message: Mapping[str, Any], number: int) -> str:
    content = message.get("content")
    if is_messages(content) and all(isinstance(part.get("text"), str) for part in content):
        return "\n\n".join(part["text"] for part in content)
    if content is None and message.get("tool_calls"):
        return json.dumps(message["tool_calls"], ensure_ascii=False)
    if not isinstance(content, str):
        raise ValueError(f'message {number} has no text under "content"')
    return content
