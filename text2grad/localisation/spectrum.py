"""Suspicion from coverage: lines that failing checks run and passing ones do not.

Ochiai's coefficient, found by Abreu, Zoeteweij and van Gemund (2007) to rank faults better than
the other similarity coefficients they compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Hits:
    """How many checks ran a line.

    Attributes:
        failing, passing: checks of each outcome that ran it.
        all_failing: failing checks in all.
    """

    failing: int = 0
    passing: int = 0
    all_failing: int = 0

    @property
    def suspicion(self) -> float:
        """Its Ochiai coefficient."""
        return ochiai(self.failing, self.passing, self.all_failing)


def ochiai(failing: int, passing: int, all_failing: int) -> float:
    """How much a line is run by failing checks and by them alone, in [0, 1].

    It is failing / sqrt(all_failing * (failing + passing)), where `failing` and `passing` are the
    checks of each outcome that ran the line.

    Example: 2 of 2 failing and 2 passing -> 2 / sqrt(2 * 4) = 0.7071
    """
    if not failing:
        return 0.0
    return failing / math.sqrt(all_failing * (failing + passing))


def count_hits(checks: Iterable[tuple[bool, Iterable[int]]]) -> dict[int, Hits]:
    """Hits of every line that was run.

    Args:
        checks: of each check, whether it passed, and the lines it ran.

    Example: [(True, {1}), (False, {1, 2})] -> {1: Hits(1, 1, 1), 2: Hits(1, 0, 1)}
    """
    outcomes = [(passed, frozenset(covered)) for passed, covered in checks]
    all_failing = sum(not passed for passed, _ in outcomes)
    lines = sorted(frozenset().union(*(covered for _, covered in outcomes)))
    hits = {}
    for line in lines:
        ran = [passed for passed, covered in outcomes if line in covered]
        hits[line] = Hits(ran.count(False), ran.count(True), all_failing)
    return hits
