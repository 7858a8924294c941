"""How long training takes, from arithmetic, memory traffic and messages: see `estimate`.

A pass over many tokens takes its arithmetic at a share of the peak, a decoding step what has to be
read from memory at a share of the bandwidth; every pass takes a constant for each block besides,
which is what launching its kernels costs. Nothing overlaps. Lengths are upper bounds, so that
whatever ends early takes less; Python's own work on grammar and records is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from text2grad.estimate import PpoStep, RewardTraining
from text2grad.memory import FP32, Placement, weight_bytes
from text2grad.model_shapes import Lora, ModelShape, known
from text2grad.query_blocks import mean_keys

# What a product with a matrix in NF4 takes, in units of one without unpacking. An assumption.
UNPACKING = 1.5


@dataclass(frozen=True)
class Machine:
    """A GPU and what joins it to others. The shares and `block_seconds` are assumptions.

    Attributes:
        memory: bytes.
        flops: peak of dense matrix products in the precision that is used, per second.
        bandwidth: of the memory, bytes per second.
        link, network: bytes per second and direction to a GPU of the same node, of another one.
        node: GPUs of a node.
        compute_share: of `flops` that passes over many tokens reach.
        bandwidth_share: of `bandwidth` that decoding reaches.
        block_seconds: to launch the kernels of one block, adapter included.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float
    network: float
    node: int = 8
    compute_share: float = 0.4
    bandwidth_share: float = 0.6
    block_seconds: float = 8e-4

    def messages(self, gpus: int) -> float:
        """Bytes per second at which `gpus` exchange something: those of the slowest part."""
        return self.link if gpus <= self.node else self.network


def machine(name: str) -> Machine:
    """One that `scaling.json` lists."""
    return Machine(**known("gpus")[name])


# -- arithmetic


def forward_flops(
    shape: ModelShape, tokens: float, length: float, place: Placement, lora: Lora | None = None
) -> float:
    """Of one pass over `tokens` tokens of sequences of `length`, the head apart.

    Two for each number of a matrix and token; attention 4 times the width of all heads for each
    token that is seen, which is half of them on average with sdpa, and with blocked attention all
    up to the end of the block.

    Example: SmolLM2-135M's blocks have 106,168,320 numbers in matrices: 100 tokens of sequences of
    100, sdpa, take 200 * 106,168,320 + 100 * 30 * 4 * 576 * 50 = 21,579,264,000.
    """
    seen = length / 2 if place.attention == "sdpa" else mean_keys(round(length))
    adapter = lora.parameters(shape) if lora else 0
    attention = shape.layers * 4 * shape.query_width * seen
    return tokens * (2 * shape.linear_parameters + 2 * adapter + attention)


def backward_flops(
    shape: ModelShape, tokens: float, length: float, place: Placement, lora: Lora
) -> float:
    """Of the backward pass, the head apart.

    Through frozen matrices as much as forward, twice as much where something is learned and in
    attention; with checkpointing one more forward pass. Blocks below the first adapted one have
    none.
    """
    forward = forward_flops(shape, tokens, length, place, lora)
    frozen = 2 * tokens * shape.linear_parameters
    recomputed = forward if place.checkpointing else 0.0
    return (2 * forward - frozen + recomputed) * lora.depth(shape) / shape.layers


def head_flops(shape: ModelShape, tokens: float) -> float:
    """Of the logits of `tokens` tokens: 2 V h each."""
    return 2 * shape.head_parameters * tokens


# -- seconds


def pass_seconds(flops: float, blocks: int, place: Placement, machine: Machine) -> float:
    """Of a pass over many tokens through `blocks` blocks."""
    slower = UNPACKING if place.four_bit else 1.0
    return slower * flops / (machine.flops * machine.compute_share) + blocks * machine.block_seconds


def decode_seconds(
    shape: ModelShape, rows: int, prompt: float, new: float, place: Placement, machine: Machine
) -> float:
    """Of `new` steps that add a token to each of `rows` sequences.

    A step reads all weights and the cache, or takes its arithmetic, whichever is longer, and the
    launch of every block. The embedding is not read as a whole; a tied head is.
    """
    if not rows or not new:
        return 0.0
    weights = weight_bytes(shape, place.width, place.four_bit)
    if not shape.tied:
        weights -= shape.head_parameters * place.width
    length = prompt + new / 2
    cache = rows * length * shape.cache_bytes(place.width)
    flops = forward_flops(shape, rows, 2 * length, place) + head_flops(shape, rows)
    reading = (weights + cache) / (machine.bandwidth * machine.bandwidth_share)
    reckoning = pass_seconds(flops, 0, place, machine)
    return new * (max(reading, reckoning) + shape.layers * machine.block_seconds)


