import json
import resource
import signal

import pytest
import torch
from peft import PeftModel
from policy_runs import (
    comparable,
    rows_of,
    trained_weights,
)
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from text2grad.policy import ValueHead
from text2grad.schema import UserError


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
            made.save()
        limit_files()
        assert contents(checkpoint) == before
        assert not [path for path in made.output_dir.iterdir() if path.name.startswith(".")]
    made.save()


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
