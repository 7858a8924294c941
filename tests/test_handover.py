"""Stages 1, 2 and 3, one after the other, without a path: each finds what the last one wrote.

A temporary copy of the three trees, six posts, a model of a few kilobytes, two updates a stage.
The three shells run as they are; the scripts between them run in this process, which saves
importing torch once for each.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys

import pytest
from tiny import byte_level_tokenizer, tiny_llama
from trees import ROOT, TREES

from text2grad.config import parse
from text2grad.files import read_rows
from text2grad.report import ReportConfig, build_report

POSTS = [
    ("The dog ran to the park and saw a cat.", "My dog saw a cat in the park."),
    ("My sister said that she would not come home. I miss her.", "My sister will not come home."),
    ("Last week my boss said the project was late. I worked all night.", "I worked all night."),
    ("We have been together for two years. Is it wrong to ask for more?", "Is asking wrong?"),
    ("There is one thing that I do not know: when is the meeting?", "When is the meeting?"),
    ("I think my answer is good, but it leaves out the question.", "My answer lacks a question."),
]


def hub_row(number, post, summary):
    return {
        "id": f"t3_{number}",
        "post": post,
        "ideal_human_summary": summary,
        "generated_summary_for_feedback": f"{summary} The train was blue and seven people left.",
        "generated_summary_for_comparison_A": f"{summary} {summary}",
        "generated_summary_for_comparison_B": summary,
        "feedback": "It invents a train.",
    }


class Trees:
    """A copy of the trees and the commands that a person would type in it."""

    def __init__(self, folder):
        self.root = folder
        self.model = folder / "tiny-model"
        ignore = shutil.ignore_patterns("data", "ckpt", "sample", "__pycache__", "*results*")
        for tree in TREES:
            shutil.copytree(ROOT / tree, folder / tree, ignore=ignore)
        sample = folder / "RM_Data_Anno/SLF5K/sample"
        sample.mkdir()
        rows = [json.dumps(hub_row(number, *pair)) + "\n" for number, pair in enumerate(POSTS)]
        (sample / "train.jsonl").write_text("".join(rows[:4]))
        (sample / "validation.jsonl").write_text("".join(rows[4:]))
        tokenizer = byte_level_tokenizer()
        tiny_llama(tokenizer).save_pretrained(self.model)
        tokenizer.save_pretrained(self.model)

    def shell(self, path, *arguments, **variables):
        environment = os.environ | {"PYTHON": sys.executable, "GPUS": "0"} | variables
        done = subprocess.run(
            ["bash", str(self.root / path), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.root,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def script(self, monkeypatch, path, *arguments):
        script = self.root / path
        monkeypatch.chdir(script.parent)
        monkeypatch.setattr(sys, "argv", [script.name, *arguments])
        runpy.run_path(str(script), run_name="__main__")

    def rows(self, path):
        return read_rows(self.root / path)

    def json(self, path):
        return json.loads((self.root / path).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    return Trees(tmp_path_factory.mktemp("trees"))


def test_1_posts_become_annotated_records(trees):
    trees.shell(
        "RM_Data_Anno/SLF5K/annotate_slf5k.sh",
        DATA_PATH="sample",
        CANDIDATES="all",
        ANNOTATOR="reference",
    )
    train = trees.rows("RM_Data_Anno/SLF5K/data/train_annotated.json")
    assert len(train) == 12
    assert all(row["textual_feedback"] for row in train)
    assert sum(len(row["poor_spans"]) for row in train) >= 4, "the invented train is quoted"
    assert len(trees.rows("RM_Data_Anno/SLF5K/data/validation_annotated.json")) == 6


def test_2_annotated_records_train_a_reward_model(trees, monkeypatch):
    trees.shell(
        "NL_Reward_Model/SLF5K/deepspeed_train_slf5k.sh",
        *("--max_steps", "2", "--dtype", "fp32"),
        MODEL=str(trees.model),
        SAVE_STEPS="1",
        LORA_R="2",
        EVAL_STEPS="0",
    )
    ckpt = trees.root / "NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k"
    assert {"0_1", "0_2", "final"} <= {path.name for path in ckpt.iterdir()}
    evaluation = "NL_Reward_Model/SLF5K/Evaluation"
    trees.script(monkeypatch, f"{evaluation}/1_merge_lora.py")
    short = ("--max_samples", "3", "--max_new_tokens", "120")
    trees.script(monkeypatch, f"{evaluation}/2_infer.py", *short)
    judged = trees.rows(f"{evaluation}/inference_results.json")
    assert len(judged) == 3
    assert all(row["gold"]["textual_feedback"] for row in judged), "the annotation came along"
    trees.script(monkeypatch, f"{evaluation}/3_metrics.py")
    measured = trees.json(f"{evaluation}/reward_model_metrics.json")
    assert measured["responses"] == 3
    assert measured["decoding"]["unconstrained"]["replies"] == 3


def test_3_the_reward_model_trains_a_policy(trees, monkeypatch):
    folder = "NL_Gradient_Policy_Optimization/SLF5K"
    model = ("--base_model_name", str(trees.model), "--dtype", "fp32")
    trees.script(monkeypatch, f"{folder}/train_sft.py", *model, "--max_steps", "2")
    trees.shell(
        f"{folder}/train_slf5k.sh",
        *("--base_model_adapter_model", "ckpt/sft/final", "--dtype", "fp32"),
        *("--reward_max_new_tokens", "120", "--lora_r", "2", "--eval_steps", "2"),
        POLICY=str(trees.model),
        STEPS="2",
        BATCH_SIZE="4",
        MINI_BATCH_SIZE="2",
        ACCUMULATION="2",
        PPO_EPOCHS="1",
        OUTPUT_MAX_LENGTH="12",
        SAVE_FREQ="1",
    )
    ckpt = trees.root / folder / "ckpt/text2grad_slf5k"
    assert {"epoch_0_step_1", "epoch_1_step_2", "final"} <= {path.name for path in ckpt.iterdir()}
    steps = [json.loads(line) for line in (ckpt / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps] == [1, 2]
    gate = json.loads((ckpt / "config.json").read_text())["gate"]
    assert gate[0].startswith("PASS  same model: "), "the metrics of stage 2 are found"
    assert json.loads((ckpt / "best.json").read_text())["checkpoint"] == "epoch_1_step_2"
    trees.script(monkeypatch, f"{folder}/Evaluation/merge_lora.py")
    trees.script(monkeypatch, f"{folder}/Evaluation/infer_val.py", "--max_new_tokens", "12")
    trees.script(monkeypatch, f"{folder}/Evaluation/metrics.py")
    answers = trees.rows(f"{folder}/Evaluation/result/final_merge_samples.json")
    assert [row["query"] for row in answers] == [post for post, _ in POSTS[4:]]
    assert trees.json(f"{folder}/Evaluation/result/metrics.json")["n"] == 2


def test_4_the_run_becomes_a_report(trees, monkeypatch):
    monkeypatch.chdir(trees.root / "NL_Gradient_Policy_Optimization/SLF5K")
    build_report(parse(ReportConfig, ["--run_dir", "ckpt/text2grad_slf5k"]))
    page = trees.root / "NL_Gradient_Policy_Optimization/SLF5K/ckpt/text2grad_slf5k/report.html"
    assert POSTS[0][0] in page.read_text(encoding="utf-8")


def test_nothing_was_written_outside_the_ignored_folders(trees):
    """What a run writes by default is ignored by git, so a clone stays clean."""
    subprocess.run(["git", "init", "-q", str(trees.root)], check=True)
    shutil.copy(ROOT / ".gitignore", trees.root)
    listed = subprocess.run(
        ["git", "-C", str(trees.root), "ls-files", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    kept = {path for path in listed if path.startswith(TREES)}
    there = {
        str(path.relative_to(ROOT))
        for tree in TREES
        for path in (ROOT / tree).rglob("*")
        if path.is_file()
    }
    sample = {f"RM_Data_Anno/SLF5K/sample/{name}.jsonl" for name in ("train", "validation")}
    assert kept <= there | sample
