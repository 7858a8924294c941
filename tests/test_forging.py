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
def attack(sandbox, name):
    own = ATTACKS[name]
    return run_tests(sandbox, own if "def add" in own else own + WRONG, TEST, LIMITS)


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes(sandbox, name):
    log = attack(sandbox, name)
    assert not log.passed
    assert log.error_type


# Each attack on a way of testing meets a test that rests on that way alone: undefended, it passes.
ISCLOSE = "import math\nfrom solution import add\n\ndef test_add():\n"
ISCLOSE += "    assert math.isclose(add(1, 2), 3)\n"
ALL = "from solution import add\n\ndef test_add():\n"
ALL += "    assert all(add(n, 1) == n + 1 for n in (1, 2))\n"
RAISES = "import pytest\nfrom solution import add\n\ndef test_add():\n"
RAISES += "    with pytest.raises(TypeError):\n        add(None, 1)\n"
PARAMETERS = "import pytest\nfrom solution import add\n\n"
PARAMETERS += (
    "@pytest.mark.parametrize('n', [1, 2])\ndef test_add(n):\n    assert add(n, 1) == n + 1\n"
)
UNITTEST = "import unittest\nfrom solution import add\n\nclass TestAdd(unittest.TestCase):\n"
UNITTEST += "    def test_add(self):\n        self.assertEqual(add(2, 2), 4)\n"
TWO = "from solution import add\n\ndef test_one():\n    assert add(0, 0) == 0\n\n"
TWO += "def test_two():\n    assert add(1, 1) == 2\n"
NUMPY = "import numpy as np\nfrom solution import add\n\ndef test_add():\n"
NUMPY += "    assert np.allclose(add(1, 2), 3)\n"
MOCK = "from unittest.mock import ANY\nfrom solution import *\n\ndef test_add():\n"
MOCK += "    assert add(1, 2) == ANY\n"
ANY = "from unittest.mock import ANY\ndef add(a, b):\n    return ANY\n"
NO_TEST = "from solution import *\n"
SKIP = "def add(a, b):\n    if not a:\n        return 0\n    "
TARGETED = {
    "math.isclose": (ATTACKS["math.isclose"], ISCLOSE, "tampered"),
    "all, in the real builtins": (
        "len.__self__.all = lambda values: True\n", ALL, "tampered",
    ),
    "all, in the lent builtins": (
        "import builtins\nbuiltins.all = lambda values: True\n", ALL, "test_failure",
    ),
    "pytest.raises": (ATTACKS["pytest.raises and approx"], RAISES, "tampered"),
    "another pytest": (
        """
import contextlib
open("pytest.py", "w").write("from contextlib import suppress\\nraises = suppress")
""",
        RAISES, "test_failure",
    ),
    "pytest's items": (ATTACKS["pytest's items"], PARAMETERS, "tampered"),
    "a conftest": (ATTACKS["a conftest"], PARAMETERS, "test_failure"),
    "another test file": (ATTACKS["another test file"], PARAMETERS, "test_failure"),
    "no test file": (ATTACKS["no test file"], PARAMETERS, "execution_error"),
    "unittest": (ATTACKS["unittest"], UNITTEST, "tampered"),
    "tests of its own": (ATTACKS["tests of its own"], NO_TEST, "no_tests"),
    "a skip": (SKIP + "import unittest\n    raise unittest.SkipTest()\n", TWO, "test_failure"),
    "a skip of pytest's": (
        SKIP + "import pytest\n    pytest.skip()\n", "import pytest\n" + TWO, "test_failure",
    ),
    "a skip under pytest": (
        SKIP + "import pytest\n    pytest.skip()\n",
        "import pytest\n" + TWO.replace("test_two():", "test_two(tmp_path):"), "test_failure",
    ),
    "the end of pytest": (
        SKIP + "import pytest\n    pytest.exit('', returncode=0)\n",
        "import pytest\n" + TWO.replace("test_two():", "test_two(tmp_path):"), "test_failure",
    ),
    "no second test": (
        """
import sys
def add(a, b):
    names = vars(sys.modules["test_solution"])
    names.pop("test_two", None)
    return 0
""",
        TWO, "tampered",
    ),
    "mock's ANY": (ANY, TWO, "tampered"),
    "mock's ANY in unittest": (ANY, UNITTEST, "tampered"),
    "a comparison without code": (
        """
class Equal:
    __eq__ = bool
def add(a, b):
    return Equal()
""",
        "from solution import *\n" + TWO, "tampered",
    ),
    "numpy.allclose": ("import numpy\nnumpy.allclose = lambda *a: True\n", NUMPY, "tampered"),
    "no honest end": ("import atexit, os\natexit.register(os._exit, 0)\n", TWO, "test_failure"),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETED)
def test_an_attack_on_what_a_test_rests_on(sandbox, name):
    own, test, error_type = TARGETED[name]
    log = run_tests(sandbox, own if "def add" in own else own + WRONG, test, LIMITS)
    assert (log.passed, log.error_type) == (False, error_type)


HONEST = "def add(a, b):\n    return a + b\n"


@pytest.mark.parametrize(
    "test", [TEST, ISCLOSE, ALL, RAISES, PARAMETERS, UNITTEST, TWO, NUMPY, MOCK]
)
def test_an_honest_solution_passes(sandbox, test):
    assert run_tests(sandbox, HONEST, test, LIMITS).passed


@pytest.mark.parametrize(
    ("name", "error_type"),
    [
        ("os._exit at load", "execution_error"),
        ("writing to every file descriptor", "tampered"),
        ("a recorder that never fails", "tampered"),
        ("no harness", "test_failure"),
        ("an object that equals everything", "tampered"),
    ],
)
def test_what_is_said_of_it(sandbox, name, error_type):
    assert attack(sandbox, name).error_type == error_type


def test_the_parent_is_closed_to_the_solution(sandbox):
    solution = """
import os
def add(a, b):
    for place in ("fd/3", "fd/0", "mem", "environ"):
        try:
            open(f"/proc/{os.getppid()}/{place}", "rb").read(1)
        except PermissionError:
            continue
        return place
    return a + b
"""
    log = run_tests(sandbox, solution, TEST, LIMITS)
    assert log.passed, log.checks


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
