"""Many runs at once over all cores, in order, and none twice."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from text2grad.files import check_writable
from text2grad.sandbox import Finished, Limits, Sandbox

Item = TypeVar("Item")
Result = TypeVar("Result")
Row = dict[str, Any]

# Jobs waiting for a worker, for each worker: enough to keep it busy, few enough to read as needed.
AHEAD = 2


@dataclass(frozen=True)
class Job:
    """One call of `Sandbox.run`."""

    files: Mapping[str, str | bytes]
    command: Sequence[str]
    limits: Limits = Limits()
    stdin: bytes = b""


class ResultCache:
    """JSON objects in a folder, by a hash of what they were made from; "" keeps nothing.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, flag: str = "--cache_dir") -> None:
        self.folder = check_writable(folder, flag) if folder else None

    def get(self, key: str) -> Row | None:
        """The object, or None if there is none or its file is damaged."""
        if self.folder is None:
            return None
        try:
            row = json.loads(self._path(key).read_bytes())
        except (OSError, ValueError):
            return None
        return row if isinstance(row, dict) else None

    def put(self, key: str, row: Row) -> None:
        """Keep an object; other processes see all of it or nothing."""
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as out:
            out.write(json.dumps(row).encode())
        os.replace(out.name, path)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def content_key(*parts: str | bytes) -> str:
    """Hash of texts, each with its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def job_key(job: Job, sandbox: Sandbox) -> str:
    """Hash of what decides a job's result, but not of the site-packages.

    These are tier, limits, command, standard input, files, the interpreter's version, and which
    fields a result has.
    """
    made_by = f"{sys.version} {[field.name for field in fields(Finished)]}"
    files = [part for name in sorted(job.files) for part in (name, job.files[name])]
    limits = json.dumps(asdict(job.limits), sort_keys=True)
    count = str(len(job.command))
    return content_key(made_by, sandbox.tier, limits, count, *job.command, job.stdin, *files)


class SandboxPool:
    """Runs jobs at the same time, and hands their results out in order.

    Args:
        sandbox: where they run.
        workers: how many at once, 0: one for each core that this process may use.
        cache_folder: where results are kept between runs, "": nowhere.
    """

    def __init__(self, sandbox: Sandbox, workers: int = 0, cache_folder: str | Path = "") -> None:
        self.sandbox = sandbox
        self.workers = workers or len(os.sched_getaffinity(0))
        self.cache = ResultCache(cache_folder)

    def run(self, jobs: Iterable[Job]) -> Iterator[Finished]:
        """The result of each job, as `Sandbox.run` gives it."""
        return self.map(self._finish, jobs)

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work` of each item, on the pool's threads; for work that calls `Sandbox.run` itself."""
        waiting: deque[Future[Result]] = deque()
        executor = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")
        try:
            for item in items:
                waiting.append(executor.submit(work, item))
                if len(waiting) >= self.workers * (1 + AHEAD):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)

    def _finish(self, job: Job) -> Finished:
        key = job_key(job, self.sandbox)
        kept = self.cache.get(key)
        if kept is not None:
            return Finished(**(kept | {"report": base64.b64decode(kept["report"])}))
        finished = self.sandbox.run(job.files, job.command, job.limits, job.stdin)
        # Whether the wall time was enough may depend on what else the machine did.
        if finished.limit != "wall time":
            report = base64.b64encode(finished.report).decode()
            self.cache.put(key, asdict(finished) | {"report": report})
        return finished
