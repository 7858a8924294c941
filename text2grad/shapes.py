"""What a JSON file must hold before its figures are used: another format is one line, no traceback.

A shape is a kind of value (`NUMBER`, `TEXT`, `TRUTH`), `Maybe` of a shape where null is allowed, a
list with a shape per item, or an object: a shape per key, "name?" for a key that may be missing
and "*" for all keys that are not named.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text2grad.schema import UserError

NUMBER, TEXT, TRUTH = "a number", "a text", "true or false"
_TYPES = {NUMBER: (int, float), TEXT: (str,), TRUTH: (bool,)}


@dataclass(frozen=True)
class Maybe:
    """Null, or a value of this shape."""

    shape: Any


def check_shape(value: Any, shape: Any, source: str, advice: str) -> None:
    """Refuse what is not of the shape.

    Args:
        value: what was read.
        shape: see above.
        source: flag and file, for the message.
        advice: what to do about it.

    Raises:
        UserError: naming the first key that is missing or holds something else.
    """
    fault = next(find_faults(value, shape), "")
    if fault:
        raise UserError(f"{source}: {fault}; {advice}")


def find_faults(value: Any, shape: Any, key: str = "") -> Iterator[str]:
    """What is wrong with `value`, found under `key`.

    Example: {"a": {"b": "x"}} where {"a": {"b": NUMBER}} is wanted -> 'the key "a.b" holds "x",
    expected a number'
    """
    if isinstance(shape, Maybe):
        if value is not None:
            yield from find_faults(value, shape.shape, key)
    elif isinstance(shape, str):
        right = _TYPES[shape]
        if not isinstance(value, right) or (isinstance(value, bool) and bool not in right):
            yield _unexpected(key, value, shape)
    elif isinstance(shape, Sequence):
        if not isinstance(value, list) or len(value) != len(shape):
            yield _unexpected(key, value, f"a list of {len(shape)}")
            return
        for place, (item, wanted) in enumerate(zip(value, shape, strict=True)):
            yield from find_faults(item, wanted, f"{key}.{place}")
    elif isinstance(value, Mapping):
        yield from _faults_of_keys(value, shape, f"{key}." if key else "")
    else:
        yield _unexpected(key, value, "an object")


def _faults_of_keys(value: Mapping[str, Any], shape: Mapping[str, Any], prefix: str) -> Iterator:
    for name, wanted in shape.items():
        plain = name.removesuffix("?")
        if plain in value:
            yield from find_faults(value[plain], wanted, f"{prefix}{plain}")
        elif name == plain != "*":
            yield f'the key "{prefix}{name}" is missing'
    named = {name.removesuffix("?") for name in shape}
    for name in value if "*" in shape else ():
        if name not in named:
            yield from find_faults(value[name], shape["*"], f"{prefix}{name}")


def _unexpected(key: str, value: Any, wanted: str) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
    return f'the key "{key}" holds {shown}, expected {wanted}'
