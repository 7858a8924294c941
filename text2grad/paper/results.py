"""What the runs measured, read from their folders, and the cells of the tables made of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from text2grad.paper.methods import METHODS, REWARD_MODELS
from text2grad.paper.plan import JUDGE, MEASURES, ROOT
from text2grad.paper.runner import read_progress
from text2grad.paper.shared_stages import JUDGES
from text2grad.paper.tables_data import REWARD_MEASURES, TABLES, Measure
from text2grad.report_data import read_object
from text2grad.reward_report import check_reward_report
from text2grad.schema import UserError
from text2grad.shapes import NUMBER, TEXT, Maybe, check_shape
from text2grad.student import student_interval
from text2grad.tasks import get_task

FLAG = "--runs_dir"
_SETTINGS = {"table": TEXT, "budget": TEXT, "start": TEXT, "model": TEXT, "machine": TEXT}
_SETTINGS |= {"data_path": TEXT, "annotator": {"*": TEXT}}
_RUN = _SETTINGS | {"method": TEXT, "seed": NUMBER}
_JUDGE = _SETTINGS | {"reward_model": TEXT}
_EVALUATION = {"n": NUMBER, "after": {"*": Maybe(NUMBER)}}
_ADVICE = "paper/run.py writes it; remove its folder and run that again"
# what the runs of one table share
_SHARED = ("table", "budget", "start", "model", "data_path", "annotator")


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        row: key of the method, or of the reward model.
        n: records that were measured.
        figures: {measure: value}.
        facts: what the folder says of its settings.
        interval: 95 % intervals of figures, over the records.
    """

    row: str
    n: int
    figures: Mapping[str, float | None]
    facts: Mapping[str, Any]
    interval: Mapping[str, tuple[float, float] | None]


