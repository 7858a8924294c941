"""A learned scalar reward model as a critic: one score for a whole response, and no words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from text2grad.files import read_text
from text2grad.models import default_device, resolve_dtype
from text2grad.pretrained import load_tokenizer, not_loadable
from text2grad.schema import Grade, Record, UserError
from text2grad.shapes import NUMBER, check_shape
from text2grad.tasks import TaskSpec
from text2grad.turns import TurnRenderer

FACTS_FILE = "scalar_reward.json"
FACTS = {"mean": NUMBER, "deviation": NUMBER, "accuracy": NUMBER}


class ScalarModelAnnotator:
    """Scores responses; the scores of the answers it was trained on have mean 0 and deviation 1.

    Args:
        model_path: what `train_scalar_reward` wrote.
        task: gives the policy's wording, which is the prompt here too.
        dtype: precision of the weights.
        batch_size: responses scored together.
        prompt_max_tokens: a longer post is shortened inside the post.
        prompt_file: own wording of the policy's prompt.
        flag: the flag that named the model, for messages.

    Raises:
        UserError: there is no such model in that folder.
    """

    is_costly = False

    def __init__(
        self,
        model_path: str,
        task: TaskSpec,
        *,
        dtype: str = "auto",
        batch_size: int = 16,
        prompt_max_tokens: int = 900,
        prompt_file: str = "",
        flag: str = "--reward_model_name",
    ) -> None:
        self.facts = _read_facts(model_path, flag)
        tokenizer = load_tokenizer(model_path, flag)
        template = task.prompt_template("policy", prompt_file)
        self.renderer = TurnRenderer(tokenizer, template, prompt_max_tokens)
        self.model = load_scalar_model(model_path, dtype, flag).eval().to(default_device())
        self.batch_size = batch_size

    def annotate(self, records: Sequence[Record]) -> list[Grade]:
        """One grade per record, in order."""
        ids = [
            [*self.renderer.render_record(one).ids, *answer_ids(one.response, self.renderer)]
            for one in records
        ]
        raw = raw_scores(self.model, ids, self.renderer.tokenizer.pad_token_id, self.batch_size)
        mean, deviation = self.facts["mean"], self.facts["deviation"]
        grades = [(score - mean) / deviation for score in raw]
        return [Grade(f"{grade:+.2f}", grade=grade) for grade in grades]


def load_scalar_model(name: str, dtype: str, flag: str) -> nn.Module:
    """A model with a head for one score; the head is new where the model has none.

    Raises:
        UserError: nothing loadable at `name`.
    """
    settings = {"dtype": resolve_dtype(dtype), "num_labels": 1, "use_safetensors": True}
    try:
        return AutoModelForSequenceClassification.from_pretrained(name, **settings)
    except (OSError, ValueError) as error:
        raise UserError(not_loadable(flag, name, error)) from error


def answer_ids(text: str, renderer: TurnRenderer) -> list[int]:
    """An answer after its prompt, with its end token; special tokens spelled out are defused."""
    tokenizer = renderer.tokenizer
    ids = tokenizer(renderer.defuse(text.strip()), add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


@torch.no_grad()
def raw_scores(
    model: nn.Module, sequences: Sequence[Sequence[int]], pad_id: int, batch_size: int
) -> list[float]:
    """The model's own scores of prompts with their answers, as ids."""
    device, out = next(model.parameters()).device, [0.0] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda row: (len(sequences[row]), row))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        width = max(len(sequences[row]) for row in rows)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(sequences[row])] = torch.tensor(sequences[row])
            mask[place, : len(sequences[row])] = 1
        scores = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[:, 0]
        for row, score in zip(rows, scores.float().tolist(), strict=True):
            out[row] = score
    return out


def _read_facts(folder: str, flag: str) -> dict[str, Any]:
    path = Path(folder) / FACTS_FILE
    if not path.exists():
        raise UserError(
            f"{flag} {folder}: no {FACTS_FILE} in it; name what paper/train_scalar_reward.py wrote"
        )
    try:
        facts = json.loads(read_text(path, flag))
    except json.JSONDecodeError as error:
        raise UserError(f"{flag} {path}: not JSON: {error.msg}") from error
    check_shape(facts, FACTS, f"{flag} {path}", "train the model again")
    return facts
