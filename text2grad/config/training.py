"""Flags of the two stages that train an adapter on given targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from text2grad.config.checks import above, at_least, fraction
from text2grad.schema import FieldNames

Dtype = Literal["auto", "bf16", "fp16", "fp32"]
TargetFormat = Literal["spans", "word_scores"]
AnyFormat = Literal["", "spans", "word_scores"]


@dataclass(frozen=True)
class AdapterTrainConfig:
    """What the reward model and the supervised start of the policy have in common."""

    lora_r: int = 16
    """rank of the adapter"""
    lora_alpha: int = 32
    """scale of the adapter"""
    lora_dropout: float = 0.05
    """dropout of the adapter"""
    lora_target_modules: tuple[str, ...] = ("q_proj", "v_proj")
    """adapted layers, or all-linear"""
    lora_last_layers: int = 0
    """adapt only this many of the last blocks: faster, as nothing runs backward below; 0 for all"""
    learning_rate: float = 1e-4
    """peak learning rate"""
    lr_scheduler_type: str = "linear"
    """schedule, by its transformers name"""
    warmup_ratio: float = 0.03
    """share of the steps with a rising learning rate"""
    weight_decay: float = 0.0
    """decoupled weight decay"""
    per_device_train_batch_size: int = 8
    """sequences per forward pass and process"""
    gradient_accumulation_steps: int = 1
    """forward passes per update"""
    num_train_epochs: float = 1.0
    """passes over the data"""
    max_steps: int = -1
    """updates, -1 for --num_train_epochs"""
    max_grad_norm: float = 1.0
    """gradient clipping"""
    save_steps: int = 200
    """updates between checkpoints"""
    save_total_limit: int = 2
    """resumable trainer states kept; the adapters EPOCH_STEP are all kept"""
    gradient_checkpointing: bool = False
    """recompute activations: less memory, slower"""
    chat_template: str = ""
    """file with a Jinja chat template, "" for the model's own"""
    dtype: Dtype = "auto"
    """precision of the frozen base model"""
    load_in_4bit: bool = False
    """keep the frozen base model packed in 4 bits (QLoRA): a GPU and bitsandbytes"""
    seed: int = 42
    """seed of order, dropout and, where there is one, the split"""
    deepspeed: str = ""
    """DeepSpeed configuration file"""
    local_rank: int = -1
    """set by the launcher"""
    resume_from_checkpoint: str = ""
    """a trainer state, or auto for the newest in --output_dir"""
    max_train_samples: int = 0
    """records to train on, 0 for all"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    def __post_init__(self) -> None:
        above(self, 0, "learning_rate", "num_train_epochs", "lora_r", "save_steps")
        at_least(self, 1, "per_device_train_batch_size", "gradient_accumulation_steps")
        at_least(self, 0, "lora_dropout", "lora_last_layers", "max_train_samples")
        fraction(self, "warmup_ratio")
