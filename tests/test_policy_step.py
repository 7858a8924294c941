"""The optimisation step: what it learns is the same however the work is cut."""

import copy
import random
from itertools import chain

import pytest
import torch
from naive_ppo import NaiveStep
from policy_runs import nudge, scored, trained_weights

from text2grad.run_folder import MetricsFile

# every prompt and response of a batch has another length
BUDGETS = (1, 150, 250, 10_000)


def fixed(made, lengths=(5, 11, 8, 12)):
    """Responses of given lengths, whatever the policy would say."""
    draw = random.Random(3)

    def collect(records):
        prompts = [made.renderer.render_record(record).ids for record in records]
        return prompts, [[draw.randrange(3, 500) for _ in range(n)] for n in lengths]

    made.collect = collect
    return made


def one_step(made, records):
    """A step as `train` makes it."""
    for name in ("metrics", "samples"):
        setattr(made, name, MetricsFile(made.output_dir / f"{name}.jsonl", 0))
    return made.step(records)


def gradients(made):
    nudge(fixed(made))
    batches, judged, stats = scored(made)
    credit, *_ = made.credit(judged, stats)
    credit.old_logp.add_(0.05)  # ratios off 1, some of them clipped
    made.updater._accumulate(batches, credit, 1)
    found = {n: p.grad.clone() for n, p in made.policy.named_parameters() if p.requires_grad}
    return [batch.rows.tolist() for batch in batches], found


def test_gradients_do_not_depend_on_the_token_budget(make):
    flags = {"batch_size": 4, "mini_batch_size": 4, "logp_chunk_tokens": 7}
    (rows,), whole = gradients(make(folder="whole", **flags))
    assert sorted(rows) == [0, 1, 2, 3]
    assert max(value.abs().max() for value in whole.values()) > 1e-2
    cuts = set()
    for budget in BUDGETS:
        made = make(folder=f"run{budget}", max_tokens_per_microbatch=budget, **flags)
        rows, found = gradients(made)
        cuts.add(len(rows))
        assert sorted(chain(*rows)) == [0, 1, 2, 3]
        for name, value in whole.items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    assert len(cuts) >= 3, cuts
    assert {1, 4} <= cuts


def test_updates_have_as_many_responses_as_the_flags_say(make, monkeypatch):
    made = fixed(
        make(
            mini_batch_size=1,
            gradient_accumulation_steps=2,
            ppo_epochs=3,
            max_tokens_per_microbatch=150,
        )
    )
    seen = []

    def accumulate(group, credit, step):
        seen.append(sorted(row for batch in group for row in batch.rows.tolist()))
        return {"ratio": 1.0, "approx_kl": 0.0}

    monkeypatch.setattr(made.updater, "_accumulate", accumulate)
    monkeypatch.setattr(made.weights, "apply", lambda: 0.0)
    batches, judged, stats = scored(made)
    credit, *_ = made.credit(judged, stats)
    made.updater.run(batches, credit, 1)
    assert [len(rows) for rows in seen] == [2] * 6
    epochs = [seen[at : at + 2] for at in (0, 2, 4)]
    assert [sorted(chain(*epoch)) for epoch in epochs] == [[0, 1, 2, 3]] * 3
    assert len({str(sorted(epoch)) for epoch in epochs}) == 1, "they are fixed"


def test_a_run_with_a_budget_learns_what_one_without_learns(make):
    results = []
    for folder, flags in (("whole", {}), ("budget", {"max_tokens_per_microbatch": 150})):
        made = fixed(make(folder=folder, mini_batch_size=2, ppo_epochs=3, **flags))
        nudge(made)
        row = one_step(made, made.order.batch(0))
        results.append((trained_weights(made), row))
    (weights, row), (others, other) = results
    assert row["updates"] == other["updates"] == 6
    assert row["first_ratio"] == other["first_ratio"] == 1.0
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], atol=1e-5, rtol=0)


