"""Attention on the CPU: the same sums in several ways, of which the fastest is taken.

The eager attention of transformers repeats keys and values for every query head that shares them,
scores every query against keys that come after it, and passes over all scores five times, of which
the backward pass keeps two copies. Here the query heads of a group are rows of one product, so that
nothing is repeated; queries are taken block by block, each against the keys up to its own end, so
that nearly half of the scores are never made and the rest stay in the cache; and the weights are
all that is kept. Torch's fused attention is the other way: it keeps no weights either, and whether
it is faster depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from text2grad.query_blocks import query_blocks
from text2grad.timing import fastest

BLOCKED, FUSED = "text2grad_blocked", "text2grad_fused"
# their attention is softmax(q k' scale + mask) v with shared heads and a causal mask, nothing else
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")
SMALL = 256  # hidden size below which nothing is to be gained
MARGIN = 1.25  # what differs less changes from start to start


def attention_setting() -> dict[str, str]:
    """Eager on the CPU, where a masked decoding step of SDPA was slower; else the default."""
    return {} if torch.cuda.is_available() else {"attn_implementation": "eager"}


def blocked_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Softmax attention for query heads that share keys and values.

    Args:
        module: unused, the interface passes it.
        query: (B, H, T, D), of the last T of the S tokens.
        key: (B, G, S, D); H is a multiple of G.
        value: likewise.
        attention_mask: (B, 1, T, S), causal, added to the scores; or None, then all is seen.
        scaling: of the scores.
        dropout: probability for the weights.

    Returns:
        (B, T, H, D) outputs, and None in place of the weights.
    """
    inputs = query, key, value, attention_mask, scaling
    if dropout:
        return fused_attention(module, *inputs, dropout)
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        return _BlockedAttention.apply(*inputs), None
    return _forward(*inputs), None


def _blocks(query: Tensor, key: Tensor, causal: bool) -> Iterator[tuple[slice, int]]:
    """Queries of each block, and how many keys they can see at most."""
    before = key.shape[2] - query.shape[2]
    for start, end in query_blocks(query.shape[2]):
        yield slice(start, end), before + end if causal else key.shape[2]


def _rows(x: Tensor, groups: int) -> Tensor:
    """(B, H, n, D) -> (B, G, H / G * n, D): the heads of a group below each other."""
    return x.reshape(x.shape[0], groups, -1, x.shape[3])


def _weights(rows: Tensor, keys: Tensor, mask: Tensor | None, scaling: float, heads: int) -> Tensor:
    """(B, G, H / G * n, s) softmax of the masked scores, summed in fp32 whatever the precision.

    The scores are scaled, not the queries, and so in the backward pass: as eager attention rounds.
    """
    scores = (rows @ keys.transpose(2, 3)).mul_(scaling)
    by_head = scores.view(len(rows), heads, -1, keys.shape[2])
    if mask is not None:
        by_head += mask
    return torch.softmax(scores, dim=-1)


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    keep: list[Tensor] | None = None,
) -> Tensor:
    """(B, T, H, D) outputs; the weights of each block go to `keep`."""
    b, heads, length, width = query.shape
    groups = key.shape[1]
    out = query.new_empty(b, length, heads, width)
    for block, seen in _blocks(query, key, mask is not None):
        rows = _rows(query[:, :, block], groups)
        shown = None if mask is None else mask[:, :, block, :seen]
        weights = _weights(rows, key[:, :, :seen], shown, scaling, heads)
        mixed = (weights @ value[:, :, :seen]).view(b, heads, -1, width)
        out[:, block] = mixed.transpose(1, 2)
        if keep is not None:
            keep.append(weights)
    return out


class _BlockedAttention(torch.autograd.Function):
    """The derivatives of `_forward`, block by block too."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        weights: list[Tensor] = []
        out = _forward(query, key, value, mask, scaling, weights)
        ctx.save_for_backward(query, key, value, *weights)
        ctx.scaling, ctx.causal = scaling, mask is not None
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        groups = key.shape[1]
        to_query, exact = torch.empty_like(query), torch.promote_types(key.dtype, torch.float32)
        to_key, to_value = (x.new_zeros(x.shape, dtype=exact) for x in (key, value))
        for (block, seen), weights in zip(_blocks(query, key, ctx.causal), kept, strict=True):
            rows, slope = _rows(query[:, :, block], groups), grad[:, block].transpose(1, 2)
            slope = _rows(slope, groups)
            to_value[:, :, :seen] += weights.transpose(2, 3) @ slope
            slope = slope @ value[:, :, :seen].transpose(2, 3)
            # in one pass over the scores: w (slope - sum w slope)
            slope = torch.ops.aten._softmax_backward_data(slope, weights, -1, weights.dtype)
            slope *= ctx.scaling
            to_query[:, :, block] = (slope @ key[:, :, :seen]).view_as(to_query[:, :, block])
            to_key[:, :, :seen] += slope.transpose(2, 3) @ rows
        return to_query, to_key.to(key.dtype), to_value.to(value.dtype), None, None


def fused_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """What `blocked_attention` gives, by torch's fused kernel where there are several queries."""
    if query.shape[2] == 1 and not dropout:
        return blocked_attention(module, query, key, value, attention_mask, scaling)
    times = query.shape[1] // key.shape[1]
    out = nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(times, 1),
        value.repeat_interleave(times, 1),
        attn_mask=attention_mask,
        dropout_p=dropout,
        scale=scaling,
    )
    return out.transpose(1, 2).contiguous(), None


def choose_attention(model: Any) -> None:
    """Set what is fastest on the CPU for a known family; for others, or on a GPU, nothing."""
    config = model.config
    if torch.cuda.is_available() or config.model_type not in FAMILIES:
        return
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    model.set_attn_implementation(_measured(heads, groups, width, model.dtype))


@lru_cache
def _measured(heads: int, groups: int, width: int, dtype: torch.dtype) -> str:
    """The faster one forward and backward over the tokens of a small micro-batch."""
    if heads * width < SMALL:
        return BLOCKED
    rows, tokens = 2, 192
    shapes = [(rows, count, tokens, width) for count in (heads, groups, groups)]
    mask = torch.full((tokens, tokens), torch.finfo(dtype).min, dtype=dtype).triu(1)
    mask = mask.expand(rows, 1, -1, -1)

    def run(attention: Callable[..., tuple[Tensor, Any]]) -> None:
        inputs = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        attention(nn.Identity(), *inputs, mask, width**-0.5)[0].sum().backward()

    ways = {BLOCKED: blocked_attention, FUSED: fused_attention}
    with torch.enable_grad():
        return fastest({name: partial(run, way) for name, way in ways.items()}, margin=MARGIN)


AttentionInterface.register(BLOCKED, blocked_attention)
AttentionInterface.register(FUSED, fused_attention)
AttentionMaskInterface.register(BLOCKED, eager_mask)
AttentionMaskInterface.register(FUSED, eager_mask)
