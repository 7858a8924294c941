"""What a failed request to a chat server means: stop, send it again, or give this one up."""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import openai

from text2grad.schema import UserError

KEY_VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")
LONGEST_RETRY_AFTER = 600.0  # seconds; a server that asks for more is out for this run
_SHORTEST_SECRET = 12  # placeholders such as EMPTY are shorter, and may stand in a reply
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_BUSY = (429, 503, 529)
_AWAY = (*_BUSY, 502, 504)  # the last two from what stands before a server that is down


@dataclass(frozen=True)
class Trouble:
    """A failed request.

    Attributes:
        reason: status and the server's own words, one line, without the key.
        then: "stop" where no request can succeed, "later" where this one may, "never" where only
            this one cannot.
        busy: the server has too much to do.
        retry_after: seconds that the server asks for, None if it does not say.
        away: no server, or one that takes nothing now; it says nothing about the request.
    """

    reason: str
    then: Literal["stop", "later", "never"]
    busy: bool = False
    retry_after: float | None = None
    away: bool = False


def read_trouble(error: Exception, server: str, model: str, reached: bool) -> Trouble:
    """What an exception of the SDK, a time-out, or a reply that is no JSON means.

    Args:
        error: what was raised.
        server: the flag that names it, with its value, for messages.
        model: the flag that names the model, with its value.
        reached: whether the server has answered anything before.
    """
    if isinstance(error, (openai.APITimeoutError, asyncio.TimeoutError)):
        return Trouble("timed out", "later")
    if isinstance(error, openai.APIStatusError):
        return _read_status(error, server, model)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        # the class by its name: the SDK's HTTP library is not a dependency of this project
        if type(cause).__name__ == "ConnectError" and not reached:
            return Trouble(hide_keys(f"{server}: no server answers there ({cause})"), "stop")
        said = f"{type(cause).__name__} {cause}".strip().split("\n")[0]
        return Trouble(hide_keys(f"connection lost: {said}"), "later", away=True)
    if isinstance(error, openai.APIError):
        return Trouble(_describe(error), "later")
    return Trouble("the server's reply is not JSON", "later")


def read_key(variable: str) -> str:
    """The key in an environment variable, "" for none.

    Raises:
        UserError: it holds what no key holds; the SDK's own message would show it.
    """
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise UserError(f"{variable}: holds a space, a line break or a letter that no key has")
    return key


def hide_keys(text: str) -> str:
    """The text without the keys of the environment, wherever a server has repeated one."""
    for name in KEY_VARIABLES:
        key = read_key(name)
        if len(key) >= _SHORTEST_SECRET:
            text = text.replace(key, "***")
    return text


def retry_after_seconds(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that a server asks to wait: `retry-after-ms`, or `retry-after` as number or date.

    Args:
        headers: of its reply.
        now: seconds since 1970, for a date.
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    parsed = email.utils.parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, email.utils.mktime_tz(parsed) - now) if parsed else None


def _read_status(error: openai.APIStatusError, server: str, model: str) -> Trouble:
    said = _describe(error)
    status, code = error.status_code, error.code or error.type or ""
    if status in (401, 403):
        names = " or ".join(name for name in KEY_VARIABLES if os.environ.get(name)) or "no key"
        return Trouble(f"{server}: the key in {names} was refused ({said})", "stop")
    if status == 404:
        return Trouble(f"{model}: not known at {server} ({said})", "stop")
    if status == 402 or (status == 429 and code in _NO_CREDIT):
        return Trouble(f"{server}: the account has no quota left ({said})", "stop")
    wait = retry_after_seconds(error.response.headers, time.time())
    if wait is not None and wait > LONGEST_RETRY_AFTER:
        return Trouble(f"{server}: asks to come back in {wait / 60:.0f} minutes ({said})", "stop")
    # not a standard header, but OpenAI's servers say by it what they know better
    advice = error.response.headers.get("x-should-retry", "")
    again = status in (408, 409, 429) or status >= 500
    if advice in ("true", "false"):
        again = advice == "true"
    busy = status in _BUSY or wait is not None
    then, away = "later" if again else "never", again and status in _AWAY
    return Trouble(said, then, again and busy, wait, away)


def _describe(error: openai.APIError) -> str:
    status = getattr(error, "status_code", "")
    body = error.body if isinstance(error.body, dict) else {}
    said = hide_keys(str(body.get("message") or error.message)).split("\n")[0][:200]
    return f"{status} {said}".strip()
