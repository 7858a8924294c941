"""Every command that the README gives is run, letter by letter, in a copy of the three trees.

Nothing is added to a command, and no default is changed. Of KodCode and UltraFeedback the everyday
tests type what the fenced commands need; the rest, HumanEval among it, is slow.

The models, data sets and the server that the defaults name are there through the environment
alone: a hub cache with models of a few kilobytes and a dozen prompts, and a chat server on
loopback.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import permutations

import pyarrow
import pytest
from chat_server import serve
from policy_runs import save_tiny
from pyarrow import parquet
from test_model_metrics import save_bert
from tiny import byte_level_tokenizer, tiny_llama
from trees import ROOT, SCRIPTS, SHELLS, TREES

README = (ROOT / "README.md").read_text(encoding="utf-8")
# test_quickstart.py, test_mt_bench.py, test_benchmark_programs.py, test_presets.py,
# test_paper_run.py, test_annotation_sheet.py and test_human_alignment.py are about these, and
# tests/run.sh runs env.sh
ELSEWHERE = ("git clone", "bash env.sh", "bash quickstart.sh", "bash tests/run.sh")
ELSEWHERE += ("python mt_bench.py", "bash arc_challenge.sh", "bash alpaca_eval.sh", "bash presets/")
ELSEWHERE += ("python paper/",)
SLOW_TASKS = ("KodCode", "UltraFeedback")
SENTENCES = (
    "The dog ran to the park and saw a cat.",
    "My sister said that she would not come home.",
    "Last week my boss told me that the project was late.",
    "We have been together for two years.",
    "There is one thing that I do not know.",
    "Is it wrong to ask for more money?",
    "The meeting was on Monday.",
)
POSTS = [f"{a} {b}" for a, b in permutations(SENTENCES, 2)][::3]


def table_commands():
    """`cd FOLDER && COMMAND` for every row of the table of commands."""
    section = README.split("\n## Commands\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| `([^`]+)` \| `([^`]+)` \|$", section, flags=re.M)
    return [[f"cd {folder} && {command}"] for folder, command in rows]


def fenced_commands():
    """The lines of every fenced block of commands."""
    fences = re.findall(r"^```bash\n(.*?)^```", README, flags=re.M | re.S)
    return [re.sub(r"\\\n\s*", "", fence).splitlines() for fence in fences]


def to_run():
    blocks = [*table_commands(), *fenced_commands()]
    return [block for block in blocks if not any(word in block[0] for word in ELSEWHERE)]


def chosen_blocks(part):
    """The blocks of one part: "quick", or all of a task whose commands are slow."""
    if part in SLOW_TASKS:
        return [block for block in to_run() if part in block[0]]
    return [block for block in to_run() if not any(is_slow(block, task) for task in SLOW_TASKS)]


def is_slow(block, task):
    """What no fenced command needs: of the table all but data and reward model of KodCode."""
    needed = block[0].endswith(("_kodcode.sh", "train_rm.py")) and "NL_Gradient" not in block[0]
    return task in block[0] and len(block) == 1 and not needed


def cached(hub, kind, name):
    """The folder of a snapshot in a hub cache, as the hub's client looks for it."""
    commit = "0" * 40
    repository = hub / "hub" / f"{kind}--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


def fill_cache(hub):
    tokenizer = byte_level_tokenizer()
    for name in ("Llama-3.1-8B-Instruct", "Llama-3.2-3B-Instruct"):
        snapshot = cached(hub, "models", f"meta-llama/{name}")
        tiny_llama(tokenizer).save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
    save_bert(cached(hub, "models", "roberta-large"))
    rows = [
        {
            "id": f"t3_{number}",
            "post": post,
            "generated_summary_for_feedback": f"My {post.split()[1]} did it. It was on a Monday.",
            "ideal_human_summary": post.split(". ")[0],
            "feedback": "It invents a Monday.",
        }
        for number, post in enumerate(POSTS)
    ]
    data = cached(hub, "datasets", "JeremyAlain/SLF5K")
    for split, part in (("train", rows[:12]), ("validation", rows[12:])):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    data = cached(hub, "datasets", "HuggingFaceH4/ultrafeedback_binarized")
    (data / "data").mkdir()
    for split, part in (("train_prefs", POSTS[:9]), ("test_prefs", POSTS[9:])):
        table = pyarrow.Table.from_pylist(
            [question(number, post) for number, post in enumerate(part)]
        )
        parquet.write_table(table, data / f"data/{split}-00000-of-00001.parquet")
    for name, splits in (("V1-SFT-R1", ("train", "incorrect")), ("Light-RL-10K", ("train",))):
        data = cached(hub, "datasets", f"KodCode/KodCode-{name}")
        (data / "data").mkdir()
        for split in splits:
            table = pyarrow.Table.from_pylist([problem(split, number) for number in range(7)])
            parquet.write_table(table, data / f"data/{split}-00000-of-00001.parquet")


