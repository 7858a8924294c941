"""What the two programs of ppo_step.py have in common; needs Python and torch alone.

A program loads its model, says that it is ready, and makes a step for each line on its standard
input; all it says are JSON lines on standard output.
"""

from __future__ import annotations

import gc
import json
import random
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_SELF = Path("/proc/self")


@dataclass(frozen=True)
class Settings:
    """One program's part of the benchmark, read from its first argument."""

    model: str
    dtype: str
    folder: str
    prompt_tokens: int
    response_tokens: int
    batch_size: int
    mini_batch_size: int
    ppo_epochs: int
    lora_r: int
    learning_rate: float
    kl_penalty: str
    threads: int
    own: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Settings:
        """From the command line; from now on what libraries print goes to standard error."""
        sys.stdout = sys.stderr
        return cls(**json.loads(sys.argv[1]))

    def sequences(self, vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
        """Prompts of about, and responses of exactly the length asked for; always the same ones."""
        draw = random.Random(0)

        def ids(count: int) -> list[int]:
            return [draw.randrange(10, vocabulary) for _ in range(count)]

        spread = self.prompt_tokens // 8
        lengths = [
            self.prompt_tokens + draw.randint(-spread, spread) for _ in range(self.batch_size)
        ]
        return [ids(n) for n in lengths], [ids(self.response_tokens) for _ in lengths]

    def token_scores(self) -> list[list[float]]:
        """-1, 0 or 1 for each token of each response."""
        draw = random.Random(1)
        rows = range(self.batch_size)
        return [[float(draw.randint(-1, 1)) for _ in range(self.response_tokens)] for _ in rows]


def serve(settings: Settings, step: Callable[[], Any], **facts: Any) -> None:
    """Say what was built, then make a step for each line that comes in."""
    voice = sys.__stdout__
    gc.collect()
    try:
        (_SELF / "clear_refs").write_text("5")  # the high-water mark falls to what is used now
    except OSError:
        facts["mark"] = "includes loading"
    facts |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    print(json.dumps({"ready": True, "loaded_mib": _mib("VmRSS"), **facts}), file=voice, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step()
        seconds = time.perf_counter() - began
        said = {"seconds": seconds, "peak_mib": _mib("VmHWM")}
        print(json.dumps(said), file=voice, flush=True)


def _mib(name: str) -> float:
    status = (_SELF / "status").read_text(encoding="ascii")
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, flags=re.M)[1]) / 1024
