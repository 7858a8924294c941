"""How well the execution annotator finds a planted fault in solutions of HumanEval.

    python benchmarks/fault_localisation.py [--max_mutants N] [--part all] [--seed 1] [--json]

One fault is planted in a canonical solution (`mutants.py`: operator, constant, condition, off by
one, return, missing line), and the mutants that fail a test are annotated. "found" is the share
whose faulty line is inside `wrong_code`; where a line is missing, it is the line of code before or
after the gap. "lines" is the mean share of the code lines that `wrong_code` covers; blank lines,
comments and docstrings are none. Beside it stand two baselines: the solution's innermost line in
the traceback (nothing, where a check fails without an exception), and all lines. The untouched
solutions must get no `wrong_code`.

The annotator was tuned on problems with an even number (--part development); the others are held
out. Its trial edits share no code with the mutants, but they do contain the inverse of many: that
is how mutation-based localisation works, and why "mended" gives the share of the mutants for which
a trial edit made all tests pass.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median

from mutants import KINDS, Mutant, Problem, plant_faults, read_problems, shuffle
from tqdm import tqdm

from text2grad.annotators.execution import ExecutionAnnotator, ExecutionSettings
from text2grad.outcomes import TestLog
from text2grad.sandbox import Limits, Sandbox, find_sandbox
from text2grad.schema import Feedback, Record
from text2grad.tables import text_table
from text2grad.tasks import get_task
from text2grad.unit_tests import run_tests

TASK = get_task("kodcode")
PARTS: dict[str, Callable[[int], bool]] = {
    "development": lambda number: number % 2 == 0,
    "held_out": lambda number: number % 2 == 1,
    "all": lambda number: True,
}


@dataclass(frozen=True)
class Outcome:
    """What was said about one mutant; shares are of its lines of code.

    Attributes:
        number, kind: of the problem and the fault.
        found, share: whether the faulty line is inside `wrong_code`, and how much that covers.
        traceback_found, traceback_share: the same for the innermost line of the traceback.
        mended: a trial edit made all tests pass, and the critique says so.
        seconds: for the whole record.
    """

    number: int
    kind: str
    found: bool
    share: float
    traceback_found: bool
    traceback_share: float
    mended: bool
    seconds: float


def quoted_lines(answer: Feedback, code: str) -> frozenset[int]:
    """Lines that a wrong_code quote touches, from its characters alone."""
    lines: set[int] = set()
    for span in answer.spans:
        if span.label == "wrong_code":
            first = code.count("\n", 0, span.start) + 1
            lines |= set(range(first, first + span.text.count("\n") + 1))
    return frozenset(lines)


def traceback_lines(log: TestLog) -> frozenset[int]:
    """The solution's innermost line in the first traceback that names one."""
    named = [check.solution_lines for check in log.checks if not check.passed]
    named += [log.solution_lines]
    return frozenset(next(([lines[-1]] for lines in named if lines), []))


def annotate(annotator: ExecutionAnnotator, number: int, code: str, test: str) -> Feedback:
    """The annotator's feedback on one solution."""
    [answer] = annotator.annotate([Record(str(number), "", code, test=test)])
    if not isinstance(answer, Feedback):
        raise SystemExit(f"problem {number}: no feedback: {answer.reason}")
    return answer


def judge(annotator: ExecutionAnnotator, mutant: Mutant, log: TestLog) -> Outcome:
    """Annotate one mutant and compare with the truth."""
    started = time.monotonic()
    answer = annotate(annotator, mutant.problem.number, mutant.code, mutant.problem.test)
    seconds = time.monotonic() - started
    quoted = quoted_lines(answer, mutant.code)
    traced = traceback_lines(log)
    size = len(mutant.code_lines)
    return Outcome(
        number=mutant.problem.number,
        kind=mutant.kind,
        found=bool(quoted & mutant.lines),
        share=len(quoted & mutant.code_lines) / size,
        traceback_found=bool(traced & mutant.lines),
        traceback_share=len(traced & mutant.code_lines) / size,
        mended=bool(re.search(r"all \d+ checks pass|the check passes", answer.critique)),
        seconds=seconds,
    )


