"""Which runs the testbed makes, where they lie, and what they measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.files import Row, read_rows
from text2grad.span_noise import Noise
from text2grad.testbed.comparison import Curve
from text2grad.testbed.critics import Marks

if TYPE_CHECKING:
    from text2grad.config import TestbedConfig

FIRST_TUNING_SEED = 1001
"""tuning seeds lie above all others, so that no run is both tuned on and compared"""
BASELINE = "scalar"
NOISY_METHODS = ("span", BASELINE)
CURVE_FILE = "curve.jsonl"


@dataclass(frozen=True)
class Method:
    """How critiques become rewards.

    Attributes:
        credit: the trainer's --credit_assignment.
        marks: what the annotator quotes.
    """

    credit: str
    marks: Marks


METHODS = {
    "span": Method("span", "phrases"),
    "scalar": Method("scalar", "phrases"),
    "spread": Method("spread", "phrases"),
    "dense": Method("span", "everything"),
}


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        method: a name of `METHODS`.
        learning_rate: of the policy.
        seed: of adapter, order of prompts, sampling and noise; runs with the same one are pairs.
        noise: errors in its critiques, None for exact ones.
    """

    method: str
    learning_rate: float
    seed: int
    noise: Noise | None = None

    def folder(self, root: Path) -> Path:
        """Where it lies."""
        name = f"{self.method}-{self.noise.name}" if self.noise else self.method
        return root / "runs" / name / f"lr-{self.learning_rate:g}" / f"seed-{self.seed}"

    def facts(self) -> dict[str, Any]:
        """What tells it from the others."""
        noise = {"noise": self.noise.kind, "rate": self.noise.rate} if self.noise else {}
        rate = {"learning_rate": self.learning_rate}
        return {"method": self.method, **noise, **rate, "seed": self.seed}


def tuning_runs(args: TestbedConfig, method: str, learning_rate: float) -> list[Run]:
    """The runs that decide about one learning rate of a method."""
    seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + args.tuning_seeds)
    return [Run(method, learning_rate, seed) for seed in seeds]


def compared_runs(args: TestbedConfig, method: str, learning_rate: float) -> list[Run]:
    """The runs of a method that the comparison is about."""
    return [Run(method, learning_rate, seed) for seed in range(1, args.seeds + 1)]


def noisy_runs(
    args: TestbedConfig, noise: Noise, learning_rates: dict[str, float]
) -> dict[str, list[Run]]:
    """The runs of span and scalar credit under one noise, with the rates tuned without it."""
    seeds = range(1, args.noise_seeds + 1)
    return {
        method: [Run(method, learning_rates[method], seed, noise) for seed in seeds]
        for method in NOISY_METHODS
    }


def noises(args: TestbedConfig) -> Iterator[Noise]:
    """Every kind at every rate, ascending within a kind."""
    for kind in args.noise_kinds:
        for rate in sorted(args.noise_rates):
            yield Noise(kind, rate)


def read_measurements(run: Run, root: Path) -> list[Row]:
    """The rows of a run that is done."""
    return read_rows(run.folder(root) / CURVE_FILE, "--output_dir")


def read_curves(runs: Sequence[Run], root: Path) -> list[Curve]:
    """The quality of several runs, in order."""
    curves = []
    for run in runs:
        rows = read_measurements(run, root)
        values = tuple(row["quality"] for row in rows)
        curves.append(Curve(tuple(row["step"] for row in rows), values))
    return curves
