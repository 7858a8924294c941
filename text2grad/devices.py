"""Devices and processes, and the tracker beside `metrics.jsonl`."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

from accelerate import Accelerator

from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig


def start_accelerator(args: PolicyConfig) -> Accelerator:
    """Devices and processes, and the tracker asked for.

    Mixed precision stays off whatever the launcher says: under autocast the updated policy would
    be computed otherwise than the one that was sampled, and the first ratio would not be 1.

    Raises:
        UserError: the tracker is not installed, its arguments are no JSON object, or the batch
            cannot be shared evenly among the processes.
    """
    if args.log_with == "none":
        accelerator = Accelerator(mixed_precision="no")
    else:
        accelerator = _with_tracker(args)
    update = args.mini_batch_size * args.gradient_accumulation_steps
    processes = accelerator.num_processes
    if args.batch_size % (update * processes):
        raise UserError(
            f"--batch_size {args.batch_size} is not a multiple of --mini_batch_size "
            f"{args.mini_batch_size} times --gradient_accumulation_steps "
            f"{args.gradient_accumulation_steps} times {processes} processes"
        )
    return accelerator


def _with_tracker(args: PolicyConfig) -> Accelerator:
    if importlib.util.find_spec(args.log_with) is None:
        raise UserError(f"--log_with {args.log_with}: not installed; pip install {args.log_with}")
    try:
        more = json.loads(args.tracker_kwargs or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"--tracker_kwargs {args.tracker_kwargs}: not JSON: {error.msg}") from error
    if not isinstance(more, dict):
        raise UserError(f"--tracker_kwargs {args.tracker_kwargs}: expected a JSON object")
    accelerator = Accelerator(
        log_with=args.log_with, project_dir=args.output_dir, mixed_precision="no"
    )
    accelerator.init_trackers(args.project_name, init_kwargs={args.log_with: more})
    return accelerator