def generate_seconds(
    shape: ModelShape, rows: int, prompt: float, new: float, place: Placement, machine: Machine
) -> float:
    """Of reading the prompts and writing `new` tokens to each."""
    if not rows:
        return 0.0
    flops = forward_flops(shape, rows * prompt, prompt, place) + head_flops(shape, rows)
    reading = pass_seconds(flops, shape.layers, place, machine)
    return reading + decode_seconds(shape, rows, prompt, new, place, machine)


def gather_seconds(shape: ModelShape, place: Placement, machine: Machine) -> float:
    """Of fetching all frozen weights from the other GPUs, under ZeRO-3."""
    if place.zero_stage < 3 or place.gpus == 1:
        return 0.0
    foreign = weight_bytes(shape, place.width) * (place.gpus - 1) / place.gpus
    return foreign / machine.messages(place.gpus)


def reduce_seconds(numbers: int, place: Placement, machine: Machine) -> float:
    """Of adding up the gradients, in fp32: each GPU sends and receives 2 (N - 1) / N of them."""
    if place.gpus == 1:
        return 0.0
    volume = 2 * FP32 * numbers * (place.gpus - 1) / place.gpus
    return volume / machine.messages(place.gpus)


def _training_pass(
    shape: ModelShape, lora: Lora, place: Placement, rows: int, length: int, machine: Machine
) -> float:
    """Forward and backward of one micro-batch, the head apart."""
    tokens, depth = rows * length, lora.depth(shape)
    flops = forward_flops(shape, tokens, length, place, lora)
    flops += backward_flops(shape, tokens, length, place, lora)
    # the backward pass launches about two kernels for one, and those of a recomputed forward pass
    blocks = shape.layers + (3 if place.checkpointing else 2) * depth
    gathers = 3 if place.checkpointing else 2
    passing = pass_seconds(flops, blocks, place, machine)
    return passing + gathers * gather_seconds(shape, place, machine)


def reward_update_seconds(run: RewardTraining, machine: Machine) -> float:
    """Of one update of the reward model."""
    shape, place = run.shape, run.place
    length = run.prompt_tokens + run.target_tokens
    head = 2 * head_flops(shape, run.micro_batch * run.target_tokens)
    micro = _training_pass(shape, run.lora, place, run.micro_batch, length, machine)
    micro += pass_seconds(head, 0, place, machine)
    return run.accumulation * micro + reduce_seconds(run.lora.parameters(shape), place, machine)


def ppo_seconds(step: PpoStep, machine: Machine) -> dict[str, float]:
    """Of one PPO step, by phase, as `metrics.jsonl` names them; `step` is their sum.

    All GPUs wait for the slowest, whose responses all have full length. Scoring is one forward pass
    with the adapter and one without, each with its logits; an update goes through the head once
    each way.
    """
    shape, place, lora = step.shape, step.place, step.lora
    length = step.prompt_tokens + step.response_tokens
    rows, micro = step.rows, min(step.micro_batch, step.rows)
    passes = -(-rows // micro)
    sampled = rows * step.response_tokens
    gather = gather_seconds(shape, place, machine)
    scoring = 2 * forward_flops(shape, rows * length, length, place, lora)
    scoring += 2 * head_flops(shape, sampled)
    update = passes * _training_pass(shape, lora, place, micro, length, machine)
    update += pass_seconds(2 * head_flops(shape, sampled), 0, place, machine)
    updates = max(1, passes // step.accumulation)
    update += updates * reduce_seconds(lora.parameters(shape), place, machine)
    seconds = {
        "rollout": gather
        + generate_seconds(shape, rows, step.prompt_tokens, step.response_tokens, place, machine),
        "critique": critique_seconds(step, machine),
        "score": gather + pass_seconds(scoring, 2 * passes * shape.layers, place, machine),
        "update": step.epochs * update,
    }
    return {**seconds, "step": sum(seconds.values())}


def critique_seconds(step: PpoStep, machine: Machine) -> float:
    """Of the critiques, batch after batch; 0 where a server writes them beside the run."""
    if not step.critic:
        return 0.0
    full, rest = divmod(step.rows, step.critique_batch)
    sizes = [step.critique_batch] * full + [rest] * bool(rest)
    critic, place = step.critic, step.critic_place
    lengths = step.critique_prompt_tokens, step.critique_tokens
    return sum(generate_seconds(critic, n, *lengths, place, machine) for n in sizes)
