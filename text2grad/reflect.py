"""Reflection without training: a policy criticises its own answer and writes it anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from tqdm import tqdm

from text2grad.alignment import TokenBytes, response_text
from text2grad.chat import PromptRenderer
from text2grad.files import write_rows
from text2grad.models import check_context, eos_ids, load_for_inference, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.responses import read_responses
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Record
from text2grad.tasks import get_task

if TYPE_CHECKING:
    from text2grad.config import ReflectConfig

Write = Callable[[list[list[int]], int], list[str]]


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
    write = _writer(args, model, tokenizer)
    answers, critiques = [record.response for record in records], []
    for _ in range(args.rounds):
        critiques = write(_prompts(ask, records, answers), args.critique_max_new_tokens)
        prompts = _prompts(revise, records, answers, critiques)
        answers = write(prompts, args.max_new_tokens)
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


def _writer(args: ReflectConfig, model: nn.Module, tokenizer: Any) -> Write:
    table, ends = TokenBytes(tokenizer), tuple(eos_ids(model, tokenizer))
    extra = (("top_p", args.top_p),) if args.temperature else ()

    def write(prompts: list[list[int]], tokens: int) -> list[str]:
        sampling = Sampling(tokens, args.temperature, ends, tokenizer.pad_token_id, extra)
        order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
        out = [""] * len(prompts)
        with tqdm(total=len(prompts), desc="reflecting", unit="prompt") as bar:
            for start in range(0, len(order), args.batch_size):
                rows = order[start : start + args.batch_size]
                sampled = sample_responses(model, [prompts[row] for row in rows], sampling)
                for row, ids in zip(rows, sampled, strict=True):
                    out[row] = response_text(table.pieces(ids))
                bar.update(len(rows))
        return out

    return write
