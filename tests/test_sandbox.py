"""What a run gives back, the pool, its cache, and what happens without any isolation."""

import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sandboxes import WAYS, works
from trees import ROOT

from text2grad import environment, sandbox_calls, sandbox_inside, sandbox_tiers
from text2grad import sandbox as sandbox_module
from text2grad.sandbox import Finished, Limits, Sandbox, find_sandbox, working_sandboxes
from text2grad.sandbox_pool import Job, ResultCache, SandboxPool, content_key, job_key
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


class Counted:
    """A sandbox that runs nothing and counts its runs."""

    tier = "counted"

    def __init__(self, limit=""):
        self.limit, self.runs = limit, 0

    def run(self, files, command, limits, stdin):
        self.runs += 1
        time.sleep(0.02 if command == ["slow"] else 0)
        out = f"{command[0]} {files.get('a', '')}"
        return Finished(0, out, "", False, 0.1, b"\xff\x00", self.limit)


def test_results_come_in_the_order_of_the_jobs_and_jobs_are_read_as_needed():
    read = []

    def jobs():
        for number in range(50):
            read.append(number)
            yield Job({"a": str(number)}, ["slow" if number % 7 == 0 else "quick"])

    results = SandboxPool(Counted(), workers=4).run(jobs())
    first = next(results)
    assert first.stdout == "slow 0"
    assert len(read) < 20
    assert [result.stdout.split()[1] for result in results] == [str(n) for n in range(1, 50)]


def test_a_failure_of_the_sandbox_reaches_who_asked():
    class Broken(Counted):
        def run(self, *_):
            raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        list(SandboxPool(Broken(), workers=2).run([Job({}, ["x"])] * 3))


def test_results_are_kept_by_content(tmp_path):
    job = Job({"a": "1", "b": b"2"}, ["quick"], Limits(), b"in")
    sandbox = Counted()
    first = list(SandboxPool(sandbox, 1, tmp_path).run([job]))
    assert list(SandboxPool(sandbox, 1, tmp_path).run([job])) == first
    assert first[0].report == b"\xff\x00"
    assert sandbox.runs == 1
    list(SandboxPool(sandbox, 1).run([job]))
    assert sandbox.runs == 2, "without a folder nothing is kept"


def test_every_part_of_a_job_is_part_of_its_key(monkeypatch):
    job = Job({"a": "1", "b": "2"}, ["x", "y"], Limits(), b"in")
    others = [
        replace(job, files={"a": "1", "b": "3"}),
        replace(job, files={"a": "1b", "": "2"}),
        replace(job, command=["x"]),
        replace(job, command=["xy"]),
        replace(job, limits=Limits(memory_mb=1)),
        replace(job, stdin=b""),
    ]
    keys = {job_key(each, Counted()) for each in (job, *others)}
    other_tier = Counted()
    other_tier.tier = "another"
    keys.add(job_key(job, other_tier))
    monkeypatch.setattr(sys, "version", "4.0")
    keys.add(job_key(job, Counted()))
    monkeypatch.undo()
    assert len(keys) == 9
    assert job_key(replace(job, files={"b": b"2", "a": b"1"}), Counted()) in keys, "order is none"
    assert content_key("ab", "c") != content_key("a", "bc")


@pytest.mark.parametrize(("limit", "runs"), [("wall time", 2), ("cpu time", 1), ("memory", 1)])
def test_a_timeout_may_be_the_machines_fault_and_is_not_kept(tmp_path, limit, runs):
    sandbox = Counted(limit)
    for _ in range(2):
        list(SandboxPool(sandbox, 1, tmp_path).run([Job({}, ["x"])]))
    assert sandbox.runs == runs


def test_a_damaged_entry_is_made_again(tmp_path):
    sandbox = Counted()
    for text in (None, "", "[]", '{"return', None):
        for entry in tmp_path.rglob("*.json") if text is not None else ():
            entry.write_text(text)
        (result,) = SandboxPool(sandbox, 1, tmp_path).run([Job({"a": "1"}, ["x"])])
        assert result.stdout == "x 1"
    assert sandbox.runs == 4
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".json"]


def test_a_cache_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--cache_dir .*file.*cannot be written"):
        ResultCache(tmp_path / "file")


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
