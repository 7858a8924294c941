"""Where a quote can be inside a response, as sets of positions held in integers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence

from text2grad.borders import quote_borders
from text2grad.tasks import TaskSpec

UNWRITABLE = 0xFF  # in no UTF-8 text; stands for what UTF-8 cannot express (lone surrogates)


class Places:
    """The response as the bytes of a JSON string, with the positions at which a quote can be.

    A set of positions is an integer with bit p set for byte p: following a quote byte by byte is
    one `and` and one shift for all its possible places together, and has no hash order.

    Args:
        response: the quoted text.
        task: gives the kind of border and the longest quote.
        writable: bytes that can be written one at a time; a place whose way to the next end needs
            another byte is none.

    Attributes:
        text: the response's characters as `json.dumps(ensure_ascii=False)` writes them.
        starts: where a quote may start, and can still end in time.
        ends: where a quote may end.
        borders: between two characters.
        follow: for each byte, the places that it continues.
        longest_tail: a bound of the length of `shortest_tail`.
    """

    def __init__(self, response: str, task: TaskSpec, writable: frozenset[int]) -> None:
        units = [_escape(char) for char in response]
        offsets = [0]
        for unit in units:
            offsets.append(offsets[-1] + len(unit))
        start_chars, end_chars = quote_borders(response, task.quote_border)
        self.text = b"".join(units)
        self.borders = _bits(offsets)
        self.ends = _bits(offsets[i] for i in end_chars)
        self.follow = self._follow()
        writable = writable - {UNWRITABLE}
        bytes_left, chars_left = self._distances(writable, task.max_quote_chars)
        self._within_bytes = _levels(bytes_left)
        self._within_chars = _levels(chars_left)
        self._max_chars = task.max_quote_chars
        # A place to start may also be one to end, so the first byte of a quote is counted apart.
        quotes = []
        for start in (offsets[i] for i in start_chars):
            left, first_char = chars_left[start + 1], self.borders >> (start + 1) & 1
            reachable = self.text[start] in writable and left is not None
            if reachable and first_char + left <= task.max_quote_chars:
                quotes.append((1 + bytes_left[start + 1], start))
        self.starts = _bits(start for _, start in quotes)
        self._shortest_first = sorted(quotes)
        self.longest_tail = max([len(self._within_bytes), *(length for length, _ in quotes)])

    def can_end(self, chars: int) -> int:
        """Places from which a quote that has `chars` characters can end within its bound."""
        left = self._max_chars - chars
        return self._within_chars[min(left, len(self._within_chars) - 1)] if left >= 0 else 0

    def shortest_from(self, starts: int) -> bytes:
        """The bytes of the shortest quote that starts at one of `starts`."""
        for length, start in self._shortest_first:
            if starts >> start & 1:
                return self.text[start : start + length]
        raise ValueError("no quote starts here")

    def shortest_tail(self, places: int) -> bytes:
        """The fewest bytes that bring a begun quote, which is at one of `places`, to an end."""
        for length, within in enumerate(self._within_bytes):
            if near := places & within:
                first = (near & -near).bit_length() - 1
                return self.text[first : first + length]
        raise ValueError("no way to end the quote from here")

    def continuations(self, places: int) -> list[int]:
        """Bytes that continue a quote which is at one of `places`."""
        return [byte for byte, here in self.follow.items() if places & here]

    def runs(self, places: int, length: int) -> list[bytes]:
        """The text from each of `places`, `length` bytes of it."""
        found = []
        while places:
            lowest = places & -places
            first = lowest.bit_length() - 1
            found.append(self.text[first : first + length])
            places ^= lowest
        return found

    def _follow(self) -> dict[int, int]:
        positions: dict[int, list[int]] = defaultdict(list)
        for position, byte in enumerate(self.text):
            if byte != UNWRITABLE:
                positions[byte].append(position)
        return {byte: _bits(positions[byte]) for byte in sorted(positions)}

    def _distances(
        self, writable: frozenset[int], max_chars: int
    ) -> tuple[list[int | None], list[int | None]]:
        """Bytes and characters from each place to the nearest end, None if it is out of reach."""
        size = len(self.text)
        in_bytes: list[int | None] = [None] * (size + 1)
        in_chars: list[int | None] = [None] * (size + 1)
        left_bytes, left_chars = None, None
        for place in range(size, -1, -1):
            if self.ends >> place & 1:
                left_bytes = left_chars = 0
            elif left_bytes is not None:
                left_bytes += 1
                left_chars += self.borders >> (place + 1) & 1
                if self.text[place] not in writable or left_chars > max_chars:
                    left_bytes = left_chars = None
            in_bytes[place], in_chars[place] = left_bytes, left_chars
        return in_bytes, in_chars


def _escape(char: str) -> bytes:
    if "\ud800" <= char <= "\udfff":
        return bytes([UNWRITABLE])
    return json.dumps(char, ensure_ascii=False)[1:-1].encode()


def _bits(positions: Iterable[int]) -> int:
    positions = list(positions)
    if not positions:
        return 0
    array = bytearray((max(positions) >> 3) + 1)
    for position in positions:
        array[position >> 3] |= 1 << (position & 7)
    return int.from_bytes(array, "little")


def _levels(distances: Sequence[int | None]) -> list[int]:
    """For each distance d, the set of places that are at most d away."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, distance in enumerate(distances):
        if distance is not None:
            places[distance].append(place)
    levels, reached = [], 0
    for distance in range(max(places, default=0) + 1):
        reached |= _bits(places[distance])
        levels.append(reached)
    return levels
