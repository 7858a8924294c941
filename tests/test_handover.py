"""Stages 1, 2 and 3, one after the other, without a path: each finds what the last one wrote.

A temporary copy of the three trees, six prompts of each task, a model of a few kilobytes, two
updates a stage.
The three shells run as they are; the scripts between them run in this process, which saves
importing torch once for each.
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass

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
TEST = (
    "from solution import f\n\n\ndef test_f():\n    assert f(1) == 1\n    assert f(3) == {three}\n"
)


def post_row(number):
    post, summary = POSTS[number]
    return {
        "id": f"t3_{number}",
        "post": post,
        "ideal_human_summary": summary,
        "generated_summary_for_feedback": f"{summary} The train was blue and seven people left.",
        "generated_summary_for_comparison_A": f"{summary} {summary}",
        "generated_summary_for_comparison_B": summary,
        "feedback": "It invents a train.",
    }


def post_of(number):
    return POSTS[number][0]


def problem_row(number):
    return {
        "question_id": f"Leetcode_{number}",
        "question": f"Write f(x), which is x to the power of {number}.",
        "solution": f"def f(x):\n    return x ** {number}\n",
        "r1_solution": f"def f(x):\n    y = x\n    return y * {number}\n",
        "test_code": TEST.format(three=3**number),
    }


def question_row(number):
    """Every other prompt is a conversation of several turns."""
    post, summary = POSTS[number]
    earlier = [
        {"role": "user", "content": f"Here is text number {number}."},
        {"role": "assistant", "content": "Thank you. What about it?"},
    ]
    before = [*(earlier if number % 2 else []), {"role": "user", "content": f"In short: {post}"}]
    answers = {
        "chosen": summary,
        "rejected": f"{summary} The train was blue and seven people left.",
    }
    said = {
        key: [*before, {"role": "assistant", "content": answer}] for key, answer in answers.items()
    }
    return {"prompt": before[0]["content"], "prompt_id": f"uf_{number}", **said}


def asked(number):
    """The prompt of `question_row` as it is written into a record."""
    before = question_row(number)["chosen"][:-1]
    return before if number % 2 else before[0]["content"]


@dataclass(frozen=True)
class Case:
    """What the tasks' pipelines differ in.

    Attributes:
        task: folder of each tree; in lower case the task's name.
        row: one row of the data, by its number.
        annotator: the annotator without a model.
        critique, poor: keys of the annotated records.
        prompt: the prompt of a row, by its number, as records have it.
        per_prompt: records of one row.
    """

    task: str
    row: object
    annotator: str
    critique: str
    poor: str
    prompt: object
    per_prompt: int

    @property
    def name(self):
        return self.task.lower()


CASES = (
    Case("SLF5K", post_row, "reference", "textual_feedback", "poor_spans", post_of, 3),
    Case(
        "KodCode",
        problem_row,
        "execution",
        "code_feedback",
        "wrong_code",
        lambda number: problem_row(number)["question"],
        2,
    ),
    Case("UltraFeedback", question_row, "reference", "textual_feedback", "poor_spans", asked, 2),
)


class Trees:
    """A copy of the trees and the commands that a person would type in it."""

    def __init__(self, folder, case):
        self.root, self.case = folder, case
        self.model = folder / "tiny-model"
        ignore = shutil.ignore_patterns("data", "ckpt", "sample", "__pycache__", "*results*")
        for tree in TREES:
            shutil.copytree(ROOT / tree, folder / tree, ignore=ignore)
        sample = folder / f"RM_Data_Anno/{case.task}/sample"
        sample.mkdir()
        rows = [json.dumps(case.row(number)) + "\n" for number in range(6)]
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


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def trees(request, tmp_path_factory):
    return Trees(tmp_path_factory.mktemp("trees"), request.param)


def test_1_prompts_become_annotated_records(trees):
    case = trees.case
    trees.shell(
        f"RM_Data_Anno/{case.task}/annotate_{case.name}.sh",
        DATA_PATH="sample",
        CANDIDATES="all",
        ANNOTATOR=case.annotator,
    )
    data = f"RM_Data_Anno/{case.task}/data"
    train = trees.rows(f"{data}/train_annotated.json")
    assert len(train) == 4 * case.per_prompt
    assert all(row[case.critique] for row in train)
    assert sum(bool(row[case.poor]) for row in train) >= 3, "what is wrong in them is quoted"
    assert len(trees.rows(f"{data}/validation_annotated.json")) == 2 * case.per_prompt


def test_2_annotated_records_train_a_reward_model(trees, monkeypatch):
    case = trees.case
    trees.shell(
        f"NL_Reward_Model/{case.task}/deepspeed_train_{case.name}.sh",
        *("--max_steps", "2", "--dtype", "fp32"),
        MODEL=str(trees.model),
        SAVE_STEPS="1",
        LORA_R="2",
        EVAL_STEPS="0",
    )
    ckpt = trees.root / f"NL_Reward_Model/{case.task}/ckpt/llama31-8B-{case.name}"
    assert {"0_1", "0_2", "final"} <= {path.name for path in ckpt.iterdir()}
    evaluation = f"NL_Reward_Model/{case.task}/Evaluation"
    trees.script(monkeypatch, f"{evaluation}/1_merge_lora.py")
    short = ("--max_samples", "3", "--max_new_tokens", "120")
    trees.script(monkeypatch, f"{evaluation}/2_infer.py", *short)
    judged = trees.rows(f"{evaluation}/inference_results.json")
    assert len(judged) == 3
    assert all(row["gold"][case.critique] for row in judged), "the annotation came along"
    trees.script(monkeypatch, f"{evaluation}/3_metrics.py")
    measured = trees.json(f"{evaluation}/reward_model_metrics.json")
    assert measured["responses"] == 3
    assert measured["decoding"]["unconstrained"]["replies"] == 3


def test_3_the_reward_model_trains_a_policy(trees, monkeypatch):
    case = trees.case
    folder = f"NL_Gradient_Policy_Optimization/{case.task}"
    model = ("--base_model_name", str(trees.model), "--dtype", "fp32")
    trees.script(monkeypatch, f"{folder}/train_sft.py", *model, "--max_steps", "2")
    trees.shell(
        f"{folder}/train_{case.name}.sh",
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
    ckpt = trees.root / folder / f"ckpt/text2grad_{case.name}"
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
    assert [row["query"] for row in answers] == [case.prompt(n) for n in (4, 5)]
    assert trees.json(f"{folder}/Evaluation/result/metrics.json")["n"] == 2
    if (trees.root / folder / "Evaluation/pass_at_k.py").exists():
        trees.script(monkeypatch, f"{folder}/Evaluation/pass_at_k.py")
        solved = trees.json(f"{folder}/Evaluation/result/pass_at_k.json")
        assert solved["figures"]["pass@1"]["value"] == 0.0


def test_4_the_run_becomes_a_report(trees, monkeypatch):
    case = trees.case
    folder = trees.root / "NL_Gradient_Policy_Optimization" / case.task
    monkeypatch.chdir(folder)
    run = f"ckpt/text2grad_{case.name}"
    build_report(parse(ReportConfig, ["--run_dir", run, "--task", case.name]))
    page = folder / run / "report.html"
    assert case.prompt(0) in page.read_text(encoding="utf-8")


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
    task = trees.case.task
    sample = {f"RM_Data_Anno/{task}/sample/{name}.jsonl" for name in ("train", "validation")}
    assert kept <= there | sample
