"""The presets: what each launches can start, and fits the GPUs that it names."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from trees import ROOT, TREES, check_flags

sys.path.insert(0, str(ROOT / "benchmarks"))
import scaling

from text2grad.estimate_time import machine
from text2grad.plans import read_plan, sizes, takes
from text2grad.schema import UserError
from text2grad.tasks import TASKS

PRESETS = sorted((ROOT / "presets").glob("*.sh"))
STAGES = {"reward_model": "RewardTraining", "policy": "PpoStep"}
A100 = machine("A100-80GB")

every_stage = pytest.mark.parametrize("stage", STAGES)
every_preset = pytest.mark.parametrize("shell", PRESETS, ids=lambda shell: shell.stem)


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    """Nothing from outside counts."""
    for name in ("GPUS", "NODES", "SLOTS", "HOSTFILE", "MAIN_ADDRESS", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)


def test_one_for_each_task():
    assert {shell.stem for shell in PRESETS} == set(TASKS) == set(scaling.RECORDS)


@every_preset
@every_stage
def test_it_starts_the_shell_of_its_task_with_the_published_models(shell, stage):
    plan = read_plan(scaling.dry_run(shell, stage))
    tree = TREES[1 if stage == "reward_model" else 2]
    assert plan.script.parent.parent == ROOT / tree
    assert plan.script.parent.name.lower() == plan.args.task == shell.stem
    name = plan.args.base_model if stage == "reward_model" else plan.args.base_model_name
    size = "3.2-3B" if (stage, shell.stem) == ("policy", "kodcode") else "3.1-8B"
    assert name == f"meta-llama/Llama-{size}-Instruct"
    assert plan.args.dtype == "bf16"
    assert type(sizes(plan, scaling.read_shape(name))).__name__ == STAGES[stage]


@every_preset
@every_stage
def test_it_fits_the_gpus_that_it_names(shell, stage):
    text = shell.read_text(encoding="utf-8")
    memory = float(re.search(r"GPUs of (\d+) GB", text)[1]) * 1e9
    plan = read_plan(scaling.dry_run(shell, stage))
    named = re.search(rf"presets/{shell.stem}\.sh {stage}.*on (\d+) GPUs", text)
    assert plan.gpus == int(named[1])
    found = takes(plan, A100, 1000, scaling.read_shape("Llama-3.1-8B-Instruct"))
    assert found["memory"]["peak"] < memory
    assert found["fits"]
    assert found["gpu_hours"] > 0
    packed = read_plan(scaling.dry_run(shell, stage, ["--load_in_4bit", "true"]))
    less = takes(packed, A100, 1000, scaling.read_shape("Llama-3.1-8B-Instruct"))
    assert less["memory"]["weights"] < 0.45 * found["memory"]["weights"]


@every_preset
def test_the_published_batch_whatever_the_gpus(shell, monkeypatch):
    batches = set()
    for gpus in (1, 2, 4):
        monkeypatch.setenv("GPUS", str(gpus))
        plan = read_plan(scaling.dry_run(shell, "policy"))
        assert plan.gpus == gpus
        args = plan.args
        assert args.mini_batch_size * args.gradient_accumulation_steps * gpus == args.batch_size
        batches.add(args.batch_size)
    assert batches == {12 if shell.stem == "slf5k" else 64}


@every_preset
def test_flags_and_variables_go_through(shell, monkeypatch):
    monkeypatch.setenv("POLICY", "my/model")
    monkeypatch.setenv("STEPS", "7")
    args = read_plan(scaling.dry_run(shell, "policy", ["--seed", "3"])).args
    assert (args.base_model_name, args.steps, args.seed) == ("my/model", 7, 3)


@every_preset
def test_without_a_stage_it_says_which_there_are(shell):
    with pytest.raises(UserError, match=r"STAGE \(none\): reward_model or policy"):
        scaling.dry_run(shell, "")


def test_the_same_but_for_names_and_numbers():
    """What a preset decides is in its values; the text is one for all tasks."""
    shapes = set()
    for shell in PRESETS:
        text = shell.read_text(encoding="utf-8")
        names = [p.name for p in (ROOT / TREES[1]).iterdir() if p.name.lower() == shell.stem]
        text = re.sub("|".join([shell.stem, *names]), "TASK", text)
        shapes.add(re.sub(r"\b\d+B?\b|Llama-3\.\d", "N", text))
    assert len(shapes) == 1


# -- what cannot start


def test_a_batch_that_the_gpus_cannot_share_is_named(monkeypatch):
    monkeypatch.setenv("ACCUMULATION", "5")
    with pytest.raises(UserError, match=r"--batch_size 64 is not a multiple of .* 5"):
        read_plan(scaling.dry_run(ROOT / "presets/kodcode.sh", "policy", ["--batch_size", "64"]))


def test_a_deepspeed_file_that_contradicts_is_named(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 2}, "gradient_clipping": 3.0}')
    more = ["--deepspeed", str(file)]
    for stage in STAGES:
        with pytest.raises(UserError, match=r'ds.json: "gradient_clipping" is 3.0.*max_grad_norm'):
            read_plan(scaling.dry_run(ROOT / "presets/kodcode.sh", stage, more))


def test_what_the_file_leaves_out_is_what_deepspeed_takes(tmp_path):
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 2}}')
    shell, place = ROOT / "presets/kodcode.sh", []
    for more in ([], ["--deepspeed", str(file)]):
        place.append(read_plan(scaling.dry_run(shell, "reward_model", more)).place)
    assert [(one.zero_stage, one.bucket) for one in place] == [(2, 50_000_000), (2, 500_000_000)]


def test_a_model_that_is_too_large_does_not_fit(monkeypatch):
    monkeypatch.setenv("MODEL", "meta-llama/Llama-3.1-70B-Instruct")
    rows = scaling.preset("slf5k", "A100-80GB")
    assert [row["fits"] for row in rows] == ["no", "no"]


def test_a_preset_that_is_not_there_is_named():
    with pytest.raises(UserError, match="--preset mine: not one of kodcode, slf5k, ultrafeedback"):
        scaling.preset("mine", "A100-80GB")


# -- several machines, and Slurm


def slurm(job, task, tmp_path, nodes, *more):
    """The commands that a job's nodes would start; `srun` and `scontrol` stand in for Slurm's."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    srun = (
        "while [[ $1 == --* ]]; do [[ $1 == --ntasks=1 ]] && SLURM_NNODES=1; shift; done\n"
        'for ((i = 0; i < SLURM_NNODES; i++)); do SLURM_PROCID=$i "$@"; done\n'
    )
    names = 'for ((i = 1; i <= SLURM_NNODES; i++)); do echo "n$i"; done\n'
    for name, text in (("srun", srun), ("scontrol", names)):
        (tools / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "presets" / job), task, *more],
        cwd=ROOT,
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "DRY_RUN": "1",
            "PYTHON": "python",
            "SLURM_NNODES": str(nodes),
            "SLURM_JOB_NODELIST": "n[1-2]",
            "SLURM_GPUS_ON_NODE": "8",
            "SLURM_JOB_ID": "1234567",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@every_preset
