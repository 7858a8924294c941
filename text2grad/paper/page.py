"""All tables from what the runs measured, and the page of results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.files import check_writable, write_text
from text2grad.paper.cells import Table, empty_table, policy_table, reward_table
from text2grad.paper.claims import claims_table
from text2grad.paper.measured import FLAG, Measured, read_stored, store
from text2grad.paper.models_table import models_tables
from text2grad.paper.noise_table import is_policy, noise_tables
from text2grad.paper.render import (
    body,
    caption,
    csv_text,
    header,
    latex,
    markdown,
    settings,
)
from text2grad.paper.results import read_folders
from text2grad.paper.tables_data import TABLES
from text2grad.paper.training_tables import training_tables
from text2grad.paper.variants import read_policy_row
from text2grad.report_data import read_object
from text2grad.shapes import TRUTH, check_shape
from text2grad.tables import markdown_table
from text2grad.testbed.table import testbed_markdown

if TYPE_CHECKING:
    from text2grad.config import PaperTablesConfig
    from text2grad.config.paper import PaperMetricsConfig

TABLES_COMMAND = "python paper/tables.py"
FIGURES = ("convergence", "values", "noise")
FIGURES_COMMAND = "python paper/figures.py"
TESTBED_COMMAND = "python paper/testbed.py --table_path benchmarks/results/testbed.md"
_TESTBED = {"settings": {}, "tuning": {}, "methods": {}, "complete": TRUTH}
_INTRO = f"""\
# Results

Written by `{TABLES_COMMAND}` from the metrics in `{{metrics}}` and `{{testbed}}`, which that
command and the testbed store from their runs: no figure is typed in, and a test writes this page
again and compares. Beside every table stands the command that makes its runs.

