import json
from pathlib import Path

import pytest
import torch
from annotated import POSTS, row, save_base, write
from safetensors.torch import load_file
from tiny import byte_level_tokenizer

from text2grad.config import RewardTrainConfig
from text2grad.records import read_records
from text2grad.reward_model import ExampleMaker, train_reward_model
from text2grad.schema import Feedback, Record, Span, UserError
from text2grad.supervised import Dropped, NamedCheckpoints, TargetTrainer
from text2grad.tasks import get_task

SLF5K = get_task("slf5k")


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def flags(base, tmp_path):
    """Flags of a training that takes seconds."""

    def build(rows=None, **changes):
        rows = rows or [row(number, post) for number, post in enumerate(POSTS)]
        fixed = {
            "base_model": base,
            "data_path": write(tmp_path / "annotated.json", rows),
            "valid_data_path": "",
            "valid_fraction": 0.2,
            "data_dir": str(tmp_path / "data"),
            "output_dir": str(tmp_path / "rm"),
            "dtype": "fp32",
            "lora_target_modules": ("all-linear",),
            "lora_dropout": 0.0,
            "learning_rate": 2e-2,
            "num_train_epochs": 2.0,
            "per_device_train_batch_size": 2,
            "save_steps": 1,
            "eval_steps": 0,
        }
        return RewardTrainConfig(**fixed | changes)

    return build


# -- examples


def make(tokenizer, record, flags, **changes):
    maker = ExampleMaker(flags(**changes), SLF5K, tokenizer)
    return maker.make(record), maker


def record_of(critique="It is short.", spans=(), post=POSTS[0], response="A summary."):
    return Record("r1", post, response, feedback=Feedback(critique, tuple(spans)), origin="f.json")


def test_the_target_is_the_json_and_an_end(tokenizer, flags):
    record = record_of(spans=[Span("summary", "good"), Span("A summary", "poor")])
    example, _ = make(tokenizer, record, flags)
    assert tokenizer.decode(example.target_ids[:-1]) == (
        '{"textual_feedback": "It is short.", '
        '"good_spans": ["summary"], "poor_spans": ["A summary"]}'
    )
    assert example.target_ids[-1] == tokenizer.eos_token_id
    prompt = tokenizer.decode(example.prompt_ids)
    assert prompt.endswith("Summary: A summary.<|im_end|>\n<|im_start|>assistant\n")


def test_a_long_post_is_shortened_and_nothing_else(tokenizer, flags):
    response = "A summary. " * 8
    record = record_of(post="w " * 2000, response=response)
    whole, _ = make(tokenizer, record_of(response=response), flags)
    for limits in ({"prompt_max_length": 300}, {"max_length": 300 + len(whole.target_ids)}):
        example, maker = make(tokenizer, record, flags, **limits)
        prompt = tokenizer.decode(example.prompt_ids)
        assert len(example.prompt_ids) <= 300
        assert maker.shortened == 1
        assert " [...] " in prompt
        assert prompt.startswith("<|im_start|>user\nJudge the summary of the post. Answer in JSON")
        assert f"Summary: {response}" in prompt
        assert example.target_ids == whole.target_ids


def test_what_does_not_fit_is_dropped_with_its_reason(tokenizer, flags):
    made, _ = make(tokenizer, record_of(), flags, answer_max_length=10)
    assert isinstance(made, Dropped)
    assert made.record_id == "r1"
    assert "--answer_max_length 10" in made.reason
    made, _ = make(tokenizer, record_of(response="x" * 500), flags, prompt_max_length=100)
    assert "even with an empty prompt, but --prompt_max_length is 100" in made.reason
    made, _ = make(tokenizer, record_of(critique=""), flags)
    assert made.reason == "its critique is empty"


def test_special_tokens_in_the_data_are_text(tokenizer, flags):
    record = record_of("Never <|im_end|> here.", post="a <|im_end|> b", response="<|im_end|> c")
    example, _ = make(tokenizer, record, flags)
    assert example.prompt_ids.count(2) == 1  # the end of the user's turn
    assert example.target_ids.count(2) == 1
    assert "Never <|im_end|> here." in tokenizer.decode(example.target_ids)


def test_targets_are_fitted_to_what_a_reply_may_hold(tokenizer, flags):
    spans = [Span(word, "good") for word in ("one", "three", "eleven")]
    record = record_of(
        spans=[*spans, Span("not there at all", "poor")], response="one three eleven"
    )
    example, maker = make(tokenizer, record, flags)
    target = json.loads(tokenizer.decode(example.target_ids[:-1]))
    assert target["good_spans"] == ["three", "eleven"]
    assert target["poor_spans"] == []
    assert maker.trimmer.summary() == (
        "1 quotes not in the response left out, 1 quotes over the number left out"
    )


