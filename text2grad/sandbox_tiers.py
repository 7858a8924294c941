"""How each tier of the sandbox starts a command: what is visible inside, and with which rights."""

from __future__ import annotations

import os
import platform
import re
import secrets
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from text2grad.sandbox_process import FIRST_FREE_FD, STARTED, Launch, Limits
from text2grad.schema import UserError

Files = Mapping[str, bytes]

WORK = "/tmp/work"
BIN = "/sandbox/bin"
SITE_PACKAGES = "/sandbox/site-packages"
# The system's programs and libraries, and what the loader and its links need of /etc.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LOADER = ("/etc/ld.so.cache", "/etc/alternatives")
DEVICES = ("null", "zero", "full", "random", "urandom")
# Parts of /proc that the user id 0 may write even without any capability.
WRITABLE_PROC = ("sys", "sysrq-trigger", "irq", "bus")
DISK_PER_FILE = 4
MAX_INODES = 20_000
MAX_OPEN_FILES = 256
FILE_FDS = range(10, FIRST_FREE_FD)
# User ids that no system gives to anybody: one for each run, so that its processes are counted
# apart, and nothing on the machine belongs to it.
FREE_UIDS = range(2_000_000_000, 2_100_000_000)
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
    return [_program("prlimit"), *flags, "/bin/sh", "-c", START, "sh", *command]


