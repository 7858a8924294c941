"""Runs solutions against a test file: the trusted parent, and a forked child per solution.

The parent reads the job from standard input before anything else, parses the test file, and never
loads a solution. Each solution runs in a fork that has no standard input, no report and no way to
write one: its records go through a pipe to the parent, each line led by a secret that was drawn
for this child. The parent kills the child's process group when its time is over and writes what it
saw to file descriptor 3, led by the job's own secret.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import ModuleType

from text2grad.sandboxed.cases import run_functions
from text2grad.sandboxed.guard import WATCHED, Guard, lend_builtins
from text2grad.sandboxed.recorder import OutOfTime, Recorder, Sender, TimeLimit
from text2grad.sandboxed.rewrite import TestFile, mark_lines
from text2grad.sandboxed.values import text_of

REPORT = 3
MAX_RECORD_BYTES = 4 << 20
MAX_TRACE_BYTES = 8000
MAX_MARKED_CHARS = 200_000  # beyond it the syntax tree costs seconds
POLL_SECONDS = 0.05
PR_SET_DUMPABLE = 4
_exit = os._exit


def main() -> None:
    """Read the job, run every solution, write one report line for each."""
    job = json.loads(sys.stdin.buffer.read())
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.path.extend(_package_folders())
    # No other process of this user may read this one's memory or open its files through /proc.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        suite = Suite(job)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _report(job["secret"], {"test_error": f"{type(error).__name__}: {error}"})
        return
    steps = [[step.line, step.source, step.is_check] for step in suite.tests.steps]
    own = [name for name in suite.tests.tests if name != job["canary_name"]]
    _report(job["secret"], {"tests": own, "steps": steps})
    for name in [name for name in sys.modules if name.startswith("text2grad")]:
        del sys.modules[name]
    for number, solution in enumerate(job["solutions"]):
        _report(job["secret"], {"number": number, **run_apart(solution, suite)})


def _package_folders() -> list[str]:
    """Where packages lie: `-I -S` starts in a third of the time but looks there no more."""
    given = os.environ.get("PYTHONPATH", "")
    return given.split(":") if given else [f"{os.path.dirname(os.__file__)}/site-packages"]


def _report(secret: str, line: dict) -> None:
    data = f"{secret} {json.dumps(line)}\n".encode()
    while data:
        data = data[os.write(REPORT, data) :]


def _write_source(path: str, source: str) -> None:
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as out:
        out.write(source)


class Suite:
    """What all solutions of a job share, made before any of them is loaded."""

    def __init__(self, job: dict) -> None:
        folder = os.getcwd()
        self.test_path, self.solution_path = f"{folder}/test_solution.py", f"{folder}/solution.py"
        self.coverage, self.quiet = job["coverage"], job["quiet"]
        self.wall_seconds, self.cpu_seconds = job["wall_seconds"], job["cpu_seconds"]
        _write_source(self.test_path, job["test"])
        self.tests = tests = TestFile(job["test"] + job["canary"], self.test_path)
        self.run: Callable = run_functions
        if not tests.is_plain or "pytest" in tests.imports:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            __import__("pytest")
        if not tests.is_plain:
            from text2grad.sandboxed.pytest_cases import run_pytest

            self.run = run_pytest
        # A file that a solution writes beside the tests cannot take the place of these.
        for name in sorted(tests.imports & WATCHED):
            with contextlib.suppress(ImportError):  # of one that is missing the test file tells
                __import__(name)
        self.guard = Guard(tests.imports, tests.assigned)


def run_apart(solution: str, suite: Suite) -> dict:
    """Run one solution in a fork; what it sent, and how it ended."""
    started = time.monotonic()
    secret = os.urandom(16).hex()
    trace = os.memfd_create("trace")
    ours, theirs = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.close(REPORT)
        _run_and_exit(solution, suite, Sender(theirs, secret), trace)
    os.close(theirs)
    try:
        received, status = _listen(ours, child, secret, started + suite.wall_seconds)
    finally:
        _kill_group(child)
    os.close(ours)
    seconds = time.monotonic() - started
    if status is None:
        status = os.waitpid(child, 0)[1]
    lines = [line for line in received.split(b"\n") if line]
    mark = secret.encode() + b" "
    dump = os.pread(trace, MAX_TRACE_BYTES, 0).decode(errors="replace")
    os.close(trace)
    return {
        "records": [json.loads(line[len(mark) :]) for line in lines if line.startswith(mark)],
        "forged": sum(not line.startswith(mark) for line in lines),
        "exit": os.waitstatus_to_exitcode(status),
        "late": seconds >= suite.wall_seconds,
        "trace": dump,
        "seconds": round(seconds, 3),
    }


def _listen(pipe: int, child: int, secret: str, ends: float) -> tuple[bytes, int | None]:
    """Whole lines that the child sends until it says that it is done, dies, or is late."""
    last = f'{secret} {{"kind":"final"'.encode()
    received, status = bytearray(), None
    while time.monotonic() < ends and len(received) < MAX_RECORD_BYTES:
        ready, _, _ = select.select([pipe], [], [], POLL_SECONDS)
        if ready:
            chunk = os.read(pipe, 1 << 16)
            received += chunk
            if not chunk or (chunk.endswith(b"\n") and last in received):
                break
        elif status is not None:
            break  # it is gone, and a child of its own keeps the pipe open
        else:
            gone, code = os.waitpid(child, os.WNOHANG)
            status = code if gone else None
    return bytes(received[: received.rfind(b"\n") + 1]), status


def _kill_group(child: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # not yet a group, or all gone


def _run_and_exit(solution: str, suite: Suite, send: Sender, trace: int) -> None:
    """The child: it never returns, and runs no exit handler of the tested code."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if suite.quiet:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
        faulthandler.enable(file=trace)
        faulthandler.dump_traceback_later(0.9 * suite.wall_seconds, file=trace)
        signal.signal(signal.SIGPROF, _on_time_limit)
        with contextlib.suppress(OutOfTime):
            run_child(solution, suite, send)
        # First what was printed: the parent kills this process as soon as it hears the last word.
        with contextlib.suppress(Exception):  # tested code may have closed or replaced it
            sys.stdout.flush()
        send({"kind": "final", "changes": suite.guard.changes()})
    except BaseException as error:  # the harness's own failure must be seen
        send({"kind": "broken", "what": f"{type(error).__name__}: {error}"})
    finally:
        _exit(0)


