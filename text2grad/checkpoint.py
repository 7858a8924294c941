"""Policy checkpoints: written whole or not at all, verified when read."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from text2grad.files import sha256_file, write_json
from text2grad.models import replace_folder
from text2grad.run_folder import check_same_flags
from text2grad.schema import UserError

MANIFEST, STATE, OPTIMIZER, VALUE_HEAD = (
    "manifest.json",
    "trainer_state.json",
    "optimizer.pt",
    "value_head.safetensors",
)
NAME = re.compile(r"epoch_\d+_step_(\d+)")


def checkpoint_name(epoch: int, step: int) -> str:
    """`epoch_{E}_step_{S}`."""
    return f"epoch_{epoch}_step_{step}"


def save_policy(folder: Path, model: PeftModel, value_head: nn.Module, tokenizer: Any) -> None:
    """Adapter, value head and tokenizer, as plain peft and safetensors read them."""
    model.save_pretrained(folder)
    save_file(value_head.state_dict(), folder / VALUE_HEAD)
    tokenizer.save_pretrained(folder)


def save_checkpoint(
    path: Path,
    write_weights: Callable[[Path], None],
    state: Mapping[str, Any],
    parts: Mapping[str, Any],
    processes: Sequence[Mapping[str, Any]],
) -> None:
    """Write a checkpoint that replaces `path` only when whole.

    Args:
        path: the checkpoint's folder.
        write_weights: writes the model's files into a folder.
        state: plain values, above all the step.
        parts: by name, what has a `state_dict`: optimiser, scheduler, KL controller, ...
        processes: for each process what it alone knows: `generators`, its shard of the optimiser.

    Raises:
        UserError: it cannot be written; older checkpoints are untouched.
    """
    with replace_folder(path) as folder:
        write_weights(folder)
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "processes": [*processes]}, folder / OPTIMIZER)
        write_json(folder / STATE, {**state, "threads": torch.get_num_threads()})
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = {str(file.relative_to(folder)): sha256_file(file) for file in files}
        write_json(folder / MANIFEST, hashes)


def find_checkpoint(output_dir: str | Path, wanted: str) -> Path | None:
    """The checkpoint to go on from.

    Args:
        output_dir: the run's folder.
        wanted: a folder; "auto" for the newest whole one, naming damaged ones; "" for none.

    Raises:
        UserError: the folder asked for is no whole checkpoint.
    """
    if not wanted:
        return None
    if wanted != "auto":
        if fault := damage(Path(wanted)):
            raise UserError(f"--resume_from_checkpoint {wanted}: {fault}")
        return Path(wanted)
    for path in reversed(list_checkpoints(output_dir)):
        fault = damage(path)
        if not fault:
            return path
        print(f"skipping checkpoint {path}: {fault}")
    return None


def damage(path: Path) -> str:
    """Why `path` is no whole checkpoint, "" if it is one."""
    try:
        hashes = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"no readable {MANIFEST}"
    for name, digest in hashes.items():
        if not (path / name).exists():
            return f"{name} is missing"
        if sha256_file(path / name) != digest:
            return f"{name} is damaged"
    return ""


def check_flags(path: Path, flags: dict[str, Any]) -> None:
    """The flags that a resumed run cannot change are those of the checkpoint.

    Raises:
        UserError: naming the first that differs.
    """
    saved = json.loads((path / STATE).read_text(encoding="utf-8")).get("flags", {})
    check_same_flags(path, saved, flags)


def load_policy(path: Path, model: PeftModel, value_head: nn.Module) -> None:
    """Put a checkpoint's adapter and value head into the model, all of it or an error."""
    misfit = UserError(
        f"--resume_from_checkpoint {path}: its adapter does not fit the model; use the "
        "--base_model_name and --lora_* flags of that run"
    )
    try:
        found = set_peft_model_state_dict(model, load_file(path / "adapter_model.safetensors"))
    except RuntimeError as error:  # shapes differ
        raise misfit from error
    if found.unexpected_keys or any("lora_" in name for name in found.missing_keys):
        raise misfit
    value_head.load_state_dict(load_file(path / VALUE_HEAD))


def load_state(
    path: Path, parts: Mapping[str, Any], process: int = 0, processes: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give `parts` and the random generators their state back; nothing is unpickled but tensors.

    Args:
        path: the checkpoint's folder.
        parts: as given to `save_checkpoint`; one that it does not have stays as it is.
        process: number of this process.
        processes: how many there are. After a run of another number the generators stay as they
            are.

    Returns:
        The checkpoint's plain values, and what this process alone knew, {} after another number.
    """
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    saved = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    for name in parts.keys() & saved.keys():
        parts[name].load_state_dict(saved[name])
    own = saved["processes"][process] if len(saved["processes"]) == processes else {}
    if own:
        torch.set_rng_state(own["generators"]["cpu"])
        if own["generators"]["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["generators"]["cuda"])
    lacking = sorted(parts.keys() - saved.keys()) + ["random generators"] * (not own)
    if lacking and process == 0:
        print(f"{path}: written by a run on other processes; anew start {', '.join(lacking)}")
    if state["threads"] != torch.get_num_threads() and process == 0:
        print(
            f"{path} was written with {state['threads']} threads; results may differ in the last "
            "digits"
        )
    return state, own


def generators() -> dict[str, Any]:
    """The state of this process's random generators, for `save_checkpoint`."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_aside_later(output_dir: str | Path, step: int) -> None:
    """Rename the checkpoints after `step`, which the run is about to write anew.

    Left where they are, they would count as the newest.
    """
    for path in list_checkpoints(output_dir):
        if int(NAME.fullmatch(path.name)[1]) > step:
            aside = path.with_name(f"abandoned_{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            print(f"{path.name} is after step {step}: renamed to {aside.name}")


def prune_checkpoints(output_dir: str | Path, keep: int, spared: str = "") -> None:
    """Remove all but the newest `keep` checkpoints and the one named `spared`; 0 keeps all."""
    if keep:
        for path in list_checkpoints(output_dir)[:-keep]:
            if path.name != spared:
                shutil.rmtree(path)


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints of a run, oldest first; merged models that lie beside them are none."""
    found = [path for path in Path(output_dir).glob("epoch_*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(NAME.fullmatch(path.name)[1]))