def as_user(uid: int | None) -> list[str]:
    """The program that gives up every capability and, with a number, the user id 0."""
    user = [f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid is not None else []
    rights = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    return [_program("setpriv"), *user, *rights]


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


def _program(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if not found:
        raise UserError(f"no program {name} (of util-linux) in /usr/bin")
    return found


def _free_uid() -> int:
    return secrets.choice(FREE_UIDS)


def _passwd(uid: int) -> bytes:
    return f"sandbox:x:{uid}:{uid}::{WORK}:/bin/sh\n".encode()


@dataclass(frozen=True)
class Bubblewrap:
    """The tier of the program `bwrap`.

    `own_uid`: started as root, without a user namespace, and each run is given a user id of its
    own; else in a user namespace, in which no other can be made if `nested` is false.
    """

    own_uid: bool
    nested: bool = True
    name = "bubblewrap"

    @contextmanager
    def launch(self, files: Files, command: Sequence[str], limits: Limits) -> Iterator[Launch]:
        """How to start the command; the descriptors in it are closed at the end."""
        bwrap = shutil.which("bwrap")
        if not bwrap:
            raise UserError("no program bwrap")
        python = interpreter()
        uid = _free_uid() if self.own_uid else 1000
        with ExitStack() as stack:
            contents = {f"{WORK}/{name}": data for name, data in files.items()}
            fds, writes = _file_options(stack, contents | {"/etc/passwd": _passwd(uid)})
            processes = process_limit(limits, self.own_uid)
            inner = [*(as_user(uid) if self.own_uid else ()), *limited(command, limits, processes)]
            yield Launch(
                [
                    *(bwrap, *self._rights(), *_visible(python, limits), *writes),
                    *("--remount-ro", "/", "--chdir", WORK, "--"),
                    *("/bin/sh", "-c", INIT, "sh", *inner),
                ],
                environment(python),
                fds,
            )

    def _rights(self) -> list[str]:
        spaces = [f"--unshare-{kind}" for kind in ("pid", "net", "ipc", "uts", "cgroup-try")]
        if self.own_uid:
            needed = ("SETUID", "SETGID", "SETPCAP")
            user = ["--cap-drop", "ALL", *(w for n in needed for w in ("--cap-add", f"CAP_{n}"))]
        else:
            user = ["--unshare-user", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"]
            user += [] if self.nested else ["--disable-userns"]
        # Without --as-pid-1 bwrap ends before the processes that the command left behind.
        ends = ["--as-pid-1", "--die-with-parent", "--new-session"]
        return [*spaces, "--hostname", "sandbox", *user, *ends]


def _visible(python: Interpreter, limits: Limits) -> list[str]:
    disk = str(limits.file_mb * DISK_PER_FILE << 20)
    options = ["--proc", "/proc"]
    for name in WRITABLE_PROC:
        options += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    options += ["--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):
        options += ["--perms", "1777", "--size", disk, "--tmpfs", folder]
    options += ["--remount-ro", "/dev", "--perms", "0777", "--dir", WORK]
    # Folders that bwrap makes on the way are closed to all but its own user.
    places = {*read_only_paths(python), *links(python), "/etc/passwd"}
    folders = {str(folder) for place in places for folder in PurePosixPath(place).parents}
    for folder in sorted(folders - {"/"}):
        options += ["--perms", "0755", "--dir", folder]
    for inside, path in read_only_paths(python).items():
        options += ["--ro-bind", path, inside]
    for link, target in links(python).items():
        options += ["--symlink", target, link]
    return options


def _file_options(stack: ExitStack, files: Files) -> tuple[dict[int, int], list[str]]:
    """The files in memory, and the options that have `bwrap` write them inside."""
    if len(files) > len(FILE_FDS):
        raise ValueError(f"{len(files)} files, at most {len(FILE_FDS)} can be handed over")
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    options: list[str] = []
    for folder in sorted(folder for folder in folders if folder.startswith(f"{WORK}/")):
        options += ["--perms", "0777", "--dir", folder]
    fds: dict[int, int] = {}
    for number, (path, data) in zip(FILE_FDS, files.items(), strict=False):
        memory = os.fdopen(os.memfd_create("sandbox"), "w+b", buffering=0)
        stack.callback(memory.close)
        memory.write(data)
        memory.seek(0)
        fds[number] = memory.fileno()
        mode = "0666" if path.startswith(WORK) else "0644"
        options += ["--perms", mode, "--file", str(number), path]
    return fds, options


@dataclass(frozen=True)
class Unshare:
    """The tier of the program `unshare`: the same, built by `mount` in a shell.

    `own_uid`: as for `Bubblewrap`.
    """

    own_uid: bool
    name = "unshare"

    @contextmanager
    def launch(self, files: Files, command: Sequence[str], limits: Limits) -> Iterator[Launch]:
        """How to start the command; the folder in which its files wait is removed at the end."""
        python = interpreter()
        uid = _free_uid() if self.own_uid else 0
        with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
            root, stage = Path(folder, "root"), Path(folder, "stage")
            root.mkdir()
            stage.mkdir()
            _write_files(stage, files)
            Path(folder, "passwd").write_bytes(_passwd(uid))
            spaces = ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child"]
            spaces += [] if self.own_uid else ["--user", "--map-root-user"]
            drop = as_user(uid if self.own_uid else None)
            inner = limited(command, limits, process_limit(limits, self.own_uid))
            script = _mount_script(folder, python, limits)
            yield Launch(
                [_program("unshare"), *spaces, "/bin/sh", "-c", script, "sh", *drop, *inner],
                environment(python),
            )


def _mount_script(folder: str, python: Interpreter, limits: Limits) -> str:
    disk = f"size={limits.file_mb * DISK_PER_FILE}m,nr_inodes={MAX_INODES},nosuid,nodev"
    lines = ["set -e", f"cd {shlex.quote(folder)}"]
    lines += ["mount -t tmpfs -o mode=755,size=4m,nosuid,nodev sandbox root", "cd root"]
    lines += ["mkdir -p proc tmp dev/shm etc old", "cp ../passwd etc/passwd"]
    for inside, path in read_only_paths(python).items():
        source, target = shlex.quote(path), shlex.quote(f".{inside}")
        place = "mkdir -p" if os.path.isdir(path) else "touch"
        lines += [f"mkdir -p {shlex.quote(os.path.dirname(f'.{inside}'))}", f"{place} {target}"]
        lines += [f"mount --bind -o ro,nosuid,nodev {source} {target}"]
    for name in DEVICES:
        lines += [f"touch dev/{name}", f"mount --bind /dev/{name} dev/{name}"]
    for link, target in links(python).items():
        lines += [f"mkdir -p .{os.path.dirname(link)}", f"ln -s {shlex.quote(target)} .{link}"]
    lines += ["ln -s /proc/self/fd dev/fd", "mount -t proc -o nosuid,nodev,noexec proc proc"]
    for name in WRITABLE_PROC:
        lines += [f"if [ -e proc/{name} ]; then mount --bind -o ro proc/{name} proc/{name}; fi"]
    lines += [f"mount -t tmpfs -o mode=1777,{disk} files {place}" for place in ("tmp", "dev/shm")]
    lines += ["cp -R ../stage tmp/work", "chmod -R a+rwX tmp/work"]
    lines += [f"{_program('pivot_root')} . old", "cd /", "umount -l old", "rmdir old"]
    lines += ["mount -o remount,bind,ro,nosuid,nodev /", f"cd {WORK}", "set +e", INIT]
    return "\n".join(lines)


@dataclass(frozen=True)
class Local:
    """No isolation: limits, a clean environment and a temporary folder, no more."""

    name = "none"

    @contextmanager
    def launch(self, files: Files, command: Sequence[str], limits: Limits) -> Iterator[Launch]:
        """How to start the command; its folder is removed at the end."""
        python = interpreter()
        with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder:
            work, programs = Path(folder, "work"), Path(folder, "bin")
            work.mkdir()
            programs.mkdir()
            _write_files(work, files)
            for name in ("python", "python3"):
                (programs / name).symlink_to(python.program)
            enter = f"cd {shlex.quote(str(work))} || exit 1; {INIT}"
            yield Launch(
                ["/bin/sh", "-c", enter, "sh", *limited(command, limits, None)],
                environment(python, folder, str(programs)),
            )


def _write_files(folder: Path, files: Files) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tiers() -> list[Bubblewrap | Unshare]:
    """Every way to isolate a command, the strongest first; which of them work is not known yet."""
    if _is_machine_root():
        # In a user namespace the command would still be the machine's user 0: the kernel counts
        # none of its processes, and the owner of /proc/sys is who it seems to be.
        return [Bubblewrap(own_uid=True), Unshare(own_uid=True)]
    bubblewrap = [Bubblewrap(own_uid=False, nested=False), Bubblewrap(own_uid=False)]
    return [*bubblewrap, Unshare(own_uid=False)]


def _is_machine_root() -> bool:
    """Whether this is user 0, and not only that of a container with a user namespace."""
    inside, outside, _ = map(int, Path("/proc/self/uid_map").read_text().splitlines()[0].split())
    return os.geteuid() == inside == outside == 0
