"""Constrained decoding: replies that parse, and quote verbatim, by construction.

Greedy: the best token is taken, and only if the grammar rejects it the best-ranked one that it
admits. Literals are not decoded: their tokens join the next forward passes as a block. The rows
of a batch therefore grow by different lengths; blocks are padded on the left, with a mask and
explicit positions, so that every row computes what it would compute alone. (Sliding windows count
the padding too; models with recurrent state need `batch_size` 1.)

The unconstrained greedy reply, for comparison, is `rollout.sample_responses` at temperature 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from text2grad.critique_grammar import CritiqueGrammar, State
from text2grad.prefix_cache import PrefixCache
from text2grad.schema import UserError
from text2grad.token_table import TokenTable

CHUNKS = (16, 256)


@dataclass(frozen=True)
class Reply:
    """One constrained reply.

    Attributes:
        text: the JSON, complete.
        ids: its tokens, literals included, without an end token.
        n_forced: tokens of literals, which the model did not choose.
        n_free: tokens that the model chose.
        n_rejected: of those, how often its first choice was rejected.
        removed_mass: probability ranked above the chosen token, mean over the free tokens; all
            of it belonged to rejected tokens, so it is a lower bound of what the grammar removed.
        n_forwards: forward passes with this reply in the batch.
    """

    text: str
    ids: tuple[int, ...]
    n_forced: int
    n_free: int
    n_rejected: int
    removed_mass: float
    n_forwards: int


@dataclass
class _Row:
    """A reply while it is written."""

    number: int
    grammar: CritiqueGrammar
    state: State
    block: list[int]
    """tokens that the model has not seen yet"""
    left: int
    """tokens that may still be written"""
    ids: list[int] = field(default_factory=list)
    n_free: int = 0
    n_rejected: int = 0
    removed: float = 0.0
    n_forwards: int = 0

    @property
    def ended(self) -> bool:
        return self.grammar.closed(self.state)

    def write(self, ids: Sequence[int], state: State) -> None:
        self.ids += ids
        self.block += ids
        self.left -= len(ids)
        self.state = state

    def feed(self, width: int) -> list[int]:
        """The next tokens for the model, at most `width`."""
        if self.ended:
            return []
        self.n_forwards += 1
        fed, self.block = self.block[:width], self.block[width:]
        return fed


def constrained_generate(
    model: nn.Module,
    table: TokenTable,
    prompts: Sequence[Sequence[int]],
    grammars: Sequence[CritiqueGrammar],
    max_new_tokens: int,
    batch_size: int = 0,
    flag: str = "--max_new_tokens",
    prefix: PrefixCache | None = None,
) -> list[Reply]:
    """Write one reply per prompt, greedily, inside its grammar.

    Args:
        model: a causal language model with a cache; its mode is restored afterwards.
        table: of the model's tokenizer.
        prompts: token ids, any lengths.
        grammars: one per prompt.
        max_new_tokens: bound on the tokens of a reply, literals included; every reply is complete
            within it.
        batch_size: prompts of similar length that are decoded together, 0 for all.
        flag: the flag that set `max_new_tokens`, for the message.
        prefix: of the same model, where all prompts begin alike.

    Raises:
        UserError: not even the shortest reply fits `max_new_tokens`.
    """
    rows = []
    for number, (prompt, grammar) in enumerate(zip(prompts, grammars, strict=True)):
        grammar = grammar.restricted(table.writable)
        shortest = grammar.shortest_exit(grammar.initial, table.cost)
        if shortest > max_new_tokens:
            raise UserError(
                f"{flag} {max_new_tokens}: the shortest reply takes {shortest} tokens with "
                f"tokenizer {table.name}"
            )
        row = _Row(number, grammar, grammar.initial, list(prompt), max_new_tokens)
        _write_forced(row, table)
        rows.append(row)
    by_length = sorted(rows, key=lambda row: len(row.block))
    with torch.inference_mode(), _evaluating(model):
        size = batch_size or max(1, len(rows))
        for start in range(0, len(rows), size):
            _decode_batch(model, table, by_length[start : start + size], prefix)
    return [_to_reply(row, table) for row in rows]


def _decode_batch(
    model: nn.Module, table: TokenTable, rows: Sequence[_Row], prefix: PrefixCache | None
) -> None:
    device = next(model.parameters()).device
    first_bytes: Tensor | None = None
    batch = _Batch(rows, device, prefix)
    while not all(row.ended for row in batch.rows):
        logits = batch.forward(model)
        if first_bytes is None:
            first_bytes = _first_bytes(table, logits.shape[-1], device)
        best = logits.argmax(dim=-1).tolist()
        for slot, row in enumerate(batch.rows):
            if not row.ended and not row.block:
                _write_token(row, table, logits[slot], best[slot], first_bytes)
                _write_forced(row, table)


class _Batch:
    """The rows that are decoded together, their cache, and its mask."""

    def __init__(
        self, rows: Sequence[_Row], device: torch.device, prefix: PrefixCache | None
    ) -> None:
        self.rows = list(rows)
        self._cache: Any = None
        shared = 0
        if prefix is not None:
            shared, self._cache = prefix.start([row.block for row in self.rows])
        for row in self.rows:
            row.block = row.block[shared:]
        self._mask = torch.ones(len(self.rows), shared, dtype=torch.bool, device=device)
        self._is_first = True

    def forward(self, model: nn.Module) -> Tensor:
        """Feed what the model has not seen yet, or a part of it.

        Returns:
            (B, V), logits after each row's last token. Rows that have ended, or still have
            tokens to feed, must not use theirs.
        """
        self._drop_ended()
        width = self._width()
        blocks = [row.feed(width) for row in self.rows]
        padded = [[0] * (width - len(block)) + block for block in blocks]
        real = [[False] * (width - len(block)) + [True] * len(block) for block in blocks]
        device = self._mask.device
        self._mask = torch.cat([self._mask, torch.tensor(real, device=device)], dim=1)
        positions = (self._mask.long().cumsum(dim=1) - 1).clamp(min=0)
        out = model(
            input_ids=torch.tensor(padded, device=device),
            attention_mask=self._mask.long(),
            position_ids=positions[:, -width:],
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache, self._is_first = out.past_key_values, False
        return out.logits[:, -1]

    def _width(self) -> int:
        """Whole blocks if a quarter of the rows has one to feed, else one token each.

        Padding all rows for the block of a few costs more than feeding it token by token beside
        the others' steps, which they need anyway (on a CPU, 16 rows: a fifth of the time).
        """
        lengths = [len(row.block) for row in self.rows if not row.ended]
        waiting = sum(length > 1 for length in lengths)
        return max(lengths) if self._is_first or 4 * waiting >= len(lengths) else 1

    def _drop_ended(self) -> None:
        """Take ended rows out of the cache once half have ended; each time copies the cache."""
        keep = [slot for slot, row in enumerate(self.rows) if not row.ended]
        if self._cache is None or 2 * len(keep) > len(self.rows):
            return
        self.rows = [self.rows[slot] for slot in keep]
        indices = torch.tensor(keep, device=self._mask.device)
        self._mask = self._mask[indices]
        self._cache.batch_select_indices(indices)


def _write_forced(row: _Row, table: TokenTable) -> None:
    if literal := row.grammar.forced(row.state):
        state = row.grammar.advance(row.state, literal)
        row.write(table.encode_forced(literal), state)


def _write_token(
    row: _Row, table: TokenTable, logits: Tensor, best: int, first_bytes: Tensor
) -> None:
    """Write the model's first choice, or else the best-ranked token that is admitted."""
    token, state = best, table.admit(row.grammar, row.state, best, row.left - 1)
    if state is None:
        token, state = _best_admitted(row, table, logits, first_bytes)
        mass = logits.float().softmax(dim=-1)
        row.removed += mass[logits > logits[token]].sum().item()
        row.n_rejected += 1
    row.n_free += 1
    row.write([token], state)


