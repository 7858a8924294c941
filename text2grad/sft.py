"""The supervised start of the policy, on the human references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from text2grad.devices import is_main_process
from text2grad.files import check_writable
from text2grad.models import quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.records import read_records
from text2grad.run_folder import write_run_config
from text2grad.schema import Record
from text2grad.supervised import Dropped, Example, check_resume, collect_examples, train_adapter
from text2grad.tasks import get_task
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import SFTConfig


def train_sft(args: SFTConfig) -> None:
    """Fine-tune the policy on the human references; several responses to a prompt count once."""
    quiet_libraries()
    task = get_task(args.task)
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = check_resume(args)
    records = read_records(args.data_path, task, ("prompt", "reference"), args.fields)
    records = list({record.prompt: record for record in records}.values())
    if args.max_train_samples:
        records = records[: args.max_train_samples]
    tokenizer = load_tokenizer(args.base_model_name, "--base_model_name", args.chat_template)
    template = task.prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)

    def make(record: Record) -> Example | Dropped:
        reference = renderer.defuse(record.reference.strip())
        target = tokenizer(reference, add_special_tokens=False)["input_ids"]
        target = [*target, tokenizer.eos_token_id]
        if len(target) > args.answer_max_length:
            limit = f"--answer_max_length {args.answer_max_length}"
            return Dropped(record.id, f"its reference has {len(target)} tokens, over {limit}")
        return Example(renderer.render_record(record).ids, target)

    flag = f"--data_path {args.data_path}"
    examples = collect_examples(records, make, flag, output_dir / "left_out.json")
    facts = {"resumed_from": resumed, "examples": len(examples)}
    if is_main_process():
        write_run_config(output_dir, args, {"data_path": args.data_path}, **facts)
    train_adapter(args, args.base_model_name, tokenizer, examples, [], 0, "--base_model_name")
    if is_main_process():
        print(f"policy after supervised training: {output_dir / 'final'}")
