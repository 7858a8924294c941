"""Programs of other projects, run in environments of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2grad.chat_errors import hide_keys
from text2grad.files import side_file
from text2grad.schema import UserError

_LINES_KEPT = 20
_PINNED = Path(__file__).resolve().parents[1] / "requirements.txt"
_HAS = (
    "import importlib.util, json, sys; "
    "print(json.dumps(importlib.util.find_spec(sys.argv[1]) is not None))"
)
_PACKAGES = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()['purelib']))"


def program_folder(output: str | Path) -> Path:
    """The folder of all that a program writes, beside the file of what is taken from it.

    Example: "a.json" -> "a"; "llama3.1", a file that has this name itself -> "llama3.1.files"
    """
    named = side_file(output, "")
    return side_file(output, ".files") if named == Path(output) else named


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


def ask_program(command: Sequence[str], folder: Path, flag: str) -> Any:
    """The JSON that a short program prints.

    Args:
        command: its words; paths must be absolute.
        folder: its working folder, as for `run_program`.
        flag: the flag that names the environment, with its value, for messages.

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
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().split("\n")[-1]
        raise UserError(f"{flag}: {said[:300]}") from error


@dataclass(frozen=True)
class Program:
    """A program of another project.

    Attributes:
        name: of the program, for messages.
        module: what Python imports.
        packages: what is installed, with versions.
        shared: the environment goes on top of this one and has all its packages too.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    shared: bool


def ready(program: Program, environment: str, folder: Path) -> str:
    """The interpreter of a virtual environment that has the program; it is set up if need be.

    Args:
        program: what it must have.
        environment: folder of the environment.
        folder: any other, to start Python in.

    Raises:
        UserError: the folder is something else, or pip could not install the program.
    """
    place = Path(environment).resolve()
    python = str(place / "bin" / "python")
    where = f"--environment {environment}"
    if Path(python).exists() and ask_program([python, "-c", _HAS, program.module], folder, where):
        return python
    if place.exists() and not (place / "pyvenv.cfg").exists():
        raise UserError(f"{where}: is no virtual environment that has {program.name}")
    print(f"setting up {program.name} in {place}")
    commands = [[sys.executable, "-m", "venv", str(place)]]
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    if program.shared and _PINNED.exists():
        install += ["--constraint", str(_PINNED)]
    commands.append([*install, *program.packages])
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().split("\n")[-1]
            raise UserError(
                f"{where}: {program.name} could not be set up ({said[:300]}); make an environment "
                f"where there is a network (pip install {' '.join(program.packages)}) and name it"
            )
        if program.shared and command is commands[0]:
            own = ask_program([python, "-c", _PACKAGES], folder, where)
            (Path(own) / "shared.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return python
