"""Who samples the responses of a PPO step: the policy itself, or vLLM with the policy's adapter."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import UserError
from text2grad.vllm_engine import VllmEngine

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig
    from text2grad.training_weights import TrainingWeights


class Sampler(Protocol):
    """Gives ids alone: log-probabilities come from the trainer's own forward passes."""

    def sync(self, step: int) -> None:
        """Sample with the policy's weights as they are after `step`, 0 for those of the start."""

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """One response per prompt, as sampled, up to and including its first end token."""


class ModelSampler:
    """Samples with the policy itself, whose weights are always those of now."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def sync(self, step: int) -> None:
        """There is one copy of the weights only."""

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """See `sample_responses`."""
        return sample_responses(self._model, prompts, sampling)


class VllmSampler:
    """Samples with vLLM: the policy's base model, loaded once, and its adapter of each step.

    Args:
        model: the policy, a PEFT model on a base that was loaded from a folder or the hub.
        args: `rollout_gpu_memory`, lengths, precision, rank and seed.
        weights: the same weights in training, which may be spread out.

    Raises:
        UserError: see `VllmEngine`.
    """

    def __init__(self, model: Any, args: PolicyConfig, weights: TrainingWeights) -> None:
        self._model, self._weights = model, weights
        self._engine = VllmEngine(
            model.get_base_model().name_or_path,
            "--rollout_backend vllm",
            max_tokens=args.prompt_max_length + args.output_max_length,
            dtype=args.dtype,
            gpu_share=args.rollout_gpu_memory,
            lora_rank=args.lora_r,
            seed=args.seed,
        )
        # removed with this object, whichever way the run ends
        folder = Path(args.output_dir).resolve()
        self._folder = tempfile.TemporaryDirectory(prefix=".rollout_", dir=folder)
        self._adapter: Any = None

    def sync(self, step: int) -> None:
        """Save the adapter as it is after `step` and sample with it from now on."""
        older = list(Path(self._folder.name).iterdir())
        path = Path(self._folder.name) / f"step_{step}"
        with self._weights.whole():
            self._model.save_pretrained(path)
        self._adapter = self._engine.adapter(step + 1, str(path))
        for folder in older:
            shutil.rmtree(folder)

    def sample(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[int]]:
        """See `VllmEngine.generate`; seeds come from torch, whose state a checkpoint keeps."""
        seeds: list[int] = []
        if sampling.temperature > 0:
            seeds = torch.randint(2**31 - 1, (len(prompts),)).tolist()
        return self._engine.generate(prompts, sampling, seeds, self._adapter)


def build_sampler(args: PolicyConfig, model: nn.Module, weights: TrainingWeights) -> Sampler:
    """The sampler that `--rollout_backend` names.

    Raises:
        UserError: vLLM with several processes, or see `VllmEngine`.
    """
    if args.rollout_backend == "hf":
        return ModelSampler(model)
    processes = weights.accelerator.num_processes
    if processes > 1:
        raise UserError(
            f"--rollout_backend vllm: samples for one process, and there are {processes}; start "
            "one, or use hf"
        )
    return VllmSampler(model, args, weights)
