"""Processes as /proc shows them: who descends from whom, and the memory they hold."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def process_tree(pid: int, most: int = 1 << 16) -> list[int]:
    """A process and its descendants, parents first, at most `most` of them."""
    found = [pid]
    for process in found:
        with contextlib.suppress(OSError):  # it may end while its folder is read
            for children in Path(f"/proc/{process}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        if len(found) >= most:
            break
    return found[:most]


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def proportional_bytes(pid: int) -> int:
    """Resident memory with each shared page divided among those that share it."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) << 10 for line in text.splitlines() if line[:4] == "Pss:")
    except OSError:
        return resident_bytes(pid)
