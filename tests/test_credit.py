from dataclasses import replace

import pytest
import torch
from policy_runs import (
    FakeCritic,
    nudge,
    rows_of,
    trained_weights,
)

from text2grad.ppo_math import gae
from text2grad.rollout import TokenStats
from text2grad.schema import Feedback, UserError
from text2grad.scoring import Judged

# -- unparseable critiques


def gradients_of(made, batches, credit):
    """Of one update over all micro-batches, and its figures."""
    figures = made.updater._accumulate(batches, credit, 1)
    found = {n: p.grad.clone() for n, p in made.policy.named_parameters() if p.requires_grad}
    made.weights.discard()
    return found, figures


def test_an_unparseable_critique_is_as_if_the_sample_were_not_there(make):
    made = make(batch_size=4, mini_batch_size=4, length_weight=True, length_weight_tokens=3)
    nudge(made)
    records = made.order.batch(0)
    prompts, responses = made.collect(records)
    made.critic = FakeCritic(fails=lambda record: record.id == records[1].id)
    judged = made.critique(records, responses)
    assert [one.scores is None for one in judged] == [False, True, False, False]
    rows = [0, 2, 3]
    kept = [[list_[row] for row in rows] for list_ in (prompts, responses, judged)]
    results = []
    for p, r, j in ((prompts, responses, judged), kept):
        made.return_scale.__init__()
        batches = made._micro_batches(p, r)
        credit, *_ = made.credit(j, made._token_stats(batches, r))
        results.append((credit, gradients_of(made, batches, credit), made.return_scale.scale))
    (credit, (gradients, figures), scale), (without, (expected, expected_figures), own) = results
    assert scale == own
    assert figures == pytest.approx(expected_figures, rel=1e-4, abs=1e-6)
    width = without.mask.shape[1]
    for name in ("advantages", "returns", "mask"):
        found = getattr(credit, name)
        torch.testing.assert_close(found[rows][:, :width], getattr(without, name))
        assert not found[1].any() or name == "returns"
    assert any(value.abs().max() > 1e-3 for value in gradients.values())
    for name, value in gradients.items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-4)


def test_statistics_leave_unparseable_critiques_out(make):
    made = make(batch_size=4, steps=1)
    made.critic = FakeCritic(fails=lambda record: record.id == made.order.batch(0)[2].id)
    made.train()
    (row,) = rows_of(made.output_dir)
    samples = rows_of(made.output_dir, "samples.jsonl")
    parsed = [sample for sample in samples if not sample["unparseable"]]
    assert len(parsed) == row["judged"] == 3
    assert row["parse_rate"] == 0.75
    assert row["unparseable"] == {"not JSON": 1}
    assert row["score"] == pytest.approx(sum(sample["score"] for sample in parsed) / 3)
    failed = samples[2]
    assert failed["unparseable"] == "not JSON"
    for name in ("score", "scores", "rewards", "advantages"):
        assert failed[name] is None, name


def test_a_run_without_readable_critiques_stops_and_changes_nothing(make):
    made = make(FakeCritic(fails=lambda record: True), steps=5, max_bad_steps=3)
    before = trained_weights(made)
    message = (
        r"more than --max_unparseable_share 0.5 of the critiques could not be parsed for 3 steps"
        r" in a row; .*metrics.jsonl"
    )
    with pytest.raises(UserError, match=message):
        made.train()
    after = trained_weights(made)
    assert all(torch.equal(before[name], after[name]) for name in before)
    rows = rows_of(made.output_dir)
    assert [row["updates"] for row in rows] == [0, 0, 0]
    assert [row["kl_coef"] for row in rows] == [0.2] * 3
    assert (made.output_dir / "epoch_1_step_3").exists()


def test_good_steps_between_bad_ones_start_the_count_anew(make):
    made = make(steps=5, max_bad_steps=2)
    made.critic = FakeCritic(fails=lambda record: made.step_number % 2 == 0)
    made.train()
    assert [row["parse_rate"] for row in rows_of(made.output_dir)] == [0, 1, 0, 1, 0]


# -- credit


def judgement(made, scores):
    record = made.order.batch(0)[0]
    return Judged(record, [b"x"] * len(scores), Feedback("", ()), (), scores)


def test_span_and_scalar_credit_pay_the_same_sums(make):
    made = make(gamma=1.0, lam=1.0, whiten="none", init_kl_coef=0.0, adap_kl_ctrl=False)
    judged = [judgement(made, [0.0, 1.0, 1.0, -1.0]), judgement(made, [-1.0, 0.0])]
    zeros = torch.zeros(2, 4)
    stats = TokenStats(zeros, zeros, zeros, zeros + 0.3, zeros)
    found = {}
    for kind in ("span", "scalar"):
        made.args = replace(made.args, credit_assignment=kind)
        found[kind] = made.credit(judged, stats)
    span, scalar = found["span"], found["scalar"]
    assert span[1].tolist() == [[0, 1, 1, -1], [-1, 0, 0, 0]]
    assert scalar[1].tolist() == [[0, 0, 0, 1], [0, -1, 0, 0]]
    # without discount and values: the suffix sums against the total
    assert span[0].advantages.tolist() == [[1, 1, 0, -1], [-1, 0, 0, 0]]
    assert scalar[0].advantages.tolist() == [[1, 1, 1, 1], [-1, -1, 0, 0]]


def test_the_length_weight_fades_good_scores_beyond_48_tokens_and_no_others(make):
    """1 / (1 + e^(n - 54)) of a good score on the n-th sampled token, its exponent at most 6."""
    made = make(length_weight=True, init_kl_coef=0.0, adap_kl_ctrl=False, whiten="none")
    scores = [0.0] * 70
    good, poor = (48, 52, 54, 56, 60, 70), (50, 58)
    for place in good:
        scores[place - 1] = 1.0
    for place in poor:
        scores[place - 1] = -1.0
    zeros = torch.zeros(1, 70)
    judged = [judgement(made, scores)]
    _, rewards, _ = made.credit(judged, TokenStats(zeros, zeros, zeros, zeros, zeros))
    found = rewards[0, [place - 1 for place in good]]
    wanted = torch.tensor([0.9975274, 0.8807971, 0.5, 0.1192029, 0.0024726, 0.0024726])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert rewards[0, [place - 1 for place in poor]].tolist() == [-1, -1]
    assert rewards[0].count_nonzero() == len(good) + len(poor)
    made.args = replace(made.args, length_weight=False)
    _, plain, _ = made.credit(judged, TokenStats(zeros, zeros, zeros, zeros, zeros))
    assert plain[0].tolist() == scores


def test_rewards_are_scores_minus_the_penalty_and_values_have_their_unit(make):
    made = make(whiten="none", init_kl_coef=0.5, lam=0.9, gamma=1.0)
    judged = [judgement(made, [0.0, 2.0])]
    kl, values = torch.tensor([[0.2, 0.4]]), torch.tensor([[0.5, -1.0]])
    stats = TokenStats(*torch.zeros(3, 1, 2), kl, values)
    credit, rewards, _ = made.credit(judged, stats)
    torch.testing.assert_close(rewards, torch.tensor([[-0.1, 1.8]]))
    # returns to go are 1.7 and 1.8: the scale is their root mean square
    scale = ((1.7**2 + 1.8**2) / 2) ** 0.5
    assert made.return_scale.scale == pytest.approx(scale)
    advantages, returns = gae(rewards, values * scale, credit.mask, 1.0, 0.9)
    torch.testing.assert_close(credit.advantages, advantages)
    torch.testing.assert_close(credit.returns, returns / scale)
    torch.testing.assert_close(credit.old_values, values)
