"""Answers to the same prompts, to be read side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from text2grad.report_data import spread
from text2grad.wording import pretty

Sample = Mapping[str, Any]
Side = tuple[str, str, Sequence[Sample]]  # title, key of its text, one sample per prompt


def before_after(evaluation: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Reference, before and after of an evaluation, as far as it holds them.

    Args:
        evaluation: `summary_quality.summary_report`.
        count: at most so many prompts, spread evenly.

    Returns:
        "titles" of the columns, "score" (the name of the measure shown beside each text, "" for
        none) and "rows", each with "prompt" and one text and one score (or None) per column, and
        where they were tested also what the tests said; {} without samples.
    """
    samples = spread(evaluation.get("samples") or [], count)
    sides = [
        ("Human reference", "reference", samples),
        ("Before", "before", samples),
        ("After", "after", samples),
    ]
    return _side_by_side(sides)


def across_runs(
    names: Sequence[str], evaluations: Sequence[Mapping[str, Any]], count: int
) -> dict[str, Any]:
    """The answers after training of several runs to the prompts that all of them answered.

    What was there before stands beside them once where all runs started from the same answers.

    Args:
        names: of the runs.
        evaluations: one per run.
        count: at most so many prompts, spread evenly.
    """
    by_id = [{one.get("id"): one for one in e.get("samples") or ()} for e in evaluations]
    common = spread([id_ for id_ in by_id[0] if all(id_ in found for found in by_id)], count)
    samples = [[found[id_] for id_ in common] for found in by_id]
    sides: list[Side] = [("Human reference", "reference", samples[0])]
    earlier = [[one.get("before") for one in found] for found in samples]
    if all(texts == earlier[0] for texts in earlier):
        sides.append(("Before", "before", samples[0]))
    sides += [(name, "after", found) for name, found in zip(names, samples, strict=True)]
    return _side_by_side(sides)


def _side_by_side(sides: Sequence[Side]) -> dict[str, Any]:
    sides = [side for side in sides if any(one.get(side[1]) is not None for one in side[2])]
    if not sides:
        return {}
    measure = _measure(sides[-1][2])
    rows = []
    for number, one in enumerate(sides[0][2]):
        found = [(key, samples[number]) for _, key, samples in sides]
        texts = [sample.get(key) or "" for key, sample in found]
        scores = [(sample.get(f"{key}_scores") or {}).get(measure) for key, sample in found]
        tests = [sample.get(f"{key}_tests") for key, sample in found]
        row = {"prompt": one.get("prompt") or "", "texts": texts, "scores": scores}
        if any(tests):
            row["tests"] = [_tested(*pair) for pair in zip(texts, tests, strict=True)]
        rows.append(row)
    titles = [title for title, _, _ in sides]
    return {"titles": titles, "score": pretty(measure) if measure else "", "rows": rows}


def _tested(text: str, result: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How a text ended under its tests, its "pieces" sound and faulty in turn, and the critique."""
    if not result:
        return None
    outcome = str(result["outcome"]).replace("_", " ")
    cuts = [0, *(edge for place in sorted(result.get("faults") or ()) for edge in place), len(text)]
    return {
        "outcome": f"{outcome}, {result['held']} of {result['checks']} checks hold",
        "pieces": [text[start:end] for start, end in pairwise(cuts)],
        "critique": result.get("critique") or "",
    }


def _measure(samples: Sequence[Sample]) -> str:
    """The checks that hold where there are any, else ROUGE-L, else the first that is no length."""
    known = [name for name in samples[0].get("after_scores") or {} if name != "mean_words"]
    if "checks_passed" in known:
        return "checks_passed"
    return "rougeL" if "rougeL" in known else next(iter(known), "")
