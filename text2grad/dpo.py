"""DPO through TRL, on the pairs that a task's records hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig as TrlConfig
from trl import DPOTrainer

from text2grad.files import check_writable
from text2grad.models import add_lora, check_context, load_model, quiet_libraries
from text2grad.pairs import read_pairs
from text2grad.pretrained import load_tokenizer
from text2grad.run_folder import write_run_config
from text2grad.trl_policy import (
    StepLog,
    resumed_step,
    save_trained,
    state_to_resume,
    trl_settings,
)

if TYPE_CHECKING:
    from text2grad.config import DPOConfig

FLAG = "--base_model_name"


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
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = state_to_resume(args)
    tokenizer = load_tokenizer(args.base_model_name, FLAG, args.chat_template)
    pairs = read_pairs(args, tokenizer, output_dir / "left_out.json")
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
