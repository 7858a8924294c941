"""What isolation costs: runs per second of a trivial Python command, by tier and workers.

    python benchmarks/sandbox.py [--runs 40] [--repeats 5] [--workers 1 2] [--json]

Of the repeats the median is shown. `cpu ms` is processor time of a run, the interpreter's start
included; it changes little with the load of the machine, which runs per second do.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from statistics import median
from typing import Any

from text2grad.sandbox import Sandbox, working_sandboxes
from text2grad.sandbox_pool import Job, SandboxPool
from text2grad.sandbox_tiers import Local
from text2grad.tables import text_table

HEADER = ("tier", "workers", "runs/s", "ms a run", "cpu ms")
JOB = Job({"solution.py": "print(1)\n"}, ["python", "solution.py"])


def cpu_seconds() -> float:
    """Processor time of this process and of all that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(sandbox: Sandbox, workers: int, runs: int, repeats: int) -> dict[str, Any]:
    """Medians over the repeats."""
    pool = SandboxPool(sandbox, workers)
    rates, seconds, cpu = [], [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), cpu_seconds()
        finished = list(pool.run([JOB] * runs))
        rates.append(runs / (time.perf_counter() - began))
        cpu.append((cpu_seconds() - used) / runs)
        seconds.append(median(run.seconds for run in finished))
        if any(run.stdout != "1\n" for run in finished):
            raise SystemExit(f"{sandbox.tier}: a run did not print 1")
    return {
        "tier": sandbox.tier,
        "workers": workers,
        "runs_per_second": median(rates),
        "ms_per_run": 1000 * median(seconds),
        "cpu_ms_per_run": 1000 * median(cpu),
    }


def main() -> None:
    """Measure and print."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, cores}))
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    sandboxes = [*working_sandboxes()[0], Sandbox(Local())]
    found = [
        measure(sandbox, workers, args.runs, args.repeats)
        for sandbox in sandboxes
        for workers in args.workers
    ]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(HEADER, [list(row.values()) for row in found]))


if __name__ == "__main__":
    main()
