"""Memory and time from the shape of a model: hand-derived numbers, and what torch really keeps."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import byte_level_tokenizer, tiny_llama
from transformers import Qwen2Config, Qwen3Config
from transformers.models.qwen2.modeling_qwen2 import Qwen2ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

from text2grad.attention import BLOCKED
from text2grad.estimate import (
    FIXED_BYTES,
    SLACK,
    PpoStep,
    RewardTraining,
    ppo_memory,
    reward_training_memory,
)
from text2grad.estimate_time import (
    Machine,
    backward_flops,
    decode_seconds,
    forward_flops,
    gather_seconds,
    head_flops,
    machine,
    ppo_seconds,
    reduce_seconds,
    reward_update_seconds,
)
from text2grad.memory import (
    Placement,
    bucket_bytes,
    cache_bytes,
    held_weights,
    saved_bytes,
    trained_bytes,
    training_activations,
    weight_bytes,
    working_bytes,
)
from text2grad.model_shapes import Lora, ModelShape, known, read_shape, shape_of
from text2grad.schema import UserError

LLAMA_8B = read_shape("Llama-3.1-8B-Instruct")
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# one block: h 32, I 64, 4 heads of 8 that share 2 keys, V 512
TINY = ModelShape(2, 32, 64, 4, 2, 8, 512, tied=False)
LORA = Lora(4)
TOKENS = 72  # two blocks of queries


# -- what is exact


@pytest.mark.parametrize(
    ("name", "parameters"),
    [  # of the published weights
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248),
        ("meta-llama/Llama-3.2-3B-Instruct", 3_212_749_824),
        ("meta-llama/Llama-3.2-1B-Instruct", 1_235_814_400),
        ("meta-llama/Llama-3.1-70B-Instruct", 70_553_706_496),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-32B-Instruct", 32_763_876_352),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_parameters_of_published_models(name, parameters):
    assert read_shape(name).parameters == parameters
    assert set(known("models")) >= {name}


def families():
    tokenizer = byte_level_tokenizer()
    sizes = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    yield tiny_llama(tokenizer)
    yield tiny_llama(tokenizer, tie_word_embeddings=True, head_dim=16)
    yield Qwen2ForCausalLM(Qwen2Config(**sizes))
    yield Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=8, tie_word_embeddings=True))


@pytest.mark.parametrize("number", range(4))
def test_parameters_of_real_models_and_adapters(number):
    model = list(families())[number]
    shape = shape_of(model.config.to_dict(), "config")
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    last = shape.layers - 1
    for targets, last_layers in ((("q_proj", "v_proj"), 0), (ALL, 0), (("o_proj",), 1)):
        config = LoraConfig(
            r=4,
            target_modules=list(targets),
            layers_to_transform=[last] if last_layers else None,
        )
        adapted = get_peft_model(model, config)
        trained = [p for p in adapted.parameters() if p.requires_grad]
        lora = Lora(4, targets, last_layers)
        assert lora.parameters(shape) == sum(p.numel() for p in trained)
        assert sorted(lora.matrices(shape)) == sorted(tuple(p.shape) for p in trained)
        model = adapted.unload()
    assert Lora(4, ("all-linear",)).matrices(shape) == Lora(4, ALL).matrices(shape)


def test_adapter_of_the_published_reward_model():
    # 32 blocks of 16 * (4096 + 4096) for q and 16 * (4096 + 1024) for v
    assert Lora(16).parameters(LLAMA_8B) == 6_815_744


def test_a_folder_is_read_and_what_is_not_known_is_named(tmp_path):
    model = tiny_llama(byte_level_tokenizer())
    model.config.save_pretrained(tmp_path)
    assert read_shape(str(tmp_path)).parameters == sum(p.numel() for p in model.parameters())
    with pytest.raises(UserError, match=r"--model my-model: neither a folder .*Llama-3.1-8B"):
        read_shape("my-model")
    with pytest.raises(UserError, match=r"x: model_type gpt2, known here are llama"):
        shape_of({"model_type": "gpt2"}, "x")
    with pytest.raises(UserError, match=r"x: config.json has no 'intermediate_size'"):
        shape_of({**model.config.to_dict()} | {"model_type": "llama"}, "x") and shape_of(
            {"model_type": "llama", "num_attention_heads": 1, "hidden_size": 1}
            | {"num_hidden_layers": 1},
            "x",
        )
    with pytest.raises(UserError, match=r"--lora_target_modules c_attn: not one of q_proj"):
        Lora(4, ("c_attn",)).parameters(TINY)


def test_bytes_of_weights():
    assert weight_bytes(LLAMA_8B, 2) == 16_060_522_496
    assert weight_bytes(LLAMA_8B, 2, four_bit=True) == 5_702_295_552
    assert held_weights(LLAMA_8B, Placement(gpus=8, zero_stage=2)) == 16_060_522_496
    assert held_weights(LLAMA_8B, Placement(gpus=8, zero_stage=3)) == 16_060_522_496 / 8


def test_bytes_of_what_is_trained():
    matrices = [(4, 32), (16, 4)]  # 192 numbers, 56 rows and columns
    assert trained_bytes(matrices, Placement()) == {
        "adapter": 768,
        "gradients": 768,
        "optimizer": 1536,
    }
    assert trained_bytes(matrices, Placement(optimizer="adafactor"))["optimizer"] == 224
    found = [trained_bytes(matrices, Placement(gpus=4, zero_stage=stage)) for stage in (1, 2, 3)]
    assert [tuple(one.values()) for one in found] == [
        (768, 768, 576),
        (768, 192, 576),
        (192, 192, 576),
    ]


def test_bytes_of_messages():
    found = [bucket_bytes(Placement(4, stage, bucket=1000)) for stage in range(4)]
    assert found == [0, 8000, 8000, 4000]


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_optimisers_keep_as_many_bytes_as_they_do(name):
    from transformers import Adafactor

    parameters = [torch.nn.Parameter(torch.ones(4, 32)), torch.nn.Parameter(torch.ones(16, 4))]
    kinds = {
        "adamw": torch.optim.AdamW(parameters),
        "adafactor": Adafactor(parameters, scale_parameter=False, relative_step=False, lr=1e-3),
    }
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    kinds[name].step()
    states = [v for state in kinds[name].state.values() for v in state.values()]
    kept = sum(v.nbytes for v in states if torch.is_tensor(v) and v.dim())
    shapes = [tuple(p.shape) for p in parameters]
    assert kept == trained_bytes(shapes, Placement(optimizer=name))["optimizer"]


# -- activations


def test_saved_bytes_by_hand():
    place = Placement(width=2)
    # norms 2 (4 * 32 + 4), four of 32 numbers, 4 heads, mask 10, MLP 3 * 64, inputs of q and v
    by_hand = 264 + 4 * 32 * 2 + 16 + 20 + 3 * 64 * 2 + 2 * (4 * 32 + 4 * 4)
    assert saved_bytes(TINY, LORA, place, 10) == by_hand == 1228
    blocked = Placement(width=2, attention="blocked")
    # two shared heads of 8; 2 bytes for 4 heads and (64 * 64 + 36 * 100) / 100 keys
    shorter = 264 + (32 + 16 + 16) * 2 + 2 * 4 * 76.96 + 3 * 64 * 2 + 2 * (4 * 32 + 4 * 4)
    assert saved_bytes(TINY, LORA, blocked, 100) == pytest.approx(shorter)


def kept_by_torch(model, ids, mask):
    """Bytes of the storages that autograd keeps, weights apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes(), tensor  # alive, so that none is reused
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        backbone = model.base_model.model.model
        out = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    assert out.requires_grad
    return sum(size for size, _ in found.values())


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ALL], ids=["qv", "all"])
@pytest.mark.parametrize("attention", ["sdpa", "blocked"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def test_a_block_keeps_exactly_what_is_counted(dtype, attention, targets, dropout):
    """The difference of two models that differ by two blocks; the first block is special."""
    tokenizer, kept = byte_level_tokenizer(), {}
    ids = torch.randint(3, 400, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    for layers in (2, 4):
        model = tiny_llama(tokenizer, num_hidden_layers=layers).to(dtype)
        model.set_attn_implementation(BLOCKED if attention == "blocked" else attention)
        config = LoraConfig(r=4, target_modules=list(targets), lora_dropout=dropout)
        adapted = get_peft_model(model, config).train()
        kept[layers] = kept_by_torch(adapted, ids, mask)
    shape = shape_of(model.config.to_dict(), "config")
    place = Placement(width=dtype.itemsize, attention=attention, mask_width=4)
    block = saved_bytes(shape, Lora(4, targets), place, TOKENS, dropout)
    assert (kept[4] - kept[2]) / 2 == 2 * TOKENS * block
    # embedding, first block and final norm: within a block of what is counted for all of them
    assert abs(kept[4] - 8 * TOKENS * block) < 2 * TOKENS * block


def test_checkpointing_keeps_the_inputs_and_one_block():
    place, checked = Placement(), Placement(checkpointing=True)
    block, work = saved_bytes(TINY, LORA, place, 10), working_bytes(TINY, place)
    assert work == 2 * (3 * 64 + 2 * 32) + 8 * 32
    assert training_activations(TINY, LORA, place, 3, 10) == 30 * (2 * block + work)
    assert training_activations(TINY, LORA, checked, 3, 10) == 30 * (2 * 64 + block + work)
    last = Lora(4, last_layers=1)
    assert training_activations(TINY, last, place, 3, 10) == 30 * (block + work)


def test_cache_of_keys_and_values():
    # 2 for keys and values, 2 layers, 2 shared heads of 8, 2 bytes; one layer more while it grows
    assert cache_bytes(TINY, Placement(), 3, 10) == 30 * 2 * 2 * 16 * 2 * 1.5


# -- stages


def test_memory_of_the_reward_model_by_part():
    run = RewardTraining(TINY, LORA, Placement(), 20, 9, micro_batch=2, dropout=0.0)
    found = reward_training_memory(run)
    activations = training_activations(TINY, LORA, Placement(), 2, 29)
    assert found["logits"] == 2 * 10 * 512 * (4 + 4 + 4 + 2)
    assert found["weights"] == weight_bytes(TINY, 2)
    n = 2 * 4 * (32 + 32 + 32 + 16)
    passing = activations + found["logits"]
    kept = found["weights"] + 16 * n
    assert found["peak"] == pytest.approx(kept + passing * (1 + SLACK) + FIXED_BYTES)


def test_memory_of_a_ppo_step_is_what_is_kept_and_the_largest_phase():
    step = PpoStep(TINY, LORA, Placement(gpus=2), TINY, 20, 10, batch=8, micro_batch=2)
    found = ppo_memory(step)
    phases = [found[name] for name in ("sampling", "judging", "scoring", "update")]
    kept = 2 * weight_bytes(TINY, 2) + 16 * (2 * 4 * (32 + 32 + 32 + 16) + 33)
    assert found["peak"] == pytest.approx(kept + max(phases) * (1 + SLACK) + FIXED_BYTES)
    assert found["scoring"] == 60 * working_bytes(TINY, Placement()) + 20 * 512 * 32
    served = ppo_memory(PpoStep(TINY, LORA, Placement(gpus=2), None, 20, 10, batch=8))
    assert "reward_model" not in served
    assert "judging" not in served


def test_zero_3_shares_the_weights_but_gathers_them_to_sample():
    step = {
        stage: ppo_memory(PpoStep(LLAMA_8B, Lora(16), Placement(8, stage), None))
        for stage in (2, 3)
    }
    whole = weight_bytes(LLAMA_8B, 2)
    assert step[2]["weights"] - step[3]["weights"] == whole * 7 / 8
    assert step[3]["sampling"] - step[2]["sampling"] == whole
    assert step[3]["peak"] > whole * 9 / 8, "its share, and all of them meanwhile"
    train = {
        stage: reward_training_memory(RewardTraining(LLAMA_8B, Lora(16), Placement(8, stage)))
        for stage in (2, 3)
    }
    assert train[3]["peak"] < train[2]["peak"] - whole / 2


# -- time


SLOW = Machine(
    memory=1e9, flops=1e9, bandwidth=1e6, link=1e5, network=1e4, node=4, compute_share=0.5,
    bandwidth_share=0.5, block_seconds=0.25,
)  # fmt: skip


def test_arithmetic_by_hand():
    # a block: q 32 32, k and v 32 16, o 32 32, three of 32 64 = 9,216; 2 blocks; r 4 on q and v
    n, adapter = 2 * 9216, 2 * 4 * (64 + 48)
    assert TINY.linear_parameters == n
    blocked, sdpa = Placement(attention="blocked"), Placement()
    assert forward_flops(TINY, 30, 10, blocked) == 30 * (2 * n + 2 * 4 * 32 * 10)
    forward = forward_flops(TINY, 30, 10, sdpa, LORA)
    assert forward == 30 * (2 * n + 2 * adapter + 2 * 4 * 32 * 5)
    backward = 30 * (2 * n + 4 * adapter + 2 * 2 * 4 * 32 * 5)
    assert backward_flops(TINY, 30, 10, sdpa, LORA) == backward
    checked = Placement(checkpointing=True)
    assert backward_flops(TINY, 30, 10, checked, LORA) == backward + forward
    half = Lora(4, last_layers=1)
    assert backward_flops(TINY, 30, 10, sdpa, half) == 30 * (n + adapter + 2 * 4 * 32 * 5)
    assert head_flops(TINY, 7) == 7 * 2 * 512 * 32


def test_arithmetic_as_torch_counts_it():
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_llama(byte_level_tokenizer(), num_hidden_layers=3)
    model.set_attn_implementation(BLOCKED)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    shape, place = shape_of(model.config.to_dict(), "config"), Placement(attention="blocked")
    ids = torch.randint(3, 400, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        hidden = adapted.base_model.model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden)
    forward = forward_flops(shape, 2 * TOKENS, TOKENS, place, LORA)
    rotary = 2 * 12 * TOKENS * 2 * 2 // 2
    assert counter.get_total_flops() - forward - head_flops(shape, 2 * TOKENS) == pytest.approx(
        0, abs=rotary * 20
    )
    with FlopCounterMode(display=False) as counter:
        hidden.sum().backward()
    counted = backward_flops(shape, 2 * TOKENS, TOKENS, place, LORA)
    assert counter.get_total_flops() == pytest.approx(counted, rel=0.15), (
        "the first block does less"
    )
    assert logits.shape[-1] == shape.vocabulary


def test_decoding_takes_what_has_to_be_read():
    weights = 2 * (TINY.parameters - 512 * 32)
    cache = 3 * 25 * 2 * 2 * 16 * 2
    seconds = 10 * ((weights + cache) / 5e5 + 2 * 0.25)
    assert decode_seconds(TINY, 3, 20, 10, Placement(), SLOW) == pytest.approx(seconds)
    assert decode_seconds(TINY, 3, 20, 0, Placement(), SLOW) == 0


def test_messages_by_hand():
    inside, across = Placement(4, 3), Placement(8, 3)
    assert gather_seconds(TINY, inside, SLOW) == 2 * TINY.parameters * 0.75 / 1e5
    assert gather_seconds(TINY, across, SLOW) == 2 * TINY.parameters * 0.875 / 1e4
    assert gather_seconds(TINY, Placement(8, 2), SLOW) == 0
    assert reduce_seconds(100, Placement(4), SLOW) == 2 * 400 * 0.75 / 1e5
    assert reduce_seconds(100, Placement(), SLOW) == 0


def test_seconds_of_an_update_of_the_reward_model():
    place = Placement()
    run = RewardTraining(TINY, LORA, place, 20, 9, micro_batch=2, accumulation=3)
    flops = forward_flops(TINY, 58, 29, place, LORA) + backward_flops(TINY, 58, 29, place, LORA)
    flops += 2 * head_flops(TINY, 18)
    assert reward_update_seconds(run, SLOW) == pytest.approx(3 * (flops / 5e8 + 6 * 0.25))


def test_seconds_of_a_ppo_step_are_those_of_its_phases():
    step = PpoStep(TINY, LORA, Placement(), TINY, 20, 10, batch=8, micro_batch=2, accumulation=4)
    found = ppo_seconds(step, SLOW)
    phases = ("rollout", "critique", "score", "update")
    assert found["step"] == pytest.approx(sum(found[name] for name in phases))
    flops = 2 * forward_flops(TINY, 240, 30, Placement(), LORA) + 2 * head_flops(TINY, 80)
    assert found["score"] == pytest.approx(flops / 5e8 + 2 * 4 * 2 * 0.25)
    flops = forward_flops(TINY, 240, 30, Placement(), LORA) + 2 * head_flops(TINY, 80)
    flops += backward_flops(TINY, 240, 30, Placement(), LORA)
    assert found["update"] == pytest.approx(4 * (flops / 5e8 + 4 * 6 * 0.25))
    served = ppo_seconds(PpoStep(TINY, LORA, Placement(), None), SLOW)
    assert served["critique"] == 0


def test_listed_gpus_are_machines():
    assert {machine(name).memory for name in known("gpus")} == {80e9}
