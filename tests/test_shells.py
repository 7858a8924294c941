"""The shells of the three trees, as a person uses them: edited on top, run from anywhere."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from trees import LAUNCH, ROOT, SHELLS, TREES, relative

every_shell = pytest.mark.parametrize("shell", SHELLS, ids=relative)
AWKWARD = ["two words", "", "it's", 'a "quote"', "$HOME", "back\\slash", "*", "ünï", "line\nbreak"]
# Stands in for Python: appends its working folder and its words to a file.
RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "$0" "$PWD" "$@" "<end>" >> "$RECORD"
"""


@pytest.fixture
def trees(tmp_path):
    """The trees in a folder with a space in its name, a `.venv`, and another python3 on PATH."""
    root = tmp_path / "my clone"
    for tree in TREES:
        shutil.copytree(ROOT / tree, root / tree, ignore=shutil.ignore_patterns("data", "ckpt"))
    for place in (root / ".venv/bin/python", tmp_path / "bin/python3", tmp_path / "bin/python"):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(RECORDER)
        place.chmod(0o755)
    return root


def start(trees, shell, *arguments, **variables):
    """Run a shell of the copy from another folder; (program, folder, words) of what it started."""
    record = trees.parent / "record"
    record.unlink(missing_ok=True)
    path = f"{trees.parent / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(trees / shell.relative_to(ROOT)), *arguments],
        env={"PATH": path, "RECORD": str(record), "GPUS": "0"} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    return done.stdout, recorded(record)


def recorded(record):
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    calls = [call.split("\0")[:-1] for call in text.split("<end>\0")[:-1]]
    return [(call[0], call[1], call[2:]) for call in calls]


def assignments(shell):
    """(name, default) of the lines between `cd` and the first other command."""
    text = shell.read_text(encoding="utf-8").split("\n\n", 2)[1]
    return [re.fullmatch(r"([A-Z_]+)=\$\{\1:-(.*)\}", line) for line in text.splitlines()]


@every_shell
def test_one_variable_a_line_on_top(shell):
    found = assignments(shell)
    assert len(found) >= 8
    assert all(found), "NAME=${NAME:-default}, nothing else"
    head, _, rest = shell.read_text(encoding="utf-8").partition("\n\n")
    assert head.splitlines()[0] == "#!/usr/bin/env bash"
    assert 'cd "$(dirname "${BASH_SOURCE[0]}")"' in head
    later = rest.partition("\n\n")[2]
    assert not re.search(r"\$\{[A-Z_]+:-[^}]+\}", later.replace("${PYTHON:-}", "")), "on top only"


@every_shell
def test_venv_is_found_without_activation(trees, shell):
    _, calls = start(trees, shell)
    assert calls
    for program, folder, words in calls:
        assert (Path(folder) / program).resolve() == trees / ".venv/bin/python"
        assert folder == str(trees / shell.parent.relative_to(ROOT))
        assert words[0].endswith(".py")


@every_shell
def test_without_venv_the_python_on_the_path_is_taken(trees, shell):
    shutil.rmtree(trees / ".venv")
    _, calls = start(trees, shell)
    assert {program for program, _, _ in calls} == {str(trees.parent / "bin/python3")}


@every_shell
def test_python_can_be_given(trees, shell):
    mine = trees.parent / "bin/python"
    _, calls = start(trees, shell, PYTHON=str(mine))
    assert {program for program, _, _ in calls} == {str(mine)}


@every_shell
def test_flags_given_come_last_and_unchanged(trees, shell):
    _, calls = start(trees, shell, *AWKWARD)
    assert calls[-1][2][-len(AWKWARD) :] == AWKWARD


@every_shell
def test_variables_from_outside_replace_the_defaults(trees, shell):
    for found in assignments(shell):
        name, default = found.groups()
        if name in LAUNCH:
            continue
        _, plain = start(trees, shell)
        _, changed = start(trees, shell, **{name: "my/value"})
        assert plain != changed, name
        words = json.dumps([words for _, _, words in changed])
        assert "my/value" in words, name
        assert default.startswith("$(") or all(
            part in json.dumps([words for _, _, words in plain]) for part in default.split()
        )


