"""From located phrases to one score per sampled token.

A token is the bytes of its id, never a re-encoding of text: the response *is* those bytes, joined
and decoded once, so tokens tile it by construction whatever the ids are. SentencePiece writes the
space before a word into the piece, so a response may start with a space; it stays, as it was
sampled. `locate_spans` finds phrases in that text (see `text2grad.locate`).
"""

from __future__ import annotations

import codecs
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, Literal

from text2grad.locate import locate_spans
from text2grad.schema import MATCHES, Span
from text2grad.tasks.spec import TaskSpec

__all__ = [
    "TokenBytes",
    "byte_pieces",
    "locate_spans",
    "match_statistics",
    "response_text",
    "score_tokens",
    "token_offsets",
]

TokenKind = Literal["byte_level", "byte_fallback", "incremental"]

_PROBE = 'A probe: "naïve" x_1 = [2];\n\t日本語 🙂 end'
_BROKEN = "\ufffd"


def _byte_characters() -> dict[str, int]:
    """The character by which byte-level vocabularies write each byte, as GPT-2 chose them.

    Printable Latin-1 stands for itself; the other 68 bytes, in order, for U+0100 onwards.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    rest = [byte for byte in range(256) if byte not in printable]
    stand_ins = {chr(0x100 + index): byte for index, byte in enumerate(rest)}
    return {chr(byte): byte for byte in printable} | stand_ins


_BYTE_OF = _byte_characters()
_FALLBACK_BYTE = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}


class TokenBytes:
    """The bytes that each id of a tokenizer contributes to the text; build once, use often.

    Special tokens (and ids the tokenizer does not know) contribute b"", other added tokens their
    own text.

    Attributes:
        kind: "byte_level" (GPT-2, Llama 3, Qwen, SmolLM2: each character of a piece is a byte),
            "byte_fallback" (SentencePiece: "▁" is a space, <0xXX> a byte), or "incremental", the
            last resort: whatever the tokenizer's own decoder adds with each further id.
    """

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder
        self._tokenizer = tokenizer
        self._special = {int(i) for i in tokenizer.all_special_ids}
        self._special |= {int(i) for i, token in added.items() if token.special}
        vocabulary = tokenizer.get_vocab()
        self.kind: TokenKind = _kind_of(vocabulary)
        self._table: list[bytes] = []
        if self.kind == "incremental":
            return
        self._table = [b""] * (1 + max(vocabulary.values()))
        for piece, index in vocabulary.items():
            if index not in self._special:
                self._table[index] = _piece_bytes(piece, self.kind, index in added)
        if not self._agrees_with_decoder():
            self.kind = "incremental"

    def pieces(self, ids: Sequence[int]) -> list[bytes]:
        """Bytes of each id, one entry per id, in order."""
        if self.kind == "incremental":
            return self._decode_incrementally(ids)
        known = range(len(self._table))
        return [self._table[i] if i in known else b"" for i in map(int, ids)]

    def _agrees_with_decoder(self) -> bool:
        ids = self._tokenizer.encode(_PROBE, add_special_tokens=False)
        return response_text(self.pieces(ids)).strip() == self._decode(ids).strip()

    def _decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _decode_incrementally(self, ids: Sequence[int]) -> list[bytes]:
        # Each new text is compared with that of the few ids before it, never with the whole: a
        # decoder may treat the first id apart, and the cost stays linear. Ids that leave a
        # character unfinished wait, and get its bytes when it is finished.
        pieces = [b""] * len(ids)
        shown = [index for index, i in enumerate(ids) if int(i) not in self._special]
        first, done = 0, 0
        for now in range(1, len(shown) + 1):
            before = self._decode([int(ids[k]) for k in shown[first:done]])
            text = self._decode([int(ids[k]) for k in shown[first:now]])
            if text.endswith(_BROKEN) and now < len(shown) and now - done < 4:
                continue
            waiting = shown[done:now]
            _share_out(text[len(before) :].encode("utf-8", "replace"), waiting, pieces)
            first, done = done, now
        return pieces


def byte_pieces(tokenizer: Any, ids: Sequence[int]) -> list[bytes]:
    """Bytes of each sampled id; the table of the tokenizer is built once and kept."""
    return _token_bytes(tokenizer, len(tokenizer)).pieces(ids)


def response_text(pieces: Sequence[bytes]) -> str:
    """The text of a response: by definition the bytes of its tokens, joined and decoded once."""
    return b"".join(pieces).decode("utf-8", errors="replace")


def token_offsets(pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    r"""Interval of `response_text(pieces)` that each token stands for, in characters.

    Each interval starts where the one before ends, or one character earlier where the two tokens
    split a character between them: then both include it. A token without bytes gets an empty
    interval.

    Example: [b"a", b" \xc3", b"\xa9"] -> [(0, 1), (1, 3), (2, 3)], the text being "a é"
    """
    return _offsets(pieces, _decode(b"".join(pieces))[1])


def score_tokens(pieces: Sequence[bytes], spans: Sequence[Span], task: TaskSpec) -> list[float]:
    """One score per token.

    A token takes a label's score if at least half of its bytes that are not white space lie in
    spans of that label; the lowest score wins where several do, and `task.unmarked_score` is left
    where none does. Tokens that split a character between them are judged as one. White space
    alone, special tokens among it, scores 0; spans without offsets give nothing.

    Args:
        pieces: bytes of each token.
        spans: located in `response_text(pieces)`.
        task: the labels' scores.

    Returns:
        len(pieces) scores.

    Example: pieces [b"ab", b"cdef", b" "], "abcd" good (1) and "a" poor (-1) -> [-1, 1, 0]
    """
    text, begins = _decode(b"".join(pieces))
    weights = [
        0 if character.isspace() else end - begin
        for character, begin, end in zip(text, begins, begins[1:], strict=False)
    ]
    total = [0, *accumulate(weights)]
    inside = []
    for label in sorted(task.labels, key=lambda label: label.score):
        covered = [0] * len(text)
        for span in spans:
            if span.label == label.name and span.start is not None and span.end is not None:
                covered[span.start : span.end] = weights[span.start : span.end]
        inside.append((label.score, [0, *accumulate(covered)]))

    def score_of(start: int, end: int) -> float:
        size = total[end] - total[start]
        for score, covered in inside:
            if 2 * (covered[end] - covered[start]) >= size:
                return score
        return task.unmarked_score

    offsets = _offsets(pieces, begins)
    scores: list[float] = []
    for start, end, members in _join_split(offsets):
        score = score_of(start, end)
        scores += [score if total[b] > total[a] else 0.0 for a, b in offsets[members]]
    return scores


def match_statistics(
    located: Sequence[Sequence[Span]], responses: Sequence[str]
) -> dict[str, float | int | dict[str, int]]:
    """How the quotes of several responses were found.

    Args:
        located: spans of each response, from `locate_spans`.
        responses: the texts they were located in.

    Returns:
        Counts "n_responses", "n_spans", "exact", "normalised", "fuzzy", "unmatched", "ambiguous"
        (matched, with several copies) and "without_spans" (responses); "labels", spans by label;
        the shares "unmatched_rate" and "ambiguous_rate" of the spans; and "coverage", the share
        of the characters, white space aside, that lie in a span. Shares of nothing are 0.
    """
    spans = [span for group in located for span in group]
    matches = Counter(span.match or "unmatched" for span in spans)
    ambiguous = sum(span.copies > 1 for span in spans)
    marked, total = 0, 0
    for group, response in zip(located, responses, strict=True):
        inside = bytearray(len(response))
        for span in group:
            if span.start is not None and span.end is not None:
                inside[span.start : span.end] = b"\1" * (span.end - span.start)
        visible = [flag for flag, char in zip(inside, response, strict=True) if not char.isspace()]
        marked, total = marked + sum(visible), total + len(visible)
    return {
        "n_responses": len(responses),
        "n_spans": len(spans),
        **{kind: matches[kind] for kind in MATCHES},
        "ambiguous": ambiguous,
        "without_spans": sum(not group for group in located),
        "labels": dict(Counter(span.label for span in spans)),
        "unmatched_rate": matches["unmatched"] / len(spans) if spans else 0.0,
        "ambiguous_rate": ambiguous / len(spans) if spans else 0.0,
        "coverage": marked / total if total else 0.0,
    }


@lru_cache(maxsize=8)
def _token_bytes(tokenizer: Any, size: int) -> TokenBytes:
    # `size` is part of the key: a tokenizer that has got more tokens needs a new table.
    return TokenBytes(tokenizer)


def _kind_of(vocabulary: dict[str, int]) -> TokenKind:
    if all(piece in vocabulary for piece in _FALLBACK_BYTE):
        return "byte_fallback"
    # Not every byte need be a token: SmolLM2 lacks those that no valid text of its corpus had.
    if sum(character in vocabulary for character in _BYTE_OF) > len(_BYTE_OF) // 2:
        return "byte_level"
    return "incremental"


def _piece_bytes(piece: str, kind: TokenKind, added: bool) -> bytes:
    if kind == "byte_fallback":
        return _FALLBACK_BYTE.get(piece) or piece.replace("▁", " ").encode("utf-8", "replace")
    if added or any(character not in _BYTE_OF for character in piece):
        return piece.encode("utf-8", "replace")
    return bytes(_BYTE_OF[character] for character in piece)


def _share_out(data: bytes, owners: Sequence[int], pieces: list[bytes]) -> None:
    """Give each owner but the last one byte, as far as there are bytes, and the last the rest."""
    early = min(len(owners) - 1, max(0, len(data) - 1))
    for number in range(early):
        pieces[owners[number]] = data[number : number + 1]
    pieces[owners[-1]] = data[early:]


def _mark_broken(error: UnicodeError) -> tuple[str, int]:
    # A low surrogate cannot come out of UTF-8, so it can carry the number of bytes it replaces.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return chr(0xDC00 + error.end - error.start), error.end


codecs.register_error("text2grad.mark", _mark_broken)


def _decode(data: bytes) -> tuple[str, Sequence[int]]:
    """`data` as text with errors="replace", and the byte at which each character begins.

    The last entry of the bytes is the end of the data.
    """
    if data.isascii():
        return data.decode("ascii"), range(len(data) + 1)
    marked = data.decode("utf-8", errors="text2grad.mark")
    begins, characters = [0], []
    for character in marked:
        code = ord(character)
        broken = 0xDC00 < code < 0xDC80
        width = code - 0xDC00 if broken else len(character.encode())
        characters.append(_BROKEN if broken else character)
        begins.append(begins[-1] + width)
    return "".join(characters), begins


def _offsets(pieces: Sequence[bytes], begins: Sequence[int]) -> list[tuple[int, int]]:
    offsets, start, first = [], 0, 0
    for piece in pieces:
        if not piece:
            offsets.append((first, first))
            continue
        start += len(piece)
        last = bisect_left(begins, start, lo=first)
        offsets.append((first, last))
        first = last if begins[last] == start else last - 1
    return offsets


def _join_split(offsets: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, slice]]:
    """(start, end, tokens) of each run of tokens of which neighbours split a character."""
    first = 0
    while first < len(offsets):
        start, end = offsets[first]
        after = first + 1
        while after < len(offsets) and offsets[after][0] < end:
            end = max(end, offsets[after][1])
            after += 1
        yield start, end, slice(first, after)
        first = after
