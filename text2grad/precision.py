"""Which precision is fast on this CPU, by a short measurement: what it claims to have says little.

Processors with tile units multiply in bf16 many times faster, those with the vector instructions
about twice as fast, and some that name the instructions not at all.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from text2grad.timing import fastest

ROWS, WIDTH = 256, 1024  # a small micro-batch; a hidden size between 0.1 and 1 billion weights
# Products have to be this much faster, as half the bits do not come for nothing; far enough below
# the twofold of vector instructions that every start decides alike.
MARGIN = 1.4


@lru_cache(maxsize=1)
def cpu_dtype() -> str:
    """`bf16` or `fp32`, measured once in a process."""
    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "fp32"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    operands = {
        name: (torch.ones(ROWS, WIDTH, dtype=kind), torch.ones(WIDTH, WIDTH, dtype=kind))
        for name, kind in kinds.items()
    }
    ways = {
        name: lambda pair=pair: torch.nn.functional.linear(*pair) for name, pair in operands.items()
    }
    with torch.inference_mode():
        return fastest(ways, margin=MARGIN)
