"""The tables as Markdown, CSV and LaTeX, and all of them as one page of results."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.files import check_writable, write_text
from text2grad.paper.noise_results import read_noise_tables
from text2grad.paper.results import Cell, Table, read_tables
from text2grad.tables import interval_text, markdown_table

if TYPE_CHECKING:
    from text2grad.config import PaperTablesConfig

_NOT_COMPARABLE = "paper, not comparable"
_SCALE = (
    "The paper's own figures stand beside ours where it gives them. They are of its models, data "
    "and lengths of training: at another scale the two cannot be compared."
)
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "\\": r"\textbackslash{}"}


def write_tables(args: PaperTablesConfig) -> None:
    """Write every table in three formats, and `--results`.

    Raises:
        UserError: there is no finished run, or a file of one is damaged.
    """
    tables = read_tables(Path(args.runs_dir))
    tables += read_noise_tables(Path(args.runs_dir))
    folder = check_writable(args.output_dir, "--output_dir")
    for table in tables:
        write_text(folder / f"{table.name}.md", markdown(table), "--output_dir")
        write_text(folder / f"{table.name}.csv", csv_text(table), "--output_dir")
        write_text(folder / f"{table.name}.tex", latex(table), "--output_dir")
        print(markdown(table))
    print(f"tables: {folder}")
    if args.results:
        write_text(args.results, results_page(tables, args.runs_dir), "--results")
        print(f"results: {args.results}")


def markdown(table: Table) -> str:
    """A caption, the table, and what else the paper says."""
    parts = [caption(table), markdown_table(header(table), body(table))]
    if table.claims:
        claims = "; ".join(table.claims)
        parts.append(f"The paper's own, not comparable at another scale: {claims}.\n")
    return "\n".join(parts)


def caption(table: Table) -> str:
    """What was run, and how to read a cell."""
    facts = table.facts
    who = " ".join(value for value in facts["annotator"].values() if value)
    data = f", data {Path(facts['data_path']).name}" if facts["data_path"] else ""
    lines = [
        f"Model {Path(facts['model']).name}, annotator {who}, policies from `{facts['start']}`"
        f"{data}; on {facts['machine']}.",
        f"A cell is the mean over seeds with its 95 % interval {table.interval}; no interval: one "
        "seed; empty: no run.",
    ]
    if _has_published(table):
        lines.append(_SCALE)
    return "\n".join(lines) + "\n"


def header(table: Table) -> list[str]:
    """Headings of the columns."""
    names = [table.first, "seeds", "n"]
    for place, measure in enumerate(table.measures):
        names.append(measure.title)
        if _is_published(table, place):
            names.append(f"{measure.title} ({_NOT_COMPARABLE})")
    return names


def body(table: Table) -> list[list[str]]:
    """The rows as text."""
    rows = []
    for _, title, cells in table.rows:
        seeds = max(one.seeds for one in cells)
        row = [title, _number(seeds), _number(_least(cells))]
        for place, one in enumerate(cells):
            fewer = f" ({one.seeds} of {seeds} seeds)" if 0 < one.seeds < seeds else ""
            row.append(cell_text(one) + fewer)
            if _is_published(table, place):
                row.append("" if one.published is None else f"{one.published:.3f}")
        rows.append(row)
    return rows


def cell_text(cell: Cell) -> str:
    """The value with its interval, "" where there is none.

    Example: Cell(0.5, (0.25, 0.75)) -> "0.500 [0.250, 0.750]"
    """
    if cell.value is None:
        return ""
    return f"{cell.value:.3f} {interval_text(cell.interval)}".strip()


def csv_text(table: Table) -> str:
    """One line per cell, with everything known of it in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["table", "budget", "row", "measure", "value", "low", "high", "seeds", "n", "paper"]
    )
    for key, _, cells in table.rows:
        for measure, one in zip(table.measures, cells, strict=True):
            low, high = one.interval or ("", "")
            value = "" if one.value is None else one.value
            published = "" if one.published is None else one.published
            known = [table.facts["table"], table.facts["budget"], key, measure.name]
            writer.writerow(
                [*known, value, low, high, _number(one.seeds), _number(one.n), published]
            )
    return out.getvalue()


def latex(table: Table) -> str:
    """A tabular with its caption as comments."""
    names, rows = header(table), body(table)
    lines = [f"% {line}" for line in caption(table).splitlines()]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\hline"]
    lines += [_latex_row(names), r"\hline", *map(_latex_row, rows), r"\hline", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def results_page(tables: Sequence[Table], runs_dir: str) -> str:
    """All tables, with what was run, on what, and what failed."""
    parts = [
        "# Results\n",
        f"Written by `python paper/tables.py --runs_dir {runs_dir}` from what the runs measured; "
        "no figure is typed in.\n",
    ]
    for table in tables:
        parts += [f"## {table.title}\n", markdown(table)]
        if table.minutes:
            made = f"--table {table.facts['table']} --budget {table.facts['budget']}"
            parts.append(f"Made by `python paper/run.py {made}` in {table.minutes:.0f} minutes.\n")
        if table.failures:
            failed = "".join(f"- {line}\n" for line in table.failures)
            parts.append(f"What failed:\n\n{failed}")
    return "\n".join(parts)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_escaped(cell) for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    return re.sub(r"[&%_#$\\]", lambda match: _LATEX[match[0]], text)


def _is_published(table: Table, place: int) -> bool:
    return any(cells[place].published is not None for _, _, cells in table.rows)


def _has_published(table: Table) -> bool:
    return any(_is_published(table, place) for place in range(len(table.measures)))


def _least(cells: Sequence[Cell]) -> int:
    return min((one.n for one in cells if one.n), default=0)


def _number(value: Any) -> str:
    return str(value) if value else ""
