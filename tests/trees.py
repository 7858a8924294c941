"""The scripts and shells of the three trees, and what a command line asks of them.

Tests say `from trees import SCRIPTS, check_flags, load_args`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

ROOT = Path(__file__).resolve().parent.parent
# what a shell knows of processes and machines: of no effect where there is one
LAUNCH = {"GPUS", "NODES", "SLOTS", "HOSTFILE", "NODE_RANK", "MAIN_ADDRESS", "MAIN_PORT"}
TREES = ("RM_Data_Anno", "NL_Reward_Model", "NL_Gradient_Policy_Optimization")
SCRIPTS = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.py"))
PAPER = sorted((ROOT / "paper").glob("*.py"))
SHELLS = sorted(path for tree in TREES for path in (ROOT / tree).rglob("*.sh"))


def relative(path: Path) -> str:
    """The path as a test's id."""
    return str(path.relative_to(ROOT))


def load_args(script: Path) -> type:
    """The `Args` class of a script, which is imported without being run."""
    name = "script_" + re.sub(r"\W", "_", relative(script))
    spec = importlib.util.spec_from_file_location(name, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.Args


def flag_names(args_type: type) -> set[str]:
    """Every spelling of a flag that `args_type` takes, without dashes; nested ones as a.b."""
    kinds = get_type_hints(args_type)
    names = set(getattr(args_type, "ALIASES", {}))
    for one in fields(args_type):
        names.add(one.name)
        if hasattr(kinds[one.name], "__dataclass_fields__"):
            names |= {f"{one.name}.{inner.name}" for inner in fields(kinds[one.name])}
    return names


def flags_in(words: Sequence[str]) -> list[str]:
    """The flags among the words of a command, without dashes and values."""
    return [word[2:].partition("=")[0] for word in words if word.startswith("--")]


def check_flags(script: Path, words: Sequence[str]) -> None:
    """Every flag among `words` is one of the script's."""
    unknown = set(flags_in(words)) - flag_names(load_args(script))
    assert not unknown, f"{relative(script)} has no flag {sorted(unknown)}"


def dry_run(shell: Path, *arguments: str, **environment: str) -> list[tuple[Path, list[str]]]:
    """The scripts that a shell would start, each with the words that follow it."""
    given = {"DRY_RUN": "1", "PYTHON": "python", "GPUS": "0"}
    done = subprocess.run(
        ["bash", str(shell), *arguments],
        env={"PATH": os.environ["PATH"]} | given | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
        cwd="/",
    )
    started = []
    for line in done.stdout.splitlines():
        words = shlex.split(line)
        place = next(number for number, word in enumerate(words) if word.endswith(".py"))
        started.append((Path(words[1]) / words[place], words[place + 1 :]))  # cd FOLDER && ...
    return started
