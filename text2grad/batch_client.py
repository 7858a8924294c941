"""The provider's batch endpoint: many requests in one file, cheaper, answered within a day."""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from tqdm import tqdm

from text2grad.chat_client import Answer, ChatClient, Parse, Question, Replies
from text2grad.chat_errors import NotJSON, decode_json, error_in, hide_keys, said_in
from text2grad.chat_request import Message, connection, conversation, most_usage
from text2grad.files import Row, read_rows, write_rows
from text2grad.ledger import Usage
from text2grad.resumable import Inbox, as_inbox
from text2grad.schema import Unparseable, UserError

ENDPOINT, AZURE_ENDPOINT = "/v1/chat/completions", "/chat/completions"
MOST_REQUESTS, MOST_BYTES = 50_000, 150_000_000  # of one file; the provider takes 200 MB
_ENDED = ("completed", "failed", "expired", "cancelled")
_TAG = "text2grad"  # key of the metadata by which a batch is found again


@dataclass
class _Question(Question):
    """One with what names it in every run."""

    key: str = ""

    @property
    def name(self) -> str:
        """The id of its request: the key, and which time it is asked."""
        return f"{self.key}-{1 if self.unreadable is None else 2}"

    @property
    def messages(self) -> list[Message]:
        """What is sent."""
        return conversation(self.prompt, self.unreadable)


