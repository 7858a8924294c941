"""Which bytes may follow in a reward model's reply: the task's JSON, with verbatim quotes.

The reply is what `parsing.target_json` writes. Inside the critique any JSON string content is
accepted, up to the task's length; inside a quote only what continues some substring of the
response, between the borders of `text2grad.borders`. Every state has a way to the end, and
`shortest_exit` says how long it is, so that a decoder with a budget never runs into a dead end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from text2grad.places import Places
from text2grad.tasks import TaskSpec

QUOTE, COMMA, CLOSE = b'",]'
ALL_BYTES = frozenset(range(256))

MANY_PLACES = 64

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


class Choice(NamedTuple):
    """Inside a list, before its first quote or after one."""

    label: int
    quotes: int


class Quote(NamedTuple):
    """Inside a quote."""

    label: int
    quotes: int
    """finished quotes of this list"""
    chars: int
    """whole characters so far"""
    places: int
    """bit p is set if the quote so far ends before byte p of the escaped response"""


@dataclass(frozen=True)
class Done:
    """The reply is complete."""


State = Fixed | Critique | Choice | Quote | Done
Step = tuple[State, bytes]


class ReplyGrammar:
    """The automaton of one reply. States are immutable and hashable.

    Args:
        task: keys, labels, bounds and borders.
        response: the text that is judged; quotes are substrings of it.
        writable: bytes that a decoder can write one at a time. The way out of a state uses no
            other, so what only another byte could finish is never begun.

    Attributes:
        initial: the state before the first byte.
        longest_exit: a bound of `shortest_exit` over all states.
    """

    def __init__(
        self, task: TaskSpec, response: str, writable: Collection[int] = ALL_BYTES
    ) -> None:
        self.task, self.response = task, response
        self.writable = frozenset(writable)
        self._places = Places(response, task, self.writable)
        lists = [self._list_of(number) for number in range(1, len(task.labels))]
        self._after_list: list[State] = [*lists, Fixed(b"}", Done())]
        self._after_critique = self._list_of(0)
        key = json.dumps(task.critique_keys[0], ensure_ascii=False)
        self.initial: State = Fixed(f'{{{key}: "'.encode(), Critique(b"", 0, False))
        longest_tail = max(len(TAILS[-1]), self._places.longest_tail)
        self.longest_exit = self.shortest_exit(self.initial) + longest_tail + len(b', ""')
        self._advance_in = {
            Fixed: self._advance_literal,
            Critique: self._advance_critique,
            Choice: self._advance_choice,
            Quote: self._advance_quote,
            Done: lambda state, data: None,
        }

    def restricted(self, writable: frozenset[int]) -> ReplyGrammar:
        """This grammar for a decoder that can only write these single bytes."""
        if self.writable <= writable:
            return self
        return ReplyGrammar(self.task, self.response, writable & self.writable)

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
        """The rest of a literal; b"" inside critiques and quotes and where a list may go on."""
        return state.rest if isinstance(state, Fixed) else b""

    def next_bytes(self, state: State) -> bytes:
        """Bytes that can come next; every other byte is an error here."""
        if isinstance(state, Fixed):
            return state.rest[:1]
        if isinstance(state, Critique):
            full = state.chars >= self.task.max_critique_chars and not state.partial
            return b'"' if full else _following(state.partial)
        if isinstance(state, Choice):
            more = QUOTE if state.quotes == 0 else COMMA
            return bytes([CLOSE, more] if self._may_quote(state) else [CLOSE])
        if isinstance(state, Quote):
            return bytes([QUOTE, *self._places.continuations(state.places)])
        return b""

    def runs(self, state: State, length: int) -> list[bytes] | None:
        """What can follow inside a quote, as far as it stays inside: the text at its places.

        Returns:
            Up to `length` bytes for each place; None in other states, and where the quote could
            still be in more places than are worth listing.
        """
        if not isinstance(state, Quote) or state.places.bit_count() > MANY_PLACES:
            return None
        return self._places.runs(state.places, length)

    def must_close(self, state: State, left: int, cost: Callable[[bytes], int]) -> bool:
        """Whether only a token with a quote mark in it leaves a way to the end.

        So it is in a critique that is whole, when the `left` tokens are just enough to finish.
        """
        whole = isinstance(state, Critique) and state.solid and not state.partial
        return whole and self.shortest_exit(state, cost) == left

    def exit_path(self, state: State) -> bytes:
        """A shortest continuation that completes the reply."""
        path = b""
        while not self.closed(state):
            run, state = self._way_out(state)
            path += run
        return path

    def shortest_exit(self, state: State, cost: Callable[[bytes], int] = len) -> int:
        """How many tokens are sure to complete the reply, if every single byte is a token.

        Args:
            state: any state of this grammar.
            cost: tokens that a literal takes; without it one for each byte.
        """
        total = 0
        while not self.closed(state):
            is_literal = isinstance(state, Fixed)
            run, state = self._way_out(state)
            total += cost(run) if is_literal else len(run)
        return total

    def _way_out(self, state: State) -> tuple[bytes, State]:
        if isinstance(state, Fixed):
            return state
        if isinstance(state, Critique):
            tail = b"" if state.solid else b"."
            tail = completion(state.partial) if state.partial else tail
            return tail + b'"', self._after_critique
        if isinstance(state, Choice):
            return b"]", self._after_list[state.label]
        tail = self._places.shortest_tail(state.places)
        return tail + b'"', Choice(state.label, state.quotes + 1)

    def _list_of(self, label: int) -> State:
        key = json.dumps(self.task.labels[label].key, ensure_ascii=False)
        return Fixed(f", {key}: [".encode(), Choice(label, 0))

    def _may_quote(self, state: Choice) -> bool:
        return state.quotes < self.task.max_quotes and self._places.starts != 0

    def _has_exit(self, state: State) -> bool:
        if isinstance(state, Critique):
            if state.partial and not self.writable.issuperset(completion(state.partial) or b""):
                return False
            needed = 1 if state.partial or not state.solid else 0
            return state.chars + needed <= self.task.max_critique_chars
        if isinstance(state, Quote):
            return state.places != 0
        return True

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

    def _advance_choice(self, state: Choice, data: bytes) -> Step | None:
        if data[0] == CLOSE:
            return self._after_list[state.label], data[1:]
        quote = Quote(state.label, state.quotes, 0, self._places.starts)
        if data[0] == (QUOTE if state.quotes == 0 else COMMA) and self._may_quote(state):
            return (quote if state.quotes == 0 else Fixed(b' "', quote)), data[1:]
        return None

    def _advance_quote(self, state: Quote, data: bytes) -> Step | None:
        label, quotes, chars, now = state
        places = self._places
        follow, borders = places.follow, places.borders
        for number, byte in enumerate(data):
            # A quote mark at a character border ends the string; inside an escape it does not.
            if byte == QUOTE and now & borders:
                if not now & places.ends or not chars or chars > self.task.max_quote_chars:
                    return None
                return Choice(label, quotes + 1), data[number + 1 :]
            now = (now & follow.get(byte, 0)) << 1
            if not now:
                return None
            if now & borders:
                chars += 1
        return Quote(label, quotes, chars, now & places.can_end(chars)), b""


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
