"""The fastest of several ways to do the same, found by doing each for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def fastest(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    margin: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> str:
    """Name of the candidate with the shortest single run.

    All run in turn, once unmeasured and then `rounds` times, so that whatever else slows the
    machine slows all of them; the shortest run is the one that was disturbed least.

    Args:
        candidates: by name; the first is the one to stay with.
        rounds: measured runs of each.
        margin: how many times faster than the first one another has to be. Above 1 the same
            machine gives the same answer every time, as a resumed run needs it to.
        clock: seconds.

    Example: first 1.0 s, second 0.8 s -> the second; with margin 1.5 the first
    """
    shortest = dict.fromkeys(candidates, float("inf"))
    for number in range(rounds + 1):
        for name, run in candidates.items():
            began = clock()
            run()
            if number:
                shortest[name] = min(shortest[name], clock() - began)
    first = next(iter(candidates))
    best = min(shortest, key=shortest.__getitem__)
    return best if shortest[first] >= margin * shortest[best] else first
