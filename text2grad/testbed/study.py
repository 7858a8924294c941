"""The whole testbed: tune each method, compare them, add noise, report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from text2grad.files import check_writable, write_json, write_rows, write_text
from text2grad.report_data import read_object
from text2grad.run_folder import check_same_flags
from text2grad.span_noise import Noise
from text2grad.student import student_interval
from text2grad.testbed.comparison import compare_curves, mean_curve
from text2grad.testbed.plan import (
    BASELINE,
    METHODS,
    Run,
    compared_runs,
    noises,
    noisy_runs,
    read_curves,
    read_measurements,
    tuning_runs,
)
from text2grad.testbed.runs import make_run, write_prompts
from text2grad.testbed.table import testbed_markdown

if TYPE_CHECKING:
    from text2grad.config import TestbedConfig


def run_testbed(args: TestbedConfig) -> None:
    """Make every run that is not done yet, and write curves, table and figures.

    Raises:
        UserError: the folder cannot be written, or holds runs of another budget.
    """
    Testbed(args).run()


class Testbed:
    """Runs and what they come to.

    Args:
        args: all flags.
    """

    __test__ = False  # for pytest, which takes the name for that of a test

    def __init__(self, args: TestbedConfig) -> None:
        self.args, self.root = args, check_writable(args.output_dir, "--output_dir")
        settings = self.root / "settings.json"
        check_same_flags(settings, read_object(settings, "--output_dir"), args.bound_flags())
        write_json(settings, args.bound_flags(), "--output_dir")
        write_prompts(self.root / "data")
        self.done: list[Run] = []
        self.results: dict[str, Any] = {
            "settings": {**args.bound_flags(), "window": args.window},
            "tuning": {},
            "methods": {},
            "noise": [],
            "complete": False,
        }

    def run(self) -> None:
        """Everything, with a report after each part."""
        rates = {method: self.tune(method) for method in self.args.methods}
        self.compare(rates)
        self.report()
        for noise in noises(self.args) if self.args.noise_seeds else ():
            self.disturb(noise, rates)
            self.report()
        self.results["complete"] = True
        print(self.report())

    def tune(self, method: str) -> float:
        """The learning rate with the best mean final quality over the tuning seeds."""
        if len(self.args.learning_rates) == 1:
            return self.args.learning_rates[0]
        finals = {}
        for rate in sorted(self.args.learning_rates):
            runs = self.make(tuning_runs(self.args, method, rate))
            finals[rate] = mean(self._finals(runs))
        chosen = max(finals, key=lambda rate: finals[rate])
        by_rate = {f"{rate:g}": value for rate, value in finals.items()}
        at_end = chosen in (min(finals), max(finals))
        self.results["tuning"][method] = {"chosen": chosen, "at_end": at_end, "final": by_rate}
        return chosen

    def compare(self, rates: dict[str, float]) -> None:
        """All methods without noise."""
        runs = {m: self.make(compared_runs(self.args, m, rates[m])) for m in self.args.methods}
        for method, own in runs.items():
            curves = read_curves(own, self.root)
            facts = {**self._summary(own), "curve": mean_curve(curves)}
            if method != BASELINE:
                facts[f"against_{BASELINE}"] = self._compare(own, runs[BASELINE])
            self.results["methods"][method] = facts

    def disturb(self, noise: Noise, rates: dict[str, float]) -> None:
        """Span and scalar credit for the same disturbed critiques."""
        runs = {m: self.make(own) for m, own in noisy_runs(self.args, noise, rates).items()}
        self.results["noise"].append(
            {
                "kind": noise.kind,
                "rate": noise.rate,
                **{method: self._summary(own) for method, own in runs.items()},
                "comparison": self._compare(runs["span"], runs[BASELINE]),
            }
        )

    def make(self, runs: Sequence[Run]) -> Sequence[Run]:
        """Make those that are not done yet."""
        for run in runs:
            started = time.monotonic()
            rows = make_run(run, self.args, self.root)
            if rows:
                first, last, seconds = rows[0], rows[-1], time.monotonic() - started
                change = f"quality {first['quality']:.2f} to {last['quality']:.2f}"
                print(f"{run.folder(self.root)}: {change} in {seconds:.0f} s", flush=True)
        self.done += runs
        return runs

    def report(self) -> str:
        """Write `curves.jsonl`, the table and the figures behind it; returns the table."""
        rows = [row for run in self.done for row in read_measurements(run, self.root)]
        write_rows(self.root / "curves.jsonl", rows, "--output_dir")
        flag, path = "--output_dir", self.root / "testbed.md"
        if self.args.table_path:
            flag, path = "--table_path", Path(self.args.table_path)
        write_json(path.with_suffix(".json"), self.results, flag)
        text = testbed_markdown(self.results)
        write_text(path, text, flag)
        return text

    def _finals(self, runs: Sequence[Run]) -> list[float]:
        curves = read_curves(runs, self.root)
        return [curve.smooth(self.args.window).final for curve in curves]

    def _summary(self, runs: Sequence[Run]) -> dict[str, Any]:
        finals, curves = self._finals(runs), read_curves(runs, self.root)
        return {
            "credit": METHODS[runs[0].method].credit,
            "marks": METHODS[runs[0].method].marks,
            "learning_rate": runs[0].learning_rate,
            "seeds": [run.seed for run in runs],
            "start": mean(curve.values[0] for curve in curves),
            "final": mean(finals),
            "final_interval": student_interval(finals),
            "finals": finals,
            "average": mean(curve.average for curve in curves),
        }

    def _compare(self, ours: Sequence[Run], theirs: Sequence[Run]) -> dict[str, Any]:
        sides = [read_curves(runs, self.root) for runs in (ours, theirs)]
        return compare_curves(*sides, self.args.steps, self.args.window)
