"""Solutions against their tests: over all cores, none twice, kept in a journal by content."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from text2grad.files import Journal, sha256_text, side_file
from text2grad.outcomes import LOG_KEY, TestLog
from text2grad.resumable import ask_missing
from text2grad.sandbox import Limits, Sandbox
from text2grad.sandbox_pool import pooled
from text2grad.unit_tests import harness_version, run_tests


@dataclass(frozen=True)
class TestRun:
    """One solution to be run against its tests.

    Attributes:
        id: of its record, for who reads the journal.
        solution, test: the code of both.
    """

    __test__ = False

    id: str
    solution: str
    test: str


def run_all(
    runs: Sequence[TestRun], sandbox: Sandbox, limits: Limits, workers: int, output: str | Path
) -> list[TestLog]:
    """What the tests of each say, in order.

    Beside the output lies NAME.journal.jsonl: what it holds for the same code, tests, limits, tier
    and harness is not run again, nor is the same pair twice.

    Args:
        runs: any number.
        sandbox: where they run.
        limits: of each.
        workers: how many at once, 0 for one per core.
        output: the file that the results are for.

    Raises:
        UserError: the journal cannot be written, or the sandbox does not start.
    """
    fixed = json.dumps([asdict(limits), sandbox.tier, harness_version()])
    keys = [sha256_text(fixed, run.solution, run.test) for run in runs]

    def run_missing(places: Sequence[int], done: Callable[[int, TestLog], None]) -> None:
        def one(place: int) -> TestLog:
            return run_tests(sandbox, runs[place].solution, runs[place].test, limits)

        for number, log in enumerate(pooled(one, places, workers)):
            done(number, log)

    return ask_missing(
        Journal(side_file(output, ".journal.jsonl"), "--output_file"),
        keys,
        run_missing,
        lambda place, log: {"id": runs[place].id, LOG_KEY: log.to_json()},
        lambda row: TestLog.from_json(row[LOG_KEY]),
        retry_failed=False,
        title=f"testing ({sandbox.tier})",
        unit="solution",
    )
