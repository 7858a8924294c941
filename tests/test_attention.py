"""Our attention gives what the library's own eager attention gives."""

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
from text2grad.attention import BLOCKED, FAMILIES, FUSED, blocked_attention, choose_attention

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


def left_padded(lengths, total, dtype=torch.float64):
    """(B, 1, total, total): causal, and nothing sees the padding before the last `lengths`."""
    low = torch.finfo(dtype).min
    causal = torch.full((total, total), low, dtype=dtype).triu(1)
    hidden = torch.arange(total) < total - torch.tensor(lengths)[:, None]
    return torch.where(hidden[:, None, None], low, causal[None, None])


def simple_attention(query, key, value, mask, scaling):
    """Every head by itself, straight from the definition."""
    outputs = []
    for head in range(query.shape[1]):
        shared = head * key.shape[1] // query.shape[1]
        scores = query[:, head] @ key[:, shared].transpose(1, 2) * scaling
        if mask is not None:
            scores = scores + mask[:, 0]
        outputs.append(scores.softmax(-1) @ value[:, shared])
    return torch.stack(outputs, dim=2)


@pytest.mark.parametrize("tokens", [1, 7, 64, 65, 150])
@pytest.mark.parametrize("seen_before", [0, 9])
@pytest.mark.parametrize("heads", [(6, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("masked", [True, False])
def test_blocks_change_neither_sums_nor_derivatives(tokens, seen_before, heads, masked):
    torch.manual_seed(0)
    total = tokens + seen_before
    shapes = [(2, heads[0], tokens, 8), *[(2, heads[1], total, 8)] * 2]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    mask = left_padded([total, total - 3], total)[:, :, seen_before:] if masked else None
    real = torch.ones(2, tokens, dtype=torch.bool)
    if masked and not seen_before:
        real[1, :3] = False  # a query without any key may come to anything
    outputs, gradients = [], []
    for way in (simple_attention, lambda *given: blocked_attention(None, *given)[0]):
        out = way(*inputs, mask, 0.3)[real]
        outputs.append(out)
        weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        gradients.append(torch.autograd.grad((out * weight).sum(), inputs))
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-12, rtol=0)
    for ours, theirs in zip(*reversed(gradients), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    with torch.no_grad():
        assert torch.equal(blocked_attention(None, *inputs, mask, 0.3)[0][real], outputs[1])


def test_what_the_backward_pass_keeps_is_little_more_than_half_of_the_weights():
    query, key, value = (torch.ones(1, 2, 512, 4, requires_grad=True) for _ in range(3))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()), lambda _: None):
        blocked_attention(None, query, key, value, left_padded([512], 512, torch.float32), 1.0)
    inputs = 3 * query.numel()
    assert sum(kept) - inputs == 2 * 64 * 64 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8)


def test_dropout_leaves_the_mean_as_it_is():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 5, 4) for _ in range(3))
    given = query, key, value, left_padded([5], 5, torch.float32), 0.5
    many = torch.stack([blocked_attention(None, *given, dropout=0.25)[0] for _ in range(4000)])
    assert many.std(0).max() > 0.1
    torch.testing.assert_close(many.mean(0), blocked_attention(None, *given)[0], atol=0.05, rtol=0)


def test_every_family_is_compared():
    assert set(CLASSES) == set(FAMILIES)


@pytest.mark.parametrize("way", [BLOCKED, FUSED])
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


@pytest.mark.parametrize("measured", [BLOCKED, FUSED])
@pytest.mark.parametrize("key_heads", [2, 4])
def test_the_measured_way_is_set(monkeypatch, measured, key_heads):
    monkeypatch.setattr(attention, "_measured", lambda *shape: measured)
    model = tiny("llama", key_heads)
    choose_attention(model)
    assert model.config._attn_implementation == measured


def test_small_models_are_not_measured(monkeypatch):
    monkeypatch.setattr(attention, "fastest", None)  # calling it would fail
    model = tiny("qwen2")
    choose_attention(model)
    assert model.config._attn_implementation == BLOCKED


def test_both_ways_are_run_forward_and_backward(monkeypatch):
    taken = []

    def note(ways, margin):
        taken.append((list(ways), margin))
        for way in ways.values():
            way()
        return list(ways)[-1]

    monkeypatch.setattr(attention, "fastest", note)
    found = attention._measured.__wrapped__(4, 2, 64, torch.float32)
    assert (found, taken) == (FUSED, [([BLOCKED, FUSED], 1.25)])
