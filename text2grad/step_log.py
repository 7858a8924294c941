"""What a PPO step writes down: one row of figures, one row per sampled response."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from text2grad.ppo_math import explained_variance, masked_mean
from text2grad.rollout import TokenStats
from text2grad.schema import Feedback
from text2grad.scoring import Judged, critique_health
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


def step_metrics(
    judged: Sequence[Judged],
    credit: Credit,
    stats: TokenStats,
    rewards: Tensor,
    kl: Tensor,
    losses: dict[str, float],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The figures of one step; those about feedback leave unparseable samples out.

    Returns:
        Among others `score` (sum of the token scores, mean over judged responses),
        `score_per_token`, `reward` (score minus KL penalty, summed likewise) and its deviation
        between responses, `kl_per_token`,
        `entropy` (nats per token) and seconds and tokens per second of each phase.
    """
    mask = credit.mask
    lengths = [len(one.pieces) for one in judged]
    totals = [sum(one.scores) for one in judged if one.scores is not None]
    n_judged = max(len(totals), 1)
    n_scores = max(sum(len(one.scores) for one in judged if one.scores is not None), 1)
    earned = (rewards * mask).sum(1)[mask.any(1)]
    tokens = sum(lengths)
    row: dict[str, Any] = {
        "score": sum(totals) / n_judged,
        "score_per_token": sum(totals) / n_scores,
        "reward": (rewards * mask).sum().item() / n_judged,
        "reward_deviation": earned.std().item() if len(earned) > 1 else 0.0,
        "kl_per_token": masked_mean(kl, mask).item(),
        "entropy": masked_mean(stats.entropy, mask).item(),
        "explained_variance": explained_variance(stats.values, credit.returns, mask).item(),
        "response_tokens": tokens / len(judged),
        "judged": len(totals),
        **critique_health(judged),
        **losses,
    }
    for phase, spent in seconds.items():
        row[f"seconds_{phase}"] = spent
        if phase != "critique":  # it writes tokens of its own, see the critic's rates
            row[f"tokens_per_second_{phase}"] = tokens / max(spent, 1e-9)
    return row


def length_figures(
    prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], limit: int
) -> dict[str, float]:
    """Lengths of a step in tokens, and the share of responses that ended only at the limit.

    A response of just `limit` tokens counts as cut, even if its last token is an end.
    """
    lengths = [len(response) for response in responses]
    return {
        "prompt_tokens": sum(map(len, prompts)) / len(prompts),
        "response_tokens_min": min(lengths),
        "response_tokens_max": max(lengths),
        "cut_share": sum(length >= limit for length in lengths) / len(lengths),
    }


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
