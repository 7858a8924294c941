"""What sets runs apart from the table's own: errors in critiques, or another policy model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.missing import advice
from text2grad.paper.methods import METHODS, REWARD_MODELS, Method, choose_methods
from text2grad.paper.stages import whole_path
from text2grad.schema import UserError
from text2grad.span_noise import Noise, read_noise

if TYPE_CHECKING:
    from text2grad.config import PaperRunConfig

NOISE_FOLDER = "noise"
POLICY_FOLDER = "policy-"  # begins the names of the folders of other policies
COMPARED = ("text2grad", "scalar_ppo")


@dataclass(frozen=True)
class Policy:
    """A model that is trained as the table's own one is, under the same reward models.

    Attributes:
        name: as folders and tables call it.
        model: a folder, whole, or a hub id.
    """

    name: str
    model: str


@dataclass(frozen=True)
class Variant:
    """How a run differs from the table's own.

    Attributes:
        noise: the errors in its critiques, None for none.
        at: "labels", what the reward model learns from, or "rewards", what it says in PPO.
        policy: what it starts from, None for the table's own model.
    """

    noise: Noise | None = None
    at: str = ""
    policy: Policy | None = None

    @property
    def place(self) -> str:
        """Begins the names of stages that runs of the same policy share."""
        return f"{POLICY_FOLDER}{self.policy.name}/" if self.policy else ""

    @property
    def runs(self) -> str:
        """Folder of the runs, below the output folder."""
        if self.noise:
            return f"{NOISE_FOLDER}/{self.noise.name}-{self.at}"
        return f"{self.place}runs"

    @property
    def exact(self) -> Variant:
        """The same without errors."""
        return replace(self, noise=None, at="")

    @property
    def labels(self) -> Noise | None:
        """Errors in what reward models learn from."""
        return self.noise if self.at == "labels" else None

    def flags(self) -> tuple[str, ...]:
        """Flags of PPO."""
        return ("--feedback_noise", self.noise.flag) if self.noise and self.at == "rewards" else ()

    def row(self, name: str) -> str:
        """Key of a method or reward model under these errors, or of a method with this policy.

        Example: 20 % flipped in the labels, "text2grad" -> "labels/flip:0.2/text2grad"; the policy
        Qwen2.5-0.5B -> "Qwen2.5-0.5B/text2grad"
        """
        if self.noise:
            return f"{self.at}/{self.noise.flag}/{name}"
        return f"{self.policy.name}/{name}" if self.policy else name

    def facts(self) -> dict[str, Any]:
        """What the folders of the runs say of it."""
        if self.noise:
            return {"noise": self.noise.kind, "rate": self.noise.rate, "noise_at": self.at}
        return {"policy": self.policy.name} if self.policy else {}


CLEAN = Variant()


def noise_variants(args: PaperRunConfig) -> list[Variant]:
    """What `--noise` and `--noise_at` ask for."""
    return [Variant(read_noise(text, "--noise"), args.noise_at) for text in args.noise]


def policy_variants(given: Sequence[str], own: str) -> list[Variant]:
    """What `--policies` asks for.

    Args:
        given: folders or hub ids.
        own: the table's own model, which has runs anyway.

    Raises:
        UserError: one is that model, is not there, or would be called as another is.
    """
    taken, variants = {Path(own).name: own}, []
    for one in given:
        model = whole_path(one)
        if model == own:
            raise UserError(f"--policies {one}: that is --model, which is trained anyway")
        path = Path(model)
        if not path.is_dir() and (path.is_absolute() or one.startswith(".") or one.count("/") > 1):
            raise UserError(f"--policies {one}: no such folder{advice(one)}")
        if path.name in taken:
            raise UserError(
                f"--policies {one}: would be called {path.name}, as {taken[path.name]} is; put one "
                "of the two in a folder of another name"
            )
        taken[path.name] = one
        variants.append(Variant(policy=Policy(path.name, model)))
    return variants


def read_row(row: str, source: str) -> tuple[Variant, str]:
    """What `Variant.row` made a key of, under errors.

    Raises:
        UserError: it is no such key; `source` says where it stands.
    """
    at, noise, name = (*row.split("/", 2), "", "")[:3]
    found = read_noise(noise, source)
    if not (found and name):
        raise UserError(f"{source} {row}: not a row such as labels/flip:0.2/text2grad")
    return Variant(found, at), name


def read_policy_row(row: str, source: str) -> tuple[str, str]:
    """The policy's name and the method that `Variant.row` made a key of.

    Raises:
        UserError: it is no such key; `source` says where it stands.
    """
    policy, _, name = row.rpartition("/")
    if not policy or name not in METHODS:
        raise UserError(f"{source} {row}: not a row such as my_model/text2grad")
    return policy, name


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
