"""Flags of the controlled testbed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from text2grad.config.checks import at_least
from text2grad.schema import UserError
from text2grad.span_noise import NOISE_KINDS, NoiseKind

CreditMethod = Literal["span", "scalar", "spread", "dense"]


@dataclass(frozen=True)
class TestbedConfig:
    """Compare ways to credit the same critiques, where the worth of every phrase is known."""

    __test__ = False  # for pytest, which takes the name for that of a test

    output_dir: str = "runs/testbed"
    """every run in a folder, curves.jsonl; a run that is done is not run again"""
    table_path: str = ""
    """where to write the table, with the same name in .json beside it; "" for
    --output_dir/testbed.md"""
    methods: tuple[CreditMethod, ...] = get_args(CreditMethod)
    """span: every quote's own words; scalar: the same scores as one on the last token; spread: the
    same sum shared evenly among the tokens; dense: every word labelled"""
    seeds: int = 10
    """runs of each method, with seeds 1, 2, ..."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """each method takes that of these with the best final quality over the tuning seeds"""
    tuning_seeds: int = 2
    """runs for each method and learning rate, with seeds that are not used again"""
    noise_kinds: tuple[NoiseKind, ...] = NOISE_KINDS
    """errors in the critiques: under each, span and scalar credit are run"""
    noise_rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4)
    """share of the spans with an error; of the critiques, for irrelevant ones"""
    noise_seeds: int = 3
    """runs of each under each noise, 0 for none"""
    # budget of every run
    steps: int = 40
    """PPO steps"""
    batch_size: int = 32
    """responses per step"""
    mini_batch_size: int = 16
    """responses per update"""
    ppo_epochs: int = 2
    """passes over each batch"""
    init_kl_coef: float = 0.02
    """weight of the KL penalty, fixed"""
    eval_steps: int = 2
    """steps between measurements"""
    eval_samples: int = 96
    """held-out prompts, with one sampled response each"""
    window: int = 3
    """measurements whose mean is a point of a curve"""
    most_phrases: int = 8
    """phrases for which a response has room"""
    start_steps: int = 200
    """supervised updates of the start model, which teach the form of the language"""

    def __post_init__(self) -> None:
        at_least(self, 1, "seeds", "tuning_seeds", "steps", "batch_size", "mini_batch_size")
        at_least(self, 1, "ppo_epochs", "eval_steps", "eval_samples", "window", "most_phrases")
        at_least(self, 1, "start_steps")
        at_least(self, 0, "noise_seeds", "init_kl_coef")
        for name in ("methods", "learning_rates"):
            if not getattr(self, name):
                raise UserError(f"--{name}: names none")
        needed = ("span", "scalar") if self.noise_seeds and self.noise_kinds else ("scalar",)
        for name in needed:
            if name not in self.methods:
                raise UserError(f"--methods {' '.join(self.methods)}: must name {name}")
        if min(self.learning_rates) <= 0:
            raise UserError(f"--learning_rates {min(self.learning_rates):g}: must be more than 0")
        for rate in self.noise_rates:
            if not 0 < rate <= 1:
                raise UserError(f"--noise_rates {rate:g}: must be more than 0 and at most 1")
        if self.batch_size % self.mini_batch_size:
            raise UserError(
                f"--batch_size {self.batch_size} is not a multiple of --mini_batch_size "
                f"{self.mini_batch_size}"
            )
        if self.steps % self.eval_steps:
            raise UserError(
                f"--steps {self.steps} is not a multiple of --eval_steps {self.eval_steps}, so "
                "that the last step would not be measured"
            )

    def bound_flags(self) -> dict[str, float]:
        """The flags that runs in one folder share."""
        names = """steps batch_size mini_batch_size ppo_epochs init_kl_coef eval_steps eval_samples
            most_phrases start_steps"""
        return {name: getattr(self, name) for name in names.split()}
