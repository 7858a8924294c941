"""Policy checkpoints: what is in them, written and read back."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from text2grad.run_folder import check_same_flags
from text2grad.schema import UserError
from text2grad.whole_folder import damage, newest_whole, replace_folder, write_manifest

STATE, OPTIMIZER, VALUE_HEAD = "trainer_state.json", "optimizer.pt", "value_head.safetensors"
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
        state: plain values, above all the "step".
        parts: by name, what has a `state_dict`: optimiser, scheduler, KL controller, ...
        processes: for each process what it alone knows: `generators`, its shard of the optimiser.

    Raises:
        UserError: it cannot be written; older checkpoints are untouched.
    """
    with replace_folder(path) as folder:
        write_weights(folder)
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "processes": [*processes]}, folder / OPTIMIZER)
        plain = json.dumps({**state, "threads": torch.get_num_threads()}, indent=2)
        (folder / STATE).write_text(plain + "\n", encoding="utf-8")
        write_manifest(folder, state["step"], len(processes))


def find_checkpoint(output_dir: str | Path, wanted: str) -> Path | None:
    """The checkpoint to go on from.

    Args:
        output_dir: the run's folder.
        wanted: a folder; "auto" for the newest whole one, naming damaged ones; "" for none.

    Raises:
        UserError: the folder asked for is no whole checkpoint, or there are some and none is whole.
    """
    if not wanted:
        return None
    if wanted != "auto":
        if fault := damage(Path(wanted)):
            raise UserError(f"--resume_from_checkpoint {wanted}: {fault}")
        return Path(wanted)
    whole, faults = newest_whole(list_checkpoints(output_dir))
    for path, fault in faults.items():
        print(f"skipping checkpoint {path}: {fault}")
    if faults and not whole:
        raise UserError(
            f"--resume_from_checkpoint auto: no checkpoint in {output_dir} is whole; remove them "
            "to start anew, or choose another --output_dir"
        )
    return whole


def check_flags(path: Path, flags: dict[str, Any]) -> None:
    """The flags that a resumed run cannot change are those of the checkpoint.

    Raises:
        UserError: naming the first that differs.
    """
    saved = json.loads((path / STATE).read_text(encoding="utf-8")).get("flags", {})
    check_same_flags(path, saved, flags)


def load_policy(path: Path, model: PeftModel, value_head: nn.Module) -> None:
    """Put a checkpoint's adapter and value head into the model, all of it or an error."""
    load_adapter(path, model)
    value_head.load_state_dict(load_file(path / VALUE_HEAD))


def load_adapter(path: Path, model: PeftModel) -> None:
    """Put a checkpoint's adapter into the model, all of it or an error."""
    misfit = UserError(
        f"--resume_from_checkpoint {path}: its adapter does not fit the model; use the "
        "base model and --lora_* flags of that run"
    )
    try:
        found = set_peft_model_state_dict(model, load_file(path / "adapter_model.safetensors"))
    except RuntimeError as error:  # shapes differ
        raise misfit from error
    if found.unexpected_keys or any("lora_" in name for name in found.missing_keys):
        raise misfit


def load_state(
    path: Path, parts: Mapping[str, Any], process: int = 0, processes: int = 1
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give `parts` and the random generators their state back; nothing is unpickled but tensors.

    Args:
        path: the checkpoint's folder.
        parts: as given to `save_checkpoint`; one that it does not have stays as it is.
        process: number of this process.
        processes: how many there are. After a run of another number the optimiser, whose steps were
            those of its processes, and the generators stay as they are.

    Returns:
        The checkpoint's plain values, and what this process alone knew, {} after another number.
    """
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    saved = torch.load(path / OPTIMIZER, weights_only=True, map_location="cpu")
    before = len(saved["processes"])
    same = before == processes
    kept = {name for name in parts.keys() & saved.keys() if same or name != "optimizer"}
    for name in kept:
        parts[name].load_state_dict(saved[name])
    own = saved["processes"][process] if same else {}
    if own:
        restore_generators(own["generators"])
    if process == 0 and not same:
        print(
            f"{path}: written by {before} processes, and this run has {processes}: adapter, value "
            "head and step go on, optimiser and random generators start anew"
        )
    elif process == 0 and parts.keys() - kept:
        print(f"{path}: does not have, so anew start {', '.join(sorted(parts.keys() - kept))}")
    if state["threads"] != torch.get_num_threads() and process == 0:
        print(
            f"{path} was written with {state['threads']} threads; results may differ in the last "
            "digits"
        )
    return state, own


def generators() -> dict[str, Any]:
    """The state of this process's random generators, for `save_checkpoint`."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    kind, keys, *place = np.random.get_state()
    numpy = [str(kind), keys.tolist(), *place]
    return {"cpu": torch.get_rng_state(), "cuda": cuda, "python": random.getstate(), "numpy": numpy}


def restore_generators(states: Mapping[str, Any]) -> None:
    """Let this process draw again what it drew after `generators`."""
    torch.set_rng_state(states["cpu"])
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
    random.setstate(states["python"])
    np.random.set_state(tuple(states["numpy"]))


def checkpoints_after(output_dir: str | Path, step: int) -> list[Path]:
    """The checkpoints of later steps."""
    return [path for path in list_checkpoints(output_dir) if step_of(path) > step]


def prune_checkpoints(output_dir: str | Path, keep: int, spared: str = "") -> None:
    """Remove all but the newest `keep` checkpoints and the one named `spared`; 0 keeps all."""
    if keep:
        for path in list_checkpoints(output_dir)[:-keep]:
            if path.name != spared:
                shutil.rmtree(path)


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoints of a run, oldest first; merged models that lie beside them are none."""
    found = [path for path in Path(output_dir).glob("epoch_*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    return int(NAME.fullmatch(path.name)[1])