Small runs of a small model on a small machine say whether a method works here, and not how good the
paper's runs are. A 95 % interval that holds 0 shows no difference.
"""


def write_tables(args: PaperTablesConfig) -> None:
    """Store what the runs measured, and write every table in three formats, and `--results`.

    Raises:
        UserError: there is no finished run, or a file is damaged.
    """
    measured, testbed = gather(args)
    folder = check_writable(args.output_dir, "--output_dir")
    for table in all_tables(measured):
        write_text(folder / f"{table.name}.md", markdown(table), "--output_dir")
        write_text(folder / f"{table.name}.csv", csv_text(table), "--output_dir")
        write_text(folder / f"{table.name}.tex", latex(table), "--output_dir")
        print(f"{table.title}\n\n{markdown(table)}")
    print(f"tables: {folder}")
    if args.results:
        write_text(args.results, results_page(measured, testbed, args), "--results")
        print(f"results: {args.results}")


def gather(args: PaperMetricsConfig) -> tuple[list[Measured], dict[str, Any]]:
    """Store what the runs of `--runs_dir` measured; returns all that is stored.

    Returns:
        What the runs measured, and the testbed's figures, {} where it was not run.

    Raises:
        UserError: there is no finished run, or a file is damaged.
    """
    for measured in read_folders(Path(args.runs_dir)) if args.runs_dir else ():
        store(measured, args.metrics_dir)
    testbed = read_object(args.testbed, "--testbed")
    if testbed:
        check_shape(testbed, _TESTBED, f"--testbed {args.testbed}", "paper/testbed.py writes it")
    return read_stored(args.metrics_dir), testbed


def all_tables(measured: Sequence[Measured]) -> list[Table]:
    """Every table of what was measured, and those that several of them make together."""
    own = [table for one in measured for table in tables_of(one) + noise_tables(one)]
    return own + models_tables(measured)


def tables_of(measured: Measured) -> list[Table]:
    """The tables of one folder of runs, but for that of errors in critiques."""
    return [policy_table(measured), reward_table(measured), *training_tables(measured)]


def results_page(
    measured: Sequence[Measured], testbed: Mapping[str, Any], args: PaperMetricsConfig
) -> str:
    """Everything on one page: what the paper claims, every table, the testbed, what failed."""
    parts = [_INTRO.format(metrics=args.metrics_dir, testbed=args.testbed)]
    parts += ["## What was run\n", _runs(measured)]
    parts += ["## What the paper says, and what came out\n", _CLAIMS]
    parts.append(claims_table(measured, testbed))
    for task in TABLES:
        parts += _task_section(task, [one for one in measured if one.facts["table"] == task], args)
    noisy = [table for one in measured for table in noise_tables(one)]
    for title, tables, command in (
        ("Several policy models", models_tables(measured), _OTHER),
        ("Errors in critiques", noisy, _NOISE),
    ):
        parts.append(f"## {title}\n")
        parts += [text for table in tables for text in _section(table)]
        if not tables:
            parts.append(f"Not run: `{command}` adds one.\n")
    parts += ["## Controlled testbed\n", f"`{TESTBED_COMMAND}`\n"]
    parts += _testbed_parts(testbed, args)
    parts += ["## What failed\n", _failures(measured)]
    return "\n".join(parts)


def _runs(measured: Sequence[Measured]) -> str:
    rows = []
    for one in measured:
        seeds = {run.row: 0 for run in one.runs}
        for run in one.runs:
            seeds[run.row] += 1
        done = [f"{row} ({count})" for row, count in seeds.items()]
        spoilt = sum(is_policy(run) for run in one.noise)
        done += [f"with errors in critiques ({spoilt})"] if spoilt else []
        others = Counter(read_policy_row(run.row, FLAG)[0] for run in one.policies)
        done += [f"with the policy {name} ({count})" for name, count in others.items()]
        facts = one.facts
        rows.append(
            [
                f"`{one.name}`",
                facts["model"],
                facts["machine"],
                f"{one.minutes:.0f}",
                ", ".join(done) or "none",
            ]
        )
    head = ["runs", "model", "machine", "minutes", "methods (seeds)"]
    return markdown_table(head, rows) if rows else "Nothing yet.\n"


def _task_section(task: str, measured: Sequence[Measured], args: PaperMetricsConfig) -> list[str]:
    table = empty_table(task)
    parts = [f"## {table.title}\n"]
    if not measured:
        return [*parts, f"`{table.command}`\n", markdown(table)]
    for one in measured:
        tables = tables_of(one)
        parts += [f"### `{one.name}`\n", settings(tables[0])]
        parts += _figures(one.name, args)
        parts += [text for own in tables for text in _section(own)]
    return parts


def _section(table: Table) -> list[str]:
    parts = [f"#### {table.title}\n", f"`{table.command}`\n", *caption(table)]
    parts.append(markdown_table(header(table), body(table)))
    if table.claims:
        parts.append(f"The paper's own, not comparable: {'; '.join(table.claims)}.\n")
    return parts


def _figures(name: str, args: PaperMetricsConfig) -> list[str]:
    """Links to the figures that there are, as files may be missing."""
    paths = [Path(args.figures_dir) / f"{name}-{kind}.svg" for kind in FIGURES]
    found = [path for path in paths if path.exists()]
    links = [f"![{path.stem}]({path.as_posix()})\n" for path in found]
    return [f"Figures by `{FIGURES_COMMAND}`.\n", *links] if links else []


def _testbed_parts(testbed: Mapping[str, Any], args: PaperMetricsConfig) -> list[str]:
    if not testbed:
        return ["Not run.\n"]
    # its own first line is the heading that stands here
    text = testbed_markdown(testbed).partition("\n")[2].lstrip("\n")
    return [*_figures("testbed", args), re.sub(r"^#", "##", text, flags=re.M)]


def _failures(measured: Sequence[Measured]) -> str:
    failed = [f"- `{one.name}`, {line}\n" for one in measured for line in one.failures]
    return "".join(failed) or "Nothing.\n"


_OTHER = "python paper/run.py --table slf5k --policies my/model"
_NOISE = "python paper/run.py --table slf5k --noise flip:0.05 flip:0.1 flip:0.2 flip:0.4"
_CLAIMS = """\
A claim "holds here" if the whole 95 % interval lies where it says, "does not hold here" if none of
it does, and is "open" otherwise. Differences are paired by seed. The paper's figures are of other
models and lengths of training.
"""
