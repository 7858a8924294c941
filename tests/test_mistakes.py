"""The likeliest mistakes, each answered by one line that says what to do.

1 an adapter where a whole model belongs, and the reverse   2 the wrong folder   3 a stage left out
4 no key   5 a gated model, no network   6 no chat template (test_bad_input.py, test_families.py)
7 out of memory   8 other keys   9 resuming with other flags   10 an empty list   11 a prompt longer
than the limit (test_bad_input.py) or than the model reads   12 a typo   13 no DeepSpeed
"""

import inspect
import json
import shutil
import subprocess
import sys

import pytest
import torch
import transformers
from annotated import POSTS, row, save_base, write
from trees import ROOT, TREES, load_args

from text2grad.config import launch
from text2grad.missing import written_by
from text2grad.pretrained import _HUB_FAILURES

RM, POLICY = ROOT / "NL_Reward_Model/SLF5K", ROOT / "NL_Gradient_Policy_Optimization/SLF5K"
ANNO = ROOT / "RM_Data_Anno/SLF5K"
TARGETS = {
    "train_rm.py": "text2grad.reward_model:train_reward_model",
    "train_sft.py": "text2grad.sft:train_sft",
    "train_slf5k.py": "text2grad.trainer:train_policy",
    "1_merge_lora.py": "text2grad.models:merge_lora",
    "merge_lora.py": "text2grad.models:merge_lora",
    "2_infer.py": "text2grad.reward_model:infer_reward_model",
    "infer_val.py": "text2grad.generate:infer_policy",
    "dual_feedback_annotation_RM.py": "text2grad.annotate:annotate_file",
}


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Run a script with flags in a temporary folder; the one line it ends with."""

    def run(script, *argv):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            launch(load_args(script), TARGETS[script.name])
        lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert stop.value.code == 2
        assert len(lines) == 1
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A whole model, and a run folder with an adapter in `final`."""
    from text2grad.config import SFTConfig
    from text2grad.sft import train_sft

    folder = tmp_path_factory.mktemp("models")
    base = save_base(folder / "whole")
    rows = [{"post": post, "ideal_human_summary": "A dog."} for post in POSTS]
    data = write(folder / "posts.json", rows)
    flags = {"max_steps": 1, "save_steps": 1, "dtype": "fp32"}
    run = str(folder / "run")
    train_sft(SFTConfig(base_model_name=base, data_path=data, output_dir=run, **flags))
    return folder


@pytest.fixture
def annotated(tmp_path):
    return write(tmp_path / "train.json", [row(n, post) for n, post in enumerate(POSTS)])


@pytest.fixture
def prompts(tmp_path):
    return write(tmp_path / "posts.json", [{"post": post} for post in POSTS])


def test_1_a_whole_model_where_an_adapter_belongs(said, models, prompts):
    line = said(RM / "Evaluation/1_merge_lora.py", "--lora_model", models / "whole")
    assert "a whole model, not an adapter" in line
    assert "needs no merging" in line
    small = ("--data_file_path", prompts, "--batch_size", 2, "--gradient_accumulation_steps", 2)
    line = said(
        POLICY / "train_slf5k.py",
        *small,
        *("--base_model_name", models / "whole", "--base_model_adapter_model", models / "whole"),
    )
    assert line.startswith("--base_model_adapter_model ")
    assert "a whole model, not an adapter" in line


def test_1_a_runs_folder_where_an_adapter_or_model_belongs(said, models, prompts):
    line = said(POLICY / "Evaluation/merge_lora.py", "--lora_model", models / "run")
    assert line.endswith(f"the adapter is {models / 'run/final'}")
    line = said(
        POLICY / "Evaluation/infer_val.py", "--model_path", models / "run", "--input_path", prompts
    )
    assert line.endswith(f"it holds a run, whose model is {models / 'run/final'}")


