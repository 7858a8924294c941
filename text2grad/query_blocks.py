"""How attention on the CPU cuts the queries of a sequence; `memory` counts with it too."""

from __future__ import annotations

LEAST_BLOCK = 64  # queries; fewer make products too small to be fast
BLOCKS = 8  # of a long sequence: more save little more and cost calls


def query_blocks(length: int) -> list[tuple[int, int]]:
    """First query of each block, and where it ends.

    Example: 150 -> (0, 64), (64, 128), (128, 150); 1,024 -> eight of 128
    """
    size = max(LEAST_BLOCK, -(-length // BLOCKS))
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def mean_keys(length: int) -> float:
    """Keys that a query is scored against on average: those up to the end of its block.

    Example: 128 -> (64 * 64 + 64 * 128) / 128 = 96
    """
    return sum((end - start) * end for start, end in query_blocks(length)) / length
