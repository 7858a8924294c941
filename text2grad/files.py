"""Reading and writing of records: any accepted shape in, one shape out, nothing half-written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from text2grad.missing import advice
from text2grad.schema import UserError, utf8_text

Row = dict[str, Any]
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON spells halves of characters


def read_rows(path: str | Path, flag: str = "--data_path") -> list[Row]:
    """Read a list of objects, an object keyed by id, JSON Lines, or a table (`.parquet`).

    A dict of dicts becomes a list with the key as "id" (unless the value has one). Half an emoji,
    as a text cut in its middle has it, becomes the character U+FFFD.

    Raises:
        UserError: the file is missing, empty, not JSON, or holds something else than objects.
    """
    if Path(path).suffix == ".parquet":
        return _read_table(path, flag)
    text = read_text(path, flag)
    if not text.strip():
        raise UserError(f"{flag} {path}: the file is empty")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        value = _read_lines(path, text, flag, error)
    value = _mended(value, text)
    if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
        value = [{"id": key, **row} for key, row in value.items()]
    elif isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise UserError(f"{flag} {path}: expected a list of records, found {_describe(value)}")
    if not value:
        raise UserError(f"{flag} {path}: the list of records is empty")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise UserError(
                f"{flag} {path}: record {number} is {_describe(row)}, expected an object"
            )
    return value


def _read_table(path: str | Path, flag: str) -> list[Row]:
    import pyarrow  # a quarter of a second to import
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise UserError(f"{flag} {path}: cannot be read as a parquet table ({reason})") from error
    if not rows:
        raise UserError(f"{flag} {path}: the table has no rows")
    return rows


def read_text(path: str | Path, flag: str) -> str:
    """The text of a UTF-8 file, or a `UserError` that names the flag."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{flag} {path}: no such file{advice(path)}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{flag} {path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from error


def side_file(output: str | Path, ending: str) -> Path:
    """The file beside an output that has to do with it.

    Example: "a.json" and ".qc.json" -> "a.qc.json"; "gpt-4.1" -> "gpt-4.1.qc.json"
    """
    name = re.sub(r"\.jsonl?$", "", str(output))
    return Path(f"{name}{ending}")


def write_rows(path: str | Path, rows: Iterable[Row], flag: str = "--output_path") -> None:
    """Write records atomically: JSON Lines if the name ends in .jsonl, else a JSON list."""
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    if str(path).endswith(".jsonl"):
        text = "".join(line + "\n" for line in lines)
    else:
        text = "[\n" + ",\n".join(lines) + "\n]\n"
    write_text(path, text, flag)


def write_json(path: str | Path, value: Any, flag: str = "--output_path") -> None:
    """Write one JSON value atomically, indented."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n", flag)


def write_text(path: str | Path, text: str, flag: str = "--output_path") -> None:
    """Write a text file atomically, making its folder."""
    with atomic_write(path, flag) as out:
        out.write(text.encode("utf-8", errors="backslashreplace"))


@contextmanager
def atomic_write(path: str | Path, flag: str = "--output_path") -> Iterator[BinaryIO]:
    """A binary file that replaces `path` only once it is written whole and on disk.

    Raises:
        UserError: the folder cannot be made or written, or the disk is full; an older file at
            `path` is then untouched.
    """
    path = Path(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        raise UserError(f"{flag} {path}: cannot be written: {error.strerror}") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def check_writable(folder: str | Path, flag: str) -> Path:
    """Make `folder` and prove that a file can be written in it, before hours of work.

    Raises:
        UserError: it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written: {error.strerror}") from error
    return folder


