"""What the harness saw of its runs, turned into logs; only what is proved counts as passed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from text2grad.outcomes import TIME_LIMIT, CheckOutcome, ErrorType, TestLog, describe_check
from text2grad.sandbox import Finished

OUT_OF_CPU_TIME = -24  # SIGXCPU
_SIGNALS = {-4: "illegal instruction", -6: "aborted", -9: "killed", -11: "segmentation fault"}
_FRAME = re.compile(r'File "([^"]*)", line (\d+) in (\S+)')
_MODULE = re.compile(r"No module named '([\w]+)")


class HarnessReport:
    """The report of one job.

    Args:
        finished: the sandbox's run.
        secret: leads each of the harness's lines.
        canary_name: part of the names of the tests whose every check must have failed.
        test: the test file, without those.

    Attributes:
        started: the harness came so far as to read the test file.
    """

    def __init__(self, finished: Finished, secret: str, canary_name: str, test: str) -> None:
        self.finished, self.canary_name = finished, canary_name
        self.test_lines = test.count("\n") + 1
        self.header: dict[str, Any] = {}
        self.seen: dict[int, dict[str, Any]] = {}
        for line in finished.report.split(b"\n"):
            mark, _, rest = line.partition(b" ")
            if mark == secret.encode():
                row = json.loads(rest)
                if "number" in row:
                    self.seen[row["number"]] = row
                else:
                    self.header = row
        self.started = bool(self.header)

    def log(self, number: int, printed: bool) -> TestLog:
        """The log of a solution; `printed` if the sandbox's output is that of this one."""
        seen = self.seen.get(number)
        if seen is None:
            log = self._unseen()
        else:
            checks = self._checks(seen)
            tests = {
                record["test"]: record["outcome"]
                for record in seen["records"]
                if record["kind"] == "test" and self.canary_name not in record["test"]
            }
            log = self._verdict(seen, checks, tests)
            log = replace(log, tests=tuple(tests.items()), seconds=seen["seconds"])
            log = replace(log, checks=tuple(c for c in checks if self.canary_name not in c.test))
        if not log.missing_modules:
            log = replace(log, missing_modules=_missing(log.checks))
        if log.error_type == "test_failure" and log.missing_modules:
            log = replace(log, error_type="import_error")
        if not printed:
            return log
        said = "".join(line + "\n" for line in log.failure_lines())
        why = f"{log.error_type}: {log.message}\n" if log.error_type and not said else ""
        return replace(log, stdout=self.finished.stdout + said, stderr=self.finished.stderr + why)

    def _unseen(self) -> TestLog:
        if "test_error" in self.header:
            message = f"the test file cannot be read: {self.header['test_error']}"
            return _failed("execution_error", message, 2)
        if self.finished.timed_out:
            return _failed("timeout", "the whole run was out of time", None)
        if self.finished.limit:
            return _failed("execution_error", f"the limit of {self.finished.limit} was met", None)
        return _failed("execution_error", "the run was stopped from inside the sandbox", None)

    def _verdict(self, seen: dict, checks: list[CheckOutcome], tests: dict[str, str]) -> TestLog:
        kinds = {record["kind"]: record for record in seen["records"]}
        forged = self._tampered(seen, kinds)
        if forged:
            return _failed("tampered", forged, 1)
        if "syntax_error" in kinds:
            record = kinds["syntax_error"]
            lines = (record["line"],) if record["line"] else ()
            return _failed("syntax_error", record["message"], 2, lines)
        if "load_error" in kinds:
            return _load_failure(kinds["load_error"])
        if "final" not in kinds:
            return self._broken_off(seen, kinds)
        if any(check.error_type == TIME_LIMIT for check in checks):
            return _failed("timeout", _first_failure(checks, TIME_LIMIT), 1)
        if "failed" in tests.values():
            return _failed("test_failure", _first_failure(checks), 1)
        if "passed" not in tests.values():
            return _failed("no_tests", "no test function ran", 5)
        unseen = self._not_as_expected(checks, tests)
        if unseen:
            return _failed("tampered", unseen, 1)
        return TestLog(True, None, return_code=0)

    def _tampered(self, seen: dict, kinds: dict[str, dict]) -> str:
        if seen["forged"]:
            return f"{seen['forged']} lines were written to the harness's pipe"
        if "tampered" in kinds:
            return f"the solution returned {kinds['tampered']['what']}"
        changes = kinds.get("final", {}).get("changes", [])
        return f"replaced while the tests ran: {', '.join(changes[:5])}" if changes else ""

    def _not_as_expected(self, checks: list[CheckOutcome], tests: dict[str, str]) -> str:
        """Why a run without a failure is none that passed, "" if it is."""
        ended = {name.partition("[")[0] for name in tests}
        missing = [name for name in self.header["tests"] if name not in ended]
        if missing:
            return f"the test {missing[0]} did not run"
        wanted = [
            line
            for line, _, is_check in self.header["steps"]
            if is_check and line > self.test_lines
        ]
        seen = [c.line for c in checks if self.canary_name in c.test and not c.passed]
        if sorted(seen) != sorted(wanted):
            return "a check that cannot hold did not fail"
        return ""

    def _broken_off(self, seen: dict, kinds: dict[str, dict]) -> TestLog:
        frames = [
            (Path(f).name, int(line), name) for f, line, name in _FRAME.findall(seen["trace"])
        ]
        lines = [line for file, line, _ in reversed(frames) if file == "solution.py"]
        where = [(line, name) for file, line, name in frames if file == "test_solution.py"]
        at = f", in {where[-1][1]}, line {where[-1][0]} of the test file" if where else ""
        if seen["late"] or seen["exit"] == OUT_OF_CPU_TIME:
            return _failed("timeout", f"the run was out of time{at}", None, lines)
        if "broken" in kinds:
            return _failed("execution_error", kinds["broken"]["what"], None, lines)
        if seen["exit"] < 0:
            how = _SIGNALS.get(seen["exit"], f"signal {-seen['exit']}")
            return _failed("execution_error", f"the process died: {how}{at}", None, lines)
        message = f"the process ended with status {seen['exit']} before the tests did"
        return _failed("execution_error", message, seen["exit"], lines)

    def _checks(self, seen: dict) -> list[CheckOutcome]:
        found: dict[tuple, CheckOutcome] = {}
        for record in seen["records"]:
            if record["kind"] != "check":
                continue
            line, source, _ = self.header["steps"][record["step"]]
            covered = {n for first, last in record["covered"] for n in range(first, last + 1)}
            found[record["test"], record["step"], record["passed"]] = CheckOutcome(
                test=record["test"],
                line=line,
                source=source,
                passed=record["passed"],
                error_type=record["error_type"],
                message=record["message"],
                expected=record["expected"],
                actual=record["actual"],
                solution_lines=tuple(record["lines"]),
                covered=frozenset(covered),
                runs=record["runs"],
            )
        return list(found.values())


