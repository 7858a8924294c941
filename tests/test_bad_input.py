"""What a person gets wrong ends in one line on standard error and status 2, and loses nothing.

Through the scripts' own way in (`launch`). The annotator's own cases are in test_annotate.py and
test_openai_server.py, those of prepare_data.py in test_prepare.py.
"""

import contextlib
import errno
import json
import os
import resource
import sys

import pytest
from tiny import byte_level_tokenizer, tiny_llama
from trees import ROOT, load_args

from text2grad import files
from text2grad.config import launch

RM = ROOT / "NL_Reward_Model/SLF5K"
POLICY = ROOT / "NL_Gradient_Policy_Optimization/SLF5K"
GOOD = {
    "id": "a",
    "post": "The dog ran to the park.",
    "generated_summary": "The dog ran.",
    "ideal_human_summary": "A dog ran.",
    "textual_feedback": "It is short.",
    "good_spans": ["The dog ran"],
    "poor_spans": [],
}
OTHER = {**GOOD, "id": "b", "post": "My sister saw a cat."}
ANSWERED = {**GOOD, "query": GOOD["post"], "response": "The dog ran.", "gold": GOOD}

# script, function, the flag of its input, other flags ("" in place of the model's folder)
READERS = {
    "train_rm": (
        RM / "train_rm.py",
        "text2grad.reward_model:train_reward_model",
        "--data_path",
        ["--base_model", "MODEL", "--valid_data_path", "", "--output_dir", "o", "--data_dir", "d"],
    ),
    "2_infer": (
        RM / "Evaluation/2_infer.py",
        "text2grad.reward_model:infer_reward_model",
        "--data_path",
        ["--model_path", "MODEL", "--output_path", "o/o.json"],
    ),
    "train_sft": (
        POLICY / "train_sft.py",
        "text2grad.sft:train_sft",
        "--data_path",
        ["--base_model_name", "MODEL", "--output_dir", "o"],
    ),
    "train_slf5k": (
        POLICY / "train_slf5k.py",
        "text2grad.trainer:train_policy",
        "--data_file_path",
        ["--base_model_name", "MODEL", "--reward_model_name", "MODEL", "--output_dir", "o"],
    ),
    "infer_val": (
        POLICY / "Evaluation/infer_val.py",
        "text2grad.generate:infer_policy",
        "--input_path",
        ["--model_path", "MODEL", "--output_dir", "o"],
    ),
    "3_metrics": (
        RM / "Evaluation/3_metrics.py",
        "text2grad.metrics:evaluate_reward_model",
        "--input_file",
        ["--train_file", "", "--output_file", "o/o.json"],
    ),
    "metrics": (
        POLICY / "Evaluation/metrics.py",
        "text2grad.metrics:evaluate_summaries",
        "--input_file",
        ["--output_file", "o/o.json"],
    ),
    "llm_as_a_judge": (
        POLICY / "Evaluation/llm_as_a_judge.py",
        "text2grad.judge:judge_responses",
        "--input_file",
        ["--compare_file", "data.json", "--output_file", "o/o.json"],
    ),
}
MEASURE_RESPONSES = ("metrics", "3_metrics", "llm_as_a_judge")
FAULTS = {
    "missing file": (None, "no such file"),
    "empty file": ("", "the file is empty"),
    "broken JSON": ('[{"post": "a", ', "is not JSON"),
    "not objects": ("[1, 2]", "record 1 is"),
    "same ids": (json.dumps([ANSWERED, {**ANSWERED, "query": "other"}]), 'same id "a"'),
}
RECORD_FAULTS = {
    "missing key": ({"post": None}, "the prompt is missing or empty"),
    "empty post": ({"post": "  "}, "the prompt is missing or empty"),
    "post is no string": ({"post": 7}, '"post" must be a string'),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = byte_level_tokenizer()
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, model):
    """Run a script with flags; give back the one line it ends with."""

    def run_it(name, path, *more):
        script, target, flag, rest = READERS[name]
        rest = [str(model) if word == "MODEL" else word for word in rest]
        return fails(script, target, [flag, str(path), *rest, *more])

    def fails(script, target, argv):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script.name, *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            launch(load_args(script), target)
        said = capsys.readouterr().err
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        assert stop.value.code == 2, said
        assert len(lines) == 1, said
        assert said.endswith(f"{lines[0]}\n"), "the error is the last line"
        assert "Traceback" not in said
        return lines[0]

    run_it.fails = fails
    return run_it


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([GOOD, OTHER]))
    return path


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", READERS)
def test_unreadable_files_name_flag_and_file(run, tmp_path, name, fault):
    text, reason = FAULTS[fault]
    path = tmp_path / "data.json"
    if text is not None:
        path.write_text(text)
    line = run(name, path)
    assert reason in line
    assert str(path) in line
    assert READERS[name][2] in line


