"""The numbers of one policy step, as pure functions, in the order in which the method uses them.

After the masked statistics: scores -> credit -> KL -> rewards -> advantages -> whitening -> losses.
Tensors are (B, R) and masks bool unless a docstring says otherwise. What lies at a masked position,
NaN and infinity included, reaches neither a result nor a gradient: it is blanked before the first
arithmetic. So a row masked throughout (a response whose critique could not be read) is absent from
every sum, mean and loss. Half-precision input is computed in fp32.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

CreditKind = Literal["span", "scalar", "spread", "dense"]
KLKind = Literal["kl", "k1", "k2", "k3", "abs", "mse"]

MAX_LOG_RATIO = 20.0  # e^20 is far past every clip range, and its square still fits fp32


def _blank(x: Tensor, mask: Tensor) -> Tensor:
    """`x` in fp32 or better with 0 at masked positions."""
    return _promote(x).masked_fill(~mask, 0.0)


def _promote(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def masked_sum(x: Tensor, mask: Tensor) -> Tensor:
    """Sum over the True positions, a scalar."""
    return _blank(x, mask).sum()


def masked_mean(x: Tensor, mask: Tensor, denominator: Tensor | float | None = None) -> Tensor:
    """Mean over the True positions, a scalar; 0 if there are none.

    `denominator` replaces their number: with the count over all micro-batches and ranks the parts
    add up to the mean of the whole, with the number of responses the result is per response.
    """
    total = masked_sum(x, mask)
    count = torch.as_tensor(mask.sum() if denominator is None else denominator).to(total)
    return total / count.clamp(min=1)


def masked_moments(x: Tensor, mask: Tensor) -> Tensor:
    """Count, sum and sum of squares over the True positions, (3,) float64.

    The moments of several ranks or batches add up to those of their union.
    """
    counted = _blank(x, mask).double()
    return torch.stack([mask.sum().double(), counted.sum(), counted.square().sum()])


def _variance(moments: Tensor) -> Tensor:
    """Population variance; exactly 0 where rounding is all that varies."""
    _, mean, square = moments / moments[0].clamp(min=1)
    variance = square - mean.square()
    return torch.where(variance > 1e-12 * square, variance, 0.0)


def length_weight(positions: Tensor, alpha: float = 1.0, length: float = 48.0) -> Tensor:
    """Weight by place in the response: 1 / (1 + exp(clamp(alpha * (n - length) - 6, -10, 6))).

    `positions` holds n, which is 1 for the first token of the response; any shape.

    Example: alpha 1, length 48: n = 48 -> 0.9975, n = 54 -> 0.5, n = 60 and later -> 0.0025
    """
    return torch.sigmoid(-(alpha * (positions - length) - 6.0).clamp(-10.0, 6.0))


def weigh_by_length(
    scores: Tensor, mask: Tensor, alpha: float = 1.0, length: float = 48.0
) -> Tensor:
    """Multiply the positive scores by `length_weight`.

    Negative scores stay whole: fading them out would pardon the faults of an overlong tail.
    """
    scores = _blank(scores, mask)
    positions = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return torch.where(scores > 0, scores * length_weight(positions, alpha, length), scores)


def assign_credit(scores: Tensor, mask: Tensor, kind: CreditKind) -> Tensor:
    """Decide which token is paid for the scores of a response; their sum never changes.

    "span" and "dense" pay each token its own score (they differ in who gave it); "scalar" pays the
    sum on the last sampled token, as plain PPO does, and "spread" an equal share of it on each.

    Raises:
        ValueError: `kind` is none of these.

    Example: scores 1, 0, -1, 1 -> span 1, 0, -1, 1; scalar 0, 0, 0, 1; spread four times 0.25
    """
    scores = _blank(scores, mask)
    if kind in ("span", "dense"):
        return scores
    if kind == "spread":
        shares = scores.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        return _blank(shares.expand_as(scores), mask)
    if kind != "scalar":
        raise ValueError(f'credit kind "{kind}" is not one of span, scalar, spread, dense')
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    is_last = places == places.amax(dim=1, keepdim=True)  # all of a masked row, which sums to 0
    return torch.where(is_last, scores.sum(dim=1, keepdim=True), 0.0)


def kl_estimate(logp: Tensor, ref_logp: Tensor, kind: KLKind) -> Tensor:
    """KL penalty of each token in nats, estimated from the sampled token alone; any shape.

    With d = logp - ref_logp: "kl", "k1" are d (unbiased, may be negative), "k2", "mse" d^2 / 2,
    "k3" exp(-d) - 1 + d (unbiased, never negative), "abs" |d|. For "full" see `full_kl`.

    Raises:
        ValueError: `kind` is none of these.

    Example: d = 0.5 -> k1 0.5, k2 0.125, k3 0.106531, abs 0.5
    """
    diff = _promote(logp) - _promote(ref_logp)
    if kind in ("kl", "k1"):
        return diff
    if kind in ("k2", "mse"):
        return 0.5 * diff.square()
    if kind == "k3":
        return torch.expm1((-diff).clamp(max=MAX_LOG_RATIO)) + diff
    if kind == "abs":
        return diff.abs()
    raise ValueError(f'KL kind "{kind}" is not one of kl, k1, k2, k3, abs, mse')


def full_kl(logp_all: Tensor, ref_logp_all: Tensor) -> Tensor:
    """KL(policy || reference) of whole distributions: sum_v pi(v) (log pi(v) - log pi_ref(v)).

    Takes normalised log-probabilities (..., V), a chunk of positions at a time, and returns (...)
    in nats. A token that the policy cannot produce (-inf) contributes 0.

    Example: pi = (1/2, 1/2), pi_ref = (1/4, 3/4) -> ln(2) / 2 + ln(2/3) / 2 = 0.143841
    """
    possible = logp_all > -torch.inf
    diff = _blank(logp_all, possible) - _blank(ref_logp_all, possible)
    return (_promote(logp_all).exp() * diff).sum(dim=-1)


def token_rewards(scores: Tensor, kl: Tensor, kl_coef: float, mask: Tensor) -> Tensor:
    """Reward of each token: its score minus `kl_coef` times its KL in nats; 0 where masked.

    Source: Text2Grad (arXiv:2505.22338); the scores here have gone through `assign_credit`.

    Example: score 1, KL 0.5, kl_coef 0.2 -> 0.9
    """
    return _blank(scores, mask) - kl_coef * _blank(kl, mask)


@torch.no_grad()
def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation along the sampled tokens of each response.

    A_t = r_t + gamma * V_{t+1} - V_t + gamma * lam * A_{t+1}, with V and A 0 after the last sampled
    token. Only True positions exist: padding on either side and gaps are stepped over, so credit
    runs unbroken from the last token of a response to its first.

    Args:
        rewards: reward of each token.
        values: what the value head expected, in the unit of the rewards.
        mask: the sampled tokens.
        gamma: discount per token, in [0, 1].
        lam: trace decay per token, in [0, 1].

    Returns:
        Advantages, and returns = advantages + values; both 0 where masked and without gradient.

    Example: rewards 0, 1, values 0.5, 0.5, gamma 1, lam 0.5 -> advantages 0.25, 0.5
    """
    rewards, values = _blank(rewards, mask), _blank(values, mask)
    next_value = next_advantage = torch.zeros_like(rewards[:, 0])
    backwards = []
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = delta + gamma * lam * next_advantage
        next_advantage = torch.where(mask[:, t], advantage, next_advantage)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        backwards.append(next_advantage)
    advantages = _blank(torch.stack(backwards[::-1], dim=1), mask)
    return advantages, advantages + values


