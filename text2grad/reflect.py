"""Reflection without training: a policy criticises its own answer and writes it anew."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from text2grad.chat import PromptRenderer
from text2grad.files import write_rows
from text2grad.generate import answer_texts
from text2grad.models import check_context, load_for_inference, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.responses import read_responses
from text2grad.schema import Record
from text2grad.tasks import get_task

if TYPE_CHECKING:
    from text2grad.config import ReflectConfig


def reflect_file(args: ReflectConfig) -> None:
    """Write `--input_file` again with revised responses; first ones and critiques stay in it.

    Raises:
        UserError: unusable files, model or prompts.
    """
    quiet_libraries()
    task = get_task(args.task)
    records = list(read_responses(args.input_file, task, "--input_file").values())
    wordings = [
        task.prompt_template("self_critique", args.critique_prompt_file, "--critique_prompt_file"),
        task.prompt_template("revision", args.revision_prompt_file, "--revision_prompt_file"),
    ]
    tokenizer = load_tokenizer(args.model_path, "--model_path", args.chat_template)
    model = load_for_inference(args.model_path, args.dtype, "--model_path")
    new = max(args.max_new_tokens, args.critique_max_new_tokens)
    bounds = f"--prompt_max_length {args.prompt_max_length} with {new} new tokens"
    check_context(model, "--model_path", args.prompt_max_length + new, bounds)
    ask, revise = (PromptRenderer(tokenizer, one, args.prompt_max_length) for one in wordings)
    torch.manual_seed(args.seed)
    write = partial(answer_texts, model, tokenizer, args=args, title="reflecting")
    answers, critiques = [record.response for record in records], []
    for _ in range(args.rounds):
        critiques = write(
            _prompts(ask, records, answers), max_new_tokens=args.critique_max_new_tokens
        )
        prompts = _prompts(revise, records, answers, critiques)
        answers = write(prompts, max_new_tokens=args.max_new_tokens)
    rows = [
        {**record.fields, "response": answer, "first_response": record.response}
        | {"self_critique": critique}
        for record, answer, critique in zip(records, answers, critiques, strict=True)
    ]
    write_rows(args.output_file, rows, "--output_file")
    print(f"{len(rows)} revised responses: {args.output_file}")


def _prompts(
    renderer: PromptRenderer,
    records: Sequence[Record],
    answers: Sequence[str],
    critiques: Sequence[str] = (),
) -> list[list[int]]:
    """Ids of the prompts about the answers, and about the critiques where there are some."""
    out = []
    for place, record in enumerate(records):
        slots = {"prompt": record.prompt, "response": answers[place]}
        if critiques:
            slots["critique"] = critiques[place]
        out.append(list(renderer.render(record.origin, record.turns, **slots).ids))
    return out
