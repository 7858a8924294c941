"""The generative reward model: its examples, its training, its inference."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from text2grad.alignment import locate_spans
from text2grad.annotators.reward_backends import RewardJudge, build_reward_judge
from text2grad.chat import PromptRenderer
from text2grad.code_blocks import judged_code
from text2grad.devices import is_main_process
from text2grad.files import check_writable, sha256_file, write_json, write_rows
from text2grad.models import quiet_libraries
from text2grad.parsing import CONTAINERS
from text2grad.pretrained import load_tokenizer
from text2grad.records import annotated_row, read_records
from text2grad.replies import plain_key
from text2grad.reward_quality import decoding_path
from text2grad.run_folder import weights_sha256, write_run_config
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.supervised import (
    Dropped,
    Example,
    check_resume,
    collect_examples,
    train_adapter,
)
from text2grad.target_formats import FORMATS, model_facts
from text2grad.targets import TargetTrimmer
from text2grad.tasks import TaskSpec, get_task
from text2grad.token_table import TokenTable, encode_target
from text2grad.word_scores import WORD_SCORES_KEY

if TYPE_CHECKING:
    from text2grad.config import RewardInferConfig, RewardTrainConfig


def train_reward_model(args: RewardTrainConfig) -> None:
    """Train on annotated records; write checkpoints, the split as used, and the run's record."""
    quiet_libraries()
    task = get_task(args.task)
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = check_resume(args)
    data_dir = check_writable(args.data_dir, "--data_dir")
    train, valid = read_split(args, task)
    if is_main_process():
        write_rows(data_dir / f"{task.name}_train.json", [r.fields for r in train], "--data_dir")
        write_rows(data_dir / f"{task.name}_test.json", [r.fields for r in valid], "--data_dir")
    tokenizer = load_tokenizer(args.base_model, "--base_model", args.chat_template)
    maker = ExampleMaker(args, task, tokenizer)
    flag = f"--data_path {args.data_path}"
    examples = collect_examples(train, maker.make, flag, output_dir / "left_out.json")
    if len(valid) > args.eval_samples:
        valid = random.Random(args.seed).sample(valid, args.eval_samples)
    flag = f"--valid_data_path {args.valid_data_path}"
    held_out = collect_examples(valid, maker.make, flag, output_dir / "left_out_validation.json")
    if is_main_process():
        print(f"{len(examples)} examples, {maker.shortened} posts shortened to fit")
        if maker.trimmer.counts:
            print(f"targets fitted to what a reply may hold: {maker.trimmer.summary()}")
        data = {"data_path": args.data_path, "valid_data_path": args.valid_data_path}
        facts = {"resumed_from": resumed, "examples": len(examples), "shortened": maker.shortened}
        write_run_config(output_dir, args, data, **facts, trimmed=dict(maker.trimmer.counts))
    about = model_facts(args.target_format)
    trainer = train_adapter(
        args, args.base_model, tokenizer, examples, held_out, args.eval_steps, facts=about
    )
    if is_main_process():
        write_json(output_dir / "training_log.json", trainer.state.log_history, "--output_dir")
        print(f"reward model: {output_dir / 'final'}")


def read_split(args: RewardTrainConfig, task: TaskSpec) -> tuple[list[Record], list[Record]]:
    """Training and validation records; no prompt is in both.

    Raises:
        UserError: a prompt is in both files, or a record's annotation is unparseable.
    """
    train = _annotated(args, task, args.data_path, "--data_path")
    train += _more(args, task, args.more_data_path, "--more_data_path")
    if args.valid_data_path:
        valid = _annotated(args, task, args.valid_data_path, "--valid_data_path")
        valid += _more(args, task, args.more_valid_data_path, "--more_valid_data_path")
        both = {record.prompt for record in train} & {record.prompt for record in valid}
        if both:
            name = next(record.origin for record in valid if record.prompt in both)
            raise UserError(f"{name}: its prompt is in --data_path {args.data_path} too")
    else:
        prompts = list(dict.fromkeys(record.prompt for record in train))
        random.Random(args.seed).shuffle(prompts)
        held_out = set(prompts[: max(1, round(len(prompts) * args.valid_fraction))])
        valid = [record for record in train if record.prompt in held_out]
        train = [record for record in train if record.prompt not in held_out]
    if not train:
        raise UserError(
            f"--data_path {args.data_path}: only one prompt, and it is held out; name other "
            "records by --valid_data_path"
        )
    if args.max_train_samples:
        train = random.Random(args.seed).sample(train, min(args.max_train_samples, len(train)))
    return train, valid


def _annotated(args: RewardTrainConfig, task: TaskSpec, path: str, flag: str) -> list[Record]:
    need = ("prompt", "response", "feedback")
    records = read_records(path, task, need, args.fields, flag)
    check_feedback(records, flag)
    return records


def _more(args: RewardTrainConfig, task: TaskSpec, paths: Sequence[str], flag: str) -> list[Record]:
    """Records of more files, whose names join their ids: the same prompts have the same ids."""
    found = []
    for path in paths:
        for record in _annotated(args, task, path, flag):
            name = f"{record.id}-{Path(path).stem}"
            found.append(replace(record, id=name, fields={**record.fields, "id": name}))
    return found


def check_feedback(records: Sequence[Record], flag: str) -> None:
    """Every record's annotation is readable, or an error names the first that is not."""
    for record in records:
        if isinstance(record.feedback, Unparseable):
            raise UserError(f"{record.origin}: its annotation: {record.feedback.reason} ({flag})")


