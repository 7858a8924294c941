"""A learned scalar reward model through TRL's `RewardTrainer`, on the pairs that records hold."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import set_seed
from trl import RewardConfig as TrlConfig
from trl import RewardTrainer

from text2grad.annotators.scalar_model import FACTS_FILE, load_scalar_model, raw_scores
from text2grad.files import check_writable
from text2grad.models import add_lora, check_context, quiet_libraries, replace_folder
from text2grad.pairs import Pair, read_pairs
from text2grad.pretrained import load_tokenizer
from text2grad.run_folder import write_run_config
from text2grad.schema import UserError
from text2grad.trl_policy import StepLog, resumed_step, state_to_resume, trl_settings

if TYPE_CHECKING:
    from text2grad.config import ScalarRewardConfig

FLAG = "--base_model_name"


def train_scalar_reward(args: ScalarRewardConfig) -> None:
    """Train on the pairs and save the whole model, with mean and deviation of its scores.

    Raises:
        UserError: unusable data, model or flags, or the model gives every answer one score.
    """
    quiet_libraries()
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = state_to_resume(args)
    tokenizer = load_tokenizer(args.base_model_name, FLAG, args.chat_template)
    tokenizer.padding_side = "right"
    pairs = read_pairs(args, tokenizer, output_dir / "left_out.json")
    facts = {"resumed_from": resumed, "pairs": len(pairs)}
    write_run_config(output_dir, args, {"data_path": args.data_path}, **facts)
    set_seed(args.seed)  # of the new head, and of the adapter
    model = load_scalar_model(args.base_model_name, args.dtype, FLAG)
    longest = args.prompt_max_length + args.answer_max_length
    bounds = "--prompt_max_length with --answer_max_length"
    check_context(model, f"{FLAG} {args.base_model_name}", longest, bounds)
    model.config.pad_token_id = tokenizer.pad_token_id
    whole = [(one.prompt_ids + one.chosen_ids, one.prompt_ids + one.rejected_ids) for one in pairs]
    rows = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in whole]
    trainer = RewardTrainer(
        model=add_lora(model, args, args.lora_dropout, f"{FLAG} {args.base_model_name}"),
        args=TrlConfig(**trl_settings(args), max_length=None),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[StepLog(output_dir, resumed_step(resumed))],
    )
    trainer.train(resume_from_checkpoint=resumed or None)
    if trainer.is_world_process_zero():
        merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload().eval()
        found = score_facts(merged, pairs, tokenizer.pad_token_id, args.score_batch_size)
        _save(merged, tokenizer, output_dir / "final", found)
        print(
            f"scalar reward model: {output_dir / 'final'}; of its {len(pairs)} training pairs it "
            f"scores the chosen answer higher in {found['accuracy']:.1%}"
        )


def score_facts(model: Any, pairs: list[Pair], pad_id: int, batch_size: int) -> dict[str, float]:
    """Mean and deviation of the scores of all answers, and how often the chosen one leads.

    Raises:
        UserError: all scores are the same, so none can be a reward.
    """
    chosen, rejected = (
        raw_scores(model, sequences, pad_id, batch_size)
        for sequences in (
            [one.prompt_ids + one.chosen_ids for one in pairs],
            [one.prompt_ids + one.rejected_ids for one in pairs],
        )
    )
    deviation = pstdev(chosen + rejected)
    if deviation == 0:
        raise UserError("the model gives every answer the same score; train it longer")
    right = sum(better > worse for better, worse in zip(chosen, rejected, strict=True))
    return {
        "mean": mean(chosen + rejected),
        "deviation": deviation,
        "accuracy": right / len(pairs),
    }


def _save(model: Any, tokenizer: Any, path: Path, facts: dict[str, float]) -> None:
    with replace_folder(path) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
