"""GRPO, DPO and reflection on tiny models."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from policy_runs import POSTS, FakeCritic, rows_of, save_tiny, write_posts
from policy_runs import config as policy_config
from tiny import byte_level_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from text2grad import generate, grpo
from text2grad.annotators.scalar_model import ScalarModelAnnotator
from text2grad.chat import PromptRenderer
from text2grad.config import DPOConfig, GRPOConfig, ReflectConfig, ScalarRewardConfig
from text2grad.dpo import train_dpo
from text2grad.grpo import CritiqueReward, Rollouts, train_grpo
from text2grad.pairs import make_pairs
from text2grad.paper.training import read_training
from text2grad.reflect import reflect_file
from text2grad.rollout import Sampling
from text2grad.run_folder import MetricsFile
from text2grad.scalar_reward import train_scalar_reward
from text2grad.schema import Grade, Record, UserError
from text2grad.scoring import judge
from text2grad.tasks import get_task
from text2grad.trainer import train_policy
from text2grad.turns import TurnRenderer

TASK = get_task("slf5k")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


def load(model, adapter=None):
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    return PeftModel.from_pretrained(plain, adapter).eval() if adapter else plain


# -- GRPO


@pytest.fixture
def grpo_flags(model, tmp_path, monkeypatch):
    critic = FakeCritic()
    monkeypatch.setattr(grpo, "build_critic", lambda *_: critic)
    fixed = {
        "base_model_name": model,
        "data_path": write_posts(tmp_path / "posts.json"),
        "output_dir": str(tmp_path / "grpo"),
        "feedback_source": "reference",
        "dtype": "fp32",
        "lora_target_modules": ("all-linear",),
        "learning_rate": 2e-2,
        "lr_scheduler_type": "constant",
        "warmup_ratio": 0.0,
        "output_max_length": 8,
        "prompt_max_length": 128,
        "batch_size": 8,
        "num_generations": 4,
        "num_iterations": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 4,
        "save_steps": 2,
        "beta": 0.0,
    }
    return lambda **changes: GRPOConfig(**fixed | changes)


def test_the_reward_is_the_sum_of_the_scores_of_the_critique(tmp_path):
    """An e is good, an o poor: "there" earns +2, "too" -2; an unreadable critique is no reward."""
    tokenizer = byte_level_tokenizer()
    records = [Record(id=f"p{place}", prompt=post) for place, post in enumerate(POSTS[:2])]
    critic = FakeCritic(fails=lambda record: record.response == "bad")
    samples = MetricsFile(tmp_path / "samples.jsonl")
    reward = CritiqueReward(records, critic, tokenizer, TASK, samples)
    # one token for each character, so that each quote is a token
    texts = ("there", "too", "bad", "")
    ids = [
        [tokenizer.convert_tokens_to_ids(char) for char in text] + [tokenizer.eos_token_id]
        for text in texts
    ]
    assert reward(["0", "1", "0", "1"], ids) == [2.0, -2.0, None, 0.0]
    rows = rows_of(tmp_path, "samples.jsonl")
    assert [row["id"] for row in rows] == ["p0", "p1", "p0", "p1"]
    assert [row["score"] for row in rows] == [2.0, -2.0, None, 0.0]
    assert rows[2]["unparseable"] == "not JSON"


def test_what_is_sampled_is_what_ppo_would_sample(model):
    """The same prompts and the same ids as the policy's own sampling, up to the end token."""
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    records = [Record(id=f"p{place}", prompt=post) for place, post in enumerate(POSTS[:3])]
    renderer = TurnRenderer(tokenizer, TASK.prompt_template("policy"), 128)
    how = Sampling(8, 1.0, (tokenizer.eos_token_id,), tokenizer.pad_token_id)
    policy = load(model).train()
    fake = SimpleNamespace(model=policy, accelerator=SimpleNamespace(unwrap_model=lambda x: x))
    torch.manual_seed(1)
    out = Rollouts(records, renderer, how)(["2", "0", "0"], fake)
    assert policy.training
    asked = [renderer.render_record(records[place]).ids for place in (2, 0, 0)]
    assert out["prompt_ids"] == asked
    torch.manual_seed(1)
    assert out["completion_ids"] == grpo.sample_responses(policy.eval(), asked, how)
    assert all(len(ids) <= 8 for ids in out["completion_ids"])


