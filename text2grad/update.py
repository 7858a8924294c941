"""The optimisation phase of a PPO step: several passes over fixed micro-batches."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from text2grad.micro_batches import plan_micro_batches
from text2grad.ppo_math import policy_loss, value_loss
from text2grad.rollout import MicroBatch

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig
    from text2grad.training_weights import TrainingWeights


@dataclass(frozen=True)
class Credit:
    """What the optimisation needs to know of a batch, all (B, R).

    Attributes:
        old_logp: log-probabilities under the policy that sampled.
        old_values, returns: in the unit of the value head.
        advantages: whitened.
        mask: bool, True = a sampled token with a judged response.
    """

    old_logp: Tensor
    old_values: Tensor
    returns: Tensor
    advantages: Tensor
    mask: Tensor

    def rows(self, batch: MicroBatch) -> Credit:
        """The part of a micro-batch, cut to its width."""
        rows = batch.rows.to(self.mask.device)
        width = batch.response_ids.shape[1]
        names = ("old_logp", "old_values", "returns", "advantages", "mask")
        return Credit(*(getattr(self, name)[rows, :width] for name in names))


class Updater:
    """Runs the clipped updates of one batch after another.

    Args:
        args: clip ranges, epochs, bounds.
        weights: what is updated.
    """

    def __init__(self, args: PolicyConfig, weights: TrainingWeights) -> None:
        self.args, self.weights, self.accelerator = args, weights, weights.accelerator

    def plan(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> list[tuple[list[int], int | None]]:
        """Rows of each micro-batch, and its update; see `plan_micro_batches`."""
        args = self.args
        return plan_micro_batches(
            [(len(p), len(r)) for p, r in zip(prompts, responses, strict=True)],
            args.mini_batch_size,
            args.mini_batch_size * args.gradient_accumulation_steps,
            args.max_tokens_per_microbatch,
            self.weights.most,
        )

    def run(self, batches: Sequence[MicroBatch], credit: Credit, step: int) -> dict[str, float]:
        """All epochs over one batch.

        Args:
            batches: the micro-batches on which the old log-probabilities were computed; they
                stay, and updates take them in another order in each epoch.
            credit: advantages and targets.
            step: number of the PPO step; fixes the order.

        Returns:
            Means over the updates, skipped ones included, of the first one apart, and how many
            were made, were skipped (ratio or gradient not sane), or ended the batch.
        """
        order, totals = random.Random(f"{self.args.seed}-{step}"), defaultdict(list)
        skipped = 0
        for _ in range(self.args.ppo_epochs):
            for group in self._updates(batches, order):
                stats = self._accumulate(group, credit, step)
                if stats is None:
                    continue
                for name, value in stats.items():
                    totals[name].append(value)
                if self._is_too_far(stats):
                    self.weights.discard()
                    return self._summary(totals, skipped, stopped=True)
                if self._is_wild(stats):
                    self.weights.discard()
                    skipped += 1
                    continue
                norm = self.weights.apply()
                if norm is None:
                    skipped += 1
                else:
                    totals["gradient_norm"].append(norm)
        return self._summary(totals, skipped, stopped=False)

    def _updates(
        self, batches: Sequence[MicroBatch], order: random.Random
    ) -> list[list[MicroBatch]]:
        """The micro-batches of each update of one epoch."""
        if batches[0].update is None:
            shuffled = order.sample(batches, len(batches))
            size = self.args.gradient_accumulation_steps
            return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        parts: dict[int | None, list[MicroBatch]] = defaultdict(list)
        for batch in batches:
            parts[batch.update].append(batch)
        return order.sample(list(parts.values()), len(parts))

    def _accumulate(
        self, group: Sequence[MicroBatch], credit: Credit, step: int
    ) -> dict[str, float] | None:
        """Gradients of one update; None, and no gradients, if no token counts on any process."""
        parts = [(batch, credit.rows(batch)) for batch in group]
        count = sum(int(part.mask.sum()) for _, part in parts)
        count = self._sum(torch.tensor([float(count)]))[0].item()
        if count == 0:
            return None
        totals: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        summed: dict[str, float] = {}
        for number, (batch, part) in enumerate(parts, 1):
            loss, stats = self._losses(batch, part, count, step)
            for name, value in stats.items():
                totals[name] = totals[name] + value.detach().float().cpu()
            last = number == len(parts)
            if last:  # an engine has to know before its last backward pass what becomes of it
                names = sorted(totals)
                figures = self._sum(torch.stack([totals[name] for name in names]))
                summed = dict(zip(names, figures.tolist(), strict=True))
            wanted = not last or not (self._is_too_far(summed) or self._is_wild(summed))
            self.weights.backward(loss, last, wanted)
        return summed

    def _losses(
        self, batch: MicroBatch, part: Credit, count: float, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        args = self.args
        chunk, detach = args.logp_chunk_tokens, step <= args.detach_value_steps
        calls = self.weights.head_calls(-(-int(batch.response_mask.sum()) // chunk))
        logp, values = self.weights.policy(batch, args.temperature, chunk, detach, calls)
        policy = policy_loss(logp, part.old_logp, part.advantages, part.mask, args.cliprange, count)
        value = value_loss(
            values, part.old_values, part.returns, part.mask, args.cliprange_value, count
        )
        weight_p = 0.0 if args.mask_loss == "loss_p" else 1.0
        weight_v = 0.0 if args.mask_loss == "loss_v" else args.vf_coef
        stats = {
            "policy_loss": policy.loss,
            "value_loss": value.loss,
            "clip_fraction": policy.stats["clip_fraction"],
            "approx_kl": policy.stats["approx_kl"],
            "ratio": policy.stats["ratio"],
            "value_error": value.stats["error"],
            "value_clip_fraction": value.stats["clip_fraction"],
        }
        return weight_p * policy.loss + weight_v * value.loss, stats

    def _is_too_far(self, stats: dict[str, float]) -> bool:
        return self.args.early_stopping and stats["approx_kl"] > 1.5 * self.args.target_kl

    def _is_wild(self, stats: dict[str, float]) -> bool:
        return not stats["ratio"] <= self.args.ratio_threshold  # too far, or not a number

    def _sum(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values.to(self.accelerator.device), "sum").cpu()

    @staticmethod
    def _summary(totals: dict[str, list[float]], skipped: int, stopped: bool) -> dict[str, float]:
        out = {name: sum(values) / len(values) for name, values in totals.items()}
        if totals:
            out["first_ratio"] = totals["ratio"][0]
            out["first_approx_kl"] = totals["approx_kl"][0]
        updates = len(totals.get("gradient_norm", ()))
        return {**out, "updates": updates, "skipped_updates": skipped, "stopped_early": stopped}
