"""DPO through TRL, on the pairs that a task's records hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig as TrlConfig
from trl import DPOTrainer

from text2grad.files import check_writable, write_json
from text2grad.models import add_lora, check_context, load_model, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.records import read_records
from text2grad.run_folder import write_run_config
from text2grad.schema import Record, UserError
from text2grad.tasks import get_task
from text2grad.trl_policy import (
    StepLog,
    resumed_step,
    save_trained,
    state_to_resume,
    trl_settings,
)
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import DPOConfig

FLAG = "--base_model_name"


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer, as ids with their end token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


class PairTrainer(DPOTrainer):
    """TRL's trainer on pairs that are ids already: the prompt that every other method sees."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset


def train_dpo(args: DPOConfig) -> None:
    """Train an adapter on the pairs and save it as `OUTPUT_DIR/final`.

    Raises:
        UserError: unusable data, model or flags, or no record is a pair.
    """
    quiet_libraries()
    task = get_task(args.task)
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = state_to_resume(args)
    records = read_records(args.data_path, task, ("prompt", "response", "reference"), args.fields)
    worse = [one for one in records if one.response.strip() != one.reference.strip()]
    if not worse:
        raise UserError(
            f"--data_path {args.data_path}: in none of {len(records)} records the response differs "
            "from the reference, so there are no pairs; prepare_data.py --candidates all makes some"
        )
    if args.max_train_samples:
        worse = worse[: args.max_train_samples]
    tokenizer = load_tokenizer(args.base_model_name, FLAG, args.chat_template)
    template = task.prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
    pairs = make_pairs(worse, renderer, args.answer_max_length, output_dir / "left_out.json")
    facts = {"resumed_from": resumed, "pairs": len(pairs)}
    write_run_config(output_dir, args, {"data_path": args.data_path}, **facts)
    model = load_model(args.base_model_name, args.dtype, FLAG)
    bounds = "--prompt_max_length with --answer_max_length"
    longest = args.prompt_max_length + args.answer_max_length
    check_context(model, f"{FLAG} {args.base_model_name}", longest, bounds)
    model.config.use_cache = False
    set_seed(args.seed)  # the trainer sets it too, but the adapter is drawn before
    trainer = PairTrainer(
        model=add_lora(model, args, args.lora_dropout, f"{FLAG} {args.base_model_name}"),
        args=TrlConfig(**trl_settings(args), beta=args.beta, max_length=None),
        train_dataset=Dataset.from_list([vars(pair) for pair in pairs]),
        processing_class=tokenizer,
        callbacks=[StepLog(output_dir, resumed_step(resumed))],
    )
    trainer.train(resume_from_checkpoint=resumed or None)
    save_trained(trainer, tokenizer, output_dir / "final")
    print(f"policy after DPO on {len(pairs)} pairs: {output_dir / 'final'}")


def make_pairs(
    records: Sequence[Record], renderer: TurnRenderer, most: int, left_out: Path
) -> list[Pair]:
    """The reference as the chosen answer, the response as the rejected one.

    Args:
        records: their responses are not their references.
        renderer: of the policy's prompt.
        most: tokens of an answer; a pair with a longer one is left out.
        left_out: where those are named, if there are any.

    Raises:
        UserError: none is left.
    """
    pairs, dropped = [], {}
    for record in records:
        chosen, rejected = (_ids(text, renderer) for text in (record.reference, record.response))
        longest = max(len(chosen), len(rejected))
        if longest > most:
            dropped[record.id] = f"an answer has {longest} tokens, over --answer_max_length {most}"
        else:
            pairs.append(Pair(list(renderer.render_record(record).ids), chosen, rejected))
    if dropped:
        write_json(left_out, dropped, "--output_dir")
        print(f"{len(dropped)} of {len(records)} pairs left out, all named in {left_out}")
    if not pairs:
        raise UserError(f"--answer_max_length {most}: no pair fits; raise it")
    return pairs


def _ids(text: str, renderer: TurnRenderer) -> list[int]:
    tokenizer = renderer.tokenizer
    ids = tokenizer(renderer.defuse(text.strip()), add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]
