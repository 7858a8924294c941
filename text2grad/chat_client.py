"""A chat model behind any server with OpenAI's interface: many prompts at once, replies parsed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import openai

from text2grad.schema import Unparseable, UserError

KEY_VARIABLE = "OPENAI_API_KEY"
_FAILURES_IN_A_ROW = 20  # of the server, not of parsing; then the run stops

Answer = Any
"""what `parse` makes of a reply, or an `Unparseable`"""


class ServerFlags(Protocol):
    """The flags that say how a server is asked."""

    base_url: str
    temperature: float
    top_p: float
    max_tokens: int
    concurrency: int
    timeout_seconds: float
    max_retries: int


@dataclass(frozen=True)
class _Question:
    """One request: the rendered prompt, and its place among the prompts."""

    place: int
    text: str


class ChatClient:
    """Asks a chat model, several requests at once.

    The SDK repeats requests that may succeed later (busy server, time-out). A reply that cannot be
    parsed is asked for once more; then it is a failure with a reason, never data. What no repeat
    can mend (key, quota, unknown model, no server) stops the run.

    Args:
        flags: how the server is asked.
        model: its name there.
        model_flag: the flag that named it, for messages.
        schema: a `response_format`; servers that do not know it are asked without.
        without_key: what else the user can do who has neither key nor server, for messages.
    """

    def __init__(
        self,
        flags: ServerFlags,
        model: str,
        model_flag: str,
        schema: dict[str, Any] | None = None,
        without_key: str = "",
    ) -> None:
        self._flags, self._model, self._model_flag = flags, model, model_flag
        self._schema = schema
        self._without_key = without_key
        self._limit = "max_tokens"
        self._failures = 0

    def ask(
        self,
        prompts: Sequence[str],
        parse: Callable[[str], Answer],
        done: Callable[[int, Answer], None],
    ) -> list[Answer]:
        """One answer per prompt, in order.

        Args:
            prompts: each is one user turn.
            parse: makes an answer of a reply, or an `Unparseable`.
            done: gets each answer as it comes, with the place of its prompt.

        Raises:
            UserError: no key, a refused key, no quota, an unknown model, no server, or many
                requests in a row that failed. Answers given to `done` before are valid.
        """
        questions = [_Question(place, text) for place, text in enumerate(prompts)]
        return asyncio.run(self._ask_all(questions, parse, done))

    async def _ask_all(
        self,
        questions: Sequence[_Question],
        parse: Callable[[str], Answer],
        done: Callable[[int, Answer], None],
    ) -> list[Answer]:
        answers: dict[int, Answer] = {}
        waiting = iter(questions)

        async def work(client: openai.AsyncOpenAI) -> None:
            for question in waiting:
                answer = await self._ask(client, question.text, parse)
                answers[question.place] = answer
                done(question.place, answer)

        async with self._client() as client:
            # The first request alone: a wrong key or model costs one request, not --concurrency.
            workers = min(self._flags.concurrency, len(questions))
            first = next(waiting, None)
            if first is not None:
                answers[first.place] = await self._ask(client, first.text, parse)
                done(first.place, answers[first.place])
            tasks = [asyncio.create_task(work(client)) for _ in range(workers)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        return [answers[question.place] for question in questions]

    def _client(self) -> openai.AsyncOpenAI:
        key = os.environ.get(KEY_VARIABLE, "")
        if not (key or self._flags.base_url or os.environ.get("OPENAI_BASE_URL")):
            raise UserError(
                f"OpenAI's own server needs the environment variable {KEY_VARIABLE}; export it, or "
                f"give --base_url of an own server{self._without_key}"
            )
        return openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self._flags.base_url or None,
            timeout=self._flags.timeout_seconds,
            max_retries=self._flags.max_retries,
        )

    async def _ask(
        self, client: openai.AsyncOpenAI, text: str, parse: Callable[[str], Answer]
    ) -> Answer:
        """One answer; an unparseable reply is asked for once more."""
        answer: Answer = Unparseable("not asked")
        for _ in range(2):
            try:
                reply = await self._complete(client, text)
            except openai.APIError as error:
                return self._failed(error)
            self._failures = 0
            answer = _parsed(reply, parse)
            if not isinstance(answer, Unparseable):
                break
        return answer

    async def _complete(self, client: openai.AsyncOpenAI, text: str) -> Any:
        """One reply. What the server does not know of the request is left out from then on."""
        while True:
            schema, limit = self._schema, self._limit
            settings: dict[str, Any] = {
                "model": self._model,
                "messages": [{"role": "user", "content": text}],
                "temperature": self._flags.temperature,
                "top_p": self._flags.top_p,
                limit: self._flags.max_tokens,
            }
            if schema:
                settings["response_format"] = schema
            try:
                return await client.chat.completions.create(**settings)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = _describe(error)
                if limit == "max_tokens" and "max_completion_tokens" in said:
                    self._limit = "max_completion_tokens"
                elif schema and ("response_format" in said or "schema" in said.lower()):
                    self._schema = None
                else:
                    raise

    def _failed(self, error: openai.APIError) -> Unparseable:
        """The failure as a value, or an error where going on is pointless."""
        stop = self._stop_message(error)
        self._failures += 1
        reason = "timed out" if isinstance(error, openai.APITimeoutError) else _describe(error)
        if not stop and self._failures >= _FAILURES_IN_A_ROW:
            stop = f"--base_url: {self._failures} requests in a row failed, the last: {reason}"
        if stop:
            raise UserError(f"{stop}; what was answered is kept") from error
        return Unparseable(reason)

    def _stop_message(self, error: openai.APIError) -> str:
        """Why no further request can succeed, "" if one may."""
        server = self._flags.base_url or "OpenAI's server"
        if isinstance(error, openai.APIConnectionError) and not isinstance(
            error, openai.APITimeoutError
        ):
            return f"--base_url {server}: no server answers there ({error.__cause__ or error})"
        if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            return (
                f"--base_url {server}: the key in {KEY_VARIABLE} was refused ({_describe(error)})"
            )
        if isinstance(error, openai.NotFoundError):
            return (
                f"{self._model_flag} {self._model}: not known at --base_url {server} "
                f"({_describe(error)})"
            )
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            return f"--base_url {server}: the account has no quota left"
        return ""


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


def _parsed(reply: Any, parse: Callable[[str], Answer]) -> Answer:
    choice = reply.choices[0] if getattr(reply, "choices", None) else None
    if choice is None:
        return Unparseable("reply without a message", str(reply)[:500])
    content = choice.message.content or ""
    refusal = getattr(choice.message, "refusal", None)
    if refusal and not content:
        return Unparseable("refused by the model", refusal)
    answer = parse(content)
    if isinstance(answer, Unparseable) and choice.finish_reason == "length":
        return Unparseable("cut off at --max_tokens", content)
    return answer


def _describe(error: openai.APIError) -> str:
    """Status and the server's own words on one line, without the key if it repeats it."""
    status = getattr(error, "status_code", "")
    body = error.body if isinstance(error.body, dict) else {}
    said = str(body.get("message") or error.message).split("\n")[0][:200]
    key = os.environ.get(KEY_VARIABLE, "")
    return f"{status} {said.replace(key, '***') if key else said}".strip()
