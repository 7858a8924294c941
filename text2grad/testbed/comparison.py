"""Curves of paired runs compared: steps to a score, differences, and what chance would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import mean
from typing import Any

from text2grad.agreement import bootstrap_interval
from text2grad.student import student_interval

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Curve:
    """Quality over a run.

    Attributes:
        steps: at which it was measured, ascending.
        values: the measurements.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def smooth(self, window: int) -> Curve:
        """Each value as the mean of the last `window` ones up to it, of fewer at the start.

        Example: values 1, 2, 6 and window 2 -> 1, 1.5, 4
        """
        means = [mean(self.values[max(0, i + 1 - window) : i + 1]) for i in range(len(self.values))]
        return Curve(self.steps, tuple(means))

    @property
    def final(self) -> float:
        """The last value."""
        return self.values[-1]

    @property
    def average(self) -> float:
        """The mean of all values."""
        return mean(self.values)

    def first_reach(self, target: float) -> int | None:
        """The first step with a value of at least `target`, None if there is none.

        Example: steps 0, 2, 4 with 1, 3, 2, target 2 -> 2
        """
        return next((s for s, v in zip(self.steps, self.values, strict=True) if v >= target), None)


def mean_curve(curves: Sequence[Curve]) -> dict[str, list[Any]]:
    """The mean of several curves, at the steps that all of them have.

    Returns:
        "steps", "mean", and Student's 95 % "low" and "high", None for a single curve.

    Example: values 1 and 3 at step 2 -> mean 2, interval 2 -+ 12.7062
    """
    known = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    steps = [step for step in curves[0].steps if all(step in one for one in known)]
    values = [[one[step] for one in known] for step in steps]
    bounds = [student_interval(one) or (None, None) for one in values]
    return {
        "steps": steps,
        "mean": [mean(one) for one in values],
        "low": [low for low, _ in bounds],
        "high": [high for _, high in bounds],
    }


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean of the differences pair by pair, with Student's 95 % interval.

    Example: 3, 5 against 1, 1 -> mean 3, interval 3 -+ 12.7062 * 1
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return {"mean": mean(differences), "interval": student_interval(differences)}


def sign_test(wins: int, losses: int) -> float:
    """Two-sided p-value of so unequal a split if either side were as likely; ties are left out.

    Example: 5 wins, 0 losses -> 2 / 2^5 = 0.0625
    """
    total, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(total, k) for k in range(fewer + 1)) / 2**total)


def compare_steps(
    ours: Sequence[int | None], theirs: Sequence[int | None], budget: int
) -> dict[str, Any]:
    """Steps to the same score, paired by seed.

    A run that did not get there within the budget is right-censored: it takes more than `budget`
    steps, and how many more is not known. Means count it with `budget`, which is too few, so they
    flatter the side with such runs, whose number is given. Wins, ties, losses and the sign test
    need no such bound: who got there beats who did not.

    Args:
        ours: steps of each seed, None if the run never got there.
        theirs: likewise, of the method compared with.
        budget: steps of every run.

    Returns:
        "ours", "theirs" (mean steps), "censored_ours", "censored_theirs", "difference"
        ("mean", "interval": Student's), "saved" (1 - ours / theirs, of the means) and its
        "saved_interval" (bootstrap over the pairs; None where it is undefined), "wins", "ties",
        "losses", "p_value" (sign test).

    Example: 10, 20, None against 20, 20, 30 with budget 40 -> means 23.33 and 23.33, saved 0, one
    censored, one win, one tie, one loss
    """
    pairs = list(zip(ours, theirs, strict=True))
    bounded = [[budget if n is None else n for n in pair] for pair in pairs]
    ours_bounded, theirs_bounded = ([pair[side] for pair in bounded] for side in (0, 1))
    ranks = [[float("inf") if n is None else n for n in pair] for pair in pairs]
    wins, losses = sum(a < b for a, b in ranks), sum(a > b for a, b in ranks)
    return {
        "ours": mean(ours_bounded),
        "theirs": mean(theirs_bounded),
        "censored_ours": sum(n is None for n in ours),
        "censored_theirs": sum(n is None for n in theirs),
        "difference": paired_difference(ours_bounded, theirs_bounded),
        "saved": _saved((mean(ours_bounded), mean(theirs_bounded))),
        "saved_interval": bootstrap_interval(bounded, BOOTSTRAP_SEED, _saved),
        "wins": wins,
        "ties": len(pairs) - wins - losses,
        "losses": losses,
        "p_value": sign_test(wins, losses),
    }


def _saved(means: Sequence[float]) -> float | None:
    return 1 - float(means[0]) / float(means[1]) if means[1] > 0 else None


def compare_curves(
    ours: Sequence[Curve], theirs: Sequence[Curve], budget: int, window: int
) -> dict[str, Any]:
    """Two methods over the same seeds: steps to the final quality of the second, and quality.

    Args:
        ours: the curves seed by seed, as they were measured.
        theirs: likewise, of the method compared with.
        budget: steps of every run.
        window: see `Curve.smooth`; a run's final quality is the last point of its smooth curve.

    Returns:
        "steps": `compare_steps` to the score at which the second method ends, of the same seed;
        "steps_ours", "steps_theirs": of each seed; "final" and "average": `paired_difference` of
        the final quality and of the mean over the run, which no run is too short for.
    """
    a, b = ([curve.smooth(window) for curve in side] for side in (ours, theirs))
    targets = [curve.final for curve in b]
    steps = [
        [curve.first_reach(target) for curve, target in zip(side, targets, strict=True)]
        for side in (a, b)
    ]
    return {
        "steps": compare_steps(*steps, budget),
        "steps_ours": steps[0],
        "steps_theirs": steps[1],
        "final": paired_difference([c.final for c in a], [c.final for c in b]),
        "average": paired_difference([c.average for c in ours], [c.average for c in theirs]),
    }
