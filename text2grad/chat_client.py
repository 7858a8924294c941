"""A chat model behind any server with OpenAI's interface: many prompts at once, replies parsed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import openai
from tqdm import tqdm

from text2grad.chat_errors import NotJSON, Trouble, decode_reply, read_trouble, server_words
from text2grad.chat_request import (
    AskingRules,
    Message,
    Prompt,
    Reply,
    RequestShape,
    ServerFlags,
    connection,
    conversation,
    most_usage,
    object_schema,
    read_reply,
    response_format,
)
from text2grad.dispatch import Later, backoff_seconds, dispatch
from text2grad.ledger import Ledger, Prices, Usage
from text2grad.resumable import Inbox, as_inbox
from text2grad.schema import Unparseable, UserError

__all__ = ["ChatClient", "object_schema", "parse_message", "response_format"]

_FAILURES = (openai.APIError, asyncio.TimeoutError, NotJSON)
_FAILURES_IN_A_ROW = 20  # of the server, not of parsing; then the run stops
_BUSY_RETRIES = 3  # times --max_retries
_FULL_SECONDS = 0.2  # until money that is set aside for others may be free
_RULES = AskingRules()

Answer = Any
"""what `parse` makes of a reply, or an `Unparseable`"""

Parse = Callable[[str], Answer]


@dataclass
class Question:
    """A prompt, its place among the prompts, and a first reply that could not be read."""

    place: int
    prompt: Prompt
    unreadable: Unparseable | None = None


@dataclass
class _Question(Question):
    """One with the times that it failed."""

    failures: int = 0
    refusals: int = 0


class ChatClient:
    """Asks a chat model, several requests at once.

    Requests that may succeed later are sent again, those of a busy server when it says so. A reply
    that cannot be parsed is asked for once more, with what was wrong; then it is a failure with a
    reason, never data. What no repeat can mend (key, quota, unknown model, no server, the bound of
    the cost) stops the run.

    Args:
        flags: how the server is asked.
        model: its name there.
        model_flag: the flag that named it, for messages.
        schema: a `response_format`; servers that do not know it are asked without.
        without_key: what else the user can do who has neither key nor server, for messages.
        rules: how it asks.

    Attributes:
        ledger: tokens and money.
        shape: what is sent, without what the server has refused.
        server: its address as messages name it.
        in_a_row: failed attempts since the last reply.

    Raises:
        UserError: the price file is wrong, or there is a bound of the cost and no price.
    """

    def __init__(
        self,
        flags: ServerFlags,
        model: str,
        model_flag: str,
        schema: dict[str, Any] | None = None,
        without_key: str = "",
        rules: AskingRules = _RULES,
    ) -> None:
        self.flags, self.model, self.rules = flags, model, rules
        self.ledger = Ledger(Prices.read(flags.price_file), model, flags.max_cost)
        self.shape = RequestShape(flags, model, schema)
        self.without_key = without_key
        self.server = f"{rules.flag} {flags.base_url or 'of OpenAI'}"
        self._named = f"{model_flag} {model}"
        self.in_a_row, self._failures, self._reached = 0, 0, False
        self._away_since: float | None = None

    def ask(
        self,
        prompts: Iterable[Prompt],
        parse: Parse,
        done: Inbox | Callable[[int, Answer], None],
    ) -> list[Answer]:
        """One answer per prompt, in order; at the end the ledger is printed.

        Args:
            prompts: each is one user turn or several messages; may be made lazily.
            parse: makes an answer of a reply, or an `Unparseable`.
            done: gets each answer as it comes, with the place of its prompt.

        Raises:
            UserError: no key, a refused key, no quota, an unknown model, no server, many requests
                in a row that failed, or the bound of the cost. Answers given to `done` before are
                valid, and those that were under way then are given to it too.
        """
        inbox = as_inbox(done)
        self.ledger.recall(inbox.usages())
        replies = Replies(self, parse, inbox)
        try:
            asyncio.run(self._ask_all(prompts, replies))
        finally:
            if self.ledger.all.replies and self.rules.shows_ledger:
                tqdm.write(self.ledger.table())  # a progress bar is open
        return replies.in_order()

    def read_trouble(self, error: Exception) -> Trouble:
        """What a failed request means, in words that name this client's flags."""
        return read_trouble(error, self.server, self._named, self._reached)

    async def _ask_all(self, prompts: Iterable[Prompt], replies: Replies) -> None:
        questions = (
            _Question(place, prompt, replies.inbox.earlier(place))
            for place, prompt in enumerate(prompts)
        )
        first = next(questions, None)
        if first is None:
            return

        def all_questions() -> Iterable[_Question]:
            yield first
            yield from questions

        async with connection(self.flags, self.without_key) as server:
            asking = _Asking(self, server, replies)
            most = self.flags.concurrency
            await dispatch(all_questions(), asking.attempt, most, is_open=self._reached)

    async def send(self, server: openai.AsyncOpenAI, messages: Sequence[Message]) -> Any:
        """The decoded reply to one request, sent without what the server does not know.

        Raises:
            openai.APIError, asyncio.TimeoutError, NotJSON: it failed.
        """
        while True:
            body = self.shape.body(messages)
            request = server.chat.completions.with_raw_response.create(**body)
            try:
                # the SDK's own time-out starts again with every byte that comes
                raw = await asyncio.wait_for(request, self.flags.timeout_seconds)
                return decode_reply(raw.http_response)
            except openai.APIStatusError as error:
                unfit = error.status_code in (400, 422)
                if not (unfit and self.shape.leave_out(body, server_words(error))):
                    raise

    def note_reply(self) -> None:
        """The server has answered."""
        self.in_a_row, self._failures, self._reached = 0, 0, True
        self._away_since = None

    def waits_for(self, trouble: Trouble) -> bool:
        """Whether a failed request is sent again as often as it takes, as the server is away.

        Raises:
            UserError: it has been for longer than the rules allow.
        """
        patience = self.rules.patience_seconds
        if not (patience and trouble.then == "later" and trouble.away):
            self._away_since = None
            return False
        now = time.monotonic()
        since = self._away_since = now if self._away_since is None else self._away_since
        if now - since > patience:
            raise UserError(
                f"{self.server}: busy or away for more than {patience:g} seconds, the last: "
                f"{trouble.reason}{self.rules.kept}"
            )
        return True

    def give_up(self, trouble: Trouble) -> Unparseable:
        """A request that failed for good, as a value, or an error where going on is pointless."""
        # where others were answered, now or in an earlier run, a refused one is at fault itself
        if trouble.then != "never" or not self.ledger.all.replies:
            self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            raise UserError(
                f"{self.rules.flag}: {_FAILURES_IN_A_ROW} requests in a row failed, the last: "
                f"{trouble.reason}{self.rules.kept}"
            )
        return Unparseable(trouble.reason)


