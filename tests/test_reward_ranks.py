"""The reward model on two processes under a DeepSpeed engine, against one process without one."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from annotated import row, save_base, write
from peft import PeftModel
from reward_ranks import train
from safetensors.torch import load_file
from tiny import TEXT
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
CONFIG = HERE.parent / "NL_Reward_Model/SLF5K/deepspeed.json"
BLANK = hashlib.sha256(b"[0, 0]").hexdigest()[:12]
ROWS, UPDATES = 18, 3  # updates of 8, 8 and 2 rows an epoch
FLAGS = {
    "dtype": "fp32",
    "lora_target_modules": ["all-linear"],
    "lora_dropout": 0.0,
    "lora_r": 3,  # no process has an equal part of any matrix
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "warmup_ratio": 0.0,
    "num_train_epochs": 2.0,
    "save_steps": 2,
    "max_grad_norm": 0.05,  # every gradient is clipped
}


def weights(folder):
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward")
    posts = [" ".join(TEXT.split()[start : start + 6 + 3 * start]) for start in range(ROWS + 8)]
    rows = [row(number, post) for number, post in enumerate(posts)]
    posts = [
        {"id": one["id"], "post": one["post"], "ideal_human_summary": "A dog."} for one in rows
    ]
    return {
        "folder": str(folder),
        "valid": write(folder / "valid.json", rows[ROWS:]),
        "posts": write(folder / "posts.json", posts[:4]),
        "flags": FLAGS
        | {
            "base_model": save_base(folder / "base"),
            "data_path": write(folder / "annotated.json", rows[:ROWS]),
        },
    }


@pytest.fixture(scope="module")
def alone(settings):
    """The run of one process; (folder, what it found)."""
    found = train(settings, "alone", per_device_train_batch_size=8)
    return Path(settings["folder"]) / "alone", found


@pytest.fixture(scope="module", params=[0, 1, 2, 3], ids=["plain", "zero1", "zero2", "zero3"])
def ranks(request, settings, alone, tmp_path_factory):
    """The same run on two processes, and more; (stage, folder, what each process found)."""
    folder = tmp_path_factory.mktemp(f"zero{request.param}")
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    config["zero_optimization"]["stage"] = request.param
    (folder / "deepspeed.json").write_text(json.dumps(config), encoding="utf-8")
    accumulated = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    short = {"max_steps": 1, "save_steps": 100}
    given = settings | {"folder": str(folder)}
    given["flags"] = settings["flags"] | {"per_device_train_batch_size": 4}
    if request.param:
        given["flags"]["deepspeed"] = str(folder / "deepspeed.json")
    given["runs"] = {
        "plain": {},
        "accumulated": accumulated,
        # in the middle of the second epoch
        "resumed": {"resume_from_checkpoint": str(folder / "plain/trainer/checkpoint-4")},
        # what one process without DeepSpeed has left
        "widened": {"resume_from_checkpoint": str(alone[0] / "trainer/checkpoint-4")},
        "recomputed": {"gradient_checkpointing": True, "max_steps": 2},
        "bf16": {"dtype": "bf16"} | short,
        "sft": {"sft": True, "data_path": settings["posts"]} | short,
    }
    (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2"]
    words = ["--master_port", str(29710 + request.param), str(HERE / "reward_ranks.py")]
    done = subprocess.run(
        [*launcher, *words, str(folder / "settings.json")],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    # of each run but one, by one process
    assert done.stdout.count(f"{ROWS} examples") == len(given["runs"]) - 1
    found = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    return request.param, folder, found


def test_each_process_has_an_engine_of_the_stage(ranks):
    stage, _, found = ranks
    for one in found:
        for name, run in one.items():
            assert run["processes"] == 2
            if not stage:
                assert run["engine"] == "DistributedDataParallel"
                continue
            assert (run["engine"], run["stage"]) == ("DeepSpeedEngine", stage)
            assert (run["clip"], run["accumulation"]) == (0.05, 2 if name == "accumulated" else 1)


@pytest.mark.parametrize(("name", "batch"), [("plain", 4), ("accumulated", 2)])
def test_every_row_is_trained_once_an_epoch(ranks, alone, name, batch):
    _, _, (first, second) = ranks
    half = len(first[name]["rows"]) // 2
    for part in (slice(0, half), slice(half, None)):
        passes = [one for run in (first, second) for one in run[name]["rows"][part]]
        counts = Counter(row for rows in passes for row in rows)
        assert counts.pop(BLANK) == -ROWS % (2 * batch)  # fills up the last batch of both
        assert set(counts.values()) == {1}
        assert counts.keys() == {row for rows in alone[1]["rows"] for row in rows}


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_processes_learn_what_one_learns(ranks, alone, name):
    _, folder, found = ranks
    ours, theirs = found[0][name]["log"], alone[1]["log"]
    assert len([line for line in ours if "loss" in line]) == 2 * UPDATES
    assert any("eval_loss" in line for line in ours)
    # the loss of the validation is a mean over batches, which are smaller in the other run
    keys = ["loss", "grad_norm", "learning_rate", *["eval_loss"] * (name == "plain")]
    for line, other in zip(ours, theirs, strict=True):
        for key in keys:
            assert line.get(key) == pytest.approx(other.get(key), abs=1e-5)
    assert all(line["grad_norm"] > 0.05 for line in ours if "grad_norm" in line)
    for saved in ("final", "0_2", "1_1", "1_3"):
        own, others = weights(folder / name / saved), weights(alone[0] / saved)
        assert own.keys() == others.keys()
        for key, value in own.items():
            torch.testing.assert_close(value, others[key], atol=1e-5, rtol=0)


def test_recomputed_activations_change_nothing(ranks, alone):
    own, others = weights(ranks[1] / "recomputed/final"), weights(alone[0] / "0_2")
    assert own.keys() == others.keys()
    for key, value in own.items():
        torch.testing.assert_close(value, others[key], atol=1e-5, rtol=0)


def test_a_resumed_run_is_bit_equal(ranks):
    _, folder, found = ranks
    for one in found:
        assert one["resumed"]["rows"] == one["plain"]["rows"][4:]
    own, whole = weights(folder / "resumed/final"), weights(folder / "plain/final")
    assert all(torch.equal(own[key], value) for key, value in whole.items())


def assert_same_fifth_update(*logs):
    """It depends on the adapter after the fourth, the place in the data and the schedule."""
    own, other = (
        next(line for line in log if line["step"] == 5 and "loss" in line) for log in logs
    )
    for key in ("loss", "grad_norm", "learning_rate"):
        assert own[key] == pytest.approx(other[key], abs=1e-5)


def test_two_processes_go_on_where_one_was(ranks, alone):
    """Under DeepSpeed with adapter, step and place in the data, else with the optimiser too."""
    stage, folder, found = ranks
    assert [len(one["widened"]["rows"]) for one in found] == [2, 2]
    assert_same_fifth_update(found[0]["widened"]["log"], alone[1]["log"])
    own, others = weights(folder / "widened/final"), weights(alone[0] / "final")
    apart = max((own[key] - value).abs().max().item() for key, value in others.items())
    assert apart > 1e-4 if stage else apart < 1e-5


def test_one_process_goes_on_where_two_were(ranks, settings, alone, tmp_path):
    state = str(ranks[1] / "plain/trainer/checkpoint-4")
    flags = {"per_device_train_batch_size": 8, "resume_from_checkpoint": state}
    found = train(settings | {"folder": str(tmp_path)}, "narrowed", **flags)
    assert len(found["rows"]) == 2
    assert_same_fifth_update(found["log"], alone[1]["log"])


def test_a_base_in_bf16_has_an_adapter_in_fp32(ranks):
    _, folder, found = ranks
    assert {value.dtype for value in weights(folder / "bf16/final").values()} == {torch.float32}
    assert any(value.any() for key, value in weights(folder / "bf16/final").items() if "_B" in key)
    assert found[0]["bf16"]["log"][0]["loss"] == pytest.approx(
        found[0]["plain"]["log"][0]["loss"], abs=0.05
    )


@pytest.mark.parametrize("name", ["plain/final", "plain/0_2", "sft/final"])
def test_the_adapter_loads_in_plain_libraries(ranks, settings, name):
    base = AutoModelForCausalLM.from_pretrained(settings["flags"]["base_model"], dtype="float32")
    loaded = PeftModel.from_pretrained(base, ranks[1] / name).eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        trained = loaded(input_ids=ids).logits
        with loaded.disable_adapter():
            assert (loaded(input_ids=ids).logits - trained).abs().max() > 1e-4
