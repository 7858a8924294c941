"""Tables for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns under a ruled header: the first to the left, the others to the right.

    Numbers get three decimals, None a dash.
    """
    cells = [list(header), *([cell_text(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *others]).rstrip())
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([lines[0], rule, *lines[1:]])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """The same as a Markdown table; a bar inside a cell is escaped."""
    cells = [list(header), ["---"] * len(header)]
    cells += [[cell_text(value).replace("|", "\\|") for value in row] for row in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def cell_text(value: Any) -> str:
    """A number with three decimals, an integer or a string as it is, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def interval_text(interval: Sequence[float] | None, signed: bool = False) -> str:
    """[low, high] with three decimals, "" for None."""
    if interval is None:
        return ""
    pattern = "[{:+.3f}, {:+.3f}]" if signed else "[{:.3f}, {:.3f}]"
    return pattern.format(*(round(end, 3) + 0.0 for end in interval))  # no minus before 0