@dataclass(frozen=True)
class Cell:
    """One figure of a table; nothing but `published` where nothing was measured.

    Attributes:
        value: mean over seeds.
        interval: 95 % interval of that mean.
        seeds: runs that have the figure.
        n: records that each of them measured, the least.
        published: the paper's own figure, None where it gives none.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    seeds: int = 0
    n: int = 0
    published: float | None = None


@dataclass(frozen=True)
class Table:
    """A table with its cells.

    Attributes:
        name: of its files.
        title: heading.
        first: heading of the first column.
        measures: the other columns.
        rows: (key, title, a cell for each measure).
        facts: the settings that all its runs share, and the machines.
        interval: what the intervals are over.
        claims: what the paper says without a value for a cell.
        failures: stages that failed, with the reason.
        minutes: that all stages took.
    """

    name: str
    title: str
    first: str
    measures: Sequence[Measure]
    rows: Sequence[tuple[str, str, Sequence[Cell]]]
    facts: Mapping[str, Any]
    interval: str
    claims: Sequence[str] = ()
    failures: Sequence[str] = ()
    minutes: float = 0.0


def read_tables(folder: Path) -> list[Table]:
    """The tables of all folders of runs in `folder`.

    Raises:
        UserError: none holds a finished run, the runs of one were made with different settings, or
            a file is damaged.
    """
    found: list[Table] = []
    for own in sorted(path.parent for path in folder.glob("*/runs")):
        runs, judges = finished_runs(own / "runs"), finished_judges(own)
        found += [policy_table(own, runs)] if runs else []
        found += [reward_table(own, judges)] if judges else []
    if not found:
        raise UserError(f"{FLAG} {folder}: holds no finished run; paper/run.py makes some")
    return found


def finished_runs(folder: Path) -> list[Run]:
    """The runs in a folder that are done and measured."""
    return [_read_run(path) for path in finished(folder) if _is_done(path / MEASURES)]


def finished_judges(folder: Path) -> list[Run]:
    """What was measured against the annotation: reward models, and other annotators."""
    return [_read_judge(path) for path in finished(folder) if path.name.startswith(JUDGES)]


def policy_table(folder: Path, runs: Sequence[Run]) -> Table:
    """All methods that the table has; the cells of those without a run are empty."""
    facts = shared_facts(folder, runs)
    table = TABLES[facts["table"]]
    rows = []
    for name, method in METHODS.items():
        if not method.tables or table.task in method.tables:
            own = [run for run in runs if run.row == name]
            cells = [
                cell(own, one.name, table.published.get((name, one.name))) for one in table.measures
            ]
            rows.append((name, method.title, cells))
    return Table(
        name=folder.name,
        title=f"{table.title}, budget `{facts['budget']}`",
        first="method",
        measures=table.measures,
        rows=rows,
        facts=facts,
        interval="over seeds (Student)",
        claims=table.claims,
        failures=list(_failures(folder)),
        minutes=_minutes(folder),
    )


def reward_table(folder: Path, judges: Sequence[Run]) -> Table:
    """Every reward model, those that were not trained with empty cells, and what else judges."""
    facts = shared_facts(folder, judges)
    task = get_task(TABLES[facts["table"]].task_name(ROOT))
    labels = [label.name for label in task.labels]
    measures = [*REWARD_MEASURES]
    for name in labels:
        measures += [
            Measure(f"{name}_{kind}", f"{name} {kind}") for kind in ("precision", "recall")
        ]
    rows = []
    titles = {name: kind.title for name, kind in REWARD_MODELS.items()}
    others = [run.row for run in judges if run.row not in titles]
    for name, title in (titles | dict(zip(others, others, strict=True))).items():
        own = [run for run in judges if run.row == name]
        rows.append((name, title, [cell(own, one.name) for one in measures]))
    return Table(
        name=f"{folder.name}-reward_models",
        title=f"{TABLES[facts['table']].tree}: reward models, budget `{facts['budget']}`",
        first="reward model",
        measures=measures,
        rows=rows,
        facts=facts,
        interval="over responses (bootstrap), of the macro-F1",
    )


def cell(runs: Sequence[Run], measure: str, published: float | None = None) -> Cell:
    """The mean of a figure over the runs of one row."""
    having = [run for run in runs if run.figures.get(measure) is not None]
    if not having:
        return Cell(published=published)
    values = [float(run.figures[measure]) for run in having]
    interval = student_interval(values) or having[0].interval.get(measure)
    return Cell(mean(values), interval, len(values), min(run.n for run in having), published)


def shared_facts(folder: Path, runs: Sequence[Run]) -> dict[str, Any]:
    """The settings of all runs of a table, and the machines they ran on.

    Raises:
        UserError: two runs differ in one of them.
    """
    facts = {name: runs[0].facts[name] for name in _SHARED}
    for run in runs[1:]:
        for name in _SHARED:
            if run.facts[name] != facts[name]:
                raise UserError(
                    f"{FLAG} {folder}: {run.row} was made with {name} {run.facts[name]}, "
                    f"{runs[0].row} with {facts[name]}; run one of them again, or keep them in "
                    "different folders"
                )
    machines = sorted({run.facts["machine"] for run in runs})
    return facts | {"machine": " and ".join(machines)}


def finished(folder: Path) -> list[Path]:
    """The folders of finished stages; what was set aside is left out."""
    return [path for path in _stages(folder) if _is_done(path)]


def _is_done(folder: Path) -> bool:
    progress = read_progress(folder)
    return bool(progress and progress.done)


def _stages(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in folder.glob("*/stage.json"))
    return [path for path in found if ".aside-" not in path.name]


def _read_run(path: Path) -> Run:
    facts = read_object(path / "run.json", FLAG)
    check_shape(facts, _RUN, f"{FLAG} {path / 'run.json'}", _ADVICE)
    evaluation = read_object(path / MEASURES / "evaluation.json", FLAG)
    check_shape(evaluation, _EVALUATION, f"{FLAG} {path / MEASURES / 'evaluation.json'}", _ADVICE)
    figures = dict(evaluation["after"])
    if _is_done(path / JUDGE):
        verdict = read_object(path / JUDGE / "judge.json", FLAG)
        check_shape(verdict, {"win_rate": NUMBER}, f"{FLAG} {path / JUDGE / 'judge.json'}", _ADVICE)
        figures["win_rate"] = verdict["win_rate"]
    return Run(facts["method"], evaluation["n"], figures, facts, {})


def _read_judge(path: Path) -> Run:
    facts = read_object(path / "run.json", FLAG)
    check_shape(facts, _JUDGE, f"{FLAG} {path / 'run.json'}", _ADVICE)
    report = read_object(path / "metrics.json", FLAG)
    check_reward_report(report, f"{FLAG} {path / 'metrics.json'}")
    scores = report["systems"]["reward_model"]["tokens"]
    free = (report.get("decoding") or {}).get("unconstrained") or {}
    figures = {
        "free_parse_rate": free.get("parse_rate"),
        "free_unmatched_rate": free.get("unmatched_rate"),
        "unmatched_rate": report["quotes"]["unmatched_rate"],
        "macro_f1": scores["macro_f1"],
        "sign_accuracy": scores["sign_accuracy"],
    }
    for label, own in scores.items():
        if isinstance(own, Mapping):
            figures |= {f"{label}_{kind}": own[kind] for kind in ("precision", "recall")}
    interval = report["macro_f1_interval"].get("reward_model")
    bounds = {"macro_f1": tuple(interval) if interval else None}
    return Run(facts["reward_model"], report["responses"], figures, facts, bounds)


def _all_stages(folder: Path) -> list[Path]:
    found = sorted(path.parent for path in folder.rglob("stage.json"))
    return [path for path in found if ".aside-" not in str(path.relative_to(folder))]


def _failures(folder: Path) -> Iterator[str]:
    for path in _all_stages(folder):
        error = read_progress(path).error
        if error:
            yield f"{path.relative_to(folder)}: {error}"


def _minutes(folder: Path) -> float:
    return sum(read_progress(path).seconds for path in _all_stages(folder)) / 60
