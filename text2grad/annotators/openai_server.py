"""Annotator that asks a model behind any server with OpenAI's chat interface."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.files import sha256_text
from text2grad.parsing import parse_reply
from text2grad.schema import Record, Unparseable, UserError
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import AnnotateConfig

KEY_VARIABLE = "OPENAI_API_KEY"
_FAILURES_IN_A_ROW = 20  # of the server, not of parsing; then the run stops
_HUMAN_FEEDBACK = """
<feedback_of_a_person>
{text}
</feedback_of_a_person>
The person's feedback is about this summary. Rely on it where it is right, and add what it misses.
"""


@dataclass(frozen=True)
class _Question:
    """One request: the rendered prompt, and its place among the records."""

    place: int
    text: str


class OpenAIAnnotator:
    """Critiques from a chat model, several requests at once.

    The SDK repeats requests that may succeed later (busy server, time-out). A reply that cannot be
    parsed is asked for once more; then it is a failure with a reason, never data. What no repeat
    can mend (key, quota, unknown model, no server) stops the run.

    Args:
        task: gives keys, labels and the prompt.
        args: flags of the annotation script.

    Raises:
        UserError: the prompt file is wrong.
    """

    is_costly = True

    def __init__(self, task: TaskSpec, args: AnnotateConfig) -> None:
        self._task = task
        self._args = args
        kind = "annotation" if args.cot else "annotation_no_cot"
        self._template = task.prompt_template(kind, args.prompt_file)
        self._schema: dict[str, Any] | None = reply_schema(task, args.cot)
        self._limit = "max_tokens"
        self._failures = 0

    def provenance(self) -> dict[str, Any]:
        """What the annotated record says about its annotator."""
        return {
            "annotator": "openai",
            "model": self._args.annotator_model,
            "prompt_sha": sha256_text(self._template.text)[:16],
            "cot": self._args.cot,
            "temperature": self._args.temperature,
            "top_p": self._args.top_p,
        }

    def key(self, record: Record) -> str:
        """Hash of the rendered prompt, the model and the sampling parameters."""
        args = self._args
        settings = (args.annotator_model, args.temperature, args.top_p, args.max_tokens)
        return sha256_text(self.prompt(record), json.dumps(settings))

    def prompt(self, record: Record) -> str:
        """The text that is sent for a record; its texts are inserted as they are."""
        feedback = record.human_feedback if self._args.ground_in_human_feedback else ""
        slots = {"prompt": record.prompt, "response": record.response}
        if "human_feedback" in self._template.slots:
            slots["human_feedback"] = _HUMAN_FEEDBACK.format(text=feedback) if feedback else ""
        return self._template.render(**slots)

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One answer per record, in order; `done` gets each as it comes.

        Raises:
            UserError: no key, a refused key, no quota, an unknown model, no server, or many
                requests in a row that failed. Answers given to `done` before are valid.
        """
        questions = [_Question(place, self.prompt(r)) for place, r in enumerate(records)]
        return asyncio.run(self._ask_all(questions, done))

    async def _ask_all(self, questions: Sequence[_Question], done: OnAnswer) -> list[Answer]:
        answers: dict[int, Answer] = {}
        waiting = iter(questions)

        async def work(client: openai.AsyncOpenAI) -> None:
            for question in waiting:
                answer = await self._ask(client, question.text)
                answers[question.place] = answer
                done(question.place, answer)

        async with self._client() as client:
            # The first request alone: a wrong key or model costs one request, not --concurrency.
            workers = min(self._args.concurrency, len(questions))
            first = next(waiting, None)
            if first is not None:
                answers[first.place] = await self._ask(client, first.text)
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
        if not key and not self._args.base_url:
            raise UserError(
                f"--annotator openai needs the environment variable {KEY_VARIABLE}, or --base_url "
                "of an own server; --annotator reference needs neither"
            )
        return openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self._args.base_url or None,
            timeout=self._args.timeout_seconds,
            max_retries=self._args.max_retries,
        )

    async def _ask(self, client: openai.AsyncOpenAI, text: str) -> Answer:
        """One answer; an unparseable reply is asked for once more."""
        answer: Answer = Unparseable("not asked")
        for _ in range(2):
            try:
                reply = await self._complete(client, text)
            except openai.APIError as error:
                return self._failed(error)
            self._failures = 0
            answer = self._parse(reply)
            if not isinstance(answer, Unparseable):
                break
        return answer

    async def _complete(self, client: openai.AsyncOpenAI, text: str) -> Any:
        """One reply. What the server does not know of the request is left out from then on."""
        while True:
            schema, limit = self._schema, self._limit
            settings: dict[str, Any] = {
                "model": self._args.annotator_model,
                "messages": [{"role": "user", "content": text}],
                "temperature": self._args.temperature,
                "top_p": self._args.top_p,
                limit: self._args.max_tokens,
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

    def _parse(self, reply: Any) -> Answer:
        choice = reply.choices[0] if getattr(reply, "choices", None) else None
        if choice is None:
            return Unparseable("reply without a message", str(reply)[:500])
        content = choice.message.content or ""
        refusal = getattr(choice.message, "refusal", None)
        if refusal and not content:
            return Unparseable("refused by the model", refusal)
        answer = parse_reply(content, self._task)
        if isinstance(answer, Unparseable) and choice.finish_reason == "length":
            return Unparseable("cut off at --max_tokens", content)
        return answer

    def _failed(self, error: openai.APIError) -> Unparseable:
        """The failure as a value, or an error where going on is pointless."""
        stop = _stop_message(error, self._args)
        self._failures += 1
        reason = "timed out" if isinstance(error, openai.APITimeoutError) else _describe(error)
        if not stop and self._failures >= _FAILURES_IN_A_ROW:
            stop = f"--base_url: {self._failures} requests in a row failed, the last: {reason}"
        if stop:
            raise UserError(f"{stop}; what was answered is kept") from error
        return Unparseable(reason)


def reply_schema(task: TaskSpec, cot: bool) -> dict[str, Any]:
    """The `response_format` that makes a server answer in the task's JSON, reasoning first."""
    text, quotes = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Any] = {"reasoning": text} if cot else {}
    properties[task.critique_keys[0]] = text
    properties |= {label.key: quotes for label in task.labels}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "feedback", "strict": True, "schema": schema},
    }


def _stop_message(error: openai.APIError, args: AnnotateConfig) -> str:
    """Why no further request can succeed, "" if one may."""
    server = args.base_url or "OpenAI's server"
    if isinstance(error, openai.APIConnectionError) and not isinstance(
        error, openai.APITimeoutError
    ):
        return f"--base_url {server}: no server answers there ({error.__cause__ or error})"
    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        return f"--base_url {server}: the key in {KEY_VARIABLE} was refused ({_describe(error)})"
    if isinstance(error, openai.NotFoundError):
        return (
            f"--annotator_model {args.annotator_model}: not known at --base_url {server} "
            f"({_describe(error)})"
        )
    if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
        return f"--base_url {server}: the account has no quota left"
    return ""


def _describe(error: openai.APIError) -> str:
    """Status and the server's own words on one line, without the key if it repeats it."""
    status = getattr(error, "status_code", "")
    body = error.body if isinstance(error.body, dict) else {}
    said = str(body.get("message") or error.message).split("\n")[0][:200]
    key = os.environ.get(KEY_VARIABLE, "")
    return f"{status} {said.replace(key, '***') if key else said}".strip()
