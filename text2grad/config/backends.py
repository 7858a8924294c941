"""Flags that say where a model runs: in this process, under vLLM, or behind a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from text2grad.config.checks import above, at_least, server_address
from text2grad.schema import UserError
from text2grad.span_noise import read_noise


@dataclass(frozen=True)
class InferBackendConfig:
    """Who runs the reward model for `2_infer.py`."""

    backend: Literal["hf", "vllm", "server"] = "hf"
    """hf: transformers, here; vllm: vLLM, here (pip install vllm); server: --base_url; only hf
    decodes inside the grammar"""
    tensor_parallel_size: int = 1
    """--backend vllm: GPUs that share the model"""
    base_url: str = ""
    """--backend server: any OpenAI-compatible one; --model_path is the model's name there, and its
    tokenizer and format are read if that is a folder here too"""
    concurrency: int = 32
    """--backend server: requests under way at once"""
    timeout_seconds: float = 120.0
    """--backend server: patience for one request"""
    max_retries: int = 4
    """--backend server: retries of a request that may succeed later"""
    patience_seconds: float = 600.0
    """--backend server: how long a server that has answered may be busy or away"""

    def _check_backend(self) -> None:
        server_address(self, "base_url")
        at_least(self, 1, "concurrency", "tensor_parallel_size")
        at_least(self, 0, "max_retries")
        above(self, 0, "timeout_seconds", "patience_seconds")
        if (self.backend == "server") != bool(self.base_url):
            wrong = f"--base_url {self.base_url}: needs --backend server"
            raise UserError(wrong if self.base_url else "--backend server: needs --base_url")
        if self.tensor_parallel_size > 1 and self.backend != "vllm":
            raise UserError(
                f"--tensor_parallel_size {self.tensor_parallel_size}: needs --backend vllm"
            )


@dataclass(frozen=True)
class RolloutBackendConfig:
    """Who samples, who runs the reward model, and how reliable its critiques are, in PPO."""

    reward_base_url: str = ""
    """server that runs the reward model, any OpenAI-compatible one; --reward_model_name is its name
    there, and its tokenizer, format and weights' hash are read if that is a folder here too"""
    reward_concurrency: int = 32
    """--reward_base_url: requests under way at once, of each process"""
    reward_timeout_seconds: float = 120.0
    """--reward_base_url: patience for one request"""
    reward_max_retries: int = 4
    """--reward_base_url: retries of a request that may succeed later"""
    reward_patience_seconds: float = 600.0
    """--reward_base_url: how long a server that has answered may be busy or away before the run
    stops"""
    rollout_backend: Literal["hf", "vllm"] = "hf"
    """who samples: transformers, or vLLM beside it on the same GPU (pip install vllm)"""
    rollout_gpu_memory: float = 0.3
    """--rollout_backend vllm: share of the GPU's memory that vLLM takes"""
    feedback_noise: str = ""
    """errors put into critiques before they are paid: flip, drop, shift or replace and a share of
    the quotes, as flip:0.2, or irrelevant and a share of the critiques; "" for none"""

    def _check_backends(self, feedback_source: str, num_beams: int) -> None:
        server_address(self, "reward_base_url")
        at_least(self, 1, "reward_concurrency")
        at_least(self, 0, "reward_max_retries")
        above(self, 0, "reward_timeout_seconds", "reward_patience_seconds", "rollout_gpu_memory")
        if self.rollout_gpu_memory >= 1:
            raise UserError(
                f"--rollout_gpu_memory {self.rollout_gpu_memory}: must be less than 1, the policy "
                "is on the same GPU"
            )
        if self.reward_base_url and feedback_source != "reward_model":
            raise UserError(
                f"--reward_base_url {self.reward_base_url}: no reward model is asked with "
                f"--feedback_source {feedback_source}; drop one of the two"
            )
        if self.rollout_backend == "vllm" and num_beams > 1:
            raise UserError(f"--num_beams {num_beams}: --rollout_backend vllm has no beams")
        noise = read_noise(self.feedback_noise, "--feedback_noise")
        if noise and feedback_source == "scalar_model":
            raise UserError(
                f"--feedback_noise {self.feedback_noise}: --feedback_source scalar_model quotes "
                "nothing; drop one of the two"
            )

    def reward_server(self) -> dict[str, Any]:
        """The flags of the reward model's server, as `ServerConfig` names them."""
        return {
            "base_url": self.reward_base_url,
            "concurrency": self.reward_concurrency,
            "timeout_seconds": self.reward_timeout_seconds,
            "max_retries": self.reward_max_retries,
        }
