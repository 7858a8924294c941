"""Solutions against their tests: outcomes per assertion, both styles, pytest itself, bad input."""

import json
import time

import pytest

from text2grad.sandbox import Limits, find_sandbox
from text2grad.sandboxed.rewrite import TestFile
from text2grad.unit_tests import TestLog, run_tests, run_variants

LIMITS = Limits(wall_seconds=20.0, cpu_seconds=10)
SOLUTION = """\
def f(x):
    if x > 2:
        return x * 2
    y = x + 1
    return y


def g(n):
    return 1 // n
"""
TEST = """\
from solution import f, g

def test_f():
    assert f(1) == 2
    assert 7 == f(3)
    r = f(0)
    assert r == 1
    for i in range(5):
        assert f(i) < 8, "too much"
    assert not f(-1)
    assert g(0) == 1
    r = f(4)
    assert r in (1, 2)

def test_g():
    g(0)
"""


@pytest.fixture(scope="module")
def sandbox():
    return find_sandbox()


@pytest.fixture(scope="module")
def log(sandbox):
    return run_tests(sandbox, SOLUTION, TEST, LIMITS)


def outcomes(log, *names):
    return [tuple(getattr(check, name) for name in names) for check in log.checks]


def test_every_assertion_has_its_outcome(log):
    assert outcomes(log, "test", "line", "passed", "runs") == [
        ("test_f", 4, True, 1),
        ("test_f", 5, False, 1),
        ("test_f", 7, True, 1),
        ("test_f", 9, True, 4),  # 1, 2, 3, 6 are less than 8
        ("test_f", 9, False, 1),  # f(4) is 8
        ("test_f", 10, True, 1),
        ("test_f", 11, False, 1),
        ("test_f", 13, False, 1),
        ("test_g", 16, False, 1),
    ]
    assert (log.passed, log.error_type, log.return_code) == (False, "test_failure", 1)
    assert log.tests == (("test_f", "failed"), ("test_g", "failed"))


def test_the_compared_values_are_shown_expected_one_first(log):
    failed = [check for check in log.checks if not check.passed]
    assert [(check.expected, check.actual) for check in failed] == [
        ("7", "6"),
        ("< 8", "8"),
        (None, None),
        ("in (1, 2)", "8"),
        (None, None),
    ]
    assert failed[1].message == "too much"
    assert failed[0].source == "assert 7 == f(3)"
    assert log.stdout.splitlines()[0] == "test_f, line 5: assert 7 == f(3): expected 7, got 6"


def test_an_error_names_its_lines_in_the_solution(log):
    assert log.checks[6].error_type == "ZeroDivisionError"
    assert log.checks[6].solution_lines == (9,)
    assert log.checks[8].solution_lines == (9,)
    assert log.checks[8].source == "g(0)"


def test_a_check_covers_its_own_lines_and_those_it_depends_on(log):
    low, high = {2, 4, 5}, {2, 3}
    covered = [set(check.covered) for check in log.checks]
    assert covered == [low, high, low, low | high, high, low, {9}, high, {9}]


def test_the_log_survives_json(log):
    row = json.loads(json.dumps(log.to_json()))
    assert TestLog.from_json(row) == log
    published = {"stdout", "stderr", "return_code", "passed", "error_type", "missing_modules"}
    assert published < set(row)


def needs_of_last(body):
    text = "def test_x(xs):\n    " + body.replace("; ", "\n    ")
    steps = TestFile(text, "t.py").steps
    return [steps[number].source for number in sorted(steps[-1].needs)]


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ("r = f(1); assert r; r = f(2); assert r", ["r = f(2)"]),
        ("s = S(); s.push(1); t = S(); assert s.top()", ["s = S()", "s.push(1)"]),
        ("a = 1; b = a + 1; c = 3; assert f(b)", ["a = 1", "b = a + 1"]),
        ("a = 1; a += 1; assert a", ["a = 1", "a += 1"]),
        ("g(1); assert f(2)", []),
        ("for x in xs: s = f(x); assert s", ["for x in xs: s = f(x)", "for x in xs: s = f(x)"]),
    ],
)
def test_statements_a_check_depends_on(body, needed):
    assert needs_of_last(body) == needed


