"""Several processes of which one fails, or that are told to stop: the job ends and can go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from policy_runs import rows_of
from trees import ROOT

from text2grad.checkpoint import find_checkpoint

HERE = Path(__file__).parent
SHELL = ROOT / "NL_Gradient_Policy_Optimization/SLF5K/train_slf5k.sh"
LAUNCHER = ["-m", "accelerate.commands.launch", "--num_processes", "2"]
LAUNCHER += ["--config_file", str(SHELL.with_name("accelerate_config.yaml"))]
DEEPSPEED = ["-m", "deepspeed.launcher.runner", "--num_accelerators", "2"]
IGNORING = ["setsid", "bash", "-c", "trap '' TERM; exec \"$@\"", "shell"]
AWAY = "--reward_base_url http://my-server: busy or away"
SLOW = pytest.mark.slow
FLAGS = {
    "dtype": "fp32",
    "lora_target_modules": "all-linear",
    "adafactor": "false",
    "steps": 3,
    "save_freq": 1,
    "batch_size": 4,
    "mini_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "output_max_length": 12,
    "reward_model_metrics": "",
}


def start(command, files, folder, more=None, **environ):
    flags = FLAGS | (more or {}) | {"base_model_name": files[0], "data_file_path": files[1]}
    flags |= {"output_dir": folder / "run"}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    return subprocess.Popen(
        [*command, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "MARK": str(folder / "mark")} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(jobs, folder):
    """(status, output) of each job, and how many seconds after the failure the last one ended."""
    done = [(job.communicate(timeout=400)[0], job.returncode) for job in jobs]
    seconds = time.time() - float((folder / "mark").read_text(encoding="utf-8"))
    return [status for _, status in done], [said for said, _ in done], seconds


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ("killed", "Signal 9 (SIGKILL)"),
        pytest.param("broken", "RuntimeError: the critic is broken", marks=SLOW),
        pytest.param("away", f"error: process 1: {AWAY}\n", marks=SLOW),
        pytest.param("asleep", "Timed out waiting 15000ms", marks=SLOW),
    ],
)
def test_a_process_that_fails_ends_all_within_a_minute(policy_files, tmp_path, failure, said):
    """The first step is whole, and its checkpoint goes on."""
    script = [str(HERE / "rank_failures.py"), "--ddp_timeout", "15"]
    command = [sys.executable, *LAUNCHER, "--main_process_port", "29620", *script]
    job = start(command, policy_files, tmp_path, FAILURE=failure)
    (status,), (output,), seconds = ended([job], tmp_path)
    assert status != 0
    assert said in output, output[-6000:]
    assert seconds < 60
    assert [row["step"] for row in rows_of(tmp_path / "run")] == [1]
    assert find_checkpoint(tmp_path / "run", "auto").name == "epoch_0_step_1"


@SLOW
@pytest.mark.parametrize(
    ("launcher", "told"),
    [
        ([sys.executable, *LAUNCHER, "--main_process_port", "29624"], os.kill),
        # passes nothing on; the shells have it wait until the processes end
        ([*IGNORING, sys.executable, *DEEPSPEED, "--master_port", "29623"], os.killpg),
    ],
    ids=["accelerate", "deepspeed"],
)
def test_a_launcher_that_is_told_to_stop_waits_until_all_is_saved(
    policy_files, tmp_path, launcher, told
):
    more = {"save_freq": 100, "deepspeed": SHELL.with_name("deepspeed.json")}
    command = [*launcher, str(HERE / "rank_failures.py")]
    job = start(command, policy_files, tmp_path, more, FAILURE="waiting")
    for _ in range(4000):
        if (tmp_path / "mark").exists() or job.poll() is not None:
            break
        time.sleep(0.1)
    told(job.pid, signal.SIGTERM)
    (status,), (output,), seconds = ended([job], tmp_path)
    assert status != 0
    heard = output.count("SIGTERM: saving at the next safe place, then stopping")
    assert heard == 2, output[-6000:]
    assert "stopped: after step 1; --resume_from_checkpoint auto goes on from there" in output
    assert seconds < 60
    assert find_checkpoint(tmp_path / "run", "auto").name == "epoch_0_step_1"


@SLOW
def test_a_process_that_fails_ends_the_other_machine_too(policy_files, tmp_path):
    """Two launchers with one process each stand in for two machines."""
    jobs = []
    for rank in ("0", "1"):
        words = ["--num_machines", "2", "--machine_rank", rank]
        words += ["--main_process_ip", "127.0.0.1", "--main_process_port", "29621"]
        command = [sys.executable, *LAUNCHER, *words, str(HERE / "rank_failures.py")]
        jobs.append(start(command, policy_files, tmp_path, FAILURE="killed"))
    statuses, outputs, seconds = ended(jobs, tmp_path)
    assert 0 not in statuses
    assert "Signal 9 (SIGKILL)" in outputs[1]
    assert seconds < 60
    assert find_checkpoint(tmp_path / "run", "auto").name == "epoch_0_step_1"


@SLOW
def test_two_machines_train_together(policy_files, tmp_path):
    """Through the shell; two of them on this machine stand in for two machines."""
    places = {"NODES": "2", "MAIN_ADDRESS": "127.0.0.1", "MAIN_PORT": "29622", "GPUS": "0"}
    places["PYTHON"] = sys.executable
    command = ["bash", str(SHELL), "--feedback_source", "reference"]
    jobs = [start(command, policy_files, tmp_path, NODE_RANK=rank, **places) for rank in "01"]
    for job in jobs:
        output, _ = job.communicate(timeout=400)
        assert job.returncode == 0, output[-6000:]
    samples = rows_of(tmp_path / "run", "samples.jsonl")
    assert [row["step"] for row in samples] == [1] * 4 + [2] * 4 + [3] * 4
    assert [row["judged"] for row in rows_of(tmp_path / "run")] == [4, 4, 4]
    assert len({row["prompt"] for row in samples[:8]}) == 8