def failing_mutants(
    problems: Sequence[Problem], sandbox: Sandbox, most: int, seed: int
) -> list[tuple[Mutant, TestLog]]:
    """Mutants that fail a test, chosen with the seed, with their logs."""
    planted = [mutant for problem in problems for mutant in plant_faults(problem, seed)]
    failing: list[tuple[Mutant, TestLog]] = []
    limits = Limits(wall_seconds=25.0, cpu_seconds=10)
    for mutant in tqdm(shuffle(planted, seed), desc="planting faults", unit="mutant"):
        if most and len(failing) >= most:
            break
        log = run_tests(sandbox, mutant.code, mutant.problem.test, limits)
        if not log.passed:
            failing.append((mutant, log))
    return failing


def blamed_solutions(annotator: ExecutionAnnotator, problems: Iterable[Problem]) -> dict[str, int]:
    """How many untouched solutions there are, and how many of them get wrong_code."""
    counts = {"solutions": 0, "blamed": 0}
    for problem in tqdm(list(problems), desc="untouched solutions", unit="solution"):
        answer = annotate(annotator, problem.number, problem.solution, problem.test)
        counts["solutions"] += 1
        counts["blamed"] += any(span.label == "wrong_code" for span in answer.spans)
    return counts


def summarise(outcomes: Sequence[Outcome]) -> list[dict[str, object]]:
    """One row per kind of fault, and one for all."""
    rows = []
    for kind in (*KINDS, "all"):
        own = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        if own:
            rows.append(
                {
                    "fault": kind,
                    "n": len(own),
                    "found": mean(float(o.found) for o in own),
                    "lines": mean(o.share for o in own),
                    "traceback found": mean(float(o.traceback_found) for o in own),
                    "traceback lines": mean(o.traceback_share for o in own),
                    "all lines found": 1.0,
                    "all lines": 1.0,
                    "mended": mean(float(o.mended) for o in own),
                    "median s": median(o.seconds for o in own),
                }
            )
    return rows


def main() -> None:
    """Print the table, or everything as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--max_mutants", type=int, default=300, help="0 for all that fail a test")
    parser.add_argument("--part", choices=list(PARTS), default="held_out", help="which problems")
    parser.add_argument("--seed", type=int, default=1, help="of the faults and of their choice")
    parser.add_argument("--localisation_seconds", type=float, default=10.0, help="per record")
    parser.add_argument("--unsafe_local_execution", action="store_true", help="no sandbox")
    parser.add_argument("--output_path", default="", help="write the table as Markdown")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    sandbox = find_sandbox(args.unsafe_local_execution)
    settings = ExecutionSettings(localisation_seconds=args.localisation_seconds)
    annotator = ExecutionAnnotator(TASK, sandbox, settings)
    problems = [p for p in read_problems() if PARTS[args.part](p.number)]
    failing = failing_mutants(problems, sandbox, args.max_mutants, args.seed)
    progress = tqdm(failing, desc="finding faults", unit="mutant")
    outcomes = [judge(annotator, mutant, log) for mutant, log in progress]
    untouched = blamed_solutions(annotator, problems)
    rows = summarise(outcomes)
    if args.json:
        details = [asdict(outcome) for outcome in outcomes]
        print(json.dumps({"rows": rows, "untouched": untouched, "outcomes": details}, indent=1))
    else:
        print(text_table(list(rows[0]), [list(row.values()) for row in rows]))
        print(f"untouched solutions with wrong_code: {untouched['blamed']} of", end=" ")
        print(untouched["solutions"])
    if args.output_path:
        Path(args.output_path).write_text(markdown(rows, untouched, vars(args)), encoding="utf-8")


def markdown(
    rows: Sequence[dict[str, object]], untouched: dict[str, int], flags: dict[str, object]
) -> str:
    """The table with how it was made."""
    names = ("part", "max_mutants", "seed", "localisation_seconds")
    command = " ".join(f"--{name} {flags[name]}" for name in names)
    lines = [
        f"`python benchmarks/fault_localisation.py {command}`",
        "",
        f"| {' | '.join(rows[0])} |",
        f"|{'---|' * len(rows[0])}",
    ]
    for row in rows:
        cells = (f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row.values())
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"Untouched solutions with `wrong_code`: {untouched['blamed']} of "]
    return "\n".join(lines) + f"{untouched['solutions']}.\n"


if __name__ == "__main__":
    main()
