"""Flags of the policy's evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from text2grad.config.checks import above, at_least, draws
from text2grad.config.server import ServerConfig
from text2grad.config.testing import FaultSearchConfig, TestRunConfig
from text2grad.config.training import AnyFormat, Dtype
from text2grad.schema import FieldNames

EvalPlusDataset = Literal["humaneval", "mbpp"]


@dataclass(frozen=True)
class PolicyInferConfig:
    """Write the policy's response to every validation prompt."""

    task: str = "slf5k"
    """which task's prompt and keys; or your own, a .py file"""
    model_path: str = "../ckpt/text2grad_slf5k/final_merge"
    """merged policy, an adapter, or any model"""
    input_path: str = "../../../RM_Data_Anno/SLF5K/data/validation.json"
    """prompts"""
    output_dir: str = "result"
    """folder of the samples file"""
    output_name: str = ""
    """file name, "" for MODEL_samples.json"""
    prompt_file: str = ""
    """own wording of the policy's prompt, with the same $slots"""
    chat_template: str = ""
    """file with a Jinja chat template, "" for the model's own"""
    sample_size: int = 500
    """prompts, spread evenly over the file; 0 for all"""
    samples_per_prompt: int = 1
    """responses to each prompt"""
    batch_size: int = 32
    """prompts generated together"""
    prompt_max_length: int = 640
    """tokens of the prompt; a longer post is shortened inside the post"""
    max_new_tokens: int = 200
    """tokens of a response"""
    temperature: float = 0.6
    """sampling temperature, 0 for greedy"""
    top_p: float = 0.9
    """nucleus"""
    seed: int = 42
    """seed of the sampling"""
    dtype: Dtype = "auto"
    """precision of the model"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""
    gpu_memory: str = ""
    """memory to use per GPU, for example 30GiB"""
    fields: FieldNames = FieldNames()
    """key names of your own file"""

    ALIASES: ClassVar[dict[str, str]] = {"data_path": "input_path", "max_samples": "sample_size"}

    def __post_init__(self) -> None:
        at_least(self, 0, "sample_size", "temperature")
        at_least(self, 1, "batch_size", "max_new_tokens", "samples_per_prompt")
        above(self, 0, "top_p")


@dataclass(frozen=True)
class PolicyMetricsConfig(FaultSearchConfig):
    """Measure responses against the human references."""

    task: str = "slf5k"
    """which task's keys; or your own, a .py file"""
    input_file: str = "result/final_merge_samples.json"
    """what infer_val.py wrote"""
    compare_file: str = ""
    """the same prompts answered before training, to print before and after"""
    output_file: str = "result/metrics.json"
    """all figures"""
    bert_model: str = ""
    """encoder for BERTScore: a folder or a hub id, for example roberta-large; "" leaves it out"""
    bert_layers: int = 0
    """layer of the encoder; 0 for the one bert-score recommends, else three quarters of all"""
    ppl_model: str = ""
    """language model for the perplexity of the response given the prompt; "" leaves it out"""
    policy_prompt_file: str = ""
    """own wording of the policy's prompt, as given to infer_val.py, for the perplexity"""
    prompt_max_length: int = 640
    """tokens of the prompt, as given to infer_val.py, for the perplexity"""
    reward_model_name: str = ""
    """reward model that scores the responses too, "" for none"""
    reward_target_format: AnyFormat = ""
    """format that it was trained on, "" for the one that its folder names, else spans"""
    reward_prompt_max_length: int = 900
    """tokens of the reward model's prompt"""
    reward_batch_size: int = 32
    """responses judged together"""
    reward_max_new_tokens: int = 500
    """tokens of a critique"""
    prompt_file: str = ""
    """own wording of the reward model's prompt, with the same $slots"""
    batch_size: int = 16
    """responses that go through encoder or language model together"""
    localisation_seconds: float = 2.0
    """time for trial edits of one response that failed its tests; 0 looks for no faults"""
    dtype: Dtype = "auto"
    """precision of the language model"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""
    gpu_memory: str = ""
    """memory of the language model per GPU, for example 30GiB"""
    seed: int = 42
    """seed of the bootstrap"""

    ALIASES: ClassVar[dict[str, str]] = {
        "results_path": "input_file",
        "input": "input_file",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 64, "reward_prompt_max_length")
        at_least(self, 1, "batch_size", "reward_batch_size", "reward_max_new_tokens")
        at_least(self, 0, "bert_layers")
        at_least(self, 32, "prompt_max_length")


@dataclass(frozen=True)
class PassAtKConfig(TestRunConfig):
    """Run the tests of a policy's solutions in the sandbox, and report pass@k."""

    task: str = "kodcode"
    """which task's keys; or your own, a .py file"""
    input_file: str = "result/final_merge_samples.json"
    """what infer_val.py wrote; several solutions of a problem need --samples_per_prompt there"""
    compare_file: str = ""
    """solutions of the same problems before training, to print before and after"""
    output_file: str = "result/pass_at_k.json"
    """all figures, and what the tests said of each solution"""
    k: tuple[int, ...] = (1,)
    """draws in which one must be right; at most the number of solutions of each problem"""
    seed: int = 42
    """seed of the bootstrap"""

    ALIASES: ClassVar[dict[str, str]] = {
        "results_path": "input_file",
        "input": "input_file",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        draws(self)


@dataclass(frozen=True)
class EvalPlusProblemsConfig:
    """Write the problems of HumanEval+ or MBPP+ as prompts for infer_val.py."""

    task: str = "kodcode"
    """which task's keys; or your own, a .py file"""
    dataset: EvalPlusDataset = "humaneval"
    """which problems"""
    humaneval_path: str = ""
    """HumanEval+ in EvalPlus' format (.jsonl, .jsonl.gz), "" for EvalPlus' release, fetched once"""
    mbpp_path: str = ""
    """MBPP+, likewise"""
    output_path: str = "result/humaneval_problems.json"
    """prompts, the --input_path of infer_val.py"""

    ALIASES: ClassVar[dict[str, str]] = {"output_file": "output_path", "output": "output_path"}


@dataclass(frozen=True)
class EvalPlusConfig(TestRunConfig):
    """Let EvalPlus judge a policy's solutions in the sandbox, and report pass@k."""

    dataset: EvalPlusDataset = "humaneval"
    """which problems"""
    humaneval_path: str = ""
    """HumanEval+ in EvalPlus' format (.jsonl, .jsonl.gz), "" for EvalPlus' release, fetched once"""
    mbpp_path: str = ""
    """MBPP+, likewise"""
    input_file: str = "result/humaneval_samples.json"
    """what infer_val.py wrote, or solutions in EvalPlus' format"""
    compare_file: str = ""
    """solutions of the same problems before training, to print before and after"""
    output_file: str = "result/humaneval_plus.json"
    """all figures and verdicts; the solutions that ran lie beside it"""
    k: tuple[int, ...] = (1,)
    """draws in which one must be right; at most the number of solutions of each problem"""
    sample_size: int = 0
    """problems that infer_val.py was given, 0 for all; fewer solutions are an error"""
    cpu_seconds: int = 150
    """processor time of a process"""
    wall_seconds: float = 300.0
    """time for one solution; EvalPlus itself ends one after two minutes"""
    memory_mb: int = 4096
    """memory of one run; EvalPlus' own limit"""
    min_time_limit: float = 1.0
    """seconds for one test at least"""
    gt_time_limit_factor: float = 4.0
    """time for one test, in times of the reference solution"""
    seed: int = 42
    """seed of the bootstrap"""

    ALIASES: ClassVar[dict[str, str]] = {
        "samples": "input_file",
        "parallel": "workers",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        draws(self)
        at_least(self, 0, "sample_size")
        at_least(self, 512, "memory_mb")
        above(self, 0, "min_time_limit", "gt_time_limit_factor")


@dataclass(frozen=True)
class JudgeConfig(ServerConfig):
    """Let a chat model compare two sets of responses to the same prompts, in both orders."""

    task: str = "slf5k"
    """which task's prompt and criteria"""
    input_file: str = "result/final_merge_samples.json"
    """responses A: what infer_val.py wrote, for example after training"""
    compare_file: str = "result/Llama-3.1-8B-Instruct_samples.json"
    """responses B to the same prompts, for example before training"""
    output_file: str = "result/judge.json"
    """all figures; journal, verdicts and failures lie beside it"""
    judge_model: str = "gpt-4o"
    """model name at the server"""
    prompt_file: str = ""
    """own wording of the judge's prompt, with the same $slots"""
    max_samples: int = 0
    """prompts to compare, 0 for all"""
    seed: int = 42
    """seed of the sample and of the bootstrap"""

    ALIASES: ClassVar[dict[str, str]] = {
        "annotator_model": "judge_model",
        "model": "judge_model",
        "input": "input_file",
        "output_path": "output_file",
        "output": "output_file",
        "batch_size": "concurrency",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "max_samples")
