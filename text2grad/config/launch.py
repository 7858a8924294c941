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

from text2grad.schema import UserError

Config = TypeVar("Config")


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

    Heavy imports happen after parsing, so `--help` is instant. A `UserError`, and a full disk
    wherever it is met, becomes one line on standard error and exit status 2; Ctrl-C becomes exit
    status 130.
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
    except KeyboardInterrupt:
        resumable = hasattr(args, "resume_from_checkpoint")
        how = "; --resume_from_checkpoint auto goes on from the last checkpoint" * resumable
        print(f"\nstopped{how}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        full = os.strerror(errno.ENOSPC)  # as OSError, or as text in a library's own error
        if full not in str(error):
            raise
        place = getattr(error, "filename", None) or "the output folder"
        print(f"error: {place}: {full}; what was finished before is whole", file=sys.stderr)
        sys.exit(2)


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
