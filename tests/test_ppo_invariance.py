"""What must change nothing: padding, splitting a batch, responses without feedback, precision."""

from itertools import pairwise

import pytest
import torch
from ppo_rows import INF, NAN, close, rows

from text2grad.ppo_math import (
    assign_credit,
    full_kl,
    gae,
    kl_estimate,
    masked_moments,
    masked_sum,
    policy_loss,
    token_rewards,
    value_loss,
    weigh_by_length,
    whiten,
)


def step(logp, old_logp, ref_logp, values, scores, mask, cuts=()):
    """A whole step, its losses taken over micro-batches cut at `cuts`; with gradients."""
    logp, values = logp.clone().requires_grad_(), values.clone().requires_grad_()
    credit = assign_credit(weigh_by_length(scores, mask, 1.0, 2.0), mask, "span")
    rewards = token_rewards(credit, kl_estimate(old_logp, ref_logp, "k3"), 0.1, mask)
    advantages, returns = gae(rewards, values.detach(), mask, 1.0, 0.95)
    advantages = whiten(advantages, mask, masked_moments(advantages, mask), True, 0.1)
    edges = [0, *cuts, len(mask)]
    count, parts, stats = mask.sum(), [], {}
    for first, last in pairwise(edges):
        part = slice(first, last)
        policy = policy_loss(logp[part], old_logp[part], advantages[part], mask[part], 0.2, count)
        # The old values are half a unit off, so that some of the errors are clipped.
        value = value_loss(
            values[part], values[part].detach() + 0.5, returns[part], mask[part], 0.2, count
        )
        (policy.loss + 0.1 * value.loss).backward()
        parts.append(policy.loss.detach() + 0.1 * value.loss.detach())
        for source, output in (("policy", policy), ("value", value)):
            for name, x in output.stats.items():
                stats[source, name] = stats.get((source, name), 0.0) + x
    return sum(parts), stats, logp.grad, values.grad, advantages


def some_batch(width=6, lengths=(6, 3, 0, 1)):
    generator = torch.Generator().manual_seed(3)
    logp, old, ref, values = torch.randn(4, len(lengths), width, generator=generator)
    scores = torch.randint(-1, 2, (len(lengths), width), generator=generator).float()
    return [logp, old, ref, values, scores], rows(*lengths, width=width)


def assert_same_step(got, want, columns=slice(None), kept=slice(None)):
    close(got[0], want[0])
    for name, x in want[1].items():
        close(got[1][name], x)
    for mine, theirs in zip(got[2:], want[2:], strict=True):
        close(mine[kept, columns], theirs)


def test_the_batch_moves_something():
    tensors, mask = some_batch()
    loss, stats, logp_grad, value_grad, _ = step(*tensors, mask)
    assert loss.abs() > 0.01
    assert 0 < stats["policy", "clip_fraction"] < 1
    assert 0 < stats["value", "clip_fraction"] < 1
    assert logp_grad.abs().max() > 0.01
    assert value_grad.abs().max() > 0.001


@pytest.mark.parametrize("cuts", [(1,), (2,), (1, 2, 3), (3,)])
def test_splitting_the_batch_changes_nothing(cuts):
    tensors, mask = some_batch()
    assert_same_step(step(*tensors, mask, cuts=cuts), step(*tensors, mask))


@pytest.mark.parametrize("padding", [0.0, 7.0, NAN, INF, -INF])
def test_padding_changes_nothing(padding):
    tensors, mask = some_batch()
    want = step(*[x.masked_fill(~mask, 0.0) for x in tensors], mask)
    wide = [torch.nn.functional.pad(x.masked_fill(~mask, padding), (0, 3), value=padding)
            for x in tensors]  # fmt: skip
    got = step(*wide, torch.nn.functional.pad(mask, (0, 3)))
    assert_same_step(got, want, columns=slice(6))
    for gradient in got[2:4]:
        assert not gradient[:, 6:].any()
        assert not gradient[:, :6][~mask].any()


def test_a_response_without_feedback_leaves_every_statistic():
    tensors, mask = some_batch()
    kept = [0, 1, 3]  # the third response is masked throughout
    want = step(*[x[kept] for x in tensors], mask[kept])
    assert_same_step(step(*tensors, mask), want, kept=kept)


def test_a_rank_with_no_response_left_has_zero_loss_and_zero_gradients():
    tensors, mask = some_batch()
    nothing = torch.zeros_like(mask)
    loss, stats, logp_grad, value_grad, _ = step(*[x.fill_(NAN) for x in tensors], nothing)
    assert loss == 0.0
    assert all(stat == 0.0 for stat in stats.values())
    assert not logp_grad.any()
    assert not value_grad.any()


def test_half_precision_is_computed_in_fp32():
    tensors, mask = some_batch()
    half = [x.bfloat16() for x in tensors]
    got, want = step(*half, mask), step(*[x.float() for x in half], mask)
    assert got[0].dtype == got[4].dtype == torch.float32
    close(got[0], want[0], atol=1e-3)  # the old values of `step` are rounded to bf16
    assert torch.equal(got[4], want[4])
    x, y = half[:2]
    assert torch.equal(kl_estimate(x, y, "k3"), kl_estimate(x.float(), y.float(), "k3"))
    assert torch.equal(full_kl(x, y), full_kl(x.float(), y.float()))
    # 1 + 2^-9 is lost if summed in bf16, which has 8 bits.
    summed = masked_sum(torch.tensor([[1.0, 2**-9]], dtype=torch.bfloat16), rows(2, width=2))
    assert summed.item() == 1 + 2**-9
