"""Flags of the annotator that runs tests."""

from __future__ import annotations

from dataclasses import dataclass

from text2grad.config.checks import at_least


@dataclass(frozen=True)
class ExecutionConfig:
    """Run the tests of an answer and find its faulty statements."""

    localisation_seconds: float = 10.0
    """execution: time for the trial edits of one failing answer"""
    cpu_seconds: int = 10
    """execution: processor time for one answer's tests"""
    workers: int = 0
    """execution: answers judged at once, 0 for the number of cores"""
    unsafe_local_execution: bool = False
    """run without isolation where neither bubblewrap nor unshare works; only for code you trust"""

    def __post_init__(self) -> None:
        at_least(self, 0, "localisation_seconds", "workers")
        at_least(self, 1, "cpu_seconds")
