"""The weights in training: gradients in, updates out, plain or under a DeepSpeed engine."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator


def training_weights(
    accelerator: Accelerator, policy: nn.Module, optimizer: Any, max_grad_norm: float
) -> TrainingWeights:
    """Prepare a policy for updates, as the accelerator's launch asks for.

    Args:
        accelerator: made by `start_accelerator`.
        policy: not prepared yet.
        optimizer: of its trainable parameters.
        max_grad_norm: gradients are clipped to it; an engine has it from the DeepSpeed file, which
            was checked against the same flag.
    """
    prepared, optimizer = accelerator.prepare(policy, optimizer)
    prepared.eval()
    if accelerator.deepspeed_plugin is not None:
        return EngineWeights(accelerator, prepared, optimizer)
    return TrainingWeights(accelerator, prepared, optimizer, max_grad_norm)


class TrainingWeights:
    """One process, or plain data parallel.

    An update is `backward` for each of its micro-batches and then `apply` or `discard`; all
    processes make the same calls in the same order.

    Args:
        accelerator: that prepared what follows.
        policy: prepared; forward passes that are learned from go through it.
        optimizer: likewise.
        max_grad_norm: gradients are clipped to it.

    Attributes:
        sharded: each process has its own part of the optimiser.
    """

    sharded: ClassVar[bool] = False

    def __init__(
        self, accelerator: Accelerator, policy: Any, optimizer: Any, max_grad_norm: float
    ) -> None:
        self.accelerator, self.policy, self.optimizer = accelerator, policy, optimizer
        self.max_grad_norm = max_grad_norm
        self.parameters = [p for p in policy.parameters() if p.requires_grad]

    def backward(self, loss: Tensor, last: bool, wanted: bool = True) -> None:
        """Add the gradients of one micro-batch.

        Args:
            loss: this process's part of a sum over all processes and micro-batches.
            last: no more micro-batches follow in this update.
            wanted: False with `last`: the update will be discarded.
        """
        # data parallel averages the gradients of the processes; the loss is a global sum
        (loss * self.accelerator.num_processes).backward()

    def apply(self) -> float | None:
        """Update the weights.

        Returns:
            The norm of the gradient before it was clipped; None, and no update, if it is not
            finite.
        """
        norm = float(self.accelerator.clip_grad_norm_(self.parameters, self.max_grad_norm))
        finite = math.isfinite(norm)
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm if finite else None

    def discard(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within, every process has all weights; all processes have to enter."""
        yield

    def most(self, counts: list[int]) -> list[int]:
        """Element by element the most that any process has; all processes have to call."""
        own = torch.tensor([counts], device=self.accelerator.device)
        return self.accelerator.gather(own).amax(0).tolist()

    def head_calls(self, calls: int) -> int:
        """How often the head must be called in a forward pass for which `calls` would do."""
        return calls

    def shard(self) -> dict[str, Any]:
        """What only this process knows of the optimiser, for a checkpoint."""
        return {}

    def load_shard(self, shard: Mapping[str, Any]) -> bool:
        """Take up what `shard` returned; False if it is of another sharding and of no use."""
        return True

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Within, every process replaces the trained weights, all with the same ones."""
        yield


class EngineWeights(TrainingWeights):
    """A DeepSpeed engine with ZeRO-1, 2 or 3.

    accelerate steps the engine at every backward pass; here it is stepped once for each update,
    after all its micro-batches. What the file's accumulation steps divide by, and what averaging
    over the processes divides by, is left out or undone: the loss is a sum over all tokens.
    """

    sharded: ClassVar[bool] = True

    def __init__(self, accelerator: Accelerator, policy: Any, optimizer: Any) -> None:
        super().__init__(accelerator, policy, optimizer, policy.gradient_clipping())
        self.stage = policy.zero_optimization_stage()

    def backward(self, loss: Tensor, last: bool, wanted: bool = True) -> None:
        """See `TrainingWeights.backward`."""
        # The engine has no way to drop gradients that it has reduced already, but it clears them
        # all, and steps nothing, when their norm is not finite. So the last part makes it so.
        factor = self.accelerator.num_processes if wanted else math.nan
        self.policy.set_gradient_accumulation_boundary(last)
        self.policy.backward(loss * factor, scale_wrt_gas=False)

    def apply(self) -> float | None:
        """See `TrainingWeights.apply`."""
        self.policy.step()
        norm = float(self.policy.get_global_grad_norm())
        return norm if self.policy.was_step_applied() else None

    def discard(self) -> None:
        """See `TrainingWeights.discard`; the last `backward` was not `wanted`."""
        self.policy.step()

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """See `TrainingWeights.whole`; ZeRO-3 gathers once and lets its hooks rest."""
        if self.stage < 3:
            yield
            return
        from trl.models.utils import unwrap_model_for_generation

        with unwrap_model_for_generation(self.policy, self.accelerator):
            yield

    def head_calls(self, calls: int) -> int:
        """See `TrainingWeights.head_calls`; under ZeRO-3 each call is a message among all."""
        return calls if self.stage < 3 else self.most([calls])[0]

    def shard(self) -> dict[str, Any]:
        """The state of this process's part of the flat weights."""
        with self._flat() as optimizer:
            return {"optimizer": optimizer.state_dict(), "stage": self.stage}

    def load_shard(self, shard: Mapping[str, Any]) -> bool:
        """See `TrainingWeights.load_shard`."""
        if shard.get("stage") != self.stage:
            return False
        with self._flat() as optimizer:
            optimizer.load_state_dict(shard["optimizer"])
        return True

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """See `TrainingWeights.loading`; the optimiser works on copies, which are read anew."""
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters(self.parameters, modifier_rank=0, enabled=self.stage == 3):
            yield
        self.policy.optimizer.refresh_fp32_params()

    @contextlib.contextmanager
    def _flat(self) -> Iterator[Any]:
        """The wrapped optimiser with its flat weights, which ZeRO-3 takes out between steps."""
        zero = self.policy.optimizer
        if self.stage < 3:
            yield zero.optimizer
            return
        zero._set_fp32_optimizer_param_groups()
        try:
            yield zero.optimizer
        finally:
            zero._clear_fp32_optimizer_param_groups()
