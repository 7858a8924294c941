"""Scales, ticks and marks that charts are drawn with; colours come from CSS classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24

Values = Sequence[float | None]


@dataclass(frozen=True)
class Mark:
    """One point of a chart that is ringed and named."""

    step: float
    value: float
    text: str


class Axes:
    """Scales from values to the drawing, and the marks that need them.

    Args:
        xs: the steps, ascending.
        bounds: of the values.
    """

    def __init__(self, xs: Sequence[float], bounds: tuple[float, float]) -> None:
        self.xs = xs
        self.low, self.high = bounds
        self.ticks = round_ticks(*bounds)

    def x(self, value: float) -> float:
        """Where a step lies, in pixels."""
        span = (self.xs[-1] - self.xs[0]) or 1
        return LEFT + (value - self.xs[0]) / span * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Where a value lies, in pixels; one out of range at the edge."""
        share = (value - self.low) / ((self.high - self.low) or 1)
        return HEIGHT - BOTTOM - min(max(share, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)

    def path(self, values: Values, style: str) -> str:
        """A line through the values; missing ones are bridged."""
        return f'<path class="{style}" d="M{"L".join(self._places(values))}"/>'

    def dot(self, values: Values, number: int) -> str:
        """A dot on the last value."""
        x, y = self._places(values)[-1].split()
        return f'<circle class="dot s{number}" cx="{x}" cy="{y}" r="2.6"/>'

    def ring(self, mark: Mark) -> str:
        """A ring with its name above it, on the side where there is room."""
        x, y = self.x(mark.step), self.y(mark.value)
        side = -1 if x > (LEFT + WIDTH - RIGHT) / 2 else 1
        return (
            f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f'<text class="ring" x="{x + 4 * side:.1f}" y="{y - 9:.1f}" '
            f'text-anchor="{"end" if side < 0 else "start"}">{escape(mark.text)}</text>'
        )

    def area(self, bottom: Values, top: Values, style: str) -> str:
        """What lies between two lines."""
        outline = [*self._places(top), *reversed(self._places(bottom))]
        return f'<path class="{style}" d="M{"L".join(outline)}Z"/>'

    def _places(self, values: Values) -> list[str]:
        known = zip(self.xs, values, strict=True)
        return [f"{self.x(at):.1f} {self.y(value):.1f}" for at, value in known if value is not None]

    def frame(self) -> str:
        """Grid, and ticks of both axes; those of the steps are whole numbers."""
        parts = []
        for tick in self.ticks:
            if not self.low <= tick <= self.high:
                continue
            y = self.y(tick)
            style = "grid zero" if tick == 0 else "grid"
            parts.append(
                f'<line class="{style}" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{tick_label(tick)}</text>"
            )
        whole = [tick for tick in round_ticks(self.xs[0], self.xs[-1]) if tick == int(tick)]
        for tick in [t for t in whole if self.xs[0] <= t <= self.xs[-1]] or [self.xs[0]]:
            parts.append(
                f'<text class="tick" x="{self.x(tick):.1f}" y="{HEIGHT - 7}" '
                f'text-anchor="middle">{tick_label(tick)}</text>'
            )
        return "".join(parts)


def fit_range(lines: Sequence[Values]) -> tuple[float, float]:
    """Bounds that hold all values with some room, from 0 on where that is near."""
    known = [value for values in lines for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    if 0 <= low < 0.35 * high:
        return 0.0, high + pad
    return low - pad, high + pad


def round_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that span the range."""
    if high <= low:
        return [low]
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """A number as short as a tick needs it."""
    size = abs(value)
    if size >= 10000:
        return f"{value / 1000:g}k"
    if 0 < size < 0.001:
        return f"{value:.0e}"
    return f"{value:.4g}".replace("-", "\u2212")
