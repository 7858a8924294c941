"""What the two policy trainers of TRL share here: settings, the record of a run, the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from text2grad.models import replace_folder
from text2grad.report_data import read_object
from text2grad.run_folder import MetricsFile, check_same_flags
from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config.baselines import BaselineTrainConfig


# what a resumed run cannot change
_BOUND = [
    "task",
    "base_model_name",
    "lora_r",
    "lora_alpha",
    "lora_target_modules",
    "lora_last_layers",
    "learning_rate",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "batch_size",
    "num_generations",
    "num_iterations",
    "beta",
    "temperature",
    "seed",
]


def trl_settings(args: BaselineTrainConfig) -> dict[str, Any]:
    """The arguments that TRL's configurations of all trainers take from our flags."""
    return {
        "output_dir": str(Path(args.output_dir) / "trainer"),
        "per_device_train_batch_size": args.per_device_train_batch_size,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
        "num_train_epochs": args.num_train_epochs,
        "max_steps": args.max_steps,
        "learning_rate": args.learning_rate,
        "lr_scheduler_type": args.lr_scheduler_type,
        "warmup_steps": args.warmup_ratio,
        "weight_decay": args.weight_decay,
        "max_grad_norm": args.max_grad_norm,
        "save_steps": args.save_steps,
        "save_total_limit": args.save_total_limit,
        "logging_steps": 1,
        "report_to": "none",
        "bf16": False,  # the frozen base is loaded in its own precision, the adapter is fp32
        "gradient_checkpointing": args.gradient_checkpointing,
        "seed": args.seed,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "disable_tqdm": False,  # the default follows the log level, which is turned down
    }


class StepLog(TrainerCallback):
    """Appends what the trainer logs to `metrics.jsonl`, a line for each update."""

    def __init__(self, folder: str | Path, resumed: int) -> None:
        self.metrics = MetricsFile(Path(folder) / "metrics.jsonl", resumed)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Called by the trainer."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            self.metrics.append({"step": state.global_step, **logs})


def state_to_resume(args: BaselineTrainConfig) -> str:
    """The trainer state to go on from, "" for a new run; before anything is written.

    Raises:
        UserError: there is no such state, another run's are in the way, or a flag differs that a
            resumed run cannot change.
    """
    flag, wanted = "--resume_from_checkpoint", args.resume_from_checkpoint
    states = [Path(wanted)]
    if wanted in ("", "auto"):
        states = list((Path(args.output_dir) / "trainer").glob("checkpoint-*"))
    # transformers writes this file last
    whole = [path for path in states if (path / "trainer_state.json").exists()]
    if not whole:
        if wanted not in ("", "auto"):
            raise UserError(f"{flag} {wanted}: no trainer_state.json in it")
        return ""
    if not wanted:
        raise UserError(
            f"--output_dir {args.output_dir}: holds the checkpoints of another run; go on with it "
            f"by {flag} auto, or choose another folder"
        )
    state = max(whole, key=lambda path: resumed_step(str(path)))
    begun = state.resolve().parent.parent  # RUN/trainer/checkpoint-STEP
    saved = read_object(begun / "config.json", flag).get("flags") or {}
    check_same_flags(
        begun, saved, {name: getattr(args, name) for name in _BOUND if hasattr(args, name)}
    )
    return str(state)


def resumed_step(state: str) -> int:
    """The update after which a trainer state was written, 0 for none.

    Example: "run/trainer/checkpoint-20" -> 20
    """
    return int(Path(state).name.rsplit("-", 1)[1]) if state else 0


def save_trained(trainer: Any, tokenizer: Any, path: Path) -> None:
    """Write the trained adapter, without the frozen copy that is TRL's reference, and tokenizer."""
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model)
        with replace_folder(path) as folder:
            model.save_pretrained(folder, selected_adapters=["default"])
            tokenizer.save_pretrained(folder)
