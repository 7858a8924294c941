"""What is watched during a policy run, so that a run without a signal does not go on in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from text2grad.schema import UserError
from text2grad.trends import HIGH_REJECTED_SHARE, HIGH_REMOVED_MASS

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig

FORCED = {"rejected_share": HIGH_REJECTED_SHARE, "removed_mass": HIGH_REMOVED_MASS}


class CritiqueWatch:
    """Counts steps in a row in which the critiques cannot be trusted.

    Args:
        args: `max_unparseable_share` and `max_bad_steps`.

    Attributes:
        bad_steps: steps in a row with too many unparseable critiques.
        forced_steps: steps in a row in which constrained decoding overruled the reward model more
            than it should; parse and match rates cannot show that.
    """

    def __init__(self, args: PolicyConfig) -> None:
        self.args = args
        self.bad_steps = self.forced_steps = 0

    def state_dict(self) -> dict[str, int]:
        """What a resumed run needs."""
        return {"bad_steps": self.bad_steps, "forced_steps": self.forced_steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from `state_dict`."""
        self.bad_steps, self.forced_steps = state["bad_steps"], state["forced_steps"]

    def update(self, unparseable_share: float, rates: Mapping[str, float]) -> None:
        """Take in a step.

        Raises:
            UserError: too many critiques were unparseable for `--max_bad_steps` steps in a row.
        """
        args = self.args
        forced = [name for name, bound in FORCED.items() if rates.get(name, 0.0) > bound]
        self.forced_steps = self.forced_steps + 1 if forced else 0
        if self.forced_steps == args.max_bad_steps:
            shares = ", ".join(f"{name} {rates[name]:.0%}" for name in forced)
            print(
                f"warning: constrained decoding overruled the reward model for {self.forced_steps} "
                f"steps in a row ({shares}): its quotes are forced more than chosen; train it "
                "longer, or judge a few responses with --constrained_decoding false"
            )
        bad = unparseable_share > args.max_unparseable_share
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if self.bad_steps >= args.max_bad_steps:
            raise UserError(
                f"stopped: more than --max_unparseable_share {args.max_unparseable_share} of the "
                f"critiques could not be parsed for {self.bad_steps} steps in a row; look at the "
                f'reasons under "unparseable" in {args.output_dir}/metrics.jsonl, and judge a few '
                f"responses with {args.reward_model_name} by hand"
            )
