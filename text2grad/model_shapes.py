"""The widths and depths of a decoder of the Llama family, and what can be counted from them alone.

Llama, Mistral, Qwen 2 and Qwen 3 are one shape: L blocks of four attention projections and three of
a gated MLP, with two norms each. What is counted here is exact; what is estimated is in `estimate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from text2grad.files import read_text
from text2grad.schema import UserError

DATA = Path(__file__).with_name("scaling.json")
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class ModelShape:
    """A model without its weights.

    Attributes:
        layers: blocks, L.
        hidden: width between blocks, h.
        intermediate: width inside the MLP, I.
        heads, kv_heads: attention heads, and how many of them have keys and values of their own.
        head_width: of one head.
        vocabulary: tokens, V.
        tied: the head is the embedding.
        qkv_bias: query, key and value have a bias (Qwen 2).
        qk_norm: query and key have a norm over the width of a head (Qwen 3).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def query_width(self) -> int:
        """Of all heads together."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """Of the keys of a token, which is that of its values."""
        return self.kv_heads * self.head_width

    @cached_property
    def linear(self) -> dict[str, tuple[int, int]]:
        """The linear layers of a block: width in, width out."""
        return {
            "q_proj": (self.hidden, self.query_width),
            "k_proj": (self.hidden, self.key_width),
            "v_proj": (self.hidden, self.key_width),
            "o_proj": (self.query_width, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def linear_parameters(self) -> int:
        """Of the matrices of all blocks: what every token is multiplied with, the head apart."""
        return self.layers * sum(rows * columns for rows, columns in self.linear.values())

    @property
    def head_parameters(self) -> int:
        """Of the head, V h."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All, a tied head counted once.

        Example: Llama-3.1-8B has 32 blocks of 218,112,000 and 2 V h + h: 8,030,261,248.
        """
        bias = (self.query_width + 2 * self.key_width) * self.qkv_bias
        norms = 2 * self.hidden + 2 * self.head_width * self.qk_norm
        ends = self.head_parameters * (1 if self.tied else 2) + self.hidden
        return self.linear_parameters + self.layers * (bias + norms) + ends

    def cache_bytes(self, width: int) -> int:
        """Of keys and values, for one token, at `width` bytes a number: 2 L key_width width."""
        return 2 * self.layers * self.key_width * width


@dataclass(frozen=True)
class Lora:
    """A LoRA adapter, A (r, in) and B (out, r) on each target.

    Attributes:
        rank: r.
        targets: names in `ModelShape.linear`, or all-linear.
        last_layers: adapted blocks, counted from the end; 0 for all.
    """

    rank: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    last_layers: int = 0

    def depth(self, shape: ModelShape) -> int:
        """Blocks with an adapter."""
        return min(self.last_layers, shape.layers) if self.last_layers else shape.layers

    def names(self, shape: ModelShape) -> tuple[str, ...]:
        """The adapted layers of a block.

        Raises:
            UserError: the model has no layer of that name.
        """
        if self.targets == ("all-linear",):
            return tuple(shape.linear)
        for name in self.targets:
            if name not in shape.linear:
                raise UserError(
                    f"--lora_target_modules {name}: not one of {' '.join(shape.linear)}"
                )
        return self.targets

    def matrices(self, shape: ModelShape) -> list[tuple[int, int]]:
        """(rows, columns) of every matrix that is trained."""
        block = []
        for name in self.names(shape):
            width_in, width_out = shape.linear[name]
            block += [(self.rank, width_in), (width_out, self.rank)]
        return block * self.depth(shape)

    def parameters(self, shape: ModelShape) -> int:
        """All that are trained: r (in + out) for each target.

        Example: r 16 on q and v of Llama-3.1-8B: 32 * 16 * (8,192 + 5,120) = 6,815,744.
        """
        return sum(rows * columns for rows, columns in self.matrices(shape))


def read_shape(model: str, flag: str = "--model") -> ModelShape:
    """The shape of a model in a folder, or of a published one that is listed in `scaling.json`.

    Args:
        model: a folder with `config.json`, a hub id or its last part.
        flag: that named it, for messages.

    Raises:
        UserError: neither a folder nor listed, or a family whose shape is not known here.
    """
    if Path(model, "config.json").is_file():
        return shape_of(json.loads(read_text(f"{model}/config.json", flag)), f"{flag} {model}")
    listed = known("models")
    found = [name for name in listed if model in (name, name.split("/")[-1])]
    if not found:
        raise UserError(
            f"{flag} {model}: neither a folder with config.json nor one of {', '.join(listed)}"
        )
    return ModelShape(**listed[found[0]])


def shape_of(config: Mapping[str, Any], origin: str) -> ModelShape:
    """From the contents of `config.json`.

    Raises:
        UserError: the family or a width is missing; the message names `origin`.
    """
    family = config.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"{origin}: model_type {family}, known here are {', '.join(FAMILIES)}")
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return ModelShape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_width=config.get("head_dim") or hidden // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
        )
    except KeyError as error:
        raise UserError(f"{origin}: config.json has no {error}") from error


def known(section: str) -> dict[str, dict[str, Any]]:
    """What `scaling.json` lists: "models", or "gpus"."""
    return json.loads(DATA.read_text(encoding="utf-8"))[section]
