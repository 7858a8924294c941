"""All methods of a table, from the records to the tables, on a model of a few kilobytes."""

import csv
import json
import os
import subprocess
import sys

import pytest
from policy_runs import save_tiny
from trees import ROOT

METHODS = (
    "base",
    "sft",
    "sft_reflection",
    "grpo",
    "learned_scalar_ppo",
    "scalar_ppo",
    "dense",
    "text2grad",
)


def start(script, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(ROOT / "paper" / script), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def few_records(folder):
    """A folder with a few of the records that come with the project."""
    folder.mkdir()
    for split, count in (("train", 8), ("validation", 3)):
        sample = ROOT / "RM_Data_Anno/SLF5K/sample" / f"{split}.jsonl"
        lines = sample.read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
def test_a_trial_of_every_method_fills_the_table(tmp_path):
    data = few_records(tmp_path / "data")
    runs = tmp_path / "runs" / "slf5k-trial"
    flags = ["--table", "slf5k", "--budget", "trial", "--seeds", 1, "--data_path", data]
    flags += ["--model", save_tiny(tmp_path / "model"), "--output_dir", runs]
    done = start("run.py", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done before" not in done.stdout
    again = start("run.py", *flags)
    assert again.stdout.count("done before") == done.stdout.count(" s\n")
    tables = tmp_path / "tables"
    page = tmp_path / "RESULTS.md"
    places = ["--runs_dir", runs.parent, "--metrics_dir", tmp_path / "metrics"]
    places += ["--figures_dir", tmp_path / "figures", "--testbed", tmp_path / "none.json"]
    assert start("figures.py", *places).returncode == 0
    made = start("tables.py", *places, "--output_dir", tables, "--results", page)
    assert made.returncode == 0, made.stderr
    lines = list(csv.DictReader((tables / "slf5k-trial.csv").open(encoding="utf-8")))
    filled = {line["row"] for line in lines if line["measure"] == "rougeL" and line["value"]}
    assert filled == set(METHODS)
    assert {line["n"] for line in lines if line["value"]} == {"3"}
    check_training(tables, page.read_text())
    assert (tmp_path / "figures/slf5k-trial-convergence.svg").exists()
    config = json.loads((runs / "runs/scalar_ppo-1/train/config.json").read_text())
    assert config["flags"]["credit_assignment"] == "scalar"
    facts = json.loads(
        (runs / "reward_model-word_scores/train/final_merge/reward_model.json").read_text()
    )
    assert facts == {"target_format": "word_scores"}
    assert not (runs / "runs/text2grad-1/train/final_merge").exists()
    for name in METHODS:
        answers = json.loads(next(runs.glob(f"runs/{name}-*/answers.json")).read_text())
        assert len(answers) == 3


def check_training(tables, page):
    """Every figure of training and annotation that there is to be had without a paid annotator."""
    found = {}
    for name in ("convergence", "time", "signal", "annotation"):
        path = tables / f"slf5k-trial-{name}.csv"
        for line in csv.DictReader(path.open(encoding="utf-8")):
            if line["value"]:
                found.setdefault(line["measure"], set()).add(line["row"])
    ppo = {"learned_scalar_ppo", "scalar_ppo", "dense", "text2grad"}
    assert found["last_score"] == found["best_share"] == ppo | {"grpo"}
    assert found["steps_saved"] <= {"grpo", "text2grad"}
    for name in ("seconds_step", "critique_added", "reward_variance", "advantage_variance"):
        assert found[name] == ppo, name
    assert found["coverage"] == found["unmatched_rate"] == ppo - {"learned_scalar_ppo"}
    assert found["word_coverage"] == {"annotation", "annotation_dense"}
    assert "cost" not in found  # nobody was paid
    assert page.count("| Text2Grad |") == 4 + 2  # and two tasks that were not run
