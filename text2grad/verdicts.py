"""The pairwise judge's replies, and what they say together. No server, no file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from text2grad.agreement import bootstrap_interval
from text2grad.replies import read_object
from text2grad.schema import Unparseable
from text2grad.word_scores import Unreadable

OVERALL = "overall"
POSITIONS = ("first", "second")
BEST_GRADE = 10

Better = Literal["first", "second", "tie"]
Grades = Mapping[str, float]


@dataclass(frozen=True)
class Verdict:
    """One reply about two responses in one order.

    Attributes:
        better: the position of the better response, or "tie".
        first, second: grades from 0 to 10 by criterion, and "overall".
        reasoning: what the judge wrote before, "" if nothing.
        raw: the reply.
    """

    better: Better
    first: Grades
    second: Grades
    reasoning: str = ""
    raw: str = ""


@dataclass(frozen=True)
class JudgedPair:
    """Responses A and B of one prompt, judged in both orders.

    Attributes:
        a_first, b_first: the verdict with A, or with B, in the first position.
    """

    a_first: Verdict
    b_first: Verdict

    @property
    def outcome(self) -> float:
        """1 where both orders prefer A, 0 where both prefer B, else a tie: 0.5."""
        if self.a_first.better != _swapped(self.b_first.better):
            return 0.5
        return {"first": 1.0, "second": 0.0, "tie": 0.5}[self.a_first.better]

    def grades(self) -> tuple[dict[str, float], dict[str, float]]:
        """Grades of A and of B, the mean of both orders."""
        a, b = (self.a_first.first, self.b_first.second), (self.a_first.second, self.b_first.first)
        return _mean(a), _mean(b)


def parse_verdict(text: str, criteria: Sequence[str]) -> Verdict | Unparseable:
    """Read a reply strictly: one JSON object, in a code fence or after prose or not.

    Args:
        text: what the judge wrote.
        criteria: the grades that each response must have, beside "overall".

    Returns:
        The verdict, a tie where the overall grades are equal; or why there is none: a grade is
        missing, no number or outside 0 to 10, or "better" contradicts the overall grades.
    """
    try:
        found = read_object(text, frozenset((*POSITIONS, "better")))
        if found.repair == "json_repair":
            raise Unreadable("not JSON")
        first, second = (_grades(found.fields, position, criteria) for position in POSITIONS)
        better = found.fields.get("better")
        if better not in (*POSITIONS, "tie"):
            raise Unreadable("better is none of first, second, tie")
        lead = first[OVERALL] - second[OVERALL]
        if lead * {"first": 1, "second": -1, "tie": 0}[better] < 0:
            raise Unreadable("better contradicts the overall grades")
    except Unreadable as error:
        return Unparseable(str(error), text)
    except RecursionError:
        return Unparseable("nested too deep", text)
    reasoning = found.fields.get("reasoning")
    return Verdict(
        better if lead else "tie",
        first,
        second,
        reasoning if isinstance(reasoning, str) else found.prose,
        text,
    )


def judge_figures(pairs: Sequence[JudgedPair], seed: int) -> dict[str, Any]:
    """What all verdicts say together.

    Args:
        pairs: at least one.
        seed: of the bootstrap over pairs.

    Returns:
        "n", "wins", "ties" and "losses" of A; "win_rate" = (wins + ties / 2) / n with "interval"
        (95 %, Wilson, too wide rather than too narrow where there are ties); "agreement", the
        share of pairs in which both orders say the same; "position" (see `position_bias`);
        "criteria" {name: {"a", "b", "difference", "interval"}}, means and their paired difference.
    """
    outcomes = [pair.outcome for pair in pairs]
    counts = Counter(outcomes)
    same = [pair.a_first.better == _swapped(pair.b_first.better) for pair in pairs]
    return {
        "n": len(pairs),
        "wins": counts[1.0],
        "ties": counts[0.5],
        "losses": counts[0.0],
        "win_rate": float(np.mean(outcomes)),
        "interval": wilson_interval(sum(outcomes), len(outcomes)),
        "agreement": float(np.mean(same)),
        "position": position_bias(pairs, seed),
        "criteria": _criteria(pairs, seed),
    }


def position_bias(pairs: Sequence[JudgedPair], seed: int) -> dict[str, Any]:
    """How often the response in the first position was preferred.

    As every pair is judged in both orders, a judge that looks at the responses alone prefers the
    first position in half of its verdicts, whoever is better.

    Returns:
        "verdicts" that are no tie; "first_share" of them, "interval" (95 %, bootstrap over pairs),
        None where all are ties; "biased": whether the interval excludes one half.
    """
    counts = []
    for pair in pairs:
        better = Counter((pair.a_first.better, pair.b_first.better))
        counts.append((better["first"], better["first"] + better["second"]))
    first, decided = np.sum(counts, axis=0)
    interval = bootstrap_interval(counts, seed, lambda mean: mean[0] / mean[1] if mean[1] else None)
    return {
        "verdicts": int(decided),
        "first_share": float(first / decided) if decided else None,
        "interval": interval,
        "biased": bool(interval) and not interval[0] <= 0.5 <= interval[1],
    }


def wilson_interval(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Args:
        successes: may count ties as halves; the interval is then wider than it need be.
        n: at least 1.
        z: quantile of the normal distribution; the default is for 95 %.

    Example: 10 of 10 -> (0.722, 1)
    """
    share, spread = successes / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _grades(fields: Mapping[str, Any], position: str, criteria: Sequence[str]) -> dict[str, float]:
    given = fields.get(position)
    if not isinstance(given, Mapping):
        raise Unreadable(f"missing key {position}")
    grades = {}
    for name in (*criteria, OVERALL):
        if name not in given:
            raise Unreadable(f"missing key {position}.{name}")
        grade = given[name]
        if not isinstance(grade, (int, float)) or isinstance(grade, bool):
            raise Unreadable("grade is not a number")
        if not 0 <= grade <= BEST_GRADE:
            raise Unreadable("grade out of range")
        grades[name] = float(grade)
    return grades


def _criteria(pairs: Sequence[JudgedPair], seed: int) -> dict[str, Any]:
    both = [pair.grades() for pair in pairs]
    found = {}
    for name in both[0][0]:
        a, b = (np.array([grades[side][name] for grades in both]) for side in (0, 1))
        found[name] = {
            "a": float(a.mean()),
            "b": float(b.mean()),
            "difference": float((a - b).mean()),
            "interval": bootstrap_interval(a - b, seed),
        }
    return found


def _swapped(better: Better) -> Better:
    return {"first": "second", "second": "first", "tie": "tie"}[better]


def _mean(both: tuple[Grades, Grades]) -> dict[str, float]:
    return {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
