"""A PPO step written down as plainly as possible: one response at a time, all logits, loops.

It shares no code with the library. Everything is a list of floats, one per sampled token, but for
what has gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class NaiveStep:
    """Policy and value head are updated in place.

    Args:
        policy: has `lm`, a PEFT model, and `value_head.linear`.
        flags: of the run.
        kl_coef: weight of the KL penalty.
    """

    def __init__(self, policy: Any, flags: Any, kl_coef: float) -> None:
        self.policy, self.flags, self.kl_coef = policy, flags, kl_coef
        self.trained = [p for p in policy.parameters() if p.requires_grad]
        adapter = [p for p in policy.lm.parameters() if p.requires_grad]
        head = [*policy.value_head.parameters()]
        self.optimizer = torch.optim.AdamW(
            [{"params": adapter}, {"params": head, "lr": flags.value_learning_rate}],
            lr=flags.learning_rate,
            weight_decay=0.0,
        )

    def run(
        self,
        prompts: Sequence[list[int]],
        responses: Sequence[list[int]],
        scores: Sequence[list[float]],
        updates: Sequence[Sequence[int]],
    ) -> None:
        """One PPO step; `updates` are the rows of each update, in their order."""
        old = [self._observe(*pair) for pair in zip(prompts, responses, strict=True)]
        credit = self._credit(old, scores)
        for rows in updates:
            count = sum(len(responses[row]) for row in rows)
            loss = sum(self._loss(prompts[r], responses[r], old[r], credit[r]) for r in rows)
            self.optimizer.zero_grad()
            (loss / count).backward()
            norm = math.sqrt(sum(float(p.grad.double().square().sum()) for p in self.trained))
            if norm > self.flags.max_grad_norm:
                for parameter in self.trained:
                    parameter.grad.mul_(self.flags.max_grad_norm / (norm + 1e-6))
            self.optimizer.step()

    def _forward(self, prompt: list[int], response: list[int]) -> tuple[Tensor, Tensor]:
        """(R, V) log-probabilities and (R,) values."""
        ids = torch.tensor([prompt + response])
        out = self.policy.lm(input_ids=ids, output_hidden_states=True)
        first = len(prompt) - 1
        logps = torch.log_softmax(out.logits[0, first:-1] / self.flags.temperature, dim=-1)
        head = self.policy.value_head.linear
        return logps, out.hidden_states[-1][0, first:-1] @ head.weight[0] + head.bias

    @torch.no_grad()
    def _observe(self, prompt: list[int], response: list[int]) -> dict[str, list[float]]:
        logps, values = self._forward(prompt, response)
        with self.policy.lm.disable_adapter():
            ref_logps, _ = self._forward(prompt, response)
        kl = (logps.exp() * (logps - ref_logps)).sum(-1)
        picked = [float(logps[place, token]) for place, token in enumerate(response)]
        return {"logp": picked, "values": values.tolist(), "kl": kl.tolist()}

    def _credit(self, old: list[dict], scores: Sequence[list[float]]) -> list[tuple[list, list]]:
        """Whitened advantages and returns in the unit of the value head, of each response."""
        rewards = [
            [score - self.kl_coef * kl for score, kl in zip(row, seen["kl"], strict=True)]
            for row, seen in zip(scores, old, strict=True)
        ]
        plain = [sum(row[place:]) for row in rewards for place in range(len(row))]
        scale = max(math.sqrt(sum(x * x for x in plain) / len(plain)), 0.1)
        advantages, returns = [], []
        for row, seen in zip(rewards, old, strict=True):
            values = [value * scale for value in seen["values"]] + [0.0]
            errors = [row[t] + values[t + 1] - values[t] for t in range(len(row))]
            own = [
                sum(self.flags.lam ** (k - t) * errors[k] for k in range(t, len(row)))
                for t in range(len(row))
            ]
            advantages.append(own)
            returns.append([(own[t] + values[t]) / scale for t in range(len(row))])
        flat = [x for row in advantages for x in row]
        mean = sum(flat) / len(flat)
        deviation = max(math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat)), 0.1)
        white = [[(x - mean) / deviation for x in row] for row in advantages]
        return list(zip(white, returns, strict=True))

    def _loss(self, prompt: list[int], response: list[int], old: dict, credit: tuple) -> Tensor:
        """Sum over the tokens of one response."""
        logps, values = self._forward(prompt, response)
        clip, clip_v = self.flags.cliprange, self.flags.cliprange_value
        total = torch.zeros(())
        for place, token in enumerate(response):
            advantage, target = credit[0][place], credit[1][place]
            ratio = (logps[place, token] - old["logp"][place]).exp()
            held = ratio.clamp(1 - clip, 1 + clip)
            total = total + torch.max(-advantage * ratio, -advantage * held)
            value, before = values[place], old["values"][place]
            near = before + (value - before).clamp(-clip_v, clip_v)
            worst = torch.max((value - target) ** 2, (near - target) ** 2)
            total = total + self.flags.vf_coef * 0.5 * worst
        return total