def _best_admitted(
    row: _Row, table: TokenTable, logits: Tensor, first_bytes: Tensor
) -> tuple[int, State]:
    candidates = _candidates(row, table, first_bytes)
    scores, total = logits[candidates], len(candidates)
    for size in (*CHUNKS, total):
        # Each round starts over: among equal scores topk may choose others for another size.
        ranked = candidates[scores.topk(min(size, total)).indices]
        for token in ranked.tolist():
            state = table.admit(row.grammar, row.state, token, row.left - 1)
            if state is not None:
                return token, state
    raise RuntimeError(f"no token is admitted after {table.decode(row.ids)!r}")


def _candidates(row: _Row, table: TokenTable, first_bytes: Tensor) -> Tensor:
    """(N,) ids in rising order, all that may be admitted and as few others as is cheap."""
    runs = row.grammar.runs(row.state, table.longest)
    if runs is not None:
        return torch.tensor(table.inside(runs), device=first_bytes.device)
    if row.grammar.must_close(row.state, row.left, table.cost):
        return torch.tensor(table.quote_marks, device=first_bytes.device)
    possible = torch.zeros(257, dtype=torch.bool)
    possible[list(row.grammar.next_bytes(row.state))] = True
    return possible.to(first_bytes.device)[first_bytes].nonzero()[:, 0]


def _first_bytes(table: TokenTable, vocabulary: int, device: torch.device) -> Tensor:
    """(V,) first byte of each id, 256 for special tokens and ids that are only padding."""
    known = [byte if byte >= 0 else 256 for byte in table.first_bytes[:vocabulary]]
    return torch.tensor(known + [256] * (vocabulary - len(known)), device=device)


def _to_reply(row: _Row, table: TokenTable) -> Reply:
    return Reply(
        text=table.decode(row.ids).decode("utf-8"),
        ids=tuple(row.ids),
        n_forced=len(row.ids) - row.n_free,
        n_free=row.n_free,
        n_rejected=row.n_rejected,
        removed_mass=row.removed / max(1, row.n_free),
        n_forwards=row.n_forwards,
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off, and afterwards on again exactly where it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
