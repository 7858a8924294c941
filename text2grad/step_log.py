"""What a PPO step writes down: one row of figures, one row per sampled response."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from text2grad.annotators.reward_prompts import ReplyStats
from text2grad.ppo_math import explained_variance, masked_moments, sample_deviation
from text2grad.rollout import TokenStats
from text2grad.schema import Feedback
from text2grad.scoring import Judged, critique_counts, critique_health
from text2grad.update import Credit


class Stopwatch:
    """Seconds of each phase of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass(frozen=True)
class Tally:
    """What one process saw of a step, as sums: those of all processes make the figures of the step.

    Attributes:
        counts: how many, by name: those of `critique_counts`, and tokens.
        reasons: why critiques were unparseable, and how often.
        moments: count, sum and sum of squares by name, (3,) float64 on the CPU.
        lengths: shortest and longest response in tokens.
        seconds: of each phase.
        replies: how the critic wrote; None if it does not write.
    """

    counts: Counter[str]
    reasons: Counter[str]
    moments: dict[str, Tensor]
    lengths: tuple[int, int]
    seconds: dict[str, float]
    replies: ReplyStats | None

    @classmethod
    def of_all(cls, parts: Sequence[Tally]) -> Tally:
        """The union; the slowest process says how long a phase took."""
        first = parts[0]
        return cls(
            counts=sum((part.counts for part in parts), Counter()),
            reasons=sum((part.reasons for part in parts), Counter()),
            moments={key: sum(part.moments[key] for part in parts) for key in first.moments},
            lengths=(
                min(part.lengths[0] for part in parts),
                max(part.lengths[1] for part in parts),
            ),
            seconds={key: max(part.seconds[key] for part in parts) for key in first.seconds},
            replies=first.replies and first.replies.of_all([part.replies for part in parts]),
        )

    def mean(self, name: str) -> float:
        """Of one of the moments, 0 if nothing was counted."""
        count, total, _ = self.moments[name].tolist()
        return total / max(count, 1)


def tally_step(
    prompts: Sequence[Sequence[int]],
    judged: Sequence[Judged],
    credit: Credit,
    stats: TokenStats,
    rewards: Tensor,
    kl: Tensor,
    limit: int,
    seconds: dict[str, float],
    replies: ReplyStats | None,
) -> Tally:
    """Count what this process saw of a step; unparseable samples count for lengths alone.

    A response of `limit` tokens counts as cut, even if its last token is an end.
    """
    mask = credit.mask
    lengths = [len(one.pieces) for one in judged]
    counts, reasons = critique_counts(judged)
    counts["response_tokens"] = sum(lengths)
    counts["prompt_tokens"] = sum(map(len, prompts))
    counts["cut"] = sum(length >= limit for length in lengths)
    totals = [sum(one.scores) for one in judged if one.scores is not None]

    def of_responses(x: Tensor) -> Tensor:
        earned = x.masked_fill(~mask, 0.0).sum(1)[mask.any(1)]
        return masked_moments(earned, torch.ones_like(earned, dtype=torch.bool)).cpu()

    score = torch.tensor(totals, dtype=torch.float64)
    moments = {
        "score": masked_moments(score, torch.ones_like(score, dtype=torch.bool)),
        "reward": of_responses(rewards),
        # in nats whatever the penalty's estimator, as --kl_target is
        "kl": of_responses(stats.kl_full),
        "kl_per_token": masked_moments(kl, mask).cpu(),
        "entropy": masked_moments(stats.entropy, mask).cpu(),
        "returns": masked_moments(credit.returns, mask).cpu(),
        "value_errors": masked_moments(credit.returns - stats.values, mask).cpu(),
    }
    ends = min(lengths), max(lengths)
    return Tally(counts, reasons, moments, ends, seconds, replies and replace(replies, raw=[]))


def step_metrics(tally: Tally, losses: dict[str, float]) -> dict[str, Any]:
    """The figures of one step; those about feedback leave unparseable samples out.

    Args:
        tally: of all processes.
        losses: likewise, of the optimisation.

    Returns:
        Among others `score` (sum of the token scores, mean over judged responses),
        `score_per_token`, `reward` (score minus KL penalty, summed likewise) and its deviation
        between responses, `advantage_deviation` (between tokens before whitening, in the unit of
        `return_scale`), `kl` (nats per response), `kl_per_token`, `entropy` (nats per token),
        the share of responses that ended only at the limit, seconds and tokens per second of each
        phase.
    """
    counts, moments = tally.counts, tally.moments
    responses, tokens = counts["responses"], counts["response_tokens"]
    row: dict[str, Any] = {
        "score": tally.mean("score"),
        "score_per_token": moments["score"][1].item() / max(counts["scores"], 1),
        "reward": tally.mean("reward"),
        "reward_deviation": sample_deviation(moments["reward"]).item(),
        "kl": tally.mean("kl"),
        "kl_per_token": tally.mean("kl_per_token"),
        "entropy": tally.mean("entropy"),
        "advantage_deviation": sample_deviation(moments["value_errors"]).item(),
        "explained_variance": explained_variance(
            moments["returns"], moments["value_errors"]
        ).item(),
        "prompt_tokens": counts["prompt_tokens"] / responses,
        "response_tokens": tokens / responses,
        "response_tokens_min": tally.lengths[0],
        "response_tokens_max": tally.lengths[1],
        "cut_share": counts["cut"] / responses,
        "judged": counts["judged"],
        "unparseable": dict(tally.reasons),
        **critique_health(counts),
        **losses,
    }
    if counts["noisy_critiques"]:
        row["wrong_quotes"] = counts["wrong_quotes"]
    for phase, spent in tally.seconds.items():
        row[f"seconds_{phase}"] = spent
        if phase != "critique":  # it writes tokens of its own
            row[f"tokens_per_second_{phase}"] = tokens / max(spent, 1e-9)
    return row | (tally.replies.rates() if tally.replies else {})


def sample_rows(
    step: int, judged: Sequence[Judged], credit: Credit, rewards: Tensor, kl: Tensor
) -> Iterator[dict[str, Any]]:
    """One row per response: text, critique, spans, and a list per token of each quantity."""
    for row, one in enumerate(judged):
        length = len(one.pieces)
        said = one.feedback
        parsed = isinstance(said, Feedback)

        def per_token(x: Tensor, row: int = row, length: int = length) -> list[float]:
            return [round(value, 4) for value in x[row, :length].tolist()]

        yield {
            "step": step,
            "id": one.record.id,
            "prompt": one.record.prompt,
            "response": one.record.response,
            "critique": said.critique if parsed else "",
            "unparseable": "" if parsed else said.reason,
            "spans": [span.to_json() for span in one.spans],
            "tokens": one.tokens,
            "score": sum(one.scores) if parsed else None,
            "scores": one.scores,
            "rewards": per_token(rewards) if parsed else None,
            "kl": per_token(kl),
            "advantages": per_token(credit.advantages) if parsed else None,
            "logp": per_token(credit.old_logp),
            "reward_total": round(sum(per_token(rewards)), 4) if parsed else None,
        }
