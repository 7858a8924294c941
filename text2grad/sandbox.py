"""Runs the code that models write: the only module that does.

Threat model. Tested code is taken to be hostile: written to read secrets, to change or fill the
machine, to reach the network, to stop or outlive the run. It runs as a command of its own in one of
three tiers; `find_sandbox` takes the strongest that works.

- `bubblewrap`: namespaces for files, processes, network, IPC and host name, made by `bwrap`.
- `unshare`: the same namespaces, made by util-linux's `unshare` and `mount`.
- `none`, only where `--unsafe_local_execution` allows it: limits, and no isolation at all.

The first two contain:

- files: inside there are the system's programs and libraries, this interpreter and the project's
  site-packages, read-only, and a private folder in memory, of bounded size. No home, no checkout,
  no other file of /etc than the loader's;
- secrets: the environment is made anew, no open file is inherited, other processes, their memory
  and their files are in another process namespace;
- network: a namespace without any interface but its own loopback, so also no abstract sockets;
- time, processor time, memory, processes, size of files, length of output: `Limits`. Kernel limits
  hold for each process; all of them together are watched from outside every tenth of a second;
- survivors: when the command ends or is killed, the kernel kills its whole process namespace, also
  what has left its session or its parent, before `run` returns;
- rights: no capability, no way to one through set-user-id programs, nor through a user namespace
  of its own (but in the tier `unshare` started by root). Started by root, each run gets a user id
  of its own, which owns nothing on the machine. With `bubblewrap` the kernel refuses calls that
  reach other processes' memory, kernel keys, and those best known for faults.

Not contained:

- bugs of the kernel, and side channels: timing, caches, the load of the machine, its hardware and
  the kernel's settings, which /proc tells;
- use of everything up to the limits, by each of several runs at once, and kernel memory that no
  limit counts, for example for very many empty files, as long as the wall time lasts;
- what is readable in /usr or in site-packages, and the path of the interpreter;
- the answers that the command gives. Whatever it prints or writes to descriptor 3 is its own word,
  and processes of one run can read and change each other: a harness that shares the run with the
  code that it tests must protect its report itself;
- in the tier `none`: anything. The command has the rights of who started it, and a process that
  leaves its session and its parent outlives the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from text2grad.sandbox_process import Limit, Limits, run_process
from text2grad.sandbox_tiers import Bubblewrap, Local, Unshare, tiers
from text2grad.schema import UserError

__all__ = ["Finished", "Limits", "Sandbox", "find_sandbox", "working_sandboxes"]

INSTALL = "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap)"
PROBE_LIMITS = Limits(wall_seconds=30.0)


@dataclass(frozen=True)
class Finished:
    """How a command ended.

    Attributes:
        return_code: 128 + N where signal N ended it; None where a limit did.
        stdout, stderr: what it printed; undecodable bytes replaced, the middle of more than
            `Limits.output_kb` left out.
        timed_out: whether the limit was that on wall time or that on CPU time.
        seconds: wall time of the command.
        report: the first 16 MiB of what it wrote to file descriptor 3.
        limit: the limit that it met: "wall time", "cpu time", "memory", "processes" or "". A
            command that handles a refused allocation, file or process met none.
    """

    return_code: int | None
    stdout: str
    stderr: str
    timed_out: bool
    seconds: float
    report: bytes
    limit: Limit = ""


@dataclass(frozen=True)
class Sandbox:
    """A way to run commands that works on this machine.

    Attributes:
        tier: "bubblewrap", "unshare" or "none".
    """

    how: Bubblewrap | Unshare | Local

    @property
    def tier(self) -> str:
        """Name of the isolation."""
        return self.how.name

    def run(
        self,
        files: Mapping[str, str | bytes],
        command: Sequence[str],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        stdin: bytes = b"",
    ) -> Finished:
        """Run one command in a new sandbox, from which nothing remains.

        Args:
            files: contents by path below the private working directory, in which the command runs.
            command: program and arguments; "python" is this interpreter with the project's
                site-packages.
            limits: what the run may use.
            stdin: its standard input.

        Returns:
            How it ended. Whatever the command does is a value, never an exception.

        Raises:
            UserError: the sandbox itself could not start.
            ValueError: a file's path leads out of the working directory.
        """
        contents: dict[str, bytes] = {}
        for name, content in files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
                raise ValueError(f"{name!r} is no path below the working directory")
            is_text = isinstance(content, str)
            contents[str(path)] = content.encode("utf-8", "surrogatepass") if is_text else content
        with self.how.launch(contents, command, limits) as launch:
            ended = run_process(launch, limits, stdin)
        return Finished(
            return_code=ended.return_code,
            stdout=ended.stdout.decode(errors="replace"),
            stderr=ended.stderr.decode(errors="replace"),
            timed_out=ended.limit in ("wall time", "cpu time"),
            seconds=ended.seconds,
            report=ended.report,
            limit=ended.limit,
        )


def working_sandboxes(
    ways: Sequence[Bubblewrap | Unshare] | None = None,
) -> tuple[list[Sandbox], list[str]]:
    """Every isolated way to run commands that works here, the strongest first.

    Args:
        ways: those to try, None: all that this user may take.

    Returns:
        The sandboxes, and for each way that does not work one line that says why.
    """
    found, reasons = [], []
    for how in tiers() if ways is None else ways:
        sandbox = Sandbox(how)
        try:
            finished = sandbox.run({}, ["python", "-c", "print(1)"], PROBE_LIMITS)
        except UserError as error:
            reasons.append(f"{sandbox.tier}: {error}")
            continue
        if finished.stdout == "1\n":
            found.append(sandbox)
        else:
            said = finished.stderr.strip().splitlines() or [f"status {finished.return_code}"]
            reasons.append(f"{sandbox.tier}: {said[-1]}")
    return found, reasons


def find_sandbox(unsafe: bool = False) -> Sandbox:
    """The strongest isolation that works here.

    Args:
        unsafe: where none works, run without isolation (`--unsafe_local_execution`).

    Raises:
        UserError: none works, and `unsafe` is false.
    """
    found, reasons = working_sandboxes()
    if found:
        return found[0]
    if unsafe:
        return Sandbox(Local())
    raise UserError(
        f"no sandbox works here ({'; '.join(reasons)}): {INSTALL}, or run generated code with your "
        "own rights by --unsafe_local_execution"
    )
