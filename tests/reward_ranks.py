"""One of several processes that train small adapters; `test_reward_ranks.py` starts them.

    python -m deepspeed.launcher.runner --num_accelerators 2 reward_ranks.py SETTINGS.json

Writes `rank_{i}.json` beside the settings: for each of the runs what was found in this process.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers.integrations import unset_hf_deepspeed_config
from trl import SFTConfig as TrlConfig

from text2grad.config import RewardTrainConfig, SFTConfig
from text2grad.reward_model import train_reward_model
from text2grad.sft import train_sft
from text2grad.target_trainer import TargetTrainer


class Watched(TargetTrainer):
    """Notes which rows it was given, and what its engine is."""

    last: Watched

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        Watched.last = self
        self.rows: list[list[str]] = []

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *more: Any, **named: Any) -> Any:
        if model.training:
            masks = inputs["attention_mask"].bool()
            rows = [
                ids[mask].tolist() for ids, mask in zip(inputs["input_ids"], masks, strict=True)
            ]
            self.rows.append([hashlib.sha256(str(ids).encode()).hexdigest()[:12] for ids in rows])
        return super().compute_loss(model, inputs, *more, **named)


def forget_launch() -> None:
    """A second run in one process starts as the first one did, and loads its model whole."""
    unset_hf_deepspeed_config()
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)


def every_step(**settings: Any) -> TrlConfig:
    """The trainer's settings, with a line in its log for every update."""
    return TrlConfig(**settings | {"logging_steps": 1})


def train(settings: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    """One run in the folder `name`; the rows of each forward pass, the log, and the engine."""
    forget_launch()
    folder = Path(settings["folder"]) / name
    flags = settings["flags"] | {"output_dir": str(folder)} | changes
    flags["lora_target_modules"] = tuple(flags["lora_target_modules"])
    with (
        patch("text2grad.supervised.TargetTrainer", Watched),
        patch("text2grad.supervised.TrlConfig", every_step),
    ):
        if flags.pop("sft", False):
            flags["base_model_name"] = flags.pop("base_model")
            train_sft(SFTConfig(**flags))
        else:
            more = {"valid_data_path": settings["valid"], "data_dir": str(folder / "data")}
            train_reward_model(RewardTrainConfig(**flags | more))
    trainer = Watched.last
    engine = trainer.model_wrapped
    found = {"rows": trainer.rows, "log": trainer.state.log_history}
    found |= {"processes": trainer.args.world_size, "engine": type(engine).__name__}
    if trainer.is_deepspeed_enabled:
        found |= {"stage": engine.zero_optimization_stage(), "clip": engine.gradient_clipping()}
        found["accumulation"] = engine.gradient_accumulation_steps()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    file = Path(next(word for word in sys.argv[1:] if not word.startswith("--")))
    given = json.loads(file.read_text(encoding="utf-8"))
    done = {name: train(given, name, **changes) for name, changes in given["runs"].items()}
    place = file.parent / f"rank_{os.environ['RANK']}.json"
    place.write_text(json.dumps(done), encoding="utf-8")
