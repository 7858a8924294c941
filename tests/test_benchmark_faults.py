"""Planted faults are found, and untouched solutions are not blamed; a dozen, with loose bounds."""

import ast
import sys

import pytest
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import fault_localisation as benchmark
from mutants import KINDS, Mutant, Problem, plant_faults, read_problems, shuffle

from text2grad.annotators.execution import ExecutionAnnotator, ExecutionSettings
from text2grad.outcomes import CheckOutcome, TestLog
from text2grad.sandbox import find_sandbox
from text2grad.schema import Feedback, Span

SOLUTION = """\
def f(xs):
    \"\"\"Text.\"\"\"
    n = 1
    for x in xs:
        if x > 2 and x < 9:
            n = n + 2
    return xs[n]
"""


def test_one_fault_of_each_kind_on_the_line_named():
    mutants = plant_faults(Problem(7, SOLUTION, ""), 3)
    assert [mutant.kind for mutant in mutants] == list(KINDS)
    assert mutants == plant_faults(Problem(7, SOLUTION, ""), 3)
    assert mutants != plant_faults(Problem(7, SOLUTION, ""), 4)
    for mutant in mutants[:5]:
        pairs = zip(SOLUTION.splitlines(), mutant.code.splitlines(), strict=True)
        changed = {n for n, (old, new) in enumerate(pairs, 1) if old != new}
        assert changed == mutant.lines, mutant
        assert mutant.code_lines == {1, 3, 4, 5, 6, 7}


def test_a_missing_line_lies_between_its_neighbours():
    seen = set()
    for seed in range(20):
        mutant = plant_faults(Problem(7, SOLUTION, ""), seed)[5]
        assert len(mutant.code.splitlines()) == len(SOLUTION.splitlines()) - 1
        seen.add(mutant.lines)
    # without `n = 1` the `def` and the loop are left around the gap, without the `return` the last
    # line before it; the docstring is no line of code
    assert seen == {frozenset({1, 3}), frozenset({6})}


def test_problems_are_whole():
    problems = read_problems()
    assert [problem.number for problem in problems] == list(range(164))
    for problem in problems:
        assert "\ndef test_" in problem.test
        ast.parse(problem.test)


def test_lines_are_read_off_characters():
    spans = (Span("b = 2", "wrong_code", 6, 11), Span("a = 1", "improvement_code", 0, 5))
    assert benchmark.quoted_lines(Feedback("", spans), "a = 1\nb = 2\n") == {2}
    two = (Span("a = 1\nb = 2", "wrong_code", 0, 11),)
    assert benchmark.quoted_lines(Feedback("", two), "a = 1\nb = 2\n") == {1, 2}


def test_the_baseline_takes_the_innermost_line_of_the_first_traceback():
    silent = CheckOutcome("t", 1, "assert f()", False)
    raising = CheckOutcome("t", 2, "assert f()", False, solution_lines=(4, 7))
    assert benchmark.traceback_lines(TestLog(False, "test_failure", checks=(silent,))) == set()
    log = TestLog(False, "test_failure", checks=(silent, raising))
    assert benchmark.traceback_lines(log) == {7}


def outcome(kind, found, share, mended):
    return benchmark.Outcome(1, kind, found, share, False, 0.1, mended, 2.0)


def test_rows_are_means():
    rows = benchmark.summarise(
        [outcome("return", True, 0.5, True), outcome("return", False, 0.1, False)]
    )
    assert [row["fault"] for row in rows] == ["return", "all"]
    assert (rows[0]["n"], rows[0]["found"], rows[0]["mended"]) == (2, 0.5, 0.5)
    assert rows[0]["lines"] == pytest.approx(0.3, abs=1e-12)
    assert "| return | 2 | 0.500 | 0.300 |" in benchmark.markdown(
        rows,
        {"solutions": 3, "blamed": 0},
        {"part": "all", "max_mutants": 2, "seed": 1, "localisation_seconds": 1.0},
    )


def test_a_dozen_faults():
    sandbox = find_sandbox()
    annotator = ExecutionAnnotator(
        benchmark.TASK, sandbox, ExecutionSettings(localisation_seconds=0.5)
    )
    problems = read_problems()[:12]
    failing = benchmark.failing_mutants(problems, sandbox, 12, 5)
    outcomes = [benchmark.judge(annotator, mutant, log) for mutant, log in failing]
    [*_, total] = benchmark.summarise(outcomes)
    assert total["n"] == 12
    assert total["found"] >= 0.4
    assert total["lines"] <= 0.5
    assert benchmark.blamed_solutions(annotator, problems[:3]) == {"solutions": 3, "blamed": 0}


def test_the_order_is_the_seed_s():
    mutants = [Mutant(Problem(n, "", ""), "return", "", frozenset()) for n in range(9)]
    assert shuffle(mutants, 1) == shuffle(mutants, 1) != mutants
    assert sorted(m.problem.number for m in shuffle(mutants, 1)) == list(range(9))
