"""Small training runs in processes of their own that die where they are told to; test_kill.py.

    python killed_run.py SETTINGS.json

"runs" of the settings are done one after the other, each with flags of its own; "die_in_save" of a
run is the checkpoint within whose writing the main process kills itself, "ask_at" the step in whose
critique the last process gets a SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from policy_ranks import forget_launch
from policy_runs import config, trainer

from text2grad.config import RewardTrainConfig
from text2grad.reward_model import train_reward_model
from text2grad.schema import Stopped


def die_in_save(name: str) -> None:
    """Let the next `torch.save` into the checkpoint `name` write half a file and end it all."""
    save = torch.save

    def half(value: Any, path: Any, *more: Any, **named: Any) -> None:
        save(value, path, *more, **named)
        if name in str(path):
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def run_policy(files: tuple[str, str], folder: Path, ask_at: int, **flags: Any) -> None:
    made = trainer(config(*files, folder, **flags))
    made.accelerator.end_training = lambda: None  # the next run needs the communication
    last = made.accelerator.process_index == made.accelerator.num_processes - 1
    annotate = made.critic.annotate

    def annotate_and_ask(records: Any) -> Any:
        if last and made.step_number == ask_at - 1:
            signal.raise_signal(signal.SIGTERM)
        return annotate(records)

    made.critic.annotate = annotate_and_ask
    try:
        made.train()
    except Stopped:
        assert ask_at


def main(settings: dict[str, Any]) -> None:
    for name, run in settings["runs"].items():
        forget_launch()
        flags, folder = run["flags"], Path(settings["folder"]) / name
        if run.get("die_in_save"):
            die_in_save(run["die_in_save"])
        if settings["kind"] == "policy":
            run_policy((settings["model"], settings["data"]), folder, run.get("ask_at", 0), **flags)
        else:
            train_reward_model(RewardTrainConfig(**flags | {"output_dir": str(folder)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    file = Path(next(word for word in sys.argv[1:] if not word.startswith("--")))
    main(json.loads(file.read_text(encoding="utf-8")))
