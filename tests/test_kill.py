"""Processes that are killed, stopped or cut off, and the run that goes on where they were."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from annotated import POSTS, row, save_base, write
from policy_runs import FakeCritic, comparable, config, rows_of, write_posts
from trees import ROOT, load_args

from text2grad import stopping
from text2grad.config import RewardTrainConfig
from text2grad.reward_model import train_reward_model
from text2grad.schema import Stopped
from text2grad.stopping import StopRequest
from text2grad.supervised import TargetTrainer
from text2grad.trainer import Text2GradTrainer

HERE = Path(__file__).parent
POLICY = ROOT / "NL_Gradient_Policy_Optimization/SLF5K"
TRAINED = ("adapter_model.safetensors", "value_head.safetensors")
# 8 steps = 3 + crash + 5: the process dies while it writes the checkpoint of step 6
FLAGS = {"steps": 8, "save_freq": 3, "lr_scheduler_type": "linear", "warmup_steps": 2}


@pytest.fixture(autouse=True)
def one_thread():
    """As the processes have that are started here: sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def environment():
    paths = os.pathsep.join((str(ROOT), str(HERE)))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def start_runs(folder, kind, launcher, **settings):
    """Run `killed_run.py`; its exit status and what it said."""
    path = folder / "settings.json"
    path.write_text(json.dumps({"folder": str(folder), "kind": kind, **settings}))
    done = subprocess.run(
        [*launcher, str(HERE / "killed_run.py"), str(path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=environment(),
    )
    return done.returncode, done.stdout + done.stderr


def assert_same_end(one, other, names=TRAINED):
    for name in names:
        assert (one / "final" / name).read_bytes() == (other / "final" / name).read_bytes()


def assert_same_policy(one, other):
    assert_same_end(one, other)
    assert comparable(rows_of(one)) == comparable(rows_of(other))
    assert rows_of(one, "samples.jsonl") == rows_of(other, "samples.jsonl")


# -- one process


def test_sigkill_in_the_middle_of_a_save(make, policy_files, tmp_path, capsys):
    run = {"flags": FLAGS, "die_in_save": "epoch_2_step_6"}
    runs = {"killed": run}
    files = {"model": policy_files[0], "data": policy_files[1]}
    status, said = start_runs(tmp_path, "policy", [sys.executable], runs=runs, **files)
    assert status == -signal.SIGKILL, said
    killed = tmp_path / "killed"
    partial = killed / ".epoch_2_step_6.partial"
    assert (partial / "optimizer.pt").exists()
    assert sorted(path.name for path in killed.glob("epoch_*")) == ["epoch_1_step_3"]
    make(folder="killed", resume_from_checkpoint="auto", **FLAGS).train()
    assert f"going on from {killed / 'epoch_1_step_3'}\n" in capsys.readouterr().out
    assert not partial.exists()
    make(folder="whole", **FLAGS).train()
    assert_same_policy(killed, tmp_path / "whole")


def flag_words(args):
    """The command line of flags of a policy run."""
    for name, value in args.items():
        yield f"--{name}"
        yield from map(str, value if isinstance(value, tuple) else (value,))


def test_sigterm_of_the_script_saves_and_says_so(policy_files, tmp_path):
    given = config(*policy_files, tmp_path / "asked")
    names = """base_model_name data_file_path output_dir dtype lora_target_modules batch_size
        mini_batch_size gradient_accumulation_steps ppo_epochs output_max_length
        prompt_max_length learning_rate lr_scheduler_type adafactor"""
    flags = {name: getattr(given, name) for name in names.split()}
    flags |= {"feedback_source": "reference", "save_freq": 10**6}
    flags |= {"train_epochs": 10**6, "steps": 10**6}
    log, figures = tmp_path / "log", tmp_path / "asked/metrics.jsonl"
    words = [sys.executable, POLICY / "train_slf5k.py", *flag_words(flags)]
    with open(log, "w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env=environment())
    try:
        for _ in range(12_000):
            if figures.exists() and figures.read_text().count("\n") >= 2:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        status, said = process.wait(timeout=300), log.read_text()
    finally:
        process.kill()
    assert status == 143, said
    done = len(rows_of(tmp_path / "asked"))
    assert f"stopped: after step {done}; --resume_from_checkpoint auto goes on" in said
    (saved,) = (tmp_path / "asked").glob("epoch_*")
    assert saved.name == f"epoch_{(done - 1) // 2}_step_{done}"
    assert not (tmp_path / "asked/final").exists()
    for name, more in (("asked", {"resume_from_checkpoint": "auto"}), ("whole", {})):
        folder = {"output_dir": str(tmp_path / name), "steps": done + 2}
        Text2GradTrainer(load_args(POLICY / "train_slf5k.py")(**flags | folder | more)).train()
    assert_same_policy(tmp_path / "asked", tmp_path / "whole")


class StoppingCritic(FakeCritic):
    """Gets a signal while it judges the samples of one step, or before."""

    def __init__(self, at, number=signal.SIGTERM):
        super().__init__()
        self.calls, self.at, self.number = 0, at, number

    def annotate(self, records):
        self.calls += 1
        if self.calls == self.at:
            signal.raise_signal(self.number)
        return super().annotate(records)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_step_that_was_left_is_done_again_from_its_start(make, tmp_path, number):
    flags = {"steps": 4, "lr_scheduler_type": "linear"}
    asked = make(StoppingCritic(3, number), folder="asked", **flags)
    with pytest.raises(Stopped, match="after step 2; --resume_from_checkpoint auto"):
        asked.train()
    assert signal.getsignal(number) == signal.SIG_DFL
    assert [path.name for path in asked.output_dir.glob("epoch_*")] == ["epoch_0_step_2"]
    make(folder="asked", resume_from_checkpoint="auto", **flags).train()
    make(folder="whole", **flags).train()
    assert_same_policy(tmp_path / "asked", tmp_path / "whole")


def ask_while_updating(made):
    update = made.updater.run

    def ask(*given):
        signal.raise_signal(signal.SIGTERM)
        return update(*given)

    made.updater.run = ask
    return made


def test_stopped_after_a_step_it_keeps_that_step(make):
    made = ask_while_updating(make(steps=4))
    with pytest.raises(Stopped, match="after step 1;"):
        made.train()
    assert [path.name for path in made.output_dir.glob("epoch_*")] == ["epoch_0_step_1"]
    assert len(rows_of(made.output_dir)) == 1


def test_stopped_before_the_first_step_there_is_nothing_to_keep(make, tmp_path):
    asked = make(StoppingCritic(1), folder="asked")
    with pytest.raises(Stopped, match="after step 0;"):
        asked.train()
    assert not [*asked.output_dir.glob("epoch_*")]
    make(folder="asked", resume_from_checkpoint="auto").train()
    make(folder="whole").train()
    assert_same_policy(tmp_path / "asked", tmp_path / "whole")


def test_asked_at_the_last_step_the_run_ends_whole(make):
    made = ask_while_updating(make(steps=1))
    made.train()
    assert (made.output_dir / "final").is_dir()


def test_only_a_later_second_signal_ends_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(stopping.os, "kill", lambda *given: ended.append(given))
    with StopRequest() as asked:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the launcher passes on what both were sent
        assert (asked.asked, ended) == ("SIGTERM", [])
        monkeypatch.setattr(stopping, "SAME_REQUEST_SECONDS", 0.0)
        signal.raise_signal(signal.SIGTERM)
        assert ended == [(os.getpid(), signal.SIGTERM)]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# -- the reward model


@pytest.fixture
def reward_flags(tmp_path):
    """Flags of a training of 8 updates."""
    rows = [row(number, post) for number, post in enumerate(POSTS)]
    return {
        "base_model": save_base(tmp_path / "base"),
        "data_path": write(tmp_path / "annotated.json", rows),
        "valid_data_path": "",
        "valid_fraction": 0.2,
        "data_dir": str(tmp_path / "data"),
        "dtype": "fp32",
        "lora_target_modules": ("all-linear",),
        "lora_dropout": 0.1,
        "learning_rate": 1e-2,
        "num_train_epochs": 4.0,
        "per_device_train_batch_size": 2,
        "save_steps": 3,
        "eval_steps": 0,
    }


def train_rest(flags, tmp_path):
    """Go on with the run "stopped", and do it whole beside it."""
    folder = str(tmp_path / "stopped")
    train_reward_model(
        RewardTrainConfig(**flags | {"output_dir": folder, "resume_from_checkpoint": "auto"})
    )
    train_reward_model(RewardTrainConfig(**flags | {"output_dir": str(tmp_path / "whole")}))
    assert_same_end(tmp_path / "stopped", tmp_path / "whole", TRAINED[:1])
    losses = [
        [one["eval_loss"] for one in json.loads(path.read_text()) if "eval_loss" in one]
        for path in sorted(tmp_path.glob("*/training_log.json"))
    ]
    assert len(losses[0]) == 1
    assert losses[0] == losses[1]


def states(folder):
    return sorted(path.name for path in (folder / "trainer").glob("*checkpoint-*"))


def test_the_reward_model_stops_when_asked(reward_flags, tmp_path, monkeypatch):
    compute, calls = TargetTrainer.compute_loss, []

    def ask(self, *given, **named):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGTERM)
        return compute(self, *given, **named)

    monkeypatch.setattr(TargetTrainer, "compute_loss", ask)
    args = RewardTrainConfig(**reward_flags | {"output_dir": str(tmp_path / "stopped")})
    with pytest.raises(Stopped, match="after update 5; --resume_from_checkpoint auto"):
        train_reward_model(args)
    assert states(tmp_path / "stopped") == ["checkpoint-3", "checkpoint-5"]
    assert not (tmp_path / "stopped/final").exists()
    monkeypatch.undo()
    train_rest(reward_flags, tmp_path)


def test_sigkill_while_the_reward_model_is_saved(reward_flags, tmp_path):
    run = {"flags": reward_flags, "die_in_save": "checkpoint-6/"}
    status, said = start_runs(tmp_path, "reward model", [sys.executable], runs={"stopped": run})
    assert status == -signal.SIGKILL, said
    half = tmp_path / "stopped/trainer/.states.partial/checkpoint-6"
    assert half.is_dir()
    assert states(tmp_path / "stopped") == ["checkpoint-3"]
    train_rest(reward_flags, tmp_path)
    assert not half.exists()


# -- two processes


def test_two_processes_go_on_after_a_crash_and_after_a_request(policy_files, tmp_path):
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2"]
    launcher += ["--master_port", "29633"]
    flags = FLAGS | {"deepspeed": str(POLICY / "deepspeed.json")}
    resumed = {"flags": flags | {"resume_from_checkpoint": "auto"}}
    posts = write_posts(tmp_path / "posts.json")
    files = {"model": policy_files[0], "data": posts}
    runs = {
        "whole": {"flags": flags},
        "asked": {"flags": flags, "ask_at": 5},
        "killed": {"flags": flags, "die_in_save": "killed/.epoch_2_step_6"},
    }
    status, said = start_runs(tmp_path, "policy", launcher, runs=runs, **files)
    assert status != 0, said
    (unfinished,) = (tmp_path / "killed").glob(".epoch_2_step_6*")
    assert time.time() - unfinished.stat().st_mtime < 60
    names = {path.name for path in (tmp_path / "asked").glob("epoch_*")}
    assert names == {"epoch_1_step_3", "epoch_1_step_4"}
    assert [path.name for path in (tmp_path / "killed").glob("epoch_*")] == ["epoch_1_step_3"]
    runs = {"asked": resumed, "killed": resumed}
    status, said = start_runs(tmp_path, "policy", launcher, runs=runs, **files)
    assert status == 0, said
    for name in runs:
        assert f"going on from {tmp_path / name}" in said
        assert_same_policy(tmp_path / name, tmp_path / "whole")