def _failed(
    error_type: ErrorType, message: str, return_code: int | None, lines: Sequence[int] = ()
) -> TestLog:
    return TestLog(False, error_type, message, tuple(lines), return_code=return_code)


def _load_failure(record: dict[str, Any]) -> TestLog:
    kind: ErrorType = "execution_error"
    if record["is_import"]:
        kind = "import_error"
    elif record["error_type"] == TIME_LIMIT:
        kind = "timeout"
    what = "the solution" if record["what"] == "solution" else "the test file"
    said = f"{record['error_type']}: {record['message']}".rstrip(": ")
    log = _failed(kind, f"{what} could not be loaded: {said}", 2, record["lines"])
    missing = (record["missing"].partition(".")[0],) if record["missing"] else ()
    return replace(log, missing_modules=missing)


def _first_failure(checks: Sequence[CheckOutcome], error_type: str = "") -> str:
    failed = [c for c in checks if not c.passed and c.error_type.startswith(error_type)]
    return describe_check(failed[0]) if failed else "a test failed"


def _missing(checks: Sequence[CheckOutcome]) -> tuple[str, ...]:
    found = [
        match.group(1)
        for check in checks
        if check.error_type == "ModuleNotFoundError" and (match := _MODULE.search(check.message))
    ]
    return tuple(dict.fromkeys(found))
