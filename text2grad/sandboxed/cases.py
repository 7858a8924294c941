"""Test functions without arguments: called one after the other, without pytest."""

from __future__ import annotations

from typing import Any

from text2grad.sandboxed.recorder import Recorder


def run_functions(module: Any, names: list[str], recorder: Recorder) -> None:
    """Call the named functions of a loaded test module."""
    for name in names:
        function = vars(module).get(name)
        if callable(function):
            recorder.run(name, function)
