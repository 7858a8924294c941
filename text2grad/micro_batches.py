"""Which responses go through the model together: so many at a time, or so many tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Lengths = Sequence[tuple[int, int]]


def split_micro_batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Rows in groups of `size`, similar lengths together so that little is padded."""
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    return [order[start : start + size] for start in range(0, len(order), size)]


def padded_tokens(rows: Sequence[int], lengths: Lengths) -> int:
    """Tokens of a micro-batch, padding included.

    Prompts are padded on the left and responses on the right, so each has the width of its longest.

    Example: lengths (5, 2) and (3, 4) -> 2 * (5 + 4) = 18
    """
    widths = (max(lengths[row][side] for row in rows) for side in (0, 1))
    return len(rows) * sum(widths)


def pack_rows(
    rows: Sequence[int], lengths: Lengths, max_tokens: int, at_least: int = 1
) -> list[list[int]]:
    """Cut rows into micro-batches of similar lengths that keep to a number of tokens.

    Args:
        rows: their places in the batch.
        lengths: (prompt, response) tokens of every row of the batch.
        max_tokens: of a micro-batch, padding included; a row that is longer is one by itself.
        at_least: make so many micro-batches, by halving the largest; no more than there are rows.
            Processes that learn together must make equally many backward passes, and to split work
            is cheaper than to add empty passes.

    Example: totals 2, 2, 3, 9 with at most 6 tokens -> [2, 2], [3], [9]
    """
    packed: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (sum(lengths[row]), row)):
        if packed and padded_tokens([*packed[-1], row], lengths) <= max_tokens:
            packed[-1].append(row)
        else:
            packed.append([row])
    while len(packed) < min(at_least, len(rows)):
        several = [place for place, group in enumerate(packed) if len(group) > 1]
        place = max(several, key=lambda place: padded_tokens(packed[place], lengths))
        group = packed[place]
        packed[place : place + 1] = [group[: len(group) // 2], group[len(group) // 2 :]]
    return packed


def plan_micro_batches(
    lengths: Lengths,
    size: int,
    per_update: int,
    max_tokens: int,
    most: Callable[[list[int]], list[int]],
) -> list[tuple[list[int], int | None]]:
    """The micro-batches of a batch, and to which update each belongs where that is fixed.

    Args:
        lengths: (prompt, response) tokens of this process's rows.
        size: rows of a micro-batch, if `max_tokens` is 0.
        per_update: rows of an update, if it is not.
        max_tokens: see `pack_rows`; 0 for micro-batches of `size` rows, of which each epoch draws
            its updates anew.
        most: element by element the most that any process has; called by all processes or none.
    """
    totals = [prompt + response for prompt, response in lengths]
    if not max_tokens:
        return [(rows, None) for rows in split_micro_batches(totals, size)]
    updates = split_micro_batches(totals, per_update)
    counts = most([len(pack_rows(rows, lengths, max_tokens)) for rows in updates])
    return [
        (rows, number)
        for number, count in enumerate(counts)
        for rows in pack_rows(updates[number], lengths, max_tokens, count)
    ]
