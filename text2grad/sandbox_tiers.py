"""How each tier of the sandbox starts a command."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from text2grad.sandbox_calls import call_filter
from text2grad.sandbox_inside import (
    INIT,
    WORK,
    Interpreter,
    as_user,
    environment,
    interpreter,
    limited,
    links,
    own_files,
    process_limit,
    program,
    read_only_paths,
    virtual_environment,
)
from text2grad.sandbox_process import FIRST_FREE_FD, Launch, Limits
from text2grad.schema import UserError

Files = Mapping[str, bytes]

DEVICES = ("null", "zero", "full", "random", "urandom")
# Parts of /proc that the user id 0 may write even without any capability.
WRITABLE_PROC = ("sys", "sysrq-trigger", "irq", "bus")
DISK_PER_FILE = 4
MAX_INODES = 20_000
FILTER_FD = 9
FILE_FDS = range(10, FIRST_FREE_FD)
# User ids that no system gives to anybody: one for each run, so that its processes are counted
# apart, and nothing on the machine belongs to it.
FREE_UIDS = range(2_000_000_000, 2_100_000_000)


def _free_uid() -> int:
    return secrets.choice(FREE_UIDS)


@dataclass(frozen=True)
class Bubblewrap:
    """The tier of the program `bwrap`.

    `own_uid`: started as root, without a user namespace, and each run is given a user id of its
    own; else in a user namespace.
    """

    own_uid: bool
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
            fds, writes = _file_options(stack, contents | own_files(python, uid))
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
    places = {*read_only_paths(python), *links(python), *own_files(python, 0)}
    folders = {str(folder) for place in places for folder in PurePosixPath(place).parents}
    for folder in sorted(folders - {"/"}):
        options += ["--perms", "0755", "--dir", folder]
    for inside, path in read_only_paths(python).items():
        options += ["--ro-bind", path, inside]
    for link, target in links(python).items():
        options += ["--symlink", target, link]
    return options


def _file_options(stack: ExitStack, files: Files) -> tuple[dict[int, int], list[str]]:
    """Files and filter in memory, and the options by which `bwrap` writes or loads them."""
    if len(files) > len(FILE_FDS):
        raise ValueError(f"{len(files)} files, at most {len(FILE_FDS)} can be handed over")
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents}
    options: list[str] = []
    for folder in sorted(folder for folder in folders if folder.startswith(f"{WORK}/")):
        options += ["--perms", "0777", "--dir", folder]
    fds: dict[int, int] = {}
    for number, (path, data) in zip(FILE_FDS, files.items(), strict=False):
        fds[number] = _in_memory(stack, data)
        mode = "0666" if path.startswith(WORK) else "0644"
        options += ["--perms", mode, "--file", str(number), path]
    refused_calls = call_filter()
    if refused_calls:
        fds[FILTER_FD] = _in_memory(stack, refused_calls)
        options += ["--seccomp", str(FILTER_FD)]
    return fds, options


def _in_memory(stack: ExitStack, data: bytes) -> int:
    memory = os.fdopen(os.memfd_create("sandbox"), "w+b", buffering=0)
    stack.callback(memory.close)
    memory.write(data)
    memory.seek(0)
    return memory.fileno()


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
            _write_skeleton(Path(folder, "skeleton"), python, files, uid)
            Path(folder, "root").mkdir()
            spaces = ["--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child"]
            spaces += [] if self.own_uid else ["--user", "--map-root-user"]
            drop = as_user(uid if self.own_uid else None)
            inner = limited(command, limits, process_limit(limits, self.own_uid))
            script = _mount_script(folder, python, limits, self.own_uid)
            yield Launch(
                [program("unshare"), *spaces, "/bin/sh", "-c", script, "sh", *drop, *inner],
                environment(python),
            )


def _write_skeleton(skeleton: Path, python: Interpreter, files: Files, uid: int) -> None:
    """The files of the sandbox, its links, and something to mount on at every other place."""
    work = skeleton / WORK[1:]
    work.mkdir(parents=True)
    _write_files(work, files)
    own = {path[1:]: data for path, data in own_files(python, uid).items()}
    places = read_only_paths(python) | {f"/dev/{name}": f"/dev/{name}" for name in DEVICES}
    empty = {inside[1:]: b"" for inside, path in places.items() if not os.path.isdir(path)}
    _write_files(skeleton, own | empty)
    for folder in (*(inside for inside in places if inside[1:] not in empty), "/proc", "/old"):
        (skeleton / folder[1:]).mkdir(parents=True, exist_ok=True)
    for link, target in (links(python) | {"/dev/fd": "/proc/self/fd"}).items():
        (skeleton / link[1:]).parent.mkdir(parents=True, exist_ok=True)
        (skeleton / link[1:]).symlink_to(target)
    # the command may be another user, and this one may keep new files to itself
    for path in (skeleton, *skeleton.rglob("*")):
        if not path.is_symlink():
            writable = 0o022 if path.is_relative_to(work) else 0
            path.chmod((0o755 if path.is_dir() else 0o644) | writable)
    (skeleton / "tmp").chmod(0o1777)


def _mount_script(folder: str, python: Interpreter, limits: Limits, own_uid: bool) -> str:
    disk = f"size={limits.file_mb * DISK_PER_FILE}m,nr_inodes={MAX_INODES},nosuid,nodev"
    lines = ["set -e", f"cd {shlex.quote(folder)}"]
    lines += ["mount -t tmpfs -o mode=755,size=4m,nosuid,nodev sandbox root", "cd root"]
    lines += ["mkdir -p tmp dev/shm"]
    lines += [f"mount -t tmpfs -o mode=1777,{disk} files {place}" for place in ("tmp", "dev/shm")]
    lines += ["cp -R --preserve=mode ../skeleton/. ."]
    for inside, path in read_only_paths(python).items():
        source, target = shlex.quote(path), shlex.quote(f".{inside}")
        lines += [f"mount --bind -o ro,nosuid,nodev {source} {target}"]
    lines += [f"mount --bind /dev/{name} dev/{name}" for name in DEVICES]
    lines += ["mount -t proc -o nosuid,nodev,noexec proc proc"]
    if not own_uid:
        # the namespace's own limit; without a namespace the file would be the whole machine's
        lines += ["echo 0 > proc/sys/user/max_user_namespaces"]
    for name in WRITABLE_PROC:
        lines += [f"if [ -e proc/{name} ]; then mount --bind -o ro proc/{name} proc/{name}; fi"]
    lines += [f"{program('pivot_root')} . old", "cd /", "umount -l old", "rmdir old"]
    lines += ["if command -v hostname > /dev/null; then hostname sandbox; fi"]
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
            if python.site_packages:
                Path(folder, "pyvenv.cfg").write_bytes(virtual_environment(python))
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
    return [Bubblewrap(own_uid=False), Unshare(own_uid=False)]


def _is_machine_root() -> bool:
    """Whether this is user 0, and not only that of a container with a user namespace."""
    inside, outside, _ = map(int, Path("/proc/self/uid_map").read_text().splitlines()[0].split())
    return os.geteuid() == inside == outside == 0
