"""HumanEval+ and MBPP+: a policy's solutions judged by EvalPlus, inside the sandbox.

EvalPlus decides alone: its own functions take the code out of a response, compute the expected
outputs and compare. Only what its command does around them is done here instead: every solution
has a sandbox of its own, so that none can end, starve or rewrite the evaluation of another. With
that command all solutions write in the folder of one file of results, and it keeps a file that it
finds there.

Threat model, beyond that of `text2grad.sandbox`. A solution shares its process with EvalPlus'
comparison. Ending the process, an endless loop, a bomb, and writing a file or a report do not
count as passed; neither does whatever passes a test that expects a random text, such as an object
that equals everything, or a verdict written into EvalPlus' memory. Code written against that very
test is not caught.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from text2grad.evalplus_problems import BENCHMARKS, installed_version, read_problems
from text2grad.evalplus_samples import Sample, check_same_problems, read_samples
from text2grad.files import Row, check_writable, sha256_file, side_file, write_json, write_rows
from text2grad.pass_at_k import Attempt, pass_report, pass_table
from text2grad.sandbox import Finished, Limits, Sandbox, find_sandbox
from text2grad.sandbox_pool import pooled
from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import EvalPlusConfig

PASS = "pass"
FILE_MB = 256  # the expected outputs of one problem, which EvalPlus keeps in a file


@dataclass(frozen=True)
class Verdict:
    """What came of one solution.

    Attributes:
        sample: the solution.
        base, plus: EvalPlus' status under each set of tests: "pass", "fail" or "timeout"; or why
            there is none, such as "memory".
        code: what was run.
        reference: the statuses of the problem's reference solution, where it was run as well.
    """

    sample: Sample
    base: str
    plus: str
    code: str
    reference: Mapping[str, str] | None = None

    def passed(self, tests: str) -> bool:
        """Under "base" tests, or under "plus", which are both sets together, as EvalPlus counts."""
        return self.base == PASS and (tests == "base" or self.plus == PASS)


def evaluate_evalplus(args: EvalPlusConfig) -> None:
    """Judge every solution of `args.input_file`, print and write pass@k under both sets of tests.

    Beside the figures lie the code that ran and EvalPlus' verdicts as EvalPlus writes them: its
    own command reads them and prints the same.

    Raises:
        UserError: EvalPlus, data or a sandbox is missing, or the file is not about this data.
    """
    version = installed_version()
    data, problems = read_problems(args)
    after = read_samples(args.input_file, "--input_file", problems, args.sample_size, args.k)
    before: list[Sample] = []
    if args.compare_file:
        flag = "--compare_file"
        before = read_samples(args.compare_file, flag, problems, args.sample_size, args.k)
        check_same_problems(after, before, f"{flag} {args.compare_file}")
    check_writable(Path(args.output_file).parent, "--output_file")
    verdicts = judge_samples([*after, *before], problems, args)
    report = evalplus_report(verdicts[: len(after)], verdicts[len(after) :], args)
    made_with = {"dataset": args.dataset, "evalplus": version, "data": str(data)}
    report = made_with | {"data_sha256": sha256_file(data)} | report
    write_json(args.output_file, report, "--output_file")
    beside = write_evalplus_files(verdicts[: len(after)], args)
    print(pass_table(report))
    if report["unsolvable"]:
        print(
            f"EvalPlus {version} does not pass the reference solution of "
            f"{', '.join(report['unsolvable'])}: no solution can pass there"
        )
    print(f"all figures: {args.output_file}; for EvalPlus' own command: {beside}")


def judge_samples(
    samples: Sequence[Sample], problems: Mapping[str, Row], args: EvalPlusConfig
) -> list[Verdict]:
    """EvalPlus' verdict on each solution, in order.

    Raises:
        UserError: no sandbox works here, or EvalPlus cannot use a problem.
    """
    sandbox = find_sandbox(args.unsafe_local_execution)
    first = {sample.task_id: place for place, sample in reversed([*enumerate(samples)])}

    def judge(place: int) -> Verdict:
        sample = samples[place]
        with_reference = first[sample.task_id] == place
        return judge_sample(sandbox, sample, problems[sample.task_id], args, with_reference)

    places = range(len(samples))
    return list(tqdm(pooled(judge, places, args.workers), total=len(samples), desc=args.dataset))


def judge_sample(
    sandbox: Sandbox, sample: Sample, problem: Row, args: EvalPlusConfig, with_reference: bool
) -> Verdict:
    """EvalPlus' verdict on one solution, in a sandbox of its own.

    Args:
        sandbox: where it runs.
        sample: the solution.
        problem: the one that it solves, in EvalPlus' format.
        args: limits.
        with_reference: judge the problem's reference solution as well.

    Raises:
        UserError: EvalPlus cannot use the problem.
    """
    secret = secrets.token_hex(16)
    job = {
        "secret": secret,
        "dataset": args.dataset,
        "problem": problem,
        "text": sample.text,
        "is_response": sample.is_response,
        "with_reference": with_reference,
        "memory_mb": args.memory_mb,
        "min_time_limit": args.min_time_limit,
        "gt_time_limit_factor": args.gt_time_limit_factor,
    }
    limits = Limits(args.wall_seconds, args.cpu_seconds, args.memory_mb, file_mb=FILE_MB)
    command = ["python", "-X", "utf8", "evaluate_one.py"]
    files = {"evaluate_one.py": _inside()}
    finished = sandbox.run(files, command, limits, json.dumps(job).encode())
    outcome = _reported(finished, secret)
    if "reference" not in outcome:
        said = finished.stderr.strip().splitlines() or ["no message"]
        met = f"it met the limit of {finished.limit}" if finished.limit else said[-1]
        raise UserError(
            f"EvalPlus cannot use the problem {sample.task_id} of --{args.dataset}_path: "
            f"{outcome.get('problem_error', met)}"
        )
    if "base" not in outcome:
        why = finished.limit or "stopped"
        return Verdict(sample, why, why, sample.text, outcome["reference"])
    forged = "tampered" if outcome["forged"] else ""
    return Verdict(
        sample,
        base=forged or outcome["base"],
        plus=forged or outcome["plus"],
        code=outcome["solution"],
        reference=outcome["reference"],
    )


@cache
def _inside() -> str:
    return Path(__file__).with_name("evalplus_inside.py").read_text(encoding="utf-8")


def _reported(finished: Finished, secret: str) -> dict[str, Any]:
    """What the evaluator wrote, as far as it came."""
    found: dict[str, Any] = {}
    for line in finished.report.split(b"\n"):
        mark, _, rest = line.partition(b" ")
        if mark == secret.encode():
            found |= json.loads(rest)
    return found


def evalplus_report(
    after: Sequence[Verdict], before: Sequence[Verdict], args: EvalPlusConfig
) -> dict[str, Any]:
    """pass@k under both sets of tests, as `pass_at_k.pass_report` gives it, and every verdict."""
    title = BENCHMARKS[args.dataset].title
    parts = {
        name: pass_report(_attempts(after, tests), _attempts(before, tests), args.k, args.seed)
        for name, tests in ((title, "base"), (f"{title}+", "plus"))
    }
    figures = {
        f"{name} {figure}": found
        for name, part in parts.items()
        for figure, found in part["figures"].items()
    }
    unsolvable = [
        verdict.sample.task_id
        for verdict in after
        if verdict.reference and set(verdict.reference.values()) != {PASS}
    ]
    whole = parts[f"{title}+"] | {"figures": figures, "unsolvable": unsolvable}
    whole["tasks"] = _counts(after)
    return whole | {"after": [_row(v) for v in after], "before": [_row(v) for v in before]}


def write_evalplus_files(verdicts: Sequence[Verdict], args: EvalPlusConfig) -> Path:
    """The solutions as EvalPlus' `--samples`, and beside them its file of results; the former."""
    stem = side_file(args.output_file, "")
    samples = stem.with_name(f"{stem.name}_solutions.jsonl")
    rows = [{"task_id": v.sample.task_id, "solution": v.code} for v in verdicts]
    write_rows(samples, rows, "--output_file")
    found: dict[str, list[Row]] = {v.sample.task_id: [] for v in verdicts}
    for row, verdict in zip(rows, verdicts, strict=True):
        statuses = {"base_status": verdict.base, "plus_status": verdict.plus}
        found[row["task_id"]].append(
            row | statuses | {"base_fail_tests": [], "plus_fail_tests": []}
        )
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    results = samples.with_name(f"{samples.stem}_eval_results.json")
    write_json(results, {"date": now, "hash": "", "eval": found}, "--output_file")
    return samples


def _attempts(verdicts: Sequence[Verdict], tests: str) -> list[Attempt]:
    return [
        Attempt(verdict.sample.task_id, verdict.passed(tests), error_type=_fault(verdict, tests))
        for verdict in verdicts
    ]


def _fault(verdict: Verdict, tests: str) -> str:
    """Why it did not pass; which tests is said where only the additional ones failed."""
    if verdict.passed(tests):
        return ""
    return verdict.base if verdict.base != PASS else f"{verdict.plus} of plus"


def _counts(verdicts: Sequence[Verdict]) -> dict[str, dict[str, int]]:
    """Of each problem the number of solutions, and of those that passed."""
    counts: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        count = counts.setdefault(verdict.sample.task_id, Counter(n=0, base=0, plus=0))
        count.update(n=1, base=verdict.passed("base"), plus=verdict.passed("plus"))
    return {name: dict(count) for name, count in counts.items()}


def _row(verdict: Verdict) -> Row:
    sample = verdict.sample
    row = {"id": sample.id, "task_id": sample.task_id, "solution": verdict.code}
    return row | {"base_status": verdict.base, "plus_status": verdict.plus}
