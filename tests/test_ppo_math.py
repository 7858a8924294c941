"""Numbers derived by hand in the comments, and oracles that are not the code under test."""

import math

import pytest
import torch
from ppo_rows import INF, NAN, close, row, rows

from text2grad.ppo_math import (
    assign_credit,
    explained_variance,
    full_kl,
    kl_estimate,
    length_weight,
    masked_mean,
    masked_moments,
    masked_sum,
    policy_loss,
    sample_deviation,
    token_rewards,
    value_loss,
    weigh_by_length,
    whiten,
)

# --- masked statistics


def test_masked_sum_and_mean():
    x = torch.tensor([[1.0, 2.0, NAN], [INF, -INF, NAN], [6.0, NAN, NAN]])
    mask = rows(2, 0, 1, width=3)
    close(masked_sum(x, mask), 9.0)  # 1 + 2 + 6
    close(masked_mean(x, mask), 3.0)  # 9 / 3 tokens; the row masked throughout is not a zero
    close(masked_mean(x, mask, denominator=2), 4.5)  # per response that counts
    close(masked_mean(x, mask, denominator=torch.tensor(6)), 1.5)
    assert masked_mean(x, mask, masked_moments(x, mask)[0]).dtype == torch.float32


def test_nothing_to_average_is_zero():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    close(masked_mean(row(NAN, 5.0), nothing), 0.0)
    close(masked_mean(row(NAN, 5.0), nothing, denominator=0), 0.0)
    close(whiten(row(NAN, 5.0), nothing, torch.zeros(3), True, 0.1), 0.0)
    close(explained_variance(torch.zeros(3), torch.zeros(3)), 0.0)
    close(sample_deviation(torch.zeros(3)), 0.0)


def test_masked_moments_add_up_over_ranks():
    x = torch.tensor([[1.0, 2.0], [-3.0, NAN]])
    mask = rows(2, 1, width=2)
    moments = masked_moments(x, mask)
    close(moments, [3.0, 0.0, 14.0])  # 3 tokens; 1 + 2 - 3; 1 + 4 + 9
    assert moments.dtype == torch.float64
    close(masked_moments(x[:1], mask[:1]) + masked_moments(x[1:], mask[1:]), moments)


def test_moments_of_large_values_keep_their_variance():
    # Values 10000 and 10001: variance 1/4, lost in fp32 sums of squares (steps of 8 at 1e8).
    x = torch.tensor([[10_000.0, 10_001.0]])
    mask = rows(2, width=2)
    close(whiten(x, mask, masked_moments(x, mask), True, 1e-3), [-1.0, 1.0])


# --- length weight


@pytest.mark.parametrize(
    ("n", "weight"),
    [
        (1, 0.9999546),  # the exponent is held at -10: 1 / (1 + e^-10)
        (44, 0.9999546),  # 44 - 48 - 6 = -10 as well
        (48, 0.9975274),  # 1 / (1 + e^-6)
        (52, 0.8807971),  # 1 / (1 + e^-2)
        (54, 0.5),
        (56, 0.1192029),  # 1 / (1 + e^2)
        (60, 0.0024726),  # 1 / (1 + e^6)
        (500, 0.0024726),  # held at 6
    ],
)
def test_length_weight(n, weight):
    close(length_weight(torch.tensor(n)), weight)


def test_length_weight_falls_on_positive_scores_only_and_counts_from_the_first_token():
    # L = -3, alpha 2: exponents 2 * (n + 3) - 6 = 2, 4, 6, then held at 6.
    scores = row(0.0, 1.0, -1.0, 1.0, NAN)
    got = weigh_by_length(scores, rows(4, width=5), alpha=2.0, length=-3.0)
    close(got, row(0.0, 1 / (1 + math.exp(4)), -1.0, 1 / (1 + math.exp(6)), 0.0))


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match='"word" is not one of span, scalar, spread, dense'):
        assign_credit(row(1.0), rows(1, width=1), "word")
    with pytest.raises(ValueError, match='"full" is not one of kl'):
        kl_estimate(row(1.0), row(1.0), "full")


