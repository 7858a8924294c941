"""The resumable states of supervised training: damaged ones, a full disk, other processes."""

import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from annotated import POSTS, row, save_base, write
from safetensors.torch import load_file

from text2grad.config import RewardTrainConfig
from text2grad.reward_model import train_reward_model
from text2grad.schema import UserError
from text2grad.trainer_states import state_to_resume
from text2grad.whole_folder import damage, write_manifest


@pytest.fixture
def train(tmp_path):
    """Trains a tiny reward model, 4 updates with a state after each."""
    rows = [row(number, post) for number, post in enumerate(POSTS)]
    flags = {
        "base_model": save_base(tmp_path / "base"),
        "data_path": write(tmp_path / "annotated.json", rows),
        "valid_data_path": "",
        "valid_fraction": 0.2,
        "data_dir": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "rm"),
        "dtype": "fp32",
        "lora_target_modules": ("all-linear",),
        "learning_rate": 1e-2,
        "num_train_epochs": 2.0,
        "per_device_train_batch_size": 2,
        "save_steps": 1,
        "eval_steps": 0,
    }

    def run(**changes):
        args = RewardTrainConfig(**flags | changes)
        train_reward_model(args)
        return Path(args.output_dir)

    return run


def names(folder):
    return sorted(path.name for path in (folder / "trainer").iterdir() if path.is_dir())


def test_a_truncated_state_is_named_and_skipped(train, capsys):
    folder = train()
    assert names(folder) == ["checkpoint-3", "checkpoint-4"]
    final = (folder / "final/adapter_model.safetensors").read_bytes()
    newest = folder / "trainer/checkpoint-4"
    size = (newest / "optimizer.pt").stat().st_size
    os.truncate(newest / "optimizer.pt", 100)
    fault = f"{newest}: optimizer.pt has 100 bytes of {size}"
    with pytest.raises(UserError, match=f"--resume_from_checkpoint {fault}"):
        train(resume_from_checkpoint=str(newest))
    capsys.readouterr()
    train(resume_from_checkpoint="auto")
    said = capsys.readouterr().out
    assert said.count(f"skipping checkpoint {fault}") == 1
    assert names(folder) == ["abandoned_checkpoint-4", "checkpoint-3", "checkpoint-4"]
    assert not damage(newest)
    assert (folder / "final/adapter_model.safetensors").read_bytes() == final


def test_a_full_disk_leaves_the_states_before(train, tmp_path, monkeypatch):
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    folder = train(max_steps=2, save_total_limit=1)
    assert names(folder) == ["checkpoint-2"]
    optimizer = (folder / "trainer/checkpoint-2/optimizer.pt").stat().st_size
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (optimizer - 1, limits[1]))
        with pytest.raises(UserError, match=r"--output_dir .*/checkpoint-3: cannot be written"):
            train(resume_from_checkpoint="auto", save_total_limit=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(folder) == ["checkpoint-2"]
    assert not damage(folder / "trainer/checkpoint-2")


def test_a_resumed_run_keeps_the_records_of_an_update(train, tmp_path):
    flags = {"lora_dropout": 0.0}
    whole = train(output_dir=str(tmp_path / "whole"), **flags)
    folder = train(max_steps=2, **flags)
    flags |= {"resume_from_checkpoint": "auto"}
    with pytest.raises(UserError) as raised:
        train(per_device_train_batch_size=4, **flags)
    assert str(raised.value).startswith(
        "--per_device_train_batch_size 4 times --gradient_accumulation_steps 1 times 1 processes: "
        f"updates of 4 records, but those of {folder / 'trainer/checkpoint-2'} had 2, "
    )
    train(per_device_train_batch_size=1, gradient_accumulation_steps=2, **flags)
    assert names(folder) == ["checkpoint-3", "checkpoint-4"]
    own, other = (load_file(one / "final/adapter_model.safetensors") for one in (folder, whole))
    for key, value in own.items():
        torch.testing.assert_close(value, other[key], atol=1e-5, rtol=0)


def test_a_run_that_is_done_makes_no_more_updates(train):
    folder = train(max_steps=3)
    final = (folder / "final/adapter_model.safetensors").read_bytes()
    train(max_steps=3, resume_from_checkpoint="auto")
    assert names(folder) == ["checkpoint-2", "checkpoint-3"]
    assert (folder / "final/adapter_model.safetensors").read_bytes() == final


def make_state(folder, step, processes=1):
    path = folder / f"trainer/checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "optimizer.pt").write_bytes(b"state")
    write_manifest(path, step, processes)
    return path


def test_which_state_is_gone_on_from(tmp_path):
    assert state_to_resume(tmp_path, "") == (None, [])
    assert state_to_resume(tmp_path, "auto") == (None, [])
    nine, ten = make_state(tmp_path, 9), make_state(tmp_path, 10, processes=2)
    with pytest.raises(UserError, match="holds the checkpoints of another run"):
        state_to_resume(tmp_path, "")
    anew = "written by 2 processes, and this run has 1: random generators start anew"
    assert state_to_resume(tmp_path, "auto") == (str(ten), [f"{ten}: {anew}"])
    (ten / "manifest.json").unlink()
    skipped = [f"skipping checkpoint {ten}: no readable manifest.json"]
    assert state_to_resume(tmp_path, "auto") == (str(nine), skipped)
    (nine / "optimizer.pt").unlink()
    with pytest.raises(UserError, match=r"auto: no checkpoint in .*trainer is whole \(.*missing"):
        state_to_resume(tmp_path, "auto")
    with pytest.raises(UserError, match="--resume_from_checkpoint nowhere: no such folder"):
        state_to_resume(tmp_path, "nowhere")