def run(sandbox, solution, test, limits=LIMITS):
    return run_tests(sandbox, solution, test, limits)


def test_names_without_an_import_and_checks_in_a_helper(sandbox):
    test = """
def check(candidate):
    assert candidate(1) == 2
    assert candidate(0) == 5

def test_f():
    check(f)
"""
    log = run(sandbox, SOLUTION, test)
    assert outcomes(log, "line", "passed") == [(3, True), (4, False)]


def test_awaited_errors_are_awaited(sandbox):
    test = """
from solution import g

def helper(x):
    assert x

def test_try():
    try:
        g(0)
        assert False, "no error"
    except ZeroDivisionError as error:
        assert "zero" in str(error)

def test_assertion_is_awaited():
    try:
        helper(0)
    except AssertionError:
        return
    assert False

def test_missing_error():
    try:
        g(1)
        assert False, "no error"
    except ZeroDivisionError:
        pass

def test_wrong_text():
    try:
        g(0)
    except ZeroDivisionError as error:
        assert str(error) == "by 0"

def test_lost_name():
    try:
        r = g(0)
    except ValueError:
        r = 1
    assert r == 1
"""
    log = run(sandbox, SOLUTION, test)
    assert dict(log.tests) == {
        "test_try": "passed",
        "test_assertion_is_awaited": "passed",
        "test_missing_error": "failed",
        "test_wrong_text": "failed",
        "test_lost_name": "failed",
    }
    failed = [check for check in log.checks if not check.passed]
    assert [check.line for check in failed] == [22, 29, 35], (
        "what hangs on a failed one is left out"
    )
    assert (failed[0].error_type, failed[0].message) == ("AssertionError", "no error")
    assert failed[1].expected == "'by 0'"
    assert failed[2].error_type == "ZeroDivisionError"


PYTEST_FEATURES = """
import unittest
import pytest
from solution import f, g

@pytest.fixture
def three():
    return f(2)

@pytest.mark.parametrize(("x", "y"), [(1, 2), (3, 7)])
def test_f(x, y):
    assert f(x) == y

def test_fixture(three, capsys, tmp_path):
    print("said")
    assert capsys.readouterr().out == "said\\n"
    (tmp_path / "x").write_text("x")
    assert three == 4

class TestGroup:
    def setup_method(self):
        self.n = 1

    def test_g(self):
        with pytest.raises(ZeroDivisionError):
            g(0)
        with pytest.raises(ValueError):
            g(self.n)

@pytest.mark.xfail
def test_known():
    assert f(1) == 0

@pytest.mark.skip
def test_skipped():
    assert f(1) == 0

class TestUnit(unittest.TestCase):
    def test_f(self):
        self.assertEqual(f(1), 2)
        self.assertEqual(f(1), 3)
        self.assertTrue(f(1))

def test_broken_fixture(nothing):
    pass
"""


def test_what_needs_pytest(sandbox):
    log = run(sandbox, SOLUTION, PYTEST_FEATURES)
    assert dict(log.tests) == {
        "test_f[1-2]": "passed",
        "test_f[3-7]": "failed",
        "test_fixture": "failed",
        "TestGroup.test_g": "failed",
        "test_known": "skipped",
        "test_skipped": "skipped",
        "TestUnit.test_f": "failed",
        "test_broken_fixture": "failed",
    }
    failed = {(check.test, check.line): check for check in log.checks if not check.passed}
    assert failed["test_f[3-7]", 12].actual == "6"
    assert failed["test_fixture", 18].covered == {2, 4, 5}, "what a fixture ran counts"
    assert "DID NOT RAISE" in failed["TestGroup.test_g", 27].message
    assert failed["TestUnit.test_f", 41].expected == "3"
    assert ("test_known", 33) not in failed
    assert [check.passed for check in log.checks if check.test == "TestUnit.test_f"] == [
        True,
        False,
        True,
    ]
    assert any(check.test == "test_broken_fixture" for check in log.checks if not check.passed)


LOOP = """\
def f(x):
    while x > 2:
        x += 1
    return x
"""


