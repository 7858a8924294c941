"""What a run gives back, the pool, its cache, and what happens without any isolation."""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sandboxes import WAYS, works
from trees import ROOT

from text2grad import environment, sandbox_calls, sandbox_inside, sandbox_tiers
from text2grad import sandbox as sandbox_module
from text2grad.sandbox import Finished, Limits, Sandbox, find_sandbox, working_sandboxes
from text2grad.sandbox_pool import pooled
from text2grad.sandbox_process import Capture, Head
from text2grad.sandbox_tiers import Local, Unshare
from text2grad.schema import UserError

FOUND = working_sandboxes()[0]
isolated = pytest.mark.skipif(not FOUND, reason="no isolation works on this machine")


@pytest.fixture(scope="module")
def sandbox():
    return FOUND[0] if FOUND else pytest.skip("no isolation works on this machine")


def python(sandbox, source, limits=None, stdin=b"", **files):
    command = ["python", "main.py"]
    return sandbox.run({"main.py": source, **files}, command, limits or Limits(), stdin)


# -- one run


def test_what_a_command_gives_back(sandbox):
    source = (
        "import os, sys\n"
        "print(sys.stdin.read(), open('sub/data.txt').read())\n"
        "os.write(1, b'\\xff\\n'); os.write(2, b'on standard error')\n"
        "os.write(3, b'a \\x00 report')\n"
        "sys.exit(7)\n"
    )
    finished = python(sandbox, source, stdin=b"given", **{"sub/data.txt": "café"})
    assert finished == Finished(
        return_code=7,
        stdout="\ufffd\ngiven café\n",
        stderr="on standard error",
        timed_out=False,
        seconds=finished.seconds,
        report=b"a \x00 report",
    )
    assert 0 < finished.seconds < 10


def test_the_interpreter_has_the_site_packages_and_nothing_of_this_process(sandbox):
    source = (
        "import json, os, sys\n"
        "import rapidfuzz\n"
        "print(json.dumps([sys.version, rapidfuzz.__version__, sorted(os.environ), os.getcwd()]))\n"
    )
    version, package, names, folder = json.loads(python(sandbox, source).stdout)
    import rapidfuzz

    if sys.prefix != sys.base_prefix:
        base = "import site, sys; print(sys.prefix, [p for p in sys.path if 'site-p' in p])"
        assert python(sandbox, base).stdout == "/sandbox ['/sandbox/site-packages']\n"
    assert (version, package) == (sys.version, rapidfuzz.__version__)
    own = {"LC_CTYPE", "OLDPWD", "PWD", "SHLVL", "_"}
    assert set(names) - own == set(sandbox_inside.environment(sandbox_inside.interpreter()))
    assert folder == "/tmp/work"


