"""Which bytes may follow in a reply with quotes: the task's JSON, every quote verbatim.

The reply is what `parsing.target_json` writes. A quote accepts only what continues some substring
of the response, between the borders of `text2grad.borders`. No quote starts where another one does,
nor inside another one of its list: the same words twice, or good and poor at once, say nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import NamedTuple

from text2grad.critique_grammar import ALL_BYTES, CritiqueGrammar, Done, Fixed, State, Step
from text2grad.places import Places
from text2grad.tasks import TaskSpec

QUOTE, COMMA, CLOSE = b'",]'

MANY_PLACES = 64


class Choice(NamedTuple):
    """Inside a list, before its first quote or after one."""

    label: int
    quotes: int
    free: int
    """where the next quote of this list may start"""
    taken: int
    """where the quotes of all lists start"""


class Quote(NamedTuple):
    """Inside a quote."""

    inside: Choice
    """the list as it was when the quote began"""
    chars: int
    """whole characters so far"""
    length: int
    """bytes so far"""
    places: int
    """bit p is set if the quote so far ends before byte p of the escaped response"""


class ReplyGrammar(CritiqueGrammar):
    """A critique, then a list of quotes of the response for each label."""

    def __init__(
        self, task: TaskSpec, response: str, writable: Collection[int] = ALL_BYTES
    ) -> None:
        super().__init__(task, response, writable)
        self._places = Places(response, task, self.writable)
        self._advance_in |= {Choice: self._advance_choice, Quote: self._advance_quote}
        self._begin(self._list_of(0, 0), self._places.longest_tail + len(b', ""'))

    def next_bytes(self, state: State) -> bytes:
        """Bytes that can come next; every other byte is an error here."""
        if isinstance(state, Choice):
            more = QUOTE if state.quotes == 0 else COMMA
            return bytes([CLOSE, more] if self._may_quote(state) else [CLOSE])
        if isinstance(state, Quote):
            return bytes([QUOTE, *self._places.continuations(state.places)])
        return super().next_bytes(state)

    def runs(self, state: State, length: int) -> list[bytes] | None:
        """What can follow inside a quote, as far as it stays inside: the text at its places.

        Returns:
            Up to `length` bytes for each place; None in other states, and where the quote could
            still be in more places than are worth listing.
        """
        if not isinstance(state, Quote) or state.places.bit_count() > MANY_PLACES:
            return None
        return self._places.runs(state.places, length)

    def _way_out(self, state: State) -> tuple[bytes, State]:
        if isinstance(state, Choice):
            return b"]", self._after_list(state)
        if isinstance(state, Quote):
            find = self._places.shortest_tail if state.length else self._places.shortest_from
            tail = find(state.places)
            # which of the shortest ways it goes makes no difference to what may come next
            return tail + b'"', self._advance_quote(state, tail + b'"')[0]
        return super()._way_out(state)

    def _list_of(self, label: int, taken: int) -> State:
        key = json.dumps(self.task.labels[label].key, ensure_ascii=False)
        free = self._places.starts & ~taken
        return Fixed(f", {key}: [".encode(), Choice(label, 0, free, taken))

    def _after_list(self, state: Choice) -> State:
        if state.label + 1 < len(self.task.labels):
            return self._list_of(state.label + 1, state.taken)
        return Fixed(b"}", Done())

    def _may_quote(self, state: Choice) -> bool:
        return state.quotes < self.task.max_quotes and state.free != 0

    def _has_exit(self, state: State) -> bool:
        if isinstance(state, Quote):
            return state.places != 0
        return super()._has_exit(state)

    def _advance_choice(self, state: Choice, data: bytes) -> Step | None:
        if data[0] == CLOSE:
            return self._after_list(state), data[1:]
        quote = Quote(state, 0, 0, state.free)
        if data[0] == (QUOTE if state.quotes == 0 else COMMA) and self._may_quote(state):
            return (quote if state.quotes == 0 else Fixed(b' "', quote)), data[1:]
        return None

    def _advance_quote(self, state: Quote, data: bytes) -> Step | None:
        inside, chars, length, now = state
        places = self._places
        follow, borders = places.follow, places.borders
        for number, byte in enumerate(data):
            # A quote mark at a character border ends the string; inside an escape it does not.
            if byte == QUOTE and now & borders:
                if not now & places.ends or not chars or chars > self.task.max_quote_chars:
                    return None
                return self._after_quote(inside, now & places.ends, length), data[number + 1 :]
            now = (now & follow.get(byte, 0)) << 1
            if not now:
                return None
            if now & borders:
                chars += 1
            length += 1
        return Quote(inside, chars, length, now & places.can_end(chars)), b""

    def _after_quote(self, inside: Choice, ends: int, length: int) -> Choice:
        """The list behind a quote of `length` bytes that ends at one of `ends`."""
        first = self.task.labels[inside.label].copy == "first"
        end = (ends & -ends if first else ends).bit_length() - 1
        start = end - length
        free = inside.free & ~((1 << end) - (1 << start))
        return Choice(inside.label, inside.quotes + 1, free, inside.taken | 1 << start)
