"""Stage 1, for tasks with tests: every response of a file is run against its tests, resumable."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from text2grad.candidates import expand_records
from text2grad.config import TestCaseConfig
from text2grad.files import Row, check_writable, read_rows, write_rows
from text2grad.outcomes import LOG_KEY, TestLog
from text2grad.prepare import check_ids, folder_files, hub_files
from text2grad.records import rows_to_records, sample_in_order
from text2grad.sandbox import Limits, find_sandbox
from text2grad.schema import UserError
from text2grad.solutions import code_of
from text2grad.tables import text_table
from text2grad.tasks import TaskSpec, get_task
from text2grad.test_runs import TestRun, run_all

DIFFICULTY_KEY = "gpt_difficulty"


def run_test_cases(args: TestCaseConfig) -> None:
    """Test `args.data_path`, or a sample of `args.source`, into `args.output_file`.

    A record with its `log` is the record as it was read, with the task's own keys. Beside the
    output lies NAME.journal.jsonl: a second run tests only what is missing in it.

    Raises:
        UserError: no sandbox works here, the task has no tests, or a record lacks a part.
    """
    task = get_task(args.task)
    if not task.test_keys:
        raise UserError(f"--task {args.task}: its records have no tests")
    output = Path(args.output_file)
    check_writable(output.parent, "--output_file")
    sandbox = find_sandbox(args.unsafe_local_execution)
    rows = read_candidates(args, task)
    response, test = task.response_keys[0], task.test_keys[0]
    runs = [TestRun(str(row["id"]), code_of(row[response]), row[test]) for row in rows]
    limits = Limits(args.wall_seconds, args.cpu_seconds, args.memory_mb)
    logs = run_all(runs, sandbox, limits, args.workers, output)
    tested = [{**row, LOG_KEY: log.to_json()} for row, log in zip(rows, logs, strict=True)]
    write_rows(output, tested, "--output_file")
    print(summary(logs, sandbox.tier))
    print(f"{len(tested)} tested records: {output}")


def read_candidates(args: TestCaseConfig, task: TaskSpec) -> list[Row]:
    """The rows that are to be tested, with the task's keys, in the order of the data.

    Raises:
        UserError: a record without prompt, response or tests.
    """
    path = Path(args.data_path)
    if args.data_path and not path.is_dir():
        rows = _to_rows(read_rows(path), args.data_path, args, task)
        rows = sample_in_order(rows, args.target_total_size, random.Random(args.seed))
    else:
        rows = _sample_splits(args, task)
    if not rows:
        raise UserError(f"{_origin(args, task)}: no record is left to test")
    check_ids(rows, _origin(args, task))
    return rows


def summary(logs: Sequence[TestLog], tier: str) -> str:
    """Verdicts by kind, and the modules that were missing."""
    kinds = Counter(log.error_type or "passed" for log in logs)
    checks = [check.passed for log in logs for check in log.checks]
    rows = [(kind, count, count / len(logs)) for kind, count in kinds.most_common()]
    lines = [text_table(("verdict", "records", "share"), rows)]
    lines.append(f"{sum(checks)} of {len(checks)} checks held; sandbox: {tier}")
    missing = Counter(name for log in logs for name in log.missing_modules)
    if missing:
        names = ", ".join(f"{name} ({count})" for name, count in missing.most_common(10))
        lines.append(f"modules that are not installed here: {names}")
    return "\n".join(lines)


def _sample_splits(args: TestCaseConfig, task: TaskSpec) -> list[Row]:
    """A seeded sample of a data set, read file by file: no more of it is held than is kept."""
    taken: list[list[Row]] = []
    for number, split in enumerate(args.splits):
        folder = Path(args.data_path)
        source = args.source or task.source
        files = folder_files(folder, split) if args.data_path else hub_files(source, split)
        most = _limits(args, is_first=number == 0)
        kept = _sample_groups(_read_all(files), most, random.Random(f"{args.seed} {split}"))
        taken.append(_to_rows(kept, f"{_origin(args, task)} ({split})", args, task))
    first, others = taken[0], [row for rows in taken[1:] for row in rows]
    total = args.target_total_size
    chance = random.Random(args.seed)
    if total:
        first = sample_in_order(first, total, chance)
        room = total - len(first)
        others = sample_in_order(others, room, chance) if room else []
    return first + others


def _limits(args: TestCaseConfig, is_first: bool) -> Callable[[Row], tuple[str, int]]:
    """The group of a row, and how many rows of it are kept (0: all)."""
    if is_first:
        return lambda row: ("", args.train_samples)
    most = {"easy": args.easy_samples, "medium": args.medium_samples, "hard": args.hard_samples}

    def group(row: Row) -> tuple[str, int]:
        difficulty = str(row.get(DIFFICULTY_KEY))
        return difficulty, most.get(difficulty, 0)

    return group


def _sample_groups(
    rows: Iterable[Row], group_of: Callable[[Row], tuple[str, int]], chance: random.Random
) -> list[Row]:
    """Each row draws a number; of each group those with the smallest are kept, in their order."""
    kept: dict[str, list[tuple[float, int, Row]]] = {}
    for number, row in enumerate(rows):
        name, most = group_of(row)
        heap = kept.setdefault(name, [])
        heapq.heappush(heap, (-chance.random(), number, row))
        if most and len(heap) > most:
            heapq.heappop(heap)
    chosen = sorted((number, row) for heap in kept.values() for _, number, row in heap)
    return [row for _, row in chosen]


def _read_all(files: Sequence[str | Path]) -> Iterator[Row]:
    for path in files:
        yield from read_rows(path)


def _to_rows(raw: Sequence[Row], origin: str, args: TestCaseConfig, task: TaskSpec) -> list[Row]:
    records = rows_to_records(raw, origin, task, ("prompt", "test"), args.fields)
    found = expand_records(records, task, args.candidates, args.fields)
    if found.empty:
        print(f"{origin}: {found.empty} solutions are empty and left out")
    return found.rows


def _origin(args: TestCaseConfig, task: TaskSpec) -> str:
    return args.data_path or args.source or task.source
