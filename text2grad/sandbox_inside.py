"""What a sandboxed command finds inside: interpreter, environment, limits and rights."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from text2grad.sandbox_process import STARTED, Limits
from text2grad.schema import UserError

WORK = "/tmp/work"
BIN = "/sandbox/bin"
CONFIG = "/sandbox/pyvenv.cfg"
SITE_PACKAGES = "/sandbox/site-packages"
# The system's programs and libraries, and what the loader and its links need of /etc.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LOADER = ("/etc/ld.so.cache", "/etc/alternatives")
MAX_OPEN_FILES = 256
# Since 5.14 the kernel counts the processes of a user namespace apart from the user's others.
COUNTS_PER_NAMESPACE = (5, 14)
# Process 1 of the sandbox collects orphans, and when it ends the kernel kills all others.
INIT = '"$@"; exit $?'
START = f"""printf '{STARTED.decode().strip()}\\n' >&3; exec "$@" """


@dataclass(frozen=True)
class Interpreter:
    """The Python that runs inside: its program, its folders, the project's packages or ""."""

    program: str
    libraries: tuple[str, ...]
    site_packages: str


def interpreter() -> Interpreter:
    """The interpreter of this process, apart from its virtual environment."""
    prefix = Path(sys.base_prefix)
    libraries = (prefix / name for name in ("lib", "lib64"))
    return Interpreter(
        program=str(prefix / "bin" / f"python{sysconfig.get_python_version()}"),
        libraries=tuple(str(path) for path in libraries if path.is_dir()),
        site_packages=sysconfig.get_path("purelib") if sys.prefix != sys.base_prefix else "",
    )


def read_only_paths(python: Interpreter) -> dict[str, str]:
    """What is visible inside, by its path there; everything else of this machine is not."""
    system = (path for path in SYSTEM if os.path.isdir(path) and not os.path.islink(path))
    found = {path: path for path in (*system, *LOADER) if os.path.exists(path)}
    if not python.program.startswith("/usr/"):
        found |= {path: path for path in (*python.libraries, python.program)}
    if python.site_packages:
        found[SITE_PACKAGES] = python.site_packages
    return found


def links(python: Interpreter) -> dict[str, str]:
    """Symbolic links inside and where they lead: the system's own, and `python`."""
    system = {path: os.readlink(path) for path in SYSTEM if os.path.islink(path)}
    return system | {f"{BIN}/{name}": python.program for name in ("python", "python3")}


def virtual_environment(python: Interpreter) -> bytes:
    """What makes the interpreter ignore the packages beside it, as the project's own does.

    The project's packages are found by PYTHONPATH, where no .pth file runs code at every start.
    """
    home = str(Path(python.program).parent)
    return f"home = {home}\ninclude-system-site-packages = false\n".encode()


def own_files(python: Interpreter, uid: int) -> dict[str, bytes]:
    """Files that are made for the sandbox, by their path inside."""
    found = {"/etc/passwd": f"sandbox:x:{uid}:{uid}::{WORK}:/bin/sh\n".encode()}
    if python.site_packages:
        found[CONFIG] = virtual_environment(python)
    return found


def environment(python: Interpreter, folder: str = "/tmp", bin_folder: str = BIN) -> dict[str, str]:
    """The whole environment of a command; nothing of this process's own."""
    inside = python.site_packages and (SITE_PACKAGES if bin_folder == BIN else python.site_packages)
    return {
        "PATH": f"{bin_folder}:/usr/bin:/bin",
        "HOME": f"{folder}/work",
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": inside,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def limited(command: Sequence[str], limits: Limits, processes: int | None) -> list[str]:
    """The command behind the programs that set its limits and report its start."""
    options = {
        "cpu": f"{limits.cpu_seconds}:{limits.cpu_seconds + 1}",
        "as": limits.memory_mb << 20,
        "fsize": limits.file_mb << 20,
        "nofile": MAX_OPEN_FILES,
        "core": 0,
    }
    if processes is not None:
        options["nproc"] = processes
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [program("prlimit"), *flags, "/bin/sh", "-c", START, "sh", *command]


def as_user(uid: int | None) -> list[str]:
    """The program that gives up every capability and, with a number, the user id 0."""
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid is not None else []
    rights = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    return [program("setpriv"), *user, *rights]


def process_limit(limits: Limits, fresh_uid: bool) -> int:
    """RLIMIT_NPROC, which counts this user's other processes too where the kernel is old."""
    release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    if fresh_uid or release >= COUNTS_PER_NAMESPACE:
        return limits.processes
    tasks = (folder for folder in Path("/proc").glob("[0-9]*") if _is_own(folder))
    return limits.processes + sum(len(list(folder.glob("task/*"))) for folder in tasks)


def _is_own(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def program(name: str) -> str:
    """Path of a program of util-linux; it lies in a folder that is visible inside."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if not found:
        raise UserError(f"no program {name} (of util-linux) in /usr/bin")
    return found
