"""Flags of the public benchmarks of chat models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from text2grad.config.checks import above, at_least
from text2grad.config.server import ServerConfig
from text2grad.config.training import Dtype
from text2grad.schema import UserError


@dataclass(frozen=True)
class ChatModelConfig:
    """The policy that answers a benchmark's conversations, in its own chat template."""

    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"
    """merged policy, an adapter, or any model"""
    chat_template: str = ""
    """file with a Jinja chat template, "" for the model's own"""
    batch_size: int = 16
    """conversations answered together"""
    prompt_max_length: int = 3072
    """tokens of a conversation; a longer one is a named failure, nothing is cut"""
    max_new_tokens: int = 1024
    """tokens of an answer"""
    seed: int = 42
    """seed of the sampling and of the bootstrap"""
    dtype: Dtype = "auto"
    """precision of the model"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""
    gpu_memory: str = ""
    """memory to use per GPU, for example 30GiB"""

    def _check_model(self) -> None:
        at_least(self, 1, "batch_size", "prompt_max_length", "max_new_tokens")


@dataclass(frozen=True)
class MtBenchConfig(ServerConfig, ChatModelConfig):
    """Let the policy answer MT-Bench or MT-Bench-101, and a chat model rate every answer."""

    set: Literal["mtbench", "mtbench101"] = "mtbench"
    """which questions; each set has files of its own"""
    data: str = ""
    """questions in the published format; "" downloads them"""
    references: str = ""
    """mtbench: reference answers in the published format; "" downloads them with the questions"""
    judge_prompts: str = ""
    """"" for the published ones (mtbench: downloaded; mtbench101: none, so "own"), "own" for this
    repository's, or a file: .jsonl as MT-Bench has them, else one wording with the $slots of own"""
    output_file: str = ""
    """all figures, "" for result/SET.json; journals, answers with scores and failures beside it"""
    judge_model: str = "gpt-4o"
    """model name at the server"""
    max_tokens: int = 2048
    """longest reply of the judge"""
    policy_temperature: float | None = None
    """sampling temperature of the policy, None for the one that the set names for the category"""
    max_samples: int = 0
    """questions, chosen by chance, 0 for all"""

    ALIASES: ClassVar[dict[str, str]] = {
        "data_path": "data",
        "model": "judge_model",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_model()
        at_least(self, 0, "max_samples")
        if self.policy_temperature is not None:
            at_least(self, 0, "policy_temperature")


@dataclass(frozen=True)
class AlpacaEvalConfig(ChatModelConfig):
    """Answer the instructions of AlpacaEval 2.0, and compare the answers by its own program."""

    data: str = ""
    """instructions with reference answers: a JSON list of {instruction, output, generator}; ""
    downloads those of AlpacaEval 2.0"""
    output_file: str = "result/alpaca_eval.json"
    """all figures; what the program writes lies in the folder of the same name"""
    environment: str = "../../../.venv-alpaca-eval"
    """virtual environment of alpaca_eval; it is set up if it is not there"""
    annotators_config: str = "weighted_alpaca_eval_gpt4_turbo"
    """the judge: a configuration that alpaca_eval knows by name, or a configs.yaml of your own"""
    judge_model: str = ""
    """model name at the server, "" for the one in the configuration"""
    base_url: str = ""
    """the judge's server, "" for OpenAI's own; the key is read from OPENAI_API_KEY"""
    length_controlled: bool = True
    """the length-controlled win rate too; only for all the instructions of AlpacaEval itself"""
    concurrency: int = 8
    """requests to the judge under way at once"""
    temperature: float = 0.7
    """sampling temperature of the policy, 0 for greedy"""
    top_p: float = 1.0
    """nucleus"""
    max_samples: int = 0
    """instructions, chosen by chance, 0 for all"""

    ALIASES: ClassVar[dict[str, str]] = {
        "data_path": "data",
        "annotator_model": "judge_model",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        self._check_model()
        at_least(self, 0, "max_samples", "temperature")
        at_least(self, 1, "concurrency")
        above(self, 0, "top_p")
        if self.length_controlled and self.max_samples:
            raise UserError(
                f"--max_samples {self.max_samples}: the length-controlled win rate needs all "
                "instructions; pass --length_controlled false"
            )


@dataclass(frozen=True)
class ArcConfig:
    """Measure a model on ARC-Challenge by lm-eval, by the likelihood of each choice."""

    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"
    """merged policy, an adapter, or any model"""
    data: str = ""
    """questions in the format of ARC: {question, choices: {text, label}, answerKey}; "" lets
    lm-eval download ARC-Challenge"""
    fewshot_data: str = ""
    """with --data: questions to show solved, in the same format"""
    num_fewshot: int = 25
    """solved questions shown before each; leaderboards of base models take 25, 0 is usual too"""
    apply_chat_template: bool = True
    """ask in the model's chat template"""
    fewshot_as_multiturn: bool = True
    """with a chat template: solved questions as turns of a conversation"""
    output_file: str = "result/arc_challenge.json"
    """all figures; what lm-eval writes lies in the folder of the same name"""
    environment: str = "../../../.venv-lm-eval"
    """virtual environment of lm-eval; it is set up, on top of this one, if it is not there"""
    max_samples: int = 0
    """questions, the first ones, 0 for all"""
    batch_size: int = 8
    """choices scored together"""
    device: str = ""
    """for example cuda:0 or cpu, "" for the first GPU, or the CPU"""
    dtype: Dtype = "auto"
    """precision of the model; auto is the one that it was saved in"""
    seed: int = 42
    """chooses the solved questions"""
    gpu_ids: str = ""
    """visible GPUs, for example 0,1"""

    ALIASES: ClassVar[dict[str, str]] = {
        "data_path": "data",
        "output_path": "output_file",
        "output": "output_file",
    }

    def __post_init__(self) -> None:
        at_least(self, 0, "num_fewshot", "max_samples")
        at_least(self, 1, "batch_size")
        if self.fewshot_data and not self.data:
            raise UserError(f"--fewshot_data {self.fewshot_data}: needs --data")
        if self.data and self.num_fewshot and not self.fewshot_data:
            raise UserError(
                f"--num_fewshot {self.num_fewshot}: --data has no solved questions to show; give "
                "--fewshot_data, or --num_fewshot 0"
            )
