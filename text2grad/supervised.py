"""Supervised LoRA training through TRL: the reward model, and the policy's start."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import set_seed
from trl import SFTConfig as TrlConfig

from text2grad.checkpoint import load_adapter
from text2grad.config.deepspeed import check_launcher, check_launcher_values, read_deepspeed
from text2grad.devices import (
    count_processes,
    is_main_process,
    launched_processes,
    prepare_deepspeed,
)
from text2grad.files import write_json
from text2grad.models import add_lora, check_context, load_model
from text2grad.quantisation import packed
from text2grad.report_data import read_object
from text2grad.run_folder import check_same_flags
from text2grad.schema import Record, UserError
from text2grad.target_trainer import (
    Example,
    NamedCheckpoints,
    TargetTrainer,
    make_dataset,
    save_adapter,
)
from text2grad.trainer_states import state_to_resume, update_records
from text2grad.whole_folder import read_manifest

if TYPE_CHECKING:
    from text2grad.config.training import AdapterTrainConfig


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
    if is_main_process():
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
    anew = bool(state and _optimiser_of_others(Path(state), _deepspeed(args)))
    model = load_model(base_model, args.dtype, flag, **packed(args))
    longest = max(len(one.prompt_ids) + len(one.target_ids) for one in (*train, *valid))
    bounds = "--prompt_max_length with --max_length or --answer_max_length"
    check_context(model, f"{flag} {base_model}", longest, bounds)
    model.config.use_cache = False
    set_seed(args.seed)  # the trainer sets it too, but the adapter is drawn before
    model = add_lora(model, args, args.lora_dropout, f"{flag} {base_model}")
    if anew:
        load_adapter(Path(state), model)
    named = NamedCheckpoints(output_dir, tokenizer, facts)
    settings = trl_config(args, eval_steps if valid else 0)
    count_processes()  # before the trainer asks for them
    trainer = TargetTrainer(
        model=model,
        args=settings,
        train_dataset=make_dataset(train, blank=True),
        eval_dataset=make_dataset(valid) if valid else None,
        processing_class=tokenizer,
        callbacks=[named],
    )
    for weights in model.parameters():
        if weights.requires_grad:
            weights.data = weights.data.float()  # TRL rounds an adapter on packed weights to bf16
    named.trainer = trainer
    trainer.run(state, anew)
    if valid and "eval_loss" not in _last_rows(trainer):
        trainer.evaluate()
    save_adapter(trainer, tokenizer, output_dir / "final", facts)
    return trainer


def check_resume(args: AdapterTrainConfig) -> str:
    """Before anything is written: the run can start, or go on as it was begun.

    Returns:
        The state that it goes on from, "" for a new run.

    Raises:
        UserError: there is nothing to resume, another run's checkpoints are in the way, a flag or
            the records of an update differ, which a resumed run cannot change, or the DeepSpeed
            file or the launcher contradicts a flag, or --load_in_4bit is not possible here.
    """
    check_launcher(args, os.environ)
    packed(args)
    config = _deepspeed(args)
    state, notes = state_to_resume(Path(args.output_dir), args.resume_from_checkpoint)
    if state and (note := _optimiser_of_others(Path(state), config)):
        notes.append(note)
    if is_main_process():
        print(*notes, sep="\n", end="\n" * bool(notes))
    if state:
        _check_update(args, Path(state))
        begun = Path(state).resolve().parent.parent  # RUN/trainer/checkpoint-STEP
        names = """task base_model base_model_name target_format lora_r lora_alpha
            lora_target_modules lora_last_layers learning_rate seed"""
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


def _deepspeed(args: AdapterTrainConfig) -> dict[str, Any] | None:
    """The DeepSpeed file with what the flags decide, None without one."""
    if not args.deepspeed:
        return None
    config = read_deepspeed(args, launched_processes(), "GPUS=0 for the shell")
    check_launcher_values(config, f"--deepspeed {args.deepspeed}", os.environ)
    return config


def _optimiser_of_others(state: Path, config: Mapping[str, Any] | None) -> str:
    """Why this run cannot go on with the optimiser of a state, "" if it can.

    Under DeepSpeed it is cut into a part for each process, in another way from ZeRO-3 on.
    """
    parts = [path.name for path in state.glob("global_step*/*_optim_states.pt")]
    whole = any(path.name.startswith("mp_rank") for path in state.glob("global_step*/*model*"))
    written = _cut(len(parts), not whole)
    stage = config["zero_optimization"]["stage"] if config else 0
    now = _cut(launched_processes() if config else 0, stage == 3)
    if written == now:
        return ""
    return (
        f"{state}: its optimiser is that of {written}, and this is {now}: adapter, step and "
        "schedule go on, the optimiser starts anew"
    )


def _cut(parts: int, zero3: bool) -> str:
    if not parts:
        return "a run without DeepSpeed"
    return f"{parts} processes under DeepSpeed {'with' if zero3 else 'below'} ZeRO-3"


def _check_update(args: AdapterTrainConfig, state: Path) -> None:
    """Steps and the place in the data mean the same only if an update has as many records."""
    now = update_records(args)
    before = read_manifest(state).get("records", now)
    if before != now:
        raise UserError(
            f"--per_device_train_batch_size {args.per_device_train_batch_size} times "
            f"--gradient_accumulation_steps {args.gradient_accumulation_steps} times "
            f"{launched_processes()} processes: updates of {now} records, but those of {state} had "
            f"{before}, which a resumed run keeps; change the two flags, or start anew in another "
            "--output_dir"
        )


def trl_config(args: AdapterTrainConfig, eval_steps: int) -> TrlConfig:
    """The flags as TRL takes them.

    Args:
        args: the flags that both stages share.
        eval_steps: updates between evaluations, 0 for none.

    Raises:
        UserError: TRL refuses one.
    """
    config = _deepspeed(args)
    if config:
        prepare_deepspeed()
        del config["train_batch_size"]  # checked; the library does not know yet how many we are
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
            deepspeed=config,
            # where there is neither GPU nor DeepSpeed, each process would think that it is alone
            use_cpu=launched_processes() > 1
            and not config
            and not torch.accelerator.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            disable_tqdm=False,  # the default follows the log level, which is turned down
        )
    except ValueError as error:
        raise UserError(f"training flags: {' '.join(str(error).split())[:300]}") from error
