"""What a report shows, read from a run folder or from a file of judged responses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from text2grad.alignment_health import alignment_health
from text2grad.files import Row, read_text
from text2grad.records import read_records
from text2grad.report_entries import (
    Entry,
    record_entry,
    record_quotes,
    sample_entry,
    sample_quotes,
    verdict,
)
from text2grad.schema import UserError
from text2grad.shapes import NUMBER, TEXT, check_shape
from text2grad.tasks import TASKS, TaskSpec

SAMPLES = "samples.jsonl"
BEST = {"step": NUMBER, "valid_score": NUMBER, "checkpoint": TEXT}
Line = tuple[int, str]


@dataclass(frozen=True)
class ReportData:
    """Everything a report may show; what is empty is left out of the page.

    Attributes:
        title: heading.
        config: a run's `config.json`.
        steps: a run's `metrics.jsonl`, by step.
        best: a run's `best.json`: "step", "valid_score" and "checkpoint" of the best validation.
        entries: judged responses, as `report_entries` makes them.
        entries_total: how many there were before `spread` picked some.
        health: `alignment_health` of a run's `entries`, or of all records of a file.
        evaluation: `summary_quality.summary_report` with a before and an after.
        reward_model: `reward_quality.reward_model_report`.
        quality: figures of the annotation, any nesting.
        figures: (name, value, remark) for the top of a page without steps.
    """

    title: str
    config: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Row] = ()
    best: Mapping[str, Any] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    entries_total: int = 0
    health: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    reward_model: Mapping[str, Any] = field(default_factory=dict)
    quality: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[tuple[str, str, str]] = ()


def read_run(folder: str | Path, flag: str = "--run_dir", max_samples: int = 0) -> ReportData:
    """Read a policy run's folder; a run that is still going or was killed is read as far as it is.

    Raises:
        UserError: the folder has neither `metrics.jsonl` nor `evaluation.json`, or a file of it is
            damaged.
    """
    folder = Path(folder)
    lines, _ = _read_lines(folder / "metrics.jsonl", flag)
    steps = {row["step"]: row for row in lines if isinstance(row.get("step"), int)}
    evaluation = read_object(folder / "evaluation.json", flag) if folder.exists() else {}
    if not steps and not evaluation:
        raise UserError(f"{flag} {folder}: holds no metrics.jsonl and no evaluation.json")
    config = read_object(folder / "config.json", flag)
    task = _run_task(config)
    samples, n_samples = _read_lines(folder / SAMPLES, flag, max_samples)
    return ReportData(
        title=f"Text2Grad run {folder.resolve().name}",
        config=config,
        steps=sorted(steps.values(), key=lambda row: row["step"]),
        best=_read_best(folder, flag),
        entries=[sample_entry(row, task) for row in samples],
        entries_total=n_samples,
        health=alignment_health([sample_quotes(row) for row in samples]) if samples else {},
        evaluation=evaluation,
    )


def read_latest_samples(folder: str | Path, flag: str) -> dict[str, Entry]:
    """A run's last response to each of its prompts, by id."""
    config = read_object(Path(folder) / "config.json", flag)
    task = _run_task(config)
    latest = {str(row.get("id")): row for row in _iterate_lines(Path(folder) / SAMPLES, flag)}
    return {id_: sample_entry(row, task) for id_, row in latest.items()}


def read_judged(path: str | Path, task: TaskSpec, max_samples: int) -> ReportData:
    """Read a file of annotated responses, or of those that `2_infer.py` judged.

    Raises:
        UserError: no record has feedback.
    """
    records = read_records(path, task, ("response",))
    judged = [record for record in records if verdict(record) is not None]
    if not judged:
        key = task.critique_keys[0]
        raise UserError(f'--data_path {path}: no record has feedback (the key "{key}")')
    health = alignment_health([record_quotes(record, task) for record in judged])
    return ReportData(
        title=f"Judged responses, {Path(path).name}",
        entries=[record_entry(record, task) for record in spread(judged, max_samples)],
        entries_total=len(judged),
        health=health,
        figures=_judged_figures(health, len(judged), len(records)),
    )


def _read_best(folder: Path, flag: str) -> dict[str, Any]:
    best = read_object(folder / "best.json", flag)
    if best:
        advice = "remove it; the next best validation writes it again"
        check_shape(best, BEST, f"{flag} {folder / 'best.json'}", advice)
    return best


def read_object(path: str | Path, flag: str) -> dict[str, Any]:
    """A JSON object, {} if there is no such file."""
    if not Path(path).exists():
        return {}
    try:
        value = json.loads(read_text(path, flag))
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {path}: line {error.lineno} is not JSON: {error.msg}") from error
    if not isinstance(value, dict):
        raise UserError(f"{flag} {path}: expected a JSON object")
    return value


def spread(rows: Sequence, count: int) -> list:
    """At most `count` of the rows, evenly over their order; 0 for all.

    Example: 3 of [0 .. 8] -> [1, 4, 7]
    """
    if not count or len(rows) <= count:
        return list(rows)
    return [rows[int((number + 0.5) * len(rows) / count)] for number in range(count)]


def _judged_figures(
    health: Mapping[str, Any], n_judged: int, n_records: int
) -> list[tuple[str, str, str]]:
    read, silent = health["n_responses"], n_records - n_judged
    labels = {
        name: sum(c for kind, c in counts.items() if kind != "ambiguous")
        for name, counts in health["labels"].items()
    }
    figures = [
        ("Responses", f"{n_judged:,}", f"{silent} without feedback left out" if silent else ""),
        ("Readable", f"{read / n_judged:.1%}", f"{n_judged - read} not"),
        ("Quotes", f"{health['n_spans']:,}", ", ".join(f"{n:,} {k}" for k, n in labels.items())),
    ]
    if health["n_spans"]:
        counts = f"{health['unmatched']:,} of {health['n_spans']:,}"
        figures.append(("Quotes not in the response", f"{health['unmatched_rate']:.1%}", counts))
        figures.append(("Coverage", f"{health['coverage']:.1%}", "of the characters, quoted"))
    return figures


def _run_task(config: Mapping[str, Any]) -> TaskSpec | None:
    flags = config.get("flags") or {}
    return TASKS.get(config.get("task") or flags.get("task") or "")


def _read_lines(path: Path, flag: str, count: int = 0) -> tuple[list[Row], int]:
    """Objects of a JSON Lines file that may be missing.

    Returns:
        `count` of them, spread evenly (0 for all), and how many lines there are.
    """
    lines = _lines(path, flag)
    return list(_parse(spread(lines, count), lines, path, flag)), len(lines)


def _iterate_lines(path: Path, flag: str) -> Iterator[Row]:
    lines = _lines(path, flag)
    return _parse(lines, lines, path, flag)


def _lines(path: Path, flag: str) -> list[Line]:
    if not path.exists():
        return []
    numbered = enumerate(read_text(path, flag).split("\n"), 1)
    return [(number, line) for number, line in numbered if line.strip()]


def _parse(chosen: Sequence[Line], lines: Sequence[Line], path: Path, flag: str) -> Iterator[Row]:
    """The chosen lines as objects; the last of all may be torn by a crash and is left out then."""
    for number, line in chosen:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == lines[-1][0]:
                return
            raise UserError(f"{flag} {path}: line {number} is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise UserError(f"{flag} {path}: line {number} is no JSON object")
        yield row
