"""One request to a chat server, and what its reply holds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import openai
from tqdm import tqdm

from text2grad.chat_errors import KEY_VARIABLES, hide_keys, read_key
from text2grad.ledger import Usage, estimate_tokens
from text2grad.schema import Unparseable, UserError, utf8_text

Message = dict[str, str]
Prompt = str | Sequence[Message]
"""one user turn, or several messages"""

_AGAIN = (
    "This reply cannot be used ({reason}). Answer the request above once more, in exactly the form "
    "that it describes; where that is a JSON object, with nothing but this one object."
)


class ServerFlags(Protocol):
    """The flags that say how a server is asked."""

    base_url: str
    api_version: str
    temperature: float
    top_p: float
    max_tokens: int
    concurrency: int
    timeout_seconds: float
    max_retries: int
    max_cost: float
    price_file: str


@dataclass(frozen=True)
class AskingRules:
    """How a client asks, where its callers differ.

    Attributes:
        flag: the flag that names the server, for messages.
        kept: what a message that stops the run says of the answers so far.
        asks_again: a reply that cannot be read is asked for once more.
        patience_seconds: how long the server may be busy or away; 0 counts its failures instead, as
            those of the requests.
        shows_ledger: print the ledger at the end of each `ChatClient.ask`.
    """

    flag: str = "--base_url"
    kept: str = "; what was answered is kept"
    asks_again: bool = True
    patience_seconds: float = 0.0
    shows_ledger: bool = True


@dataclass(frozen=True)
class Reply:
    """What a server said.

    Attributes:
        text: the message, without the key if it holds it.
        failure: why it is no answer, "" if it may be one.
        is_cut: it ended at the bound of its tokens.
        usage: tokens.
    """

    text: str
    failure: str
    is_cut: bool
    usage: Usage


class RequestShape:
    """What a server understands of a request; each thing that it refuses is left out from then on.

    Args:
        flags: sampling parameters.
        model: the model's name at the server.
        schema: a `response_format`, None to do without.
    """

    def __init__(self, flags: ServerFlags, model: str, schema: dict[str, Any] | None) -> None:
        self._settings: dict[str, Any] = {
            "model": model,
            "temperature": flags.temperature,
            "top_p": flags.top_p,
            "max_tokens": flags.max_tokens,
        }
        if schema:
            self._settings["response_format"] = schema

    def body(self, messages: Sequence[Message]) -> dict[str, Any]:
        """The body of a request."""
        return {**self._settings, "messages": list(messages)}

    def leave_out(self, sent: Mapping[str, Any], said: str) -> bool:
        """Take what the server refused out of all further requests.

        Args:
            sent: the body that it refused.
            said: its message.

        Returns:
            Whether the request is worth sending again.
        """
        if "max_tokens" in sent and "max_completion_tokens" in said:
            limit = self._settings.pop("max_tokens", sent["max_tokens"])
            self._settings["max_completion_tokens"] = limit
            return True
        if "response_format" in sent and ("response_format" in said or "schema" in said.lower()):
            self._settings.pop("response_format", None)
            return True
        for name in ("temperature", "top_p"):
            if name in sent and name in said:
                if self._settings.pop(name, None) is not None:
                    tqdm.write(
                        f"WARNING: the server does not take --{name} for this model; it samples "
                        "with its own",
                        file=sys.stderr,
                    )
                return True
        return False


def conversation(prompt: Prompt, unreadable: Unparseable | None) -> list[Message]:
    """The messages of a request: the prompt, and the second time also what was wrong before.

    Args:
        prompt: one user turn, or several messages.
        unreadable: the reply that could not be used, None for the first time.
    """
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    if unreadable is None or not unreadable.raw:
        return asked
    again = _AGAIN.format(reason=unreadable.reason)
    return [
        *asked,
        {"role": "assistant", "content": unreadable.raw},
        {"role": "user", "content": again},
    ]


def most_usage(messages: Sequence[Message], flags: ServerFlags, model: str) -> Usage:
    """About the most tokens that a request can take."""
    tokens = sum(estimate_tokens(message["content"]) for message in messages)
    return Usage(model, tokens, 0, flags.max_tokens)


def read_reply(body: Any, messages: Sequence[Message], model: str, batch: bool = False) -> Reply:
    """What the JSON of a reply holds; nothing in it is relied on.

    Args:
        body: the decoded reply.
        messages: what was asked, for an estimate where the server does not count tokens.
        model: the name that its price goes by.
        batch: asked through the batch endpoint.
    """
    choices = _get(body, "choices", list)
    choice = choices[0] if choices else None
    message = _get(choice, "message", dict)
    text = hide_keys(utf8_text(_get(message, "content", str) or ""))
    usage = _read_usage(_get(body, "usage", dict), messages, text, model, batch)
    ending = _get(choice, "finish_reason", str)
    if message is None:
        shown = hide_keys(json.dumps(body, ensure_ascii=False))[:500]
        return Reply(shown, "reply without a message", False, usage)
    refusal = hide_keys(utf8_text(_get(message, "refusal", str) or ""))
    if refusal and not text:
        return Reply(refusal, "refused by the model", False, usage)
    if ending == "content_filter":
        return Reply(text, "stopped by the server's content filter", False, usage)
    return Reply(text, "", ending == "length", usage)


def connection(flags: ServerFlags, without_key: str, asynchronous: bool = True) -> Any:
    """The SDK's client. Its own retries are off for the asynchronous one, which `dispatch` repeats.

    Args:
        flags: address, time-out, retries.
        without_key: what else the user can do who has neither key nor server, for the message.
        asynchronous: else a client that waits.

    Raises:
        UserError: OpenAI's own server or Azure, and no key in the environment.
    """
    names = KEY_VARIABLES[::-1] if flags.api_version else KEY_VARIABLES[:1]
    key = next(filter(None, map(read_key, names)), "")
    if not key and flags.api_version:
        raise UserError(
            f"--api_version: Azure needs the environment variable {names[0]}; export it"
        )
    if not (key or flags.base_url or os.environ.get("OPENAI_BASE_URL")):
        raise UserError(
            f"OpenAI's own server needs the environment variable {names[0]}; export it, or "
            f"give --base_url of an own server{without_key}"
        )
    settings: dict[str, Any] = {
        "api_key": key or "none",
        "timeout": flags.timeout_seconds,
        "max_retries": 0 if asynchronous else flags.max_retries,
    }
    if flags.api_version:
        settings["base_url"] = flags.base_url.rstrip("/").removesuffix("/openai") + "/openai"
        settings["api_version"] = flags.api_version
        return (openai.AsyncAzureOpenAI if asynchronous else openai.AzureOpenAI)(**settings)
    settings["base_url"] = flags.base_url or None
    return (openai.AsyncOpenAI if asynchronous else openai.OpenAI)(**settings)


def response_format(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """The `response_format` that makes a server answer with one JSON object of these keys."""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": object_schema(properties)},
    }


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object with exactly these keys."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _get(value: Any, key: str, kind: type) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else None


def _read_usage(
    counted: dict[str, Any] | None,
    messages: Sequence[Message],
    text: str,
    model: str,
    batch: bool,
) -> Usage:
    prompt = _get(counted, "prompt_tokens", int)
    written = _get(counted, "completion_tokens", int)
    if prompt is None or written is None:
        tokens = sum(estimate_tokens(message["content"]) for message in messages)
        return Usage(model, tokens, 0, estimate_tokens(text), batch, estimated=True)
    cached = _get(_get(counted, "prompt_tokens_details", dict), "cached_tokens", int) or 0
    return Usage(model, prompt, min(cached, prompt), written, batch)
