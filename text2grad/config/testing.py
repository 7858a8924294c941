"""Flags of what runs the tests of responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from text2grad.config.checks import above, at_least
from text2grad.schema import FieldNames


@dataclass(frozen=True)
class TestRunConfig:
    """How the tests of one response are run, for tasks that have tests."""

    __test__: ClassVar[bool] = False

    cpu_seconds: int = 10
    """processor time for the tests of one response, where the task has tests"""
    wall_seconds: float = 30.0
    """time for them, with all that they wait"""
    workers: int = 0
    """tests that run at once, 0 for the number of cores over that of the job's processes"""
    unsafe_local_execution: bool = False
    """run them without isolation where neither bubblewrap nor unshare works"""

    def __post_init__(self) -> None:
        at_least(self, 0, "workers")
        at_least(self, 1, "cpu_seconds")
        above(self, 0, "wall_seconds")


@dataclass(frozen=True)
class FaultSearchConfig(TestRunConfig):
    """How the annotator `execution` finds the faults of a response that fails its tests."""

    localisation_seconds: float = 10.0
    """time for trial edits of one response that failed its tests"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "localisation_seconds")


@dataclass(frozen=True)
class TestCaseConfig(TestRunConfig):
    """Run every solution against its tests and keep what each assertion said."""

    task: str = "kodcode"
    """which task's keys; or your own, a .py file"""
    source: str = ""
    """data set on the Hugging Face hub"""
    data_path: str = ""
    """own records, taken whole, or a folder of files named after the splits; "" takes --source"""
    splits: tuple[str, ...] = ("train", "incorrect")
    """splits of the data set: the first is sampled as one, the others by difficulty"""
    output_file: str = "data/train_tested.json"
    """records with their `log`; the journal lies beside it"""
    candidates: str = "feedback"
    """responses of a raw row that are tested: feedback (the first), all, or the key of one"""
    train_samples: int = 2000
    """rows of the first split, 0 for all"""
    easy_samples: int = 500
    """rows of the other splits whose gpt_difficulty is easy, 0 for all"""
    medium_samples: int = 20000
    """rows of the other splits of medium difficulty, 0 for all"""
    hard_samples: int = 20000
    """rows of the other splits that are hard, 0 for all"""
    target_total_size: int = 10000
    """records tested and written, those of the first split before the others; 0 for all"""
    memory_mb: int = 1024
    """memory of one run"""
    seed: int = 42
    """seed of the samples"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {
        "output_path": "output_file",
        "input_file": "data_path",
        "max_samples": "target_total_size",
        "timeout_seconds": "wall_seconds",
    }

    def __post_init__(self) -> None:
        samples = ("train_samples", "easy_samples", "medium_samples", "hard_samples")
        super().__post_init__()
        at_least(self, 0, *samples, "target_total_size")
        at_least(self, 64, "memory_mb")
