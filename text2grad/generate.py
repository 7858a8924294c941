"""A policy's responses to a file of prompts."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from text2grad.alignment import TokenBytes, response_text
from text2grad.chat_answers import weights_identity
from text2grad.conversations import prompt_value
from text2grad.files import Journal, check_writable, sha256_text, side_file, write_rows
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
    Beside the output lies NAME.journal.jsonl: a run that was stopped goes on with the batch where
    it was, and ends as it would have ended.
    """
    quiet_libraries()
    task = get_task(args.task)
    records = read_records(args.input_path, task, ("prompt",), args.fields, "--input_path")
    records = list({record.prompt: record for record in records}.values())
    if 0 < args.sample_size < len(records):
        count, size = len(records), args.sample_size
        records = [records[place * count // size] for place in range(size)]
    check_writable(args.output_dir, "--output_dir")
    name = args.output_name or f"{Path(args.model_path).name}_samples.json"
    output = Path(args.output_dir) / name
    tokenizer = load_tokenizer(args.model_path, "--model_path", args.chat_template)
    model = load_for_inference(args.model_path, args.dtype, "--model_path", args.gpu_memory)
    records = [record for record in records for _ in range(args.samples_per_prompt)]
    journal = Journal(side_file(output, ".journal.jsonl"), "--output_dir")
    try:
        responses = _respond(args, model, tokenizer, records, journal)
    finally:
        journal.close()
    rows = []
    for place, (record, response) in enumerate(zip(records, responses, strict=True)):
        sample = place % args.samples_per_prompt
        name = f"{record.id}-{sample}" if args.samples_per_prompt > 1 else record.id
        row = {"id": name, "query": prompt_value(record), "response": response}
        row[task.reference_keys[0]] = record.reference
        if record.test and task.test_keys:
            row[task.test_keys[0]] = record.test
        rows.append(row)
    write_rows(output, rows, "--output_dir")
    print(f"{len(rows)} responses: {output}")


def _respond(
    args: PolicyInferConfig,
    model: torch.nn.Module,
    tokenizer: Any,
    records: list[Record],
    journal: Journal,
) -> list[str]:
    bounds = f"--prompt_max_length {args.prompt_max_length} --max_new_tokens {args.max_new_tokens}"
    longest = args.prompt_max_length + args.max_new_tokens
    check_context(model, "--model_path", longest, bounds)
    template = get_task(args.task).prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
    prompts = [renderer.render_record(record).ids for record in records]
    torch.manual_seed(args.seed)
    kept = KeptBatches(journal, args)
    return answer_texts(model, tokenizer, prompts, args.max_new_tokens, args, "answering", kept)


def answer_texts(
    model: torch.nn.Module,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    args: PolicyInferConfig | ReflectConfig,
    title: str,
    kept: KeptBatches | None = None,
) -> list[str]:
    """The model's answers as text, in the order of the prompts.

    Args:
        model: ready for inference.
        tokenizer: of the model.
        prompts: ids; those of similar length are answered together.
        max_new_tokens: of an answer.
        args: temperature, top_p and batch_size.
        title: of the progress bar.
        kept: batches that were answered before, and where new ones go; None keeps none.
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

    def write(asked: Sequence[list[int]]) -> list[str]:
        sampled = sample_responses(model, asked, sampling)
        return [response_text(table.pieces(ids)) for ids in sampled]

    with tqdm(total=len(prompts), desc=title, unit="prompt") as bar:
        for start in range(0, len(order), args.batch_size):
            rows = order[start : start + args.batch_size]
            asked = [prompts[row] for row in rows]
            texts = kept.answer(asked, write) if kept else write(asked)
            for row, text in zip(rows, texts, strict=True):
                out[row] = text
            bar.update(len(rows))
    return out


class KeptBatches:
    """Answers in a journal, batch by batch, so that a run which was stopped goes on.

    What a batch draws follows what the ones before it drew, so its key names them too, and with its
    answers are kept the random generators' states after it.

    Args:
        journal: opened.
        args: the model and all that its answers depend on beside the prompts.
    """

    def __init__(self, journal: Journal, args: PolicyInferConfig) -> None:
        self._journal, self._draws = journal, args.temperature > 0
        model = weights_identity(args.model_path)
        settings = [model, args.max_new_tokens, args.temperature, args.top_p, args.seed, args.dtype]
        self._key = json.dumps([*settings, torch.cuda.device_count()])

    def answer(
        self, prompts: Sequence[list[int]], write: Callable[[Sequence[list[int]]], list[str]]
    ) -> list[str]:
        """The answers to the next batch, which `write` gives where the journal has none."""
        self._key = sha256_text(self._key, json.dumps([list(prompt) for prompt in prompts]))
        if self._key in self._journal.rows:
            row = self._journal.rows[self._key]
            _set_random_states(row["random"])
        else:
            row = {"key": self._key, "answers": write(prompts)}
            self._journal.append(row | {"random": _random_states() if self._draws else []})
        return row["answers"]


def _random_states() -> list[str]:
    """Of the generators of the CPU and of every GPU."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return [base64.b64encode(state.numpy().tobytes()).decode() for state in states]


def _set_random_states(states: Sequence[str]) -> None:
    """What `_random_states` gave; nothing where that was not asked for."""
    bits = [torch.tensor(list(base64.b64decode(state)), dtype=torch.uint8) for state in states]
    for place, state in enumerate(bits):
        if place:
            torch.cuda.set_rng_state(state, place - 1)
        else:
            torch.set_rng_state(state)
