"""What isolation costs: runs per second of a trivial Python command and a trivial test, by tier.

    python benchmarks/sandbox.py [--runs 40] [--repeats 5] [--workers 1 2] [--json]

`test` is a solution of two lines against a test file with one assertion, as `test_case.py` runs
it; tests that import pytest take as much longer as that import does. Of the repeats the median is
shown. `cpu ms` is processor time of a run, the interpreter's start included; it changes little with
the load of the machine, which runs per second do.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from statistics import median
from typing import Any

from text2grad.sandbox import Sandbox, working_sandboxes
from text2grad.sandbox_pool import pooled
from text2grad.sandbox_tiers import Local
from text2grad.tables import text_table
from text2grad.unit_tests import run_tests

HEADER = ("tier", "work", "workers", "runs/s", "ms a run", "cpu ms")
SOLUTION = "def f(x):\n    return x + 1\n"
TEST = "from solution import f\n\n\ndef test_f():\n    assert f(1) == 2\n"


def run_command(sandbox: Sandbox) -> bool:
    """Start the interpreter and print; whether that was seen."""
    return sandbox.run({"solution.py": "print(1)\n"}, ["python", "solution.py"]).stdout == "1\n"


def run_test(sandbox: Sandbox) -> bool:
    """Run a test file with one assertion; whether it passed."""
    return run_tests(sandbox, SOLUTION, TEST).passed


WORK = {"command": run_command, "test": run_test}


def cpu_seconds() -> float:
    """Processor time of this process and of all that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(sandbox: Sandbox, work: str, workers: int, runs: int, repeats: int) -> dict[str, Any]:
    """Medians over the repeats."""

    def one(_: int) -> float:
        began = time.perf_counter()
        if not WORK[work](sandbox):
            raise SystemExit(f"{sandbox.tier}: a {work} did not do what it should")
        return time.perf_counter() - began

    rates, seconds, cpu = [], [], []
    for _ in range(repeats):
        began, used = time.perf_counter(), cpu_seconds()
        took = list(pooled(one, range(runs), workers))
        rates.append(runs / (time.perf_counter() - began))
        cpu.append((cpu_seconds() - used) / runs)
        seconds.append(median(took))
    return {
        "tier": sandbox.tier,
        "work": work,
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
        measure(sandbox, work, workers, args.runs, args.repeats)
        for sandbox in sandboxes
        for work in WORK
        for workers in args.workers
    ]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(HEADER, [list(row.values()) for row in found]))


if __name__ == "__main__":
    main()