def test_gradients_are_the_same_with_recomputed_blocks(make):
    flags = {"mini_batch_size": 4}
    _, kept = gradients(make(folder="kept", **flags))
    made = make(folder="recomputed", gradient_checkpointing=True, **flags)
    calls = []
    block = made.policy.lm.get_base_model().model.layers[0].mlp
    block.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    _, found = gradients(made)
    # scored with and without the adapter, then forward and again in backward
    assert calls == [False, False, True, True]
    for name, value in kept.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-6)


def test_logits_are_of_sampled_tokens_alone_and_models_run_once_a_pass(make):
    made = fixed(make(mini_batch_size=4, ppo_epochs=1, logp_chunk_tokens=7))
    lm = made.policy.lm.get_base_model()
    seen = {"head": 0, "blocks": 0}

    def count(name, rows):
        def note(_, inputs):
            seen[name] += rows(inputs[0])

        return note

    lm.get_output_embeddings().register_forward_pre_hook(
        count("head", lambda hidden: hidden.shape[:-1].numel())
    )
    lm.model.layers[0].mlp.register_forward_pre_hook(count("blocks", lambda hidden: 1))
    batches, judged, stats = scored(made)
    sampled = 5 + 11 + 8 + 12
    assert seen == {"head": 2 * sampled, "blocks": 2}, "with the adapter and without it"
    credit, *_ = made.credit(judged, stats)
    made.updater.run(batches, credit, 1)
    assert seen == {"head": 3 * sampled, "blocks": 3}


def test_half_precision_keeps_head_and_losses_in_fp32(make):
    _, exact = gradients(make(folder="fp32", dtype="fp32", mini_batch_size=4))
    made = make(folder="bf16", dtype="bf16", mini_batch_size=4)
    kinds = {str(p.dtype) for p in made.policy.lm.get_base_model().model.layers.parameters()}
    assert kinds == {"torch.bfloat16", "torch.float32"}  # the frozen weights, and the adapter
    assert made.policy.value_head.linear.weight.dtype == torch.float32
    *_, stats = scored(fixed(made))
    assert {getattr(stats, n).dtype for n in stats.__dataclass_fields__} == {torch.float32}
    _, found = gradients(made)
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        cosine = torch.cosine_similarity(found[name].flatten(), value.flatten(), dim=0)
        assert cosine > 0.99, name


@pytest.mark.parametrize("budget", [0, 150])
def test_a_step_is_what_plain_loops_give(make, budget):
    """Four epochs of two updates: clipped ratios, values and gradients, whitening, AdamW."""
    made = make(
        mini_batch_size=2,
        ppo_epochs=4,
        learning_rate=2e-3,
        value_learning_rate=4e-3,
        temperature=0.8,
        max_grad_norm=0.5,
        logp_chunk_tokens=5,
        max_tokens_per_microbatch=budget,
    )
    nudge(fixed(made))
    naive = NaiveStep(copy.deepcopy(made.policy), made.args, made.kl.coef)
    records = made.order.batch(0)
    prompts, responses = made.collect(records)
    made.collect = lambda records: (prompts, responses)
    scores = [one.scores for one in made.critique(records, responses)]
    assert {-1.0, 0.0, 1.0} <= {score for row in scores for score in row}
    updates, accumulate = [], made.updater._accumulate

    def noting(group, credit, step):
        updates.append([row for batch in group for row in batch.rows.tolist()])
        return accumulate(group, credit, step)

    made.updater._accumulate = noting
    before = trained_weights(made)
    row = one_step(made, records)
    naive.run(prompts, responses, scores, updates)
    assert row["updates"] == 8
    assert row["clip_fraction"] > 0.05
    assert row["value_clip_fraction"] > 0.05
    assert row["gradient_norm"] > made.args.max_grad_norm
    expected = {n: p.detach() for n, p in naive.policy.named_parameters() if p.requires_grad}
    for name, value in trained_weights(made).items():
        assert (value - before[name]).abs().max() > 1e-3, name
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=0)
