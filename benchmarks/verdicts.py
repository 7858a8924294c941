"""Verdicts of the tests here beside somebody else's on the same solutions.

    python benchmarks/verdicts.py --data_path trials.json [--status_key upstream_status] [--json]

In: records with `solution`, `test` and, under --status_key, "pass" or "fail" (or true or false),
for example the trials in the demo folder of KodCode's repository. Out: how many verdicts agree, and
each record that differs with the reason given here. A record whose tests need a module that is not
installed here is counted apart: it says nothing about either side.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from text2grad.outcomes import TestLog
from text2grad.records import read_records
from text2grad.sandbox import Limits, Sandbox, find_sandbox
from text2grad.sandbox_pool import pooled
from text2grad.schema import Record
from text2grad.solutions import code_of
from text2grad.tables import text_table
from text2grad.tasks import get_task
from text2grad.unit_tests import run_tests

TASK = get_task("kodcode")
LIMITS = Limits(wall_seconds=30.0, cpu_seconds=10)
STATUS = {"pass": True, "true": True, "fail": False, "false": False}
KINDS = ("agree", "passed there only", "passed here only", "a module is missing here")


def status_of(record: Record, key: str) -> bool:
    """The other side's verdict."""
    given = str(record.fields.get(key)).lower()
    if given not in STATUS:
        raise SystemExit(f'{record.origin}: "{key}" is {given}, neither pass nor fail')
    return STATUS[given]


def compare(passed_there: bool, log: TestLog) -> str:
    """Which of `KINDS` a record is."""
    if log.passed == passed_there:
        return KINDS[0]
    if [name for name in log.missing_modules if name != "solution"]:
        return KINDS[3]
    return KINDS[1] if passed_there else KINDS[2]


def judge(records: Sequence[Record], sandbox: Sandbox, workers: int, key: str) -> list[dict]:
    """For each record its id, both verdicts, which of `KINDS` they are, and the reason here."""
    there = [status_of(record, key) for record in records]

    def run(record: Record) -> TestLog:
        return run_tests(sandbox, code_of(record.response), record.test, LIMITS)

    logs = list(
        tqdm(pooled(run, records, workers), total=len(records), desc="testing", unit="record")
    )
    return [
        {
            "id": record.id,
            "passed_there": passed,
            "passed_here": log.passed,
            "kind": compare(passed, log),
            "error_type": log.error_type,
            "message": log.message,
        }
        for record, passed, log in zip(records, there, logs, strict=True)
    ]


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """The counts, and a line for each record that differs."""
    counts = Counter(row["kind"] for row in rows)
    table = [(kind, counts[kind], counts[kind] / len(rows)) for kind in KINDS]
    lines = [text_table(("verdicts", "records", "share"), table)]
    for row in rows:
        if row["kind"] != KINDS[0]:
            said = " ".join(row["message"].split())
            lines.append(f"{row['id']}: {row['kind']}: {said or 'every test passed'}")
    return "\n".join(lines)


def main() -> None:
    """Run the tests and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_path", required=True, help="records with another verdict")
    parser.add_argument("--status_key", default="upstream_status", help="where that verdict is")
    parser.add_argument("--workers", type=int, default=0, help="at once, 0 for all cores")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    records = read_records(args.data_path, TASK, ("response", "test"))
    rows = judge(records, find_sandbox(), args.workers, args.status_key)
    print(json.dumps(rows, indent=1) if args.json else report(rows))


if __name__ == "__main__":
    main()
