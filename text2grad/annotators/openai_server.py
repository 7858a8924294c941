"""Annotator that asks a model behind any server with OpenAI's chat interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.annotators.verdict import tests_verdict
from text2grad.batch_client import BatchClient
from text2grad.chat_client import ChatClient, response_format
from text2grad.files import sha256_text, side_file
from text2grad.parsing import parse_reply
from text2grad.schema import Record
from text2grad.tasks import TaskSpec

if TYPE_CHECKING:
    from text2grad.config import AnnotateConfig

_HUMAN_FEEDBACK = """
<feedback_of_a_person>
{text}
</feedback_of_a_person>
The person's feedback is about the same text. Rely on it where it is right, and add what it misses.
"""


class OpenAIAnnotator:
    """Critiques from a chat model, several requests at once (see `ChatClient`) or as a batch.

    Args:
        task: gives keys, labels and the prompt.
        args: flags of the annotation script.

    Attributes:
        client: who asks; has the ledger.

    Raises:
        UserError: the prompt file or the price file is wrong.
    """

    is_costly = True

    def __init__(self, task: TaskSpec, args: AnnotateConfig) -> None:
        self._task = task
        self._args = args
        kind = "annotation" if args.cot else "annotation_no_cot"
        kind = "annotation_dense" if args.density == "dense" else kind
        self._template = task.prompt_template(kind, args.prompt_file)
        self._schema = reply_schema(task, args.cot)
        self.client = ChatClient(
            args,
            args.annotator_model,
            "--annotator_model",
            self._schema,
            without_key="; --annotator reference needs neither",
        )

    def provenance(self) -> dict[str, Any]:
        """What the annotated record says about its annotator."""
        samples = self._args.samples_per_record
        several = {"samples_per_record": samples} if samples > 1 else {}
        return {
            "annotator": "openai",
            "model": self._args.annotator_model,
            "prompt_sha": sha256_text(self._template.text)[:16],
            "cot": self._args.cot,
            "temperature": self._args.temperature,
            "top_p": self._args.top_p,
            **several,
        }

    def key(self, record: Record) -> str:
        """Hash of the rendered prompt, the model, the sampling parameters and the schema."""
        args = self._args
        settings = (args.annotator_model, args.temperature, args.top_p, args.max_tokens)
        return sha256_text(self.prompt(record), json.dumps(settings), json.dumps(self._schema))

    def prompt(self, record: Record) -> str:
        """The text that is sent for a record; its texts are inserted as they are.

        Raises:
            UserError: the prompt tells what the tests said, and the record does not.
        """
        feedback = record.human_feedback if self._args.ground_in_human_feedback else ""
        slots = {"prompt": record.prompt, "response": record.response}
        if "human_feedback" in self._template.slots:
            slots["human_feedback"] = _HUMAN_FEEDBACK.format(text=feedback) if feedback else ""
        if "test_report" in self._template.slots:
            slots["test_report"] = tests_verdict(record)
        return self._template.render(**slots)

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One answer per record, in order; `done` gets each as it comes.

        Raises:
            UserError: see `ChatClient.ask` and `BatchClient.ask`.
        """
        args = self._args
        client: ChatClient | BatchClient = self.client
        if args.batch_api:
            state = side_file(args.output_path, ".batch.json")
            client = BatchClient(self.client, state, args.batch_poll_seconds)
        # made as they are sent: 60,000 rendered prompts take more memory than the records
        prompts = (self.prompt(record) for record in records)
        return client.ask(prompts, lambda reply: parse_reply(reply, self._task), done)


def reply_schema(task: TaskSpec, cot: bool) -> dict[str, Any]:
    """The `response_format` that makes a server answer in the task's JSON, reasoning first."""
    text, quotes = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
    properties: dict[str, Any] = {"reasoning": text} if cot else {}
    properties[task.critique_keys[0]] = text
    properties |= {label.key: quotes for label in task.labels}
    return response_format("feedback", properties)
