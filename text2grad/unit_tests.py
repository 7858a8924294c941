"""One solution against its tests, inside the sandbox: what each assertion said.

The verdict is that of pytest: a run passes if it has a test and no test fails. Beyond it every
assertion has its own outcome, with the values it compared, the error's lines in the solution and
the lines of the solution that it executed.

Threat model. The tests and the solution share one process, as under pytest, so the verdict rests
on what that process says. These are defeated, each by a test:

- ending the process (`os._exit(0)`, `sys.exit`, `atexit`, a crash): a run passes only if the
  harness said at its end that it is over, in a line led by a secret;
- printing or writing a report: the report goes through a pipe that the tested process does not
  have, and lines without the secret make the run "tampered";
- replacing `builtins`, functions of the standard library that the tests use, of unittest or
  pytest: they are compared with what they were, and a random check that must fail runs after the
  tests and through the same machinery;
- a conftest.py, a module named like one that the tests import, a changed or deleted test file:
  the tests are held in memory, what they import is loaded before the solution, nothing else is
  looked for;
- tests that the solution defines, or skips it raises: neither counts as a test that passed.

What one process cannot prevent is code written against this very harness, which walks its frames
or memory and calls the recorder in the tests' place, and a returned object whose class answers
every comparison as wished (one that equals everything is noticed, one nested in a list is not).
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from text2grad.files import sha256_text
from text2grad.outcomes import TIME_LIMIT, CheckOutcome, ErrorType, TestLog, describe_check
from text2grad.sandbox import Finished, Limits, Sandbox
from text2grad.schema import UserError

START_SECONDS = 5.0  # an interpreter's start and pytest's import, on a busy machine
OUT_OF_CPU_TIME = -24  # SIGXCPU
_SIGNALS = {-4: "illegal instruction", -6: "aborted", -9: "killed", -11: "segmentation fault"}
_FRAME = re.compile(r'File "([^"]*)", line (\d+) in (\S+)')

__all__ = ["CheckOutcome", "TestLog", "run_tests", "run_variants"]


def run_tests(sandbox: Sandbox, solution: str, test: str, limits: Limits = Limits()) -> TestLog:  # noqa: B008
    """Run one solution against a test file.

    Args:
        sandbox: where it runs.
        solution: the code, loaded as the module `solution`.
        test: a test file; one that does not import `solution` sees its names.
        limits: of the run; `cpu_seconds` is for the tests, of which one check may take 60 % of
            what is left.
    """
    [log] = _run(sandbox, [solution], test, limits, coverage=True, quiet=False)
    return log


def run_variants(
    sandbox: Sandbox,
    variants: Sequence[str],
    test: str,
    limits: Limits = Limits(),  # noqa: B008
    coverage: bool = False,
) -> list[TestLog]:
    """Run many edits of one solution in one sandbox, each in a fork with its own time limit.

    What they print is dropped.

    Args:
        sandbox: where they run.
        variants: the solutions.
        test: the test file.
        limits: of each variant; memory, files and processes are limited for all together.
        coverage: fill `CheckOutcome.covered`.
    """
    return _run(sandbox, variants, test, limits, coverage, quiet=True) if variants else []


@dataclass(frozen=True)
class _Canary:
    """Checks that must be seen to fail; their names and numbers are drawn for each run."""

    name: str
    source: str


def _make_canary(test: str) -> _Canary:
    name = f"test_{secrets.token_hex(8)}"
    one, other = secrets.randbelow(10**9), 10**9 + secrets.randbelow(10**9)
    lines = [f"assert {one} == {other}", f"assert not {other}", f"assert {one} > {other}"]
    head = ""
    if "pytest" in test:
        head = f"import pytest as {name}_pytest\n"
        lines.append(f"with {name}_pytest.raises(ZeroDivisionError): {one} + {other}")
        lines.append(f"assert {one} == {name}_pytest.approx({other})")
    body = "".join(f"    {line}\n" for line in lines)
    source = f"\n\n{head}def {name}():\n{body}"
    if "TestCase" in test:
        source += (
            f"\nimport unittest as {name}_unittest\n"
            f"class Test{name}({name}_unittest.TestCase):\n"
            f"    def {name}(self):\n        self.assertEqual({one}, {other})\n"
            f"        self.assertTrue({one} > {other})\n"
        )
    return _Canary(name, source)


@cache
def harness_version() -> str:
    """Hash of the harness: results of another one are not to be taken for its own."""
    folder = Path(__file__).parent / "sandboxed"
    return sha256_text(*(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))))


@cache
def _harness_files() -> dict[str, bytes]:
    """The harness compiled, which halves its start; the sandbox runs this same interpreter."""
    folder = Path(__file__).parent
    files = {}
    for path in (folder / "__init__.py", *sorted((folder / "sandboxed").glob("*.py"))):
        name = f"text2grad/{path.relative_to(folder)}"
        code = compile(path.read_text(encoding="utf-8"), name, "exec", dont_inherit=True)
        header = importlib.util.MAGIC_NUMBER + bytes(12)  # no flags, no date, no size
        files[f"lib/{name}c"] = header + marshal.dumps(code)
    return files


_START = (
    "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, 'lib'); "
    "from text2grad.sandboxed.harness import main; del sys.path[0]; main()"
)


def _run(
    sandbox: Sandbox,
    solutions: Sequence[str],
    test: str,
    limits: Limits,
    coverage: bool,
    quiet: bool,
) -> list[TestLog]:
    canary, secret = _make_canary(test), secrets.token_hex(16)
    job = {
        "secret": secret,
        "solutions": list(solutions),
        "test": test,
        "canary": canary.source,
        "canary_name": canary.name,
        "cpu_seconds": limits.cpu_seconds,
        "wall_seconds": limits.wall_seconds,
        "coverage": coverage,
        "quiet": quiet,
    }
    whole = replace(
        limits,
        wall_seconds=limits.wall_seconds * len(solutions) + START_SECONDS,
        cpu_seconds=limits.cpu_seconds + int(START_SECONDS),
    )
    # -S: the .pth files of the environment cost more time than everything else here
    command = ["python", "-I", "-S", "-X", "utf8", "-c", _START]
    finished = sandbox.run(_harness_files(), command, whole, json.dumps(job).encode())
    header, seen = _read_report(finished, secret)
    if header is None:
        raise UserError(
            f"the sandbox ({sandbox.tier}) could not start the test harness: "
            f"{(finished.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    judge = _Judge(header, canary, test, finished)
    return [judge.log(seen.get(number), not quiet) for number in range(len(solutions))]


def _read_report(finished: Finished, secret: str) -> tuple[dict | None, dict[int, dict]]:
    header, seen = None, {}
    for line in finished.report.split(b"\n"):
        mark, _, rest = line.partition(b" ")
        if mark != secret.encode():
            continue
        row = json.loads(rest)
        if "number" in row:
            seen[row["number"]] = row
        else:
            header = row
    return header, seen


class _Judge:
    """From what the harness saw to logs."""

    def __init__(self, header: dict, canary: _Canary, test: str, finished: Finished) -> None:
        self.header, self.canary, self.finished = header, canary, finished
        self.test_lines = test.count("\n") + 1

    def log(self, seen: dict | None, printed: bool) -> TestLog:
        """The log of one solution; `printed` if the sandbox's output is that of this one."""
        if seen is None:
            log = self._unseen()
        else:
            checks = self._checks(seen)
            tests = {
                record["test"]: record["outcome"]
                for record in seen["records"]
                if record["kind"] == "test" and self.canary.name not in record["test"]
            }
            log = self._verdict(seen, checks, tests)
            log = replace(log, tests=tuple(tests.items()), seconds=seen["seconds"])
            log = replace(log, checks=tuple(c for c in checks if self.canary.name not in c.test))
        if not log.missing_modules:
            log = replace(log, missing_modules=_missing(log.checks))
        if log.error_type == "test_failure" and log.missing_modules:
            log = replace(log, error_type="import_error")
        if not printed:
            return log
        said = "".join(line + "\n" for line in log.failure_lines())
        why = f"{log.error_type}: {log.message}\n" if log.error_type and not said else ""
        return replace(
            log, stdout=self.finished.stdout + said, stderr=self.finished.stderr + why
        )

    def _unseen(self) -> TestLog:
        if "test_error" in self.header:
            message = f"the test file cannot be read: {self.header['test_error']}"
            return _failed("execution_error", message, 2)
        if self.finished.timed_out:
            return _failed("timeout", "the whole run was out of time", None)
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
            line for line, _, is_check in self.header["steps"] if is_check and line > self.test_lines
        ]
        seen = [c.line for c in checks if self.canary.name in c.test and not c.passed]
        if sorted(seen) != sorted(wanted):
            return "a check that cannot hold did not fail"
        return ""

    def _broken_off(self, seen: dict, kinds: dict[str, dict]) -> TestLog:
        frames = [(Path(f).name, int(line), name) for f, line, name in _FRAME.findall(seen["trace"])]
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
        if check.error_type == "ModuleNotFoundError"
        and (match := re.search(r"No module named '([\w]+)", check.message))
    ]
    return tuple(dict.fromkeys(found))
