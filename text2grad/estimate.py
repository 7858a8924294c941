"""What training takes on one GPU, from the shape of the model alone: no weights, no torch.

Each stage is the sum of what it keeps and of the largest of its phases; `memory` counts the parts,
`estimate_time` the seconds. `benchmarks/scaling.py` puts both beside measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from text2grad.memory import (
    FP32,
    Placement,
    bucket_bytes,
    cache_bytes,
    held_weights,
    live_bytes,
    trained_bytes,
    training_activations,
    unpacked_bytes,
    weight_bytes,
    working_bytes,
)
from text2grad.model_shapes import Lora, ModelShape

# Context of the GPU, workspaces of the matrix libraries, buffers of the communication.
FIXED_BYTES = 2e9
# What the allocator keeps beyond what is asked for, as a share of all that comes and goes.
SLACK = 0.1


@dataclass(frozen=True)
class RewardTraining:
    """An update of the reward model; all lengths are upper bounds, as the flags give them."""

    shape: ModelShape
    lora: Lora
    place: Placement
    prompt_tokens: int = 900
    target_tokens: int = 349
    micro_batch: int = 1
    accumulation: int = 1
    dropout: float = 0.05


@dataclass(frozen=True)
class PpoStep:
    """A PPO step; all lengths are upper bounds, as the flags give them.

    Attributes:
        shape, lora, place: of the policy.
        critic: the reward model on the same GPU, whole and never packed; None where a server runs
            it.
        batch: responses, over all GPUs.
        critique_prompt_tokens, critique_tokens: what the reward model reads and writes.
        critique_batch: responses judged together.
        chunk: response tokens whose logits exist at once.
    """

    shape: ModelShape
    lora: Lora
    place: Placement
    critic: ModelShape | None
    prompt_tokens: int = 640
    response_tokens: int = 90
    batch: int = 64
    micro_batch: int = 1
    accumulation: int = 8
    epochs: int = 4
    critique_prompt_tokens: int = 900
    critique_tokens: int = 500
    critique_batch: int = 16
    chunk: int = 256

    @property
    def rows(self) -> int:
        """Responses of one GPU."""
        return -(-self.batch // self.place.gpus)

    @property
    def critic_place(self) -> Placement:
        """How the reward model is held."""
        return replace(self.place, four_bit=False, zero_stage=0)


def reward_training_memory(run: RewardTraining) -> dict[str, float]:
    """Bytes on one GPU while the reward model is trained, by part; `peak` is their sum.

    Logits exist for the columns that hold targets: the model's own, a fp32 copy, the normalised
    ones and their gradient, 4 + 4 + 4 bytes a number at the worst moment beside the model's own.
    """
    shape, place = run.shape, run.place
    length = run.prompt_tokens + run.target_tokens
    logits = run.micro_batch * (run.target_tokens + 1) * shape.vocabulary * (3 * FP32 + place.width)
    passing = {
        "activations": training_activations(
            shape, run.lora, place, run.micro_batch, length, run.dropout
        ),
        "logits": logits,
        "gathered": live_bytes(shape, place),
    }
    kept = {"weights": held_weights(shape, place), "buckets": bucket_bytes(place)}
    kept |= trained_bytes(run.lora.matrices(shape), place)
    return _with_peak(kept, passing)


def ppo_memory(step: PpoStep) -> dict[str, float]:
    """Bytes on one GPU in a PPO step, by part; `peak` is what is kept and the largest phase.

    Kept are policy, reward model, adapter, value head and optimiser. Phases: sampling and judging
    hold a cache and one pass over all their prompts; scoring the logits of a chunk of tokens under
    policy and reference, seven fp32 tensors of them; the update the activations of a micro-batch
    and three fp32 tensors of a chunk. ZeRO-3 gathers the whole policy to sample and to score.
    """
    shape, place = step.shape, step.place
    length = step.prompt_tokens + step.response_tokens
    whole = weight_bytes(shape, place.width, place.four_bit) if place.zero_stage == 3 else 0.0
    tokens = step.micro_batch * length
    phases = {
        "sampling": whole + _generation(shape, place, step.rows, step.prompt_tokens, length),
        "scoring": whole
        + tokens * working_bytes(shape, place)
        + _chunk(step) * (7 * FP32 + 2 * place.width),
        "update": live_bytes(shape, place) + update_bytes(step),
    }
    kept = {"weights": held_weights(shape, place), "buckets": bucket_bytes(place)}
    matrices = [*step.lora.matrices(shape), (1, shape.hidden + 1)]
    kept |= trained_bytes(matrices, place)
    if step.critic:
        kept["reward_model"] = weight_bytes(step.critic, place.width)
        judged = min(step.critique_batch, step.rows)
        prompt = step.critique_prompt_tokens
        phases["judging"] = _generation(
            step.critic, step.critic_place, judged, prompt, prompt + step.critique_tokens
        )
    largest = max(phases, key=lambda name: phases[name])
    return {**_with_peak(kept, {largest: phases[largest]}), **phases}


def update_bytes(step: PpoStep) -> float:
    """Of a micro-batch's forward and backward pass; its logits exist for a chunk of tokens only."""
    shape, place = step.shape, step.place
    length = step.prompt_tokens + step.response_tokens
    logits = _chunk(step) * (3 * FP32 + place.width)
    return logits + training_activations(shape, step.lora, place, step.micro_batch, length)


def _chunk(step: PpoStep) -> int:
    tokens = min(step.chunk, step.micro_batch * step.response_tokens)
    return tokens * step.shape.vocabulary


def _generation(shape: ModelShape, place: Placement, rows: int, prompt: int, length: int) -> float:
    return (
        cache_bytes(shape, place, rows, length)
        + rows * prompt * working_bytes(shape, place)
        + unpacked_bytes(shape, place)
        + rows * shape.vocabulary * (FP32 + place.width)
    )


def _with_peak(kept: Mapping[str, float], passing: Mapping[str, float]) -> dict[str, float]:
    extra = sum(passing.values()) * SLACK
    parts = {**kept, **passing, "slack": extra, "fixed": FIXED_BYTES}
    return {**parts, "peak": sum(parts.values())}