def test_grpo_trains_logs_and_goes_on(grpo_flags, model, tmp_path):
    folder = tmp_path / "grpo"
    train_grpo(grpo_flags())
    first = rows_of(folder)
    assert [row["step"] for row in first] == [1, 2, 3, 4]
    with pytest.raises(UserError, match="holds the checkpoints of another run; go on with it"):
        train_grpo(grpo_flags())
    with pytest.raises(UserError, match=r"--beta 0\.5: .* was written with 0\.0"):
        train_grpo(grpo_flags(beta=0.5, resume_from_checkpoint="auto"))
    train_grpo(grpo_flags(max_steps=8, resume_from_checkpoint="auto"))
    assert [row["step"] for row in rows_of(folder)] == [1, 2, 3, 4, 5, 6, 7, 8]
    samples = rows_of(folder, "samples.jsonl")
    # two passes in two mini-batches over each batch of eight: four updates
    assert [row["step"] for row in samples] == [1] * 8 + [5] * 8
    scores = [row["score"] for row in samples[:8]]
    assert first[0]["reward"] == pytest.approx(sum(scores) / 8)
    assert json.loads((folder / "config.json").read_text())["flags"]["num_generations"] == 4
    batches, _, scored = read_training(folder, "--runs_dir")  # as the paper's tables do
    means = [sum(row["score"] for row in samples[at : at + 8]) / 8 for at in (0, 8)]
    assert (batches, scored.samples) == (2, (8, 16))
    assert scored.score == pytest.approx(means)
    final = folder / "final"
    assert not (final / "ref").exists()
    ids = torch.arange(3, 20)[None]
    with torch.no_grad():
        moved = load(model, final)(ids).logits - load(model)(ids).logits
    assert moved.abs().max() > 1e-3


def test_a_response_without_a_readable_critique_moves_nothing(grpo_flags, tmp_path, monkeypatch):
    unreadable = FakeCritic(fails=lambda record: True)
    monkeypatch.setattr(grpo, "build_critic", lambda *_: unreadable)
    train_grpo(grpo_flags())
    final = json.loads((tmp_path / "grpo" / "final" / "adapter_config.json").read_text())
    assert final["r"] == 16
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "grpo" / "final" / "adapter_model.safetensors")
    assert all(not tensor.any() for name, tensor in weights.items() if "lora_B" in name)
    assert rows_of(tmp_path / "grpo")[0]["reward"] is None


def test_flags_of_grpo_that_do_not_fit_are_named(grpo_flags):
    with pytest.raises(UserError, match="--batch_size 8 is not a multiple of --num_generations 3"):
        grpo_flags(num_generations=3)
    with pytest.raises(UserError, match=r"--deepspeed x\.json: GRPO and DPO run in one process"):
        grpo_flags(deepspeed="x.json")


# -- DPO


def pair_rows():
    good, bad = "It is good.", "The dog ran."
    rows = [
        {"id": f"r{place}", "prompt": post, "response": bad, "reference": good}
        for place, post in enumerate(POSTS[:4])
    ]
    return [*rows, {"id": "same", "prompt": "x", "response": good, "reference": good}]


def dpo_flags(model, tmp_path, rows, **changes):
    data = tmp_path / "pairs.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    fixed = {
        "base_model_name": model,
        "data_path": str(data),
        "output_dir": str(tmp_path / "dpo"),
        "dtype": "fp32",
        "lora_target_modules": ("all-linear",),
        "learning_rate": 2e-2,
        "per_device_train_batch_size": 4,
        "max_steps": 6,
        "answer_max_length": 40,
        "prompt_max_length": 128,
    }
    return DPOConfig(**fixed | changes)


def logp(model, prompt, target):
    ids = torch.tensor([prompt + target])
    with torch.no_grad():
        scores = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return scores.gather(1, torch.tensor(target)[:, None]).sum().item()


