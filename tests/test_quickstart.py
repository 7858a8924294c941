"""The main job, end to end on the embedded model: minutes, so only with `tests/run.sh --all`."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from chat_server import KEY, serve
from tiny import byte_level_tokenizer, tiny_llama

ROOT = Path(__file__).parent.parent


def quickstart(*flags: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    environment |= variables
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
    assert again.stdout.count("done before") == 13

    other = quickstart("--output_dir", str(tmp_path))
    assert other.returncode == 2
    assert "other flags" in other.stderr


@pytest.mark.slow
def test_the_users_own_model_data_and_annotator(tmp_path):
    """A model of a few kilobytes, a file of posts with other candidates, a server as annotator."""
    tokenizer = byte_level_tokenizer()
    tiny_llama(tokenizer).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    rows = [
        {
            "id": f"own-{number}",
            "post": f"Dog number {number} ran to the park and saw a cat.",
            "generated_summary": f"Dog number {number} saw a train.",
            "ideal_human_summary": f"Dog {number} saw a cat.",
        }
        for number in range(24)
    ]
    (tmp_path / "own.json").write_text(json.dumps(rows))

    def annotate(prompt, body):
        assert body["model"] == "my-annotator"
        return 200, {
            "reasoning": "There is no train.",
            "textual_feedback": "It invents a train.",
            "good_spans": [],
            "poor_spans": ["a train"],
        }

    with serve(annotate) as server:
        done = quickstart(
            *("--fast", "--model", str(tmp_path / "model"), "--data_path"),
            *(str(tmp_path / "own.json"), "--annotator", "openai", "--base_url", server.url),
            *("--annotator_model", "my-annotator", "--output_dir", str(tmp_path / "run")),
            OPENAI_API_KEY=KEY,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(server.bodies) == len(rows)
    annotated = json.loads((tmp_path / "run/data/train_annotated.json").read_text())
    assert annotated[0]["poor_spans"] == ["a train"]
    assert "reward model's net score" in done.stdout
    for path in tmp_path.rglob("*.json*"):
        assert KEY not in path.read_text(encoding="utf-8"), path
