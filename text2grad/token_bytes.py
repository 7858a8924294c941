"""The bytes that each id of a tokenizer stands for; a response is those bytes joined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

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
