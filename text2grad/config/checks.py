"""Bounds of flags; every message names the flag."""

from __future__ import annotations

from typing import Any

from text2grad.schema import UserError


def at_least(args: Any, minimum: float, *names: str) -> None:
    """Each named flag is `minimum` or more."""
    for name in names:
        if not getattr(args, name) >= minimum:
            raise UserError(f"--{name} {getattr(args, name)}: must be {minimum} or more")


def above(args: Any, bound: float, *names: str) -> None:
    """Each named flag is more than `bound`."""
    for name in names:
        if not getattr(args, name) > bound:
            raise UserError(f"--{name} {getattr(args, name)}: must be more than {bound}")


def fraction(args: Any, *names: str) -> None:
    """Each named flag lies in [0, 1]."""
    for name in names:
        if not 0 <= getattr(args, name) <= 1:
            raise UserError(f"--{name} {getattr(args, name)}: must lie between 0 and 1")


def draws(args: Any) -> None:
    """The flag `k` holds numbers of 1 or more."""
    if not args.k or min(args.k) < 1:
        raise UserError(f"--k {' '.join(map(str, args.k)) or '(none)'}: must be 1 or more")
