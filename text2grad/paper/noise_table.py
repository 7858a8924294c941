"""Methods under errors in their critiques, as a table: does span credit bear more than scalar?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from text2grad.paper.cells import Cell, Row, Table, cell, lead, run_command
from text2grad.paper.measured import FLAG, Measured, Run
from text2grad.paper.methods import METHODS
from text2grad.paper.tables_data import TABLES, Measure
from text2grad.paper.variants import CLEAN, COMPARED, Variant, read_row

JUDGED = Measure("macro_f1", "macro-F1 of the reward model")


@dataclass(frozen=True)
class Group:
    """All that was run under the same errors.

    Attributes:
        variant: the errors.
        runs: of all methods.
        judges: the reward models that they used.
    """

    variant: Variant
    runs: Sequence[Run]
    judges: Sequence[Run]

    @property
    def name(self) -> str:
        """As the table calls it."""
        noise = self.variant.noise
        return f"{noise.kind} {noise.rate:.0%} of the {self.variant.at}" if noise else "none"


def noise_tables(measured: Measured) -> list[Table]:
    """The table of errors in critiques, where methods were run with some."""
    groups = read_groups(measured)
    return [noise_table(measured, groups)] if groups else []


def is_policy(run: Run) -> bool:
    """Whether it is a method's run, not a reward model, that was measured under errors."""
    return read_row(run.row, FLAG)[1] in METHODS


def read_groups(measured: Measured) -> list[Group]:
    """The runs without errors, then those with, by place, kind and rate; [] without the latter."""
    spoilt: dict[Variant, list[Run]] = {}
    for run in measured.noise:
        variant, name = read_row(run.row, f"{FLAG} {measured.name}.json:")
        spoilt.setdefault(variant, []).append(replace(run, row=name))
    noisy = []
    for variant in sorted(spoilt, key=_order):
        runs = [run for run in spoilt[variant] if run.row in METHODS]
        judges = [run for run in spoilt[variant] if run.row not in METHODS]
        if runs:
            noisy.append(Group(variant, runs, judges if variant.labels else measured.reward_models))
    run_again = {run.row for group in noisy for run in group.runs}
    exact = [run for run in measured.runs if run.row in run_again]
    return [Group(CLEAN, exact, measured.reward_models), *noisy] if noisy else []


def noise_table(measured: Measured, groups: Sequence[Group]) -> Table:
    """A row for each method under each kind of errors, and one for how far span credit leads."""
    table = TABLES[measured.facts["table"]]
    return Table(
        name=f"{measured.name}-noise",
        title=f"{table.short_title}: errors in critiques",
        first="errors: method",
        measures=[*table.measures, JUDGED],
        rows=[row for group in groups for row in _rows(group, table.measures)],
        facts=measured.facts,
        interval="over seeds (Student), of a lead over pairs of one seed",
        note=_NOTE,
        command="; ".join(_commands(measured, groups)),
    )


def _rows(group: Group, measures: Sequence[Measure]) -> list[Row]:
    rows: list[Row] = []
    for name, method in METHODS.items():
        runs = [run for run in group.runs if run.row == name]
        if runs:
            judges = [run for run in group.judges if run.row == method.reward_model]
            cells = [*(cell(runs, one.name) for one in measures), cell(judges, JUDGED.name)]
            rows.append((f"{group.name}/{name}", f"{group.name}: {method.title}", cells))
    leads = [lead(group.runs, *COMPARED, one.name) for one in measures]
    if any(one.seeds for one in leads):
        title = f"{group.name}: lead of span over scalar"
        rows.append((f"{group.name}/lead", title, [*leads, Cell()]))
    return rows


def _commands(measured: Measured, groups: Sequence[Group]) -> list[str]:
    """What makes the noisy runs: a command for each place of the errors."""
    commands = []
    for at in dict.fromkeys(group.variant.at for group in groups if group.variant.noise):
        own = [group for group in groups if group.variant.at == at]
        words = [run_command(measured.facts)]
        run = {run.row for group in own for run in group.runs}
        if run != set(COMPARED):
            words += ["--methods", *(name for name in METHODS if name in run)]
        words += ["--noise", *(group.variant.noise.flag for group in own), "--noise_at", at]
        commands.append(" ".join(words))
    return commands


def _order(variant: Variant) -> tuple[Any, ...]:
    return variant.at, variant.noise.kind, variant.noise.rate


_NOTE = """\
Errors of the labels are in what the reward model learned from, those of the rewards in what it says
during PPO. The reward model, one for all seeds, is measured by annotation without errors; the
interval of its macro-F1 is a bootstrap over responses."""
