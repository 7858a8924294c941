"""The bytes of every token, and exact encoding: what is written is what the bytes say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from text2grad.alignment import TokenBytes
from text2grad.critique_grammar import CritiqueGrammar, State
from text2grad.schema import UserError

NEEDED = range(0x20, 0x7F)
# Some tokenizers put a space before the first word; behind one of these they do not.
GUARDS = ("", "\n", '"', ".")
REMEMBERED = 50_000


class TokenTable:
    """Bytes per token id of one tokenizer; build it once.

    Args:
        tokenizer: byte-level or with byte fallback.

    Attributes:
        pieces: bytes per id, b"" for special tokens.
        first_bytes: first byte per id, -1 for special tokens.
        writable: bytes that are a token by themselves.
        longest: bytes of the longest token.
        quote_marks: ids of the tokens with a quote mark in them.

    Raises:
        UserError: its tokens are not made of bytes, or a character of the reply's JSON is no
            token by itself.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
        table = TokenBytes(tokenizer)
        if table.kind == "incremental":
            raise UserError(
                f"tokenizer {self.name}: neither byte-level nor with byte fallback; judge with "
                "--constrained_decoding false"
            )
        self.pieces: list[bytes] = table.pieces(range(1 + max(tokenizer.get_vocab().values())))
        self.first_bytes = [piece[0] if piece else -1 for piece in self.pieces]
        # Where a character has a piece and a byte token, the piece has the higher id and is kept.
        self._single = {piece[0]: i for i, piece in enumerate(self.pieces) if len(piece) == 1}
        self.writable = frozenset(self._single)
        self.longest = max(map(len, self.pieces))
        self.quote_marks = [i for i, piece in enumerate(self.pieces) if b'"' in piece]
        self._ids_of: dict[bytes, list[int]] = defaultdict(list)
        for i, piece in enumerate(self.pieces):
            self._ids_of[piece].append(i)
        self._forced = lru_cache(REMEMBERED)(lambda literal: tuple(self.encode(literal)))
        if missing := [chr(byte) for byte in NEEDED if byte not in self._single]:
            raise UserError(
                f"tokenizer {self.name}: no token for {' '.join(missing)} alone, which the JSON of "
                "a reply may need; judge with --constrained_decoding false"
            )

    def decode(self, ids: Sequence[int]) -> bytes:
        """The bytes of tokens."""
        return b"".join(self.pieces[i] for i in ids)

    def encode(self, data: bytes) -> list[int]:
        """Tokens whose bytes are exactly `data`, as the tokenizer splits it inside a text.

        Where the tokenizer would change the text (normalisation, special tokens spelled out) only
        the words or characters concerned are written byte by byte.

        Raises:
            UserError: a byte of it cannot be written.
        """
        return [token for part in self._exact_parts(data) for token in part]

    def encode_forced(self, literal: bytes) -> tuple[int, ...]:
        """Tokens of a literal; remembered, as most come again."""
        return self._forced(literal)

    def cost(self, literal: bytes) -> int:
        """How many tokens a literal takes."""
        return len(self.encode_forced(literal))

    def inside(self, runs: Iterable[bytes]) -> list[int]:
        """Tokens that one of `runs` begins with, and those with a quote mark, in order of id."""
        pieces = {run[:size] for run in runs for size in range(1, len(run) + 1)}
        ids = {i for piece in pieces if piece in self._ids_of for i in self._ids_of[piece]}
        return sorted(ids.union(self.quote_marks))

    def admit(self, grammar: CritiqueGrammar, state: State, token: int, left: int) -> State | None:
        """The state after `token`.

        Args:
            grammar: of the reply.
            state: before the token.
            token: any id of the model's vocabulary.
            left: tokens that may still follow this one.

        Returns:
            None if the token is special, breaks the grammar, or leaves no way to finish the
            reply in `left` tokens.
        """
        piece = self.pieces[token] if token < len(self.pieces) else b""
        after = grammar.advance(state, piece) if piece else None
        if after is None:
            return None
        fits = left >= grammar.longest_exit or grammar.shortest_exit(after, self.cost) <= left
        return after if fits else None

    def _exact_parts(self, data: bytes) -> Iterator[list[int]]:
        if whole := self._split(data):
            yield whole
            return
        text = data.decode("utf-8", errors="ignore")
        if text.encode() != data:
            yield self._spell(data)
            return
        for word in re.findall(r"\s*\S+|\s+", text):
            if ids := self._split(word.encode()):
                yield ids
                continue
            for char in word:
                yield self._split(char.encode()) or self._spell(char.encode())

    def _split(self, data: bytes) -> list[int]:
        """The tokenizer's own split, [] where its bytes are not `data`."""
        text = data.decode("utf-8", errors="ignore")
        for guard in GUARDS:
            ids = self.tokenizer(guard + text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
            start, length = len(ids), 0
            while start > 0 and length < len(data):
                start -= 1
                length += len(self.pieces[ids[start]])
            if self.decode(ids[start:]) == data:
                return ids[start:]
        return []

    def _spell(self, data: bytes) -> list[int]:
        for byte in data:
            if byte not in self._single:
                raise UserError(f"tokenizer {self.name}: cannot write the byte 0x{byte:02X}")
        return [self._single[byte] for byte in data]


def encode_target(target: str, table: TokenTable, grammar: CritiqueGrammar) -> list[int]:
    """Tokens of a training target, split as constrained decoding would write it.

    Literals are encoded by themselves. What a model chooses is encoded from where the choice
    begins up to the token that reaches the next literal; the tokens' bytes are exactly the
    target's.

    Args:
        target: a reply, complete.
        table: of the model's tokenizer.
        grammar: of the replies about this response.

    Raises:
        ValueError: the target is no reply that the grammar accepts.
    """
    data, ids = target.encode(), []
    state: State | None = grammar.initial
    while data:
        if literal := grammar.forced(state):
            tokens: Iterable[int] = table.encode_forced(literal)
        else:
            tokens = table.encode(data)
        for token in tokens:
            piece = table.pieces[token]
            state = grammar.advance(state, piece) if data.startswith(piece) else None
            if state is None:
                raise ValueError(f"not a reply of this grammar: {target[:80]}")
            ids.append(token)
            data = data[len(piece) :]
            if not literal and grammar.forced(state):
                break
    if not grammar.closed(state):
        raise ValueError(f"not a reply of this grammar: {target[:80]}")
    return ids
