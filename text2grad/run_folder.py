"""What a run leaves beside its results: flags, versions, data and model hashes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from text2grad.config.launch import resolved_flags
from text2grad.files import Row, sha256_file, sha256_text, write_json, write_text
from text2grad.schema import UserError

PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "deepspeed", "datasets")


def write_run_config(folder: str | Path, args: Any, data: dict[str, str], **more: Any) -> None:
    """Write `config.json`: enough to know what was run.

    Args:
        folder: the run's folder.
        args: its flags.
        data: flag name -> file that was read; their hashes are recorded.
        more: further facts.
    """
    write_json(
        Path(folder) / "config.json",
        {
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "flags": resolved_flags(args),
            "commit": _commit(),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
            "threads": torch.get_num_threads(),
            "data_sha256": {flag: sha256_file(path) for flag, path in data.items() if path},
            **more,
        },
        "--output_dir",
    )


def check_same_flags(origin: str | Path, saved: dict[str, Any], flags: dict[str, Any]) -> None:
    """The flags that a resumed run cannot change are those it was begun with.

    Raises:
        UserError: naming the first that differs.
    """
    for name, value in flags.items():
        value = list(value) if isinstance(value, tuple) else value
        if name in saved and saved[name] != value:
            raise UserError(
                f"--{name} {value}: {origin} was written with {saved[name]}, which a resumed run "
                "keeps; pass that, or start anew in another --output_dir"
            )


def weights_sha256(folder: str | Path) -> str:
    """One hash over a model folder's safetensors files, "" where there are none."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        return ""
    hashes = [sha256_file(file) for file in files]
    return hashes[0] if len(hashes) == 1 else sha256_text(*hashes)


class MetricsFile:
    """`metrics.jsonl` and its like: one object per step, appended, rewound on resume.

    Args:
        path: the file.
        step: keep rows up to this step and drop later ones, which a resumed run writes again.
    """

    def __init__(self, path: str | Path, step: int = 0) -> None:
        self.path = Path(path)
        kept = []
        if step and self.path.exists():
            # not splitlines(), which also breaks at line separators inside a response
            for line in self.path.read_text(encoding="utf-8").split("\n"):
                row = _parse_line(line)
                if row is not None and row["step"] <= step:
                    kept.append(line + "\n")
        write_text(self.path, "".join(kept), "--output_dir")

    def append(self, *rows: Row) -> None:
        """Add rows; they are in the file when this returns."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as out:
            out.write(lines)


def _parse_line(line: str) -> Row | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None  # torn by a crash; the resumed run writes that step again


def _commit() -> str:
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