# --- KL and rewards


@pytest.mark.parametrize(
    ("kind", "above", "below"),
    [
        ("kl", 0.5, -0.5),
        ("k1", 0.5, -0.5),
        ("k2", 0.125, 0.125),  # 0.5 * 0.25
        ("mse", 0.125, 0.125),
        ("k3", 0.1065307, 0.1487213),  # e^-0.5 - 1 + 0.5 and e^0.5 - 1 - 0.5
        ("abs", 0.5, 0.5),
    ],
)
def test_kl_estimates(kind, above, below):
    # The policy is first 0.5 nats surer of the token than the reference, then 0.5 less sure.
    close(kl_estimate(row(-1.0, -2.0), row(-1.5, -1.5), kind), row(above, below))


def test_k3_is_exact_near_zero_and_finite_far_from_it():
    close(kl_estimate(row(1e-4), row(0.0), "k3"), 5e-9, atol=1e-10)  # d^2 / 2
    assert kl_estimate(row(-500.0), row(0.0), "k3").isfinite().all()


def test_k1_and_k3_are_unbiased_for_the_full_kl():
    generator = torch.Generator().manual_seed(0)
    logp, ref = torch.randn(2, 7, generator=generator).log_softmax(-1)
    want = sum(math.exp(a) * (a - b) for a, b in zip(logp.tolist(), ref.tolist(), strict=True))
    close(full_kl(logp, ref), want)
    for kind in ("k1", "k3"):
        expected = (logp.exp() * kl_estimate(logp, ref, kind)).sum()
        close(expected, want)


def test_full_kl_direction_and_impossible_tokens():
    half, quarter = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    close(full_kl(half, quarter), 0.1438410)  # ln(2) / 2 + ln(2/3) / 2
    close(full_kl(quarter, half), 0.1308120)  # 1/4 * ln(1/2) + 3/4 * ln(3/2)
    banned = torch.tensor([[0.0, -INF], [0.0, -INF]])
    # A token that neither can produce adds nothing; one that only the reference can, nothing too.
    close(full_kl(banned, torch.stack([banned[0], half])), [0.0, math.log(2)])


def test_token_rewards():
    scores, kl = row(1.0, 0.0, -1.0, NAN), row(0.5, 0.5, -0.5, NAN)
    # 1 - 0.2 * 0.5; no feedback leaves -0.2 * 0.5; -1 + 0.2 * 0.5
    close(token_rewards(scores, kl, 0.2, rows(3, width=4)), row(0.9, -0.1, -0.9, 0.0))


