"""Runs the stages of a table: what is done is not run again, what failed holds nothing else up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from text2grad.config import PaperRunConfig
from text2grad.files import check_writable, read_text, write_json
from text2grad.paper.budgets import BUDGETS
from text2grad.paper.plan import ROOT, plan
from text2grad.paper.stages import Command, Stage, Stages
from text2grad.schema import UserError

STATE, LOG = "stage.json", "log.txt"
# variables of the shells that say what the machine has, not what is run
_MACHINE = {"PYTHON", "GPUS", "NODES", "SLOTS", "HOSTFILE", "DEEPSPEED"}
_GRACE_SECONDS = 60.0  # for a child to save what it has
_DEATH_SECONDS = 10.0  # for the system to end what was killed


def run_paper(args: PaperRunConfig) -> None:
    """Run all stages that the flags ask for, or print their commands.

    Raises:
        UserError: the flags ask for what is not there, or stages failed; all others are done.
    """
    folder = Path(args.output_dir or default_folder(args)).resolve()
    stages = plan(args, folder)
    if args.dry_run:
        for stage in stages:
            print("\n".join([f"# {stage.name}", *map(str, stage.commands)]))
        return
    check_writable(folder, "--output_dir")
    with _locked(folder):
        failed = Runner(folder).run(stages)
    if failed:
        logs = ", ".join(str(folder / name / LOG) for name in failed)
        raise UserError(
            f"{len(failed)} stages failed: {', '.join(failed)} (see {logs}); "
            "the same command tries them again"
        )
    print(f"all runs: {folder}; python paper/tables.py --runs_dir {folder.parent}")


def default_folder(args: PaperRunConfig) -> Path:
    """Where runs lie: each annotator's apart, so that they can be compared.

    Example: table slf5k, budget small, --annotator openai --annotator_model org/judge ->
    runs/paper/slf5k-small-openai-judge
    """
    usual = BUDGETS[args.budget][args.table].annotator
    annotator = args.annotator or usual
    model = Path(args.annotator_model).name if annotator == "openai" else ""
    is_usual = annotator == usual and model in ("", PaperRunConfig.annotator_model)
    parts = [args.table, args.budget, *(() if is_usual else (annotator, model))]
    return Path("runs/paper") / "-".join(part for part in parts if part)


@dataclass
class Progress:
    """What a stage's folder says of it.

    Attributes:
        key: of the commands and inputs that it was begun with.
        finished: how many of the commands are done.
        seconds: that they took.
        done: whether it is whole.
        error: why it stopped, "" if it did not fail.
    """

    key: str
    finished: int = 0
    seconds: float = 0.0
    done: bool = False
    error: str = ""


class Runner:
    """Runs stages one after the other.

    Args:
        folder: where each stage has its folder.
        cwd: where commands run.
    """

    def __init__(self, folder: Path, cwd: Path = ROOT) -> None:
        self.folder, self.cwd = folder, cwd

    def run(self, stages: Stages) -> list[str]:
        """Run what is not done; a stage whose needs failed is left out.

        Returns:
            The names of the stages that failed themselves.
        """
        keys, failed, held = stages.keys(), [], set()
        total = len(keys)
        for number, stage in enumerate(stages, 1):
            if held & set(stage.needs):
                held.add(stage.name)
                print(f"[{number:2}/{total}] {stage.name}: left out, as what it needs failed")
                continue
            print(f"[{number:2}/{total}] {stage.name}", end="", flush=True)
            error = self.run_stage(stage, keys[stage.name])
            if error:
                print(f": failed: {error}")
                failed.append(stage.name)
                held.add(stage.name)
        return failed

    def run_stage(self, stage: Stage, key: str) -> str:
        """Run the commands of a stage that are not done; returns why it failed, "" if it did not.

        A folder that was begun with other commands or inputs is set aside.
        """
        folder = self.folder / stage.name
        progress = read_progress(folder)
        if progress and progress.key == key and progress.done:
            print(": done before")
            return ""
        if progress and progress.key != key:
            aside = set_aside(folder)
            print(f": made with other settings, set aside as {aside.name}", end="", flush=True)
            progress = None
        progress = progress or Progress(key)
        check_writable(folder, "--output_dir")
        write_json(folder / "run.json", _record(stage))
        progress.error = ""
        for command in stage.commands[progress.finished :]:
            self._save(folder, progress)
            began = time.monotonic()
            progress.error = run_command(command, folder / LOG, self.cwd)
            progress.seconds += time.monotonic() - began
            if progress.error:
                self._save(folder, progress)
                return progress.error
            progress.finished += 1
        for path in stage.passing:
            shutil.rmtree(path, ignore_errors=True)
        progress.done = True
        self._save(folder, progress)
        print(f": {progress.seconds:.0f} s")
        return ""

    def _save(self, folder: Path, progress: Progress) -> None:
        write_json(folder / STATE, vars(progress))


def read_progress(folder: Path) -> Progress | None:
    """What a stage's folder says of it, None if nothing that can be used."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return Progress(**json.loads(read_text(path, "--output_dir")))
    except (json.JSONDecodeError, TypeError):
        return Progress(key="")  # damaged: whatever lies there is set aside


