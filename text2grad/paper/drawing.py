"""Figures as SVG files of their own: panels of curves with bands, and rows of intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from text2grad.chart_axes import HEIGHT, LEFT, WIDTH, Axes, Values, fit_range
from text2grad.charts import interval_chart

COLUMNS = 2
MARGIN, TITLE, LEGEND, NOTE = 16, 24, 20, 16
NAME_WIDTH, LEGEND_WIDTH = 210, 250
VALUES_WIDTH = 560  # of an interval chart
# told apart by those who see few colours, and by the dashes
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#555555", "#8c6d1f", "#7b3294", "#1b7837", "#a50026"),
)
DASHES = ("", "7 4", "2 3")
_STYLE = """\
svg { font-family: system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
.paper { fill: #ffffff; }
.title { font-size: 14px; font-weight: 600; fill: #22262b; }
.note, .tick { font-size: 11px; fill: #636a75; }
.name, .value { font-size: 12px; fill: #22262b; }
.value { text-anchor: end; }
.grid { stroke: #e5e2dc; } .grid.zero { stroke: #a7a49e; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.area { stroke: none; opacity: .15; }
.whisker { stroke: #7d828c; stroke-width: 2; } circle.other { fill: #7d828c; }
.whisker.own { stroke: #0072b2; } circle.own { fill: #0072b2; }
"""


@dataclass(frozen=True)
class Band:
    """One line of a panel.

    Attributes:
        name: for the legend.
        style: number of its colour, the same in every panel.
        curve: "steps", "mean", "low" and "high", see `testbed.comparison.mean_curve`.
    """

    name: str
    style: int
    curve: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Panel:
    """Lines over one axis.

    Attributes:
        title: what is drawn, over what.
        bands: the lines.
    """

    title: str
    bands: Sequence[Band]


def curves_svg(title: str, note: str, panels: Sequence[Panel]) -> str:
    """Panels side by side under one legend.

    Args:
        title: heading of the figure.
        note: what the bands are.
        panels: each with at least one line that has a point.
    """
    names = {band.style: band.name for panel in panels for band in panel.bands}
    legend_rows = -(-len(names) // _per_row())
    top = MARGIN + TITLE + NOTE + LEGEND * legend_rows
    each = TITLE + HEIGHT
    parts = [_legend(names, MARGIN + TITLE + NOTE)]
    for number, panel in enumerate(panels):
        x = MARGIN + (number % COLUMNS) * (WIDTH + MARGIN)
        y = top + (number // COLUMNS) * (each + MARGIN)
        parts.append(_text("title", x + LEFT, y + TITLE - 8, panel.title))
        inner = _panel(panel)
        parts.append(
            f'<svg x="{x}" y="{y + TITLE}" width="{WIDTH}" height="{HEIGHT}">{inner}</svg>'
        )
    rows = -(-len(panels) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * (WIDTH + MARGIN) - MARGIN
    return _svg(width, top + rows * (each + MARGIN), title, note, parts)


def values_svg(
    title: str, note: str, charts: Sequence[tuple[str, Sequence[tuple[str, float, Any]]]]
) -> str:
    """A dot with its interval for each row, one chart under the other.

    Args:
        title: heading of the figure.
        note: what the intervals are.
        charts: (title, rows of (name, value, interval or None)); the first row stands out.
    """
    parts, y = [], MARGIN + TITLE + NOTE
    for name, rows in charts:
        parts.append(_text("title", MARGIN, y + TITLE - 8, name))
        chart = interval_chart(rows, _bounds(rows), NAME_WIDTH)
        height = 24 * len(rows) + 26
        opened = f'<svg x="{MARGIN}" y="{y + TITLE}" width="{VALUES_WIDTH}" height="{height}" '
        parts.append(chart.replace("<svg ", opened, 1))
        y += TITLE + height + MARGIN
    return _svg(VALUES_WIDTH + 2 * MARGIN, y, title, note, parts)


def _panel(panel: Panel) -> str:
    bands = panel.bands
    xs = sorted({step for band in bands for step in band.curve["steps"]})
    lines = {key: [_spread(band, key, xs) for band in bands] for key in ("mean", "low", "high")}
    axes = Axes(xs, fit_range([line for group in lines.values() for line in group]))
    parts = [axes.frame()]
    for place, band in enumerate(bands):
        low, high, middle = (lines[key][place] for key in ("low", "high", "mean"))
        if any(value is not None for value in low):
            area = axes.area(low, high, "area")
            parts.append(area.replace("<path ", f'<path fill="{_colour(band.style)}" ', 1))
        stroke = f'stroke="{_colour(band.style)}" stroke-dasharray="{_dash(band.style)}"'
        parts.append(axes.path(middle, "line").replace("<path ", f"<path {stroke} ", 1))
    return "".join(parts)


def _spread(band: Band, key: str, xs: Sequence[float]) -> Values:
    """The values of a line at the steps of all lines, None where it has none."""
    known = dict(zip(band.curve["steps"], band.curve[key], strict=True))
    return [known.get(x) for x in xs]


def _bounds(rows: Sequence[tuple[str, float, Any]]) -> tuple[float, float]:
    low, high = fit_range([[value, *(interval or ())] for _, value, interval in rows])
    return low, high


def _legend(names: Mapping[int, str], y: float) -> str:
    parts = []
    for place, (style, name) in enumerate(sorted(names.items())):
        x = MARGIN + LEFT + (place % _per_row()) * LEGEND_WIDTH
        row = y + LEGEND * (place // _per_row()) + LEGEND / 2
        parts.append(
            f'<line class="line" stroke="{_colour(style)}" stroke-dasharray="{_dash(style)}" '
            f'x1="{x}" x2="{x + 24}" y1="{row}" y2="{row}"/>{_text("name", x + 30, row + 4, name)}'
        )
    return "".join(parts)


def _per_row() -> int:
    return (COLUMNS * (WIDTH + MARGIN) - LEFT) // LEGEND_WIDTH


def _svg(width: float, height: float, title: str, note: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">\n'
        f"<style>\n{_STYLE}</style>\n"
        f'<rect class="paper" width="{width:g}" height="{height:g}"/>\n'
        f"{_text('title', MARGIN, MARGIN + 12, title)}\n"
        f"{_text('note', MARGIN, MARGIN + TITLE + 6, note)}\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _text(style: str, x: float, y: float, text: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _colour(style: int) -> str:
    return COLOURS[style % len(COLOURS)]


def _dash(style: int) -> str:
    return DASHES[style % len(DASHES)] or "none"