def problem(split, number):
    """A row of KodCode; the solutions of the split "incorrect" fail."""
    right = split == "train"
    return {
        "question_id": f"{split}_{number}",
        "question": f"Write f(x), which is x plus {number}{'' if right else ', once more'}.",
        "solution": f"def f(x):\n    return x + {number if right else number + 1}\n",
        "test": f"from solution import f\n\ndef test_f():\n    assert f(1) == {number + 1}\n",
        "gpt_difficulty": "easy",
    }


def question(number, post):
    """A row of UltraFeedback; every other one is a conversation of several turns."""
    earlier = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}]
    before = [*(earlier if number % 2 else []), {"role": "user", "content": f"In short? {post}"}]
    answers = {"chosen": post.split(". ")[0], "rejected": f"My {post.split()[1]}, on a Monday."}
    said = {
        key: [*before, {"role": "assistant", "content": answer}] for key, answer in answers.items()
    }
    return {"prompt": before[0]["content"], "prompt_id": f"{post[:9]}{number}", **said}


def evalplus_data(folder):
    """Two files in EvalPlus' format, by the environment variables that name them."""
    paths = {}
    for title in ("HumanEval", "Mbpp"):
        row = {"task_id": f"{title}/0", "prompt": "def f(x):\n", "entry_point": "f"}
        row |= {"canonical_solution": "    return x\n", "contract": "", "atol": 0}
        path = paths[f"{title.upper()}_OVERRIDE_PATH"] = folder / f"{title}.jsonl"
        path.write_text(json.dumps(row | {"base_input": [[1]], "plus_input": [[2]]}) + "\n")
    return paths


def server_reply(prompt, body):
    """What the server says: a summary's first words are good, its Monday is poor; all are equal."""
    if "<first_summary>" in prompt:
        names = ("accuracy", "completeness", "conciseness", "coherence", "overall")
        grades = dict.fromkeys(names, 5)
        return 200, {"reasoning": "", "first": grades, "second": grades, "better": "tie"}
    if "<answer>" in prompt:
        answer = re.search(r"<answer>\n(.*?)\n</answer>", prompt, flags=re.S)[1]
        return 200, {
            "reasoning": "There is no Monday.",
            "textual_feedback": "The Monday is invented.",
            "good_spans": [" ".join(answer.split()[:2])],
            "poor_spans": ["on a Monday"],
        }
    if "<solution>" in prompt:
        wrong = ["    return x"] if "failed them" in prompt else []
        return 200, {
            "reasoning": "It adds.",
            "code_feedback": "It adds a number.",
            "wrong_code": wrong,
            "improvement_code": [],
        }
    summary = re.search(r"<summary>\n(.*?)\n</summary>", prompt, flags=re.S)[1]
    return 200, {
        "reasoning": "The post has no Monday.",
        "textual_feedback": "The Monday is invented.",
        "good_spans": [" ".join(summary.split()[:2])],
        "poor_spans": ["on a Monday"],
    }


def copy_trees(root):
    """The trees without what runs wrote in them, `.venv`, and the files that the README names."""
    ignore = shutil.ignore_patterns("data", "ckpt", "result", "__pycache__", "*results*")
    for tree in TREES:
        shutil.copytree(ROOT / tree, root / tree, ignore=ignore)
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    own = [{"question": post, "answer": f"{post} Yes."} for post in POSTS]
    (root / "RM_Data_Anno/SLF5K/my.json").write_text(json.dumps(own))
    answers = [{"prompt": post, "response": f"{post} It was on a Monday."} for post in POSTS[:4]]
    folder = root / "RM_Data_Anno/UltraFeedback/path/to"
    folder.mkdir(parents=True)
    (folder / "data").write_text("".join(json.dumps(row) + "\n" for row in answers))
    for folder in ("RM_Data_Anno/SLF5K", "NL_Gradient_Policy_Optimization/SLF5K/Evaluation"):
        save_tiny(root / folder / "my/model")


