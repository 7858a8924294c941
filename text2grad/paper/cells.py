"""The cells of tables, from what was measured, and the tables on policies and reward models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from text2grad.paper.budgets import BUDGETS, EMBEDDED
from text2grad.paper.measured import Measured, Run
from text2grad.paper.methods import METHODS, OTHER_JUDGES, REWARD_MODELS
from text2grad.paper.plan import ROOT
from text2grad.paper.tables_data import PEOPLE_MEASURES, REWARD_MEASURES, TABLES, Measure
from text2grad.student import student_interval
from text2grad.tasks import get_task
from text2grad.testbed.comparison import paired_difference

_PEOPLE = """\
Macro-F1 is the mean over the labels and "unmarked". The last columns are of other responses, in
which people marked spans (`--human_spans`), word by word."""
OVER_SEEDS = "over seeds (Student)"
RECORDS = "records that were measured"


@dataclass(frozen=True)
class Cell:
    """One figure of a table; nothing but `published` where nothing was measured.

    Attributes:
        value: mean over seeds.
        interval: 95 % interval of that mean.
        seeds: runs that have the figure.
        n: what each of them measured, the least.
        published: the paper's own figure, None where it gives none.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    n: int = 0
    published: float | None = None


Row = tuple[str, str, Sequence[Cell]]


@dataclass(frozen=True)
class Table:
    """A table with its cells.

    Attributes:
        name: of its files.
        title: heading.
        first: heading of the first column.
        measures: the other columns.
        rows: (key, title, a cell for each measure).
        facts: the settings that all its runs share, and the machines; {} where nothing was run.
        interval: what the intervals are over.
        unit: what n counts.
        note: how to read it, beyond that.
        claims: what the paper says without a value for a cell.
        command: makes the runs.
    """

    name: str
    title: str
    first: str
    measures: Sequence[Measure]
    rows: Sequence[Row]
    facts: Mapping[str, Any]
    interval: str = OVER_SEEDS
    unit: str = RECORDS
    note: str = ""
    claims: Sequence[str] = ()
    command: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether no cell has a value."""
        return all(cell.value is None for _, _, cells in self.rows for cell in cells)


def cell(runs: Iterable[Run], measure: str, published: float | None = None) -> Cell:
    """The mean of a figure over the runs of one row."""
    having = [run for run in runs if run.figures.get(measure) is not None]
    if not having:
        return Cell(published=published)
    values = [float(run.figures[measure]) for run in having]
    interval = student_interval(values) or having[0].intervals.get(measure)
    n = min(run.counts.get(measure, run.n) for run in having)
    return Cell(mean(values), interval, len(values), n, published)


def paired(runs: Sequence[Run], ours: str, theirs: str) -> list[tuple[Run, Run]]:
    """The runs of two methods with the same seed, by seed."""
    sides = [{run.seed: run for run in runs if run.row == row} for row in (ours, theirs)]
    return [(sides[0][seed], sides[1][seed]) for seed in sorted(sides[0]) if seed in sides[1]]


def lead(runs: Sequence[Run], ours: str, theirs: str, measure: str) -> Cell:
    """Mean difference of a figure over the seeds with which two methods both have it."""
    pairs = [
        pair
        for pair in paired(runs, ours, theirs)
        if all(run.figures.get(measure) is not None for run in pair)
    ]
    if not pairs:
        return Cell()
    sides = [[float(run.figures[measure]) for run in side] for side in zip(*pairs, strict=True)]
    found = paired_difference(*sides)
    n = min(run.counts.get(measure, run.n) for pair in pairs for run in pair)
    return Cell(found["mean"], found["interval"], len(pairs), n)


def method_rows(
    task: str, runs: Sequence[Run], measures: Sequence[Measure], only: Sequence[str] = ()
) -> list[Row]:
    """A row for each method that a table has; the cells of those without a run are empty.

    Args:
        task: whose table.
        runs: of all methods.
        measures: the columns.
        only: the methods that can have such figures, () for all.
    """
    table, rows = TABLES[task], []
    for name, method in METHODS.items():
        if (method.tables and task not in method.tables) or (only and name not in only):
            continue
        own = [run for run in runs if run.row == name]
        cells = [cell(own, m.name, table.published.get((name, m.name))) for m in measures]
        rows.append((name, method.title, cells))
    return rows


def policy_table(measured: Measured) -> Table:
    """All methods by the answers of their policies."""
    table = TABLES[measured.facts["table"]]
    return Table(
        name=measured.name,
        title=table.title,
        first="method",
        measures=table.measures,
        rows=method_rows(table.task, measured.runs, table.measures),
        facts=measured.facts,
        claims=table.claims,
        command=run_command(measured.facts),
    )


def empty_table(task: str) -> Table:
    """The table of a task without a run: what the paper gives, and nothing else."""
    measured = Measured(task, {"table": task, "budget": "small"})
    return replace(policy_table(measured), facts={})


def reward_table(measured: Measured) -> Table:
    """Every reward model, those that were not trained with empty cells, and what else judges."""
    facts = measured.facts
    table = TABLES[facts["table"]]
    measures = [*REWARD_MEASURES]
    for label in get_task(table.task_name(ROOT)).labels:
        measures += [
            Measure(f"{label.name}_{kind}", f"{label.name} {kind}")
            for kind in ("precision", "recall")
        ]
    measures += PEOPLE_MEASURES
    measured_by = f" --human_spans {facts['human_spans']}" if facts.get("human_spans") else ""
    rows, commands = [], [run_command(facts) + measured_by]
    titles = {name: kind.title for name, kind in REWARD_MODELS.items()}
    for run in measured.reward_models:
        if run.row not in titles:
            flag, _, runs = run.row.partition("-")
            titles[run.row] = OTHER_JUDGES[flag].format(runs) if flag in OTHER_JUDGES else run.row
            commands.append(f"{run_command(facts)} --{flag} runs/paper/{runs}")
    for name, title in titles.items():
        own = [run for run in measured.reward_models if run.row == name]
        rows.append((name, title, [cell(own, one.name) for one in measures]))
    return Table(
        name=f"{measured.name}-reward_models",
        title=f"{table.short_title}: reward models, with and without CoT",
        first="reward model",
        measures=measures,
        rows=rows,
        facts=facts,
        interval="over responses (bootstrap), of macro-F1 and kappa",
        unit="responses that were judged",
        note=_PEOPLE,
        command="; ".join(commands),
    )


def run_command(facts: Mapping[str, Any]) -> str:
    """The command that makes the runs; what is not a default has its flag.

    Example: table slf5k, budget small, from SFT -> "python paper/run.py --table slf5k --budget
    small --start sft"
    """
    words = ["python paper/run.py --table", facts["table"], "--budget", facts["budget"]]
    budget = BUDGETS.get(facts["budget"], {}).get(facts["table"])
    if facts.get("start", "base") != "base":
        words += ["--start", facts["start"]]
    if budget and facts.get("model", "") not in ("", Path(budget.model or EMBEDDED).name):
        words += ["--model", facts["model"]]
    if facts.get("data"):
        words += ["--data_path", facts["data"]]
    asked = facts.get("annotator", {})
    if budget and asked.get("annotator", budget.annotator) != budget.annotator:
        words += ["--annotator", asked["annotator"]]
    if asked.get("annotator_model"):
        words += ["--annotator_model", asked["annotator_model"]]
    return " ".join(words)
