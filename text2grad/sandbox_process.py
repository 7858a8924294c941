"""One process under limits: started with exact file descriptors, watched from outside, ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from text2grad.process_tree import process_tree, proportional_bytes, resident_bytes
from text2grad.schema import UserError

Limit = Literal["", "wall time", "cpu time", "memory", "processes"]

# What the last trusted program writes to file descriptor 3 before the command starts.
STARTED = b"started\n"
START_SECONDS = 60.0
KILL_SECONDS = 5.0
TICK_SECONDS = 0.1
REPORT_BYTES = 16 << 20
READ_BYTES = 1 << 16
# Descriptors are first moved above all those at which the child wants to find them.
FIRST_FREE_FD = 200
# Programs of the sandbox itself among the processes that are counted.
OWN_PROCESSES = 4


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        wall_seconds: from the start of the command; then everything in the sandbox is killed.
        cpu_seconds: of each process.
        memory_mb: address space of each process, and resident memory of all together.
        processes: processes and threads at once.
        file_mb: size of a file; all files together may hold four times as much.
        output_kb: kept of standard output, and of standard error, half from either end.
    """

    wall_seconds: float = 10.0
    cpu_seconds: int = 10
    memory_mb: int = 1024
    processes: int = 64
    file_mb: int = 16
    output_kb: int = 64


@dataclass(frozen=True)
class Launch:
    """A program to start: its path and arguments, its whole environment, its descriptors.

    `fds` maps the number that the program is to see to a descriptor of this process.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    fds: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """What is left of a program.

    Attributes:
        return_code: None where it was killed from here, 128 + N where signal N ended it.
        stdout, stderr, report: what it wrote to descriptors 1, 2 and 3.
        limit: the limit that ended it, or "".
        seconds: from the start of the command to its end.
    """

    return_code: int | None
    stdout: bytes
    stderr: bytes
    report: bytes
    limit: Limit
    seconds: float


class Capture:
    """The first and the last bytes of a stream, in bounded memory."""

    def __init__(self, limit: int) -> None:
        self._half = max(1, limit // 2)
        self._kept = bytearray()
        self._cut = 0

    def add(self, data: bytes) -> None:
        """Take in a piece of the stream."""
        self._kept += data
        if len(self._kept) > 4 * self._half:
            self._trim()

    def _trim(self) -> None:
        surplus = len(self._kept) - 2 * self._half
        if surplus > 0:
            del self._kept[self._half : self._half + surplus]
            self._cut += surplus

    def value(self) -> bytes:
        """The bytes kept and, between the two halves, how many were not."""
        self._trim()
        if not self._cut:
            return bytes(self._kept)
        note = f"\n[... {self._cut} bytes left out ...]\n".encode()
        return bytes(self._kept[: self._half]) + note + bytes(self._kept[self._half :])


class Head:
    """The first bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit, self._kept = limit, bytearray()

    def add(self, data: bytes) -> None:
        """Take in a piece of the stream."""
        self._kept += data[: self._limit - len(self._kept)]

    def value(self) -> bytes:
        """The bytes kept."""
        return bytes(self._kept)


def run_process(launch: Launch, limits: Limits, stdin: bytes = b"") -> Ended:
    """Start a program, read its output as it comes, and kill it where it leaves its limits.

    Raises:
        UserError: the command was not started.
    """
    with contextlib.ExitStack() as stack:
        pipes = [_pipe(stack) for _ in range(4)]
        (child_stdin, to_child), *outputs = pipes
        ends = [child_stdin, *(write for _, write in outputs)]
        pid = _spawn(launch, dict(enumerate(end.fileno() for end in ends)) | dict(launch.fds))
        run = _Run(pid, limits)
        stack.callback(run.kill)
        for end in ends:
            end.close()
        return run.wait(to_child, stdin, [read for read, _ in outputs])


