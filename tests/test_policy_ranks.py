"""PPO on two processes under a DeepSpeed engine, against one process without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from policy_ranks import build
from policy_runs import rows_of
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
    "logp_chunk_tokens": 5,
    "save_freq": 1,
}
RUNS = {
    "plain": {},
    "stopped": {"steps": 2, "early_stopping": True, "target_kl": 1e-5},
    "unreadable": {"steps": 1, "unreadable": True},
}
# metrics that are sums over all processes
GLOBAL = (
    *("updates", "skipped_updates", "stopped_early", "gradient_norm", "approx_kl"),
    *("clip_fraction", "policy_loss", "value_loss", "kl", "kl_coef", "learning_rate"),
    "return_scale",
)

pytestmark = pytest.mark.slow


def weights(run: Path) -> dict[str, torch.Tensor]:
    names = ("adapter_model", "value_head")
    return {
        f"{name}.{key}": value
        for name in names
        for key, value in load_file(run / f"final/{name}.safetensors").items()
    }


@pytest.fixture(scope="module")
def alone(policy_files, tmp_path_factory):
    """The runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    flags = FLAGS | {"gradient_accumulation_steps": 4}
    settings = {"model": policy_files[0], "posts": policy_files[1], "folder": str(folder)}
    for name, changes in RUNS.items():
        build(settings | {"flags": flags}, name, **changes).train()
    return folder


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda stage: f"zero{stage}")
def ranks(request, policy_files, tmp_path_factory):
    """The same runs on two processes, and more; (stage, folder, what each process found)."""
    folder = tmp_path_factory.mktemp(f"zero{request.param}")
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    config["zero_optimization"]["stage"] = request.param
    # every weight is cut, also the small ones
    config["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    (folder / "deepspeed.json").write_text(json.dumps(config), encoding="utf-8")
    more = {
        "resumed": {"resume_from_checkpoint": str(folder / "plain/epoch_1_step_2")},
        "sampled": {"steps": 1, "fixed": False},
    }
    settings = {
        "model": policy_files[0],
        "posts": policy_files[1],
        "folder": str(folder),
        "flags": FLAGS
        | {"gradient_accumulation_steps": 2, "deepspeed": str(folder / "deepspeed.json")},
        "runs": RUNS | more,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    launcher = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_accelerators", "2"]
    words = ["--master_port", str(29610 + request.param), str(HERE / "policy_ranks.py")]
    done = subprocess.run(
        [*launcher, *words, str(folder / "settings.json")],
        capture_output=True,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    found = [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in (0, 1)]
    return request.param, folder, found


def test_each_process_has_an_engine_of_the_stage(ranks):
    stage, _, found = ranks
    for one in found:
        assert (one["engine"], one["stage"]) == ("DeepSpeedEngine", stage)
        assert (one["processes"], one["accumulation"], one["clipping"]) == (2, 2, 0.05)
        assert not one["training"]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_learn_what_one_learns(ranks, alone, name):
    _, folder, _ = ranks
    own, others = weights(folder / name), weights(alone / name)
    assert own.keys() == others.keys()
    for key, value in own.items():
        torch.testing.assert_close(value, others[key], atol=1e-5, rtol=0)
    pairs = zip(rows_of(folder / name), rows_of(alone / name), strict=True)
    for row, other in pairs:
        assert {key: row[key] for key in GLOBAL if key in row} == pytest.approx(
            {key: other[key] for key in GLOBAL if key in other}, abs=1e-5
        )


def test_the_runs_are_what_they_are_for(alone):
    rows = {name: rows_of(alone / name) for name in RUNS}
    assert [row["updates"] for row in rows["plain"]] == [2, 2, 2]
    assert all(row["gradient_norm"] > 0.05 for row in rows["plain"])
    assert [(row["updates"], row["stopped_early"]) for row in rows["stopped"]] == [(1, True)] * 2
    assert rows["unreadable"][0]["parse_rate"] == 0.5


def test_all_processes_hold_the_same_weights(ranks):
    _, _, (first, second) = ranks
    assert first["digests"] == second["digests"]
    assert len(set(first["digests"].values())) == len(first["digests"]) - 1  # but for "resumed"


def test_a_resumed_run_is_bit_equal(ranks):
    for one in ranks[2]:
        assert one["digests"]["resumed"] == one["digests"]["plain"]


def test_the_policy_loads_in_plain_libraries(ranks, policy_files):
    base = AutoModelForCausalLM.from_pretrained(policy_files[0], dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, ranks[1] / "sampled/final").eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        trained = loaded(input_ids=ids).logits
        with loaded.disable_adapter():
            assert (loaded(input_ids=ids).logits - trained).abs().max() > 1e-3
