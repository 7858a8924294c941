"""Several runs on one page: final figures, curves and answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2grad.charts import Chart, Series, line_chart
from text2grad.files import Row
from text2grad.report_data import ReportData, spread
from text2grad.report_entries import Entry
from text2grad.report_page import page_payload, render_page
from text2grad.report_pairs import across_runs
from text2grad.report_view import LINES, change_rows, flat_rows
from text2grad.trends import column, ends, find_warnings, known
from text2grad.wording import number

MAX_RUNS = 6  # as many as there are colours of lines

# name, key, whether its start is shown too
FINAL = (
    ("Score per response", "score", True),
    ("Validation score per token", "valid_score", True),
    ("KL at the end, nats per response", "kl", False),
    ("Response length, tokens", "response_tokens", True),
    ("Critiques readable", "parse_rate", False),
    ("Quotes not in the response", "unmatched_rate", False),
    ("Tokens with a score", "coverage", False),
    ("Explained variance", "explained_variance", False),
    ("Entropy, nats per token", "entropy", True),
)
SHARES = {"parse_rate", "unmatched_rate", "coverage"}


def render_comparison(
    names: Sequence[str],
    runs: Sequence[ReportData],
    groups: Sequence[Sequence[Entry]],
    title: str,
    max_pairs: int,
) -> str:
    """The page as HTML.

    Args:
        names: of the runs, distinct.
        runs: at most `MAX_RUNS`.
        groups: responses to the same prompt, one of each run.
        title: heading.
        max_pairs: validation prompts to show at most.
    """
    charts = overlay_charts(names, [run.steps for run in runs])
    pairs = across_runs(names, [run.evaluation for run in runs], max_pairs)
    settings = differing_settings([run.config for run in runs])
    parts = {
        "glance": "Final figures",
        "curves": "Curves" if charts else "",
        "before-after": "Validation answers" if pairs else "",
        "samples": "Sampled responses" if groups else "",
        "configuration": "Differing settings" if settings else "",
    }
    return render_page(
        "comparison.html.j2",
        page_payload(charts, groups, pairs, names),
        title=title,
        facts=[],
        sections=[(anchor, name) for anchor, name in parts.items() if name],
        names=list(names),
        finals=final_rows(runs),
        warnings=[
            f"{name}: {warning}"
            for name, run in zip(names, runs, strict=True)
            for warning in find_warnings(run)
        ],
        charts=charts,
        smoothed=False,
        n_pairs=len(pairs.get("rows", ())),
        n_groups=len(groups),
        settings=settings,
    )


def run_names(folders: Sequence[str | Path]) -> list[str]:
    """The shortest endings of the paths that tell the runs apart.

    Example: a/one/policy, b/two/policy -> one/policy, two/policy
    """
    paths = [Path(folder).resolve().parts[1:] for folder in folders]
    for size in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-size:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(parts)} ({place})" for place, parts in enumerate(paths, 1)]


def final_rows(runs: Sequence[ReportData]) -> list[tuple[str, list[str]]]:
    """(name, one text per run) of every figure that some run has."""
    rows = [
        (name, [_start_and_end(run.steps, key, both) for run in runs]) for name, key, both in FINAL
    ]
    rows.append(("PPO steps", [number(run.steps[-1]["step"]) if run.steps else "" for run in runs]))
    found = [{row["name"]: row for row in change_rows(run.evaluation)} for run in runs]
    for name in dict.fromkeys(name for one in found for name in one):
        cells = [f"{o[name]['before']} → {o[name]['after']}" if name in o else "" for o in found]
        rows.append((f"{name}, validation", cells))
    return [(name, [cell or "–" for cell in cells]) for name, cells in rows if any(cells)]


def overlay_charts(names: Sequence[str], runs: Sequence[Sequence[Row]]) -> list[Chart]:
    """One chart per key, one line per run that has it."""
    xs = sorted({step["step"] for steps in runs for step in steps})
    charts: list[Chart] = []
    for title, note, keys, bounds in LINES if len(xs) > 1 else ():
        for key, name in keys:
            heading = title if len(keys) == 1 else f"{title}: {name}"
            series = [
                Series(run, _at(steps, key, xs)) for run, steps in zip(names, runs, strict=True)
            ]
            if any(known(steps, key) for steps in runs):
                charts.append(line_chart(heading, xs, series, note, bounds))
    return charts


def differing_settings(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(name, one text per run) of what differs among the flags, data and versions."""
    tables = [dict(flat_rows(config)) for config in configs]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [(name, [table.get(name, "–") for table in tables]) for name in names]
    return [(name, cells) for name, cells in rows if len(set(cells)) > 1]


def common_prompts(latest: Sequence[Mapping[str, Entry]], count: int) -> list[list[Entry]]:
    """Groups of responses to the prompts that every run has.

    Args:
        latest: per run, {id of the prompt: response}.
        count: at most so many responses in all, 0 for no limit.
    """
    common = [id_ for id_ in latest[0] if all(id_ in found for found in latest)]
    chosen = spread(common, max(1, count // len(latest)) if count else 0)
    return [[found[id_] for found in latest] for id_ in chosen]


def _at(steps: Sequence[Row], key: str, xs: Sequence[int]) -> list[float | None]:
    values = dict(zip((step["step"] for step in steps), column(steps, key), strict=True))
    return [values.get(x) for x in xs]


def _start_and_end(steps: Sequence[Row], key: str, both: bool) -> str:
    found = ends(steps, key)
    if not found:
        return ""
    texts = [f"{value:.1%}" if key in SHARES else number(value) for value in found]
    return " → ".join(texts) if both else texts[1]