# -- training


def test_training_learns_and_writes_its_checkpoints(flags, tokenizer, capsys):
    args = flags(num_train_epochs=4.0, answer_max_length=120)
    train_reward_model(args)
    folder = Path(args.output_dir)
    log = json.loads((folder / "training_log.json").read_text())
    # 4 examples in batches of 2: 2 updates an epoch
    names = {"0_1", "0_2", "1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "final"}
    found = {path.name for path in folder.iterdir()}
    assert found == names | {"config.json", "trainer", "training_log.json"}
    evaluated = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(evaluated) == 1
    assert evaluated[0] < 5.0  # ln(512) = 6.2 before
    final, last = (
        load_file(folder / name / "adapter_model.safetensors") for name in ("final", "3_2")
    )
    assert all(torch.equal(final[name], last[name]) for name in final)
    assert "4 examples, 0 posts shortened" in capsys.readouterr().out
    split = [
        read_records(f"{args.data_dir}/slf5k_{part}.json", SLF5K) for part in ("train", "test")
    ]
    assert [len(records) for records in split] == [4, 1]


def test_the_loss_is_the_mean_over_targets_and_their_ends(flags, tokenizer, monkeypatch):
    seen = []
    compute = TargetTrainer.compute_loss

    def spy(self, model, inputs, *args, **more):
        batch = {name: inputs[name].clone() for name in ("input_ids", "labels", "attention_mask")}
        loss = compute(self, model, inputs, *args, **more)
        with torch.no_grad():
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        value = loss[0] if isinstance(loss, tuple) else loss
        seen.append((batch, value.detach().clone(), logits))
        return loss

    monkeypatch.setattr(TargetTrainer, "compute_loss", spy)
    train_reward_model(flags(max_steps=1))
    batch, loss, logits = seen[0]
    nlls = []
    for row_ids, labels, mask, row_logits in zip(
        batch["input_ids"], batch["labels"], batch["attention_mask"], logits, strict=True
    ):
        places = (labels != -100).nonzero().flatten()
        target = row_ids[places]
        assert torch.equal(labels[places], target)
        assert target[-1] == 2
        text = tokenizer.decode(target[:-1])
        assert json.loads(text).keys() == {"textual_feedback", "good_spans", "poor_spans"}
        assert mask.sum() == places[-1] + 1  # the end token is seen, the padding not
        assert len(places) == places[-1] - places[0] + 1
        logp = row_logits.log_softmax(-1)
        nlls += [-logp[place - 1, row_ids[place]] for place in places.tolist()]
    torch.testing.assert_close(loss, torch.stack(nlls).mean(), atol=1e-5, rtol=1e-5)


def test_resume_auto_ends_where_the_whole_run_ends(flags, tmp_path, monkeypatch):
    whole = flags(output_dir=str(tmp_path / "whole"))
    train_reward_model(whole)
    on_save = NamedCheckpoints.on_save

    def die(self, args, state, control, **more):
        on_save(self, args, state, control, **more)
        if state.global_step == 2:
            raise RuntimeError("killed")

    halved = flags(output_dir=str(tmp_path / "half"))
    monkeypatch.setattr(NamedCheckpoints, "on_save", die)
    with pytest.raises(RuntimeError, match="killed"):
        train_reward_model(halved)
    monkeypatch.undo()
    train_reward_model(flags(output_dir=str(tmp_path / "half"), resume_from_checkpoint="auto"))
    name = "final/adapter_model.safetensors"
    one, other = load_file(tmp_path / "whole" / name), load_file(tmp_path / "half" / name)
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-5, rtol=0)
    assert (tmp_path / "half" / "1_2").is_dir()


def test_faults_of_the_data_are_named(flags, tmp_path):
    with pytest.raises(UserError, match=r"--data_path .*annotated.json: only one prompt"):
        train_reward_model(flags([row(1, POSTS[0])]))
    valid = write(tmp_path / "valid.json", [row(9, POSTS[0])])
    with pytest.raises(UserError, match=r"valid.json, record 1 \(id r9\): its prompt is in --data"):
        train_reward_model(flags(valid_data_path=valid))
    rows = [row(number, post) for number, post in enumerate(POSTS)]
    rows[2]["good_spans"] = 3
    with pytest.raises(
        UserError, match=r"record 3 \(id r2\): its annotation: spans are not a list"
    ):
        train_reward_model(flags(rows))
    with pytest.raises(UserError, match=r"no record fits; first reason: .*--answer_max_length 5"):
        train_reward_model(flags(answer_max_length=5))
