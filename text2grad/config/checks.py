"""Bounds of flags; every message names the flag."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

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


def server_address(args: Any, name: str) -> None:
    """The named flag is "", or the address of a server, without a secret in it."""
    value = getattr(args, name)
    try:
        address = urlsplit(value)
        port = address.port
    except ValueError as error:
        raise UserError(f"--{name}: no address: {error}") from error
    if address.username or address.password or address.query:
        raise UserError(
            f"--{name} of {address.hostname}: must not hold a key, a password or a query; "
            "the key is read from OPENAI_API_KEY"
        )
    if value and (address.scheme not in ("http", "https") or not address.hostname):
        shown = "" if "@" in value else f" {value}"
        raise UserError(
            f"--{name}{shown}: no address; it starts with http:// or https://, for example "
            f"http://localhost:{port or 8000}/v1"
        )
