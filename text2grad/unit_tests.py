"""One solution against its tests, inside the sandbox: what each assertion said.

The verdict is that of pytest: a run passes if it has a test and no test fails. Beyond it every
assertion has its own outcome, with the values it compared, the error's lines in the solution and
the lines of the solution that it executed.

Threat model. The tests and the solution share one process, as under pytest, so the verdict rests
on what that process says. These are defeated, each by a test:

- ending the process (`os._exit(0)`, `sys.exit`, `atexit`, a crash): a run passes only if the
  harness said at its end that it is over, in a line led by a secret;
- printing or writing a report: it is written by the parent process, which loads no solution and
  whose memory and files are closed to it; the tested process has a pipe to the parent, and a line
  without this run's secret makes the run "tampered";
- replacing `builtins`, functions of the standard library or numpy that the tests use, of unittest
  or pytest: they are compared with what they were, and a random check that must fail runs after
  the tests and through the same machinery;
- a conftest.py, a module named like one that the tests import, a changed or deleted test file:
  the tests are held in memory, what they import is loaded before the solution, nothing else is
  looked for;
- tests that the solution defines, or skips it raises: neither counts as a test that passed.

What one process cannot prevent is code written against this very harness, which walks its frames
or memory and calls the recorder in the tests' place; the replacing of functions of other modules
that the tests import, `numpy.testing` among them; and a returned object whose class answers every
comparison as wished (one that equals everything is noticed, one nested in a list is not).
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from text2grad.files import sha256_text
from text2grad.harness_report import HarnessReport
from text2grad.outcomes import TIME_LIMIT, CheckOutcome, TestLog, describe_check
from text2grad.sandbox import Limits, Sandbox
from text2grad.schema import UserError

START_SECONDS = 5.0  # an interpreter's start and pytest's import, on a busy machine

__all__ = [
    "TIME_LIMIT", "CheckOutcome", "TestLog", "describe_check", "harness_version", "run_tests",
    "run_variants",
]  # fmt: skip


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


def _make_canary(test: str) -> tuple[str, str]:
    """Tests whose every check must be seen to fail: part of their names, and their source.

    Names and numbers are drawn for each run, so that no solution can tell them beforehand.
    """
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
    return name, source


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
    canary_name, canary = _make_canary(test)
    secret = secrets.token_hex(16)
    job = {
        "secret": secret,
        "solutions": list(solutions),
        "test": test,
        "canary": canary,
        "canary_name": canary_name,
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
    report = HarnessReport(finished, secret, canary_name, test)
    if not report.started:
        raise UserError(
            f"the sandbox ({sandbox.tier}) could not start the test harness: "
            f"{(finished.stderr.strip().splitlines() or ['no message'])[-1]}"
        )
    return [report.log(number, printed=not quiet) for number in range(len(solutions))]
