"""Devices and processes, and the tracker beside `metrics.jsonl`."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from accelerate import Accelerator, DeepSpeedPlugin, InitProcessGroupKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import gather_object
from transformers.integrations import unset_hf_deepspeed_config

from text2grad.config.deepspeed import (
    check_batch,
    check_launcher,
    check_launcher_values,
    read_deepspeed,
)
from text2grad.config.launch import resolved_flags
from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig

Result = TypeVar("Result")
Row = dict[str, Any]

# Any of these will do; tensorboardX, which comes with requirements.txt, writes the same files.
TRACKER_PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}
GROUPS = ("tokens_per_second", "seconds", "valid")


def start_accelerator(args: PolicyConfig) -> Accelerator:
    """Devices and processes; the tracker asked for is opened by `start_tracker`.

    Mixed precision stays off: under autocast the updated policy would be computed otherwise than
    the one that was sampled, and the first ratio would not be 1.

    Raises:
        UserError: the tracker is not installed, its arguments are no JSON object, the launcher or
            the DeepSpeed file contradicts a flag, or the batch cannot be shared evenly among the
            processes.
    """
    check_launcher(args, os.environ)
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=args.ddp_timeout))
    more: dict[str, Any] = {"kwargs_handlers": [patience]}
    if args.log_with != "none":
        _tracker_arguments(args)
        more |= {"log_with": args.log_with, "project_dir": args.output_dir}
    if args.deepspeed:
        config = read_deepspeed(args, launched_processes())
        check_launcher_values(config, f"--deepspeed {args.deepspeed}", os.environ)
        prepare_deepspeed()
        more["deepspeed_plugin"] = DeepSpeedPlugin(hf_ds_config=config, zero3_init_flag=False)
        more["gradient_accumulation_steps"] = args.gradient_accumulation_steps
    # without a GPU accelerate has to be told, or it takes each process for the only one; DeepSpeed
    # it would then leave out without a word, see `count_processes`
    cpu = not args.deepspeed and not torch.accelerator.is_available()
    accelerator = Accelerator(mixed_precision="no", cpu=cpu, **more)
    count_processes()
    # accelerate told transformers of ZeRO-3 all the same, which then would cut the policy before it
    # is complete, and the reward model, which is no part of it
    unset_hf_deepspeed_config()
    check_batch(args, accelerator.num_processes)
    return accelerator


def all_or_none(work: Callable[[], Result]) -> Result:
    """Do what may fail in one process alone, as asking a server may; then it fails in all.

    The others would wait for a message that never comes.

    Raises:
        UserError: of this process, or else of the first that failed.
    """
    result, error = None, None
    try:
        result = work()
    except UserError as caught:
        error = caught
    faults = gather_object([str(error) if error else ""])
    if error:
        raise error
    for process, fault in enumerate(faults):
        if fault:
            raise UserError(f"process {process}: {fault}")
    return cast("Result", result)


def rows_of_all(accelerator: Accelerator, rows: Sequence[Row]) -> list[Row]:
    """The rows of all processes, at the main one; the others get none.

    They come in turns, one of each process: in the order of the batch from which `PromptOrder`
    dealt the prompts.
    """
    if accelerator.num_processes == 1:
        return [*rows]
    parts: list[Any] | None = None
    if accelerator.is_main_process:
        parts = [None] * accelerator.num_processes
    torch.distributed.gather_object([*rows], parts)
    return [row for turn in zip(*parts or (), strict=True) for row in turn]


def is_main_process() -> bool:
    """Whether this process writes and prints for all; known before they can communicate."""
    return os.environ.get("RANK", "0") == "0"


def launched_processes() -> int:
    """How many the launcher has started; known before they can communicate."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def count_processes() -> None:
    """Let accelerate know of all processes under DeepSpeed on CPUs.

    accelerate 1.15 starts the engine there, but believes each process to be alone: it reads the
    count only where it started the communication itself. Its flag for the CPU is no way out, with
    it DeepSpeed is left out without a word. Nothing changes where the count is right.
    """
    if not torch.distributed.is_initialized():
        return
    for state in (PartialState._shared_state, AcceleratorState._shared_state):
        if state and state["num_processes"] != torch.distributed.get_world_size():
            state["num_processes"] = torch.distributed.get_world_size()
            state["process_index"] = torch.distributed.get_rank()
            state["local_process_index"] = int(os.environ.get("LOCAL_RANK", "0"))
            state["backend"] = torch.distributed.get_backend()


def prepare_deepspeed() -> None:
    """Let DeepSpeed start without a compiler on CPUs, and without a launcher for one process."""
    import deepspeed

    # It would compile its shared-memory messages at the first start; a start that is killed
    # meanwhile leaves a lock on which all later ones wait without end. gloo does without.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if "LOCAL_RANK" in os.environ:
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def start_tracker(accelerator: Accelerator, args: PolicyConfig, step: int) -> None:
    """Open the tracker that `--log_with` asks for.

    Args:
        accelerator: made by `start_accelerator` for the same flags.
        args: log_with, project_name, tracker_kwargs, output_dir.
        step: the last one that is done. What TensorBoard has of later ones, by a run that stopped
            past its last checkpoint, is hidden there: they are written again.

    Raises:
        UserError: the tracker refuses.
    """
    if args.log_with == "none":
        return
    more = _tracker_arguments(args)
    flags = None  # TensorBoard would show them as a run of their own; they are in config.json
    if args.log_with == "wandb":
        flags, more = resolved_flags(args), {"dir": args.output_dir, **more}
    else:
        more = {"purge_step": step + 1, **more}
    try:
        accelerator.init_trackers(args.project_name, flags, {args.log_with: more})
    except Exception as error:  # the tracker's own: no key, no network, unknown arguments
        reason = " ".join(str(error).split()).rstrip(".")
        hint = '; --tracker_kwargs \'{"mode": "offline"}\' needs neither key nor network'
        raise UserError(
            f"--log_with {args.log_with}: {reason}{hint if args.log_with == 'wandb' else ''}"
        ) from error


def tracked_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row of `metrics.jsonl` under the names they get at the tracker.

    Trackers show names with the same beginning up to a slash in one group.

    Example: {"kl": 2.0, "seconds_update": 9.0, "warnings": []} -> {"train/kl": 2.0,
    "seconds/update": 9.0}
    """
    figures = {}
    for key, value in row.items():
        if isinstance(value, (int, float)) and key != "step":
            group = next((group for group in GROUPS if key.startswith(f"{group}_")), "")
            name = f"{group}/{key.removeprefix(group + '_')}" if group else f"train/{key}"
            figures[name] = float(value)
    return figures


def _tracker_arguments(args: PolicyConfig) -> dict[str, Any]:
    packages = TRACKER_PACKAGES[args.log_with]
    if not any(importlib.util.find_spec(name) for name in packages):
        raise UserError(f"--log_with {args.log_with}: not installed; pip install {packages[-1]}")
    try:
        more = json.loads(args.tracker_kwargs or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"--tracker_kwargs {args.tracker_kwargs}: not JSON: {error.msg}") from error
    if not isinstance(more, dict):
        raise UserError(f"--tracker_kwargs {args.tracker_kwargs}: expected a JSON object")
    return more
