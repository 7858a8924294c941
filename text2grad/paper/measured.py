"""What runs measured, as small JSON files that tables, figures and results are made from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2grad.files import write_text
from text2grad.report_data import read_object
from text2grad.shapes import NUMBER, TEXT, Maybe, check_shape
from text2grad.testbed.comparison import Curve

FLAG = "--metrics_dir"
ADVICE = "paper/tables.py writes it from the runs; remove it and run that again"
LISTS = ("runs", "training", "reward_models", "annotations", "noise", "policies")
_FACTS = {"table": TEXT, "budget": TEXT, "start": TEXT, "model": TEXT, "machine": TEXT}
_FACTS |= {"data": TEXT, "judge_model": TEXT, "annotator": {"*": TEXT}, "human_spans?": TEXT}
_SHAPE = {"facts": _FACTS, "minutes": NUMBER}
_RUN = {"row": TEXT, "seed": NUMBER, "n": NUMBER, "figures": {"*": Maybe(NUMBER)}}
_RUN |= {"intervals?": {"*": [NUMBER, NUMBER]}, "counts?": {"*": NUMBER}}


@dataclass(frozen=True)
class History:
    """What a policy scored while it was trained, a point for each batch of sampled responses.

    Attributes:
        steps: batches up to the point.
        samples: responses up to it.
        score: sum of the token scores, mean over responses.
        reward: the same minus the KL penalty, () where it was not logged.
    """

    steps: tuple[int, ...]
    samples: tuple[int, ...]
    score: tuple[float, ...]
    reward: tuple[float, ...] = ()

    def curve(self, measure: str = "score", over: str = "steps") -> Curve:
        """One of the two over steps or samples."""
        return Curve(getattr(self, over), getattr(self, measure))


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        row: key of the method, the reward model or the annotation.
        n: what was measured: records, or steps of training.
        figures: {measure: value}.
        seed: of the run.
        intervals: 95 % intervals of figures, over what was measured.
        counts: what was measured for figures that are about something else.
        history: of a policy that was trained on sampled responses.
    """

    row: str
    n: int
    figures: Mapping[str, float | None]
    seed: int = 0
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    history: History | None = None


@dataclass(frozen=True)
class Measured:
    """All that the runs of one table under one set of reward models measured.

    Attributes:
        name: of its files.
        facts: settings that all its runs share, the start of its reward models, the file of what
            people marked, and the machines; "model" is not that of `policies`.
        runs: policies, by their answers.
        training: the same policies, by the steps of their training.
        reward_models: by their judgements.
        annotations: by what was asked of the annotator.
        noise: policies and reward models under errors in critiques, by `Variant.row`.
        policies: policies of other models under the same reward models, likewise.
        failures: stages that failed, with the reason.
        minutes: that all stages took.
    """

    name: str
    facts: Mapping[str, Any]
    runs: Sequence[Run] = ()
    training: Sequence[Run] = ()
    reward_models: Sequence[Run] = ()
    annotations: Sequence[Run] = ()
    noise: Sequence[Run] = ()
    policies: Sequence[Run] = ()
    failures: Sequence[str] = ()
    minutes: float = 0.0


def store(measured: Measured, folder: str | Path) -> None:
    """Write `NAME.json`, a line for each run."""
    parts = [f'"facts": {_json(measured.facts)}', f'"minutes": {_json(measured.minutes)}']
    parts.append(f'"failures": {_json(list(measured.failures))}')
    for name in LISTS:
        lines = ",\n  ".join(_json(_run_row(run)) for run in getattr(measured, name))
        parts.append(f'"{name}": [\n  {lines}\n]' if lines else f'"{name}": []')
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    write_text(Path(folder) / f"{measured.name}.json", text, FLAG)


def read_stored(folder: str | Path) -> list[Measured]:
    """All files of a folder, by name; none where there is no such folder.

    Raises:
        UserError: a file is damaged.
    """
    return [_read(path) for path in sorted(Path(folder).glob("*.json"))]


def _read(path: Path) -> Measured:
    stored, source = read_object(path, FLAG), f"{FLAG} {path}"
    check_shape(stored, _SHAPE, source, ADVICE)
    lists = {}
    for name in LISTS:
        rows = stored.get(name) or []
        for row in rows:
            check_shape(row, _RUN, source, ADVICE)
        lists[name] = [_run(row) for row in rows]
    failures, minutes = stored.get("failures") or [], stored["minutes"]
    return Measured(path.stem, stored["facts"], failures=failures, minutes=minutes, **lists)


def _run_row(run: Run) -> dict[str, Any]:
    figures = {name: value for name, value in run.figures.items() if value is not None}
    row = {"row": run.row, "seed": run.seed, "n": run.n, "figures": figures}
    for name in ("intervals", "counts"):
        if values := getattr(run, name):
            row[name] = dict(values)
    if run.history:
        row["history"] = vars(run.history)
    return row


def _run(row: Mapping[str, Any]) -> Run:
    history = row.get("history")
    if history:
        history = History(**{name: tuple(values) for name, values in history.items()})
    intervals = {name: (low, high) for name, (low, high) in row.get("intervals", {}).items()}
    counts = row.get("counts", {})
    return Run(row["row"], row["n"], row["figures"], row["seed"], intervals, counts, history)


def _json(value: Any) -> str:
    return json.dumps(_short(value), ensure_ascii=False)


def _short(value: Any) -> Any:
    """Floats with six digits: more would say nothing, and make every file longer."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _short(one) for name, one in value.items()}
    return [_short(one) for one in value] if isinstance(value, (list, tuple)) else value
