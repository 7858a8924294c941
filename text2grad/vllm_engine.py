"""vLLM, an optional library: imported only where a flag asks for it; token ids go in and come out.

Only its plain interface for offline use is called: `LLM`, `SamplingParams`, `LoRARequest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import convert_file_size_to_int

from text2grad.models import resolve_dtype
from text2grad.pretrained import one_line
from text2grad.rollout import Sampling, cut_at_end
from text2grad.schema import UserError

GPU_SHARE = 0.9  # of the memory, where vLLM has the GPU to itself
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has kernels for
_RENAMED = {"min_new_tokens": "min_tokens"}  # as transformers and as vLLM call it
_NO_TOP_K = -1


class VllmEngine:
    """A model under vLLM on the GPUs of this machine.

    Args:
        model: a folder or a hub id.
        flag: the flag that asked for vLLM, with its value, for messages.
        max_tokens: of prompt and response together.
        dtype: of the weights, as the flags name it.
        gpu_share: of each GPU's memory that vLLM takes.
        tensor_parallel_size: GPUs that share the model.
        lora_rank: of the adapters that `generate` is given, 0 for none.
        seed: of whatever is sampled without a seed of its own.

    Raises:
        UserError: no GPU, vLLM is not installed, or it does not load the model.
    """

    def __init__(
        self,
        model: str,
        flag: str,
        *,
        max_tokens: int,
        dtype: str = "auto",
        gpu_share: float = GPU_SHARE,
        tensor_parallel_size: int = 1,
        lora_rank: int = 0,
        seed: int = 0,
    ) -> None:
        if not has_gpu():
            raise UserError(f"{flag}: vLLM needs a GPU, and none is visible; use hf")
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise UserError(
                f"{flag}: vLLM cannot be imported ({one_line(error)}); pip install vllm"
            ) from error
        self._vllm, self._lora_request, self._flag = vllm, LoRARequest, flag
        adapters = {}
        if lora_rank:
            rank = next((one for one in _LORA_RANKS if one >= lora_rank), lora_rank)
            adapters = {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
            adapters["max_cpu_loras"] = 1  # an older adapter is never used again
        try:
            self._llm = vllm.LLM(
                model=model,
                dtype=str(resolve_dtype(dtype)).removeprefix("torch."),
                tensor_parallel_size=tensor_parallel_size,
                gpu_memory_utilization=gpu_share,
                max_model_len=max_tokens,
                generation_config="vllm",  # what is sampled is what the flags say
                seed=seed,
                **adapters,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{flag}: vLLM does not load {model}: {one_line(error)}") from error

    def adapter(self, number: int, path: str) -> Any:
        """A saved adapter, for `generate`.

        Args:
            number: at least 1, and another for other weights: vLLM keeps weights by it, and what it
                has computed of a prompt by the name that is made of it.
            path: the adapter's folder, which must stay until `generate` was called with it.
        """
        return self._lora_request(f"adapter-{number}", number, path)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] = (),
        adapter: Any = None,
        progress: bool = False,
    ) -> list[list[int]]:
        """One response per prompt, as sampled, up to and including its first end token.

        Args:
            prompts: token ids.
            sampling: as for `rollout.sample_responses`.
            seeds: one per prompt, () for those of the engine.
            adapter: from `adapter`.
            progress: show a bar.

        Raises:
            UserError: vLLM did something else than it was asked for.
        """
        params = [self._params(sampling, seed) for seed in seeds or [None] * len(prompts)]
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            params,
            lora_request=adapter,
            use_tqdm=progress,
        )
        return [
            self._response(output, prompt, sampling.eos_ids)
            for output, prompt in zip(outputs, prompts, strict=True)
        ]

    def _params(self, sampling: Sampling, seed: int | None) -> Any:
        extra = {_RENAMED.get(name, name): value for name, value in sampling.extra}
        settings = {
            "temperature": sampling.temperature,
            "top_p": 1.0,
            **extra,
            "top_k": extra.get("top_k") or _NO_TOP_K,
        }
        settings.pop("num_beams", None)  # 1: more are refused where the flags are read
        return self._vllm.SamplingParams(
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=list(sampling.eos_ids),
            detokenize=False,
            seed=seed,
            **settings,
        )

    def _response(self, output: Any, prompt: Sequence[int], ends: Sequence[int]) -> list[int]:
        sampled = output.outputs[0]
        ids = cut_at_end(sampled.token_ids, ends)
        ended = bool(ids) and (ids[-1] in ends or sampled.finish_reason == "length")
        if list(output.prompt_token_ids) != list(prompt) or not ended:
            said = f"finish_reason {sampled.finish_reason}, last ids {ids[-3:]}"
            raise UserError(
                f"{self._flag}: vLLM {self._vllm.__version__} did not return the ids that were "
                f"asked for ({said}); use hf"
            )
        return ids


def has_gpu() -> bool:
    """Whether torch sees a GPU."""
    return torch.cuda.is_available()


def gpu_share(limit: str) -> float:
    """`--gpu_memory 30GiB` as a share of the first GPU's memory, at most `GPU_SHARE`.

    Raises:
        UserError: it is no size.
    """
    if not limit:
        return GPU_SHARE
    try:
        wanted = convert_file_size_to_int(limit)
    except ValueError as error:
        raise UserError(f"--gpu_memory {limit}: no size, for example 30GiB") from error
    if not has_gpu():
        return GPU_SHARE
    return min(GPU_SHARE, wanted / torch.cuda.get_device_properties(0).total_memory)