class BatchClient:
    """Asks through the batch endpoint; the same `ask` as `ChatClient`, the same answers.

    What is under way is kept in a file before and after it is submitted, so that a run that was
    killed at any moment, or that has left, finds its batches again and pays for nothing twice. A
    reply that cannot be read is asked for once more in a second batch.

    Args:
        client: the model, its flags and its ledger.
        state: file of the batches under way.
        poll_seconds: time between two looks; 0 looks once and leaves.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: ChatClient,
        state: Path,
        poll_seconds: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.client, self.state = client, state
        self.endpoint = AZURE_ENDPOINT if client.flags.api_version else ENDPOINT
        self._poll_seconds, self._sleep = poll_seconds, sleep

    def ask(
        self, prompts: Iterable[str], parse: Parse, done: Inbox | Callable[[int, Answer], None]
    ) -> list[Answer]:
        """One answer per prompt, in order; at the end the ledger is printed.

        Args:
            prompts: each is one user turn.
            parse: makes an answer of a reply, or an `Unparseable`.
            done: gets each answer as it comes; names the questions across runs.

        Raises:
            UserError: the server has no batch endpoint or refuses the batch, the bound of the
                cost does not allow it, or `poll_seconds` is 0 and answers are missing.
        """
        inbox, client = as_inbox(done), self.client
        client.ledger.recall(inbox.usages())
        replies = Replies(client, parse, inbox)
        waiting = {
            inbox.key(place): _Question(place, prompt, inbox.earlier(place), inbox.key(place))
            for place, prompt in enumerate(prompts)
        }
        if not waiting:
            return []
        try:
            with connection(client.flags, client.without_key, asynchronous=False) as server:
                asking = _Asking(self, server, waiting, replies)
                while asking.round():
                    self._sleep_or_leave(asking)
        except openai.NotFoundError as error:
            raise UserError(
                f"--batch_api: no batch endpoint at {client.server}, or it does not know a batch "
                f"of {self.state} (remove that file to submit anew)"
            ) from error
        except (openai.APIError, json.JSONDecodeError, NotJSON) as error:
            reason = client.read_trouble(error).reason
            raise UserError(f"--batch_api: {reason}; what was answered is kept") from error
        finally:
            if client.ledger.all.replies:
                tqdm.write(client.ledger.table())
        return replies.in_order()

    def _sleep_or_leave(self, asking: _Asking) -> None:
        if asking.has_fresh():
            return
        if self._poll_seconds:
            self._sleep(self._poll_seconds)
            return
        names = ", ".join(batch["batch_id"] for batch in asking.batches)
        raise UserError(
            f"--batch_api: {len(asking.waiting)} answers are still to come, from {names}; the same "
            "command fetches them"
        )


class _Asking:
    """One `BatchClient.ask`.

    Attributes:
        waiting: questions without an answer, by key.
        batches: those under way, as the state file holds them.
    """

    def __init__(
        self,
        owner: BatchClient,
        server: openai.OpenAI,
        waiting: dict[str, _Question],
        replies: Replies,
    ) -> None:
        self._client, self._state, self._server = owner.client, owner.state, server
        self._endpoint = owner.endpoint
        self.waiting = waiting
        self._replies = replies
        self._shown: dict[str, str] = {}
        self.batches = self._under_way()

    def round(self) -> bool:
        """Submit what is in no batch, take in what has ended; whether answers are missing still."""
        self._submit()
        for batch in list(self.batches):
            found = self._server.batches.retrieve(batch["batch_id"])
            self._show(found)
            if found.status not in _ENDED:
                continue
            self._client.ledger.release(batch["at_most"])
            self._collect(found, batch)
            self._keep([other for other in self.batches if other is not batch])
            if found.status == "failed":
                raise UserError(f"--batch_api: batch {found.id} was refused: {_refusal(found)}")
        return bool(self.waiting)

    def has_fresh(self) -> bool:
        """Whether a question is in no batch."""
        return bool(self._fresh())

    def _fresh(self) -> list[_Question]:
        sent = {name for batch in self.batches for name in batch["requests"]}
        return [question for question in self.waiting.values() if question.name not in sent]

    def _under_way(self) -> list[Row]:
        """The batches of earlier runs; one submitted just before a kill is looked up by its tag."""
        batches = read_rows(self._state, "--output_path") if self._state.exists() else []
        if not all(batch["batch_id"] for batch in batches):
            listed = self._server.batches.list(limit=100).data
            known = {(found.metadata or {}).get(_TAG): found.id for found in listed}
            ids = [batch["batch_id"] or known.get(batch["tag"], "") for batch in batches]
            batches = [{**b, "batch_id": i} for b, i in zip(batches, ids, strict=True) if i]
            self._keep(batches)
        for batch in batches:
            self._client.ledger.hold(batch["at_most"])
        return batches

    def _submit(self) -> None:
        """New batches for the questions that are in none, each kept before it is sent."""
        for questions, lines in _files(self._fresh(), self._line):
            most = [
                most_usage(q.messages, self._client.flags, self._client.model) for q in questions
            ]
            total = Usage(
                self._client.model, sum(u.input for u in most), 0, sum(u.output for u in most), True
            )
            cost = self._client.ledger.reserve(total, waits=False)
            names = [question.name for question in questions]
            batch = {"tag": uuid.uuid4().hex, "batch_id": "", "at_most": cost, "requests": names}
            before = self.batches
            self._keep([*before, batch])
            upload = ("requests.jsonl", io.BytesIO(b"".join(lines)))
            file = self._server.files.create(file=upload, purpose="batch")
            found = self._server.batches.create(
                completion_window="24h",
                endpoint=self._endpoint,
                input_file_id=file.id,
                metadata={_TAG: batch["tag"]},
            )
            self._keep([*before, {**batch, "batch_id": found.id}])

    def _line(self, question: _Question) -> bytes:
        body = self._client.shape.body(question.messages)
        row = {"custom_id": question.name, "method": "POST", "url": self._endpoint}
        return json.dumps({**row, "body": body}).encode() + b"\n"

    def _collect(self, found: Any, batch: Row) -> None:
        """Take in what an ended batch holds."""
        of_name = {question.name: question for question in self.waiting.values()}
        sent = self._client.shape.body([])
        for file in filter(None, (found.output_file_id, found.error_file_id)):
            for line in self._server.files.content(file).text.split("\n"):
                row = decode_json(line) if line.strip() else {}
                question = of_name.pop(row.get("custom_id"), None)
                if question:
                    self._take(question, row, sent)
        if found.status != "failed":
            for name in batch["requests"]:
                if name in of_name:
                    self._finish(of_name[name], Unparseable(f"batch {found.status}"))

    def _take(self, question: _Question, row: Row, sent: Row) -> None:
        client, response = self._client, row.get("response") or {}
        if response.get("status_code") != 200 or error_in(response.get("body")):
            told = said_in(row.get("error") or response.get("body")) or "no reason given"
            if not client.shape.leave_out(sent, told):
                status = response.get("status_code", "")
                self._finish(question, Unparseable(f"batch: {status} {told}"))
            return
        if self._replies.take(question, response.get("body"), question.messages, batch=True):
            del self.waiting[question.key]

    def _finish(self, question: _Question, answer: Answer) -> None:
        del self.waiting[question.key]
        self._replies.finish(question, answer)

    def _keep(self, batches: Sequence[Row]) -> None:
        self.batches = list(batches)
        if batches:
            write_rows(self._state, batches)
        else:
            self._state.unlink(missing_ok=True)

    def _show(self, found: Any) -> None:
        counts, told = found.request_counts, f"batch {found.id}: {found.status}"
        if counts:
            told += f", {counts.completed + counts.failed} of {counts.total} requests"
        if told != self._shown.get(found.id):
            tqdm.write(told, file=sys.stderr)
        self._shown[found.id] = told


def _refusal(found: Any) -> str:
    errors = getattr(found.errors, "data", None) or []
    return hide_keys("; ".join(str(error.message) for error in errors) or "no reason given")


def _files(
    questions: Iterable[_Question], line_of: Callable[[_Question], bytes]
) -> Iterator[tuple[list[_Question], list[bytes]]]:
    """The questions with their lines, in files that the provider takes."""
    group: list[_Question] = []
    lines: list[bytes] = []
    size = 0
    for question in questions:
        line = line_of(question)
        if group and (len(group) == MOST_REQUESTS or size + len(line) > MOST_BYTES):
            yield group, lines
            group, lines, size = [], [], 0
        group.append(question)
        lines.append(line)
        size += len(line)
    if group:
        yield group, lines
