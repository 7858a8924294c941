"""The same methods with several policy models, and what each gains over its own start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from text2grad.paper.cells import Cell, Row, Table, lead, method_rows, run_command
from text2grad.paper.measured import FLAG, Measured, Run
from text2grad.paper.methods import METHODS, REWARD_MODELS, SCALAR
from text2grad.paper.tables_data import TABLES, Measure
from text2grad.paper.variants import read_policy_row

GAIN = "over its own start"
_TOLD_APART = ("table", "budget", "start", "data", "annotator")


def models_tables(measured: Sequence[Measured]) -> list[Table]:
    """The tables of several policy models.

    Returns:
        One for each folder of runs in which further policies were trained under its reward models,
        and one for each table, budget and annotator whose folders have different models.
    """
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for one in measured:
        names = tuple(str(one.facts[name]) for name in _TOLD_APART)
        groups.setdefault(names, []).append(one)
    several = [group for group in groups.values() if len({o.facts["model"] for o in group}) > 1]
    shared = [shared_table(one) for one in measured if one.policies]
    return shared + [apart_table(group) for group in several]


def shared_table(measured: Measured) -> Table:
    """Several policies that were trained under the same reward models."""
    facts, table = measured.facts, TABLES[measured.facts["table"]]
    policies = {facts["model"]: list(measured.runs)}
    for run in measured.policies:
        name, method = read_policy_row(run.row, f"{FLAG} {measured.name}.json:")
        policies.setdefault(name, []).append(replace(run, row=method))
    rows = [
        row
        for name, runs in policies.items()
        for row in _rows(name, name, runs, measured, table.measures)
    ]
    others = [name for name in policies if name != facts["model"]]
    return Table(
        name=f"{measured.name}-policies",
        title=f"{table.short_title}: one reward model, several policy models",
        first="policy, method",
        measures=table.measures,
        rows=rows,
        facts=facts | {"model": ", ".join(policies)},
        note=f"{_shared_judges(measured)} {_GAINS}",
        command=f"{run_command(facts)} --policies {' '.join(others)}",
    )


def apart_table(group: Sequence[Measured]) -> Table:
    """Several policies, each trained under a reward model of its own.

    Args:
        group: what was measured with each; table, budget and annotator are the same.
    """
    facts, rows = group[0].facts, []
    table = TABLES[facts["table"]]
    for one in group:
        title = f"{one.facts['model']} (reward model: {one.facts['judge_model'] or 'none'})"
        rows += _rows(one.name, title, one.runs, one, table.measures)
    return Table(
        name=f"{table.task}-{facts['budget']}-models",
        title=f"{table.short_title}: several policy models, each with a reward model of its own",
        first="policy, method",
        measures=table.measures,
        rows=rows,
        facts=facts | {"model": ", ".join(one.facts["model"] for one in group)},
        note=_GAINS,
        command="; ".join(run_command(one.facts) for one in group),
    )


def gain(runs: Sequence[Run], ours: str, start: str, measure: str) -> Cell:
    """Mean difference of a method's figure from that of the model it starts from.

    A start that was trained has a run for each seed, and seeds are paired. An untrained one
    answered once, and every seed is compared with that.
    """
    if not METHODS[start].is_trained:
        once = [run for run in runs if run.row == start]
        runs = [run for run in runs if run.row == ours]
        runs += [replace(one, seed=run.seed) for one in once for run in runs]
    return lead(runs, ours, start, measure)


def _rows(
    key: str, policy: str, runs: Sequence[Run], measured: Measured, measures: Sequence[Measure]
) -> list[Row]:
    """A row for each method that was run, and one for what it gains over the policy's start."""
    start, rows = measured.facts["start"], []
    for name, title, cells in method_rows(measured.facts["table"], runs, measures):
        if all(one.value is None for one in cells):
            continue
        plain = [replace(one, published=None) for one in cells]
        rows.append((f"{key}:{name}", f"{policy}: {title}", plain))
        gains = [gain(runs, name, start, one.name) for one in measures]
        if name not in ("base", start) and any(one.seeds for one in gains):
            rows.append((f"{key}:{name}:gain", f"{policy}: {title}, {GAIN}", gains))
    return rows


def _shared_judges(measured: Measured) -> str:
    """Which reward models the policies share."""
    found = {run.row for run in (*measured.runs, *measured.policies)}
    used = {METHODS[row.rpartition("/")[2]].reward_model for row in found}
    titles = [kind.title for name, kind in REWARD_MODELS.items() if name in used]
    titles += ["a learned scalar"] if SCALAR in used else []
    if not titles:
        return "No method here has a reward model."
    facts, kinds = measured.facts, " and ".join(f'"{title}"' for title in titles)
    by = f" Perplexity is that by {facts['model']}, whatever the policy."
    columns = {measure.name for measure in TABLES[facts["table"]].measures}
    return (
        f"All policies share what judges them, trained once from {facts['judge_model']}: {kinds}; "
        f"the table of reward models of `{measured.name}` says what it is worth."
        f"{by if 'perplexity' in columns else ''}"
    )


_GAINS = f"""\
"{GAIN.capitalize()}" is the difference from the same policy before the method, its interval over
the seeds; of an untrained start, which answered once, with that one run."""
