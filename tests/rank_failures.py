"""One of two processes of a small PPO run of which the second fails in its second step, or waits.

    FAILURE=killed MARK=FILE python -m accelerate.commands.launch ... rank_failures.py FLAGS

It writes the time at which it fails into MARK; `test_rank_failures.py` starts it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from policy_runs import FakeCritic

from text2grad.config import PolicyConfig, launch
from text2grad.schema import Record, UserError
from text2grad.trainer import Text2GradTrainer


def fail() -> None:
    """As FAILURE says."""
    how = os.environ["FAILURE"]
    Path(os.environ["MARK"]).write_text(str(time.time()), encoding="utf-8")
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "broken":
        raise RuntimeError("the critic is broken")
    if how == "waiting":  # until it is told to stop, as its launcher is meanwhile
        stopping = signal.getsignal(signal.SIGTERM).__self__
        until = time.time() + 120
        while not stopping.asked and time.time() < until:
            time.sleep(0.05)
        return
    if how == "away":
        raise UserError("--reward_base_url http://my-server: busy or away")
    time.sleep(600)


class FailingCritic(FakeCritic):
    """Fails when it is asked for the second time, in the second process alone."""

    asked = 0

    def annotate(self, records: Sequence[Record]) -> list[Any]:
        self.asked += 1
        if self.asked == 2 and os.environ["RANK"] == "1":
            fail()
        return super().annotate(records)


def train(args: PolicyConfig) -> None:
    """As `train_policy`, with that critic."""
    with patch("text2grad.trainer.build_critic", return_value=FailingCritic()):
        Text2GradTrainer(args).train()


if __name__ == "__main__":
    torch.set_num_threads(1)
    launch(PolicyConfig, "rank_failures:train")
