"""Finding and running the tests of a loaded test module."""

from __future__ import annotations

import os
from typing import Any

from text2grad.sandboxed.recorder import OutOfTime, Recorder


def run_functions(module: Any, names: list[str], recorder: Recorder) -> None:
    """Call test functions without arguments one after the other."""
    for name in names:
        function = vars(module).get(name)
        if callable(function):
            recorder.run(name, function)


def run_pytest(module: Any, path: str, recorder: Recorder) -> None:
    """Let pytest collect and run a module that is already loaded.

    It reads no file: the module is handed to it, no conftest and no plugin is looked for.
    """
    import pytest

    class Loaded(pytest.Module):
        def _getobj(self) -> Any:
            return module

    class Plugin:
        failed = False

        def pytest_pycollect_makemodule(self, module_path: Any, parent: Any) -> Any:
            return Loaded.from_parent(parent, path=module_path)

        def pytest_collection_modifyitems(self, items: list) -> None:
            # What a solution defines is no test, though `import *` brings it into the module.
            items[:] = [item for item in items if _is_own(item, path)]

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Any:
            recorder.begin_test(item.nodeid.partition("::")[2].replace("::", "."))
            self.outcome = "passed"
            result = yield
            recorder.end_test(self.outcome)
            return result

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool:
            # As pytest does, but a value that is returned is no failure.
            names = pyfuncitem._fixtureinfo.argnames
            pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
            return True

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_call(self, item: Any) -> Any:
            result = yield
            if recorder.failed_steps:
                raise AssertionError(f"{len(recorder.failed_steps)} checks failed")
            return result

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
            report = yield
            error = call.excinfo.value if call.excinfo is not None else None
            if isinstance(error, OutOfTime):
                raise error
            if report.failed:
                self.outcome = "failed"
                if error is not None and not recorder.failed_steps:
                    _raise_again(recorder, error)
            elif report.skipped and self.outcome == "passed":
                skipped_by_solution = error is not None and recorder.error_lines(error)
                self.outcome = "failed" if skipped_by_solution else "skipped"
            return report

    flags = "-s --noconftest --assert=plain -p no:terminal -p no:cacheprovider -p no:faulthandler"
    folder = os.path.dirname(path)
    arguments = [*flags.split(), "-c", os.devnull, f"--rootdir={folder}", path]
    code = pytest.main(arguments, plugins=[Plugin()])
    if code in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
        raise RuntimeError(f"pytest could not run the tests: {pytest.ExitCode(code).name}")


def _is_own(item: Any, path: str) -> bool:
    function = getattr(item, "function", None) or getattr(item, "obj", None)
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == path


def _raise_again(recorder: Recorder, error: BaseException) -> None:
    """Record an error that pytest caught, as `Recorder.run` would."""
    try:
        raise error
    except BaseException:  # noqa: BLE001
        recorder.body_raised()
