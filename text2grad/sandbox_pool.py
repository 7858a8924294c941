"""Many runs at once over all cores, in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items waiting for a worker, for each worker: enough to keep it busy, few enough to read as needed.
AHEAD = 2


def pooled(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 0
) -> Iterator[Result]:
    """`work` of each item, in order; items are read as they are needed.

    Args:
        work: calls the sandbox; runs on threads.
        items: any number.
        workers: how many at once, 0: one for each core that this process may use.
    """
    workers = workers or len(os.sched_getaffinity(0))
    waiting: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
    try:
        for item in items:
            waiting.append(executor.submit(work, item))
            if len(waiting) >= workers * (1 + AHEAD):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