def _pipe(stack: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    opened = (open(read, "rb", buffering=0), open(write, "wb", buffering=0))  # noqa: SIM115
    return stack.enter_context(opened[0]), stack.enter_context(opened[1])


def _spawn(launch: Launch, fds: Mapping[int, int]) -> int:
    copies: dict[int, int] = {}
    try:
        for number, source in fds.items():
            copies[number] = fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        actions = [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in fds]
        actions += [(os.POSIX_SPAWN_DUP2, copy, number) for number, copy in copies.items()]
        program, defaults = launch.argv[0], [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT]
        return os.posix_spawn(
            program,
            launch.argv,
            launch.env,
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=defaults,
        )
    finally:
        for copy in copies.values():
            os.close(copy)


def _inheritable() -> list[int]:
    """Descriptors that whoever started this process left open for every child."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.get_inheritable(int(name)):
                found.append(int(name))
    return found


class _Run:
    """A started program until it has ended."""

    def __init__(self, pid: int, limits: Limits) -> None:
        self.pid, self.limits = pid, limits
        self.deadline = time.monotonic() + START_SECONDS
        self.began: float | None = None
        self.code: int | None = None
        self.cpu_seconds = 0.0
        self.captures = (
            Capture(limits.output_kb << 10),
            Capture(limits.output_kb << 10),
            Head(REPORT_BYTES),
        )

    def wait(self, to_child: BinaryIO, stdin: bytes, outputs: Sequence[BinaryIO]) -> Ended:
        """Serve its pipes and watch it until it ends or meets a limit."""
        limit: Limit = ""
        with selectors.DefaultSelector() as selector:
            _register(selector, to_child, selectors.EVENT_WRITE, memoryview(stdin))
            for stream, capture in zip(outputs, self.captures, strict=True):
                _register(selector, stream, selectors.EVENT_READ, capture)
            next_look = time.monotonic() + TICK_SECONDS
            while not limit and not self._ended():
                self._serve(selector, min(self.deadline, next_look) - time.monotonic())
                if time.monotonic() >= self.deadline:
                    limit = "wall time"
                elif time.monotonic() >= next_look:
                    limit = self._limit_met()
                    next_look = time.monotonic() + TICK_SECONDS
            self.kill()
            ended = time.monotonic()
            while self._serve(selector, 0.0) and time.monotonic() < ended + TICK_SECONDS:
                pass
        return self._result(limit, ended)

    def _serve(self, selector: selectors.BaseSelector, timeout: float) -> bool:
        """Move what can be moved; whether something was."""
        reading = any(key.events & selectors.EVENT_READ for key in selector.get_map().values())
        if not reading:
            time.sleep(min(max(timeout, 0.0), 0.001))
        moved = selector.select(max(timeout, 0.0) if reading else 0.0)
        for key, _ in moved:
            if isinstance(key.data, memoryview):
                _feed(selector, key)
            else:
                data = os.read(key.fd, READ_BYTES)
                key.data.add(data)
                if not data:
                    selector.unregister(key.fileobj)
        if self.began is None and self.captures[2].value().startswith(STARTED):
            self.began = time.monotonic()
            self.deadline = self.began + self.limits.wall_seconds
        return bool(moved) and reading

    def _ended(self) -> bool:
        """Whether it has ended by itself; then also what it left in its process group is killed."""
        if self.code is None:
            # Its number is freed by `wait4` only, so the group is still its own.
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return False
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            _, status, used = os.wait4(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            self.code = code if code >= 0 else 128 - code
            self.cpu_seconds = used.ru_utime + used.ru_stime
        return True

    def kill(self) -> None:
        """Kill everything that it started, then itself.

        The first process of a process namespace is a child of the program that made it. When
        that one dies the kernel kills the others, and the program ends after the last of them.
        """
        for child in process_tree(self.pid)[1:] if self.code is None else ():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        late = time.monotonic() + KILL_SECONDS
        while not self._ended():
            if time.monotonic() > late:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            time.sleep(0.001)

    def _limit_met(self) -> Limit:
        """The limit that all its processes together have passed, or ""."""
        most = self.limits.processes + OWN_PROCESSES
        tree = process_tree(self.pid, most + 1)
        if len(tree) > most:
            return "processes"
        limit_bytes = self.limits.memory_mb << 20
        # Resident memory counts what forked processes share once for each, but is quick to read.
        if sum(map(resident_bytes, tree)) <= limit_bytes:
            return ""
        return "memory" if sum(map(proportional_bytes, tree)) > limit_bytes else ""

    def _used_its_cpu_time(self) -> bool:
        """Whether the kernel's signal for that ended it, or the kill that follows if it is deaf."""
        deaf = self.code == 128 + signal.SIGKILL and self.cpu_seconds >= self.limits.cpu_seconds
        return deaf or self.code == 128 + signal.SIGXCPU

    def _result(self, limit: Limit, ended: float) -> Ended:
        stdout, stderr, report = (capture.value() for capture in self.captures)
        if self.began is None:
            lines = stderr.decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"nothing started, status {self.code}"
            raise UserError(f"the sandbox could not start a program: {reason}")
        if not limit and self._used_its_cpu_time():
            limit = "cpu time"
        code = None if limit else self.code
        return Ended(code, stdout, stderr, report[len(STARTED) :], limit, ended - self.began)


def _register(selector: selectors.BaseSelector, stream: BinaryIO, event: int, data: object) -> None:
    os.set_blocking(stream.fileno(), False)
    selector.register(stream, event, data)


def _feed(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Write more of standard input; close it after the last byte, or when nobody reads it."""
    rest = key.data
    with contextlib.suppress(BrokenPipeError):
        rest = rest[os.write(key.fd, rest[:READ_BYTES]) :] if rest else rest
        if rest:
            selector.modify(key.fileobj, selectors.EVENT_WRITE, rest)
            return
    selector.unregister(key.fileobj)
    key.fileobj.close()