# --- losses


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "clipped"),
    [  # clip 0.2: the pessimistic branch wins; d loss / d logp = -A * ratio where it is not cut off
        (1.5, 1.0, -1.2, 0.0, 1.0),
        (1.5, -1.0, 1.5, 1.5, 0.0),
        (0.5, 1.0, -0.5, -0.5, 0.0),
        (0.5, -1.0, 0.8, 0.0, 1.0),
        (1.0, 1.0, -1.0, -1.0, 0.0),
        (1.0, -1.0, 1.0, 1.0, 0.0),
        (1.5, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_policy_loss_corners(ratio, advantage, loss, slope, clipped):
    logp = row(math.log(ratio) - 3.0).requires_grad_()
    got = policy_loss(logp, row(-3.0), row(advantage), rows(1, width=1), 0.2, 1)
    got.loss.backward()
    close(got.loss.detach(), loss)
    close(logp.grad, slope)
    close(got.stats["clip_fraction"], clipped)
    close(got.stats["ratio"], ratio)
    close(got.stats["approx_kl"], ratio - 1 - math.log(ratio))


def test_policy_loss_is_a_mean_over_tokens_not_over_responses():
    # Ratio 1 everywhere: the loss is minus the mean advantage, (1 + 1 + 1 - 5) / 4 = -0.5.
    old = torch.full((2, 3), -1.0)
    advantages = torch.tensor([[1.0, 1.0, 1.0], [-5.0, NAN, NAN]])
    got = policy_loss(old, old, advantages, rows(3, 1, width=3), 0.2, 4)
    close(got.loss, 0.5)
    assert got.stats["approx_kl"] == 0.0
    assert got.stats["ratio"] == 1.0


def test_far_log_ratios_stay_finite():
    logp = row(200.0, -200.0).requires_grad_()
    got = policy_loss(logp, row(0.0, 0.0), row(-1.0, 1.0), rows(2, width=2), 0.2, 2)
    got.loss.backward()
    assert got.loss.isfinite()
    assert all(stat.isfinite() for stat in got.stats.values())
    close(logp.grad, 0.0)  # held at +-20


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope", "clipped"),
    [  # old value 1, clip 0.2; slope = value - return where it is not cut off
        (1.1, 3.0, 1.805, -1.9, 0.0),  # inside the clip: 0.5 * 1.9^2
        (2.0, 3.0, 1.62, 0.0, 1.0),  # held at 1.2: 0.5 * 1.8^2 > 0.5 * 1^2
        (0.0, -1.0, 1.62, 0.0, 1.0),  # the same downwards, held at 0.8
        (0.0, 3.0, 4.5, -3.0, 0.0),  # moved away: free 0.5 * 3^2 > held 0.5 * 2.2^2
        (5.0, 3.0, 2.0, 2.0, 0.0),  # overshot: free 0.5 * 2^2 > held 0.5 * 1.8^2
    ],
)
def test_value_loss_corners(value, target, loss, slope, clipped):
    values = row(value).requires_grad_()
    got = value_loss(values, row(1.0), row(target), rows(1, width=1), 0.2, 1)
    got.loss.backward()
    close(got.loss.detach(), loss)
    close(values.grad, slope)
    close(got.stats["clip_fraction"], clipped)
    close(got.stats["error"], (value - target) ** 2)


def test_rounding_is_no_clipping_of_values():
    """In fp32 a + (b - a) is often not b."""
    places = torch.arange(1, 100, dtype=torch.float32)[None]
    old, values = 0.1 * torch.sin(places), 0.09 * torch.cos(3 * places)
    mask = rows(99, width=99)
    assert (old + (values - old) != values).any()
    got = value_loss(values, old, torch.zeros_like(old), mask, 0.2, 99.0)
    assert got.stats["clip_fraction"] == 0
    close(got.loss, 0.5 * values.square().mean())


def test_explained_variance():
    returns, mask = row(1.0, 2.0, 3.0, NAN), rows(3, width=4)

    def explained(*values):
        errors = returns - row(*values)
        return explained_variance(masked_moments(returns, mask), masked_moments(errors, mask))

    close(explained(1.0, 2.0, 3.0, NAN), 1.0)
    close(explained(0.0, 0.0, 0.0, INF), 0.0)
    # Errors 0, 1, 0: variance 1/3 - 1/9 = 2/9, against 2/3 of the returns: 1 - 1/3.
    close(explained(1.0, 1.0, 3.0, INF), 0.6666667)
    # Turned round: errors -2, 0, 2, variance 8/3: 1 - 4.
    close(explained(3.0, 2.0, 1.0, INF), -3.0)
    # 51 returns of 0.1: the float64 moments leave a variance of 2e-18, which is rounding.
    returns, mask = torch.full((1, 51), 0.1), rows(51, width=51)
    close(explained(*range(51)), 0.0)


def test_the_deviation_of_a_sample():
    two, mask = row(1.0, 3.0), rows(2, width=2)
    close(sample_deviation(masked_moments(two, mask)), 2**0.5)
    close(sample_deviation(masked_moments(two[:, :1], mask[:, :1])), 0.0)
    parts = [masked_moments(two[:, i : i + 1], mask[:, i : i + 1]) for i in (0, 1)]
    close(sample_deviation(parts[0] + parts[1]), 2**0.5)
