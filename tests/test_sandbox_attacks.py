"""Hostile programs in every tier that works here; what they did is looked up outside.

Every attack is bounded: where its containment fails, a test fails and the machine stands.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest
from sandboxes import WAYS, Watch, name_of, none_left, works
from trees import ROOT

from text2grad.sandbox import Limits, Sandbox
from text2grad.sandbox_pool import pooled
from text2grad.sandbox_tiers import Unshare, tiers

LIMITS = Limits(wall_seconds=5, cpu_seconds=3, memory_mb=192, processes=16, file_mb=4, output_kb=16)
LOOP_LIMITS = Limits(wall_seconds=1, cpu_seconds=1)
# A killed run, and this machine under load.
SLACK_SECONDS = 5
ETC = ("/etc/hostname", "/etc/hosts", "/etc/shadow")


def working(way):
    if not works(way):
        if os.environ.get("REQUIRE_BUBBLEWRAP") and way.name == "bubblewrap":
            pytest.fail("REQUIRE_BUBBLEWRAP is set, and bubblewrap does not work")
        pytest.skip("does not work on this machine")
    return Sandbox(way)


@pytest.fixture(scope="module", params=WAYS, ids=name_of)
def sandbox(request):
    """Every way to isolate, for what its namespaces and rights contain."""
    return working(request.param)


@pytest.fixture(scope="module", params=tiers(), ids=name_of)
def tier(request):
    """Those that this user gets, for what limits contain, which are set alike in all."""
    return working(request.param)


@pytest.fixture
def word():
    """A word that nothing else carries."""
    return f"word{secrets.token_hex(8)}"


def attack(sandbox, source, *arguments, limits=LIMITS):
    """Run an attack; nothing of it may be left afterwards."""
    marked = f"mark{secrets.token_hex(8)}"
    command = ["python", "attack.py", marked, *map(str, arguments)]
    finished = sandbox.run({"attack.py": dedent(source)}, command, limits)
    assert none_left(marked)
    return finished


# -- processes, memory, time


def test_fork_bomb(sandbox, word):
    source = """
        import os, time
        for _ in range(8):  # 256 processes where nothing refuses them
            try:
                os.fork()
            except OSError:
                os.write(1, b"refused\\n")
        time.sleep(0.5)
        """
    with Watch(word) as watch:
        finished = attack(sandbox, source, word)
    assert bounded(finished, watch)
    assert finished.limit == "processes" or "refused" in finished.stdout


def bounded(finished, watch):
    """The kernel refused processes above the limit, or the watch saw them and killed all."""
    own = 4  # the sandbox's programs, whose arguments carry the word too
    # the sandbox's watch may kill all of them between two looks of the test's own
    return finished.limit == "processes" or own < watch.most <= 16 + own


def test_memory_bomb(tier, word):
    source = """
        import time
        blocks = []
        try:
            for _ in range(60):
                blocks.append(bytearray(b"x") * (10 << 20))
        except MemoryError:
            blocks.pop()
            print("refused", flush=True)
        time.sleep(0.2)
        """
    with Watch(word) as watch:
        finished = attack(tier, source, word)
    assert finished.stdout == "refused\n"
    assert 50 << 20 < watch.most_bytes < 192 << 20


def test_memory_bombs_of_many_processes(sandbox):
    source = """
        import os, time
        for _ in range(6):
            if os.fork() == 0:
                held = bytearray(b"x") * (100 << 20)
                time.sleep(3)
                os._exit(0)
        time.sleep(3)
        """
    assert attack(sandbox, source).limit == "memory"


ENDLESS = {
    "in Python": "while True: pass",
    "in C": "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "in one power": "3 ** (10 ** 9)",
    "in __del__, deaf to signals": """
        import signal
        for number in (signal.SIGXCPU, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        class Held:
            def __del__(self):
                while True:
                    pass
        held = Held()
        """,
    "without work or output": """
        import os, time
        for number in range(4):
            os.close(number)
        time.sleep(30)
        """,
    "in a child": """
        import os, time
        if os.fork():
            os.wait()
        while True:
            pass
        """,
}


def test_endless_loops(tier):
    sources = [dedent(source) for source in ENDLESS.values()]
    marked = f"mark{secrets.token_hex(8)}"

    def run(source):
        return tier.run({"a.py": source}, ["python", "a.py", marked], LOOP_LIMITS)

    started = time.monotonic()
    ends = dict(zip(ENDLESS, pooled(run, sources, len(sources)), strict=True))
    assert time.monotonic() - started < LOOP_LIMITS.wall_seconds + SLACK_SECONDS
    assert not [name for name, end in ends.items() if not end.timed_out]
    assert {end.return_code for end in ends.values()} == {None}
    assert none_left(marked)


def test_endless_output(tier):
    source = """
        import os, sys, time
        ended = time.time() + 20
        while time.time() < ended:
            for number in (1, 2, 3):
                os.write(number, b"y" * 4096)
        """
    before = Path("/proc/self/statm").read_text().split()[1]
    finished = attack(tier, source, limits=Limits(wall_seconds=1, output_kb=16))
    pages = int(Path("/proc/self/statm").read_text().split()[1]) - int(before)
    assert finished.timed_out
    for text in (finished.stdout, finished.stderr):
        assert 16 << 10 <= len(text) <= (16 << 10) + 60
        assert "bytes left out" in text
    assert pages * os.sysconf("SC_PAGE_SIZE") < 64 << 20, "16 MiB of the report, no more"


# -- files


def test_huge_files(tier, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = """
        import json
        written = {}
        for folder in ("/tmp", "/dev/shm", ".", "/dev", "/var/tmp", "/", "/etc", "/sandbox"):
            for number in range(8):
                try:
                    with open(f"{folder}/huge{number}", "wb", buffering=0) as out:
                        for _ in range(8):
                            written[folder] = written.get(folder, 0) + out.write(bytes(1 << 20))
                except OSError:
                    pass
        print(json.dumps(written))
        """
    written = json.loads(attack(tier, source).stdout)
    assert set(written) == {"/tmp", "/dev/shm"}, "the working directory is full by then"
    assert 0 < max(written.values()) <= 4 * LIMITS.file_mb << 20
    assert os.listdir(tmp_path) == []
    assert not any(Path("/tmp").glob("huge*"))
    assert not any(Path("/var/tmp").glob("huge*"))


def test_one_file_is_limited(tier):
    source = """
        with open("huge", "wb", buffering=0) as out:
            for _ in range(8):
                print(out.write(bytes(1 << 20)), flush=True)
        """
    finished = attack(tier, source)
    assert finished.stdout == f"{1 << 20}\n" * LIMITS.file_mb
    assert "File too large" in finished.stderr


ESCAPE = """
    import os, sys
    modes = sys.argv[2]  # "r" for files that must survive this attack even where it succeeds
    for number, target in enumerate(sys.argv[3:]):
        up = "../" * 12 + target[1:]
        ways = [target, "/" + up, up, f"/proc/self/cwd/{up}", f"/proc/self/root{target}"]
        ways += [f"/proc/{pid}/root{target}" for pid in (1, os.getppid())]
        os.symlink(target, f"link{number}")
        os.symlink(os.path.dirname(target), f"folder{number}")
        ways += [f"link{number}", f"folder{number}/{os.path.basename(target)}"]
        for way in ways:
            for mode in modes:
                try:
                    with open(way, mode) as file:
                        print(file.read() if mode == "r" else file.write("attacked"))
                except OSError:
                    pass
    """


def test_escape_by_links_and_dots(sandbox, tmp_path, word):
    victim, new = tmp_path / "victim", tmp_path / "new-file"
    victim.write_text(word)
    victim.chmod(0o666)
    tmp_path.chmod(0o777)
    finished = attack(sandbox, ESCAPE, "ra", victim, new)
    assert finished.return_code == 0
    assert word not in finished.stdout
    assert victim.read_text() == word
    assert not new.exists()


def test_home_and_checkout_are_neither_read_nor_written(sandbox, word):
    places = [Path.home() / f".{word}", ROOT / word, Path("/etc") / word, Path("/usr") / word]
    known = [ROOT / "README.md", Path(__file__), *(Path(p) for p in ETC if os.access(p, os.R_OK))]
    try:
        assert attack(sandbox, ESCAPE, "a", *places).return_code == 0
        assert not [place for place in places if place.exists()]
    finally:
        for place in places:
            place.unlink(missing_ok=True)
    finished = attack(sandbox, ESCAPE, "r", *known)
    assert finished.return_code == 0
    for path in known:
        lines = [line for line in path.read_text().splitlines() if len(line) > 8]
        assert not [line for line in lines if line in finished.stdout], path


def test_destruction(sandbox):
    source = """
        import os, shutil, sys
        shutil.rmtree(os.getcwd(), ignore_errors=True)
        print(os.listdir("/tmp"))
        for folder, _, names in os.walk("/proc/sys"):
            sys.argv += [os.path.join(folder, name) for name in names]
        for path in sys.argv[2:]:
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
                print(path)
            except OSError:
                pass
        """
    libraries = [os.__file__, json.__file__, sys.executable, "/usr/bin/env", "/bin/sh"]
    libraries += [str(path) for path in Path(sysconfig.get_path("purelib")).glob("*/__init__.py")]
    inside = [
        path.replace(sysconfig.get_path("purelib"), "/sandbox/site-packages") for path in libraries
    ]
    finished = attack(sandbox, source, *inside[:50])
    assert finished.stdout in ("[]\n", "['work']\n"), "nothing but its own files"
    again = sandbox.run({"a.py": "print(1)"}, ["python", "a.py"])
    assert again.stdout == "1\n"


# -- secrets, network, other processes

SECRETS = """
    import ctypes, glob, os, sys
    host, address, length = map(int, sys.argv[2:5])
    print(dict(os.environ))
    for name in (*glob.glob("/proc/*/environ"), f"/proc/{host}/environ"):
        try:
            print(open(name, "rb").read())
        except OSError:
            pass
    class Place(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
    read_memory = ctypes.CDLL(None).process_vm_readv
    for pid in {host, os.getppid(), 1}:
        try:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                memory.seek(address)
                print(memory.read(length))
        except OSError:
            pass
        copy = ctypes.create_string_buffer(length)
        ours, theirs = Place(ctypes.addressof(copy), length), Place(address, length)
        read_memory(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
        print(copy.raw)
    for number in range(3, 256):
        try:
            print(number, os.pread(number, 4096, 0))
        except OSError:
            pass
    """


def test_secrets_of_the_parent(sandbox, word, monkeypatch, tmp_path):
    """In its environment, in its memory, and behind a descriptor that it inherited itself."""
    import ctypes

    monkeypatch.setenv("OPENAI_API_KEY", f"environment-{word}")
    memory = ctypes.create_string_buffer(f"memory-{word}".encode())
    (tmp_path / "secret").write_text(f"descriptor-{word}")
    with open(tmp_path / "secret", "rb") as secret:
        os.set_inheritable(secret.fileno(), True)
        where = (os.getpid(), ctypes.addressof(memory), len(memory))
        finished = attack(sandbox, SECRETS, *where)
    assert finished.return_code == 0
    assert word not in finished.stdout + finished.stderr


@contextlib.contextmanager
def listeners():
    """Sockets of this machine that an attack would like to reach, and what reached them."""
    name = f"\0{secrets.token_hex(8)}"
    places = [(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))]
    places += [(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))]
    places += [(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))]
    places += [(socket.AF_UNIX, socket.SOCK_STREAM, name)]
    if socket.has_ipv6 and Path("/proc/net/if_inet6").read_text():
        places += [(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0))]
    with contextlib.ExitStack() as stack:
        opened = []
        for family, kind, address in places:
            server = stack.enter_context(socket.socket(family, kind))
            server.bind(address)
            if kind == socket.SOCK_STREAM:
                server.listen()
            server.setblocking(False)
            opened.append(server)
        yield opened


def reached(server):
    try:
        server.accept() if server.type == socket.SOCK_STREAM else server.recv(100)
    except BlockingIOError:
        return False
    return True


NETWORK = """
    import json, socket, sys
    for family, kind, address in json.loads(sys.argv[2]):
        address = tuple(address) if isinstance(address, list) else address
        try:
            with socket.socket(family, kind) as out:
                out.settimeout(0.3)
                out.connect(address)
                out.send(b"attacked")
        except OSError:
            pass
    print(socket.gethostname())
    try:
        print("resolved", socket.getaddrinfo("pypi.org", 443))
    except OSError:
        pass
    """


def test_network_by_ipv4_ipv6_dns_and_unix_sockets(sandbox):
    with listeners() as servers:
        places = [(s.family, s.type, s.getsockname()) for s in servers]
        places[1] = (*places[1][:2], (socket.gethostbyname(socket.gethostname()), places[1][2][1]))
        places = [(f, k, a if isinstance(a, tuple) else a.decode()) for f, k, a in places]
        finished = attack(sandbox, NETWORK, json.dumps(places))
        assert not [server.getsockname() for server in servers if reached(server)]
    assert "resolved" not in finished.stdout
    assert socket.gethostname() not in finished.stdout.split()


def test_no_way_to_more_rights(sandbox):
    """Who may make a user namespace has every right inside it, and all of the kernel before it."""
    source = """
        import ctypes
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        kinds = ("Inh", "Prm", "Eff", "Bnd", "Amb")
        print(*(int(status["Cap" + kind], 16) for kind in kinds), int(status["NoNewPrivs"]))
        print(ctypes.CDLL(None).unshare(0x10000000))
        """
    rights, namespace = attack(sandbox, source).stdout.splitlines()
    assert rights == "0 0 0 0 0 1"
    if sandbox.how != Unshare(own_uid=True):
        assert namespace == "-1"


def test_signals_to_the_parent(sandbox):
    source = """
        import os, signal, sys
        for pid in {*map(int, sys.argv[2:]), os.getppid()}:
            try:
                os.kill(pid, signal.SIGUSR1)
            except OSError:
                pass
        print("alive")
        """
    received = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: received.append(number))
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        finished = attack(sandbox, source, os.getpid(), bystander.pid, os.getpgrp())
        assert finished.stdout == "alive\n"
        assert bystander.poll() is None
        assert received == []
    finally:
        signal.signal(signal.SIGUSR1, before)
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("parent_waits", [False, True], ids=["parent ends", "parent is killed"])
def test_daemonised_child(sandbox, word, parent_waits):
    source = """
        import os, signal, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                    signal.signal(number, signal.SIG_IGN)
                for number in range(4):
                    os.close(number)
                time.sleep(30)
            os._exit(0)
        os.wait()
        time.sleep(float(sys.argv[2]))
        """
    seconds = 30 if parent_waits else 0.4
    with Watch(word) as watch:
        finished = attack(
            sandbox, source, seconds, word, limits=Limits(wall_seconds=1 if parent_waits else 5)
        )
    assert watch.most >= 2, "it was there"
    assert none_left(word)
    assert finished.timed_out is parent_waits


def test_many_runs_at_once_leave_nothing(tier, word):
    before = {thread.name for thread in threading.enumerate()}
    command = ["python", "-c", "import os; os.fork(); 1/0", word]
    ends = pooled(lambda _: tier.run({}, command), range(4), workers=2)
    assert [done.return_code for done in ends] == [1] * 4
    assert none_left(word)
    assert {thread.name for thread in threading.enumerate()} == before
