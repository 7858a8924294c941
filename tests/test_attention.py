"""The grouped attention gives what the library's own eager attention gives."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from text2grad import attention
from text2grad.attention import FAMILIES, FUSED, GROUPED, choose_attention

CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
}


def tiny(family, key_heads=2):
    config_type, model_type = CLASSES[family]
    extra = {"sliding_window": 5} if family in ("mistral", "phi3") else {}
    config = config_type(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=key_heads,
        max_position_embeddings=64,
        pad_token_id=0,
        **extra,
    )
    torch.manual_seed(0)
    return model_type._from_config(config, attn_implementation="eager").eval()


def test_every_family_is_compared():
    assert set(CLASSES) == set(FAMILIES)


@pytest.mark.parametrize("way", [GROUPED, FUSED])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_eager_attention(family, way):
    model = tiny(family)
    ids = torch.randint(1, 60, (3, 12))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)

    def run():
        whole = model(input_ids=ids, attention_mask=mask, position_ids=positions)
        cached = model(
            input_ids=ids[:, :9], attention_mask=mask[:, :9], position_ids=positions[:, :9]
        )
        steps = []
        cache = cached.past_key_values
        for end in (10, 12):  # one token, then a block of two
            start = cache.get_seq_length()
            out = model(
                input_ids=ids[:, start:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, start:end],
                past_key_values=cache,
            )
            steps.append(out.logits)
        whole.logits[mask.bool()].pow(2).mean().backward()
        gradient = model.model.layers[0].self_attn.o_proj.weight.grad.clone()
        model.zero_grad()
        return [whole.logits[mask.bool()], *steps, gradient]

    expected = run()
    model.set_attn_implementation(way)
    for ours, theirs in zip(run(), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("measured", "shared"), [(GROUPED, GROUPED), (FUSED, FUSED)])
def test_the_measured_way_is_set(monkeypatch, measured, shared):
    monkeypatch.setattr(attention, "_measured", lambda *shape: measured)
    model = tiny("llama")
    choose_attention(model)
    assert model.config._attn_implementation == shared
    nothing_shared = tiny("llama", key_heads=4)
    choose_attention(nothing_shared)
    kept = FUSED if measured == FUSED else "eager"
    assert nothing_shared.config._attn_implementation == kept


def test_small_models_are_not_measured(monkeypatch):
    monkeypatch.setattr(attention, "fastest", None)  # calling it would fail
    model = tiny("qwen2")
    choose_attention(model)
    assert model.config._attn_implementation == GROUPED


def test_both_ways_are_run_forward_and_backward(monkeypatch):
    taken = []

    def note(ways, margin):
        taken.append((list(ways), margin))
        for way in ways.values():
            way()
        return list(ways)[-1]

    monkeypatch.setattr(attention, "fastest", note)
    found = attention._measured.__wrapped__(4, 2, 64, torch.float32)
    assert (found, taken) == (FUSED, [([GROUPED, FUSED], 1.25)])
