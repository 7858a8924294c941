"""PPO on two processes, plain and under a DeepSpeed engine, against one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from policy_ranks import build
from policy_runs import comparable, rows_of
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
CONFIG = HERE.parent / "NL_Gradient_Policy_Optimization/SLF5K/deepspeed.json"
FLAGS = {
    "steps": 3,
    "batch_size": 8,
    "mini_batch_size": 2,
    "learning_rate": 1e-3,
    "value_learning_rate": 5e-3,
    "lr_scheduler_type": "linear",
    "max_grad_norm": 0.05,  # every gradient is clipped
    "lora_r": 3,  # no process has an equal part of any matrix
    "logp_chunk_tokens": 5,
    "save_freq": 1,
    "ddp_timeout": 777,
}
RUNS = {
    "plain": {},
    # the first process by itself would go on, and skip nothing
    "stopped": {"steps": 2, "early_stopping": True, "target_kl": 1e-5, "log_ratio": 0.1},
    "skipped": {"steps": 2, "ratio_threshold": 3.0, "log_ratio": 2.0},
    # of the only validation prompt one process has nothing
    "unreadable": {"steps": 1, "unreadable": True, "eval_steps": 1, "eval_samples": 1},
    # one process needs fewer passes than the other
    "budget": {"steps": 2, "max_tokens_per_microbatch": 200, "gradient_checkpointing": True},
    "validated": {"steps": 1, "eval_steps": 1, "eval_samples": 5},
}


def weights(run: Path, saved: str = "final") -> dict[str, torch.Tensor]:
    names = ("adapter_model", "value_head")
    return {
        f"{name}.{key}": value
        for name in names
        for key, value in load_file(run / saved / f"{name}.safetensors").items()
    }


def settings_of(policy_files, folder, **flags):
    model, posts = policy_files
    flags = FLAGS | {"valid_data_file_path": posts} | flags
    return {"model": model, "posts": posts, "folder": str(folder), "flags": flags}


@pytest.fixture(scope="module")
def alone(policy_files, tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    settings = settings_of(policy_files, folder, gradient_accumulation_steps=4)
    for name, changes in RUNS.items():
        build(settings, name, **changes).train()
    return folder


def launcher(stage, port):
    """Start two processes: as the shells do, with their file or none, and as DeepSpeed does."""
    if stage in (1, 3):
        words = ["deepspeed.launcher.runner", "--num_accelerators", "2", "--master_port", port]
    else:
        file = str(CONFIG.with_name("accelerate_config.yaml"))
        words = ["accelerate.commands.launch", "--config_file", file, "--num_processes", "2"]
        words += ["--main_process_port", port]
    return [sys.executable, "-m", *words, str(HERE / "policy_ranks.py")]


@pytest.fixture(scope="module", params=[0, 1, 2, 3], ids=["plain", "zero1", "zero2", "zero3"])
def ranks(request, policy_files, tmp_path_factory):
    """The same runs on two processes, and more; (stage, folder, what each process found)."""
    stage = request.param
    folder = tmp_path_factory.mktemp(f"zero{stage}")
    flags = {"gradient_accumulation_steps": 2}
    if stage:
        config = json.loads(CONFIG.read_text(encoding="utf-8"))
        config["zero_optimization"]["stage"] = stage
        # every weight is cut, also the small ones
        config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        (folder / "deepspeed.json").write_text(json.dumps(config), encoding="utf-8")
        flags["deepspeed"] = str(folder / "deepspeed.json")
    more = {
        "resumed": {"resume_from_checkpoint": str(folder / "plain/epoch_1_step_2")},
        "sampled": {"steps": 1, "fixed": False, "eval_steps": 1, "eval_samples": 3},
        # as the presets start
        "bf16": {"steps": 1, "dtype": "bf16", "max_tokens_per_microbatch": 200},
    }
    settings = settings_of(policy_files, folder, **flags)
    settings |= {"runs": RUNS | more, "fetches": "sampled" if stage else ""}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [*launcher(stage, str(29610 + stage)), str(folder / "settings.json")],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    found = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    return stage, folder, found


def test_each_process_has_an_engine_of_the_stage(ranks):
    stage, _, found = ranks
    for one in found:
        assert one["engine"] == ("DeepSpeedEngine" if stage else "DistributedDataParallel")
        assert (one["processes"], one["training"], one["patience_seconds"]) == (2, False, 777)
        if stage:
            assert (one["stage"], one["accumulation"], one["clipping"]) == (stage, 2, 0.05)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(ranks, alone, name):
    _, folder, _ = ranks
    own, others = weights(folder / name), weights(alone / name)
    assert own.keys() == others.keys()
    for key, value in own.items():
        torch.testing.assert_close(value, others[key], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_write_what_one_writes(ranks, alone, name):
    """All figures of all steps but what a clock measured, and all samples in the same order."""
    _, folder, _ = ranks
    assert_same(comparable(rows_of(folder / name)), comparable(rows_of(alone / name)), 1e-5)
    samples = [rows_of(run / name, "samples.jsonl") for run in (folder, alone)]
    assert_same(*samples, 2e-4)  # they are rounded to four digits
    assert len(samples[0]) % 8 == 0


def assert_same(got, want, tolerance):
    """Equal but for the last digits of numbers, however deep they lie."""
    if isinstance(want, dict):
        assert got.keys() == want.keys()
        for key in want:
            assert_same(got[key], want[key], tolerance)
    elif isinstance(want, list):
        assert len(got) == len(want)
        for pair in zip(got, want, strict=True):
            assert_same(*pair, tolerance)
    elif isinstance(want, float):
        assert got == pytest.approx(want, abs=tolerance, rel=tolerance)
    else:
        assert got == want


def test_processes_make_as_many_passes_as_the_one_that_needs_most(ranks):
    (own, made), (other, other_made) = (one["passes"]["budget"] for one in ranks[2])
    assert own != other, "else nothing was to be evened out"
    assert made == other_made == [list(map(max, *pair)) for pair in zip(own, other, strict=True)]


def test_under_zero3_each_phase_gathers_the_weights_once(ranks):
    """However many tokens are sampled; only updates fetch module by module."""
    stage, _, found = ranks
    if not stage:
        return
    for one in found:
        seen = one["fetches"]
        for phase in ("collect", "_token_stats", "validate"):
            assert seen[phase] == {"calls": 1} | ({"whole": 1} if stage == 3 else {})
        assert ("modules" in seen["run"]) == (stage == 3)
        assert "whole" not in seen["run"]


def test_the_runs_are_what_they_are_for(alone):
    rows = {name: rows_of(alone / name) for name in RUNS}
    assert [row["updates"] for row in rows["plain"]] == [2, 2, 2]
    assert all(row["gradient_norm"] > 0.05 for row in rows["plain"])
    stopped = [(row["updates"], row["stopped_early"]) for row in rows["stopped"]]
    assert stopped == [(0, True), (1, True)]
    skipped = [(row["updates"], row["skipped_updates"]) for row in rows["skipped"]]
    assert skipped == [(0, 2), (2, 0)]
    (unreadable,), (validated,) = rows["unreadable"], rows["validated"]
    assert (unreadable["parse_rate"], unreadable["judged"]) == (0.5, 4)
    assert unreadable["unparseable"] == {"not JSON": 4}
    assert "valid_response_tokens" in unreadable
    assert (validated["valid_parse_rate"], validated["rejected_share"]) == (1.0, 0.25)


def test_all_processes_hold_the_same_weights(ranks):
    _, _, (first, second) = ranks
    assert first["digests"] == second["digests"]
    assert len(set(first["digests"].values())) == len(first["digests"]) - 1  # but for "resumed"


def test_a_resumed_run_is_bit_equal(ranks):
    for one in ranks[2]:
        assert one["digests"]["resumed"] == one["digests"]["plain"]


def test_a_base_in_bf16_has_an_adapter_in_fp32(ranks):
    folder = ranks[1] / "bf16"
    assert {value.dtype for value in weights(folder).values()} == {torch.float32}
    (row,) = rows_of(folder)
    assert row["updates"] == 2
    assert row["first_ratio"] == pytest.approx(1.0, abs=1e-6)


def test_one_process_goes_on_with_weights_and_step_of_two(ranks, policy_files, tmp_path, capsys):
    path = ranks[1] / "plain/epoch_1_step_2"
    settings = settings_of(policy_files, tmp_path, gradient_accumulation_steps=4)
    made = build(settings, "one", resume_from_checkpoint=str(path))
    made._run_steps = lambda bar: None
    made.train()
    said = capsys.readouterr().out
    assert f"{path}: written by 2 processes, and this run has 1: adapter, value head and" in said
    assert (made.step_number, made.weights.optimizer.state_dict()["state"]) == (2, {})
    own, others = weights(tmp_path / "one"), weights(path.parent, path.name)
    assert own.keys() == others.keys()
    assert all(torch.equal(own[key], value) for key, value in others.items())


@pytest.mark.parametrize("saved", ["sampled/final", "plain/epoch_0_step_1"])
def test_the_policy_loads_in_plain_libraries(ranks, policy_files, saved):
    base = AutoModelForCausalLM.from_pretrained(policy_files[0], dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, ranks[1] / saved).eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        trained = loaded(input_ids=ids).logits
        with loaded.disable_adapter():
            assert (loaded(input_ids=ids).logits - trained).abs().max() > 1e-3
