"""From the command line to one function call."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar, get_type_hints

import tyro

from text2grad.schema import Stopped, UserError

Config = TypeVar("Config")

STOPPED = 143  # 128 + SIGTERM, what a shell reports of a process that SIGTERM ended

# what torch says on a GPU, and on the CPU
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
# flags that take memory, those that matter most first
_MEMORY_FLAGS = (
    "per_device_train_batch_size",
    "max_tokens_per_microbatch",
    "mini_batch_size",
    "reward_batch_size",
    "batch_size",
    "max_length",
    "prompt_max_length",
    "output_max_length",
    "max_new_tokens",
    "logp_chunk_tokens",
)


def parse(args_type: type[Config], argv: Sequence[str] | None = None) -> Config:
    """Parse flags into `args_type`.

    Beside what tyro reads: published spellings (`args_type.ALIASES`), leading arguments without
    a flag (`args_type.POSITIONAL`), `true`/`false` in any case, and a bare boolean flag.
    """
    argv = _rewrite(args_type, list(sys.argv[1:] if argv is None else argv))
    config = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)
    return tyro.cli(args_type, args=argv, config=config, use_underscores=True)


def launch(args_type: type, target: str) -> None:
    """Parse the flags, import `module:function` and call it with them.

    Heavy imports happen after parsing, so `--help` is instant. A `UserError`, and a full disk or
    memory wherever it is met, becomes one line on standard error and exit status 2; Ctrl-C becomes
    exit status 130, and a run that saved and stopped when it was asked to, 143.
    """
    args = None
    try:
        args = parse(args_type)
        gpu_ids = getattr(args, "gpu_ids", "")
        if gpu_ids:  # must be set before torch starts
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu_ids
        module, function = target.split(":")
        getattr(importlib.import_module(module), function)(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if str(stop):  # one process says it
            print(f"stopped: {stop}", file=sys.stderr)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        resumable = hasattr(args, "resume_from_checkpoint")
        how = "; --resume_from_checkpoint auto goes on from the last checkpoint" * resumable
        print(f"\nstopped{how}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = _known_failure(error, args)
        if not message:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def _known_failure(error: Exception, args: Any) -> str:
    """The line for a full disk or memory, "" for any other failure."""
    said = str(error)
    full = os.strerror(errno.ENOSPC)  # as OSError, or as text in a library's own error
    if full in said:
        place = getattr(error, "filename", None) or "the output folder"
        return f"{place}: {full}; what was finished before is whole"
    if isinstance(error, MemoryError) or any(sign in said for sign in _OUT_OF_MEMORY):
        return f"out of memory; {_how_to_take_less(args)}"
    return ""


def _how_to_take_less(args: Any) -> str:
    """Which of the script's flags take less memory, with their values."""
    there = [name for name in _MEMORY_FLAGS if hasattr(args, name)]
    # a policy's --batch_size is split into mini-batches and takes no memory by itself
    if "mini_batch_size" in there:
        there.remove("batch_size")
    if getattr(args, "max_tokens_per_microbatch", 0):
        there.remove("mini_batch_size")
    lower = [f"--{name} {getattr(args, name)}" for name in there if getattr(args, name) > 1]
    advice = [f"lower {', '.join(lower)}"] if lower else []
    if getattr(args, "gradient_checkpointing", None) is False:
        advice.append("pass --gradient_checkpointing true")
    return "; ".join([*advice, f"{'or ' if advice else ''}take a smaller model"])


def resolved_flags(args: Any) -> dict[str, Any]:
    """All flags with their values, as the run folder records them."""
    return dataclasses.asdict(args)


def _rewrite(args_type: type, argv: list[str]) -> list[str]:
    aliases = getattr(args_type, "ALIASES", {})
    booleans = {name for name, kind in get_type_hints(args_type).items() if kind is bool}
    positional = list(getattr(args_type, "POSITIONAL", ()))
    out: list[str] = []
    while argv and not argv[0].startswith("-") and positional:
        out += [f"--{positional.pop(0)}", argv.pop(0)]
    position = 0
    while position < len(argv):
        argument = argv[position]
        position += 1
        if not argument.startswith("--"):
            out.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        name = aliases.get(name, name)
        out.append(f"--{name}")
        if equals:
            out.append(value)
        elif name in booleans and (position == len(argv) or argv[position].startswith("--")):
            out.append("True")
            continue
        elif name in booleans:
            out.append(argv[position])
            position += 1
        if name in booleans:
            out[-1] = {"true": "True", "false": "False"}.get(out[-1].lower(), out[-1])
    return out