@pytest.fixture(
    scope="module",
    params=["quick", *(pytest.param(task, marks=pytest.mark.slow) for task in SLOW_TASKS)],
)
def session(request, tmp_path_factory):
    """The part, the copy after all of it was typed, and what the terminal showed."""
    folder = tmp_path_factory.mktemp("literal")
    root = folder / "text2grad"
    copy_trees(root)
    fill_cache(folder / "huggingface")
    blocks = chosen_blocks(request.param)
    # 4400 updates are too many for a test: the last checkpoint stands in for that one
    checkpoints = "NL_Reward_Model/KodCode/ckpt/llama31-8B-kodcode"
    places = [n for n, block in enumerate(blocks) if "1_merge_lora.py --base" in str(block)]
    for place in places:
        blocks.insert(place, [f"cp -r {checkpoints}/final {checkpoints}/0_4400"])
    with serve(server_reply) as server:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests/typed.py")],
            input=json.dumps(blocks),
            env=os.environ
            | {
                "PATH": f"{root / '.venv/bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "HF_HOME": str(folder / "huggingface"),
                "HF_HUB_OFFLINE": "1",
                "OPENAI_BASE_URL": server.url,
                **{key: str(path) for key, path in evalplus_data(folder).items()},
                "OPENAI_API_KEY": "sk-none",
                "GPUS": "0",
            },
            capture_output=True,
            text=True,
            cwd=root,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return request.param, root, done.stdout


def test_every_script_is_run_by_a_command_of_the_readme():
    typed = [line for block in to_run() for line in block]
    assert len(table_commands()) >= 30
    assert len(chosen_blocks("quick")) >= 20
    chosen = [block for part in ("quick", *SLOW_TASKS) for block in chosen_blocks(part)]
    assert all(block in chosen for block in to_run())
    for path in (*SCRIPTS, *SHELLS):
        called = f"python {path.name}" if path.suffix == ".py" else f"bash {path.name}"
        shells = [shell.read_text(encoding="utf-8") for shell in path.parent.glob("*.sh")]
        direct = any(called in line for line in [*typed, *ELSEWHERE])
        assert direct or any(path.name in shell for shell in shells), path


def test_every_command_ran_to_its_end(session):
    part, _, shown = session
    lines = [line for block in chosen_blocks(part) for line in block]
    missing = [line for line in lines if f"$ {line}\n" not in shown]
    assert lines
    assert not missing


def test_every_file_of_the_handover_table_is_there(session):
    part, root, _ = session
    section = README.split("\n## What one stage hands to the next\n")[1].split("\n### ")[0]
    paths = re.findall(r"`((?:RM_Data_Anno|NL_\w+)/[^`]+)`", section)
    mine = part if part in SLOW_TASKS else "SLF5K"
    own = [path for path in paths if mine in path]
    if part == "UltraFeedback":  # the table says that it is as for SLF5K
        own = [p.replace("SLF5K", part).replace("slf5k", "ultrafeedback") for p in paths]
        own = [path for path in own if part in path]
    assert len(own) >= (3 if part == "KodCode" else 12)
    assert [path for path in own if not (root / path).exists()] == []


@pytest.mark.parametrize(
    ("folder", "checkpoint"),
    [
        ("NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k", "2_12"),
        ("NL_Gradient_Policy_Optimization/SLF5K/ckpt/sft", ""),
        ("NL_Gradient_Policy_Optimization/SLF5K/ckpt/text2grad_slf5k", "epoch_3_step_4"),
    ],
)
def test_a_run_folder_tells_what_was_run(session, folder, checkpoint):
    part, root, _ = session
    if part in SLOW_TASKS:
        folder = folder.replace("SLF5K", part).replace("slf5k", part.lower())
        checkpoint = ""
    run = json.loads((root / folder / "config.json").read_text(encoding="utf-8"))
    assert run["flags"]["seed"] == 42
    assert any(str(value).startswith("meta-llama/Llama-3.") for value in run["flags"].values())
    assert run["versions"]["torch"]
    assert "commit" in run
    read = [path for path in run["data_sha256"].values() if re.fullmatch(r"[0-9a-f]{64}", path)]
    assert read == list(run["data_sha256"].values()) != []
    assert (root / folder / "final/adapter_model.safetensors").exists()
    assert (root / folder / checkpoint).is_dir()
    steps = root / folder / "metrics.jsonl"
    assert not steps.exists() or len(steps.read_text(encoding="utf-8").splitlines()) == 4