@pytest.mark.parametrize("script", [RM / "train_rm.py", POLICY / "train_slf5k.py"])
def test_1_an_adapter_where_a_whole_model_belongs(said, models, annotated, script):
    adapter, flags = models / "run/final", ("--data_path", annotated, "--output_dir", "o")
    if script.name == "train_rm.py":
        flag, more = "--base_model", ("--valid_data_path", "", "--data_dir", "d")
    else:
        flag, more = "--base_model_name", ("--batch_size", 2, "--gradient_accumulation_steps", 2)
    line = said(script, *flags, *more, flag, adapter)
    assert line.startswith(f"{flag} ") or line.startswith(f"{flag}:")
    assert "merge it first (merge_lora.py)" in line


def test_2_the_wrong_folder_names_the_right_one(said, tmp_path):
    copy = tmp_path / "my/RM_Data_Anno/SLF5K"
    (copy / "data").mkdir(parents=True)
    script = copy / "dual_feedback_annotation_RM.py"
    shutil.copy(ANNO / script.name, script)
    write(copy / "data/train.json", [row(0, POSTS[0])])
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert f"it is in {copy}: run the script there" in done.stderr
    assert done.stderr.count("\n") == 1


def test_3_every_default_input_names_the_command_that_writes_it():
    commands = {
        "RM_Data_Anno/SLF5K/data/train.json": "python prepare_data.py",
        "RM_Data_Anno/SLF5K/data/train_annotated.json": "bash annotate_slf5k.sh",
        "NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k/final": "bash deepspeed_train_slf5k.sh",
        "NL_Reward_Model/SLF5K/data/SLF5K/slf5k_test.json": "bash deepspeed_train_slf5k.sh",
        "NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k/final_merge": "python 1_merge_lora.py",
        "NL_Reward_Model/SLF5K/Evaluation/inference_results.json": "python 2_infer.py",
        "NL_Gradient_Policy_Optimization/SLF5K/ckpt/sft/final": "python train_sft.py",
        "NL_Gradient_Policy_Optimization/SLF5K/ckpt/text2grad_slf5k/final": "bash train_slf5k.sh",
        "NL_Gradient_Policy_Optimization/SLF5K/ckpt/a/final_merge": "python merge_lora.py",
        "NL_Gradient_Policy_Optimization/SLF5K/Evaluation/result/final_merge_samples.json": (
            "python infer_val.py"
        ),
    }
    for path, command in commands.items():
        change_folder, named = written_by(ROOT / path).split(" && ")
        assert named == command, path
        folder = change_folder.removeprefix("cd ")
        assert folder.startswith(TREES)
        assert (ROOT / folder / named.split()[1]).exists(), "the command can be run there"
    assert written_by(ROOT / "my/data.json") == ""


def test_3_a_stage_that_was_left_out_is_named(said):
    line = said(RM / "train_rm.py", "--data_path", RM / "ckpt/none/train.json")
    assert line.endswith(
        "it is written by: cd NL_Reward_Model/SLF5K && bash deepspeed_train_slf5k.sh"
    )
    line = said(RM / "Evaluation/1_merge_lora.py", "--lora_model", RM / "ckpt/none/final")
    assert line.endswith(
        "it is written by: cd NL_Reward_Model/SLF5K && bash deepspeed_train_slf5k.sh"
    )


