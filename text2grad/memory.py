"""Bytes on a GPU, part by part, from the shape of the model: no weights, no torch.

What this code keeps is counted, and every function says what it assumes; `estimate` adds the parts
up for each stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from text2grad.model_shapes import Lora, ModelShape
from text2grad.query_blocks import mean_keys

FP32 = 4
# NF4 with packed scales: half a byte a weight, a byte for 64 of them, a fp32 scale for 256 of those
NF4_BYTES = 0.5 + 1 / 64 + FP32 / (64 * 256)
# reduce_bucket_size, where the file does not say
BUCKET = 500_000_000
# stage3_max_live_parameters and what DeepSpeed fetches ahead, by its defaults
LIVE_PARAMETERS = 1_000_000_000 + 50_000_000


@dataclass(frozen=True)
class Placement:
    """How the weights are held, and by how many GPUs.

    Attributes:
        gpus: processes, one for each.
        zero_stage: 0 for plain data parallel.
        width: bytes of a number in the frozen weights and the activations, 2 or 4.
        four_bit: the matrices of the frozen blocks are in NF4; embedding, head and norms are not,
            nor is a reward model beside the policy.
        optimizer: of adapter and value head, which are fp32 as its states are.
        checkpointing: only the input of each block is kept for the backward pass.
        attention: sdpa keeps no weights; blocked, as `attention` does it on a CPU, keeps those of
            every head and key that is seen.
        mask_width: bytes of a number in the mask of dropout, 1 on a GPU, 4 on a CPU.
        bucket: reduce_bucket_size of the DeepSpeed file, the numbers of a message.
    """

    gpus: int = 1
    zero_stage: int = 0
    width: int = 2
    four_bit: bool = False
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    checkpointing: bool = False
    attention: Literal["sdpa", "blocked"] = "sdpa"
    mask_width: int = 1
    bucket: int = 50_000_000


# -- weights


def weight_bytes(shape: ModelShape, width: int, four_bit: bool = False) -> float:
    """Of the frozen weights, whole.

    Example: Llama-3.1-8B at 2 bytes: 16,060,522,496. In NF4 the 6,979,321,856 weights of its blocks
    take 3,600,416,768 and the 1,050,939,392 others 2 bytes each: 5,702,295,552.
    """
    packed = shape.linear_parameters if four_bit else 0
    return packed * NF4_BYTES + (shape.parameters - packed) * width


def held_weights(shape: ModelShape, place: Placement) -> float:
    """Bytes of the frozen weights that one GPU keeps: all, under ZeRO-3 its share."""
    share = place.gpus if place.zero_stage == 3 else 1
    return weight_bytes(shape, place.width, place.four_bit) / share


def trained_bytes(matrices: list[tuple[int, int]], place: Placement) -> dict[str, float]:
    """Of what is trained, n numbers in fp32, on one of N GPUs.

    The weights take 4 n, their gradients 4 n (4 n / N from ZeRO-2 on). AdamW keeps two moments, 8
    n; Adafactor the sums of rows and columns of each matrix. Under ZeRO the states are 1 / N of
    that, beside a fp32 copy of as many weights; ZeRO-3 cuts the weights too.

    Args:
        matrices: (rows, columns) of each.
        place: optimiser, ZeRO stage, GPUs.
    """
    n = sum(rows * columns for rows, columns in matrices)
    states = 2 * n
    if place.optimizer == "adafactor":
        states = sum(rows + columns for rows, columns in matrices)
    copy = n if place.zero_stage else 0

    def share(stage: int) -> int:
        return place.gpus if place.zero_stage >= stage else 1

    return {
        "adapter": FP32 * n / share(3),
        "gradients": FP32 * n / share(2),
        "optimizer": FP32 * (states + copy) / share(1),
    }


def bucket_bytes(place: Placement) -> float:
    """Of the buffers that DeepSpeed keeps for gradients under way, however few there are.

    Two below ZeRO-3, where messages overlap with the backward pass, one with it; in fp32.
    """
    if not place.zero_stage:
        return 0.0
    return FP32 * place.bucket * (1 if place.zero_stage == 3 else 2)


# -- activations

_INPUT_OF = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj"), "mlp"),
}


def saved_bytes(
    shape: ModelShape, lora: Lora, place: Placement, length: int, dropout: float = 0.0
) -> float:
    """What one adapted block keeps of one token for its backward pass.

    Frozen matrices keep nothing of their input. Kept are: the fp32 input of both norms and its
    scale, 8 h + 8; with sdpa query, key and value, each as wide as all heads (keys are repeated, as
    batches are padded), the output, 4 bytes a head and the mask, `length` numbers; with blocked
    attention query, key and value as they come, and the weights of each head for the keys of the
    block; three times the width of the MLP; for each adapted layer its input in fp32 (in an fp32
    model this is no copy, and the layers of one input share it), with dropout the mask beside it,
    and r numbers.

    Args:
        shape: of the model.
        lora: its adapter.
        place: precision and attention.
        length: tokens of the sequence.
        dropout: of the adapter.

    Example: h 32, I 64, 4 heads of 8, r 4 on q and v, 2 bytes, sdpa, length 10: 264 + 4 * 32 * 2 +
    16 + 20 + 3 * 64 * 2 + 2 * (128 + 16) = 1,228.
    """
    width, heads = place.width, shape.query_width
    norms = 2 * FP32 * (shape.hidden + 1)
    if shape.qk_norm:
        norms += FP32 * (heads + shape.heads + shape.key_width + shape.kv_heads)
    if place.attention == "sdpa":
        attention = 4 * heads * width + FP32 * shape.heads + length * width
    else:
        attention = width * (heads + 2 * shape.key_width + shape.heads * mean_keys(length))
    adapter = _adapter_inputs(shape, lora, place, dropout)
    return norms + attention + 3 * shape.intermediate * width + adapter


def _adapter_inputs(shape: ModelShape, lora: Lora, place: Placement, dropout: float) -> float:
    names = lora.names(shape)
    inputs = {name: shape.linear[name][0] for name in names}
    numbers = len(names) * lora.rank
    if dropout:
        return FP32 * (sum(inputs.values()) + numbers) + place.mask_width * sum(inputs.values())
    if place.width == FP32:
        inputs = {_INPUT_OF.get(name, name): inputs[name] for name in names}
        if place.attention == "sdpa":
            inputs.pop("o_proj", 0)  # the output of the attention, which it keeps itself
    return FP32 * (sum(inputs.values()) + numbers)


def working_bytes(shape: ModelShape, place: Placement) -> float:
    """What a pass through one block needs for a token and gives back at once.

    The larger of the MLP's three wide tensors and the attention's four, with the fp32 norm and the
    residual; in NF4 one matrix of the block is unpacked beside them, which is counted by its user.
    """
    wide = max(3 * shape.intermediate, 4 * shape.query_width)
    return place.width * (wide + 2 * shape.hidden) + 2 * FP32 * shape.hidden


def training_activations(
    shape: ModelShape, lora: Lora, place: Placement, rows: int, length: int, dropout: float = 0.0
) -> float:
    """Bytes of a forward and backward pass over `rows` sequences, the head apart.

    Without checkpointing every adapted block keeps `saved_bytes`, with it its input, and one block
    at a time the rest. Blocks below the first adapted one keep nothing.
    """
    tokens, depth = rows * length, lora.depth(shape)
    block = saved_bytes(shape, lora, place, length, dropout)
    kept = depth * block
    if place.checkpointing:
        kept = depth * shape.hidden * place.width + block
    return tokens * (kept + working_bytes(shape, place)) + unpacked_bytes(shape, place)


def unpacked_bytes(shape: ModelShape, place: Placement) -> float:
    """The matrix that is unpacked from NF4 for its product."""
    return shape.intermediate * shape.hidden * place.width if place.four_bit else 0.0


def cache_bytes(shape: ModelShape, place: Placement, rows: int, length: int) -> float:
    """Keys and values of `rows` sequences; one layer's are copied whenever a token is added."""
    return rows * length * shape.cache_bytes(place.width) * (1 + 1 / shape.layers)


def live_bytes(shape: ModelShape, place: Placement) -> float:
    """Of the weights that ZeRO-3 holds beside its share while it trains."""
    if place.zero_stage < 3:
        return 0.0
    return min(shape.parameters, LIVE_PARAMETERS) * place.width
