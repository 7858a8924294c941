"""The optimisation of one batch by text2grad's trainer; started by ppo_step.py."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import torch
from ppo_step_worker import Settings, serve

from text2grad.config import PolicyConfig
from text2grad.models import backbone, quiet_libraries
from text2grad.run_folder import MetricsFile
from text2grad.schema import Feedback
from text2grad.scoring import Judged
from text2grad.trainer import Text2GradTrainer


def build(settings: Settings) -> Text2GradTrainer:
    """A trainer that finds everything sampled and judged; all else is as in a run."""
    folder = Path(settings.folder)
    data = folder / "posts.json"
    rows = [
        {"id": str(number), "post": f"Post {number}.", "ideal_human_summary": "A summary."}
        for number in range(settings.batch_size)
    ]
    data.write_text(json.dumps(rows), encoding="utf-8")
    flags = {
        "mini_batch_size": settings.mini_batch_size,
        "gradient_accumulation_steps": settings.batch_size // settings.mini_batch_size,
    }
    args = PolicyConfig(
        base_model_name=settings.model,
        feedback_source="reference",
        reward_model_metrics="",
        data_file_path=str(data),
        output_dir=str(folder),
        dtype=settings.dtype,
        lora_r=settings.lora_r,
        lora_alpha=2 * settings.lora_r,
        batch_size=settings.batch_size,
        ppo_epochs=settings.ppo_epochs,
        learning_rate=settings.learning_rate,
        kl_penalty=settings.kl_penalty,
        adafactor=False,
        lr_scheduler_type="constant",
        steps=100,
        train_epochs=100,
        **(flags | settings.own),
    )
    made = Text2GradTrainer(args)
    made.metrics = MetricsFile(folder / "metrics.jsonl", 0)
    made.samples = MetricsFile(folder / "samples.jsonl", 0)
    sampled = settings.sequences(made.policy.config.vocab_size)
    scores = settings.token_scores()
    made.collect = lambda records: sampled
    made.critique = lambda records, responses: [
        Judged(record, [b"a"] * len(row), Feedback("", ()), (), row, len(row))
        for record, row in zip(records, scores, strict=True)
    ]
    return made


def products_seconds(settings: Settings, lm: torch.nn.Module) -> float:
    """What the products of a step with the frozen weights take by themselves, nothing padded.

    Each is timed on as many rows as it has in a step, the fastest of several times: all tokens
    below the head, those of the responses in it; twice to score, and forward and backward in each
    epoch.
    """
    prompts, responses = settings.sequences(lm.config.vocab_size)
    answered = sum(map(len, responses))
    rows = sum(map(len, prompts)) + answered
    inner = [m for m in backbone(lm).modules() if type(m) is torch.nn.Linear]
    counts = Counter(tuple(m.weight.shape) for m in inner if not m.weight.requires_grad)
    passes = 2 + 2 * settings.ppo_epochs
    head = tuple(lm.get_output_embeddings().weight.shape)
    sizes = [(rows, *shape, count) for shape, count in counts.items()] + [(answered, *head, 1)]
    return passes * sum(n * _seconds(r, o, i, lm.dtype) for r, o, i, n in sizes)


def _seconds(rows: int, outputs: int, inputs: int, dtype: torch.dtype) -> float:
    x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    taken = []
    with torch.inference_mode():
        for _ in range(6):
            began = time.perf_counter()
            torch.nn.functional.linear(x, weight)
            taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    """Build, then serve."""
    settings = Settings.read()
    torch.set_num_threads(settings.threads)
    quiet_libraries()
    made = build(settings)
    records = made.order.batch(0)
    model = made.policy.lm.get_base_model()
    serve(
        settings,
        lambda: made.step(records),
        products_seconds=products_seconds(settings, model),
        attention=model.config._attn_implementation,
        dtype=str(model.dtype).removeprefix("torch."),
    )


if __name__ == "__main__":
    main()