class ExampleMaker:
    """Turns annotated records into prompt and target ids.

    The prompt is shortened inside the post; response and instructions are never cut. The target
    is what constrained decoding could write: see `TargetTrimmer`.

    Attributes:
        shortened: posts that were cut.
        trimmer: counts what was fitted.
    """

    def __init__(self, args: RewardTrainConfig, task: TaskSpec, tokenizer: Any) -> None:
        self.args, self.task, self.tokenizer = args, task, tokenizer
        self.table = TokenTable(tokenizer)
        self.format = FORMATS[args.target_format]
        template = task.prompt_template(self.format.prompt, args.prompt_file)
        self.renderer = PromptRenderer(tokenizer, template, args.prompt_max_length)
        self.trimmer = TargetTrimmer(task)
        self.shortened = 0

    def make(self, record: Record) -> Example | Dropped:
        """One example, or why the record does not fit."""
        if not record.feedback.critique:
            return Dropped(record.id, "its critique is empty")
        judged = judged_code(record.response, self.task.scope).text
        text = self.format.target(self.trimmer, record.feedback, judged)
        grammar = self.format.grammar(self.task, judged)
        target = [*encode_target(text, self.table, grammar), self.tokenizer.eos_token_id]
        if len(target) > self.args.answer_max_length:
            limit = f"--answer_max_length {self.args.answer_max_length}"
            return Dropped(record.id, f"its target has {len(target)} tokens, over {limit}")
        room = min(self.args.prompt_max_length, self.args.max_length - len(target))
        renderer = self.renderer
        if room < renderer.max_tokens:
            renderer = PromptRenderer(self.tokenizer, renderer.template, room, flag="--max_length")
        try:
            shown = judged or record.response
            prompt = renderer.render(
                record.origin, record.turns, prompt=record.prompt, response=shown
            )
        except UserError as error:
            return Dropped(record.id, str(error))
        self.shortened += prompt.shortened
        return Example(prompt.ids, target)


def infer_reward_model(args: RewardInferConfig) -> None:
    """Judge the responses of a file and write them with the reward model's feedback.

    Each row keeps the record; an annotation it came with moves under "gold"; an unparseable
    reply leaves "unparseable" with the reason in place of feedback.
    """
    quiet_libraries()
    task = get_task(args.task)
    records = read_records(args.data_path, task, ("prompt", "response"), args.fields)
    if 0 < args.max_samples < len(records):
        records = random.Random(args.seed).sample(records, args.max_samples)
    check_writable(Path(args.output_path).parent, "--output_path")
    annotator = build_reward_judge(args, task)
    torch.manual_seed(args.seed)
    started = time.perf_counter()
    said = annotator.annotate(records, progress=True)
    rows = [
        judged_row(record, feedback, reply, task)
        for record, feedback, reply in zip(records, said, annotator.stats.raw, strict=True)
    ]
    write_rows(args.output_path, rows)
    parsed = sum(isinstance(one, Feedback) for one in said)
    seconds = time.perf_counter() - started
    print(f"{parsed} of {len(rows)} replies parsed, {seconds:.0f} s: {args.output_path}")
    facts = decoding_facts(args, annotator, records)
    write_json(decoding_path(args.output_path), facts, "--output_path")


def decoding_facts(
    args: RewardInferConfig, annotator: RewardJudge, records: Sequence[Record]
) -> dict[str, Any]:
    """Who wrote the replies of `--output_path`, and how; without it their rates say little.

    Under the grammar every reply parses and every quote is in the response, so that some of the
    records are judged once more without it.
    """
    facts: dict[str, Any] = {
        "reward_model": args.model_path,
        "reward_model_sha256": weights_sha256(args.model_path),
        "output_sha256": sha256_file(args.output_path),
        "constrained": annotator.constrained,
        "backend": args.backend,
    }
    if not annotator.constrained:
        return facts
    facts |= annotator.rates()
    if args.unconstrained_samples:
        free = annotator.unconstrained_rates(records[: args.unconstrained_samples])
        facts["unconstrained"] = free
        print(
            f"without the grammar, {free['replies']} of them: {free['parse_rate']:.0%} parsed, "
            f"{free['unmatched_rate']:.0%} of {free['quotes']} quotes not in the response"
        )
    return facts


def judged_row(
    record: Record, said: Feedback | Unparseable, reply: str, task: TaskSpec
) -> dict[str, Any]:
    """The record with new feedback, its old one under "gold"."""
    keys = annotation_keys(task)
    gold = {key: value for key, value in record.fields.items() if plain_key(key) in keys}
    bare = {key: value for key, value in record.fields.items() if plain_key(key) not in keys}
    plain = Record(record.id, record.prompt, record.response, fields=bare, origin=record.origin)
    provenance = {"annotator": "reward_model"}
    if isinstance(said, Unparseable):
        row = {"id": record.id, **bare, "unparseable": said.reason}
    else:
        spans = locate_spans(said.spans, record.response, task)
        row = annotated_row(plain, said, spans, task, provenance)
    return {**row, "reply": reply, **({"gold": gold} if gold else {})}


def annotation_keys(task: TaskSpec) -> set[str]:
    """Every key, as `plain_key` spells it, under which `read_feedback` finds an annotation."""
    quotes = [key for label in task.labels for key in (label.key, *label.aliases)]
    keys = [*task.critique_keys, *CONTAINERS, WORD_SCORES_KEY, "annotation", *quotes]
    return set(map(plain_key, keys))
