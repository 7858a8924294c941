"""Errors under which methods are run again, to see which of them bears more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from text2grad.paper.methods import METHODS, REWARD_MODELS, Method, choose_methods
from text2grad.schema import UserError
from text2grad.span_noise import Noise, read_noise

if TYPE_CHECKING:
    from text2grad.config import PaperRunConfig

NOISE_FOLDER = "noise"
COMPARED = ("text2grad", "scalar_ppo")


@dataclass(frozen=True)
class Variant:
    """How the critiques of a run are spoilt.

    Attributes:
        noise: the errors, None for none.
        at: "labels", what the reward model learns from, or "rewards", what it says in PPO.
    """

    noise: Noise | None = None
    at: str = ""

    @property
    def runs(self) -> str:
        """Folder of the runs, below the output folder."""
        return f"{NOISE_FOLDER}/{self.noise.name}-{self.at}" if self.noise else "runs"

    @property
    def labels(self) -> Noise | None:
        """Errors in what reward models learn from."""
        return self.noise if self.at == "labels" else None

    def flags(self) -> tuple[str, ...]:
        """Flags of PPO."""
        return ("--feedback_noise", self.noise.flag) if self.noise and self.at == "rewards" else ()

    def row(self, name: str) -> str:
        """Key of a method or reward model under these errors.

        Example: 20 % flipped in the labels, "text2grad" -> "labels/flip:0.2/text2grad"
        """
        return f"{self.at}/{self.noise.flag}/{name}"

    def facts(self) -> dict[str, Any]:
        """What the folders of the runs say of it."""
        if not self.noise:
            return {}
        return {"noise": self.noise.kind, "rate": self.noise.rate, "noise_at": self.at}


CLEAN = Variant()


def noise_variants(args: PaperRunConfig) -> list[Variant]:
    """What `--noise` and `--noise_at` ask for."""
    return [Variant(read_noise(text, "--noise"), args.noise_at) for text in args.noise]


def read_row(row: str, source: str) -> tuple[Variant, str]:
    """What `Variant.row` made a key of.

    Raises:
        UserError: it is no such key; `source` says where it stands.
    """
    at, noise, name = (*row.split("/", 2), "", "")[:3]
    found = read_noise(noise, source)
    if not (found and name):
        raise UserError(f"{source} {row}: not a row such as labels/flip:0.2/text2grad")
    return Variant(found, at), name


def choose_noisy_methods(names: Sequence[str], table: str, reasons: bool) -> dict[str, Method]:
    """The methods named, or span and scalar credit.

    Raises:
        UserError: one is paid by no critique.
    """
    for name in names:
        method = METHODS.get(name)
        if method and (method.training != "ppo" or method.reward_model not in REWARD_MODELS):
            raise UserError(f"--noise with --methods {name}: PPO pays it by no critique; leave out")
    return choose_methods(names or COMPARED, table, reasons)
