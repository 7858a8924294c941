"""A request to stop: heard by one process, followed by all at the same place."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from text2grad.schema import Stopped

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Launchers pass on what Slurm has sent to them and to the processes alike; torch's and DeepSpeed's
# do so within a second.
SAME_REQUEST_SECONDS = 5.0


class StopRequest:
    """Remembers within its context that SIGTERM or SIGUSR1 came; a later second one ends at once.

    Attributes:
        asked: the signal's name, "" before it came to this process.
    """

    def __init__(self) -> None:
        self.asked, self._since = "", 0.0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # others may not
            self._earlier = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: Any) -> None:
        name = signal.Signals(number).name
        if not self.asked:
            self.asked, self._since = name, time.monotonic()
            # print() may be what the signal has interrupted
            os.write(2, f"\n{name}: saving at the next safe place, then stopping\n".encode())
        elif time.monotonic() - self._since >= SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Whether any process was asked; all of them have to call, and all get one answer."""
        asked = torch.tensor(float(bool(self.asked)), device=accelerator.device)
        return bool(accelerator.reduce(asked, "sum").item())

    def check(self, accelerator: Accelerator) -> None:
        """Leave what all processes are doing if any was asked.

        Raises:
            Stopped: likewise on all of them.
        """
        if self.anywhere(accelerator):
            raise Stopped
