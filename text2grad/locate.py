"""From a quoted phrase to its place in the response: exact, else normalised, else fuzzy, else none.

No pattern is ever built from a quote and no end is ever guessed: what is not found by one of the
three stages stays unmatched, earns nothing and is counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice

from text2grad.borders import UNSPACED, quote_borders
from text2grad.code_blocks import mask_outside
from text2grad.folding import Folded, fold
from text2grad.schema import Match, Span
from text2grad.tasks.spec import TaskSpec

Place = tuple[int, int]
"""Half-open interval of characters of the response."""

MIN_FUZZY_CHARS = 10
"""shorter quotes resemble too much to be looked for fuzzily"""
MAX_EDIT_SHARE = 0.15
"""accepted edits per character of the quote; the best place for a foreign quote needs 0.4 or so"""
MIN_MARGIN_EDITS = 2
"""how many more edits the second-best place must need"""
MAX_GAP_SHARE = 0.5
"""accepted length of the words left out of a quote, per character of the quote"""
MAX_HEADS = 200
"""a beginning of a quote that stands at more places of the response is not followed up"""


def cuts_word(text: str, position: int) -> bool:
    """Whether a border at `position` lies inside a word of a script that puts spaces between."""
    inside = 0 < position < len(text)
    return inside and _in_word(text[position - 1]) and _in_word(text[position])


def find_copies(phrase: str, text: str) -> list[Place]:
    """Every place at which `phrase` stands in `text`, in order.

    Places that cut a word of the text ("cat" in "concatenate") count only if there are no others.
    """
    places = [(start, start + len(phrase)) for start in _occurrences(phrase, text)]
    if len(places) < 2:
        return places
    whole = [p for p in places if not (cuts_word(text, p[0]) or cuts_word(text, p[1]))]
    return whole or places


def substring_distances(pattern: str, text: str) -> list[int]:
    """Edits that turn `pattern` into the substring of `text` that suits it best, by where it ends.

    Returns:
        len(text) + 1 numbers; number j is the smallest Levenshtein distance between the pattern
        and any substring of `text` that ends before character j.

    Source: G. Myers, "A fast bit-vector algorithm for approximate string matching" (1999), as
    restated by H. Hyyrö (2001). One Python integer holds a column of the distance table, so the
    cost is len(text) steps on integers of len(pattern) bits.

    Example: pattern "cat", text "a cut" -> [3, 2, 2, 2, 2, 1]
    """
    masks: dict[str, int] = {}
    for index, character in enumerate(pattern):
        masks[character] = masks.get(character, 0) | 1 << index
    full = (1 << len(pattern)) - 1
    last = 1 << (len(pattern) - 1)
    plus, minus, distance = full, 0, len(pattern)
    distances = [distance]
    for character in text:
        equal = masks.get(character, 0)
        vertical = equal | minus
        horizontal = (((equal & plus) + plus) ^ plus) | equal
        up = minus | (~(horizontal | plus) & full)
        down = plus & horizontal
        if up & last:
            distance += 1
        elif down & last:
            distance -= 1
        up, down = up << 1, down << 1
        plus = (down | ~(vertical | up)) & full
        minus = up & vertical & full
        distances.append(distance)
    return distances


def find_with_gap(phrase: str, text: str) -> Place | None:
    """The one place of `text` that is `phrase` with a word or a few left out of it, or None.

    Both are folded. The rest of the quote must stand there as it is, on both sides of the gap;
    None if there are two such places.

    Example: "moved to city" in "he moved to the city" -> (3, 20)
    """
    found: list[Place] = []
    longest = int(MAX_GAP_SHARE * len(phrase))
    border = phrase.find(" ")
    while border >= 0 and len(phrase) >= MIN_FUZZY_CHARS:
        tail = phrase[border:]
        heads = list(islice(_occurrences(phrase[:border], text), MAX_HEADS + 1))
        for start in heads if len(heads) <= MAX_HEADS else ():
            gap = start + border
            at = text.find(tail, gap + 1, gap + longest + len(tail))
            end = at + len(tail)
            if at >= 0 and not any(cuts_word(text, edge) for edge in (start, gap, end)):
                found.append((start, end))
        border = phrase.find(" ", border + 1)
    best = min(found, key=lambda place: place[1] - place[0], default=None)
    if best and all(start < best[1] and best[0] < end for start, end in found):
        return best
    return None


def find_similar(phrase: str, text: str) -> Place | None:
    """The one place of `text` that differs from `phrase` by a few edits, or None.

    Both are folded. The place must be within `MAX_EDIT_SHARE`, and every place that does not
    overlap it at least `MIN_MARGIN_EDITS` further from the phrase.

    Example: "moved to teh city" in "he moved to the city" -> (3, 20)
    """
    if len(phrase) < MIN_FUZZY_CHARS or not text:
        return None
    by_end = substring_distances(phrase, text)
    edits = min(by_end)
    if edits > MAX_EDIT_SHARE * len(phrase):
        return None
    end = _whole_word(text, [at for at, value in enumerate(by_end) if value == edits])
    head = text[max(0, end - len(phrase) - edits) : end]
    by_start = substring_distances(phrase[::-1], head[::-1])
    start = _whole_word(text, [end - n for n, value in enumerate(by_start) if value == edits])
    runner_up = min(*by_end[: start + 1], *substring_distances(phrase, text[end:]))
    if runner_up < edits + MIN_MARGIN_EDITS:
        return None
    return start + (text[start] == " "), end - (text[end - 1] == " ")


def locate_spans(spans: Sequence[Span], response: str, task: TaskSpec) -> tuple[Span, ...]:
    """Give every span its place in the response, in the order given.

    A quote that stands in several places takes the first (or last, by `Label.copy`) that no span
    of its label has taken; if all are taken it falls on one of them, which scores nothing twice.
    Quotes with one place are placed before the ambiguous ones. A span that comes with offsets
    keeps them if the text there agrees with the quote, and is looked for anew if not. Where the
    task judges code, only the response's code is searched, and of several copies those count that
    cut no operator, name or indentation, if there are any.

    Returns:
        The spans with `start`, `end`, `match` and `copies`; unmatched ones have no offsets.
    """
    text = _Response(response, task)
    copy = {label.name: label.copy for label in task.labels}
    found = [text.find(span) for span in spans]
    taken: dict[str, _Taken] = {label: _Taken() for label in copy}
    located = list(spans)
    for index in sorted(range(len(spans)), key=lambda i: len(found[i][1]) > 1):
        span, (match, places) = spans[index], found[index]
        if not places:
            located[index] = replace(span, start=None, end=None, match="unmatched", copies=1)
            continue
        start, end = taken[span.label].choose(places, copy[span.label])
        copies = span.copies if places == [(span.start, span.end)] else len(places)
        located[index] = replace(span, start=start, end=end, match=match, copies=copies)
    return tuple(located)


class _Response:
    """A response, folded once for all its quotes and only if one of them needs it."""

    def __init__(self, text: str, task: TaskSpec) -> None:
        self.text, self.border = mask_outside(text, task.scope), task.quote_border

    @cached_property
    def borders(self) -> tuple[frozenset[int], frozenset[int]]:
        starts, ends = quote_borders(self.text, self.border)
        return frozenset(starts), frozenset(ends)

    @cached_property
    def folded(self) -> Folded:
        return fold(self.text)

    def find(self, span: Span) -> tuple[Match, list[Place]]:
        """Every place of the first stage that finds the quote at all."""
        given = self._given(span)
        if given:
            return given
        if not span.text.strip():
            return "unmatched", []
        if places := find_copies(span.text, self.text):
            return "exact", self._uncut(places)
        phrase = fold(span.text).text.strip()
        if places := find_copies(phrase, self.folded.text):
            return "normalised", [self.folded.original(place) for place in places]
        text = self.folded.text
        if place := find_with_gap(phrase, text) or find_similar(phrase, text):
            return "fuzzy", [self.folded.original(place)]
        return "unmatched", []

    def _uncut(self, places: list[Place]) -> list[Place]:
        """Of several copies in code, those that start and end where a quote may, if any do."""
        if len(places) < 2 or self.border == "word":
            return places
        starts, ends = self.borders
        return [place for place in places if place[0] in starts and place[1] in ends] or places

    def _given(self, span: Span) -> tuple[Match, list[Place]] | None:
        if span.start is None or span.end is None:
            return None
        there = self.text[span.start : span.end]
        if there == span.text and there:
            return "exact", [(span.start, span.end)]
        if there and fold(there).text.strip() == fold(span.text).text.strip() != "":
            return "normalised", [(span.start, span.end)]
        return None


class _Taken:
    """The places that spans of one label have taken."""

    def __init__(self) -> None:
        self.places: list[Place] = []

    def choose(self, places: Sequence[Place], copy: str) -> Place:
        """Take the first or last free place, or the first or last of all if none is free."""
        ordered = places if copy == "first" else places[::-1]
        chosen = next((place for place in ordered if self._is_free(place)), ordered[0])
        self.places.insert(bisect_left(self.places, chosen), chosen)
        return chosen

    def _is_free(self, place: Place) -> bool:
        return all(place[1] <= start or end <= place[0] for start, end in self.places)


def _occurrences(phrase: str, text: str) -> Iterator[int]:
    start = text.find(phrase) if phrase else -1
    while start >= 0:
        yield start
        start = text.find(phrase, start + 1)


def _whole_word(text: str, borders: Sequence[int]) -> int:
    return next((border for border in borders if not cuts_word(text, border)), borders[0])


def _in_word(character: str) -> bool:
    return (character.isalnum() or character == "_") and not UNSPACED.match(character)
