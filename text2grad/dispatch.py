"""Many requests at once: one that has to wait gives its place to another, a busy server gets fewer.

Times are those of the event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Job = TypeVar("Job")

_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0
_WINDOW = 16  # outcomes at least, before the pace is changed
_BUSY_SHARE = 0.25


@dataclass(frozen=True)
class Later:
    """A request has to be sent again.

    Attributes:
        seconds: not before they have passed.
        busy: because the server has too much to do.
    """

    seconds: float
    busy: bool = False


def backoff_seconds(
    failures: int, draw: Callable[[], float], retry_after: float | None = None
) -> float:
    """How long to wait after so many failures.

    Args:
        failures: 1 after the first.
        draw: a number in [0, 1), so that requests which failed together do not return together.
        retry_after: seconds that the server asked for; never less than these.

    Example: draw 0.5; failures 1, 2, 3 -> 0.375, 0.75, 1.5; with retry_after 2 -> 2.375, ...
    """
    doubled = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (failures - 1))
    wait = doubled * (0.5 + 0.5 * draw())
    return wait if retry_after is None else retry_after + min(wait, _FIRST_WAIT)


class Pace:
    """How many requests may be under way.

    One until the first is back: a wrong key or model costs one request. Then all, as long as at
    most a quarter of the outcomes in a window says that the server is busy; else half of them, and
    from there an eighth more per window.

    Args:
        most: at most so many.
        is_open: a first one is back already.
    """

    def __init__(self, most: int, is_open: bool = False) -> None:
        self.limit = most if is_open else 1
        self._most = most
        self._seen = self._busy = 0
        self._is_open = is_open

    def note(self, busy: bool) -> None:
        """Count one outcome."""
        if not self._is_open:
            self.limit, self._is_open = self._most, True
        self._seen += 1
        self._busy += busy
        if self._seen < max(_WINDOW, self.limit):
            return
        if self._busy > _BUSY_SHARE * self._seen:
            self.limit = max(1, self.limit // 2)
        else:
            self.limit = min(self._most, self.limit + max(1, self.limit // 8))
        self._seen = self._busy = 0


async def dispatch(
    jobs: Iterable[Job],
    attempt: Callable[[Job], Awaitable[Later | None]],
    concurrency: int,
    is_open: bool = False,
) -> None:
    """Attempt every job until it is done, at most `concurrency` at a time.

    Jobs are taken one by one as there is room, and only while fewer than `concurrency` wait to be
    sent again: a server that refuses everything is not shown the whole list.

    Args:
        jobs: may be made lazily.
        attempt: sends one; None when it is done.
        concurrency: attempts under way at once.
        is_open: do not wait for the first attempt before the others start.

    Raises:
        Exception: the first that an attempt raised. Nothing new is started then, but the attempts
            under way are finished: their replies have been paid for.
    """
    await _Dispatch(iter(jobs), attempt, concurrency, is_open).run()


class _Dispatch:
    """The state of one `dispatch`."""

    def __init__(
        self,
        fresh: Iterator[Job],
        attempt: Callable[[Job], Awaitable[Later | None]],
        most: int,
        is_open: bool,
    ) -> None:
        self._fresh, self._attempt, self._most = fresh, attempt, most
        self._pace = Pace(most, is_open)
        self._waiting: list[tuple[float, int, Job]] = []
        self._running: dict[asyncio.Task, Job] = {}
        self._sent = 0
        self._error: BaseException | None = None

    async def run(self) -> None:
        now = asyncio.get_running_loop().time
        try:
            while True:
                self._start(now())
                if not self._running and (self._error or not self._waiting):
                    break
                pause = max(0.0, self._waiting[0][0] - now()) if self._waiting else None
                if len(self._running) >= self._pace.limit or self._error:
                    pause = None
                await self._collect(pause, now)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        if self._error:
            raise self._error

    def _start(self, now: float) -> None:
        while not self._error and len(self._running) < self._pace.limit:
            if self._waiting and self._waiting[0][0] <= now:
                job = heapq.heappop(self._waiting)[2]
            elif len(self._waiting) < self._most:
                try:
                    job = next(self._fresh)
                except StopIteration:
                    return
            else:
                return
            self._running[asyncio.ensure_future(self._attempt(job))] = job

    async def _collect(self, pause: float | None, now: Callable[[], float]) -> None:
        """Wait until an attempt is back or, for `pause` seconds, until one can be sent again."""
        if not self._running:
            await asyncio.sleep(pause or 0.0)
            return
        finished, _ = await asyncio.wait(
            self._running, timeout=pause, return_when=asyncio.FIRST_COMPLETED
        )
        for task in finished:
            job = self._running.pop(task)
            if task.exception():
                self._error = self._error or task.exception()
                continue
            later = task.result()
            self._pace.note(later is not None and later.busy)
            if later is not None:
                self._sent += 1
                heapq.heappush(self._waiting, (now() + later.seconds, self._sent, job))
