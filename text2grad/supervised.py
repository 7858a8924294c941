"""Supervised LoRA training through TRL: the reward model, and the policy's start."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainerCallback, set_seed
from trl import SFTConfig as TrlConfig

from text2grad.config.deepspeed import check_installed
from text2grad.files import write_json
from text2grad.models import add_lora, check_context, load_model
from text2grad.report_data import read_object
from text2grad.run_folder import check_same_flags
from text2grad.schema import Record, UserError
from text2grad.target_formats import write_facts
from text2grad.trainer_states import ResumableTrainer, state_to_resume
from text2grad.whole_folder import replace_folder

if TYPE_CHECKING:
    from text2grad.config.training import AdapterTrainConfig

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """A prompt and its target as ids; the loss counts the target only."""

    prompt_ids: list[int]
    target_ids: list[int]


@dataclass(frozen=True)
class Dropped:
    """A record that does not fit, and why."""

    record_id: str
    reason: str


def collect_examples(
    records: Sequence[Record], make: Callable[[Record], Example | Dropped], flag: str, path: Path
) -> list[Example]:
    """Examples of all records that fit; those that do not are counted and named.

    Args:
        records: all of them.
        make: turns one into an example, or says why it does not fit.
        flag: the flag that named the file, with its value, for messages.
        path: where every record that does not fit is listed, if there are any.

    Raises:
        UserError: none fits.
    """
    made = [make(record) for record in records]
    dropped = [one for one in made if isinstance(one, Dropped)]
    path.unlink(missing_ok=True)  # of an earlier run
    if dropped:
        for one in dropped[:10]:
            print(f"left out {one.record_id}: {one.reason}")
        write_json(path, {one.record_id: one.reason for one in dropped}, "--output_dir")
        print(f"{len(dropped)} of {len(records)} records left out, all named in {path}")
    examples = [one for one in made if isinstance(one, Example)]
    if dropped and not examples:
        raise UserError(f"{flag}: no record fits; first reason: {dropped[0].reason}")
    return examples


def train_adapter(
    args: AdapterTrainConfig,
    base_model: str,
    tokenizer: Any,
    train: Sequence[Example],
    valid: Sequence[Example],
    eval_steps: int,
    flag: str = "--base_model",
    facts: Mapping[str, str] | None = None,
) -> TargetTrainer:
    """Train a LoRA adapter with TRL's `SFTTrainer` and save it as `OUTPUT_DIR/final`.

    Args:
        args: the flags that both stages share: LoRA, optimiser, batch, schedule, resume.
        base_model: model to adapt.
        tokenizer: saved beside the adapter.
        train: examples.
        valid: likewise, may be empty.
        eval_steps: updates between evaluations, 0 for none.
        flag: the flag that named the base model.
        facts: what every saved adapter's folder says of the model, see `target_formats`.

    Raises:
        UserError: the model reads fewer tokens than an example has, or see `check_resume`.
        Stopped: a process was asked to; all that was done is saved.
    """
    output_dir = Path(args.output_dir)
    state, _ = state_to_resume(output_dir, args.resume_from_checkpoint)
    model = load_model(base_model, args.dtype, flag)
    longest = max(len(one.prompt_ids) + len(one.target_ids) for one in (*train, *valid))
    bounds = "--prompt_max_length with --max_length or --answer_max_length"
    check_context(model, f"{flag} {base_model}", longest, bounds)
    model.config.use_cache = False
    set_seed(args.seed)  # the trainer sets it too, but the adapter is drawn before
    model = add_lora(model, args, args.lora_dropout, f"{flag} {base_model}")
    named = NamedCheckpoints(output_dir, tokenizer, facts)
    trainer = TargetTrainer(
        model=model,
        args=_trl_config(args, eval_steps if valid else 0),
        train_dataset=_dataset(train),
        eval_dataset=_dataset(valid) if valid else None,
        processing_class=tokenizer,
        callbacks=[named],
    )
    named.trainer = trainer
    trainer.run(state)
    if valid and "eval_loss" not in _last_rows(trainer):
        trainer.evaluate()
    save_adapter(trainer, tokenizer, output_dir / "final", facts)
    return trainer


def save_adapter(
    trainer: TargetTrainer, tokenizer: Any, path: Path, facts: Mapping[str, str] | None = None
) -> None:
    """Write adapter, tokenizer and facts, whole or not at all; every process must call it."""
    if trainer.is_deepspeed_enabled:
        trainer.save_model(str(path))  # gathers the shards of ZeRO-3
        if trainer.is_world_process_zero():
            write_facts(path, facts)
    elif trainer.is_world_process_zero():
        with replace_folder(path) as folder:
            trainer.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            write_facts(folder, facts)


class TargetTrainer(ResumableTrainer):
    """TRL's trainer with logits for the targets only.

    Its own fused head also computes gradients of the frozen head's weights, in many small tiles,
    which took most of the time on a CPU; without it there would be logits for every prompt token.
    """

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy of the target tokens: their mean over the whole update."""
        labels = inputs["labels"]
        first = int((labels != IGNORED).any(0).nonzero()[0])  # columns before hold no target
        kept = labels.shape[1] - max(first - 1, 0)
        bare = {name: x for name, x in inputs.items() if name not in ("labels", "seq_lengths")}
        outputs = model(**bare, use_cache=False, logits_to_keep=kept)
        predicted = outputs.logits[:, :-1].float().flatten(0, 1)
        loss = nn.functional.cross_entropy(
            predicted, labels[:, 1 - kept :].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:
            loss = loss / (labels[:, 1:] != IGNORED).sum().clamp(min=1)
        else:
            loss = loss / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss


class NamedCheckpoints(TrainerCallback):
    """Writes the adapter as `{epoch}_{step}` at every save; the step starts anew each epoch."""

    def __init__(
        self, output_dir: str | Path, tokenizer: Any, facts: Mapping[str, str] | None = None
    ) -> None:
        self.output_dir, self.tokenizer, self.facts = Path(output_dir), tokenizer, facts
        self.trainer: TargetTrainer | None = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote its own resumable state."""
        per_epoch = max(1, round(state.global_step / state.epoch))
        epoch, step = divmod(state.global_step - 1, per_epoch)
        path = self.output_dir / f"{epoch}_{step + 1}"
        save_adapter(self.trainer, self.tokenizer, path, self.facts)


def check_resume(args: AdapterTrainConfig) -> str:
    """Before anything is written: the run can start, or go on as it was begun.

    Returns:
        The state that it goes on from, "" for a new run.

    Raises:
        UserError: there is nothing to resume, another run's checkpoints are in the way, or a flag
            differs that a resumed run cannot change.
    """
    if args.deepspeed:
        check_installed(args.deepspeed, "GPUS=0 for the shell")
    state, notes = state_to_resume(Path(args.output_dir), args.resume_from_checkpoint)
    if os.environ.get("RANK", "0") == "0":
        print(*notes, sep="\n", end="\n" * bool(notes))
    if state:
        begun = Path(state).resolve().parent.parent  # RUN/trainer/checkpoint-STEP
        names = """task base_model base_model_name target_format lora_r lora_alpha
            lora_target_modules lora_last_layers learning_rate per_device_train_batch_size
            gradient_accumulation_steps seed"""
        flags = {name: getattr(args, name) for name in names.split() if hasattr(args, name)}
        saved = read_object(begun / "config.json", "--resume_from_checkpoint").get("flags") or {}
        check_same_flags(begun, saved, flags)
    return state or ""


def _last_rows(trainer: TargetTrainer) -> dict[str, Any]:
    """What the trainer logged at its last step."""
    found: dict[str, Any] = {}
    for row in trainer.state.log_history:
        if row["step"] == trainer.state.global_step:
            found |= row
    return found


def _trl_config(args: AdapterTrainConfig, eval_steps: int) -> TrlConfig:
    try:
        return TrlConfig(
            output_dir=str(Path(args.output_dir) / "trainer"),
            per_device_train_batch_size=args.per_device_train_batch_size,
            per_device_eval_batch_size=args.per_device_train_batch_size,
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            num_train_epochs=args.num_train_epochs,
            max_steps=args.max_steps,
            learning_rate=args.learning_rate,
            lr_scheduler_type=args.lr_scheduler_type,
            warmup_steps=args.warmup_ratio,
            weight_decay=args.weight_decay,
            max_grad_norm=args.max_grad_norm,
            eval_strategy="steps" if eval_steps else "no",
            eval_steps=eval_steps or None,
            save_steps=args.save_steps,
            save_total_limit=args.save_total_limit,
            logging_steps=10,
            report_to="none",
            bf16=False,  # the frozen base is loaded in its own precision, the adapter is fp32
            gradient_checkpointing=args.gradient_checkpointing,
            train_sampling_strategy="group_by_length",
            max_length=None,  # examples are made to fit; nothing may cut a target
            dataset_kwargs={"skip_prepare_dataset": True},
            seed=args.seed,
            deepspeed=args.deepspeed or None,
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=False,  # the default follows the log level, which is turned down
        )
    except ValueError as error:
        raise UserError(f"training flags: {' '.join(str(error).split())[:300]}") from error


def _dataset(examples: Sequence[Example]) -> Dataset:
    rows = [
        {
            "input_ids": [*one.prompt_ids, *one.target_ids],
            "labels": [IGNORED] * len(one.prompt_ids) + list(one.target_ids),
        }
        for one in examples
    ]
    return Dataset.from_list(rows)
