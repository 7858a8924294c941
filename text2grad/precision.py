"""Which precision is fast on this CPU, by a short measurement: what it claims to have says little.

Processors with tile units multiply in bf16 many times faster; others only have the instructions,
and there everything beside the products makes bf16 slower as a whole.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from text2grad.timing import fastest

ROWS, WIDTH = 256, 1024  # a small micro-batch; a hidden size between 0.1 and 1 billion weights
# Products have to be this much faster for a whole step to be: between the twofold of plain vector
# instructions and the fourfold and more of tile units, so that every start decides alike.
MARGIN = 2.5


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
