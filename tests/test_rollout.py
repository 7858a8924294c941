import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import byte_level_tokenizer, tiny_llama
from torch import nn
from transformers import GenerationConfig

from text2grad.models import backbone, eos_ids, load_model
from text2grad.policy import ValueHead
from text2grad.rollout import (
    MicroBatch,
    Sampling,
    cut_at_end,
    response_hidden,
    sample_responses,
    score_tokens_of,
    token_logps,
)

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21], [30, 31, 32, 33]]
# 2 is the end token, 0 the pad; both also occur inside, where they count like any other
RESPONSES = [[40, 41, 2], [50, 0, 0, 53, 54], [60]]


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def adapted(tokenizer):
    """A policy whose adapter does something, and its value head."""
    model = get_peft_model(
        tiny_llama(tokenizer), LoraConfig(target_modules=["q_proj", "v_proj"])
    ).eval()
    head = ValueHead(32)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
        head.linear.weight.normal_()
    return model, head


def batch_of(rows=(0, 1, 2), pad_id=0):
    return MicroBatch.collate(rows, PROMPTS, RESPONSES, pad_id, CPU)


def alone(model, row):
    """(R, V) logits that predict the response of a row, without any padding, and its states."""
    ids = torch.tensor([PROMPTS[row] + RESPONSES[row]])
    first = len(PROMPTS[row]) - 1
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, first:-1]
        states = backbone(model)(input_ids=ids).last_hidden_state[0, first:-1]
    return logits, states


def test_masks_and_positions_come_from_lengths():
    batch = batch_of()
    assert batch.input_ids.tolist() == [
        [5, 6, 7, 8, 9, 10, 11, 40, 41, 2, 0, 0],
        [0, 0, 0, 0, 0, 20, 21, 50, 0, 0, 53, 54],
        [0, 0, 0, 30, 31, 32, 33, 60, 0, 0, 0, 0],
    ]
    assert batch.response_mask.sum(1).tolist() == [3, 5, 1]
    assert batch.attention_mask.sum(1).tolist() == [10, 7, 5]
    assert batch.position_ids[1].tolist() == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert batch.prompt_width == 7


@pytest.mark.parametrize("chunk", [1, 4, 256])
@pytest.mark.parametrize("pad_id", [0, 2])
def test_logps_are_the_models_own(adapted, chunk, pad_id):
    model, head = adapted
    batch = batch_of(pad_id=pad_id)
    stats = score_tokens_of(model, head, [batch], (3, 5), 0.7, chunk)
    with torch.no_grad():
        logp = token_logps(model, response_hidden(model, batch), batch, 0.7, chunk)
    assert torch.equal(logp, stats.logp)
    for row, response in enumerate(RESPONSES):
        logits, states = alone(model, row)
        with model.disable_adapter():
            ref_logits, _ = alone(model, row)
        logp, ref_logp = (x.div(0.7).log_softmax(-1) for x in (logits, ref_logits))
        at = torch.arange(len(response))
        expected = {
            "logp": logp[at, response],
            "ref_logp": ref_logp[at, response],
            "entropy": -(logp.exp() * logp).sum(-1),
            "kl_full": (logp.exp() * (logp - ref_logp)).sum(-1),
            "values": states @ head.linear.weight[0] + head.linear.bias,
        }
        for name, value in expected.items():
            found = getattr(stats, name)[row]
            torch.testing.assert_close(found[: len(response)], value, atol=1e-5, rtol=1e-5)
            assert not found[len(response) :].any(), name
        assert stats.kl_full[row, 0] > 1e-4  # the adapter does something


def test_the_reference_is_the_model_without_its_adapter(tokenizer):
    model = get_peft_model(tiny_llama(tokenizer), LoraConfig(target_modules=["q_proj"])).eval()
    stats = score_tokens_of(model, ValueHead(32), [batch_of()], (3, 5), 1.0, 2)
    assert torch.equal(stats.logp, stats.ref_logp)
    assert not stats.kl_full.any()
    assert not stats.values.any()


