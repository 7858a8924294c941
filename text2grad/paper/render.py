"""A table as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from text2grad.paper.cells import Cell, Table
from text2grad.tables import markdown_table

_NOT_COMPARABLE = "paper, not comparable"
_SCALE = (
    "The paper's own figures stand beside ours where it gives them. They are of its models, data "
    "and lengths of training: at another scale the two cannot be compared."
)
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "\\": r"\textbackslash{}"}


def markdown(table: Table) -> str:
    """What was run, how to read a cell, the table, and what else the paper says."""
    parts = [settings(table), *caption(table), markdown_table(header(table), body(table))]
    if table.claims:
        claims = "; ".join(table.claims)
        parts.append(f"The paper's own, not comparable at another scale: {claims}.\n")
    return "\n".join(parts)


def settings(table: Table) -> str:
    """What was run, and on what."""
    facts = table.facts
    if not facts:
        return "Nothing was run.\n"
    who = " ".join(value for value in facts["annotator"].values() if value)
    data = f", data {facts['data']}" if facts["data"] else ""
    return (
        f"Model {facts['model']}, annotator {who}, policies from `{facts['start']}`"
        f"{data}; on {facts['machine']}.\n"
    )


def caption(table: Table) -> list[str]:
    """How to read a cell, and what belongs to this table alone."""
    parts = [
        f"A cell is the mean over seeds with its 95 % interval {table.interval}; no interval: one "
        f"seed; empty: no run. n: {table.unit}.\n"
    ]
    if _has_published(table):
        parts.append(f"{_SCALE}\n")
    return [*parts, f"{table.note}\n"] if table.note else parts


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
        n = next((one.n for one in cells if one.n), 0)
        row = [title, _number(seeds), _number(n)]
        for place, (measure, one) in enumerate(zip(table.measures, cells, strict=True)):
            fewer = f" ({one.seeds} of {seeds} seeds)" if 0 < one.seeds < seeds else ""
            others = f" (n {one.n})" if one.n not in (0, n) else ""
            row.append(cell_text(one, measure.digits) + fewer + others)
            if _is_published(table, place):
                published = one.published
                row.append("" if published is None else f"{published:.{measure.digits}f}")
        rows.append(row)
    return rows


def cell_text(cell: Cell, digits: int = 3) -> str:
    """The value with its interval, "" where there is none.

    Example: Cell(0.5, (0.25, 0.75)) -> "0.500 [0.250, 0.750]"
    """
    if cell.value is None:
        return ""
    if cell.interval is None:
        return f"{cell.value:.{digits}f}"
    low, high = cell.interval
    return f"{cell.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


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
    said = [settings(table), *caption(table)]
    lines = [f"% {line}" for text in said for line in text.splitlines()]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}", r"\hline"]
    lines += [_latex_row(names), r"\hline", *map(_latex_row, rows), r"\hline", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_escaped(cell) for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    return re.sub(r"[&%_#$\\]", lambda match: _LATEX[match[0]], text)


def _is_published(table: Table, place: int) -> bool:
    return any(cells[place].published is not None for _, _, cells in table.rows)


def _has_published(table: Table) -> bool:
    return any(_is_published(table, place) for place in range(len(table.measures)))


def _number(value: Any) -> str:
    return str(value) if value else ""