@pytest.mark.parametrize("fault", RECORD_FAULTS)
@pytest.mark.parametrize("name", sorted(set(READERS) - set(MEASURE_RESPONSES)))
def test_unusable_records_name_file_record_and_key(run, data, name, fault):
    change, reason = RECORD_FAULTS[fault]
    data.write_text(json.dumps([GOOD, {**OTHER, **change}]))
    line = run(name, data)
    assert reason in line
    assert f"{data}, record 2 (id b)" in line
    assert "post" in line
    assert READERS[name][2] in line


@pytest.mark.parametrize("name", ["train_rm", "2_infer"])
@pytest.mark.parametrize("response", [None, "", 5, {"text": "x"}])
def test_responses_that_are_no_text(run, data, name, response):
    data.write_text(json.dumps([{**GOOD, "generated_summary": response}]))
    line = run(name, data)
    assert f"{data}, record 1 (id a)" in line
    assert "generated_summary" in line


def test_training_a_reward_model_needs_annotations(run, data):
    bare = {key: GOOD[key] for key in ("id", "post", "generated_summary")}
    data.write_text(json.dumps([bare]))
    assert 'no annotation: expected the key "textual_feedback"' in run("train_rm", data)
    data.write_text(json.dumps([{**bare, "textual_feedback": 5}, OTHER]))
    assert "record 1 (id a)" in run("train_rm", data)


def test_supervised_training_needs_references(run, data):
    data.write_text(json.dumps([{**GOOD, "ideal_human_summary": ""}]))
    assert "the reference is missing or empty" in run("train_sft", data)


def test_too_few_prompts_for_a_batch(run, data):
    assert "fewer than --batch_size 12" in run("train_slf5k", data)


@pytest.mark.parametrize("name", ["train_rm", "2_infer", "train_sft", "train_slf5k", "infer_val"])
def test_no_model_there(run, data, name, tmp_path):
    flag = READERS[name][3][0]
    small = ("--batch_size", "2", "--gradient_accumulation_steps", "2")
    line = run(name, data, flag, "no/such/model", *(small if name == "train_slf5k" else ()))
    assert line.startswith(f"error: {flag} no/such/model: ")


@pytest.fixture
def without_template(tmp_path):
    folder = tmp_path / "base-model"
    tokenizer = byte_level_tokenizer()
    tokenizer.chat_template = None
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["train_rm", "2_infer", "train_sft", "train_slf5k", "infer_val"])
def test_tokenizer_without_chat_template(run, data, name, without_template):
    small = ("--batch_size", "2", "--gradient_accumulation_steps", "2")
    more = small if name == "train_slf5k" else ()
    line = run(name, data, READERS[name][3][0], str(without_template), *more)
    assert "its tokenizer has no chat template" in line
    assert str(without_template) in line


@pytest.mark.parametrize("name", ["2_infer", "train_sft", "infer_val"])
def test_prompt_longer_than_the_limit(run, data, name):
    """A long post is shortened; what cannot be shortened is named with the flag to raise."""
    line = run(name, data, "--prompt_max_length", "33")
    assert "--prompt_max_length is 33; raise it" in line
    assert f"{data}, record 1 (id a)" in line


def test_no_record_fits(run, data):
    line = run("train_rm", data, "--answer_max_length", "3")
    assert "no record fits" in line
    assert "--answer_max_length 3" in line


