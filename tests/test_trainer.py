import pytest
from policy_runs import (
    POSTS,
    comparable,
    config,
    rows_of,
    save_tiny,
    trainer,
    write_posts,
)

from text2grad.schema import UserError

# -- learning


def test_the_policy_learns_what_the_critic_likes(tmp_path):
    """From about 0 to beyond 0.3 a token, without a KL penalty that would hold it back."""
    model = save_tiny(tmp_path / "model", hidden_size=64)
    posts = write_posts(tmp_path / "posts.json")
    args = config(
        model,
        posts,
        tmp_path / "run",
        steps=30,
        train_epochs=30,
        batch_size=8,
        mini_batch_size=8,
        ppo_epochs=4,
        output_max_length=10,
        init_kl_coef=0.0,
    )
    made = trainer(args)
    made.train()
    scores = [row["score_per_token"] for row in rows_of(made.output_dir)]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.3


# -- what is written


def test_rows_of_a_sample_match_its_tokens(make):
    made = make(steps=2)
    made.train()
    samples = rows_of(made.output_dir, "samples.jsonl")
    assert [sample["step"] for sample in samples] == [1] * 4 + [2] * 4
    for sample in samples:
        names = ("scores", "rewards", "kl", "advantages")
        assert {len(sample[name]) for name in names} == {len(sample["tokens"])}
        assert sample["score"] == sum(sample["scores"])
        assert sample["reward_total"] == pytest.approx(sum(sample["rewards"]), abs=1e-3)
        assert sample["prompt"] in POSTS
        for span in sample["spans"]:
            assert sample["response"][span["start"] : span["end"]] == span["text"]
    rows = rows_of(made.output_dir)
    for row in rows:
        own = [sample for sample in samples if sample["step"] == row["step"]]
        assert row["score"] == pytest.approx(sum(sample["score"] for sample in own) / 4)
        assert row["reward"] == pytest.approx(sum(s["reward_total"] for s in own) / 4, abs=1e-3)
        assert row["kl"] == pytest.approx(sum(sum(s["kl"]) for s in own) / 4, abs=1e-3)
        assert row["response_tokens"] == sum(len(sample["tokens"]) for sample in own) / 4
        assert row["rejected_share"] == 0.25  # what the critic says of itself
        for phase in ("rollout", "critique", "score", "update"):
            assert row[f"seconds_{phase}"] >= 0


def test_validation_is_greedy_and_does_not_disturb_the_run(make, policy_files):
    plain = make(folder="plain", steps=2)
    plain.train()
    made = make(
        folder="valid", steps=2, valid_data_file_path=policy_files[1], eval_steps=1, eval_samples=5
    )
    made.train()
    rows = rows_of(made.output_dir)
    assert all(-1 <= row["valid_score"] <= 1 and row["valid_parse_rate"] == 1 for row in rows)
    without = [{k: v for k, v in row.items() if not k.startswith("valid")} for row in rows]
    assert comparable(without) == comparable(rows_of(plain.output_dir))


# -- flags


@pytest.mark.parametrize(
    "flag",
    [
        {"top_p": 0.9},
        {"top_k": 50},
        {"num_beams": 2},
        {"repetition_penalty": 1.1},
        {"min_new_tokens": 5},
    ],
)
def test_sampling_that_is_not_what_is_optimised_is_refused(policy_files, tmp_path, flag):
    (name, value), *_ = flag.items()
    with pytest.raises(UserError, match=f"--{name} {value}: .*--allow_off_policy_sampling true"):
        config(*policy_files, tmp_path, **flag)
    config(*policy_files, tmp_path, allow_off_policy_sampling=True, **flag)


def test_off_policy_sampling_that_is_allowed_takes_effect(make):
    made = make(top_k=1, allow_off_policy_sampling=True)
    records = made.order.batch(0)
    _, sampled = made.collect(records)
    _, again = made.collect(records)
    assert sampled == again


def test_batches_that_do_not_divide_name_the_flags(policy_files, tmp_path):
    message = (
        "--batch_size 4 is not a multiple of --mini_batch_size 3 times "
        "--gradient_accumulation_steps 1"
    )
    with pytest.raises(UserError, match=message):
        config(*policy_files, tmp_path, mini_batch_size=3)


def test_too_few_prompts_name_file_and_flag(make):
    with pytest.raises(UserError, match=r"--data_file_path .*posts.json: 8 different prompts, few"):
        make(batch_size=12)


def test_a_model_that_is_not_there_is_named(policy_files, tmp_path):
    with pytest.raises(UserError, match=r"--base_model_name /nowhere/model: "):
        trainer(config("/nowhere/model", policy_files[1], tmp_path / "run"))
    with pytest.raises(UserError, match=r"--lora_target_modules nothing: "):
        trainer(config(*policy_files, tmp_path / "run", lora_target_modules=("nothing",)))
