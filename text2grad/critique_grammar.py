"""What every reply of a reward model has: literals, and a critique that comes first.

A grammar says which bytes may follow. Inside the critique any JSON string content is accepted, up
to the task's length; what comes after it is a subclass's own. Every state has a way to the end,
and `shortest_exit` says how long it is, so that a decoder with a budget never runs into a dead
end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from text2grad.tasks import TaskSpec

ALL_BYTES = frozenset(range(256))

# One character of a JSON string: plain, escaped, or two escapes that make a surrogate pair.
_UNIT = (
    rb"[\x20\x21\x23-\x5b\x5d-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]"
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}"
    rb"|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}"
    rb'|\\["\\/bfnrt]|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}'
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
UNIT = re.compile(_UNIT)
UNITS = re.compile(rb"(?:" + _UNIT + rb")*")
# Ends that between them complete any cut character, shortest first.
_PAIR = b"ee\\udeee"
TAILS = sorted(
    [b'"', b"e", b"0", b"ee", b"000", b"eee", b"eeee"]
    + [b"\xbf", b"\xbf\xbf", b"\x9f\xbf", b"\x8f\xbf\xbf", b"\xbf\xbf\xbf"]
    + [_PAIR[i:] for i in range(len(_PAIR))],
    key=len,
)


State = Hashable
"""`Fixed`, `Critique`, `Done`, or a state of a subclass."""

Step = tuple[State, bytes]
"""A state, and the bytes that are still to be taken from there."""


class Fixed(NamedTuple):
    """Inside text that has only one continuation."""

    rest: bytes
    after: State


class Critique(NamedTuple):
    """Inside the critique."""

    partial: bytes
    """bytes of a character or an escape that is not whole yet"""
    chars: int
    """whole characters so far"""
    solid: bool
    """whether one of them is no space"""


@dataclass(frozen=True)
class Done:
    """The reply is complete."""


class CritiqueGrammar:
    """The automaton of one reply. States are immutable and hashable.

    A subclass calls `_begin` with the state after the critique's closing quote mark, and adds its
    own states to `_advance_in`, `next_bytes`, `_way_out` and, where they need it, `_has_exit`.

    Args:
        task: keys, labels and bounds.
        response: the text that is judged.
        writable: bytes that a decoder can write one at a time. The way out of a state uses no
            other, so what only another byte could finish is never begun.

    Attributes:
        initial: the state before the first byte.
        longest_exit: a bound of `shortest_exit` over all states.
    """

    initial: State
    longest_exit: int

    def __init__(
        self, task: TaskSpec, response: str, writable: Collection[int] = ALL_BYTES
    ) -> None:
        self.task, self.response = task, response
        self.writable = frozenset(writable)
        self._after_critique: State = Done()
        self._exits: dict[Callable[[bytes], int], dict[State, int]] = {}
        self._advance_in: dict[type, Callable[[Any, bytes], Step | None]] = {
            Fixed: self._advance_literal,
            Critique: self._advance_critique,
            Done: lambda state, data: None,
        }

    def _begin(self, after_critique: State, longest_tail: int) -> None:
        """Set what depends on the subclass.

        Args:
            after_critique: the state that the critique's closing quote mark leads to.
            longest_tail: bytes that a state may be further from the end than the states of the
                shortest reply.
        """
        self._after_critique = after_critique
        key = json.dumps(self.task.critique_keys[0], ensure_ascii=False)
        self.initial = Fixed(f'{{{key}: "'.encode(), Critique(b"", 0, False))
        self.longest_exit = self.shortest_exit(self.initial) + max(len(TAILS[-1]), longest_tail)

    def restricted(self, writable: frozenset[int]) -> CritiqueGrammar:
        """This grammar for a decoder that can only write these single bytes."""
        if self.writable <= writable:
            return self
        return type(self)(self.task, self.response, writable & self.writable)

    def advance(self, state: State, data: bytes) -> State | None:
        """The state after `data`, or None if that cannot become a reply."""
        while data:
            step = self._advance_in[type(state)](state, data)
            if step is None:
                return None
            state, data = step
        return state if self._has_exit(state) else None

    def closed(self, state: State) -> bool:
        """Whether the reply is complete."""
        return isinstance(state, Done)

    def forced(self, state: State) -> bytes:
        """The rest of a literal; b"" wherever there is a choice."""
        return state.rest if isinstance(state, Fixed) else b""

    def next_bytes(self, state: State) -> bytes:
        """Bytes that can come next; every other byte is an error here."""
        if isinstance(state, Fixed):
            return state.rest[:1]
        if isinstance(state, Critique):
            full = state.chars >= self.task.max_critique_chars and not state.partial
            return b'"' if full else _following(state.partial)
        return b""

    def runs(self, state: State, length: int) -> list[bytes] | None:
        """What can follow, where that is a short list of texts of up to `length` bytes.

        A token may also close the string that they are in. None in other states.
        """
        return None

    def must_close(self, state: State, left: int, cost: Callable[[bytes], int]) -> bool:
        """Whether only a token with a quote mark in it leaves a way to the end.

        So it is in a critique that is whole, when the `left` tokens are just enough to finish.
        """
        whole = isinstance(state, Critique) and state.solid and not state.partial
        return whole and self.shortest_exit(state, cost) == left

    def exit_path(self, state: State) -> bytes:
        """A shortest continuation that completes the reply."""
        path = []
        while not self.closed(state):
            run, state = self._way_out(state)
            path.append(run)
        return b"".join(path)

    def shortest_exit(self, state: State, cost: Callable[[bytes], int] = len) -> int:
        """How many tokens are sure to complete the reply, if every single byte is a token.

        Args:
            state: any state of this grammar.
            cost: tokens that a literal takes; without it one for each byte.
        """
        known = self._exits.setdefault(cost, {})
        total, literals = 0, []
        while state not in known and not self.closed(state):
            is_literal = isinstance(state, Fixed)
            if is_literal:
                literals.append((state, total))
            run, state = self._way_out(state)
            total += cost(run) if is_literal else len(run)
        total += known.get(state, 0)
        known |= {literal: total - before for literal, before in literals}
        return total

    def _way_out(self, state: State) -> tuple[bytes, State]:
        """The next bytes of a shortest continuation, and the state after them."""
        if isinstance(state, Fixed):
            return state
        tail = b"" if state.solid else b"."
        tail = completion(state.partial) if state.partial else tail
        return tail + b'"', self._after_critique

    def _has_exit(self, state: State) -> bool:
        if not isinstance(state, Critique):
            return True
        if state.partial and not self.writable.issuperset(completion(state.partial) or b""):
            return False
        needed = 1 if state.partial or not state.solid else 0
        return state.chars + needed <= self.task.max_critique_chars

    def _advance_literal(self, state: Fixed, data: bytes) -> Step | None:
        length = min(len(data), len(state.rest))
        if data[:length] != state.rest[:length]:
            return None
        if length < len(state.rest):
            return Fixed(state.rest[length:], state.after), b""
        return state.after, data[length:]

    def _advance_critique(self, state: Critique, data: bytes) -> Step | None:
        data = state.partial + data
        end = UNITS.match(data).end()
        whole, rest = data[:end], data[end:]
        chars, solid = state.chars, state.solid
        if whole:
            text = whole if whole.isascii() and b"\\" not in whole else _text(whole)
            chars, solid = chars + len(text), solid or not text.isspace()
        if rest[:1] == b'"':
            if not solid or chars > self.task.max_critique_chars:
                return None
            return self._after_critique, rest[1:]
        if rest and completion(rest) is None:
            return None
        return Critique(rest, chars, solid), b""


@lru_cache(maxsize=4096)
def completion(partial: bytes) -> bytes | None:
    """The fewest bytes that make `partial` one whole character, not a space; None if none can."""
    for tail in TAILS:
        if UNIT.fullmatch(partial + tail) and not _text(partial + tail).isspace():
            return tail
    return None


@lru_cache(maxsize=4096)
def _following(partial: bytes) -> bytes:
    """Bytes that may come after `partial` inside the critique."""
    if not partial:
        return bytes(range(0x20, 0x100))
    longer = (partial + bytes([byte]) for byte in range(256))
    return bytes(data[-1] for data in longer if UNIT.fullmatch(data) or completion(data))


def _text(units: bytes) -> str:
    return json.loads(b'"' + units + b'"')
