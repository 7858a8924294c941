"""Outcomes of checks, as the rewritten test file reports them while it runs."""

from __future__ import annotations

import json.encoder
import os
import signal
import sys
import time
from collections.abc import Callable

from text2grad.sandboxed.values import show, text_of, trace_lines

MAX_RUNS_WITH_COVERAGE = 1000
MAX_TIME_LIMITS = 3
# Share of the time left that one check may take, so that others still run after an endless one.
CHECK_SHARE = 0.6

# Bound before any tested code is loaded: replacing them in their modules changes nothing here.
# The encoder is written in C and looks nothing up.
_encode = json.encoder.c_make_encoder(
    None, None, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True
)
_write, _fstat, _clock, _set_timer = os.write, os.fstat, time.process_time, signal.setitimer
_exception, _timer = sys.exc_info, signal.ITIMER_PROF
# a refusal to go on by the test itself, not a failure
_SKIPS = ("Skipped", "SkipTest", "XFailed")
# Types whose own comparison is compiled, so that nothing need be asked.
_PLAIN = frozenset(
    (int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset, type(None))
)


class TimeLimit(BaseException):
    """One check took too long."""


class Sender:
    """Writes records that begin with a secret to a pipe of which the parent holds the other end."""

    def __init__(self, pipe: int, secret: str) -> None:
        self.pipe, self.secret = pipe, secret.encode() + b" "
        self.inode = _fstat(pipe).st_ino

    def __call__(self, record: dict) -> None:
        """Write one record."""
        line = self.secret + "".join(_encode(record, 0)).encode() + b"\n"
        if _fstat(self.pipe).st_ino != self.inode:
            return  # another file was put in the pipe's place: the secret is not written to it
        while line:
            line = line[_write(self.pipe, line) :]


