"""Responses with tests: their code, run in the sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from text2grad.annotators import Answer, execution_annotator
from text2grad.code_blocks import extract_code
from text2grad.files import check_writable, write_json
from text2grad.outcomes import TestLog
from text2grad.pass_at_k import Attempt, pass_report, pass_table
from text2grad.responses import join_problems, read_responses
from text2grad.sandbox import Limits, find_sandbox
from text2grad.schema import Record, UserError
from text2grad.tasks import TaskSpec, get_task
from text2grad.test_runs import TestRun, run_all

if TYPE_CHECKING:
    from text2grad.config import PassAtKConfig, PolicyMetricsConfig
    from text2grad.config.testing import FaultSearchConfig


def run_responses(
    records: Sequence[Record], task: TaskSpec, args: PassAtKConfig | PolicyMetricsConfig
) -> list[TestLog]:
    """What the tests of each record say of the code of its response, in order.

    A second run tests only what the journal beside `args.output_file` lacks.

    Raises:
        UserError: a record has no tests, or there is no sandbox.
    """
    for record in records:
        if not record.test:
            keys = ", ".join(task.test_keys)
            raise UserError(f"{record.origin}: has no tests: expected one of the keys {keys}")
    runs = [TestRun(record.id, code_of(record.response), record.test) for record in records]
    limits = Limits(args.wall_seconds, args.cpu_seconds)
    sandbox = find_sandbox(args.unsafe_local_execution)
    return run_all(runs, sandbox, limits, args.workers, args.output_file)


def find_faults(
    records: Sequence[Record], logs: Sequence[TestLog], task: TaskSpec, args: FaultSearchConfig
) -> list[Answer | None]:
    """The critiques of the responses that failed, from their tests; None for the others."""
    failed = [place for place, log in enumerate(logs) if not log.passed]
    annotator = execution_annotator(task, args)
    found: list[Answer | None] = [None] * len(records)
    with tqdm(total=len(failed), desc="finding faults", unit="solution") as bar:
        said = annotator.annotate([records[i] for i in failed], lambda *_: bar.update())
    for place, answer in zip(failed, said, strict=True):
        found[place] = answer
    return found


def code_of(response: str) -> str:
    """The code of a response; the response itself where none is found in it."""
    return extract_code(response).text or response


def checks_passed(log: TestLog) -> float:
    """Share of the assertions that held; 0 where none was reached."""
    held = [check.passed for check in log.checks]
    return 1.0 if log.passed else sum(held) / len(held) if held else 0.0


def evaluate_pass_at_k(args: PassAtKConfig) -> None:
    """Run the tests of every solution in a file of `infer_val.py`, print and write pass@k.

    Raises:
        UserError: no tests, no sandbox, fewer samples of a problem than --k, or another file's
            problems under --compare_file.
    """
    task = get_task(args.task)
    after = list(read_responses(args.input_file, task, "--input_file").values())
    before = []
    if args.compare_file:
        before = list(read_responses(args.compare_file, task, "--compare_file").values())
        join_problems(after, before, f"--compare_file {args.compare_file}")
    check_writable(Path(args.output_file).parent, "--output_file")
    logs = run_responses([*after, *before], task, args)
    attempts = [_attempt(*pair) for pair in zip([*after, *before], logs, strict=True)]
    count = len(after)
    try:
        report = pass_report(attempts[:count], attempts[count:], args.k, args.seed)
    except ValueError as error:
        raise UserError(
            f"--k {' '.join(map(str, args.k))}: {error}; let infer_val.py write more by "
            "--samples_per_prompt"
        ) from error
    rows = [
        {"id": record.id, "log": log.to_json()}
        for record, log in zip([*after, *before], logs, strict=True)
    ]
    report["after"], report["before"] = rows[:count], rows[count:]
    write_json(args.output_file, report, "--output_file")
    print(pass_table(report))
    print(f"all figures: {args.output_file}")


def _attempt(record: Record, log: TestLog) -> Attempt:
    return Attempt(record.prompt, log.passed, checks_passed(log), log.error_type or "")
