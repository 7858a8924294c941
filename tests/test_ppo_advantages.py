"""From scores to whitened advantages: who is paid, how far credit reaches, and in what unit."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ppo_rows import INF, NAN, close, row, rows

from text2grad.ppo_math import (
    assign_credit,
    gae,
    masked_moments,
    whiten,
)

ALL = rows(4, width=4)


# --- credit


def test_scalar_credit_pays_the_sum_on_the_last_sampled_token():
    scores = torch.tensor([[1.0, 0.0, -1.0, 1.0], [1.0, 1.0, NAN, INF], [NAN, 1.0, 1.0, 1.0]])
    mask = rows(4, 2, 0, width=4)
    close(assign_credit(scores, mask, "scalar"), [[0, 0, 0, 1.0], [0, 2.0, 0, 0], [0, 0, 0, 0]])
    kept = torch.tensor([[1.0, 0.0, -1.0, 1.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    close(assign_credit(scores, mask, "span"), kept)
    close(assign_credit(scores, mask, "dense"), kept)


def test_spread_credit_pays_every_sampled_token_the_same():
    scores = torch.tensor([[1.0, 0.0, -1.0, 1.0], [1.0, 1.0, NAN, INF], [NAN, 1.0, 1.0, 1.0]])
    mask = rows(4, 2, 0, width=4)
    close(assign_credit(scores, mask, "spread"), [[0.25] * 4, [1.0, 1.0, 0, 0], [0, 0, 0, 0]])


responses = st.lists(
    st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=0, max_size=9), min_size=1, max_size=4
)


def padded(responses, padding=NAN):
    """Scores of ragged responses and their mask."""
    width = max(1, *map(len, responses)) + 1
    scores = torch.tensor([line + [padding] * (width - len(line)) for line in responses])
    return scores, rows(*map(len, responses), width=width)


@given(responses)
@settings(max_examples=60, deadline=None)
def test_credit_conserves_the_score_of_every_response(responses):
    scores, mask = padded(responses)
    for kind in ("span", "scalar", "spread", "dense"):
        got = assign_credit(scores, mask, kind)
        close(got.sum(1), [sum(line) for line in responses])
        assert not got[~mask].any()


@given(responses)
@settings(max_examples=60, deadline=None)
def test_undiscounted_span_advantage_is_the_suffix_sum_and_scalar_the_total(responses):
    scores, mask = padded(responses)
    zeros = torch.zeros_like(scores)
    span, _ = gae(assign_credit(scores, mask, "span"), zeros, mask, 1.0, 1.0)
    scalar, _ = gae(assign_credit(scores, mask, "scalar"), zeros, mask, 1.0, 1.0)
    for i, line in enumerate(responses):
        close(span[i, : len(line)], [sum(line[t:]) for t in range(len(line))])
        close(scalar[i, : len(line)], [sum(line)] * len(line))


def test_two_spans_tell_span_from_scalar():
    # Good on the first two tokens, poor on the last two: the total says nothing about either.
    scores, zeros = row(1.0, 1.0, -1.0, -1.0), torch.zeros(1, 4)
    span, _ = gae(assign_credit(scores, ALL, "span"), zeros, ALL, 1.0, 0.5)
    scalar, _ = gae(assign_credit(scores, ALL, "scalar"), zeros, ALL, 1.0, 0.5)
    # From the end, A = score + A_next / 2: -1, -1.5, 1 - 0.75 = 0.25, 1 + 0.125 = 1.125
    close(span, row(1.125, 0.25, -1.5, -1.0))
    close(scalar, torch.zeros(1, 4))


def test_one_score_on_the_last_token_is_the_same_under_span_and_scalar():
    scores, mask = torch.tensor([[0.0, 0.0, 1.0, NAN], [0.0, -1.0, NAN, NAN]]), rows(3, 2, width=4)
    assert torch.equal(assign_credit(scores, mask, "span"), assign_credit(scores, mask, "scalar"))


# --- advantages


def double_sum(rewards, values, gamma, lam):
    """A_t = sum over l >= t of (gamma * lam)^(l - t) * (r_l + gamma * V_{l+1} - V_l)."""
    ahead = [*values, 0.0][1:]
    deltas = [r + gamma * a - v for r, v, a in zip(rewards, values, ahead, strict=True)]
    return [
        sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, len(deltas)))
        for t in range(len(deltas))
    ]


def test_gae_by_hand():
    # gamma 0.5, lam 0.5, so 0.25 per step. Deltas from the end: 4 - 1 = 3;
    # 0 + 0.5 * 1 - 2 = -1.5; 1 + 0.5 * 2 - 1 = 1. Advantages: 3; -1.5 + 0.75 = -0.75;
    # 1 - 0.1875 = 0.8125. Returns add the values 1, 2, 1.
    advantages, returns = gae(
        row(1.0, 0.0, 4.0, NAN), row(1.0, 2.0, 1.0, NAN), rows(3, width=4), 0.5, 0.5
    )
    close(advantages, row(0.8125, -0.75, 3.0, 0.0))
    close(returns, row(1.8125, 1.25, 4.0, 0.0))


numbers = st.floats(-2, 2, allow_nan=False, width=32)


@given(
    st.lists(st.lists(st.tuples(numbers, numbers), max_size=12), min_size=1, max_size=4),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(max_examples=80, deadline=None)
def test_gae_is_the_double_sum(responses, gamma, lam):
    rewards, mask = padded([[reward for reward, _ in line] for line in responses])
    values, _ = padded([[value for _, value in line] for line in responses], padding=INF)
    advantages, returns = gae(rewards.double(), values.double(), mask, gamma, lam)
    assert not advantages[~mask].any()
    assert not returns[~mask].any()
    for i, line in enumerate(responses):
        want = double_sum([r for r, _ in line], [v for _, v in line], gamma, lam)
        close(advantages[i, : len(line)], want)
        close(returns[i, : len(line)], [a + v for a, (_, v) in zip(want, line, strict=True)])


def test_gae_steps_over_padding_on_the_left_and_gaps():
    rewards, values = row(NAN, 1.0, NAN, 0.0, 4.0), row(NAN, 1.0, NAN, 2.0, 1.0)
    mask = torch.tensor([[False, True, False, True, True]])
    advantages, _ = gae(rewards, values, mask, 0.5, 0.5)
    close(advantages, row(0.0, 0.8125, 0.0, -0.75, 3.0))  # the numbers of test_gae_by_hand


def test_a_score_20_tokens_before_the_end_counts_in_full():
    # 21 tokens; whatever they say, commas included, every step passes on 0.95 of the credit.
    mask, scores = rows(21, width=21), torch.zeros(1, 21)
    scores[0, 0] = 1.0
    span, _ = gae(assign_credit(scores, mask, "span"), torch.zeros(1, 21), mask, 1.0, 0.95)
    scalar, _ = gae(assign_credit(scores, mask, "scalar"), torch.zeros(1, 21), mask, 1.0, 0.95)
    close(span[0, 0], 1.0)
    close(scalar[0], [0.95 ** (20 - t) for t in range(21)])  # unbroken, token by token
    close(scalar[0, 0], 0.3584859)  # 0.95^20
    close(span[0, 0] / scalar[0, 0], 2.7895099, atol=1e-5)  # the paper's 2.8x


def test_advantages_are_constants_and_arguments_stay_as_they_were():
    rewards, values = row(1.0, NAN), row(0.5, NAN).requires_grad_()
    advantages, returns = gae(rewards, values, rows(1, width=2), 1.0, 0.95)
    assert not advantages.requires_grad
    assert not returns.requires_grad
    assert rewards[0, 1].isnan()
    assert values[0, 1].isnan()


def test_whitening_by_hand():
    x, mask = row(1.0, 3.0, NAN), rows(2, width=3)
    moments = masked_moments(x, mask)
    # Mean 2, deviation 1; about 0 the mean square is (1 + 9) / 2 = 5.
    close(whiten(x, mask, moments, zero_mean=True, floor=0.1), row(-1.0, 1.0, 0.0))
    close(whiten(x, mask, moments, zero_mean=False, floor=0.1), row(0.4472136, 1.3416408, 0.0))


def test_whitening_is_global_over_ranks():
    generator = torch.Generator().manual_seed(1)
    x, mask = torch.randn(4, 6, generator=generator) * 3 + 1, rows(6, 2, 0, 5, width=6)
    moments = masked_moments(x[:2], mask[:2]) + masked_moments(x[2:], mask[2:])
    for zero_mean in (True, False):
        parts = [whiten(x[i], mask[i], moments, zero_mean, 0.1) for i in (slice(2), slice(2, 4))]
        whole = torch.cat(parts)
        assert not whole[~mask].any()
        kept = whole[mask].double()
        close(kept.square().mean(), 1.0)
        assert abs(kept.mean().item()) < 1e-6 or not zero_mean


def test_scale_keeps_neutral_tokens_neutral_and_shift_does_not():
    x = row(0.0, 0.0, 0.0, 4.0)
    moments = masked_moments(x, ALL)
    close(whiten(x, ALL, moments, False, 0.1), row(0.0, 0.0, 0.0, 2.0))  # deviation about 0: 2
    # Mean 1, deviation sqrt(3): neutral tokens are pushed down by 1 / sqrt(3).
    close(whiten(x, ALL, moments, True, 0.1), row(-0.5773503, -0.5773503, -0.5773503, 1.7320508))


def test_a_batch_without_signal_is_not_blown_up():
    x = row(1e-6, -1e-6, 1e-6, -1e-6)
    moments = masked_moments(x, ALL)
    for zero_mean in (True, False):
        close(whiten(x, ALL, moments, zero_mean, 0.1), 10 * x, atol=1e-9)
    equal = torch.ones(1, 4)
    moments = masked_moments(equal, ALL)
    close(whiten(equal, ALL, moments, True, 0.1), 0.0)
    close(whiten(equal, ALL, moments, False, 0.1), 1.0)  # all good stays good, not 1 / floor
