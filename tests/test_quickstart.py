"""The main job, end to end on the embedded model: minutes, so only with `tests/run.sh --all`."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def quickstart(*flags: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = ["bash", "quickstart.sh", *flags]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--modle", "x"], "unknown flag --modle"),
        (["--model"], "--model needs a value"),
        (["--task", "poetry"], "--task poetry"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, message):
    done = quickstart(*flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.embedded
def test_a_taste_of_every_stage(tmp_path):
    done = quickstart("--fast", "--output_dir", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"report: {tmp_path}/report.html"
    assert "reward model's net score" in done.stdout

    config = json.loads((tmp_path / "policy/config.json").read_text())
    assert config["reward_model"] == str(tmp_path / "reward_model/final_merge")
    report = (tmp_path / "report.html").read_text()
    assert config["reward_model_sha256"][:12] in report

    again = quickstart("--fast", "--output_dir", str(tmp_path))
    assert again.returncode == 0
    assert again.stdout.count("done before") == 12

    other = quickstart("--output_dir", str(tmp_path))
    assert other.returncode == 2
    assert "other flags" in other.stderr
