"""Flags of errors that are put into annotations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from text2grad.schema import FieldNames, UserError
from text2grad.span_noise import read_noise


@dataclass(frozen=True)
class NoiseConfig:
    """Copy an annotated file with errors in its annotations."""

    task: str = "slf5k"
    """which task's keys and labels; or your own, a .py file"""
    data_path: str = "data/train_annotated.json"
    """annotated records"""
    output_path: str = "data/train_noisy.json"
    """the same records with errors; NAME.noise.json beside it counts them"""
    noise: str = "flip:0.2"
    """flip, drop, shift or replace, and a share of the quotes; irrelevant, and of the critiques"""
    seed: int = 42
    """seed of the errors; at a higher share those of a lower one are wrong too"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("data_path", "output_path")
    ALIASES: ClassVar[dict[str, str]] = {"input_file": "data_path", "output_file": "output_path"}

    def __post_init__(self) -> None:
        if not read_noise(self.noise, "--noise"):
            raise UserError("--noise: names none, for example flip:0.2")
