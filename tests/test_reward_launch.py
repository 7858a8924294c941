"""The reward model's shells on several machines."""

import os
import shlex
import subprocess
import sys

import pytest
from annotated import POSTS, row, save_base, write
from trees import ROOT, SHELLS, relative

REWARD = [shell for shell in SHELLS if shell.name.startswith("deepspeed_")]
every_shell = pytest.mark.parametrize("shell", REWARD, ids=relative)
# Stands in for pdsh: starts the command on "machines" that are processes of this one.
PDSH = """#!/usr/bin/env bash
set -eu
while [ "$1" != -w ]; do shift; done
machines=(${2//,/ })
shift 2
for rank in "${!machines[@]}"; do
    echo "$PDSH_RCMD_TYPE ${machines[rank]}" >> "$PDSH_LOG"
    command=$*
    bash -c "${command//%n/$rank}" &
done
for rank in "${!machines[@]}"; do wait -n; done
"""


def run(shell, *arguments, **variables):
    given = {"PATH": os.environ["PATH"], "PYTHON": "python", "GPUS": "0"}
    return subprocess.run(
        ["bash", str(shell), *arguments],
        env=given | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@every_shell
@pytest.mark.parametrize("names", ["node1,node2", "node1 node2", "node1, node2", "node1\nnode2"])
def test_a_dry_run_writes_the_hostfile_when_it_is_pasted(shell, names, tmp_path):
    """The command that follows is DeepSpeed's for several machines."""
    output = tmp_path / "my run"
    given = {"NODES": names, "SLOTS": "4", "OUTPUT": str(output), "DRY_RUN": "1"}
    printed = run(shell, **given, MAIN_PORT="4321").stdout
    assert not output.exists()
    *first, last = printed.splitlines()
    subprocess.run(["bash", "-c", "\n".join(first)], check=True)
    assert (output / "hostfile").read_text() == "node1 slots=4\nnode2 slots=4\n"
    words = shlex.split(last)
    assert words[:4] == ["cd", str(shell.parent), "&&", "python"]
    assert words[4:] == [
        *("-m", "deepspeed.launcher.runner", "--hostfile", str(output / "hostfile")),
        *("--force_multi", "--master_port", "4321", "train_rm.py", *words[12:]),
    ]
    assert words[words.index("--deepspeed") + 1] == "deepspeed.json"


@every_shell
def test_slots_are_the_gpus_of_this_machine_unless_they_are_given(shell):
    printed = run(shell, NODES="node1", GPUS="8", DRY_RUN="1", MAIN_ADDRESS="node1.fast").stdout
    assert "\nnode1 slots=8\nEND\n" in printed
    assert " --master_addr node1.fast train_rm.py " in printed


@every_shell
def test_a_hostfile_can_be_given(shell, tmp_path):
    file = tmp_path / "machines"
    file.write_text("node1 slots=2\nnode2 slots=4\n")
    printed = run(shell, HOSTFILE=str(file), DRY_RUN="1").stdout
    assert f"-m deepspeed.launcher.runner --hostfile {file} --force_multi " in printed
    assert printed.count("\n") == 1


@every_shell
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"NODES": "2", "SLOTS": "4"}, "NODES=2: expected the names of the machines, "),
        ({"NODES": "a;b", "SLOTS": "4"}, "NODES=a;b: expected the names of the machines, "),
        ({"NODES": "a"}, "SLOTS=0: expected how many GPUs each of NODES=a has"),
        ({"NODES": "a", "SLOTS": "two"}, "SLOTS=two: expected how many GPUs each of NODES=a has"),
        ({"NODES": "a", "HOSTFILE": "b"}, "NODES=a: HOSTFILE=b names the machines too"),
        ({"SLOTS": "4"}, "SLOTS=4: the GPUs of each of NODES, which is not set"),
        ({"HOSTFILE": "none/such"}, "HOSTFILE=none/such: no such file; "),
        ({"HOSTFILE": "deepspeed.json"}, "HOSTFILE=deepspeed.json: needs pdsh; "),
    ],
)
def test_a_mistake_is_one_line(shell, given, message, tmp_path):
    for name in ("bash", "dirname", "grep"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = run(shell, **given, PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_processes_of_two_machines_train_together(tmp_path):
    """DeepSpeed's launcher for several machines, one process on each."""
    for name, text in (("pdsh", PDSH), ("ssh", "#!/usr/bin/env bash\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    rows = [row(number, post) for number, post in enumerate(POSTS)]
    given = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "PDSH_LOG": str(tmp_path / "log"),
        "NODES": "node1 node2",
        "SLOTS": "1",
        "MAIN_ADDRESS": "127.0.0.1",
        "MAIN_PORT": "29730",
        "MODEL": save_base(tmp_path / "base"),
        "DATA": write(tmp_path / "train.json", rows[:4]),
        "VALID": write(tmp_path / "valid.json", rows[4:]),
        "OUTPUT": str(tmp_path / "run"),
    }
    flags = ["--max_steps", "1", "--dtype", "fp32", "--data_dir", str(tmp_path / "data")]
    (shell,) = [shell for shell in REWARD if shell.parent.name == "SLF5K"]
    done = run(shell, *flags, **given)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert (tmp_path / "log").read_text() == "ssh node1\nssh node2\n"
    assert done.stdout.count("4 examples") == 1
    assert (tmp_path / "run/final/adapter_model.safetensors").exists()
    assert not list((tmp_path / "run").glob("trainer/*/rng_state.pth"))
    assert len(list((tmp_path / "run").glob("trainer/*/rng_state_*.pth"))) == 2
