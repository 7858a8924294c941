"""Everything else that pytest runs: fixtures, parameters, classes, unittest's test cases."""

from __future__ import annotations

import os
from typing import Any

import pytest

from text2grad.sandboxed.recorder import OutOfTime, Recorder

FLAGS = "-s --noconftest --assert=plain -p no:terminal -p no:cacheprovider -p no:faulthandler"


def run_pytest(module: Any, names: list[str], recorder: Recorder) -> None:
    """Let pytest collect and run a module that is already loaded; it finds the names itself.

    It reads no file: the module is handed to it, no conftest and no plugin is looked for.

    Raises:
        RuntimeError: pytest itself failed.
    """
    path = module.__file__
    arguments = [*FLAGS.split(), "-c", os.devnull, f"--rootdir={os.path.dirname(path)}", path]
    code = pytest.main(arguments, plugins=[Plugin(module, path, recorder)])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise RuntimeError(f"pytest could not run the tests: {pytest.ExitCode(code).name}")


class Loaded(pytest.Module):
    """A test module that is not read from its file."""

    loaded: Any = None

    def _getobj(self) -> Any:
        return self.loaded


class Plugin:
    """Tells the recorder when a test begins and ends, and pytest when a check failed."""

    def __init__(self, module: Any, path: str, recorder: Recorder) -> None:
        self.module, self.path, self.recorder = module, path, recorder
        self.outcome = "passed"

    def pytest_pycollect_makemodule(self, module_path: Any, parent: Any) -> Any:
        """The module in memory, in the file's place."""
        collector = Loaded.from_parent(parent, path=module_path)
        collector.loaded = self.module
        return collector

    def pytest_collection_modifyitems(self, items: list) -> None:
        """What a solution defines is no test, though `import *` brings it into the module."""
        items[:] = [item for item in items if _is_own(item, self.path)]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        """Around one test with its fixtures."""
        self.recorder.begin_test(item.nodeid.partition("::")[2].replace("::", "."))
        self.outcome = "passed"
        result = yield
        self.recorder.end_test(self.outcome)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
        """Call the test function as pytest does, but a value that is returned is no failure."""
        names = pyfuncitem._fixtureinfo.argnames
        pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: Any) -> Any:
        """A test with a failed check fails."""
        result = yield
        if self.recorder.failed_steps:
            raise AssertionError(f"{len(self.recorder.failed_steps)} checks failed")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        """Read the outcome of setup, call or teardown."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        if isinstance(error, OutOfTime):
            raise error
        if report.failed:
            self.outcome = "failed"
            if error is not None and not self.recorder.failed_steps:
                self._record(error)
        elif report.skipped and self.outcome == "passed":
            by_solution = error is not None and self.recorder.error_lines(error)
            self.outcome = "failed" if by_solution else "skipped"
        return report

    def _record(self, error: BaseException) -> None:
        """An error that pytest caught, as `Recorder.run` would."""
        try:
            raise error
        except BaseException:
            self.recorder.body_raised()


def _is_own(item: Any, path: str) -> bool:
    function = getattr(item, "function", None) or getattr(item, "obj", None)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == path
