"""Methods under errors in their critiques, as a table: does span credit bear more than scalar?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from text2grad.paper.methods import METHODS
from text2grad.paper.results import (
    Cell,
    Run,
    Table,
    cell,
    finished_judges,
    finished_runs,
    shared_facts,
)
from text2grad.paper.tables_data import TABLES, Measure
from text2grad.paper.variants import COMPARED, NOISE_FOLDER
from text2grad.student import student_interval

JUDGED = Measure("macro_f1", "macro-F1 of the reward model")


@dataclass(frozen=True)
class Group:
    """All that was run under one noise.

    Attributes:
        name: as the table calls it.
        runs: of all methods.
        judges: the reward model that they used.
    """

    name: str
    runs: Sequence[Run]
    judges: Sequence[Run]


def read_noise_tables(folder: Path) -> list[Table]:
    """A table for each folder of runs in `folder` that has noisy ones.

    Raises:
        UserError: the runs of one were made with different settings, or a file is damaged.
    """
    owners = sorted(path.parent for path in folder.glob(f"*/{NOISE_FOLDER}"))
    groups = {own: read_groups(own) for own in owners}
    return [noise_table(own, found) for own, found in groups.items() if len(found) > 1]


def read_groups(folder: Path) -> list[Group]:
    """The runs without noise, then those of each noise by place, kind and rate."""
    exact = [run for run in finished_judges(folder) if run.row == "spans"]
    noisy: list[tuple[tuple[str, str, float], Group]] = []
    for path in sorted((folder / NOISE_FOLDER).iterdir()):
        runs = finished_runs(path)
        if runs:
            facts = runs[0].facts
            at, kind, rate = facts["noise_at"], facts["noise"], facts["rate"]
            judges = finished_judges(path) if at == "labels" else exact
            name = f"{kind} {rate:.0%} of the {at}"
            noisy.append(((at, kind, rate), Group(name, runs, judges)))
    noisy.sort(key=lambda pair: pair[0])
    run_again = {run.row for _, group in noisy for run in group.runs}
    clean = [run for run in finished_runs(folder / "runs") if run.row in run_again]
    return [Group("none", clean, exact), *(group for _, group in noisy)]


def noise_table(folder: Path, groups: Sequence[Group]) -> Table:
    """A row for each method under each noise, and one for how far span credit leads."""
    facts = shared_facts(folder, [run for group in groups for run in group.runs])
    table = TABLES[facts["table"]]
    rows = []
    for group in groups:
        judged = cell(group.judges, JUDGED.name)
        for name, method in METHODS.items():
            runs = [run for run in group.runs if run.row == name]
            if runs:
                cells = [cell(runs, one.name) for one in table.measures]
                title = f"{group.name}: {method.title}"
                rows.append((f"{group.name}/{name}", title, [judged, *cells]))
        ours, theirs = ([run for run in group.runs if run.row == name] for name in COMPARED)
        leads = [lead(ours, theirs, one.name) for one in table.measures]
        if any(one.seeds for one in leads):
            title = f"{group.name}: lead of span over scalar"
            rows.append((f"{group.name}/lead", title, [Cell(), *leads]))
    return Table(
        name=f"{folder.name}-noise",
        title=f"{table.tree if not table.task_file else table.task}: errors in critiques, budget "
        f"`{facts['budget']}`",
        first="errors: method",
        measures=[JUDGED, *table.measures],
        rows=rows,
        facts=facts,
        interval="over seeds (Student), of a lead over pairs of one seed",
    )


def lead(ours: Sequence[Run], theirs: Sequence[Run], measure: str) -> Cell:
    """Mean difference of a figure over the seeds that both have it for."""
    known = {run.facts["seed"]: run for run in theirs if run.figures.get(measure) is not None}
    pairs = [
        (run, known[run.facts["seed"]])
        for run in ours
        if run.figures.get(measure) is not None and run.facts["seed"] in known
    ]
    if not pairs:
        return Cell()
    values = [float(a.figures[measure]) - float(b.figures[measure]) for a, b in pairs]
    n = min(min(a.n, b.n) for a, b in pairs)
    return Cell(mean(values), student_interval(values), len(values), n)