@pytest.mark.parametrize("nodes", [1, 2])
def test_slurm_starts_the_policy_on_every_node(shell, nodes, tmp_path):
    # its batch of 12 is for 4 GPUs of one node
    more = ("--batch_size", "48", "--gradient_accumulation_steps", "3")
    more = more if shell.stem == "slf5k" else ()
    printed = slurm("policy.sbatch", shell.stem, tmp_path, nodes, *more)
    lines = [line for line in printed.splitlines() if ".py " in line]
    assert len(lines) == nodes
    for rank, line in enumerate(lines):
        words = shlex.split(line)
        if nodes > 1:
            assert words[words.index("--machine_rank") + 1] == str(rank)
            assert words[words.index("--main_process_ip") + 1] == "n1"
            assert words[words.index("--main_process_port") + 1] == "24567"
        plan = read_plan(line)
        assert plan.gpus == 8 * nodes
        assert plan.args.resume_from_checkpoint == "auto"


@every_preset
@pytest.mark.parametrize("nodes", [1, 2])
def test_slurm_starts_the_reward_model_on_its_first_node(shell, nodes, tmp_path):
    printed = slurm("reward_model.sbatch", shell.stem, tmp_path, nodes)
    assert len([line for line in printed.splitlines() if ".py " in line]) == 1
    plan = read_plan(printed)
    assert plan.gpus == 8 * nodes
    assert plan.args.resume_from_checkpoint == "auto"
    assert ("n2 slots=8" in printed) == (nodes == 2)


@pytest.mark.parametrize("job", ["policy.sbatch", "reward_model.sbatch"])
def test_a_job_names_no_account_no_partition_and_no_address(job):
    text = (ROOT / "presets" / job).read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(ROOT / "presets" / job)], check=True)
    options = re.findall(r"^#SBATCH --([\w-]+)", text, re.M)
    assert {"nodes", "gpus-per-node", "time", "signal", "requeue"} <= set(options)
    assert not {"account", "partition", "qos", "nodelist", "mail-user"} & set(options)
    assert not re.search(r"\d+\.\d+\.\d+\.\d+|@[a-z]", text)


def test_a_hostfile_of_ones_own_is_counted(tmp_path, monkeypatch):
    hosts = tmp_path / "hosts"
    hosts.write_text("n1 slots=4\nn2 slots=2\n")
    monkeypatch.setenv("HOSTFILE", str(hosts))
    assert read_plan(scaling.dry_run(ROOT / "presets/slf5k.sh", "reward_model")).gpus == 6


# -- what is printed


def test_figures_of_a_preset_as_json_and_as_a_table(monkeypatch, capsys, tmp_path):
    file = tmp_path / "table.md"
    words = ["scaling.py", "--preset", "kodcode", "--output_path", str(file)]
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    scaling.main()
    reward, policy = json.loads(capsys.readouterr().out)
    assert (reward["gpus"], policy["gpus"]) == (8, 8)
    phases = policy["phases"]
    assert policy["seconds"] == pytest.approx(sum(v for k, v in phases.items() if k != "step"))
    assert policy["updates"] == 624, "4 passes over 10,000 prompts, 64 at a time"
    assert policy["gpu_hours"] == pytest.approx(624 * policy["seconds"] * 8 / 3600)
    assert reward["updates"] == 1689, "3 passes over 9,000 examples, 16 at a time"
    text = file.read_text()
    assert text.startswith("Estimates, not measurements. A100-80GB: 312 TFLOP/s at 40%")
    assert f"| {policy['gigabytes']:.3f} | yes |" in text
    more = ["--stage", "policy", "--", "--ppo_epochs", "2"]
    monkeypatch.setattr(sys, "argv", [*words, *more])
    scaling.main()
    assert capsys.readouterr().out.startswith("Estimates, not measurements.")
    (half,) = scaling.preset("kodcode", "A100-80GB", more[-2:], ["policy"])
    assert 2 * half["phases"]["update"] == pytest.approx(phases["update"])


@every_preset
def test_every_flag_of_a_preset_is_one(shell):
    text = shell.read_text(encoding="utf-8")
    for stage in STAGES:
        printed = scaling.dry_run(shell, stage)
        words = shlex.split(printed)
        place = next(i for i, word in enumerate(words) if word.endswith(".py"))
        check_flags(read_plan(printed).script, words[place + 1 :])
    assert "set -euo pipefail" in text
