"""A policy's responses to a file of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from text2grad.alignment import TokenBytes, response_text
from text2grad.conversations import prompt_value
from text2grad.files import check_writable, write_rows
from text2grad.models import check_context, eos_ids, load_for_inference, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.records import read_records
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Record
from text2grad.tasks import get_task
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import PolicyInferConfig, ReflectConfig


def infer_policy(args: PolicyInferConfig) -> None:
    """Write `{id, query, response, REFERENCE}` for every prompt; seeded, so runs repeat.

    Records with tests keep them. With several samples per prompt the id says which one it is.
    """
    quiet_libraries()
    task = get_task(args.task)
    records = read_records(args.input_path, task, ("prompt",), args.fields, "--input_path")
    records = list({record.prompt: record for record in records}.values())
    if 0 < args.sample_size < len(records):
        count, size = len(records), args.sample_size
        records = [records[place * count // size] for place in range(size)]
    check_writable(args.output_dir, "--output_dir")
    tokenizer = load_tokenizer(args.model_path, "--model_path", args.chat_template)
    model = load_for_inference(args.model_path, args.dtype, "--model_path", args.gpu_memory)
    records = [record for record in records for _ in range(args.samples_per_prompt)]
    responses = _respond(args, model, tokenizer, records)
    rows = []
    for place, (record, response) in enumerate(zip(records, responses, strict=True)):
        sample = place % args.samples_per_prompt
        name = f"{record.id}-{sample}" if args.samples_per_prompt > 1 else record.id
        row = {"id": name, "query": prompt_value(record), "response": response}
        row[task.reference_keys[0]] = record.reference
        if record.test and task.test_keys:
            row[task.test_keys[0]] = record.test
        rows.append(row)
    name = args.output_name or f"{Path(args.model_path).name}_samples.json"
    write_rows(Path(args.output_dir) / name, rows, "--output_dir")
    print(f"{len(rows)} responses: {Path(args.output_dir) / name}")


def _respond(
    args: PolicyInferConfig, model: torch.nn.Module, tokenizer: Any, records: list[Record]
) -> list[str]:
    bounds = f"--prompt_max_length {args.prompt_max_length} --max_new_tokens {args.max_new_tokens}"
    longest = args.prompt_max_length + args.max_new_tokens
    check_context(model, "--model_path", longest, bounds)
    template = get_task(args.task).prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
    prompts = [renderer.render_record(record).ids for record in records]
    torch.manual_seed(args.seed)
    return answer_texts(model, tokenizer, prompts, args.max_new_tokens, args, "answering")


def answer_texts(
    model: torch.nn.Module,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    args: PolicyInferConfig | ReflectConfig,
    title: str,
) -> list[str]:
    """The model's answers as text, in the order of the prompts.

    Args:
        model: ready for inference.
        tokenizer: of the model.
        prompts: ids; those of similar length are answered together.
        max_new_tokens: of an answer.
        args: temperature, top_p and batch_size.
        title: of the progress bar.
    """
    sampling = Sampling(
        max_new_tokens,
        args.temperature,
        tuple(eos_ids(model, tokenizer)),
        tokenizer.pad_token_id,
        (("top_p", args.top_p),) if args.temperature else (),
    )
    table = TokenBytes(tokenizer)
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), row))
    out = [""] * len(prompts)
    with tqdm(total=len(prompts), desc=title, unit="prompt") as bar:
        for start in range(0, len(order), args.batch_size):
            rows = order[start : start + args.batch_size]
            sampled = sample_responses(model, [prompts[row] for row in rows], sampling)
            for row, ids in zip(rows, sampled, strict=True):
                out[row] = response_text(table.pieces(ids))
            bar.update(len(rows))
    return out