class Recorder:
    """What the rewritten test file calls as `@t`.

    Args:
        steps: `TestFile.steps`.
        marks: the solution's `@cov`, by line; empty where coverage is off.
        spans: last line of the statement that begins on a line.
        solution: file name of the solution's code.
        send: takes records.
        seconds: processor time for all tests together.
    """

    def __init__(
        self,
        steps: list,
        marks: bytearray,
        spans: dict,
        solution: str,
        send: Callable[[dict], None],
        seconds: float,
    ) -> None:
        self.steps, self.marks, self.spans, self.solution = steps, marks, spans, solution
        self.send = send
        self.names: tuple[dict, dict] = {}, {}  # of the test module, and of the solution
        self.clean = bytes(len(marks))
        self.ends = _clock() + seconds
        self.armed = 0.0
        self.time_limits = 0
        self.begin_test("")

    # --- one test -------------------------------------------------------------------------------

    def begin_test(self, name: str) -> None:
        """A test function starts, or the fixtures before it."""
        self.test, self.depth, self.step = name, 0, 0
        self.outcome: bool | None = None
        self.kept: tuple = ()
        self.masks: dict[int, int] = {}
        self.failed_steps: set[int] = set()
        self.records: dict[tuple[int, bool], dict] = {}
        self.marks[:] = self.clean
        self.arm()

    def end_test(self, outcome: str) -> None:
        """The test is over: "passed", "failed" or "skipped"."""
        self.disarm()
        for record in self.records.values():
            if record["runs"] > 1:
                self.send(self._ready(record))
        self.send({"kind": "test", "test": self.test, "outcome": outcome})

    def run(self, name: str, function: Callable[[], object]) -> None:
        """A test function without arguments, from start to end."""
        self.begin_test(name)
        outcome = "passed"
        try:
            function()
        except BaseException:
            outcome = self.body_raised()
        self.end_test("failed" if self.failed_steps else outcome)

    def body_raised(self) -> str:
        """The error under way left the test function; returns the test's outcome."""
        kind, error, trace = _exception()
        if kind is OutOfTime:
            raise  # the error under way
        self.depth = 0
        lines = trace_lines(trace, self.solution)
        if kind.__name__ in _SKIPS and not lines:
            return "skipped"
        if self.failed_steps and not lines and not isinstance(error, TimeLimit):
            return "failed"  # a name is missing because the check that binds it failed before
        self._record(self.step, False, kind.__name__, text_of(error), None, None, lines)
        return "failed"

    # --- called by the rewritten file -----------------------------------------------------------

    def at(self, number: int) -> None:
        """A statement that is no check begins."""
        if not self.depth:
            self._flush()
            self._enter(number)

    def begin(self, number: int) -> bool:
        """A check begins; False where it hangs on one that failed."""
        if not self.depth:
            if any(step in self.failed_steps for step in self.steps[number].needs):
                return False
            self._flush()
            self._enter(number)
            self.outcome, self.kept = None, ()
            if _clock() - self.armed > 0.05:
                self.arm()
        self.depth += 1
        return True

    def ended(self, number: int) -> None:
        """A check is over, however it went; one that nothing was said about has passed."""
        self.depth -= 1
        if self.depth == 0 and self.outcome is None:
            self._record(number, True, "", "", None, None, [])

    def keep(self, number: int, left: object, right: object) -> None:
        """Both sides of a `self.assert...`, in case it fails."""
        if self.steps[number].operator == "==":
            self.equal(number, left, right)
        self.kept = (number, left, right, None)

    def equal(self, number: int, left: object, right: object) -> None:
        """Two sides are compared: is one an object that equals everything, and not the tests'?"""
        for side in (left, right):
            if type(side) not in _PLAIN and self._fools(side):
                self.send({"kind": "tampered", "what": "an object that equals everything"})

    def failed(self, number: int, left: object, right: object, message: object = "") -> None:
        """An assertion did not hold."""
        if self.depth > 1:
            error = AssertionError(message) if message != "" else AssertionError()
            self.kept = (number, left, right, error)
            raise error
        self.outcome = False
        expected, actual = self._sides(number, left, right)
        text = text_of(message) if message != "" else ""
        self._record(number, False, "AssertionError", text, expected, actual, [])

    def raised(self, number: int) -> None:
        """An error left a check's statement."""
        if self.depth > 1:
            raise
        kind, error, trace = _exception()
        lines = trace_lines(trace, self.solution)
        if kind.__name__ in _SKIPS and not lines:
            raise
        self.outcome = False
        expected = actual = None
        own = self.kept and (self.kept[3] is None or self.kept[3] is error)
        if own and isinstance(error, AssertionError):
            expected, actual = self._sides(*self.kept[:3])
        self._record(number, False, kind.__name__, text_of(error), expected, actual, lines)

    # --- time -----------------------------------------------------------------------------------

    def arm(self) -> None:
        """Give what comes now its share of the time left."""
        self.armed = _clock()
        _set_timer(_timer, max(0.01, CHECK_SHARE * (self.ends - self.armed)), 0.25)

    def disarm(self) -> None:
        """No time limit until `arm`."""
        _set_timer(_timer, 0)

    # --- inner ----------------------------------------------------------------------------------

    def _enter(self, number: int) -> None:
        self.step = number
        if self.steps[number].resets:
            self.masks.pop(number, None)

    def _flush(self) -> None:
        if 1 in self.marks:
            mask = int.from_bytes(self.marks, "little")
            self.masks[self.step] = self.masks.get(self.step, 0) | mask
            self.marks[:] = self.clean

    def _record(
        self,
        number: int,
        passed: bool,
        error_type: str,
        message: str,
        expected: str | None,
        actual: str | None,
        lines: list[int],
    ) -> None:
        if not passed:
            self.failed_steps.add(number)
        record = self.records.get((number, passed))
        if record is not None:
            record["runs"] += 1
            if record["runs"] < MAX_RUNS_WITH_COVERAGE:
                self._flush()
                record["mask"] |= self._covered(number)
            return
        self._flush()
        record = {
            "kind": "check",
            "test": self.test,
            "step": number,
            "passed": passed,
            "error_type": error_type,
            "message": message,
            "expected": expected,
            "actual": actual,
            "lines": lines,
            "runs": 1,
            "mask": self._covered(number),
        }
        self.records[number, passed] = record
        self.send(self._ready(record))
        if error_type == "TimeLimit":
            self.time_limits += 1
            if self.time_limits == MAX_TIME_LIMITS:
                raise OutOfTime

    def _covered(self, number: int) -> int:
        """Its own lines, those of the steps it needs, and those that other functions ran."""
        own = self.steps[number]
        wanted = {number, *own.needs} if own.is_check else set(self.masks)
        mask = 0
        for other, lines in self.masks.items():
            step = self.steps[other]
            if other in wanted or (step.function != own.function and not step.is_check):
                mask |= lines
        return mask

    def _ready(self, record: dict) -> dict:
        marks = record["mask"].to_bytes(len(self.marks), "little")
        ready = {name: value for name, value in record.items() if name != "mask"}
        ready["covered"] = [
            [line, self.spans.get(line, line)] for line, mark in enumerate(marks) if mark
        ]
        return ready

    def _sides(self, number: int, left: object, right: object) -> tuple[str | None, str | None]:
        step = self.steps[number]
        if step.operator == "true":
            return "a true value", show(left)
        if step.operator == "not":
            return "a false value", show(left)
        if step.flipped:
            left, right = right, left
        if step.operator in ("==", "is"):
            return show(right), show(left)
        if not step.operator:
            return None, None
        return f"{step.operator} {show(right)}", show(left)

    def _fools(self, side: object) -> bool:
        """Whether it equals what nothing else does, and the tests do not know it by a name."""
        try:
            equal = bool(side == _Nothing())
        except Exception:
            equal = False
        if not equal:
            return False
        tests, solution = (list(names.values()) for names in self.names)
        known = [value for value in tests if value is side or value is type(side)]
        return not known or any(value is one for value in solution for one in known)

    def error_lines(self, error: BaseException) -> list[int]:
        """Lines of the solution in an error's traceback."""
        return trace_lines(error.__traceback__, self.solution)


class OutOfTime(BaseException):
    """So many checks ran out of time that no more are tried."""


class _Nothing:
    """Equal to nothing but itself."""