@pytest.mark.parametrize("way", [*WAYS, Local()], ids=lambda way: f"{way}")
def test_death_by_a_signal_is_128_and_its_number(way):
    if way != Local() and not works(way):
        pytest.skip("does not work on this machine")
    finished = python(Sandbox(way), "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert (finished.return_code, finished.limit) == (128 + 9, "")


def test_cpu_time_ends_a_run_before_the_wall_time(sandbox):
    limits = Limits(wall_seconds=60, cpu_seconds=1)
    finished = python(sandbox, "while True: pass", limits)
    assert (finished.limit, finished.timed_out, finished.return_code) == ("cpu time", True, None)
    assert finished.seconds < 30


def test_a_large_input_that_nobody_reads_does_not_block(sandbox):
    data = b"z" * (1 << 20)
    assert python(sandbox, "print(1)", stdin=data).stdout == "1\n"
    read = "import sys\nprint(len(sys.stdin.buffer.read()))"
    assert python(sandbox, read, stdin=data).stdout == f"{1 << 20}\n"


def test_a_large_file_and_a_missing_command(sandbox):
    files = {"big.py": b"#" * (1 << 20)}
    assert sandbox.run(files, ["python", "big.py"]).return_code == 0
    missing = sandbox.run({}, ["no-such-command"])
    assert missing.return_code == 127
    assert "no-such-command" in missing.stderr


@pytest.mark.parametrize("name", ["/etc/passwd", "../a", "a/../../b", "", "."])
def test_a_file_outside_the_working_directory_is_refused(sandbox, name):
    with pytest.raises(ValueError, match="working directory"):
        sandbox.run({name: "x"}, ["true"])


def test_the_head_and_the_tail_of_a_long_output_are_kept():
    capture = Capture(6)
    for piece in (b"abc", b"d" * 50, b"x", b"yz"):
        capture.add(piece)
    assert capture.value() == b"abc\n[... 50 bytes left out ...]\nxyz"
    short = Capture(6)
    short.add(b"abcdef")
    assert short.value() == b"abcdef"
    head = Head(4)
    for piece in (b"ab", b"cde", b"f"):
        head.add(piece)
    assert head.value() == b"abcd"


def test_a_sandbox_that_cannot_start_is_an_error_and_no_result(sandbox, monkeypatch):
    monkeypatch.setattr(sandbox_tiers, "WORK", "/proc/nowhere")
    with pytest.raises(UserError, match="the sandbox could not start a program: "):
        python(sandbox, "print(1)")


def test_an_old_kernel_counts_the_users_other_processes(monkeypatch):
    limits = Limits(processes=10)
    assert sandbox_inside.process_limit(limits, fresh_uid=False) == 10
    monkeypatch.setattr(sandbox_inside.platform, "release", lambda: "4.18.0-553.el8.x86_64")
    assert sandbox_inside.process_limit(limits, fresh_uid=True) == 10
    assert sandbox_inside.process_limit(limits, fresh_uid=False) > 10


# -- which tier


def test_where_bubblewrap_is_required_it_is_what_is_found():
    if os.environ.get("REQUIRE_BUBBLEWRAP"):
        assert find_sandbox().tier == "bubblewrap"
        assert environment.sandbox_line() == "bubblewrap"
    assert find_sandbox(unsafe=True).tier in ("bubblewrap", "unshare", "none")


@isolated
def test_without_bubblewrap_the_check_says_how_to_get_it(monkeypatch):
    unshare = [way for way in WAYS if isinstance(way, Unshare) and works(way)][:1]
    monkeypatch.setattr(sandbox_module, "tiers", lambda: unshare)
    assert environment.sandbox_line().startswith("unshare")
    assert "apt-get install bubblewrap" in environment.sandbox_line()


def test_without_isolation_code_runs_only_where_a_flag_says_so(monkeypatch):
    monkeypatch.setattr(sandbox_module, "tiers", list)
    with pytest.raises(UserError, match=r"apt-get install bubblewrap.*--unsafe_local_execution"):
        find_sandbox()
    assert environment.sandbox_line().startswith("none")
    local = find_sandbox(unsafe=True)
    assert local.tier == "none"
    source = "import os, sys\nprint(os.getcwd(), 'SECRET' in os.environ)\nos.write(3, b'r')"
    monkeypatch.setenv("SECRET", "1")
    finished = python(local, source)
    folder, secret = finished.stdout.split()
    assert (secret, finished.report) == ("False", b"r")
    assert not Path(folder).exists()


def test_the_reasons_name_each_tier_that_does_not_work(monkeypatch):
    monkeypatch.setattr(sandbox_inside.shutil, "which", lambda *_, **__: None)
    found, reasons = working_sandboxes()
    assert found == []
    assert any("bubblewrap: no program bwrap" in reason for reason in reasons)
    assert any("unshare: no program" in reason for reason in reasons)


def test_an_ordinary_user_and_the_root_of_a_container_get_a_user_namespace(monkeypatch):
    monkeypatch.setattr(sandbox_tiers, "_is_machine_root", lambda: False)
    assert not any(way.own_uid for way in sandbox_tiers.tiers())
    monkeypatch.setattr(sandbox_tiers, "_is_machine_root", lambda: True)
    assert all(way.own_uid for way in sandbox_tiers.tiers())


# -- the filter of system calls


def verdict(program, interface, number, argument=0):
    """What the kernel's machine for such filters would return."""
    place = accumulator = 0
    steps = list(struct.iter_unpack("HBBI", program))
    while True:
        code, yes, no, value = steps[place]
        place += 1
        if code == sandbox_calls.RETURN:
            return value
        if code == sandbox_calls.LOAD:
            accumulator = {0: number, 4: interface, 16: argument}[value]
            continue
        holds = {
            sandbox_calls.EQUAL: accumulator == value,
            sandbox_calls.AT_LEAST: accumulator >= value,
            sandbox_calls.BIT: bool(accumulator & value),
        }[code]
        place += yes if holds else no


@pytest.mark.parametrize("machine", sandbox_calls.MACHINES)
def test_the_filter_refuses_what_it_lists_and_nothing_else(machine):
    calls, program = sandbox_calls.MACHINES[machine], sandbox_calls.call_filter(machine)
    allowed, no_call, no_right = 0x7FFF0000, 0x50000 | 38, 0x50000 | 1
    user = 0x10000000
    for number in range(500):
        special = {calls.clone3: no_call} | dict.fromkeys(calls.refused, no_right)
        found = verdict(program, calls.interface, number)
        assert found == special.get(number, allowed), number
    for number in (calls.clone, calls.unshare):
        assert verdict(program, calls.interface, number, 0x11 | user) == no_right
        assert verdict(program, calls.interface, number, 0x11 | user >> 1) == allowed
    assert verdict(program, calls.interface + 1, 0) == no_call
    assert verdict(program, calls.interface, 0x40000000) == no_call
    assert sandbox_calls.call_filter("riscv64") == b""


# -- many runs


def test_results_come_in_the_order_of_the_items_and_items_are_read_as_needed():
    read = []

    def items():
        for number in range(50):
            read.append(number)
            yield number

    def work(number):
        time.sleep(0.02 if number % 7 == 0 else 0)
        return number

    results = pooled(work, items(), workers=4)
    assert next(results) == 0
    assert len(read) < 20
    assert list(results) == list(range(1, 50))


def test_a_failure_of_the_sandbox_reaches_who_asked():
    def broken(_):
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(pooled(broken, range(3), workers=2))


# -- benchmark


@isolated
def test_the_benchmark_prints_runs_per_second():
    command = [sys.executable, str(ROOT / "benchmarks/sandbox.py"), "--json", "--runs", "2"]
    done = subprocess.run(
        [*command, "--repeats", "1"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    rows = json.loads(done.stdout)
    assert {row["tier"] for row in rows} == {"none", *(found.tier for found in FOUND)}
    assert {row["work"] for row in rows} == {"command", "test"}
    assert all(row["runs_per_second"] > 0 for row in rows)