def run_child(solution: str, suite: Suite, send: Sender) -> None:
    """Load a solution and the test file and run the tests."""
    _write_source(suite.solution_path, solution)
    try:
        code, ends = solution, {}
        if suite.coverage and len(solution) < MAX_MARKED_CHARS:
            code = ast.parse(solution, suite.solution_path)
            ends = dict(mark_lines(code))
        code = compile(code, suite.solution_path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        message = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
        return send({"kind": "syntax_error", "message": message, "line": line})
    tests = suite.tests
    marks = bytearray(max(ends, default=0) + 1)
    recorder = Recorder(tests.steps, marks, ends, suite.solution_path, send, suite.cpu_seconds)
    module, test_module = ModuleType("solution"), ModuleType("test_solution")
    sys.modules.update(solution=module, test_solution=test_module)
    recorder.names = vars(test_module), vars(module)
    sys.path.append(os.getcwd())
    real, lent = sys.modules["builtins"], lend_builtins()
    given = {"__builtins__": lent, "__file__": suite.solution_path, "@cov": marks}
    if not _load(module, given, code, recorder):
        return None
    given = {} if "solution" in tests.imports else _names_of(module)
    given |= {"__builtins__": real, "__file__": suite.test_path, "@t": recorder}
    if not _load(test_module, given, tests.code, recorder):
        return None
    return suite.run(test_module, tests.tests, recorder)


def _on_time_limit(number: int, frame: object) -> None:
    """Interrupt the tested code, but not the recorder in the middle of its work."""
    if frame is not None and "/sandboxed/" in frame.f_code.co_filename:
        signal.setitimer(signal.ITIMER_PROF, 0.01, 0.25)
        return
    raise TimeLimit("took too long")


def _names_of(module: ModuleType) -> dict:
    return {name: value for name, value in vars(module).items() if name[:2] != "__"}


def _load(module: ModuleType, given: dict, code: object, recorder: Recorder) -> bool:
    """Execute a module's code; False if it failed, and then that is reported."""
    vars(module).update(given)
    # A test file that calls its functions while it is loaded fails there, as under pytest.
    recorder.depth = 1
    try:
        recorder.arm()
        exec(code, vars(module))
        recorder.disarm()
        return True
    except BaseException as error:
        recorder.disarm()
        recorder.send(
            {
                "kind": "load_error",
                "what": module.__name__,
                "error_type": type(error).__name__,
                "message": text_of(error),
                "missing": error.name if isinstance(error, ModuleNotFoundError) else None,
                "is_import": isinstance(error, ImportError),
                "lines": recorder.error_lines(error),
            }
        )
        return False