def whiten(x: Tensor, mask: Tensor, moments: Tensor, zero_mean: bool, floor: float) -> Tensor:
    """Bring values, usually advantages, to mean square 1; 0 where masked.

    Args:
        x: the values of this rank.
        mask: which of them count.
        moments: `masked_moments` summed over all that is whitened together (all ranks).
        zero_mean: True ("shift") subtracts the mean and divides by the deviation about it. False
            ("scale") only divides, by the deviation about 0: signs stay, 0 stays 0, and nearly
            equal values become nearly +-1 instead of huge.
        floor: > 0, in the unit of `x`; replaces any smaller deviation, so that a batch without
            signal ends up at size deviation / floor instead of being blown up into noise of size 1.

    Example: 1, 3 -> shift -1, 1; scale (deviation sqrt(5)) 0.447214, 1.341641
    """
    counted = _blank(x, mask)
    _, mean, square = moments / moments[0].clamp(min=1)
    centre, variance = (mean, _variance(moments)) if zero_mean else (0.0, square)
    whitened = (counted.double() - centre) / variance.sqrt().clamp(min=floor)
    return _blank(whitened, mask).to(counted.dtype)


class LossOutput(NamedTuple):
    """A loss, and scalars without gradient to log about it.

    Each is a sum over the tokens of this part divided by the caller's denominator, so the parts of
    a batch (micro-batches, ranks) add up to the whole.
    """

    loss: Tensor
    stats: dict[str, Tensor]


