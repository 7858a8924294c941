"""How many problems a policy solves: pass@k, and how far its other solutions get."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

from text2grad.agreement import bootstrap_interval
from text2grad.tables import interval_text, text_table


@dataclass(frozen=True)
class Attempt:
    """One solution of a problem, after its tests.

    Attributes:
        problem: what tells the problem from others, its prompt.
        solved: it passed its tests.
        checks_passed: share of the assertions that held, 0 where none was reached; None where they
            are not counted, then of every attempt.
        error_type: why it did not pass, "" if it did.
    """

    problem: str
    solved: bool
    checks_passed: float | None = None
    error_type: str = ""


def pass_at_k(samples: int, solved: int, k: int) -> float:
    """Probability that one of `k` of the samples, drawn without replacement, solves the problem.

    Source: Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv:2107.03374),
    equation 1, the unbiased estimator 1 - C(n - c, k) / C(n, k).

    Example: 5 samples, 2 of them right, k = 2 -> 1 - 3 / 10 = 0.7
    """
    if not 0 < k <= samples:
        raise ValueError(f"k = {k} needs at least as many samples, there are {samples}")
    return 1 - comb(samples - solved, k) / comb(samples, k)


def problem_scores(attempts: Sequence[Attempt], k: Sequence[int]) -> dict[str, dict[str, float]]:
    """The figures of each problem: "pass@K" for every K, and "checks passed" where counted.

    Raises:
        ValueError: a problem has fewer samples than some K.
    """
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        groups[attempt.problem].append(attempt)
    scores = {}
    for problem, group in groups.items():
        solved = sum(attempt.solved for attempt in group)
        scores[problem] = {f"pass@{one}": pass_at_k(len(group), solved, one) for one in k}
        shares = [share for one in group if (share := one.checks_passed) is not None]
        if shares:
            scores[problem]["checks passed"] = sum(shares) / len(shares)
    return scores


def pass_report(
    after: Sequence[Attempt], before: Sequence[Attempt], k: Sequence[int], seed: int
) -> dict[str, Any]:
    """Means over the problems with 95 % bootstrap intervals over them, and what went wrong.

    Args:
        after: the attempts that are measured.
        before: others at the same problems, to compare with; empty for none.
        k: for pass@k.
        seed: of the bootstrap.

    Raises:
        ValueError: a problem has fewer samples than some k.
    """
    scores = problem_scores(after, k)
    earlier = problem_scores(before, k) if before else {}
    figures = {}
    for name in next(iter(scores.values())):
        values = [own[name] for own in scores.values()]
        found = {"value": sum(values) / len(values), "interval": bootstrap_interval(values, seed)}
        if earlier:
            others = [earlier[problem][name] for problem in scores]
            changes = [a - b for a, b in zip(values, others, strict=True)]
            found["before"] = sum(others) / len(others)
            found["change"] = sum(changes) / len(changes)
            found["change_interval"] = bootstrap_interval(changes, seed)
        figures[name] = found
    errors: dict[str, int] = defaultdict(int)
    for attempt in after:
        if attempt.error_type:
            errors[attempt.error_type] += 1
    report = {"problems": len(scores), "samples": len(after), "figures": figures}
    return report | {"errors": dict(sorted(errors.items()))}


def pass_table(report: Mapping[str, Any]) -> str:
    """The printed form of `pass_report`."""
    title = f"{report['problems']} problems, {report['samples']} solutions"
    rows = []
    compared = False
    for name, found in report["figures"].items():
        compared = "before" in found
        row = [name, found["value"], interval_text(found["interval"])]
        if compared:
            change = interval_text(found["change_interval"], signed=True)
            row = [name, found["before"], found["value"], f"{found['change']:+.3f}", change]
        rows.append(row)
    columns = ["before", "after", "change", "95 % interval"]
    header = [title, *(columns if compared else ["value", "95 %"])]
    errors = ", ".join(f"{count} {name}" for name, count in report["errors"].items()) or "none"
    return f"{text_table(header, rows)}\nnot passed: {errors}"