@pytest.mark.parametrize("name", READERS)
def test_output_that_cannot_be_written(run, data, name, tmp_path):
    """A file where a folder should be: unlike a read-only folder it stops root too."""
    (tmp_path / "o").write_text("a file")
    if name in MEASURE_RESPONSES:
        data.write_text(json.dumps([ANSWERED]))
    line = run(name, data)
    assert "cannot be written" in line
    assert any(flag in line for flag in ("--output_dir o", "--output_path o", "--output_file o"))
    assert (tmp_path / "o").read_text() == "a file"


def test_merging_what_is_no_adapter(run, model):
    target = "text2grad.models:merge_lora"
    line = run.fails(RM / "Evaluation/1_merge_lora.py", target, ["--lora_model", str(model)])
    assert line.startswith(f"error: --lora_model {model}: a whole model, not an adapter")


# -- a full disk


@contextlib.contextmanager
def disk_of(size):
    """Files may not grow beyond `size` bytes: a real failure of a real write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_disk_full_while_rows_are_written(tmp_path):
    path = tmp_path / "out.json"
    files.write_rows(path, [GOOD])
    before = contents(tmp_path)
    with disk_of(100), pytest.raises(files.UserError, match=r"--output_path .*cannot be written"):
        files.write_rows(path, [GOOD, OTHER])
    assert contents(tmp_path) == before, "the old file, and no half of a new one"


def test_disk_full_while_flushing(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    files.write_rows(path, [GOOD])
    before = contents(tmp_path)

    def no_space(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(files.UserError, match="No space left on device"):
        files.write_rows(path, [OTHER])
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_disk_full_anywhere_is_one_line(run, data, monkeypatch, error):
    def fill_the_disk(_):
        raise error

    monkeypatch.setattr("text2grad.reward_model.infer_reward_model", fill_the_disk)
    assert "No space left on device" in run("2_infer", data)


def checkpoint_writer(model):
    from peft import LoraConfig, get_peft_model

    from text2grad.checkpoint import save_policy
    from text2grad.policy import ValueHead

    lm = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    head = ValueHead(32)
    return lambda folder: save_policy(folder, lm, head, byte_level_tokenizer())


@pytest.mark.parametrize("size", [0, 1_000, 9_000, 40_000])
def test_disk_full_while_a_checkpoint_is_written(tmp_path, size):
    """The checkpoint that was there is whole, is found again, and nothing half lies beside it.

    The sizes stop the save at the configuration, the adapter, the tokenizer, the optimiser.
    """
    import torch

    from text2grad.checkpoint import damage, find_checkpoint, save_checkpoint

    writer = checkpoint_writer(tiny_llama(byte_level_tokenizer()))
    parts = {"optimizer": torch.nn.Linear(100, 100)}
    path = tmp_path / "epoch_0_step_1"
    save_checkpoint(path, writer, {"step": 1}, parts, [])
    before = contents(tmp_path)
    for target in (path, tmp_path / "epoch_0_step_2"):
        with disk_of(size), pytest.raises(files.UserError, match="cannot be written"):
            save_checkpoint(target, writer, {"step": 2}, parts, [])
    assert contents(tmp_path) == before
    assert damage(path) == ""
    assert find_checkpoint(tmp_path, "auto") == path


def test_disk_full_while_a_merged_model_is_written(run, tmp_path, model):
    from transformers import AutoModelForCausalLM

    adapter = tmp_path / "final"
    checkpoint_writer(AutoModelForCausalLM.from_pretrained(model))(adapter)
    merged = tmp_path / "final_merge"
    merged.mkdir()
    (merged / "model.safetensors").write_bytes(b"old")
    with disk_of(9_000):
        line = run.fails(
            POLICY / "Evaluation/merge_lora.py",
            "text2grad.models:merge_lora",
            ["--lora_model", str(adapter)],
        )
    assert f"--save_dir {merged}: cannot be written" in line
    assert contents(merged) == {"model.safetensors": b"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final", "final_merge"]
