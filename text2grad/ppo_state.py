"""What one policy step leaves to the next: the KL coefficient and the unit of the values."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor


class _Resumable:
    """Saves and restores the attributes named in `carried`."""

    carried: ClassVar[tuple[str, ...]]

    def state_dict(self) -> dict[str, float]:
        """What a resumed run needs."""
        return {name: getattr(self, name) for name in self.carried}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from `state_dict`."""
        for name in self.carried:
            setattr(self, name, state[name])


class ReturnScale(_Resumable):
    """Deviation about 0 of all returns so far: the unit in which the value head works.

    About 0, as values are scaled and not shifted: targets keep mean square 1 even where returns
    hardly vary. Update it before the values of a batch are read, from returns that do not depend on
    them (`gae` with values 0 and lam 1), and one scale holds for the whole step.
    """

    carried = ("count", "squares")

    def __init__(self, floor: float = 0.1) -> None:
        self.floor = floor
        self.count = self.squares = 0.0

    @property
    def scale(self) -> float:
        """What returns are divided by, at least `floor`; 1 before the first return."""
        return max((self.squares / self.count) ** 0.5, self.floor) if self.count else 1.0

    def update(self, moments: Tensor) -> None:
        """Take in the `masked_moments` of a batch of returns, summed over ranks."""
        count, _, squares = moments.tolist()
        self.count += count
        self.squares += squares


class FixedKL(_Resumable):
    """A KL coefficient that stays as it is."""

    carried = ("coef",)

    def __init__(self, coef: float) -> None:
        self.coef = coef

    def update(self, mean_kl_nats: float, n_responses: int) -> None:
        """Nothing to adapt."""


class AdaptiveKL(FixedKL):
    """A KL coefficient that grows while the policy is farther from the reference than wanted.

    Attributes:
        coef: the coefficient, starting at `init` > 0.
        target_nats: KL wanted, in nats per response (summed over its tokens), > 0.
        horizon: responses over which the coefficient may change by about a fifth, > 0.

    Source: Ziegler et al. (arXiv:1909.08593), section 2.2.

    Example: init 0.2, target 6, horizon 100; 12 nats over 8 responses -> 0.2 * 1.016 = 0.2032
    """

    def __init__(self, init: float, target_nats: float, horizon: float) -> None:
        super().__init__(init)
        self.target_nats = target_nats
        self.horizon = horizon

    def update(self, mean_kl_nats: float, n_responses: int) -> None:
        """Adapt to a batch: coef *= 1 + clip(KL / target - 1, +-0.2) * n / horizon.

        Args:
            mean_kl_nats: KL per response, the mean over the responses of the sum over tokens.
            n_responses: how many were measured, over all ranks. More than a horizon count as one
                horizon, so that the coefficient stays positive.
        """
        error = min(max(mean_kl_nats / self.target_nats - 1.0, -0.2), 0.2)
        self.coef *= 1.0 + error * min(n_responses / self.horizon, 1.0)
