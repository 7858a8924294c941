"""The reward model behind a server: asked with the prompt that a local one sees."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from text2grad.annotators.openai_server import reply_schema
from text2grad.annotators.reward_prompts import ReplyStats, RewardPrompts
from text2grad.chat import COMMON_SPECIALS, PromptRenderer, TextRenderer
from text2grad.chat_client import ChatClient
from text2grad.chat_request import AskingRules
from text2grad.config import ServerConfig
from text2grad.ledger import estimate_tokens
from text2grad.schema import Feedback, Record, Unparseable
from text2grad.target_formats import TargetFormat, resolve_format
from text2grad.tasks import PromptTemplate, TaskSpec


@dataclass(frozen=True)
class ServerPlace:
    """Where the reward model is, and the flags that say so, for messages.

    Attributes:
        model: its name at the server; where that is a folder here too, its tokenizer and format
            are read from there.
        flags: how the server is asked.
        patience_seconds: how long it may be busy or away.
        model_flag, server_flag, prompt_flag, format_flag: flags of the model, of its server, of
            `prompt_max_tokens` and of `target_format`.
        kept: what a message that stops the run says of what was done so far.
    """

    model: str
    flags: ServerConfig
    patience_seconds: float
    model_flag: str = "--model_path"
    server_flag: str = "--base_url"
    prompt_flag: str = "--prompt_max_length"
    format_flag: str = "--target_format"
    kept: str = "; nothing was written"


class RewardServer:
    """Critiques responses with a reward model behind any server with OpenAI's chat interface.

    The server puts the prompt, one user turn, into the model's chat template, as is done for a
    local one. A reply is used as it is or is `Unparseable`; it is not asked for again, since the
    reward model has never seen such a conversation.

    Args:
        task: gives the prompt's wording, keys and labels.
        place: where the model is.
        prompt_max_tokens: a longer post is shortened inside the post; counted by the model's
            tokenizer where it is at hand, else estimated.
        prompt_file: own wording of the prompt.
        target_format: what the model was trained to write, "" for what its folder says.
        json_schema: ask for JSON of the task's keys by schema.

    Attributes:
        stats: how the last replies were written.

    Raises:
        UserError: unusable folder, prompt file or format.
    """

    constrained = False

    def __init__(
        self,
        task: TaskSpec,
        place: ServerPlace,
        *,
        prompt_max_tokens: int,
        prompt_file: str = "",
        target_format: str = "",
        json_schema: bool = True,
    ) -> None:
        self.format = resolve_format(
            place.model, place.model_flag, target_format, place.format_flag
        )
        template = task.prompt_template(self.format.prompt, prompt_file)
        renderer = _renderer(place, template, prompt_max_tokens)
        self._prompts = RewardPrompts(task, renderer)
        rules = AskingRules(
            place.server_flag,
            place.kept,
            asks_again=False,
            patience_seconds=place.patience_seconds,
            shows_ledger=False,
        )
        self._client = ChatClient(
            place.flags,
            place.model,
            place.model_flag,
            _schema(task, self.format) if json_schema else None,
            rules=rules,
        )
        self.stats = ReplyStats()

    def annotate(
        self, records: Sequence[Record], progress: bool = False
    ) -> list[Feedback | Unparseable]:
        """One feedback per record, in order.

        Raises:
            UserError: see `ChatClient.ask`.
        """
        started, written = time.perf_counter(), self._client.ledger.run.output
        prompts, judged, too_long = self._prompts.show(records)
        with tqdm(total=len(records), desc="judging", unit="reply", disable=not progress) as bar:
            bar.update(len(too_long))
            texts = [prompt.text for prompt in prompts.values()]
            replies = self._client.ask(texts, str, lambda number, reply: bar.update())
        raw = [""] * len(records)
        said = {place: Unparseable(str(error)) for place, error in too_long.items()}
        for place, reply in zip(prompts, replies, strict=True):
            if isinstance(reply, Unparseable):
                said[place] = reply
                continue
            raw[place], said[place] = reply, self._prompts.read(reply, judged[place])
        tokens = self._client.ledger.run.output - written
        self.stats = ReplyStats(len(prompts), tokens, time.perf_counter() - started, raw)
        return [said[place] for place in range(len(records))]

    def rates(self) -> dict[str, float]:
        """Length and speed of the last replies."""
        return self.stats.rates()


def _renderer(place: ServerPlace, template: PromptTemplate, max_tokens: int) -> TextRenderer:
    flag = place.prompt_flag
    if Path(place.model).is_dir():
        from text2grad.pretrained import load_tokenizer  # imports transformers

        tokenizer = load_tokenizer(place.model, place.model_flag)
        return PromptRenderer(tokenizer, template, max_tokens, flag=flag)
    return TextRenderer(
        template, max_tokens, lambda text: range(estimate_tokens(text)), COMMON_SPECIALS, flag=flag
    )


def _schema(task: TaskSpec, target: TargetFormat) -> dict[str, Any] | None:
    """The `response_format` of replies; lists of words with scores have none that servers share."""
    return reply_schema(task, cot=False) if target.name == "spans" else None
