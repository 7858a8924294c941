"""docs/new_task.md, followed to the letter: its files are written, its commands are run."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from policy_runs import rows_of, save_tiny
from trees import ROOT, TREES

from text2grad.files import read_rows
from text2grad.schema import UserError
from text2grad.tasks import get_task

GUIDE = (ROOT / "docs/new_task.md").read_text(encoding="utf-8")
SCORES = {"works": 1.0, "unclear": -0.5, "rude": -1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the trees after everything in the guide was done in it."""
    root = tmp_path_factory.mktemp("guide")
    ignore = shutil.ignore_patterns("data", "ckpt", "result", "__pycache__", "*results*")
    for tree in TREES:
        shutil.copytree(ROOT / tree, root / tree, ignore=ignore)
    save_tiny(root / "my/model")
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.M | re.S):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE, flags=re.M | re.S)
    commands = [re.sub(r"\\\n\s*", "", block).splitlines() for block in blocks]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/typed.py")],
        input=json.dumps(commands),
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return root


def test_same_keys_and_other_keys(folder):
    posts = [
        row["post"]
        for split in ("train", "validation")
        for row in read_rows(folder / f"my/data/{split}.json")
    ]
    assert len(posts) == 2
    [ticket] = read_rows(folder / "my/tickets/train.json")
    assert ticket["post"] in (
        "Late\n\nThe train was late again.",
        "Cold\n\nThe room is cold at night.",
    )
    assert ticket["generated_summary"]
    assert ticket["ideal_human_summary"]
    run = json.loads((folder / "my/sft/config.json").read_text())
    assert run["flags"]["prompt_file"] == "my/policy.txt"


def test_the_new_task_is_annotated_under_its_own_keys(folder):
    rows = read_rows(folder / "email/data/train_annotated.json")
    assert len(rows) == 4
    for row in rows:
        assert row["advice"]
        for span in row["spans"]:
            assert span["match"] == "exact"
            assert row["draft"][span["start"] : span["end"]] == span["text"]
            assert span["text"] in row[span["label"]]
    assert {span["label"] for row in rows for span in row["spans"]} <= set(SCORES)


def test_the_new_tasks_reward_model_writes_its_keys(folder):
    judged = read_rows(folder / "email/reward_model/judged.json")
    assert len(judged) == 2
    for row in judged:
        assert list(json.loads(row["reply"])) == ["advice", "works", "unclear", "rude"]
        assert row["gold"]["advice"]
    assert json.loads((folder / "email/reward_model/metrics.json").read_text())["task"] == "email"


def test_the_new_tasks_scores_reach_the_policys_tokens(folder):
    samples = rows_of(folder / "email/policy", "samples.jsonl")
    assert len(samples) == 8
    for sample in samples:
        allowed = {SCORES[span["label"]] for span in sample["spans"]} | {0.0}
        assert set(sample["scores"]) <= allowed
    assert (folder / "email/policy/final/adapter_model.safetensors").exists()


def test_files_that_are_no_task(tmp_path):
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty\.py: defines no TASK = TaskSpec"):
        get_task(str(tmp_path / "empty.py"))
    with pytest.raises(UserError, match=r"--task .*none\.py: no such file"):
        get_task(str(tmp_path / "none.py"))
    with pytest.raises(UserError, match=r"--task slf: unknown, known are slf5k, kodcode, ultra"):
        get_task("slf")
