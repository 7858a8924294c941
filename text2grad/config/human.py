"""Flags of people's marks: the sheet that takes them, its import, and agreement with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from text2grad.config.checks import at_least
from text2grad.schema import FieldNames, UserError


@dataclass(frozen=True)
class HumanAlignmentConfig:
    """Compare annotations of responses with the spans that people marked in them."""

    task: str = "slf5k"
    """which task's keys and labels; or your own, a .py file"""
    human_file: str = "human_annotated.json"
    """what people marked: annotated records, or records with `human_errors` as in QA-Feedback"""
    compare_files: tuple[str, ...] = ("inference_results.json",)
    """annotations of the same responses: of annotators, of reward models by 2_infer.py, or of
    other people"""
    output_file: str = "human_alignment.json"
    """all figures; the tables in Markdown lie beside it"""
    tokenizer: str = ""
    """compare the tokens of this tokenizer in place of words"""
    only_shared: bool = False
    """leave out responses that one of the files lacks; else a lacking one counts as unreadable"""
    seed: int = 42
    """seed of the bootstrap"""
    fields: FieldNames = FieldNames()
    """key names of your own files"""

    ALIASES: ClassVar[dict[str, str]] = {"output": "output_file", "output_path": "output_file"}

    def __post_init__(self) -> None:
        if not self.compare_files:
            raise UserError("--compare_files: name at least one file")


@dataclass(frozen=True)
class SheetConfig:
    """Write a page on which a person marks responses; it needs neither server nor network."""

    task: str = "slf5k"
    """which task's keys and labels; or your own, a .py file"""
    data_path: str = "data/validation.json"
    """records with responses; annotations that they have are not shown"""
    output_path: str = "annotation_sheet.html"
    """the page"""
    max_samples: int = 100
    """responses on it, chosen by chance and in random order, 0 for all"""
    show_reference: bool = False
    """show the reference too"""
    seed: int = 42
    """seed of choice and order"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {"input_file": "data_path", "output_file": "output_path"}

    def __post_init__(self) -> None:
        at_least(self, 0, "max_samples")


@dataclass(frozen=True)
class SheetImportConfig:
    """Turn what a person saved from a sheet into annotated records."""

    task: str = "slf5k"
    """as for the sheet"""
    marks_path: str = "marks.json"
    """the file that the page saved"""
    data_path: str = "data/validation.json"
    """the records that the sheet was made of"""
    output_path: str = "human_annotated.json"
    """records with the person's spans and critique, of the responses that are done"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {"output_file": "output_path"}
