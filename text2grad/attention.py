"""Attention on the CPU, where decoding is most of a run's time.

The eager attention of transformers repeats keys and values for every query head that shares them,
which for one new token costs more than the attention itself. Here the query heads of a group are
rows of one product instead: the same sums, nothing copied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

GROUPED = "text2grad_grouped"
# their attention is softmax(q k' scale + mask) v with shared heads, and nothing else
FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3")


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


def use_grouped_attention(model: Any) -> None:
    """Switch to it on the CPU, for a known family whose heads share keys; else change nothing."""
    if torch.cuda.is_available():
        return
    config = model.config
    shared = getattr(config, "num_key_value_heads", None) not in (None, config.num_attention_heads)
    if config.model_type in FAMILIES and shared:
        model.set_attn_implementation(GROUPED)


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)