def test_dpo_prefers_the_chosen_answers(model, tmp_path):
    train_dpo(dpo_flags(model, tmp_path, pair_rows()))
    tokenizer = AutoTokenizer.from_pretrained(model)
    template = get_task("ultrafeedback").prompt_template("policy")
    prompt = list(PromptRenderer(tokenizer, template, 128).render(prompt=POSTS[0]).ids)
    chosen, rejected = (
        [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        for text in ("It is good.", "The dog ran.")
    )

    def margin(policy):
        return logp(policy, prompt, chosen) - logp(policy, prompt, rejected)

    final = tmp_path / "dpo" / "final"
    assert margin(load(model, final)) > margin(load(model)) + 2
    assert not (final / "ref").exists()
    rows = rows_of(tmp_path / "dpo")
    assert len(rows) == 6
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # both models are still one
    assert json.loads((tmp_path / "dpo" / "config.json").read_text())["pairs"] == 4


def test_pairs_are_ids_of_the_same_prompt_with_an_end(model, tmp_path, capsys):
    tokenizer = AutoTokenizer.from_pretrained(model)
    renderer = TurnRenderer(tokenizer, get_task("ultrafeedback").prompt_template("policy"), 128)
    long = Record(id="long", prompt="x", response="no", reference="word " * 40)
    short = Record(id="short", prompt="A cat.", response="A <|im_end|> b.", reference=" yes ")
    (pair,) = make_pairs([long, short], renderer, 20, tmp_path / "left_out.json")
    assert pair.prompt_ids == renderer.render_record(short).ids
    assert pair.chosen_ids == [*tokenizer("yes")["input_ids"], tokenizer.eos_token_id]
    assert pair.rejected_ids.count(tokenizer.eos_token_id) == 1  # a text cannot end the answer
    assert "long" in json.loads((tmp_path / "left_out.json").read_text())
    assert "1 of 2 pairs left out" in capsys.readouterr().out
    with pytest.raises(UserError, match="--answer_max_length 20: no pair fits"):
        make_pairs([long], renderer, 20, tmp_path / "left_out.json")


def test_without_pairs_dpo_says_how_to_get_some(model, tmp_path):
    flags = dpo_flags(model, tmp_path, pair_rows()[-1:])
    with pytest.raises(UserError, match=r"no pairs; prepare_data.py --candidates all"):
        train_dpo(flags)


# -- a learned scalar


@pytest.fixture(scope="module")
def scalar_model(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scalar")
    given = dpo_flags(model, folder, pair_rows())
    names = [
        "task",
        "base_model_name",
        "data_path",
        "dtype",
        "lora_target_modules",
        "per_device_train_batch_size",
        "answer_max_length",
        "prompt_max_length",
        "max_steps",
    ]
    fixed = {name: getattr(given, name) for name in names}
    train_scalar_reward(
        ScalarRewardConfig(**fixed, output_dir=str(folder / "run"), learning_rate=1e-2)
    )
    return folder / "run"


def test_a_learned_scalar_prefers_the_chosen_answers(scalar_model):
    """On the answers it was trained on its grades have mean 0 and deviation 1."""
    assert len(rows_of(scalar_model)) == 6
    facts = json.loads((scalar_model / "final" / "scalar_reward.json").read_text())
    assert facts["accuracy"] == 1.0
    task = get_task("ultrafeedback")
    critic = ScalarModelAnnotator(
        str(scalar_model / "final"), task, dtype="fp32", prompt_max_tokens=128, batch_size=3
    )
    texts = {"good": "It is good.", "bad": "The dog ran."}
    records = {
        name: [Record(id="x", prompt=post, response=text) for post in POSTS[:4]]
        for name, text in texts.items()
    }
    good, bad = ([one.grade for one in critic.annotate(own)] for own in records.values())
    assert min(good) > max(bad)
    assert sum(good + bad) == pytest.approx(0, abs=1e-3)
    assert sum(grade**2 for grade in good + bad) / 8 == pytest.approx(1, abs=1e-3)


def test_a_grade_is_paid_on_the_last_token():
    record = Record(id="x", prompt="p", response="ab")
    one = judge(record, [b"a", b"b", b""], Grade("+1.50", grade=1.5), TASK)
    assert one.scores == [0.0, 0.0, 1.5]
    assert one.spans == ()


def test_ppo_runs_on_a_learned_scalar(model, scalar_model, tmp_path):
    data = write_posts(tmp_path / "posts.json")
    flags = {"feedback_source": "scalar_model", "reward_model_name": str(scalar_model / "final")}
    watches = {"min_coverage": 0.0, "max_sign_share": 1.0}
    train_policy(policy_config(model, data, tmp_path / "run", **flags, **watches, steps=1))
    samples = rows_of(tmp_path / "run", "samples.jsonl")
    assert all(row["scores"][:-1] == [0.0] * (len(row["scores"]) - 1) for row in samples)
    assert {row["critique"] for row in samples} == {f"{row['score']:+.2f}" for row in samples}
    facts = json.loads((tmp_path / "run" / "config.json").read_text())
    assert facts["reward_model"].endswith("final, a learned scalar")
    with pytest.raises(UserError, match=r"no scalar_reward.json in it; name what paper/train_scal"):
        ScalarModelAnnotator(model, TASK)


# -- reflection


def test_the_revision_sees_answer_and_critique(model, tmp_path, monkeypatch):
    """What the model writes is scripted: first critiques, then revisions."""
    answers = tmp_path / "first.json"
    rows = [
        {
            "id": f"s{place}",
            "query": post,
            "response": f"First {place}.",
            "ideal_human_summary": "R",
        }
        for place, post in enumerate(POSTS[:3])
    ]
    answers.write_text(json.dumps(rows), encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(model)
    calls = []

    def scripted(_, prompts, sampling):
        texts = [tokenizer.decode(ids) for ids in prompts]
        calls.append((texts, sampling))
        said = "Revised" if any("Critique: " in text for text in texts) else "Too long"
        number = [text.partition("First ")[2][:1] for text in texts]
        return [tokenizer(f"{said} {one}")["input_ids"] for one in number]

    monkeypatch.setattr(generate, "sample_responses", scripted)
    out = tmp_path / "answers.json"
    flags = {"model_path": model, "input_file": str(answers), "output_file": str(out)}
    lengths = {"prompt_max_length": 600, "critique_max_new_tokens": 7, "max_new_tokens": 5}
    reflect_file(ReflectConfig(**flags, **lengths, batch_size=2, dtype="fp32"))
    written = json.loads(out.read_text())
    assert [row["response"] for row in written] == ["Revised 0", "Revised 1", "Revised 2"]
    assert [row["first_response"] for row in written] == ["First 0.", "First 1.", "First 2."]
    assert [row["self_critique"] for row in written] == ["Too long 0", "Too long 1", "Too long 2"]
    assert written[0]["ideal_human_summary"] == "R"
    assert [sampling.max_new_tokens for _, sampling in calls] == [7, 7, 5, 5]
    revising = [text for texts, _ in calls[2:] for text in texts]
    for place, post in enumerate(POSTS[:3]):
        (asked,) = (text for text in revising if f"First {place}." in text)
        assert f"Critique: Too long {place}" in asked
        assert post in asked


def test_reflection_writes_with_a_real_model(model, tmp_path):
    answers = tmp_path / "first.json"
    answers.write_text(json.dumps([{"id": "a", "query": POSTS[0], "response": "x"}]))
    out = tmp_path / "answers.json"
    flags = {"model_path": model, "input_file": str(answers), "output_file": str(out)}
    lengths = {"prompt_max_length": 600, "critique_max_new_tokens": 6, "max_new_tokens": 6}
    reflect_file(ReflectConfig(**flags, **lengths, temperature=0.0, dtype="fp32"))
    first = out.read_text()
    reflect_file(ReflectConfig(**flags, **lengths, temperature=0.0, dtype="fp32"))
    assert out.read_text() == first
    assert json.loads(first)[0]["id"] == "a"


@pytest.mark.parametrize("task", ["slf5k", "kodcode", "ultrafeedback"])
def test_every_task_can_reflect(task):
    spec = get_task(task)
    assert spec.prompt_template("self_critique").slots == {"prompt", "response"}
    assert spec.prompt_template("revision").slots == {"prompt", "response", "critique"}
