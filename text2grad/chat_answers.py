"""A policy's answers to conversations, in its own chat template, kept in a journal."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from text2grad.alignment import TokenBytes, response_text
from text2grad.chat import PromptRenderer, encode_messages
from text2grad.files import Journal, sha256_text
from text2grad.models import check_context, eos_ids, load_for_inference, quiet_libraries
from text2grad.pretrained import base_of, load_tokenizer
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Unparseable
from text2grad.tasks import PromptTemplate

if TYPE_CHECKING:
    from text2grad.config.benchmarks import ChatModelConfig

Message = dict[str, str]


@dataclass(frozen=True)
class Asked:
    """A conversation that the policy goes on with.

    Attributes:
        name: of the question, as the journal shows it.
        messages: the last one is the user's.
        temperature: of the sampling, 0 for greedy.
    """

    name: str
    messages: tuple[Message, ...]
    temperature: float


class Answerer:
    """Answers conversations; what the journal has is never generated again.

    Batches and their seeds depend on all that is asked at once, not on what is missing, so that a
    run which was stopped ends as it would have ended.

    Args:
        args: the model and its bounds.
        journal: opened.
        top_p: nucleus.
    """

    def __init__(self, args: ChatModelConfig, journal: Journal, top_p: float = 1.0) -> None:
        quiet_libraries()
        self._args, self._journal, self._top_p = args, journal, top_p
        self._tokenizer = load_tokenizer(args.model_path, "--model_path", args.chat_template)
        any_text = PromptTemplate("$prompt", frozenset({"prompt"}))
        self._renderer = PromptRenderer(self._tokenizer, any_text, args.prompt_max_length)
        self._table = TokenBytes(self._tokenizer)
        self._model: torch.nn.Module | None = None
        self._settings = json.dumps(
            [
                weights_identity(args.model_path),
                self._tokenizer.chat_template,
                *(args.prompt_max_length, args.max_new_tokens, args.seed, args.dtype, top_p),
            ]
        )

    def answer(self, asked: Sequence[Asked], title: str) -> list[str | Unparseable]:
        """An answer to each, or why there is none: the conversation is too long.

        Args:
            asked: all that is asked together.
            title: of the progress bar.
        """
        prompts = [self._encode(one.messages) for one in asked]
        keys = [
            sha256_text(json.dumps([one.messages, one.temperature]), self._settings)
            for one in asked
        ]
        most = self._args.prompt_max_length
        fit = [row for row, prompt in enumerate(prompts) if len(prompt) <= most]
        groups: dict[float, list[int]] = defaultdict(list)
        first = {keys[row]: row for row in reversed(fit)}  # equal questions are asked once
        for row in sorted(first.values(), key=lambda row: (len(prompts[row]), row)):
            groups[asked[row].temperature].append(row)
        with tqdm(total=len(first), desc=title, unit="answer") as bar:
            for temperature, rows in groups.items():
                for batch in self._batches(rows):
                    if any(keys[row] not in self._journal.rows for row in batch):
                        self._generate(asked, prompts, keys, batch, temperature)
                    bar.update(len(batch))
        return [
            self._journal.rows[key]["answer"]
            if len(prompt) <= most
            else Unparseable(f"conversation longer than --prompt_max_length {most}")
            for key, prompt in zip(keys, prompts, strict=True)
        ]

    def _batches(self, rows: Sequence[int]) -> Iterable[Sequence[int]]:
        size = self._args.batch_size
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def _generate(
        self,
        asked: Sequence[Asked],
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        batch: Sequence[int],
        temperature: float,
    ) -> None:
        model = self._loaded()
        sampling = Sampling(
            self._args.max_new_tokens,
            temperature,
            tuple(eos_ids(model, self._tokenizer)),
            self._tokenizer.pad_token_id,
            (("top_p", self._top_p),) if temperature else (),
        )
        torch.manual_seed(int(sha256_text(*(keys[row] for row in batch))[:15], 16))
        sampled = sample_responses(model, [prompts[row] for row in batch], sampling)
        for row, ids in zip(batch, sampled, strict=True):
            if keys[row] not in self._journal.rows:
                text = response_text(self._table.pieces(ids))
                self._journal.append({"key": keys[row], "name": asked[row].name, "answer": text})

    def _loaded(self) -> torch.nn.Module:
        if self._model is None:
            args = self._args
            self._model = load_for_inference(
                args.model_path, args.dtype, "--model_path", args.gpu_memory
            )
            names = ("prompt_max_length", "max_new_tokens")
            bounds = " ".join(f"--{name} {getattr(args, name)}" for name in names)
            longest = args.prompt_max_length + args.max_new_tokens
            check_context(self._model, "--model_path", longest, bounds)
        return self._model

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        safe = [{**m, "content": self._renderer.defuse(m["content"])} for m in messages]
        return encode_messages(self._tokenizer, safe)


def weights_identity(name: str) -> str:
    """What tells a model from others that lay in the same place: its files' sizes and times.

    A hub id, which is no folder, is itself.
    """
    folders = [Path(name), Path(base_of(name))]
    if not folders[0].is_dir():
        return name
    files = sorted({p for folder in folders for p in folder.glob("*.safetensors")})
    return json.dumps([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files])
