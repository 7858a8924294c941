"""Which bytes may follow in a reply with quotes: the task's JSON, every quote verbatim.

The reply is what `parsing.target_json` writes. A quote accepts only what continues some substring
of the response, between the borders of `text2grad.borders`.
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


class Quote(NamedTuple):
    """Inside a quote."""

    label: int
    quotes: int
    """finished quotes of this list"""
    chars: int
    """whole characters so far"""
    places: int
    """bit p is set if the quote so far ends before byte p of the escaped response"""


class ReplyGrammar(CritiqueGrammar):
    """A critique, then a list of quotes of the response for each label."""

    def __init__(
        self, task: TaskSpec, response: str, writable: Collection[int] = ALL_BYTES
    ) -> None:
        super().__init__(task, response, writable)
        self._places = Places(response, task, self.writable)
        lists = [self._list_of(number) for number in range(1, len(task.labels))]
        self._after_list: list[State] = [*lists, Fixed(b"}", Done())]
        self._advance_in |= {Choice: self._advance_choice, Quote: self._advance_quote}
        self._begin(self._list_of(0), self._places.longest_tail + len(b', ""'))

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
            return b"]", self._after_list[state.label]
        if isinstance(state, Quote):
            tail = self._places.shortest_tail(state.places)
            return tail + b'"', Choice(state.label, state.quotes + 1)
        return super()._way_out(state)

    def _list_of(self, label: int) -> State:
        key = json.dumps(self.task.labels[label].key, ensure_ascii=False)
        return Fixed(f", {key}: [".encode(), Choice(label, 0))

    def _may_quote(self, state: Choice) -> bool:
        return state.quotes < self.task.max_quotes and self._places.starts != 0

    def _has_exit(self, state: State) -> bool:
        if isinstance(state, Quote):
            return state.places != 0
        return super()._has_exit(state)

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
