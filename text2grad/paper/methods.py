"""The methods that are compared, as data: where each starts, what trains it, who judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from text2grad.config.training import TargetFormat
from text2grad.schema import UserError

Start = Literal["base", "sft"]
Training = Literal["", "reflect", "ppo", "grpo", "dpo"]


@dataclass(frozen=True)
class RewardModel:
    """A reward model that methods share.

    Attributes:
        title: as tables name it.
        annotation: key in `ANNOTATIONS`.
        target_format: what follows its critique.
    """

    title: str
    annotation: str = "annotation"
    target_format: TargetFormat = "spans"


# what the annotator is asked, by the name of the stage
ANNOTATIONS: dict[str, tuple[str, ...]] = {
    "annotation": (),
    "annotation_no_cot": ("--cot", "false"),
    "annotation_dense": ("--density", "dense"),
}
REWARD_MODELS = {
    "spans": RewardModel("critique and quotes"),
    "spans_no_cot": RewardModel("the same, annotated without reasoning", "annotation_no_cot"),
    "word_scores": RewardModel(
        "critique and a score for every word", "annotation_dense", "word_scores"
    ),
}


# what else judges a table's responses, by the flag of paper/run.py that names where it lies
OTHER_JUDGES = {"reward_from": "reward model of {}", "annotations_from": "annotations of {}"}


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        title: as tables name it.
        start: the model that it starts from, "" for the one that `--start` names.
        training: what follows; "" answers as the start does, "reflect" trains nothing.
        reward_model: key in `REWARD_MODELS`, `SCALAR` for a learned scalar, "" for none.
        flags: what tells it from others of the same training.
        tables: the tables that have it, () for all.
        why_not: what another table lacks.
    """

    title: str
    start: Start | Literal[""] = ""
    training: Training = ""
    reward_model: str = ""
    flags: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    why_not: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether its seeds differ."""
        return self.start != "base" or bool(self.training)


SCALAR = "scalar"
_NO_PAIRS = "its data holds no pairs of a chosen and a rejected answer"
METHODS = {
    "base": Method("start model", start="base"),
    "sft": Method("SFT", start="sft"),
    "sft_reflection": Method("SFT + reflection", start="sft", training="reflect"),
    "dpo": Method(
        "DPO",
        training="dpo",
        tables=("ultrafeedback",),
        why_not=_NO_PAIRS,
    ),
    "grpo": Method("GRPO, scalar of the critiques", training="grpo", reward_model="spans"),
    "learned_scalar_ppo": Method(
        "PPO, learned scalar",
        training="ppo",
        reward_model=SCALAR,
        # no quotes, and a score on one token: what these watch is not there
        flags=(
            *("--feedback_source", "scalar_model"),
            *("--min_coverage", "0", "--max_sign_share", "1"),
        ),
        tables=("slf5k", "ultrafeedback"),
        why_not=_NO_PAIRS,
    ),
    "scalar_ppo": Method(
        "PPO, scalar of the critiques",
        training="ppo",
        reward_model="spans",
        flags=("--credit_assignment", "scalar"),
    ),
    "dense": Method("dense: a score for every word", training="ppo", reward_model="word_scores"),
    "text2grad_no_cot": Method(
        "Text2Grad without CoT", training="ppo", reward_model="spans_no_cot"
    ),
    "text2grad": Method("Text2Grad", training="ppo", reward_model="spans"),
    "text2grad_unmarked_0": Method(
        "Text2Grad, unmarked code earns 0",
        training="ppo",
        reward_model="spans",
        flags=("--unmarked_score", "0"),
        tables=("kodcode",),
        why_not="unmarked tokens earn 0 there anyway",
    ),
}


def choose_methods(names: Sequence[str], table: str, reasons: bool) -> dict[str, Method]:
    """The methods named, or all that the table has, in the order of the tables.

    Args:
        names: keys of `METHODS`, () for all that there are here.
        table: which table.
        reasons: whether the annotator reasons when asked to; without that a run with and a run
            without CoT would be the same.

    Raises:
        UserError: a method is unknown, or does not exist here.
    """
    for name in names:
        if name not in METHODS:
            raise UserError(f"--methods {name}: unknown, known are {', '.join(METHODS)}")
        reason = missing_reason(METHODS[name], table, reasons)
        if reason:
            raise UserError(f"--methods {name}: does not exist here: {reason}; leave it out")
    return {
        name: method
        for name, method in METHODS.items()
        if name in names or (not names and not missing_reason(method, table, reasons))
    }


def missing_reason(method: Method, table: str, reasons: bool) -> str:
    """Why a table has no such method, "" if it has."""
    if method.tables and table not in method.tables:
        return f"table {table}: {method.why_not}"
    judge = REWARD_MODELS.get(method.reward_model)
    if judge and judge.annotation == "annotation_no_cot" and not reasons:
        return "the annotator never reasons, with CoT or without; pass --annotator openai"
    return ""
