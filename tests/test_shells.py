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
    """(program, folder, words) of every call; `exec` spells a path out, a call does not."""
    text = record.read_text(encoding="utf-8") if record.exists() else ""
    calls = [call.split("\0")[:-1] for call in text.split("<end>\0")[:-1]]
    return [(os.path.normpath(Path(call[1], call[0])), call[1], call[2:]) for call in calls]


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
    assert started[4:] == ["--num_processes", "4", "--num_machines", "1", script]


@every_policy
@pytest.mark.parametrize("gpus", ["0", "3"])
def test_several_machines_get_the_same_command_but_for_their_number(trees, shell, gpus):
    """A machine without a GPU has one process; batch and DeepSpeed follow all processes."""
    given = {"NODES": "2", "MAIN_ADDRESS": "first.example", "MAIN_PORT": "4321", "GPUS": gpus}
    given["ADAFACTOR"] = "false"
    machines = [policy_words(trees, shell, NODE_RANK=rank, **given) for rank in ("0", "1")]
    for rank, (words, deepspeed) in enumerate(machines):
        assert words[2:] == [
            *("--config_file", "accelerate_config.yaml"),
            *("--num_processes", str(2 * max(int(gpus), 1)), "--num_machines", "2"),
            *("--machine_rank", str(rank)),
            *("--main_process_ip", "first.example", "--main_process_port", "4321"),
            shell.name.replace(".sh", ".py"),
        ]
        assert deepspeed == ("deepspeed.json" if gpus == "3" else "")


@every_policy
def test_the_batch_grows_with_the_processes(trees, shell):
    def batch(**variables):
        words = start(trees, shell, **variables)[1][-1][2]
        return int(words[words.index("--batch_size") + 1])

    places = {"MAIN_ADDRESS": "first.example", "NODE_RANK": "0"}
    one = batch(GPUS="0")
    assert one == batch(GPUS="1")
    assert batch(GPUS="3") == 3 * one
    assert batch(GPUS="3", NODES="2", **places) == 6 * one
    assert batch(GPUS="0", NODES="2", **places) == 2 * one


def refused(trees, shell, **variables):
    """The one line that a shell says before it stops with status 2."""
    with pytest.raises(subprocess.CalledProcessError) as raised:
        start(trees, shell, **variables)
    assert raised.value.returncode == 2
    assert not recorded(trees.parent / "record")
    (line,) = raised.value.stderr.splitlines()
    return line


@every_policy
@pytest.mark.parametrize("given", [{"NODE_RANK": "1"}, {"MAIN_ADDRESS": "first.example"}])
def test_several_machines_need_a_number_and_the_first_one(trees, shell, given):
    line = refused(trees, shell, NODES="2", GPUS="2", **given)
    assert line.startswith("error: NODES=2: set MAIN_ADDRESS, ")
    assert "NODE_RANK" in line


@every_policy
@pytest.mark.parametrize("said", ["num_processes: 8", "num_machines: 3"])
def test_a_launcher_file_that_counts_otherwise_is_named_with_the_variables(trees, shell, said):
    file = (trees / shell.relative_to(ROOT)).parent / "accelerate_config.yaml"
    with file.open("a", encoding="utf-8") as out:
        out.write(f"{said}\n")
    line = refused(trees, shell, GPUS="4")
    counted = "num_processes: 4" if "processes" in said else "num_machines: 1"
    assert line == (
        f"error: {said} of accelerate_config.yaml contradicts GPUS=4 and NODES=1, {counted}; "
        "remove that line"
    )
    assert start(trees, shell, GPUS="0")[1], "one process has no launcher"


@every_policy
def test_a_launcher_file_that_counts_alike_is_let_be(trees, shell):
    file = (trees / shell.relative_to(ROOT)).parent / "accelerate_config.yaml"
    with file.open("a", encoding="utf-8") as out:
        out.write("num_processes: 4\nnum_machines: 1\n")
    assert start(trees, shell, GPUS="4")[1]


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
