import hashlib
import json
import os
import re
import resource
import shutil
import signal

import pytest
import torch
from peft import PeftModel
from policy_runs import (
    FakeCritic,
    comparable,
    rows_of,
    trained_weights,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from text2grad.policy import ValueHead
from text2grad.schema import UserError
from text2grad.whole_folder import clear_unfinished, write_manifest


def assert_same_run(one, other):
    weights, others = trained_weights(one), trained_weights(other)
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert weights.keys() == others.keys()
    assert comparable(rows_of(one.output_dir)) == comparable(rows_of(other.output_dir))
    samples = [rows_of(made.output_dir, "samples.jsonl") for made in (one, other)]
    assert samples[0] == samples[1]


@pytest.mark.parametrize("adafactor", [False, True])
def test_resume_after_a_crash_is_bit_equal(make, adafactor):
    flags = {"steps": 6, "save_freq": 3, "lr_scheduler_type": "linear", "adafactor": adafactor}
    whole = make(folder="whole", **flags)
    whole.train()
    killed = make(folder="killed", **flags)
    step = killed.step

    def step_or_die(records):
        if killed.step_number == 5:  # two steps past the checkpoint, which must be redone
            raise RuntimeError("killed")
        return step(records)

    killed.step = step_or_die
    with pytest.raises(RuntimeError, match="killed"):
        killed.train()
    assert len(rows_of(killed.output_dir)) == 5
    resumed = make(folder="killed", resume_from_checkpoint="auto", **flags)
    resumed.train()
    assert_same_run(whole, resumed)
    record = json.loads((resumed.output_dir / "config.json").read_text())
    assert record["resumed_from"].endswith("epoch_1_step_3")


def test_resume_of_a_longer_run_is_bit_equal(make):
    make(folder="whole", steps=4).train()
    make(folder="half", steps=2).train()
    resumed = make(folder="half", steps=4, resume_from_checkpoint="auto")
    resumed.train()
    other = make(folder="whole", steps=4, resume_from_checkpoint="auto")
    other.train()  # nothing left to do
    assert_same_run(other, resumed)


def test_another_run_is_never_mixed_in(make):
    make(steps=1).train()
    with pytest.raises(UserError, match=r"--output_dir .*--resume_from_checkpoint auto, or choose"):
        make(steps=1).train()


def test_a_damaged_newest_checkpoint_is_named_and_skipped(make, capsys):
    made = make(steps=2, save_freq=1)
    made.train()
    newest = made.output_dir / "epoch_0_step_2"
    weights = newest / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (made.output_dir / "epoch_0_step_2_merge").mkdir()  # what merge_lora.py leaves
    resumed = make(steps=2, save_freq=1, resume_from_checkpoint="auto")
    resumed.train()
    fault = f"skipping checkpoint {newest}: adapter_model.safetensors is damaged"
    assert fault in capsys.readouterr().out
    assert len(rows_of(made.output_dir)) == 2
    weights.write_bytes(data)
    asked = make(steps=2, resume_from_checkpoint=str(newest))
    with pytest.raises(UserError, match=r"--resume_from_checkpoint .*safetensors is damaged"):
        asked.train()


DAMAGES = {
    "truncated": (
        lambda path: os.truncate(path / "optimizer.pt", 100),
        r"optimizer.pt has 100 byt",
    ),
    "missing": (
        lambda path: (path / "value_head.safetensors").unlink(),
        r"value_head.* is missing",
    ),
    "unproved": (lambda path: (path / "manifest.json").unlink(), r"no readable manifest.json"),
    "empty": (
        lambda path: (path / "manifest.json").write_text("{}"),
        r"manifest.json lists no fil",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_is_named_and_the_one_before_is_taken(make, capsys, kind):
    flags = {"steps": 2, "save_freq": 1}
    made = make(**flags)
    made.train()
    whole = trained_weights(made)
    first, newest = made.output_dir / "epoch_0_step_1", made.output_dir / "epoch_0_step_2"
    spoil, fault = DAMAGES[kind]
    spoil(newest)
    resumed = make(resume_from_checkpoint="auto", **flags)
    resumed.train()
    said = capsys.readouterr().out
    assert re.search(f"skipping checkpoint {newest}: {fault}", said)
    assert f"going on from {first}\n" in said
    assert all(torch.equal(value, whole[name]) for name, value in trained_weights(resumed).items())
    spoil(newest)
    spoil(first)
    with pytest.raises(UserError, match=r"auto: no checkpoint in .* is whole; remove them"):
        make(resume_from_checkpoint="auto", **flags).train()
    with pytest.raises(UserError, match=f"--resume_from_checkpoint {first}: {fault}"):
        make(resume_from_checkpoint=str(first), **flags).train()


def test_the_manifest_names_what_is_there(make):
    made = make(steps=1)
    made.train()
    path = made.output_dir / "epoch_0_step_1"
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["format"], manifest["step"], manifest["processes"]) == (1, 1, 1)
    names = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert manifest["files"].keys() == names - {"manifest.json"}
    assert manifest["files"]["optimizer.pt"] == {
        "size": (path / "optimizer.pt").stat().st_size,
        "sha256": hashlib.sha256((path / "optimizer.pt").read_bytes()).hexdigest(),
    }


def test_a_replacement_that_was_cut_off_is_undone(tmp_path):
    for name in (".a.old", ".b.old", "b", ".c.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    clear_unfinished(tmp_path)
    left = {path.parent.name: path.read_text() for path in tmp_path.glob("*/file")}
    assert left == {"a": ".a.old", "b": "b"}


def test_another_number_of_processes_goes_on_with_weights_and_step(make, capsys):
    flags = {"steps": 4, "lr_scheduler_type": "linear", "warmup_steps": 1}
    made = make(folder="two", save_freq=2, **flags)
    made.train()
    path = made.output_dir / "epoch_0_step_2"
    saved = torch.load(path / "optimizer.pt", weights_only=True)
    saved["processes"] *= 2
    torch.save(saved, path / "optimizer.pt")
    write_manifest(path, 2, 2)
    resumed = make(folder="two", resume_from_checkpoint=str(path), **flags)
    resumed._run_steps = lambda bar: None
    torch.manual_seed(0)
    resumed.train()
    said = [line for line in capsys.readouterr().out.split("\n") if "processes" in line]
    assert said == [
        f"{path}: written by 2 processes, and this run has 1: adapter, value head and step go on, "
        "optimiser and random generators start anew"
    ]
    assert resumed.step_number == 2
    head = load_file(path / "value_head.safetensors")
    assert torch.equal(
        resumed.policy.value_head.state_dict()["linear.weight"], head["linear.weight"]
    )
    optimizer = resumed.weights.optimizer
    assert not optimizer.state_dict()["state"]
    # 1 of 4 steps of warm-up, 3 down to 0: after 2 steps two thirds of 1e-2
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-2 * 2 / 3] * 2)


@pytest.fixture
def limit_files():
    """Makes every write fail that would bring a file beyond a size, as a full disk does."""
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size=old[0]: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_full_disk_leaves_the_old_checkpoint(make, limit_files):
    made = make(steps=1)
    made.train()
    checkpoint = made.output_dir / "epoch_0_step_1"
    before = contents(checkpoint)
    for size in sorted(
        {len(data) for data in before.values()}
    ):  # each time another file is the first that does not fit
        limit_files(size - 1)
        with pytest.raises(UserError, match=r"--output_dir .*epoch_0_step_1: cannot be written"):
            made.checkpoints.save(made.step_number)
        limit_files()
        assert contents(checkpoint) == before
        assert not [path for path in made.output_dir.iterdir() if path.name.startswith(".")]
    made.checkpoints.save(made.step_number)


def test_checkpoints_are_pruned_and_the_last_step_is_saved(make):
    made = make(steps=3, save_freq=1, save_total_limit=2)
    made.train()
    found = sorted(path.name for path in made.output_dir.glob("epoch_*"))
    assert found == ["epoch_0_step_2", "epoch_1_step_3"]


def test_the_final_policy_loads_in_plain_libraries(make, policy_files):
    made = make(steps=2)
    made.train()
    final = made.output_dir / "final"
    base = AutoModelForCausalLM.from_pretrained(policy_files[0], dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, final).eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        own = made.policy.lm(input_ids=ids).logits
        torch.testing.assert_close(loaded(input_ids=ids).logits, own, atol=1e-5, rtol=1e-4)
        with loaded.disable_adapter():
            assert (loaded(input_ids=ids).logits - own).abs().max() > 1e-3  # it was trained
    head = ValueHead(32)
    missing = head.load_state_dict(load_file(final / "value_head.safetensors"), strict=True)
    assert not missing.missing_keys
    assert head.linear.weight.abs().max() > 0
    assert torch.equal(head.linear.weight, made.policy.value_head.linear.weight)


# -- the best checkpoint


def with_scores(made, *scores):
    """Let the validations of a run say these scores, the first at its first step."""
    made.validate = lambda: {"valid_score": scores[made.step_number - 1]}
    return made


def steps_kept(made):
    return sorted(int(path.name.rpartition("_")[2]) for path in made.output_dir.glob("epoch_*"))


def marker(made):
    return json.loads((made.output_dir / "best.json").read_text())


@pytest.fixture
def valid(make, policy_files):
    """Builds a trainer that validates at every step."""
    flags = {"valid_data_file_path": policy_files[1], "eval_steps": 1}
    return lambda **changes: make(**flags | changes)


def test_the_best_checkpoint_is_written_kept_and_named(valid, capsys):
    made = with_scores(valid(steps=5, save_total_limit=1), -0.5, 0.25, 0.1, None, 0.25)
    made.train()
    assert steps_kept(made) == [2, 5]  # the best one, and the newest
    wanted = {"step": 2, "valid_score": 0.25, "checkpoint": "epoch_0_step_2"}
    assert marker(made) == wanted
    path = made.output_dir / "epoch_0_step_2"
    assert f"best validation score +0.2500 at step 2: {path}\n" in capsys.readouterr().out
    best = load_file(path / "adapter_model.safetensors")
    last = load_file(made.output_dir / "epoch_2_step_5" / "adapter_model.safetensors")
    assert any(not torch.equal(best[name], last[name]) for name in best)


def test_a_resumed_run_keeps_the_best(valid):
    flags = {"save_total_limit": 1, "save_freq": 1}
    with_scores(valid(steps=3, **flags), 0.1, 0.5, 0.2).train()
    resumed = valid(steps=5, resume_from_checkpoint="auto", **flags)
    with_scores(resumed, None, None, None, 0.4, 0.3).train()
    assert steps_kept(resumed) == [2, 5]
    assert marker(resumed)["step"] == 2


def test_the_best_of_steps_that_are_done_again_is_forgotten(valid):
    made = with_scores(valid(steps=3, save_freq=1), 0.1, 0.2, 0.9)
    made.train()
    back = valid(steps=3, resume_from_checkpoint=str(made.output_dir / "epoch_0_step_2"))
    with_scores(back, None, None, 0.0).train()
    assert marker(back)["step"] == 2
    again = valid(steps=3, resume_from_checkpoint=str(made.output_dir / "epoch_0_step_1"))
    with_scores(again, None, 0.15, 0.05).train()
    assert marker(again) == {"step": 2, "valid_score": 0.15, "checkpoint": "epoch_0_step_2"}


def test_a_best_that_was_removed_is_not_named(valid, capsys):
    made = with_scores(valid(steps=2), 0.5, 0.1)
    made.train()
    shutil.rmtree(made.output_dir / "epoch_0_step_1")
    resumed = valid(steps=3, resume_from_checkpoint="auto")
    with_scores(resumed, None, None, None).train()
    assert not (made.output_dir / "best.json").exists()
    assert capsys.readouterr().out.count("best validation score") == 1


def test_a_validation_without_readable_critiques_is_no_best(valid):
    critic = FakeCritic(fails=lambda record: True)
    made = valid(critic=critic, steps=1, eval_samples=2)
    made.train()
    (row,) = rows_of(made.output_dir)
    assert row["valid_parse_rate"] == 0
    assert "valid_score" not in row
    assert not (made.output_dir / "best.json").exists()


def test_the_best_score_is_the_validation_of_its_step(valid):
    made = valid(steps=2, eval_samples=2)
    made.train()
    rows = rows_of(made.output_dir)
    best = max(rows, key=lambda row: row["valid_score"])
    assert (marker(made)["step"], marker(made)["valid_score"]) == (
        best["step"],
        best["valid_score"],
    )