@every_shell
def test_a_dry_run_prints_lines_that_can_be_pasted(trees, shell):
    """Pasted into another shell, they start the same programs in the same folder."""
    _, started = start(trees, shell, *AWKWARD)
    printed, calls = start(trees, shell, *AWKWARD, DRY_RUN="1")
    assert not calls, "a dry run starts nothing"
    record = trees.parent / "record"
    subprocess.run(
        ["bash", "-c", printed], env={"PATH": os.environ["PATH"], "RECORD": str(record)}, check=True
    )
    assert recorded(record) == started
    assert len([line for line in printed.splitlines() if line.startswith("cd ")]) == len(started)
    assert shlex.split(printed.splitlines()[0])[:2] == ["cd", started[0][1]]


every_deepspeed = pytest.mark.parametrize(
    "shell", [shell for shell in SHELLS if shell.name.startswith("deepspeed_")], ids=relative
)


@every_deepspeed
def test_the_reward_model_trains_under_deepspeed_where_there_are_gpus(trees, shell):
    _, calls = start(trees, shell, GPUS="3")
    words = calls[-1][2]
    assert words[:4] == ["-m", "deepspeed.launcher.runner", "--num_gpus", "3"]
    assert words[4] == "train_rm.py"
    assert words[words.index("--deepspeed") + 1] == "deepspeed.json"
    _, calls = start(trees, shell, GPUS="0")
    assert calls[-1][2][calls[-1][2].index("--deepspeed") + 1] == ""


@every_deepspeed
def test_gpus_without_deepspeed_are_one_line(tmp_path, shell):
    """A Python without packages stands in for one without DeepSpeed."""
    bare = tmp_path / "python"
    bare.write_text(f'#!/usr/bin/env bash\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    done = subprocess.run(
        ["bash", str(shell)],
        env={"PATH": os.environ["PATH"], "PYTHON": str(bare), "GPUS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: GPUS=2: DeepSpeed is not installed; run bash env.sh, or set GPUS=0\n"
    )


every_policy = pytest.mark.parametrize(
    "shell",
    [s for s in SHELLS if s.name == f"train_{s.parent.name.lower()}.sh"],
    ids=relative,
)


def policy_words(trees, shell, **variables):
    """The words that start the policy's script, and the value of its `--deepspeed`."""
    words = start(trees, shell, **variables)[1][-1][2]
    place = words.index(shell.name.replace(".sh", ".py"))
    return words[: place + 1], words[words.index("--deepspeed") + 1]


@every_policy
def test_the_policy_is_one_process_unless_there_are_several_gpus(trees, shell):
    script = shell.name.replace(".sh", ".py")
    for gpus in ("0", "1"):
        assert policy_words(trees, shell, GPUS=gpus) == ([script], "")
    started, _ = policy_words(trees, shell, GPUS="4")
    assert started[:4] == ["-m", "accelerate.commands.launch", "--config_file", started[3]]
    assert (shell.parent / started[3]).is_file()
    assert started[4:] == ["--num_processes", "4", script]


@every_policy
def test_deepspeed_is_the_default_where_the_optimiser_can_be_sharded(trees, shell):
    found = {
        adafactor: policy_words(trees, shell, GPUS="4", ADAFACTOR=adafactor)[1]
        for adafactor in ("true", "false")
    }
    assert found == {"true": "", "false": "deepspeed.json"}
    assert policy_words(trees, shell, GPUS="0", DEEPSPEED="my.json")[1] == "my.json"


def test_the_policies_have_the_same_deepspeed_file():
    files = {s.parent / "deepspeed.json" for s in every_policy.args[1]}
    assert len(files) >= 2
    assert len({file.read_text(encoding="utf-8") for file in files}) == 1
