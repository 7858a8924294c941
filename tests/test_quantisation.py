"""A base model in 4 bits: what is asked of the libraries, and where it is refused."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from annotated import POSTS, row, save_base, write
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from text2grad.config import MergeConfig, PolicyConfig, RewardTrainConfig
from text2grad.models import merge_lora
from text2grad.quantisation import packed
from text2grad.reward_model import train_reward_model
from text2grad.schema import UserError
from text2grad.target_trainer import TargetTrainer

PACKED = RewardTrainConfig(load_in_4bit=True, dtype="bf16")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU and bitsandbytes, as far as they are asked for."""
    find = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "bitsandbytes" or find(name)
    )


def test_without_the_flag_nothing_is_asked_for():
    assert packed(RewardTrainConfig()) == packed(PolicyConfig()) == {}


def test_bitsandbytes_is_imported_only_where_it_is_asked_for():
    code = "import sys, text2grad.supervised; sys.exit('bitsandbytes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_settings_are_those_of_qlora(gpu, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    found = packed(PACKED)
    settings = found["quantization_config"]
    assert (settings.load_in_4bit, settings.bnb_4bit_quant_type) == (True, "nf4")
    assert settings.bnb_4bit_use_double_quant
    assert settings.bnb_4bit_compute_dtype == torch.bfloat16
    assert found["device_map"] == {"": 3}, "each process has its own GPU"


def test_without_a_gpu_it_is_refused():
    with pytest.raises(UserError, match=r"^--load_in_4bit true: no GPU is visible; leave the flag"):
        packed(PACKED)


def test_without_bitsandbytes_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"bitsandbytes is not installed; pip install bitsandbytes"):
        packed(PACKED)


def test_a_start_adapter_is_not_merged_into_packed_weights():
    with pytest.raises(UserError, match=r"^--base_model_adapter_model ckpt/sft: .*--load_in_4bit"):
        PolicyConfig(load_in_4bit=True, base_model_adapter_model="ckpt/sft")


def test_the_adapter_of_a_packed_base_is_fp32_and_merges_into_the_whole_one(tmp_path, monkeypatch):
    """The model is a whole one in truth, but TRL is told that it is packed."""
    asked = []
    load = AutoModelForCausalLM.from_pretrained

    def load_packed(name, **settings):
        asked.append(settings.pop("quantization_config", None))
        return load(name, **settings)

    class PackedTrainer(TargetTrainer):
        def __init__(self, model, **more):
            base = model.get_base_model()
            base.is_loaded_in_4bit = True  # for which TRL rounds the adapter to bf16
            super().__init__(model=model, **more)
            base.is_loaded_in_4bit = False
            assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.bfloat16}

    monkeypatch.setattr("text2grad.supervised.TargetTrainer", PackedTrainer)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_packed)
    monkeypatch.setattr(
        "text2grad.supervised.packed", lambda args: {"quantization_config": args.load_in_4bit}
    )
    run = tmp_path / "run"
    train_reward_model(
        RewardTrainConfig(
            base_model=save_base(tmp_path / "base"),
            data_path=write(tmp_path / "rows.json", [row(*one) for one in enumerate(POSTS)]),
            valid_data_path="",
            data_dir=str(tmp_path / "data"),
            output_dir=str(run),
            dtype="fp32",
            load_in_4bit=True,
            lora_dropout=0.0,
            max_steps=1,
            learning_rate=1e-3,
        )
    )
    adapter = load_file(run / "final/adapter_model.safetensors")
    assert {value.dtype for value in adapter.values()} == {torch.float32}
    # a first update of Adam is the learning rate, which bf16 would round
    b = next(value for name, value in adapter.items() if "lora_B" in name)
    assert b.abs().max() == pytest.approx(1e-3, abs=1e-6)
    merge_lora(MergeConfig(lora_model=str(run / "final")))
    assert asked == [True, None]
    merged = load(str(run / "final_merge"))
    assert merged.dtype == torch.float32
    assert Path(run / "final_merge/model.safetensors").exists()
