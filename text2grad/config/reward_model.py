"""Flags of stage 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from text2grad.config.backends import InferBackendConfig
from text2grad.config.checks import at_least, fraction
from text2grad.config.training import AdapterTrainConfig, AnyFormat, Dtype, TargetFormat
from text2grad.schema import FieldNames, UserError


@dataclass(frozen=True)
class RewardTrainConfig(AdapterTrainConfig):
    """Train the generative reward model: prompt and response in, critique and quotes out."""

    task: str = "slf5k"
    """which task's prompt, keys and labels; or your own, a .py file"""
    base_model: str = "meta-llama/Llama-3.1-8B-Instruct"
    """model to adapt: a folder or a hub id"""
    data_path: str = "../../RM_Data_Anno/SLF5K/data/train_annotated.json"
    """annotated records"""
    valid_data_path: str = "../../RM_Data_Anno/SLF5K/data/validation_annotated.json"
    """annotated validation records; "" holds out --valid_fraction of the prompts"""
    more_data_path: tuple[str, ...] = ()
    """files with more annotated records, for example of the policy's own answers"""
    more_valid_data_path: tuple[str, ...] = ()
    """likewise for validation"""
    valid_fraction: float = 0.1
    """share of prompts held out when there is no validation file"""
    data_dir: str = "data/SLF5K"
    """where the records as trained and tested on are written"""
    output_dir: str = "ckpt/llama31-8B-slf5k"
    """checkpoints EPOCH_STEP and final"""
    target_format: TargetFormat = "spans"
    """what follows the critique: quotes (spans), or a score for every word (word_scores)"""
    prompt_file: str = ""
    """own wording of the reward model's prompt, with the same $slots"""
    prompt_max_length: int = 900
    """tokens of the prompt; a longer post is shortened inside the post"""
    max_length: int = 1400
    """tokens of prompt and target together"""
    answer_max_length: int = 499
    """tokens of the target; a record with a longer one is dropped and named"""
    learning_rate: float = 1e-5
    lr_scheduler_type: str = "constant"
    warmup_ratio: float = 0.0
    weight_decay: float = 3e-7
    per_device_train_batch_size: int = 1
    num_train_epochs: float = 3.0
    save_steps: int = 400
    eval_steps: int = 300
    """updates between evaluations of the loss, 0 for none but the last"""
    eval_samples: int = 500
    """validation records that the loss is evaluated on, drawn by --seed"""
    ALIASES: ClassVar[dict[str, str]] = {
        "model": "base_model",
        "model_path": "base_model",
        "micro_batch_size": "per_device_train_batch_size",
        "epochs": "num_train_epochs",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 64, "prompt_max_length", "max_length")
        at_least(self, 1, "eval_samples")
        at_least(self, 0, "eval_steps")
        fraction(self, "valid_fraction")


@dataclass(frozen=True)
class MergeConfig:
    """Merge an adapter into its base model."""

    base_model: str = ""
    """model that the adapter was trained on, "" for the one the adapter names"""
    lora_model: str = "../ckpt/llama31-8B-slf5k/final"
    """adapter folder"""
    save_dir: str = ""
    """merged model, "" for the adapter's name with _merge"""
    merge_and_save: bool = True
    """write the merged model; false only checks that the adapter fits"""
    dtype: Dtype = "auto"
    """precision of the merged model; auto keeps the base model's"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""

    ALIASES: ClassVar[dict[str, str]] = {"model_path": "lora_model", "output_dir": "save_dir"}


@dataclass(frozen=True)
class RewardInferConfig(InferBackendConfig):
    """Let the reward model judge the responses of a file."""

    task: str = "slf5k"
    """which task's prompt, keys and labels; or your own, a .py file"""
    model_path: str = "../ckpt/llama31-8B-slf5k/final_merge"
    """merged reward model, or an adapter; with --backend server its name there"""
    data_path: str = "../data/SLF5K/slf5k_test.json"
    """records with a response"""
    output_path: str = "inference_results.json"
    """the records with the reward model's feedback"""
    target_format: AnyFormat = ""
    """format that the model was trained on, "" for the one that its folder names, else spans"""
    prompt_file: str = ""
    """own wording of the reward model's prompt, with the same $slots"""
    chat_template: str = ""
    """file with a Jinja chat template, "" for the model's own"""
    constrained_decoding: bool = True
    """valid JSON and verbatim quotes by construction"""
    batch_size: int = 16
    """responses judged together"""
    prompt_max_length: int = 900
    """tokens of the prompt; a longer post is shortened inside the post"""
    max_length: int = 1400
    """tokens of prompt and reply together"""
    max_new_tokens: int = 512
    """tokens of the reply"""
    temperature: float = 0.0
    """sampling temperature without constrained decoding, which is greedy"""
    unconstrained_samples: int = 64
    """records judged a second time without the grammar, to report parse and match rates"""
    max_samples: int = 500
    """records to judge, 0 for all"""
    seed: int = 42
    """seed of the sample"""
    dtype: Dtype = "auto"
    """precision of the model"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""
    gpu_memory: str = ""
    """memory to use per GPU, for example 30GiB"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {
        "dataset_path": "data_path",
        "valid_dataset_file": "data_path",
        "output_file": "output_path",
        "num_samples": "max_samples",
    }

    def __post_init__(self) -> None:
        at_least(self, 1, "batch_size", "max_new_tokens")
        at_least(self, -1, "max_samples")
        at_least(self, 0, "temperature", "unconstrained_samples")
        self._check_backend()
        if self.chat_template and self.backend == "server":
            raise UserError("--chat_template: the server has its own; drop the flag")
        if self.temperature and self.constrained_decoding and self.backend == "hf":
            raise UserError(
                f"--temperature {self.temperature}: constrained decoding is greedy; drop the flag, "
                "or add --constrained_decoding false"
            )


@dataclass(frozen=True)
class RewardMetricsConfig:
    """Measure the reward model against the annotation and against trivial baselines."""

    task: str = "slf5k"
    """which task's keys and labels; or your own, a .py file"""
    input_file: str = "inference_results.json"
    """what 2_infer.py wrote"""
    output_file: str = "reward_model_metrics.json"
    """all figures"""
    train_file: str = "../data/SLF5K/slf5k_train.json"
    """training records, for the bag-of-words baseline; "" leaves it out"""
    data_path: str = ""
    """annotated records to measure against, joined by id; "" takes the gold in --input_file"""
    tokenizer: str = ""
    """compare tokens of this tokenizer; "" compares words"""
    apart: str = ""
    """regular expression: responses in whose ids it is found, and the others, also by themselves"""
    seed: int = 42
    """seed of the bootstrap"""

    ALIASES: ClassVar[dict[str, str]] = {
        "results_path": "input_file",
        "input": "input_file",
        "output_path": "output_file",
        "output": "output_file",
    }
