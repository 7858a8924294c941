"""Small PPO runs for the tests: a tiny policy on disk, a few prompts, critics without a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tiny import byte_level_tokenizer, tiny_llama

from text2grad.annotators.reward_model import DecodingStats
from text2grad.config import PolicyConfig
from text2grad.rollout import MicroBatch, TokenStats
from text2grad.schema import Feedback, Record, Span, Unparseable
from text2grad.scoring import Judged
from text2grad.trainer import Text2GradTrainer

POSTS = (
    "My sister said that she would not come home.",
    "The dog ran to the park.",
    "Last week my boss told me that the project was late, so I worked all night. Is it wrong?",
    "We have been together for two years and I do not know what to do.",
    "There is one thing.",
    "Is it wrong to ask for more money?",
    "I think the summary is good because it keeps the main point of the post.",
    "The meeting was on Monday.",
)


class FakeCritic:
    """Quotes single characters of the response.

    Args:
        fails: whether the record has no readable critique.
        good: characters that are good.
        poor: characters that are poor.
    """

    def __init__(
        self,
        fails: Callable[[Record], bool] = lambda record: False,
        good: str = "e",
        poor: str = "o",
    ) -> None:
        self.fails = fails
        self.stats = DecodingStats()
        self.labels = dict.fromkeys(good, "good") | dict.fromkeys(poor, "poor")

    def annotate(self, records: Sequence[Record]) -> list[Feedback | Unparseable]:
        said = [self._judge(record) for record in records]
        # one token a response: the first choice of every fourth was rejected
        self.stats = DecodingStats(len(said), len(said), 1.0, [], 4 * len(said), len(said))
        return said

    def _judge(self, record: Record) -> Feedback | Unparseable:
        if self.fails(record):
            return Unparseable("not JSON", "...")
        spans = [
            Span(char, self.labels[char], place, place + 1)
            for place, char in enumerate(record.response)
            if char in self.labels
        ]
        return Feedback("e is good, o is poor", tuple(spans))


def write_posts(path: Path, posts: Sequence[str] = POSTS) -> str:
    rows = [
        {"id": f"p{number}", "post": post, "ideal_human_summary": post[:20]}
        for number, post in enumerate(posts)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def save_tiny(folder: Path, **changes: Any) -> str:
    """A tiny policy whose weights are large enough that its adapter can change what it says."""
    tokenizer = byte_level_tokenizer()
    tiny_llama(tokenizer, **{"initializer_range": 0.2} | changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def config(model: str, data: str, output_dir: Path, **changes: Any) -> PolicyConfig:
    flags: dict[str, Any] = {
        "base_model_name": model,
        "data_file_path": data,
        "output_dir": str(output_dir),
        "dtype": "fp32",
        "lora_target_modules": ("all-linear",),
        "steps": 2,
        "train_epochs": 10,
        "batch_size": 4,
        "mini_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "ppo_epochs": 2,
        "output_max_length": 12,
        "prompt_max_length": 128,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "adafactor": False,
        "kl_horizon": 100,
        "save_freq": 100,
    }
    return PolicyConfig(**flags | changes)


def trainer(args: PolicyConfig, critic: Any = None) -> Text2GradTrainer:
    """A trainer with a critic that needs no model."""
    with patch("text2grad.trainer.build_critic", return_value=critic or FakeCritic()):
        return Text2GradTrainer(args)


def rows_of(folder: str | Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    lines = (Path(folder) / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def comparable(rows):
    """Metrics without what a clock measured."""
    return [{name: value for name, value in row.items() if "second" not in name} for row in rows]


def trained_weights(made: Text2GradTrainer) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in made.policy.named_parameters() if p.requires_grad}


def scored(made: Text2GradTrainer) -> tuple[list[MicroBatch], list[Judged], TokenStats]:
    """The first batch up to the optimisation."""
    records = made.order.batch(0)
    prompts, responses = made.collect(records)
    judged = made.critique(records, responses)
    batches = made._micro_batches(prompts, responses)
    return batches, judged, made._token_stats(batches, responses)


def nudge(made: Text2GradTrainer) -> None:
    """Give adapter and value head weights that are not 0, so that every gradient is real."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in made.policy.named_parameters():
            if parameter.requires_grad and ("lora_B" in name or "value_head.linear.weight" in name):
                parameter.normal_(std=0.1)