class Journal:
    """An append-only JSON Lines file of finished work, so that a killed run loses nothing.

    Each line is an object with a "key". A torn last line (the process was killed while writing
    it) is dropped when the journal is opened again. One process at a time can have it open.

    Attributes:
        rows: by key, the last row of each.
        replaced: the earlier rows of these keys.

    Raises:
        UserError: another line is damaged, or another run is writing this journal.
    """

    def __init__(
        self, path: str | Path, flag: str = "--output_path", sync_seconds: float = 1.0
    ) -> None:
        self.path, self.flag = Path(path), flag
        self.rows: dict[str, Row] = {}
        self.replaced: list[Row] = []
        self._sync_seconds, self._synced = sync_seconds, 0.0
        check_writable(self.path.parent, flag)
        self._out = open(self.path, "ab")  # noqa: SIM115 - closed by close()
        try:
            fcntl.flock(self._out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._out.close()
            raise UserError(f"{flag} {self.path}: another run is writing this journal") from None
        try:
            os.truncate(self.path, self._load())
        except UserError:
            self._out.close()
            raise

    @classmethod
    def look(cls, path: str | Path, flag: str = "--output_path") -> Journal:
        """The rows of a journal, or none, without a change to it; it cannot be appended to."""
        journal = cls.__new__(cls)
        journal.path, journal.flag, journal.rows, journal.replaced = Path(path), flag, {}, []
        if journal.path.exists():
            journal._load()
        return journal

    def _load(self) -> int:
        """Read the rows; the length in bytes of the whole ones."""
        whole = 0
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                self._keep(self._read_line(line, number))
                whole += len(line)
        return whole

    def _keep(self, row: Row) -> None:
        if row["key"] in self.rows:
            self.replaced.append(self.rows[row["key"]])
        self.rows[row["key"]] = row

    def _read_line(self, line: bytes, number: int) -> Row:
        try:
            text = line.decode("utf-8")
            row = _mended(json.loads(text), text)
        except ValueError as error:
            reason = f"{error}"
        else:
            if isinstance(row, dict) and isinstance(row.get("key"), str):
                return row
            reason = 'no object with a "key"'
        raise UserError(
            f"{self.flag} {self.path}: line {number} of this journal is damaged ({reason}); remove "
            "that line to have its work done again"
        )

    def append(self, row: Row) -> None:
        """Write one finished row.

        When this returns no end of the process can lose it. It is forced to disk at most once in
        `sync_seconds`: that takes milliseconds, in which an asynchronous caller answers nobody.
        """
        line = json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace")
        self._out.write(line + b"\n")
        self._out.flush()
        if time.monotonic() - self._synced >= self._sync_seconds:
            os.fsync(self._out.fileno())
            self._synced = time.monotonic()
        self._keep(row)

    def close(self) -> None:
        """Force everything to disk and close the file."""
        os.fsync(self._out.fileno())
        self._out.close()


def sha256_file(path: str | Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_text(*parts: str) -> str:
    """Hash of strings, each with its length so that no two lists collide."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "backslashreplace")
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()


def _read_lines(
    path: str | Path, text: str, flag: str, whole_error: json.JSONDecodeError
) -> list[Any]:
    rows: list[Any] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as line_error:
            # Not even the first line is JSON: then the file was meant as one value.
            error, at = (line_error, number) if rows else (whole_error, whole_error.lineno)
            raise UserError(f"{flag} {path}: line {at} is not JSON: {error.msg}") from error
    return rows


def _mended(value: Any, text: str) -> Any:
    """A value of JSON as UTF-8 can write it; looked through only if its text calls for that."""
    return _as_utf8(value) if _HALF.search(text) else value


def _as_utf8(value: Any) -> Any:
    if isinstance(value, str):
        return utf8_text(value)
    if isinstance(value, list):
        return [_as_utf8(part) for part in value]
    if isinstance(value, dict):
        return {utf8_text(key): _as_utf8(part) for key, part in value.items()}
    return value


def _describe(value: Any) -> str:
    names: list[tuple[type, Callable[[Any], str]]] = [
        (dict, lambda v: f"an object with {len(v)} keys"),
        (list, lambda v: f"a list of {len(v)}"),
        (str, lambda v: "a string"),
        (bool, lambda v: "true or false"),
    ]
    for kind, text in names:
        if isinstance(value, kind):
            return text(value)
    return "null" if value is None else "a number"