def test_an_endless_loop_is_placed_and_other_checks_still_run(sandbox):
    test = "from solution import f\ndef test_f():\n    assert f(1) == 1\n    assert f(3) == 2\n"
    test += "    assert f(2) == 2\n"
    log = run(sandbox, LOOP, test, Limits(wall_seconds=20.0, cpu_seconds=1))
    assert (log.passed, log.error_type) == (False, "timeout")
    assert outcomes(log, "passed", "error_type") == [(True, ""), (False, "TimeLimit"), (True, "")]
    assert set(log.checks[1].solution_lines) <= {2, 3}
    assert log.checks[1].covered == {2, 3}


@pytest.mark.parametrize("statement", ["9 ** 9 ** 9 ** 9", "__import__('time').sleep(60)"])
def test_what_python_cannot_interrupt_is_killed_and_placed(sandbox, statement):
    solution = f"def f():\n    x = 1\n    return {statement}\n"
    test = "from solution import f\n\ndef test_f():\n    assert f() == 1\n"
    log = run(sandbox, solution, test, Limits(wall_seconds=1.5, cpu_seconds=10))
    assert (log.error_type, log.return_code) == ("timeout", None)
    assert log.solution_lines == (3,)
    assert "in test_f, line 4" in log.message


GOOD_TEST = "from solution import f\n\ndef test_f():\n    assert f(1) == 2\n"
BAD_INPUT = {
    "no tested function": ("def h(x):\n    return x\n", GOOD_TEST, "import_error", "cannot import"),
    "no tested name": ("h = 1\n", "def test_f():\n    assert f(1) == 2\n", "test_failure", "'f'"),
    "syntax": ("def f(x)\n    return x\n", GOOD_TEST, "syntax_error", "expected ':'"),
    "empty": ("", GOOD_TEST, "import_error", "cannot import"),
    "NUL bytes": ("def f(x):\n    return 2\0\n", GOOD_TEST, "syntax_error", "null byte"),
    "half a character": ("x = '\ud800'\n", GOOD_TEST, "syntax_error", "Unicode"),
    "deep nesting": ("x = " + "(" * 5000 + ")" * 5000, GOOD_TEST, "syntax_error", "nest"),
    "missing module": ("import no_such.x\n", GOOD_TEST, "import_error", "no_such"),
    "error at load": ("def f(x):\n    return 2\nf(1, 2)\n", GOOD_TEST, "execution_error", "2 were"),
    "exit at load": ("raise SystemExit(0)\n", GOOD_TEST, "execution_error", "SystemExit"),
    "wrong signature": ("def f():\n    return 2\n", GOOD_TEST, "test_failure", "0 positional"),
    "a test with a syntax error": (SOLUTION, "def test_f(:\n", "execution_error", "test file"),
    "a test with a NUL byte": (SOLUTION, GOOD_TEST + "\0", "execution_error", "test file"),
    "a test that does not import": (
        SOLUTION, "import no_such\n" + GOOD_TEST, "import_error", "no_such",
    ),
    "no test": (SOLUTION, "from solution import f\nassert f(1) == 2\n", "no_tests", "no test"),
    "only skipped": (
        SOLUTION, f"import pytest\n@pytest.mark.skip\n{GOOD_TEST[23:]}", "no_tests", "no test",
    ),
    "recursion": ("def f(x):\n    return f(x)\n", GOOD_TEST, "test_failure", "RecursionError"),
    "a crash": (
        "import ctypes\ndef f(x):\n    return ctypes.string_at(0)\n", GOOD_TEST,
        "execution_error", "segmentation fault",
    ),
    "too much memory": (
        "def f(x):\n    return len(bytearray(1 << 40))\n", GOOD_TEST, "test_failure", "MemoryError",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_has_a_clear_outcome(sandbox, name):
    solution, test, error_type, message = BAD_INPUT[name]
    log = run(sandbox, solution, test)
    assert (log.passed, log.error_type) == (False, error_type)
    assert message in log.message
    assert message in log.stdout + log.stderr


def test_a_test_file_that_runs_itself_fails_while_it_is_loaded(sandbox):
    test = "from solution import f\n\ndef check():\n    assert f(1) == 3\n\ncheck()\n\n"
    log = run(sandbox, SOLUTION, test + "def test_f():\n    assert f(1) == 2\n")
    assert (log.passed, log.error_type) == (False, "execution_error")
    assert "could not be loaded: AssertionError" in log.message
    log = run(sandbox, SOLUTION, GOOD_TEST + "\ntest_f()\n")
    assert (log.passed, len(log.checks)) == (True, 1)


def test_missing_modules_are_named(sandbox):
    assert run(sandbox, "import no_such.part\n", GOOD_TEST).missing_modules == ("no_such",)
    inside = "def f(x):\n    import no_such\n"
    log = run(sandbox, inside, GOOD_TEST)
    assert (log.error_type, log.missing_modules) == ("import_error", ("no_such",))


def test_a_solution_of_a_megabyte(sandbox):
    solution = "def f(x):\n    return x + 1\n" + "# filler\n" * (1 << 17)
    assert len(solution) > 1 << 20
    assert run(sandbox, solution, GOOD_TEST).passed
    table = "TABLE = [\n" + "    'entry',\n" * (1 << 17) + "]\n"
    assert len(table) > 1 << 20
    assert run(sandbox, table + "def f(x):\n    return x + 1\n", GOOD_TEST).passed


def test_output_that_is_no_text(sandbox):
    solution = """
import os, sys
def f(x):
    os.write(1, b"caf\\xe9\\n")
    os.write(2, b"\\xff\\0")
    return x + 1
"""
    log = run(sandbox, solution, GOOD_TEST)
    assert log.passed
    assert "caf\ufffd" in log.stdout
    json.dumps(log.to_json()).encode("utf-8")


def test_hostile_objects_are_shown_in_some_way(sandbox):
    solution = """
class Bad:
    def __repr__(self):
        raise SystemError
    __str__ = __repr__
class Worse(Exception):
    def __str__(self):
        raise self
def f(x):
    if x == 1:
        return Bad()
    raise Worse
"""
    log = run(sandbox, solution, GOOD_TEST + "    assert f(2)\n    assert f([1] * 10**6) == 1\n")
    assert [check.passed for check in log.checks] == [False, False, False]
    assert "whose repr raises" in log.checks[0].actual
    assert log.checks[1].error_type == "Worse"


def test_variants_each_have_their_own_process_and_time(sandbox):
    variants = [
        "def f(x):\n    return x + 1\n",
        "import os\nos._exit(0)\n",
        LOOP.replace("> 2", "> 0"),
        "def f(x):\n    return x + 2\n",
        "def f(x)\n",
        "def f(x):\n    print('x' * 100000)\n    return x + 1\n",
    ]
    started = time.monotonic()
    logs = run_variants(sandbox, variants, GOOD_TEST, Limits(wall_seconds=20.0, cpu_seconds=1))
    assert time.monotonic() - started < 60
    assert [log.passed for log in logs] == [True, False, False, False, False, True]
    kinds = [None, "execution_error", "timeout", "test_failure", "syntax_error", None]
    assert [log.error_type for log in logs] == kinds
    assert logs[3].checks[0].actual == "3"
    assert run_variants(sandbox, [], GOOD_TEST) == []


def test_a_variant_may_be_covered(sandbox):
    [log] = run_variants(sandbox, [SOLUTION], GOOD_TEST, LIMITS, coverage=True)
    assert log.checks[0].covered == {2, 4, 5}


SLOW_OUTPUT = """
import sys, time
class Slow:
    def __init__(self, stream):
        self.stream = stream
    def write(self, text):
        return self.stream.write(text)
    def flush(self):
        time.sleep(0.3)
        self.stream.flush()
sys.stdout = Slow(sys.stdout)
print("printed")
def f(x):
    return x
"""


def test_what_was_printed_is_out_before_the_process_is_ended(sandbox):
    """The parent kills the child as soon as it hears the last word."""
    log = run(
        sandbox, SLOW_OUTPUT, "from solution import f\n\ndef test_f():\n    assert f(1) == 1\n"
    )
    assert log.passed
    assert "printed" in log.stdout