def test_gradients_do_not_depend_on_chunks_or_batches(adapted):
    model, _ = adapted
    trained = [p for p in model.parameters() if p.requires_grad]

    def gradients(groups, chunk):
        for parameter in trained:
            parameter.grad = None
        for rows in groups:
            batch = batch_of(rows)
            token_logps(model, response_hidden(model, batch), batch, 1.0, chunk).sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in trained])

    whole = gradients([(0, 1, 2)], 256)
    assert whole.isfinite().all()
    assert whole.abs().max() > 1e-2
    for groups, chunk in (([(0, 1, 2)], 2), ([(0,), (1,), (2,)], 256), ([(2, 0), (1,)], 3)):
        torch.testing.assert_close(gradients(groups, chunk), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("targets", [["q_proj"], ["q_proj", "lm_head"]])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gradients_are_those_of_whole_logits(tokenizer, targets, temperature):
    model = get_peft_model(tiny_llama(tokenizer), LoraConfig(target_modules=targets)).eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=0.2)
    batch, weights = batch_of(), torch.randn(3, 5)
    logp = token_logps(model, response_hidden(model, batch), batch, temperature, 2)
    found = torch.autograd.grad((logp * weights).sum(), trained)
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
    ).logits[:, batch.prompt_width - 1 : -1]
    whole = (logits / temperature).log_softmax(-1).gather(2, batch.response_ids[..., None])
    loss = (whole[..., 0] * weights).masked_fill(~batch.response_mask, 0.0).sum()
    for own, other in zip(found, torch.autograd.grad(loss, trained), strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


def greedy(eos=(2,), pad_id=0, length=12):
    return Sampling(length, 0.0, eos, pad_id)


def test_padded_prompts_give_the_same_tokens_as_single_ones(adapted):
    model, _ = adapted
    together = sample_responses(model, PROMPTS, greedy())
    assert together == [sample_responses(model, [p], greedy())[0] for p in PROMPTS]


def test_sampled_ids_are_kept_as_they_are(adapted, monkeypatch):
    model, _ = adapted
    # 300 301 is not how the tokenizer would encode that text; 2 and 9 end, 0 pads
    made = torch.tensor([[300, 301, 2, 0, 0], [7, 9, 9, 2, 0], [1, 1, 1, 1, 1]])

    def generate(input_ids, attention_mask, generation_config):
        assert attention_mask.sum(1).tolist() == [7, 2, 4]
        return torch.cat([input_ids, made], dim=1)

    monkeypatch.setattr(model, "generate", generate)
    sampled = sample_responses(model, PROMPTS, greedy(eos=(2, 9)))
    assert sampled == [[300, 301, 2], [7, 9], [1, 1, 1, 1, 1]]


def test_the_first_end_token_is_kept_and_the_rest_cut():
    assert cut_at_end([5, 9, 2, 9], (2, 9)) == [5, 9]
    assert cut_at_end([2], (2,)) == [2]
    assert cut_at_end([5, 6], (2,)) == [5, 6]


class OneLogit(nn.Module):
    """Stands for a head: the same logits everywhere."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, hidden):
        return self.logits.expand(*hidden.shape[:-1], -1) + 0 * hidden.sum(-1, keepdim=True)


def test_sampling_is_from_the_whole_distribution(tokenizer):
    """Ids 100..199 equally likely: top-k 5 or 50, top-p 0.5 or a penalty would show."""
    model = tiny_llama(tokenizer)
    logits = torch.full((len(tokenizer),), -30.0)
    logits[100:200] = 0.0
    model.set_output_embeddings(OneLogit(logits))
    model.generation_config = GenerationConfig(do_sample=True, top_k=5, top_p=0.5, temperature=0.1)
    torch.manual_seed(0)
    sampled = sample_responses(model, [[5, 6]] * 40, Sampling(20, 1.0, (2,), 0))
    seen = {token for response in sampled for token in response}
    assert len(seen) > 95  # 800 draws of 100
    assert seen <= set(range(100, 200))


def test_temperature_scales_the_sampling(tokenizer):
    """Odds of 1 : e^2 at temperature 2 are 1 : e, so 73 % of the draws."""
    model = tiny_llama(tokenizer)
    logits = torch.full((len(tokenizer),), -60.0)
    logits[100], logits[101] = 0.0, 2.0
    model.set_output_embeddings(OneLogit(logits))
    torch.manual_seed(0)
    sampled = sample_responses(model, [[5]] * 50, Sampling(20, 2.0, (2,), 0))
    share = sum(response.count(101) for response in sampled) / 1000
    assert share == pytest.approx(0.731, abs=0.05)


def test_a_loaded_model_keeps_only_the_end_tokens_of_its_generation_settings(tokenizer, tmp_path):
    model = tiny_llama(tokenizer, eos_token_id=[2, 7])
    model.generation_config = GenerationConfig(
        eos_token_id=[2, 9], top_k=5, repetition_penalty=1.5, do_sample=True
    )
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), "fp32", "--x")
    assert loaded.generation_config.to_diff_dict().keys() <= {
        "eos_token_id",
        "transformers_version",
    }
    assert eos_ids(loaded, tokenizer) == [2, 7, 9]
    lora = get_peft_model(loaded, LoraConfig(target_modules=["q_proj"]))
    assert eos_ids(lora, tokenizer) == [2, 7, 9]
