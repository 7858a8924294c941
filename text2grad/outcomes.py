"""What the tests said about a solution: one outcome per assertion, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

ErrorType = Literal[
    "import_error", "timeout", "test_failure", "execution_error", "syntax_error", "no_tests",
    "tampered",
]  # fmt: skip
LOG_KEY = "log"  # where a record or a line of the journal holds its log
TIME_LIMIT = "TimeLimit"  # `error_type` of a check that took too long


@dataclass(frozen=True)
class CheckOutcome:
    """One assertion of a test, or the error that ended a test function between assertions.

    An assertion that ran several times (in a loop) has one outcome for the runs that held and one
    for those that did not, with the values of the first.

    Attributes:
        test: name of the test function, `Class.method`, with its parameters where it has some.
        line: line of the test file.
        source: text of the assertion.
        passed: it held.
        error_type, message: of the error; "AssertionError" where the assertion did not hold.
        expected, actual: bounded reprs, None where they cannot be told apart.
        solution_lines: lines of the solution in the traceback, innermost last.
        covered: lines of the solution that it executed, and the statements it depends on.
        runs: how often it was executed with this outcome.
    """

    test: str
    line: int
    source: str
    passed: bool
    error_type: str = ""
    message: str = ""
    expected: str | None = None
    actual: str | None = None
    solution_lines: tuple[int, ...] = ()
    covered: frozenset[int] = frozenset()
    runs: int = 1


@dataclass(frozen=True)
class TestLog:
    """What the tests said about a solution.

    Attributes:
        passed: the verdict.
        error_type: the first reason that it did not, None if it did.
        message: that reason in a line.
        solution_lines: lines of the solution that the error names where it is no check's: a
            syntax error, an error while the solution is loaded, a crash.
        stdout, stderr: what the run printed; undecodable bytes replaced, long output cut.
        return_code: as pytest's: 0 passed, 1 a test failed, 2 not loaded, 5 no tests; None where
            the run was killed.
        missing_modules: modules that could not be imported.
        tests: outcome of each test that ended: "passed", "failed" or "skipped".
        checks: outcomes in the order in which they first came.
        seconds: wall time of the run.
    """

    __test__ = False

    passed: bool
    error_type: ErrorType | None
    message: str = ""
    solution_lines: tuple[int, ...] = ()
    stdout: str = ""
    stderr: str = ""
    return_code: int | None = None
    missing_modules: tuple[str, ...] = ()
    tests: tuple[tuple[str, str], ...] = ()
    checks: tuple[CheckOutcome, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The log as a record carries it."""
        row = asdict(self) | {"tests": dict(self.tests)}
        row["checks"] = [{**check, "covered": sorted(check["covered"])} for check in row["checks"]]
        return json.loads(json.dumps(row))

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> TestLog:
        """The log of a record; keys that it lacks take their defaults."""
        row = {name: row[name] for name in cls.__dataclass_fields__ if name in row}
        checks = tuple(
            CheckOutcome(
                **{
                    **check,
                    "covered": frozenset(check["covered"]),
                    "solution_lines": tuple(check["solution_lines"]),
                }
            )
            for check in row.pop("checks", ())
        )
        row["tests"] = tuple(dict(row.get("tests", {})).items())
        for name in ("solution_lines", "missing_modules"):
            row[name] = tuple(row.get(name) or ())
        return cls(**row, checks=checks)

    def failure_lines(self) -> list[str]:
        """One line per failed check, as a person would read them."""
        return [describe_check(check) for check in self.checks if not check.passed]


def describe_check(check: CheckOutcome) -> str:
    """`test_f, line 5: assert f(2) == 4: expected 4, got 3`."""
    what = check.message or check.error_type
    if check.error_type != "AssertionError":
        what = f"{check.error_type}: {check.message}".rstrip(": ")
    if check.expected is not None:
        what = f"expected {check.expected}, got {check.actual}"
    return f"{check.test}, line {check.line}: {check.source}: {what}"
