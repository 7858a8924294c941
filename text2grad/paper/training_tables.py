"""The tables on training: convergence, time, what was marked; and on annotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from text2grad.paper.cells import Cell, Row, Table, cell, method_rows, paired, run_command
from text2grad.paper.measured import Measured, Run
from text2grad.paper.methods import ANNOTATIONS, METHODS, REWARD_MODELS
from text2grad.paper.tables_data import (
    ANNOTATION_MEASURES,
    CONVERGENCE_MEASURES,
    SIGNAL_MEASURES,
    TABLES,
    TIME_MEASURES,
    Measure,
)
from text2grad.testbed.comparison import compare_curves

BASELINE = "scalar_ppo"
RISE = 0.95
SMOOTHED = 10
"""a point of a smooth curve is the mean over the last tenth of the steps up to it"""
STEPS = "steps of training"
_SAMPLED = ("ppo", "grpo")


def training_tables(measured: Measured) -> list[Table]:
    """Convergence, time and signal of the policies, and what annotation took."""
    signal = "label coverage and stability"
    return [
        convergence_table(measured),
        _table(measured, "time", "time of a step", TIME_MEASURES, ("ppo",), _TIME),
        _table(measured, "signal", signal, SIGNAL_MEASURES, ("ppo",), _SIGNAL),
        annotation_table(measured),
    ]


def convergence_table(measured: Measured) -> Table:
    """Steps and responses to 95 % of the rise, and steps saved against PPO with a scalar."""
    runs = [replace(run, figures=convergence(run)) for run in measured.training]
    table = _table(
        replace(measured, training=runs),
        "convergence",
        "convergence",
        CONVERGENCE_MEASURES,
        _SAMPLED,
        _CONVERGENCE.format(baseline=METHODS[BASELINE].title),
    )
    rows = [_with_saved(row, measured) for row in table.rows]
    return replace(table, rows=rows)


def convergence(run: Run) -> dict[str, float | None]:
    """When a run had risen to where it ends.

    Returns:
        "first_score" and "last_score" of the smooth curve; "steps_to_95" and "samples_to_95", to
        95 % of the way from the one to the other, "share_to_95" of the last step, all three left
        out where it did not rise; "best_share", of the last step, at which the curve is highest.

    Example: scores 0, 5, 9.5, 10 without smoothing -> 3 steps of 4
    """
    history = run.history
    if not history or not history.steps:
        return {}
    curve = history.curve().smooth(window_of(history.steps))
    first, last, steps = curve.values[0], curve.final, curve.steps
    found: dict[str, float | None] = {"first_score": first, "last_score": last}
    found["best_share"] = steps[curve.values.index(max(curve.values))] / steps[-1]
    if last > first:
        reached = curve.first_reach(first + RISE * (last - first))
        found |= {
            "steps_to_95": reached,
            "samples_to_95": history.samples[steps.index(reached)],
            "share_to_95": reached / steps[-1],
        }
    return found


def steps_saved(measured: Measured, ours: str, theirs: str = BASELINE) -> Cell:
    """Share of the steps of another method saved until its final score, paired by seed.

    The two must be judged by the same reward model; runs that never get there count with all of
    their steps.
    """
    pairs = paired(measured.training, ours, theirs)
    pairs = [(a, b) for a, b in pairs if a.history and b.history]
    if not pairs:
        return Cell()
    steps = pairs[0][1].history.steps
    sides = [[pair[side].history.curve() for pair in pairs] for side in (0, 1)]
    found = compare_curves(*sides, steps[-1], window_of(steps))["steps"]
    return Cell(found["saved"], found["saved_interval"], len(pairs), steps[-1])


def window_of(steps: Sequence[int]) -> int:
    """Points over which a curve of so many is smoothed."""
    return max(1, len(steps) // SMOOTHED)


def annotation_table(measured: Measured) -> Table:
    """What was asked of the annotator, what it took, and how much it marked."""
    titles = {kind.annotation: kind.title for kind in REWARD_MODELS.values()}
    table, rows = TABLES[measured.facts["table"]], []
    for name in ANNOTATIONS:
        own = [run for run in measured.annotations if run.row == name]
        cells = [
            cell(own, m.name, table.published.get((name, m.name))) for m in ANNOTATION_MEASURES
        ]
        rows.append((name, titles[name], cells))
    return Table(
        name=f"{measured.name}-annotation",
        title=f"{table.short_title}: tokens, cost and coverage of annotation",
        first="annotation",
        measures=ANNOTATION_MEASURES,
        rows=rows,
        facts=measured.facts,
        interval="over responses (Student)",
        unit="responses that were annotated",
        note=_ANNOTATION,
        command=run_command(measured.facts),
    )


def _table(
    measured: Measured,
    name: str,
    title: str,
    measures: Sequence[Measure],
    training: Sequence[str],
    note: str,
) -> Table:
    task = measured.facts["table"]
    only = [name for name, method in METHODS.items() if method.training in training]
    return Table(
        name=f"{measured.name}-{name}",
        title=f"{TABLES[task].short_title}: {title}",
        first="method",
        measures=measures,
        rows=method_rows(task, measured.training, measures, only),
        facts=measured.facts,
        unit=STEPS,
        note=note,
        command=run_command(measured.facts),
    )


def _with_saved(row: Row, measured: Measured) -> Row:
    """The row with its last cell, the steps saved, where both methods have the same judge."""
    key, title, cells = row
    judged_alike = METHODS[key].reward_model == METHODS[BASELINE].reward_model
    if key == BASELINE or not judged_alike:
        return row
    published: Any = cells[-1].published
    return key, title, [*cells[:-1], replace(steps_saved(measured, key), published=published)]


_CONVERGENCE = """\
The score is that of the method's own reward model, summed over a response, so it compares seeds of
one method and methods with the same reward model. A step is one batch of sampled responses. Curves
are smoothed over a tenth of their steps; 95 % of the rise is 95 % of the way from the first point
to the last, and empty for a run that did not rise. Steps saved: 1 - ours / theirs to the score with
which "{baseline}" of the same seed ends; the interval is a bootstrap over pairs of seeds, and a run
that never gets there counts with all its steps."""
_TIME = """\
Means over the steps of a run; with several processes the slowest counts. The last column is the
time of the critiques over that of the rest of the step."""
_SIGNAL = """\
Means over the steps of a run. The reward is a response's score minus its KL penalty, and its
variance that between the responses of a step; that of the advantage is between the tokens of a
step, before whitening. A learned scalar marks no token."""
_ANNOTATION = """\
Tokens and cost as the server counted them, by the price table of `text2grad/prices.json`, requests
that were repeated included; an annotator without a server takes none. The paper counts tokens, here
words are counted, whatever the tokenizer."""