class Replies:
    """What one `ask` makes of the replies, whichever way they come.

    Args:
        client: keeps the ledger.
        parse: makes an answer of a reply.
        inbox: gets each answer as it comes.
    """

    def __init__(self, client: ChatClient, parse: Parse, inbox: Inbox) -> None:
        self._client, self._parse, self.inbox = client, parse, inbox
        self._answers: dict[int, Answer] = {}

    def take(
        self, question: Question, body: Any, messages: Sequence[Message], batch: bool = False
    ) -> bool:
        """Take in one reply; whether it is the question's last.

        After a first one that cannot be read the question is to be asked once more.

        Args:
            question: what it answers.
            body: the decoded reply.
            messages: what was sent.
            batch: through the batch endpoint.
        """
        reply = read_reply(body, messages, self._client.model, batch)
        self._client.ledger.add(reply.usage)
        answer = parse_message(reply, self._parse)
        again = self._client.rules.asks_again and question.unreadable is None
        if isinstance(answer, Unparseable) and again:
            self.inbox.unreadable(question.place, answer, reply.usage)
            question.unreadable = answer
            return False
        self.finish(question, answer, reply.usage)
        return True

    def finish(self, question: Question, answer: Answer, usage: Usage | None = None) -> None:
        """Give a question its answer."""
        self._answers[question.place] = answer
        self.inbox(question.place, answer, usage)

    def in_order(self) -> list[Answer]:
        """All answers, once every question has one."""
        return [self._answers[place] for place in range(len(self._answers))]


class _Asking:
    """The attempts of one `ChatClient.ask`."""

    def __init__(self, client: ChatClient, server: openai.AsyncOpenAI, replies: Replies) -> None:
        self._client, self._server, self._replies = client, server, replies

    async def attempt(self, question: _Question) -> Later | None:
        """Send a question once; when to send it again, None if it has its answer."""
        client = self._client
        messages = conversation(question.prompt, question.unreadable)
        reserved = client.ledger.reserve(most_usage(messages, client.flags, client.model))
        if reserved is None:
            return Later(_FULL_SECONDS)
        try:
            body = await client.send(self._server, messages)
        except _FAILURES as error:
            return self._failed(question, client.read_trouble(error))
        finally:
            client.ledger.release(reserved)
        client.note_reply()
        return None if self._replies.take(question, body, messages) else Later(0.0)

    def _failed(self, question: _Question, trouble: Trouble) -> Later | None:
        client = self._client
        if trouble.then == "stop":
            raise UserError(f"{trouble.reason}{client.rules.kept}")
        client.in_a_row += 1
        question.refusals += trouble.busy
        question.failures += not trouble.busy
        retries = client.flags.max_retries
        left = question.refusals <= _BUSY_RETRIES * retries and question.failures <= retries
        if client.waits_for(trouble) or (trouble.then == "later" and left):
            # where others are answered meanwhile, the server is well and longer waits help nobody
            times = min(question.refusals + question.failures, client.in_a_row)
            wait = backoff_seconds(times, random.random, trouble.retry_after)
            return Later(wait, trouble.busy)
        self._replies.finish(question, client.give_up(trouble))
        return None


def parse_message(reply: Reply, parse: Parse) -> Answer:
    """What `parse` makes of a reply, or why there is nothing to parse."""
    if reply.failure:
        return Unparseable(reply.failure, reply.text)
    answer = parse(reply.text)
    if isinstance(answer, Unparseable) and reply.is_cut:
        return Unparseable("cut off at --max_tokens", reply.text)
    return answer
