"""Programs of other projects, run in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from text2grad.chat_errors import hide_keys
from text2grad.schema import UserError

_LINES_KEPT = 20


def run_program(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], name: str
) -> None:
    """Run a program in `folder`, show what it says, and keep that in `NAME.log` there.

    Args:
        command: its words; paths must be absolute.
        folder: its working folder, where no file of this project can be taken for a module.
        variables: added to the environment.
        name: of the program, for messages.

    Raises:
        UserError: it cannot be started, or it failed.
    """
    log = folder / f"{name}.log"
    last: list[str] = []
    with open(log, "w", encoding="utf-8") as kept:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            for line in process.stdout:
                line = hide_keys(line)
                kept.write(line)
                sys.stdout.write(line)
                last = [*last[1 - _LINES_KEPT :], line.strip()]
            status = process.wait()
        finally:
            process.kill()  # no effect on one that has ended
            process.stdout.close()
            process.wait()
    if status:
        said = next((line for line in reversed(last) if line), "it said nothing")
        raise UserError(f"{name} ended with status {status}: {said[:300]} (all of it: {log})")


def ask_program(command: Sequence[str], folder: Path, flag: str, needs: str) -> Any:
    """The JSON that a short program prints.

    Args:
        command: its words; paths must be absolute.
        folder: its working folder, as for `run_program`.
        flag: the flag that names the interpreter, with its value, for messages.
        needs: what is missing where it fails, and what to do.

    Raises:
        UserError: it cannot be started, fails, or prints something else.
    """
    try:
        done = subprocess.run(
            list(command),
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=True,
        )
        return json.loads(done.stdout)
    except FileNotFoundError as error:
        raise UserError(f"{flag}: no such interpreter; {needs}") from error
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().split("\n")[-1]
        raise UserError(f"{flag}: {said[:200]}; {needs}") from error


def interpreter(path: str) -> str:
    """An interpreter's path without its links resolved: those make it one of an environment."""
    return os.path.abspath(path) if os.sep in path else path