def _reduce(
    losses: Tensor, mask: Tensor, denominator: Tensor | float, **stats: Tensor
) -> LossOutput:
    means = {name: masked_mean(x.detach(), mask, denominator) for name, x in stats.items()}
    return LossOutput(masked_mean(losses, mask, denominator), means)


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    clip_range: float,
    denominator: Tensor | float,
) -> LossOutput:
    """Clipped policy loss: the mean of max(-A * ratio, -A * clip(ratio, 1 - c, 1 + c)).

    Args:
        logp: log-probability of each sampled token under the policy in training.
        old_logp: the same under the policy that sampled it.
        advantages: usually whitened.
        mask: the tokens that count.
        clip_range: c above.
        denominator: tokens that count in the whole batch, over all micro-batches and ranks.

    Returns:
        The loss, and the means `clip_fraction` (tokens whose gradient the clip cut off),
        `approx_kl` (ratio - 1 - log ratio, nats per token, never negative) and `ratio`. The log
        ratio is held within +-20.

    Example: c 0.2; (ratio, A): (1.5, 1) -> -1.2, (1.5, -1) -> 1.5, (0.5, 1) -> -0.5,
    (0.5, -1) -> 0.8
    """
    advantages = _blank(advantages, mask)
    log_ratio = _blank(logp, mask) - _blank(old_logp, mask)
    log_ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_range, 1.0 + clip_range)
    return _reduce(
        torch.maximum(free, clipped),
        mask,
        denominator,
        clip_fraction=clipped > free,
        approx_kl=torch.expm1(log_ratio) - log_ratio,
        ratio=ratio,
    )


def value_loss(
    values: Tensor,
    old_values: Tensor,
    returns: Tensor,
    mask: Tensor,
    clip_range: float,
    denominator: Tensor | float,
) -> LossOutput:
    """Clipped value loss: half the mean of the larger of the free and the clipped squared error.

    The clipped error is that of a value held within `clip_range` of the old one. `values`,
    `old_values`, `returns` and `clip_range` are in the unit of the value head: returns divided by
    `ppo_state.ReturnScale.scale`. `mask` and `denominator` are those of `policy_loss`.

    Returns:
        The loss, and the means `clip_fraction` (tokens whose gradient the clip cut off) and `error`
        (squared error without the clip).

    Example: value 1, old 0, return 2, clip 0.2 -> max(1, 1.8^2) / 2 = 1.62
    """
    values, old_values = _blank(values, mask), _blank(old_values, mask)
    returns = _blank(returns, mask)
    held = old_values + (values - old_values).clamp(-clip_range, clip_range)
    free, clipped = (values - returns).square(), (held - returns).square()
    losses = 0.5 * torch.maximum(free, clipped)
    return _reduce(losses, mask, denominator, clip_fraction=clipped > free, error=free)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Share of the variance of the returns that the values account for, a scalar.

    1 is perfect, 0 no better than a constant, negative worse; 0 if the returns do not vary.
    """
    error = _blank(returns, mask) - _blank(values, mask)
    total, missed = (_variance(masked_moments(x, mask)) for x in (returns, error))
    return torch.where(total > 0, 1.0 - missed / total, 0.0)
