"""Folders that are there whole or not at all, and the manifest by which a reader can tell.

The manifest is written last and names every other file with its size and hash.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from text2grad.files import sha256_file
from text2grad.schema import UserError

MANIFEST, FORMAT = "manifest.json", 1
# safetensors and tokenizers; torch, twice
WRITE_FAILURES = ("os error", "iostream error", "unexpected pos", "failed writing", "write failed")


@contextlib.contextmanager
def replace_folder(path: str | Path, flag: str = "--output_dir") -> Iterator[Path]:
    """A folder that replaces `path` only once everything in it is written and on disk.

    Raises:
        UserError: writing failed, for example because the disk is full; an older `path` is
            untouched.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming_write_failures(path, flag):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial
            put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def naming_write_failures(path: Path, flag: str) -> Iterator[None]:
    """Within, a write that fails becomes a `UserError` that names `path`.

    A full disk is an OSError, but a SafetensorError, a RuntimeError or a plain Exception from the
    libraries that write in other languages; any other failure stays what it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or any(sign in str(error) for sign in WRITE_FAILURES):
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"{flag} {path}: cannot be written: {reason}") from error
        raise


def put_in_place(partial: Path, path: Path) -> None:
    """Force a written folder to disk and give it its name, in place of an older one."""
    for written in (*partial.rglob("*"), partial):
        _sync(written)
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    partial.rename(path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clear_unfinished(parent: str | Path) -> None:
    """Remove what killed runs had begun to write into `parent`, and put back what was replaced."""
    for partial in Path(parent).glob(".*.partial"):
        shutil.rmtree(partial)
    for old in Path(parent).glob(".*.old"):
        path = old.with_name(old.name[1 : -len(".old")])
        if path.exists():
            shutil.rmtree(old)
        else:
            old.rename(path)


def write_manifest(folder: Path, step: int, processes: int, **more: int) -> None:
    """Name every file of a checkpoint; none may be added or changed after it.

    Args:
        folder: holds all its files.
        step: the last one that was done.
        processes: how many wrote it.
        more: what else a reader needs to know.
    """
    files = {
        str(file.relative_to(folder)): {"size": file.stat().st_size, "sha256": sha256_file(file)}
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file != folder / MANIFEST
    }
    facts = {"format": FORMAT, "step": step, "processes": processes, **more, "files": files}
    (folder / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def damage(path: Path) -> str:
    """Why `path` is no whole checkpoint, "" if it is one."""
    if not path.is_dir():
        return "no such folder"
    try:
        manifest = read_manifest(path)
        written_as = manifest["format"]
        files = {name: (one["size"], one["sha256"]) for name, one in manifest["files"].items()}
    except (OSError, ValueError):
        return f"no readable {MANIFEST}"
    except (KeyError, TypeError, AttributeError):
        return f"{MANIFEST} lists no files with size and hash"
    if written_as != FORMAT:
        return f"{MANIFEST} is of format {written_as}, and this version reads {FORMAT}"
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes of {size}"
        if sha256_file(file) != digest:
            return f"{name} is damaged: its hash differs"
    return ""


def read_manifest(path: Path) -> dict[str, Any]:
    """What `write_manifest` was told of a whole checkpoint: "step", "processes" and more."""
    return json.loads((path / MANIFEST).read_text(encoding="utf-8"))


def newest_whole(paths: Iterable[Path]) -> tuple[Path | None, dict[Path, str]]:
    """The last whole one of checkpoints that come oldest first.

    Returns:
        Its path, None if there is none, and for each damaged one after it the reason.
    """
    faults: dict[Path, str] = {}
    for path in reversed([*paths]):
        fault = damage(path)
        if not fault:
            return path, faults
        faults[path] = fault
    return None, faults


def set_aside(path: Path) -> None:
    """Rename a checkpoint that would count as newer than those that the run is about to write."""
    aside = path.with_name(f"abandoned_{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    print(f"{path.name} is after the step that the run goes on from: renamed to {aside.name}")
