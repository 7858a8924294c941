"""What a table takes, as stages: commands in a folder, run once however many methods need them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from text2grad.files import sha256_file, sha256_text


@dataclass(frozen=True)
class Command:
    """One child process.

    Attributes:
        words: program and arguments.
        settings: variables that a shell reads its settings from.
    """

    words: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As it can be pasted into a shell."""
        words = [f"{name}={value}" for name, value in self.settings.items()]
        return shlex.join([*(["env", *words] if words else []), *self.words])


@dataclass(frozen=True)
class Stage:
    """Commands whose results lie in one folder.

    Attributes:
        name: the folder, below the output folder.
        commands: in order; each goes on where it was, or starts anew.
        needs: names of stages that come before.
        facts: what the folder says of itself.
        inputs: hash of files that commands read and no stage writes.
        passing: folders that are not kept once the stage is done.
    """

    name: str
    commands: tuple[Command, ...]
    needs: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    inputs: str = ""
    passing: tuple[Path, ...] = ()


class Stages:
    """Stages in an order in which each comes after those that it needs."""

    def __init__(self) -> None:
        self.by_name: dict[str, Stage] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def add(self, stage: Stage) -> str:
        """Add a stage after all that it needs; returns its name."""
        missing = [name for name in stage.needs if name not in self.by_name]
        if missing:
            raise ValueError(f"{stage.name} comes before {', '.join(missing)}")
        self.by_name[stage.name] = stage
        return stage.name

    def keys(self) -> dict[str, str]:
        """Hash of each stage's commands and inputs, and of all stages that it needs."""
        keys: dict[str, str] = {}
        for name, stage in self.by_name.items():
            before = [keys[need] for need in stage.needs]
            # the same interpreter has several names
            texts = [str(one).replace(sys.executable, "python") for one in stage.commands]
            keys[name] = sha256_text(stage.inputs, *texts, *before)
        return keys

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.by_name.values())


def flags(**values: str | int | Path) -> tuple[str, ...]:
    """Flags with their values, those with "" left out.

    Example: seed=1, model="" -> ("--seed", "1")
    """
    out: list[str] = []
    for name, value in values.items():
        if value != "":
            out += [f"--{name}", str(value)]
    return tuple(out)


def files_hash(paths: Sequence[Path]) -> str:
    """Hash of the files, and of all files of the folders, that are there."""
    files = []
    for path in paths:
        files += sorted(path.rglob("*")) if path.is_dir() else [path]
    return sha256_text(*(sha256_file(file) for file in files if file.is_file()))


def whole_path(name: str) -> str:
    """A folder's whole path; a model's hub id as it is."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name
