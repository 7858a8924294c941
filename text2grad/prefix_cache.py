"""Keys and values of the tokens that every prompt begins with, computed once and used again.

Prompts of one template share its first words: the chat header and the instructions. For a causal
model their keys and values are the same whatever follows, so that no batch need compute them anew.
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
    """The cache of the longest beginning that all prompts so far had in common.

    Args:
        model: a causal language model whose weights do not change any more. Families whose cache
            is more than a list of keys and values (sliding windows, recurrent state) share nothing.

    Attributes:
        ids: that beginning.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.ids: tuple[int, ...] = ()
        self._cache: Any = None
        self._useless = False

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
        if self._useless:
            return 0, None
        if self._cache is None:
            self._compute(prompts)
        length = min(common_length([self.ids, *prompts]), min(map(len, prompts)) - 1)
        if not length:
            return 0, None
        if length < len(self.ids):  # of a first batch that happened to have more in common
            self._cache.crop(length - len(self.ids))
            self.ids = self.ids[:length]
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(len(prompts))
        return length, cache

    def _compute(self, prompts: Sequence[Sequence[int]]) -> None:
        ids = tuple(prompts[0][: min(common_length(prompts), min(map(len, prompts)) - 1)])
        if not ids:
            return
        device = next(self.model.parameters()).device
        out = self.model(
            input_ids=torch.tensor([ids], device=device), use_cache=True, logits_to_keep=1
        )
        layers = getattr(getattr(out, "past_key_values", None), "layers", ())
        self._useless = not layers or any(type(layer) is not DynamicLayer for layer in layers)
        if not self._useless:
            self.ids, self._cache = ids, out.past_key_values


def common_length(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows have in common.

    Example: [1, 2, 3], [1, 2, 4] -> 2
    """
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