def test_4_no_key_names_the_variable_and_the_ways_without(said, annotated, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    line = said(ANNO / "dual_feedback_annotation_RM.py", "--data_path", annotated)
    assert "needs the environment variable OPENAI_API_KEY" in line
    assert "--annotator reference needs neither" in line


@pytest.mark.parametrize(
    ("said_by_transformers", "advice"),
    [
        ("You are trying to access a gated repo.\nMake sure ...", "hf auth login"),
        ("We couldn't connect to 'https://huggingface.co' to load ...", "HF_HUB_OFFLINE"),
        ("x is not a local folder and is not a valid model identifier ...", "neither a folder"),
    ],
)
def test_5_the_hub_says_no(said, annotated, monkeypatch, said_by_transformers, advice):
    def refuse(*_, **__):
        raise OSError(said_by_transformers)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    more = ("--valid_data_path", "", "--data_dir", "d", "--output_dir", "o")
    line = said(
        RM / "train_rm.py", "--data_path", annotated, "--base_model", "meta-llama/Llama-x", *more
    )
    assert line.startswith("--base_model meta-llama/Llama-x: ")
    assert advice in line


def test_5_transformers_still_says_so():
    source = inspect.getsource(transformers.utils.hub)
    assert all(sign in source for sign in _HUB_FAILURES)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_7_out_of_memory_names_the_flags_that_take_less(said, monkeypatch, error):
    def fill(_):
        raise error

    monkeypatch.setattr("text2grad.reward_model.train_reward_model", fill)
    monkeypatch.setattr("text2grad.trainer.train_policy", fill)
    line = said(RM / "train_rm.py", "--per_device_train_batch_size", 4)
    assert line.startswith(
        "out of memory; lower --per_device_train_batch_size 4, --max_length 1400"
    )
    assert "--gradient_checkpointing true" in line
    line = said(POLICY / "train_slf5k.py", "--mini_batch_size", 2, "--batch_size", 24)
    assert line.startswith("out of memory; lower --mini_batch_size 2, --reward_batch_size 16")
    assert "--batch_size 24" not in line


def test_8_other_keys_are_listed_and_the_flag_is_named(said, tmp_path):
    data = write(tmp_path / "own.json", [{"question": "Why?", "answer": "So."}])
    line = said(ANNO / "dual_feedback_annotation_RM.py", "--data_path", data)
    assert "found question, answer; name yours by --fields.prompt (from --data_path)" in line
    flags = ("--fields.prompt", "question")
    line = said(ANNO / "dual_feedback_annotation_RM.py", "--data_path", data, *flags)
    assert "name yours by --fields.response" in line


def test_9_resuming_with_other_flags(said, models, tmp_path):
    run = shutil.copytree(models / "run", tmp_path / "run")
    before = (run / "config.json").read_text()
    flags = ("--base_model_name", models / "whole", "--data_path", models / "posts.json")
    more = ("--output_dir", run, "--dtype", "fp32")
    line = said(
        POLICY / "train_sft.py", *flags, *more, "--resume_from_checkpoint", "auto", "--lora_r", 4
    )
    assert line.startswith(f"--lora_r 4: {run} was written with 16, which a resumed run keeps")
    assert "holds the checkpoints of another run" in said(POLICY / "train_sft.py", *flags, *more)
    assert (run / "config.json").read_text() == before, "a run that cannot start changes nothing"


def test_10_an_empty_list_is_called_empty(said, tmp_path):
    data = write(tmp_path / "none.json", [])
    line = said(RM / "train_rm.py", "--data_path", data)
    assert line == f"--data_path {data}: the list of records is empty"


def test_11_lengths_beyond_what_the_model_reads(said, models, prompts):
    flags = ("--model_path", models / "whole", "--input_path", prompts, "--max_new_tokens", 1500)
    line = said(POLICY / "Evaluation/infer_val.py", *flags)
    assert line == (
        "--prompt_max_length 640 --max_new_tokens 1500: up to 2140 tokens, but the model of "
        "--model_path reads 2048; lower them"
    )


def test_12_a_typo_gets_a_suggestion(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_slf5k.py", "--lerning_rate", "1e-5"])
    with pytest.raises(SystemExit) as stop:
        launch(load_args(POLICY / "train_slf5k.py"), TARGETS["train_slf5k.py"])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert "--lerning_rate" in shown
    assert "--learning_rate FLOAT" in shown


def test_13_no_deepspeed(said, annotated, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flags = ("--data_path", annotated, "--output_dir", "o", "--deepspeed", "deepspeed.json")
    line = said(RM / "train_rm.py", *flags)
    assert line.startswith(
        "--deepspeed deepspeed.json: DeepSpeed is not installed; run bash env.sh"
    )
    assert json.loads((RM / "deepspeed.json").read_text())
