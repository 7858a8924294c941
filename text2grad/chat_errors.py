"""What a failed request to a chat server means: stop, send it again, or give this one up."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import json
import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import openai

from text2grad.schema import UserError, utf8_text

KEY_VARIABLES = ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY")
LONGEST_RETRY_AFTER = 600.0  # seconds; a server that asks for more is out for this run
_SHORTEST_SECRET = 12  # placeholders such as EMPTY are shorter, and may stand in a reply
_NO_CREDIT = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_BUSY = (429, 503, 529)
_AWAY = (*_BUSY, 502, 504)  # the last two from what stands before a server that is down
_UNKNOWN_MODEL = re.compile(
    r"model.{0,120}not[ _](?:found|exist)|(?:unknown|invalid|no such)[ _]model|pinned to", re.I
)
_LONGEST_WORDS = 300  # characters of what a server says
_DEEPEST_WORDS = 5  # levels of a body in which they are looked for


class NotJSON(ValueError):
    """What a server sent cannot be decoded."""


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
        return _read_status(error, server, model, reached)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__ or error
        # the class by its name: the SDK's HTTP library is not a dependency of this project
        if type(cause).__name__ == "ConnectError" and not reached:
            return Trouble(hide_keys(f"{server}: no server answers there ({cause})"), "stop")
        said = f"{type(cause).__name__} {cause}".strip().split("\n")[0]
        return Trouble(hide_keys(f"connection lost: {said}"), "later", away=True)
    if isinstance(error, openai.APIError):
        return Trouble(server_words(error), "later")
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
    """The text without the keys of the environment, wherever a server has repeated one.

    Also where it is JSON that spells a key with escapes, which whoever decodes it would undo.
    """
    for name in KEY_VARIABLES:
        key = read_key(name)
        if len(key) >= _SHORTEST_SECRET:
            text = text.replace(key, "***")
            text = _spellings(key).sub("***", text) if "\\" in text else text
    return text


def decode_json(data: str | bytes) -> Any:
    """What JSON that came from a server holds.

    Raises:
        NotJSON: it is none, or nothing that Python decodes.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # too many digits, nested too deep
        raise NotJSON("the server's reply is not JSON") from error


def decode_reply(response: Any) -> Any:
    """The decoded body of an HTTP response of status 200.

    Args:
        response: as the SDK's HTTP library gives it.

    Raises:
        NotJSON: see `decode_json`.
        openai.APIStatusError: it holds an error in place of an answer; so a relay reports what
            the server behind it said, with that one's status as the error's code.
    """
    body = decode_json(response.content)
    said = error_in(body)
    if not said:
        return body
    error = openai.APIStatusError("error in place of an answer", response=response, body=said)
    if re.fullmatch("[45][0-9][0-9]", error.code or ""):
        error.status_code = int(error.code)
    raise error


def error_in(body: Any) -> Any:
    """The error that the body of a reply holds in place of an answer, None for none."""
    return body.get("error") if isinstance(body, dict) and not body.get("choices") else None


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
    try:
        return max(0.0, email.utils.mktime_tz(parsed) - now) if parsed else None
    except (OverflowError, ValueError):  # a year that no calendar has
        return None


def server_words(error: openai.APIError) -> str:
    """Status and the server's own words, in whatever shape it sent them: one line, no key."""
    said = said_in(error.body) or said_in(getattr(getattr(error, "response", None), "text", ""))
    return f"{getattr(error, 'status_code', '')} {said or hide_keys(error.message)}".strip()


def said_in(body: Any) -> str:
    """The words in the decoded body of an error: one line, no key, "" where there are none.

    Args:
        body: {"error": {"message": ...}} as of OpenAI, {"detail": ...} with a text or a list of
            faults as of FastAPI, {"error": text}, a text, or a page.
    """
    said = _words(body, _DEEPEST_WORDS)
    if said.lstrip().startswith("<"):
        said = re.sub("<[^<>]*>", " ", said)
    return " ".join(hide_keys(utf8_text(said)).split())[:_LONGEST_WORDS]


def _read_status(error: openai.APIStatusError, server: str, model: str, reached: bool) -> Trouble:
    said, status = server_words(error), error.status_code
    if status == 402 or error.code in _NO_CREDIT or error.type in _NO_CREDIT:
        return Trouble(f"{server}: the account has no quota left ({said})", "stop")
    # a server that has answered others with this key refuses what stands in this one
    if status == 401 or (status == 403 and not reached):
        names = " or ".join(name for name in KEY_VARIABLES if os.environ.get(name)) or "no key"
        return Trouble(f"{server}: the key in {names} was refused ({said})", "stop")
    unknown = not reached and _UNKNOWN_MODEL.search(f"{error.code} {error.type} {said}")
    if status == 404 or (status in (400, 422) and unknown):
        return Trouble(f"{model}: not known at {server} ({said})", "stop")
    wait = retry_after_seconds(error.response.headers, time.time())
    if wait is not None and wait > LONGEST_RETRY_AFTER:
        return Trouble(f"{server}: asks to come back in {wait / 60:.0f} minutes ({said})", "stop")
    # not a standard header, but OpenAI's servers say by it what they know better
    advice = error.response.headers.get("x-should-retry", "")
    again = status in (408, 409, 429) or status >= 500 or status < 400
    if advice in ("true", "false"):
        again = advice == "true"
    busy = status in _BUSY or wait is not None
    then, away = "later" if again else "never", again and status in _AWAY
    return Trouble(said, then, again and busy, wait, away)


def _words(body: Any, levels: int) -> str:
    if isinstance(body, str):
        return body
    if isinstance(body, list) and levels:
        return "; ".join(filter(None, (_words(item, levels - 1) for item in body)))
    if not isinstance(body, dict) or not levels:
        return ""
    if isinstance(body.get("msg"), str):  # one fault of a list; its other keys repeat the request
        place = body.get("loc")
        named = ".".join(map(str, place)) if isinstance(place, list) else ""
        return f"{named}: {body['msg']}" if named else body["msg"]
    found = (_words(body.get(name), levels - 1) for name in ("message", "error", "detail"))
    return next(filter(None, found), "")


@functools.lru_cache(maxsize=8)
def _spellings(key: str) -> re.Pattern[str]:
    r"""All that JSON, or a reader of almost-JSON, takes for the key: \u002d, \x2d and \/ too."""
    slashes = r"\\{1,8}"  # JSON inside JSON has more than one; a bound keeps the search linear
    letters = []
    for letter in key:
        plain = re.escape(letter) if letter.isalnum() else rf"(?:{slashes})?{re.escape(letter)}"
        letters.append(rf"(?:{plain}|{slashes}(?i:(?:u00|x){ord(letter):02x}))")
    return re.compile("".join(letters))
