"""What a model's name stands for: a folder, an adapter in a folder, or a model on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from text2grad.files import read_text
from text2grad.missing import advice
from text2grad.schema import UserError

ADAPTER_CONFIG = "adapter_config.json"
# What transformers says, by a few of its words, and what there is to do.
_HUB_FAILURES = {
    "gated repo": "the Hugging Face hub gives it to those who accepted its licence: accept it on "
    "https://huggingface.co/{name}, log in (hf auth login), or name a folder",
    "couldn't connect": "neither a folder nor in the local cache, and the Hugging Face hub cannot "
    "be reached (no network, or HF_HUB_OFFLINE is set); name a folder",
    "not a valid model identifier": "neither a folder{advice} nor a model on the Hugging Face hub",
}


def load_tokenizer(name: str, flag: str, chat_template: str = "") -> Any:
    """A tokenizer with a pad token, padding on the left.

    Args:
        name: a folder, an adapter's folder, or a hub id.
        flag: the flag that named it.
        chat_template: file with a Jinja template that replaces the tokenizer's own, "" for none.

    Raises:
        UserError: there is none at `name`, or the template's file cannot be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base_of(name) if lacks_tokenizer(name) else name)
    except (OSError, ValueError) as error:
        raise UserError(not_loadable(flag, name, error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template:
        tokenizer.chat_template = read_text(chat_template, "--chat_template")
    tokenizer.padding_side = "left"
    return tokenizer


def end_ids(tokenizer: Any, *configs: Any) -> list[int]:
    """All ids that end a response: the tokenizer's and those of the model's configurations."""
    ids = [tokenizer.eos_token_id]
    for config in configs:
        ends = getattr(config, "eos_token_id", None)
        ids += ends if isinstance(ends, list) else [ends]
    return list(dict.fromkeys(i for i in ids if i is not None))


def ends_of(name: str, tokenizer: Any, flag: str) -> list[int]:
    """`end_ids` of a model whose weights are not loaded here.

    Raises:
        UserError: there is no model at `name`, which `flag` gave.
    """
    try:
        config = AutoConfig.from_pretrained(name).get_text_config()
    except (OSError, ValueError) as error:
        raise UserError(not_loadable(flag, name, error)) from error
    try:
        return end_ids(tokenizer, config, GenerationConfig.from_pretrained(name))
    except OSError:  # not every model has such a file
        return end_ids(tokenizer, config)


def is_adapter(name: str) -> bool:
    """Whether `name` is a folder with a LoRA adapter."""
    return (Path(name) / ADAPTER_CONFIG).exists()


def base_of(name: str) -> str:
    """The base model of an adapter folder; any other name is its own base."""
    if not is_adapter(name):
        return name
    config = json.loads((Path(name) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    base = config.get("base_model_name_or_path")
    if not base:
        raise UserError(f"{name}/{ADAPTER_CONFIG}: names no base_model_name_or_path")
    return str(base)


def lacks_tokenizer(name: str) -> bool:
    """Whether `name` is an adapter whose tokenizer is that of its base model."""
    return is_adapter(name) and not (Path(name) / "tokenizer_config.json").exists()


def no_adapter(name: str) -> str:
    """Why `name`, which is no adapter, cannot be taken for one, and what to name instead."""
    path = Path(name)
    if not path.is_dir():
        return f"no such folder{advice(name)}"
    if _is_model(path):
        return f"a whole model, not an adapter (no {ADAPTER_CONFIG} in it); it needs no merging"
    if is_adapter(str(path / "final")):
        return f"no {ADAPTER_CONFIG} in it; the adapter is {path / 'final'}"
    return f"no {ADAPTER_CONFIG} in it"


def not_loadable(flag: str, name: str, error: Exception) -> str:
    """One line that says why `name` gave no model or tokenizer."""
    path, said = Path(name), str(error)
    if path.is_dir() and not _is_model(path) and not is_adapter(name):
        inside = [part for part in ("final_merge", "final") if (path / part).is_dir()]
        better = f"; it holds a run, whose model is {path / inside[0]}" if inside else ""
        return f"{flag} {name}: no model in this folder{better}"
    if not path.is_dir() and (path.is_absolute() or name.startswith(".") or name.count("/") > 1):
        return f"{flag} {name}: no such folder{advice(name)}"
    for sign, meaning in _HUB_FAILURES.items():
        if sign in said:
            return f"{flag} {name}: {meaning.format(name=name, advice=advice(name))}"
    return f"{flag} {name}: {one_line(error)}"


def _is_model(folder: Path) -> bool:
    """Whether a folder holds a whole model; a run's folder has a `config.json` of another kind."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config


def one_line(error: BaseException) -> str:
    """An error's text on one line, not too long."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:300]
