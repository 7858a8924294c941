"""The paper's figures, drawn from the stored metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from text2grad.files import atomic_write, check_writable, write_text
from text2grad.paper.cells import policy_table
from text2grad.paper.drawing import Band, Panel, curves_svg, values_svg
from text2grad.paper.measured import Measured
from text2grad.paper.methods import METHODS
from text2grad.paper.page import gather
from text2grad.paper.png import png_converter
from text2grad.paper.tables_data import TABLES
from text2grad.schema import UserError
from text2grad.testbed.comparison import mean_curve
from text2grad.testbed.plan import METHODS as CREDITS
from text2grad.testbed.plan import NOISY_METHODS

if TYPE_CHECKING:
    from text2grad.config import PaperFiguresConfig

OURS = "text2grad"
_BANDS = "Lines: means over seeds. Bands: Student's 95 % intervals of them."
_OWN = "The score of each method's own reward model, summed over a response."
_VALUES = "Dots: means over seeds. Bars: Student's 95 % intervals of them; none: one seed."
_PANELS = (
    ("score", "steps", "score over steps"),
    ("score", "samples", "score over responses"),
    ("reward", "steps", "reward (score minus KL) over steps"),
    ("reward", "samples", "reward over responses"),
)


def write_figures(args: PaperFiguresConfig) -> None:
    """Store what the runs measured, and draw every figure that there is something for.

    Raises:
        UserError: nothing was run, a file is damaged, or a library for PNG is missing.
    """
    to_png = png_converter("--png true") if args.png else None
    measured, testbed = gather(args)
    folder = check_writable(args.figures_dir, "--figures_dir")
    paths = []
    for name, svg in figures(measured, testbed):
        paths.append(folder / f"{name}.svg")
        write_text(paths[-1], svg, "--figures_dir")
        if to_png:
            paths.append(folder / f"{name}.png")
            with atomic_write(paths[-1], "--figures_dir") as out:
                out.write(to_png(svg))
    if not paths:
        raise UserError(
            f"--metrics_dir {args.metrics_dir}: holds nothing to draw; paper/run.py makes runs"
        )
    print("\n".join(f"figure: {path}" for path in paths))


def figures(measured: Sequence[Measured], testbed: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and SVG of every figure that there is something for."""
    for one in measured:
        title = f"{TABLES[one.facts['table']].short_title}, budget {one.facts['budget']}"
        if panels := training_panels(one):
            yield (
                f"{one.name}-convergence",
                curves_svg(f"{title}: convergence", f"{_BANDS} {_OWN}", panels),
            )
        if charts := value_charts(one):
            yield f"{one.name}-values", values_svg(f"{title}: all methods", _VALUES, charts)
    if panels := testbed_panels(testbed):
        text = f"{_BANDS} Quality: good minus poor phrases in a response."
        yield "testbed-convergence", curves_svg("Controlled testbed: convergence", text, panels)
    if panels := noise_panels(testbed):
        text = "Quality at the end over the share of wrong spans (%). Bands: 95 % intervals."
        yield "testbed-noise", curves_svg("Controlled testbed: noise", text, panels)


def training_panels(measured: Measured) -> list[Panel]:
    """Score and reward over steps and responses, a line per method."""
    panels = []
    for measure, over, title in _PANELS:
        bands = []
        for style, (name, method) in enumerate(METHODS.items()):
            histories = [run.history for run in measured.training if run.row == name]
            curves = [h.curve(measure, over) for h in histories if h and getattr(h, measure)]
            band = Band(method.title, style, mean_curve(curves)) if curves else None
            if band and band.curve["steps"]:
                bands.append(band)
        if bands:
            panels.append(Panel(title, bands))
    return panels


def value_charts(measured: Measured) -> list[tuple[str, list[tuple[str, float, Any]]]]:
    """The figures of the policies' table, a chart per measure, this method first."""
    table, charts = policy_table(measured), []
    ordered = sorted(table.rows, key=lambda row: row[0] != OURS)
    for place, measure in enumerate(table.measures):
        rows = [
            (title, cells[place].value, cells[place].interval)
            for _, title, cells in ordered
            if cells[place].value is not None
        ]
        if rows:
            charts.append((measure.title, rows))
    return charts


def testbed_panels(testbed: Mapping[str, Any]) -> list[Panel]:
    """Quality over the steps of the testbed, a line per way to credit."""
    methods = testbed.get("methods") or {}
    bands = [
        Band(name, style, methods[name]["curve"])
        for style, name in enumerate(CREDITS)
        if "curve" in methods.get(name, {})
    ]
    return [Panel("quality over steps", bands)] if bands else []


def noise_panels(testbed: Mapping[str, Any]) -> list[Panel]:
    """Quality at the end over the share of errors, a panel per kind of them."""
    noise, methods = testbed.get("noise") or [], testbed.get("methods") or {}
    panels = []
    for kind in dict.fromkeys(one["kind"] for one in noise):
        levels = [(100 * one["rate"], one) for one in noise if one["kind"] == kind]
        levels = [(0.0, methods), *sorted(levels, key=lambda level: level[0])]
        bands = [
            Band(name, style, _over_rates(levels, name))
            for style, name in enumerate(CREDITS)
            if name in NOISY_METHODS
        ]
        panels.append(Panel(kind, bands))
    return panels


def _over_rates(levels: Sequence[tuple[float, Mapping[str, Any]]], name: str) -> dict[str, list]:
    bounds = [facts[name]["final_interval"] or (None, None) for _, facts in levels]
    return {
        "steps": [rate for rate, _ in levels],
        "mean": [facts[name]["final"] for _, facts in levels],
        "low": [low for low, _ in bounds],
        "high": [high for _, high in bounds],
    }
