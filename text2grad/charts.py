"""Small line, area and interval charts as inline SVG; colours come from the page's CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from text2grad.chart_axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    Mark,
    Values,
    fit_range,
    round_ticks,
    tick_label,
)

MAX_POINTS = 240
SMOOTH_FROM = 24  # points from which the raw line is pale and a running mean is drawn over it


@dataclass(frozen=True)
class Series:
    """One line: a name for the legend and a value per step, None where there is none."""

    name: str
    values: Values


@dataclass(frozen=True)
class Chart:
    """A drawn chart and what the page needs to show values under the pointer."""

    title: str
    note: str
    svg: str
    names: tuple[str, ...]
    steps: tuple[float, ...]
    values: tuple[tuple[float | None, ...], ...]
    wide: bool = False

    def points(self) -> dict:
        """Numbers for the pointer, as JSON; `left` and `right` are shares of the width."""
        return {
            "steps": self.steps,
            "names": self.names,
            "values": self.values,
            "left": LEFT / WIDTH,
            "right": 1 - RIGHT / WIDTH,
        }


def line_chart(
    title: str,
    steps: Sequence[float],
    series: Sequence[Series],
    note: str = "",
    bounds: tuple[float, float] | None = None,
    mark: Mark | None = None,
) -> Chart:
    """Lines over the steps.

    Args:
        title: heading of the chart.
        steps: x of each value, rising.
        series: up to six lines; missing values are bridged, a line without any is not drawn.
        note: the unit, or what to look for.
        bounds: fixed range of the y axis; None fits it to the values.
        mark: the highest point of the lines; a step outside of `steps` is left out.
    """
    xs, lines = _thin(steps, [one.values for one in series])
    shown = mark if mark and xs[0] <= mark.step <= xs[-1] else None
    axes = Axes(xs, bounds or (_range_with(lines, shown) if shown else fit_range(lines)))
    marks = []
    for number, values in enumerate(lines, 1):
        if values.count(None) == len(values):
            continue
        many = len(values) - values.count(None) >= SMOOTH_FROM
        smooth = _running_mean(values) if many else None
        style = f"line s{number}" + (" raw" if smooth else "")
        marks.append(axes.path(values, style))
        if smooth:
            marks.append(axes.path(smooth, f"line s{number}"))
        else:
            marks.append(axes.dot(values, number))
    if shown:
        marks.append(axes.ring(shown))
    return _chart(title, note, axes, marks, series, xs, lines)


def area_chart(
    title: str, steps: Sequence[float], series: Sequence[Series], note: str = ""
) -> Chart:
    """Areas stacked in the order given; a missing value counts as 0."""
    xs, lines = _thin(steps, [one.values for one in series])
    floor = [0.0] * len(xs)
    tops = []
    for values in lines:
        floor = [low + (value or 0.0) for low, value in zip(floor, values, strict=True)]
        tops.append(floor)
    axes = Axes(xs, (0.0, max([*floor, 1e-9])))
    marks = []
    for number, top in reversed(list(enumerate(tops, 1))):
        bottom = tops[number - 2] if number > 1 else [0.0] * len(xs)
        marks.append(axes.area(bottom, top, f"area a{number}"))
    return _chart(title, note, axes, marks, series, xs, lines)


def share_bar(title: str, parts: Sequence[tuple[str, float]]) -> str:
    """One bar cut into shares of a whole, as SVG.

    Args:
        title: what is shared out, for those who cannot see the bar.
        parts: (CSS class, size), from left to right.
    """
    width, height, at = 560.0, 14, 0.0
    total = sum(size for _, size in parts) or 1
    marks = []
    for style, size in parts:
        share = size / total * width
        marks.append(
            f'<rect class="{style}" x="{at:.1f}" y="0" width="{share:.1f}" height="{height}"/>'
        )
        at += share
    return (
        f'<svg class="shares" viewBox="0 0 {width:g} {height}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(title)}">{"".join(marks)}</svg>'
    )


def interval_chart(
    rows: Sequence[tuple[str, float, Sequence[float] | None]],
    bounds: tuple[float, float],
    left: float = 150,
) -> str:
    """One dot with its interval per row, names in the `left` pixels, the value at the right."""
    low, high = bounds
    row_height, right, width = 24, 60, 560
    height = row_height * len(rows) + 26

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    ticks = [tick for tick in round_ticks(low, high) if low <= tick <= high]
    parts = [
        f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="4" y2="{height - 20}"/>'
        f'<text class="tick" x="{x(t):.1f}" y="{height - 6}" text-anchor="middle">'
        f"{tick_label(t)}</text>"
        for t in ticks
    ]
    for number, (name, value, interval) in enumerate(rows):
        y = row_height * (number + 0.5) + 4
        style = "own" if number == 0 else "other"
        parts.append(f'<text class="name" x="0" y="{y + 4:.1f}">{escape(name)}</text>')
        if interval:
            ends = f'x1="{x(interval[0]):.1f}" x2="{x(interval[1]):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="whisker {style}" {ends}/>')
        parts.append(f'<circle class="{style}" cx="{x(value):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text class="value" x="{width}" y="{y + 4:.1f}">{value:.3f}</text>')
    return (
        f'<svg class="intervals" viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'
    )


def _chart(
    title: str,
    note: str,
    axes: Axes,
    marks: Sequence[str],
    series: Sequence[Series],
    xs: Sequence[float],
    lines: Sequence[Values],
) -> Chart:
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{axes.frame()}{''.join(marks)}"
        f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/></svg>'
    )
    names = tuple(one.name for one in series)
    return Chart(title, note, svg, names, tuple(xs), tuple(tuple(values) for values in lines))


def _thin(steps: Sequence[float], lines: Sequence[Values]) -> tuple[list[float], list[list]]:
    """At most `MAX_POINTS` points, each the mean of its bucket of neighbours."""
    size = math.ceil(len(steps) / MAX_POINTS)
    clean = [[_finite(value) for value in values] for values in lines]
    if size <= 1:
        return list(steps), clean
    starts = range(0, len(steps), size)
    thin = [[_mean(values[at : at + size]) for at in starts] for values in clean]
    return [steps[min(at + size, len(steps)) - 1] for at in starts], thin


def _running_mean(values: Values) -> list[float | None]:
    """Mean over each value and its neighbours, about a tenth of the line in all."""
    reach = max(2, len(values) // 20)
    return [
        None if value is None else _mean(values[max(0, at - reach) : at + reach + 1])
        for at, value in enumerate(values)
    ]


def _range_with(lines: Sequence[Values], mark: Mark) -> tuple[float, float]:
    """The range of the lines with the mark, and room for its name above."""
    low, high = fit_range([*lines, [mark.value]])
    return low, high + 0.12 * (high - low)


def _finite(value) -> float | None:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def _mean(values: Values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
