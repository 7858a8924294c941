"""Keys and values of the tokens that every prompt begins with, computed once and used again.

Prompts of one template share its first words: the chat header and the instructions. For a causal
model their keys and values are the same whatever follows, so that no batch need compute them anew.
Up to rounding, that is: in bf16 it can tip the choice between two tokens, as a batch size can.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from torch import nn
from transformers.cache_utils import DynamicLayer


class PrefixCache:
    """The cache of one beginning, for every batch of prompts that have it or a part of it.

    It is computed alone, so that it does not depend on the batch that came first.

    Args:
        model: a causal language model whose weights do not change any more. Families whose cache
            is more than a list of keys and values (sliding windows, recurrent state) share nothing.
        ids: the beginning.
    """

    def __init__(self, model: nn.Module, ids: Sequence[int]) -> None:
        self.model, self.ids = model, tuple(ids)
        self._cache: Any = None

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[int, Any]:
        """Where a batch may start.

        Args:
            prompts: token ids of all rows, each at least one.

        Returns:
            How many first tokens every row can skip, always fewer than the shortest has, and a
            cache of its own for this batch, in which each row has seen these; 0 and None where
            nothing is shared.
        """
        length = min(common_length([self.ids, *prompts]), min(map(len, prompts)) - 1)
        if length and self._cache is None:
            self._compute()
        if not length or not self.ids:
            return 0, None
        cache = copy.deepcopy(self._cache)
        cache.crop(length - len(self.ids))
        cache.batch_repeat_interleave(len(prompts))
        return length, cache

    def _compute(self) -> None:
        ids = torch.tensor([self.ids], device=next(self.model.parameters()).device)
        out = self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
        layers = getattr(getattr(out, "past_key_values", None), "layers", ())
        if layers and all(type(layer) is DynamicLayer for layer in layers):
            self._cache = out.past_key_values
        else:
            self.ids = ()


def common_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common.

    Example: [1, 2, 3], [1, 2, 4] -> 2
    """
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
