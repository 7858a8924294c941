"""What is watched during a policy run, so that a run without a signal does not go on in silence."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Bound:
    """A bound of one figure.

    Attributes:
        flag: sets the bound: `max_...`, or `min_...` for a lower one.
        figure: which value of the last steps.
        title: what the figure is called.
        advice: what it means, and what to look at; files are those of the run's folder.
    """

    flag: str
    figure: str
    title: str
    advice: str

    def holds(self, value: float, bound: float) -> bool:
        """Whether `value` is within."""
        return value >= bound if self.flag.startswith("min_") else value <= bound


BOUNDS = (
    Bound(
        "max_unmatched_rate",
        "unmatched_rate",
        "share of unmatched quotes",
        'they earn nothing; look at spans with "match": "unmatched" in samples.jsonl',
    ),
    Bound(
        "min_coverage",
        "coverage",
        "share of scored tokens",
        "hardly a token earns anything; read critiques and spans in samples.jsonl",
    ),
    Bound(
        "max_coverage",
        "coverage",
        "share of scored tokens",
        "quotes that cover everything single nothing out; read the spans in samples.jsonl",
    ),
    Bound(
        "max_sign_share",
        "sign_share",
        "share of the scores with one sign",
        "the critiques no longer tell good from poor; compare the best and the worst response of a "
        "step in samples.jsonl",
    ),
    Bound(
        "max_rejected_share",
        "rejected_share",
        "share of rejected first choices of the reward model",
        "its quotes are forced more than chosen; train it longer, or judge a few responses with "
        "--constrained_decoding false",
    ),
    Bound(
        "max_removed_mass",
        "removed_mass",
        "probability removed from the reward model's choices",
        "its quotes are forced more than chosen; train it longer, or judge a few responses with "
        "--constrained_decoding false",
    ),
    Bound(
        "max_reward_swing",
        "reward_swing",
        "swing of the reward between steps",
        "it goes to and fro more than chance; lower --learning_rate or --ppo_epochs, or raise "
        "--batch_size, and look at kl and clip_fraction in metrics.jsonl",
    ),
    Bound(
        "max_length_growth",
        "length_growth",
        "length of the responses against the first steps",
        "the reward may pay for length alone; read the longest responses in samples.jsonl, "
        "or try --length_weight true",
    ),
    Bound(
        "min_length_growth",
        "length_growth",
        "length of the responses against the first steps",
        "a policy may say less to earn less blame; see in samples.jsonl whether nearly all labels "
        "are poor, and in metrics.jsonl negative_share and response_tokens_min; raise "
        "--init_kl_coef, or compare with --credit_assignment scalar",
    ),
    Bound(
        "max_kl_ratio",
        "kl_ratio",
        "KL in multiples of --kl_target",
        "the policy drifts; lower --learning_rate, raise --init_kl_coef or shorten --kl_horizon, "
        "and read the last responses in samples.jsonl",
    ),
)


class RunWatch:
    """Warns when the figures of the last steps leave their bounds, and says when to stop.

    A warning is given once; it can come again after --watch_steps steps within the bound.

    Args:
        args: `watch_steps`, the flags of `BOUNDS`, `max_unparseable_share`, `max_bad_steps`.

    Attributes:
        bad_steps: steps in a row with too many unparseable critiques.
        recent: the last figures by key, oldest first.
        first_lengths: response lengths of the first steps.
        active: by flag, how many steps within the bound end the episode.
    """

    def __init__(self, args: PolicyConfig) -> None:
        self.args = args
        self.bad_steps = 0
        self.recent: dict[str, list[float]] = {}
        self.first_lengths: list[float] = []
        self.active: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "bad_steps": self.bad_steps,
            "recent": {key: list(values) for key, values in self.recent.items()},
            "first_lengths": list(self.first_lengths),
            "active": dict(self.active),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.bad_steps = state["bad_steps"]
        self.recent = {key: list(values) for key, values in state.get("recent", {}).items()}
        self.first_lengths = list(state.get("first_lengths", ()))
        self.active = dict(state.get("active", {}))

    def update(self, row: Row, unparseable_share: float) -> list[str]:
        """Take in a step.

        Args:
            row: its metrics.
            unparseable_share: of its critiques, over all processes.

        Returns:
            The warnings that begin with this step.
        """
        bad = unparseable_share > self.args.max_unparseable_share
        self.bad_steps = self.bad_steps + 1 if bad else 0
        size = self.args.watch_steps
        for key, value in watched_figures(row).items():
            self.recent[key] = [*self.recent.get(key, ()), value][-size:]
            if key == "response_tokens" and len(self.first_lengths) < size:
                self.first_lengths.append(value)
        return list(self._begun(self._window()))

    @property
    def reason_to_stop(self) -> str:
        """Why the run must not go on, "" if it may."""
        args = self.args
        if self.bad_steps < args.max_bad_steps:
            return ""
        return (
            f"stopped: more than --max_unparseable_share {args.max_unparseable_share} of the "
            f"critiques could not be parsed for {self.bad_steps} steps in a row; look at the "
            f'reasons under "unparseable" in {args.output_dir}/metrics.jsonl, and judge a few '
            f"responses with {args.reward_model_name} by hand"
        )

    def _begun(self, values: Mapping[str, float]) -> Iterator[str]:
        args = self.args
        for bound in BOUNDS:
            limit, value = getattr(args, bound.flag), values.get(bound.figure)
            if value is None or bound.holds(value, limit):
                left = self.active.pop(bound.flag, 0) - 1
                if left > 0:
                    self.active[bound.flag] = left
                continue
            is_new = bound.flag not in self.active
            self.active[bound.flag] = args.watch_steps
            if is_new:
                side = "below" if bound.flag.startswith("min_") else "above"
                yield (
                    f"{bound.title} {value:.3g} over {args.watch_steps} steps, {side} "
                    f"--{bound.flag} {limit:g}: {bound.advice}"
                )

    def _window(self) -> dict[str, float]:
        """One value of each figure that the last steps know."""
        size = self.args.watch_steps
        full = {key: values for key, values in self.recent.items() if len(values) == size}
        found = {key: fmean(values) for key, values in full.items()}
        if "positive" in found:
            found["sign_share"] = max(found["positive"], 1 - found["positive"])
        if "reward" in full:
            found["reward_swing"] = reward_swing(full["reward"], full["reward_error"])
        if "response_tokens" in found:
            found["length_growth"] = found["response_tokens"] / max(fmean(self.first_lengths), 1)
        if "kl" in found:
            found["kl_ratio"] = found["kl"] / self.args.kl_target
        return found


def watched_figures(row: Row) -> dict[str, float]:
    """What a step's metrics say to the watches; a figure without a base is left out.

    A step whose critiques were all unparseable says nothing about quotes, scores or KL.
    """
    found = {"response_tokens": row.get("response_tokens")}
    n_judged = row.get("judged", 0)
    if n_judged:
        keys = ("coverage", "kl", "rejected_share", "removed_mass")
        found |= {key: row.get(key) for key in keys}
        if row.get("spans_per_response"):
            found["unmatched_rate"] = row.get("unmatched_rate")
        scored = row.get("positive_share", 0) + row.get("negative_share", 0)
        if scored:
            found["positive"] = row["positive_share"] / scored
        if _is_number(row.get("reward")) and _is_number(row.get("reward_deviation")):
            found["reward"] = row["reward"]
            found["reward_error"] = row["reward_deviation"] / math.sqrt(n_judged)
    return {key: value for key, value in found.items() if _is_number(value)}


def reward_swing(rewards: Sequence[float], errors: Sequence[float]) -> float:
    """How far the reward goes to and fro, in units of what chance explains.

    Args:
        rewards: mean reward of each step, at least three.
        errors: standard error of each mean.

    Returns:
        The median absolute change between steps over the deviation that the errors give to a
        change, the root of 2 mean(error^2): about 0.67 where only chance moves it. 0 where less
        than half of the changes turn back on the one before, as in a rise or a fall.

    Example: rewards 1, 3, 1, 3 with errors 0.5 -> 2 / sqrt(0.5) = 2.83
    """
    changes = [after - before for before, after in pairwise(rewards)]
    turns = [first * second < 0 for first, second in pairwise(changes)]
    size = median(map(abs, changes))
    if not size or fmean(turns) < 0.5:
        return 0.0
    expected = math.sqrt(2 * fmean(error * error for error in errors))
    return size / expected if expected else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
