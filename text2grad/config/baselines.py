"""Flags of the methods that Text2Grad is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from text2grad.config.checks import above, at_least
from text2grad.config.training import AdapterTrainConfig, AnyFormat, Dtype
from text2grad.schema import UserError


@dataclass(frozen=True)
class ReflectConfig:
    """Let a policy criticise its own answers and write them anew; nothing is trained."""

    task: str = "slf5k"
    """which task's prompts and keys; or your own, a .py file"""
    model_path: str = "../ckpt/sft/final_merge"
    """merged policy, an adapter, or any model"""
    input_file: str = "result/first_answers.json"
    """what infer_val.py wrote"""
    output_file: str = "result/answers.json"
    """the same records with the last answers; first answers and critiques are kept beside them"""
    critique_prompt_file: str = ""
    """own wording of the prompt that asks for a critique, with the same $slots"""
    revision_prompt_file: str = ""
    """own wording of the prompt that asks for a new answer, with the same $slots"""
    chat_template: str = ""
    """file with a Jinja chat template, "" for the model's own"""
    rounds: int = 1
    """critiques and revisions, one after the other"""
    batch_size: int = 32
    """prompts generated together"""
    prompt_max_length: int = 1400
    """tokens of a prompt; a longer post is shortened inside the post"""
    critique_max_new_tokens: int = 160
    """tokens of a critique"""
    max_new_tokens: int = 200
    """tokens of an answer"""
    temperature: float = 0.6
    """sampling temperature, 0 for greedy"""
    top_p: float = 0.9
    """nucleus"""
    seed: int = 42
    """seed of the sampling"""
    dtype: Dtype = "auto"
    """precision of the model"""

    ALIASES: ClassVar[dict[str, str]] = {"input": "input_file", "output": "output_file"}

    def __post_init__(self) -> None:
        at_least(self, 0, "temperature")
        at_least(self, 1, "rounds", "batch_size", "max_new_tokens", "critique_max_new_tokens")
        above(self, 0, "top_p")


@dataclass(frozen=True)
class BaselineTrainConfig(AdapterTrainConfig):
    """What GRPO and DPO have in common."""

    task: str = "slf5k"
    """which task's prompt and keys; or your own, a .py file"""
    base_model_name: str = "meta-llama/Llama-3.1-8B-Instruct"
    """model to adapt: a folder or a hub id"""
    prompt_file: str = ""
    """own wording of the policy's prompt, with the same $slots"""
    prompt_max_length: int = 640
    """tokens of the prompt; a longer post is shortened inside the post"""
    lora_dropout: float = 0.0
    learning_rate: float = 1e-6

    ALIASES: ClassVar[dict[str, str]] = {
        "data_file_path": "data_path",
        "model": "base_model_name",
        "mini_batch_size": "per_device_train_batch_size",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 32, "prompt_max_length")
        if self.deepspeed:
            raise UserError(
                f"--deepspeed {self.deepspeed}: GRPO and DPO run in one process or data parallel; "
                "drop the flag"
            )


@dataclass(frozen=True)
class GRPOConfig(BaselineTrainConfig):
    """GRPO on the sum of the scores that critiques put on an answer, through TRL."""

    data_path: str = "data/train.json"
    """prompts to train on"""
    output_dir: str = "ckpt/grpo"
    """trainer states, final (the adapter), metrics.jsonl, samples.jsonl"""
    reward_model_name: str = "ckpt/reward_model/final_merge"
    """reward model: merged, or an adapter"""
    reward_target_format: AnyFormat = ""
    """format that it was trained on, "" for the one that its folder names, else spans"""
    feedback_source: Literal["reward_model", "reference", "execution"] = "reward_model"
    """who judges the samples: the reward model, or directly the annotator of that name"""
    reward_batch_size: int = 16
    """responses judged together"""
    reward_prompt_max_length: int = 900
    """tokens of the reward model's prompt"""
    reward_max_new_tokens: int = 500
    """tokens of a critique"""
    unmarked_score: float | None = None
    """score of a token that no quote marks, where the task judges it; None for the task's own"""
    output_max_length: int = 90
    """tokens of a response"""
    temperature: float = 1.0
    """of sampling and of every log-probability"""
    batch_size: int = 12
    """responses sampled at once, over all processes"""
    num_generations: int = 4
    """of these, responses to the same prompt"""
    num_iterations: int = 4
    """passes over what was sampled"""
    per_device_train_batch_size: int = 1
    gradient_accumulation_steps: int = 12
    num_train_epochs: float = 4.0
    beta: float = 0.04
    """weight of the KL to the start model in the loss"""
    cliprange: float = 0.2
    """clip range of the ratio"""

    def __post_init__(self) -> None:
        super().__post_init__()
        above(self, 0, "temperature", "cliprange")
        at_least(self, 0, "beta")
        at_least(self, 1, "num_iterations", "output_max_length", "reward_batch_size")
        at_least(self, 2, "num_generations")
        for name in ("num_generations", "per_device_train_batch_size"):
            if self.batch_size % getattr(self, name):
                raise UserError(
                    f"--batch_size {self.batch_size} is not a multiple of --{name} "
                    f"{getattr(self, name)}"
                )


@dataclass(frozen=True)
class DPOConfig(BaselineTrainConfig):
    """DPO on pairs of a chosen and a rejected answer, through TRL."""

    task: str = "ultrafeedback"
    data_path: str = "data/train.json"
    """records; one whose response is not its reference is a pair: the reference was chosen"""
    output_dir: str = "ckpt/dpo"
    """trainer states, final (the adapter), metrics.jsonl"""
    answer_max_length: int = 512
    """tokens of an answer; a pair with a longer one is dropped and named"""
    beta: float = 0.1
    """weight of the KL to the start model"""

    def __post_init__(self) -> None:
        super().__post_init__()
        above(self, 0, "beta")
        at_least(self, 1, "answer_max_length")


@dataclass(frozen=True)
class ScalarRewardConfig(BaselineTrainConfig):
    """Train a reward model with one score for a response, on pairs, through TRL."""

    data_path: str = "data/train.json"
    """records; one whose response is not its reference is a pair: the reference was chosen"""
    output_dir: str = "ckpt/scalar_reward"
    """trainer states, final (the whole model), metrics.jsonl"""
    answer_max_length: int = 512
    """tokens of an answer; a pair with a longer one is dropped and named"""
    learning_rate: float = 1e-5
    dtype: Dtype = "fp32"
    """precision of the model, its new head among it"""
    score_batch_size: int = 16
    """answers scored together after training, for mean and deviation of the scores"""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "answer_max_length", "score_batch_size")
