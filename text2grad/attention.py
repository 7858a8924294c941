"""Attention on the CPU: the same sums in several ways, of which the fastest is taken.

The eager attention of transformers repeats keys and values for every query head that shares them,
which for one new token costs more than the attention itself. Here the query heads of a group are
rows of one product instead: the same sums, nothing copied. For many tokens at once torch's fused
attention is the other way: it keeps no weights for the backward pass, and whether it is faster
depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from text2grad.timing import fastest

GROUPED, FUSED = "text2grad_grouped", "text2grad_fused"
# their attention is softmax(q k' scale + mask) v with shared heads, and nothing else
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")
SMALL = 256  # hidden size below which nothing is to be gained
MARGIN = 1.25  # what differs less changes from start to start


def attention_setting() -> dict[str, str]:
    """Eager on the CPU, where a masked decoding step of SDPA was slower; else the default."""
    return {} if torch.cuda.is_available() else {"attn_implementation": "eager"}


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Softmax attention for query heads that share keys and values.

    Args:
        module: unused, the interface passes it.
        query: (B, H, T, D).
        key: (B, G, S, D); H is a multiple of G.
        value: likewise.
        attention_mask: (B, 1, T, S), added to the scores, or None.
        scaling: of the scores.
        dropout: probability for the weights.

    Returns:
        (B, T, H, D) outputs and (B, H, T, S) weights.
    """
    b, heads, length, width = query.shape
    groups = key.shape[1]
    rows = query.reshape(b, groups, heads // groups * length, width)
    scores = (rows @ key.transpose(2, 3)).view(b, heads, length, -1) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, dropout)
    out = weights.view(b, groups, heads // groups * length, -1) @ value
    return out.view(b, heads, length, width).transpose(1, 2).contiguous(), weights


def fused_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, Tensor | None]:
    """What `grouped_attention` gives, by torch's fused kernel where there are several queries.

    Returns:
        (B, T, H, D) outputs, and None in place of the weights where they were never made.
    """
    if query.shape[2] == 1:
        return grouped_attention(
            module, query, key, value, attention_mask, scaling, dropout, **more
        )
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
    if _measured(heads, groups, width, model.dtype) == FUSED:
        model.set_attn_implementation(FUSED)
    elif groups != heads:
        model.set_attn_implementation(GROUPED)


@lru_cache
def _measured(heads: int, groups: int, width: int, dtype: torch.dtype) -> str:
    """The faster one forward and backward over the tokens of a small micro-batch."""
    if heads * width < SMALL:
        return GROUPED
    rows, tokens = 2, 192
    shapes = [(rows, count, tokens, width) for count in (heads, groups, groups)]
    mask = torch.full((tokens, tokens), torch.finfo(dtype).min, dtype=dtype).triu(1)
    mask = mask.expand(rows, 1, -1, -1)

    def run(attention: Callable[..., tuple[Tensor, Any]]) -> None:
        inputs = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes]
        attention(nn.Identity(), *inputs, mask, width**-0.5)[0].sum().backward()

    ways = {GROUPED: grouped_attention, FUSED: fused_attention}
    with torch.enable_grad():
        return fastest({name: partial(run, way) for name, way in ways.items()}, margin=MARGIN)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionInterface.register(FUSED, fused_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)
AttentionMaskInterface.register(FUSED, eager_mask)