def set_aside(folder: Path) -> Path:
    """Rename a folder to NAME.aside-N, which nothing reads."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    return folder.rename(aside)


def run_command(command: Command, log: Path, cwd: Path) -> str:
    """Run a child process and everything it starts, its output to the end of a file.

    However this ends, no process of the child's group is left.

    Returns:
        "" if it ended well, else its last line and status.
    """
    with open(log, "ab") as out, _terminated_as_interrupt():
        out.write(f"$ {command}\n".encode())
        out.flush()
        child = subprocess.Popen(
            command.words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environment(command),
            start_new_session=True,
        )
        try:
            status = child.wait()
        finally:
            _end_group(child)
    if status == 0:
        return ""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return f"{lines[-1].strip()[-300:]} (status {status})"


def environment(command: Command) -> dict[str, str]:
    """The child's variables: of those that a shell takes its settings from, only ours count."""
    variables = dict(os.environ)
    for word in command.words:
        if word.endswith(".sh"):
            for name in settings_of(Path(word).read_text(encoding="utf-8")) - _MACHINE:
                variables.pop(name, None)
            variables.pop("DRY_RUN", None)
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1"}
    quiet["DS_LOG_LEVEL"] = "error"
    if shutil.which("nvidia-smi") is None:
        quiet["DS_ACCELERATOR"] = "cpu"
    return variables | quiet | dict(command.settings)


def settings_of(shell: str) -> set[str]:
    """The variables that a shell reads its settings from.

    Example: "STEPS=${STEPS:-6}" -> {"STEPS"}
    """
    return set(re.findall(r"^([A-Z_]+)=\$\{\1:-", shell, re.M))


def machine() -> str:
    """Cores and GPUs, as results name them."""
    cores = f"{len(os.sched_getaffinity(0))} CPU cores"
    if shutil.which("nvidia-smi") is None:
        return cores
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    names = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return ", ".join([cores, *(f"{names.count(name)} {name}" for name in dict.fromkeys(names))])


def _record(stage: Stage) -> dict[str, Any]:
    facts: Mapping[str, Any] = stage.facts
    return {**facts, "machine": machine(), "commands": [str(one) for one in stage.commands]}


def _end_group(child: subprocess.Popen) -> None:
    """Ask the child's group to stop, which trainers do once they have saved, then end what is left.

    A second interrupt ends it at once.
    """
    if child.poll() is None:
        _signal(child, signal.SIGTERM)
        until = time.monotonic() + _GRACE_SECONDS
        with contextlib.suppress(KeyboardInterrupt):
            while _signal(child, 0) and time.monotonic() < until:
                child.poll()  # a shell may be gone before what it started
                time.sleep(0.05)
    until = time.monotonic() + _DEATH_SECONDS
    while _signal(child, signal.SIGKILL) and time.monotonic() < until:
        child.poll()
        time.sleep(0.05)
    child.wait()


def _signal(child: subprocess.Popen, number: int) -> bool:
    """Whether there was a process in the child's group to get it."""
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM is a Ctrl-C in here, so that the child ends too."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else runs stages in this folder.

    Raises:
        UserError: somebody does.
    """
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--output_dir {folder}: another run works in it; wait, or take another folder"
            ) from error
        yield
