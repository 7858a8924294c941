"""Runs solutions against a test file: the trusted parent, and a forked child per solution.

The parent reads the job from standard input before anything else, parses the test file, and never
loads a solution. Each solution runs in a fork that has no standard input, no report and no way to
write one: its records go through a pipe to the parent, each line led by a secret that was drawn
for this child. The parent kills the child's process group when its time is over and writes what it
saw to file descriptor 3, led by the job's own secret.
"""

from __future__ import annotations

import ast
import ctypes
import faulthandler
import json
import os
import select
import signal
import sys
import time
from types import ModuleType

from text2grad.sandboxed.cases import run_functions, run_pytest
from text2grad.sandboxed.guard import WATCHED, Guard, lend_builtins
from text2grad.sandboxed.recorder import OutOfTime, Recorder, Sender, TimeLimit, text_of, trace_lines
from text2grad.sandboxed.rewrite import TestFile, mark_lines

REPORT = 3
MAX_RECORD_BYTES = 4 << 20
MAX_TRACE_BYTES = 8000
MAX_MARKED_CHARS = 200_000  # beyond it the marks cost seconds
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
    folder = os.getcwd()
    names = {"test": f"{folder}/test_solution.py", "solution": f"{folder}/solution.py"}
    _write_source(names["test"], job["test"])
    try:
        tests = TestFile(job["test"] + job["canary"], names["test"])
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        _report(job["secret"], {"test_error": f"{type(error).__name__}: {error}"})
        return
    own = [name for name in tests.tests if name != job["canary_name"]]
    steps = [[step.line, step.source, step.is_check] for step in tests.steps]
    _report(job["secret"], {"tests": own, "steps": steps})
    preload(tests)
    guard = Guard(tests.imports, tests.assigned)
    for name in [name for name in sys.modules if name.startswith("text2grad")]:
        del sys.modules[name]
    for number, solution in enumerate(job["solutions"]):
        seen = run_apart(solution, tests, guard, names, job)
        _report(job["secret"], {"number": number, **seen})


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


def preload(tests: TestFile) -> None:
    """Import what the test file relies on, before any tested code can put itself in its place."""
    wanted = {name for name in tests.imports & WATCHED if name not in sys.modules}
    if not tests.is_plain or "pytest" in tests.imports:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        wanted.add("pytest")
    for name in sorted(wanted):
        __import__(name)


def run_apart(solution: str, tests: TestFile, guard: Guard, names: dict, job: dict) -> dict:
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
        _run_and_exit(solution, tests, guard, names, job, Sender(theirs, secret), trace)
    os.close(theirs)
    try:
        received, finished = _listen(ours, child, secret, started + job["wall_seconds"])
    finally:
        _kill_group(child)
    os.close(ours)
    seconds = time.monotonic() - started
    status = finished if finished is not None else os.waitpid(child, 0)[1]
    lines = [line for line in received.split(b"\n") if line]
    mark = secret.encode() + b" "
    records = [json.loads(line[len(mark) :]) for line in lines if line.startswith(mark)]
    dump = os.pread(trace, MAX_TRACE_BYTES, 0).decode(errors="replace")
    os.close(trace)
    return {
        "records": records,
        "forged": sum(not line.startswith(mark) for line in lines),
        "exit": os.waitstatus_to_exitcode(status),
        "late": seconds >= job["wall_seconds"],
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
        elif status is None:
            gone, code = os.waitpid(child, os.WNOHANG)
            status = code if gone else None
    return bytes(received[: received.rfind(b"\n") + 1]), status


def _kill_group(child: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # not yet a group, or all gone


def _run_and_exit(
    solution: str,
    tests: TestFile,
    guard: Guard,
    names: dict,
    job: dict,
    send: Sender,
    trace: int,
) -> None:
    """The child: it never returns, and runs no exit handler of the tested code."""
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if job["quiet"]:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(nothing.fileno(), 2)
        faulthandler.enable(file=trace)
        faulthandler.dump_traceback_later(0.9 * job["wall_seconds"], file=trace)
        run_child(solution, tests, guard, names, job, send)
    except OutOfTime:
        send({"kind": "final", "changes": []})
    except BaseException as error:  # noqa: BLE001 - the harness's own failure must be seen
        send({"kind": "broken", "what": f"{type(error).__name__}: {error}"})
    finally:
        _exit(0)


def run_child(
    solution: str, tests: TestFile, guard: Guard, names: dict, job: dict, send: Sender
) -> None:
    """Load a solution and the test file, run the tests, report whether all is in its place."""
    import resource

    seconds = job["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, _on_time_limit)
    _write_source(names["solution"], solution)
    try:
        tree = ast.parse(solution, names["solution"])
        spans = mark_lines(tree) if job["coverage"] and len(solution) < MAX_MARKED_CHARS else []
        code = compile(tree, names["solution"], "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        message = f"{type(error).__name__}: {getattr(error, 'msg', None) or error}"
        send({"kind": "syntax_error", "message": message, "line": line})
        return send({"kind": "final", "changes": []})
    marks = bytearray(max((line for line, _ in spans), default=0) + 1)
    ends = dict(spans)
    recorder = Recorder(tests.steps, marks, ends, names["solution"], send, seconds)
    module, test_module = ModuleType("solution"), ModuleType("test_solution")
    sys.modules.update(solution=module, test_solution=test_module)
    sys.path.append(os.getcwd())
    real = sys.modules["builtins"]
    lent = lend_builtins()
    vars(module).update({"__builtins__": lent, "__file__": names["solution"], "@cov": marks})
    if not _load(module, code, "solution", names, recorder):
        return None
    given = {} if "solution" in tests.imports else _names_of(module)
    vars(test_module).update({**given, "__builtins__": real, "__file__": names["test"]})
    vars(test_module)["@t"] = recorder
    if not _load(test_module, tests.code, "test", names, recorder):
        return None
    if tests.is_plain:
        run_functions(test_module, tests.tests, recorder)
    else:
        run_pytest(test_module, names["test"], recorder)
    return send({"kind": "final", "changes": guard.changes()})


def _on_time_limit(number: int, frame: object) -> None:
    """Interrupt the tested code, but not the recorder in the middle of its work."""
    if frame is not None and "/sandboxed/" in frame.f_code.co_filename:
        signal.setitimer(signal.ITIMER_PROF, 0.01, 0.25)
        return
    raise TimeLimit("took too long")


def _names_of(module: ModuleType) -> dict:
    return {name: value for name, value in vars(module).items() if not name.startswith("__")}


def _load(module: ModuleType, code: object, what: str, names: dict, recorder: Recorder) -> bool:
    """Execute a module's code; False if it failed, and then that is reported."""
    try:
        recorder.arm()
        exec(code, vars(module))
        recorder.disarm()
        return True
    except BaseException as error:  # noqa: BLE001 - whatever the tested code raises is an outcome
        recorder.disarm()
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        recorder.send(
            {
                "kind": "load_error",
                "what": what,
                "error_type": type(error).__name__,
                "message": text_of(error),
                "missing": missing,
                "is_import": isinstance(error, ImportError),
                "lines": trace_lines(error.__traceback__, names["solution"]),
            }
        )
        recorder.send({"kind": "final", "changes": []})
        return False
