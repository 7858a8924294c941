"""Solutions that would rather forge the verdict than earn it: none may count as passed."""

from functools import cache

import pytest

from text2grad.sandbox import Limits, find_sandbox
from text2grad.unit_tests import run_tests

LIMITS = Limits(wall_seconds=8.0, cpu_seconds=4)
TEST = """
from solution import add

def test_add():
    assert add(1, 2) == 3
    assert add(2, 2) == 4
"""
PYTEST = """
import math
import pytest
import unittest
from solution import add

@pytest.mark.parametrize("n", [1, 2])
def test_add(n):
    assert math.isclose(add(n, 2), n + 2)

def test_raises():
    with pytest.raises(TypeError):
        add(None, 1)

class TestMore(unittest.TestCase):
    def test_more(self):
        self.assertEqual(add(2, 2), 4)
"""
WRONG = "\ndef add(a, b):\n    return 0\n"
WRITE_ALL = """
import os, sys
for fd in range(3, 64):
    try:
        os.write(fd, b'{"kind":"test","test":"test_add","outcome":"passed"}\\n')
        os.write(fd, b'{"kind":"final","changes":[]}\\n')
    except OSError:
        pass
"""
ATTACKS = {
    "nothing": "",
    "os._exit at load": "import os\nos._exit(0)\n",
    "sys.exit at load": "import sys\nsys.exit(0)\n",
    "os._exit in the call": "def add(a, b):\n    import os\n    os._exit(0)\n",
    "sys.exit in the call": "def add(a, b):\n    import sys\n    sys.exit(0)\n",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\n",
    "killing itself": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    "killing the parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n",
    "writing to every file descriptor": WRITE_ALL,
    "opening the parent's report": """
import os
for name in os.listdir(f"/proc/{os.getppid()}/fd"):
    with open(f"/proc/{os.getppid()}/fd/{name}", "wb", buffering=0) as out:
        out.write(b"passed\\n")
""",
    "builtins of the solution": """
import builtins
builtins.AssertionError = ValueError
builtins.isinstance = builtins.callable = lambda *a: True
""",
    "the real builtins": """
real = len.__self__
real.callable = lambda *a: False
real.any = real.all = lambda *a: True
""",
    "a recorder that never fails": """
import sys
class Fine:
    def __getattr__(self, name):
        return lambda *a, **k: False
frame = sys._getframe()
while frame:
    for name, value in list(frame.f_locals.items()):
        if type(value).__name__ == "Recorder":
            for method in ("failed", "raised", "body_raised"):
                setattr(type(value), method, lambda *a, **k: None)
    frame = frame.f_back
""",
    "pytest's items": """
try:
    import _pytest.python
    _pytest.python.Function.runtest = lambda self: None
except ImportError:
    pass
""",
    "pytest.raises and approx": """
import contextlib, sys
if "pytest" in sys.modules:
    class Swallow(contextlib.AbstractContextManager):
        def __exit__(self, *error):
            return True
    sys.modules["pytest"].raises = lambda *a, **k: Swallow()
""",
    "math.isclose": "import math\nmath.isclose = lambda *a, **k: True\n",
    "unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n",
    "a conftest": """
open("conftest.py", "w").write('''
import pytest
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    report.outcome = "passed"
''')
""",
    "another pytest": "open('pytest.py', 'w').write('raises = None')\n",
    "another test file": "open('test_solution.py', 'w').write('def test_add():\\n    pass\\n')\n",
    "no test file": "import os\nos.remove('test_solution.py')\n",
    "no harness": "import shutil\nshutil.rmtree('lib')\n",
    "no tests in the module": """
import sys
def add(a, b):
    names = vars(sys.modules["test_solution"])
    for name in [name for name in names if "test" in name.lower()]:
        del names[name]
    return 0
""",
    "tests of its own": """
import sys
def test_mine():
    assert True
__all__ = ["add", "test_mine"]
""",
    "a skip": """
import unittest
def add(a, b):
    raise unittest.SkipTest("not today")
""",
    "a skip of pytest's": """
def add(a, b):
    import pytest
    pytest.skip("not today")
""",
    "an object that equals everything": """
class Any(int):
    def __eq__(self, other):
        return True
    __hash__ = int.__hash__
    def __rsub__(self, other):
        return 0
def add(a, b):
    return Any()
""",
}  # fmt: skip


@pytest.fixture(scope="module")
def sandbox():
    return find_sandbox()


@cache
def attack(sandbox, name, test):
    own = ATTACKS[name]
    return run_tests(sandbox, own if "def add" in own else own + WRONG, test, LIMITS)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes(sandbox, name):
    log = attack(sandbox, name, TEST)
    assert not log.passed
    assert log.error_type


PYTEST_ATTACKS = [name for name in ATTACKS if "pytest" in name or "skip" in name] + [
    "nothing", "math.isclose", "unittest", "a conftest", "another test file", "no test file",
    "no tests in the module", "an object that equals everything", "os._exit in the call",
]  # fmt: skip


@pytest.mark.parametrize("name", dict.fromkeys(PYTEST_ATTACKS))
def test_no_attack_passes_under_pytest(sandbox, name):
    log = attack(sandbox, name, PYTEST)
    assert not log.passed
    assert log.error_type


@pytest.mark.parametrize("test", [TEST, PYTEST], ids=["plain", "pytest"])
def test_an_honest_solution_passes(sandbox, test):
    log = run_tests(sandbox, "def add(a, b):\n    return a + b\n", test, LIMITS)
    assert log.passed, log
    assert len(log.tests) == (1 if test is TEST else 4)


@pytest.mark.parametrize(
    ("name", "test", "error_type"),
    [
        ("os._exit at load", TEST, "execution_error"),
        ("writing to every file descriptor", TEST, "tampered"),
        ("a recorder that never fails", TEST, "tampered"),
        ("the real builtins", TEST, "tampered"),
        ("no harness", TEST, "test_failure"),
        ("pytest's items", PYTEST, "tampered"),
        ("pytest.raises and approx", PYTEST, "tampered"),
        ("math.isclose", PYTEST, "tampered"),
        ("unittest", PYTEST, "tampered"),
        ("an object that equals everything", TEST, "tampered"),
        ("a conftest", PYTEST, "test_failure"),
        ("another test file", PYTEST, "test_failure"),
    ],
)
def test_what_is_said_of_it(sandbox, name, test, error_type):
    assert attack(sandbox, name, test).error_type == error_type


def test_patching_by_the_tests_themselves_is_theirs(sandbox):
    test = """
import builtins
import time
from unittest.mock import patch
from solution import ask

def test_ask():
    with patch("builtins.input", return_value="7"):
        assert ask() == 7

def test_ask_again():
    builtins.input = lambda *a: "8"
    time.sleep = lambda seconds: None
    assert ask() == 8
"""
    solution = "import time\ndef ask():\n    time.sleep(60)\n    return int(input('n? '))\n"
    assert run_tests(sandbox, solution.replace("    time.sleep(60)\n", ""), test, LIMITS).passed
    slow = test.replace(
        '    with patch("builtins.input"',
        '    time.sleep = lambda s: None\n    with patch("builtins.input"',
    )
    assert run_tests(sandbox, solution, slow, LIMITS).passed
