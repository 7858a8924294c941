"""A stand-in for the library vLLM: what the code under test calls of it, recorded."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch


@dataclass
class SamplingParams:
    """The settings that the code may give; any other is an error, as it is there."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    min_tokens: int = 0
    max_tokens: int = 16
    stop_token_ids: list | None = None
    detokenize: bool = True
    seed: int | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class FakeVllm:
    """Records every call.

    Args:
        say: gives (token ids, finish_reason) for a prompt's ids and its `SamplingParams`.

    Attributes:
        engines: settings of every `LLM`.
        calls: (prompts, params, adapter) of every `generate`.
        listener: called with the adapter of each `generate`, whose folder must be there.
    """

    def __init__(self, say):
        self.say, self.engines, self.calls = say, [], []
        self.listener = lambda adapter: None

    def install(self, monkeypatch):
        """Put it in the place of the library, on a machine that seems to have a GPU."""
        fake = self

        class LLM:
            def __init__(self, **settings):
                fake.engines.append(settings)

            def generate(self, prompts, sampling_params, *, lora_request=None, use_tqdm=True):
                if lora_request is not None:
                    assert (Path(lora_request.lora_path) / "adapter_config.json").exists()
                ids = [prompt["prompt_token_ids"] for prompt in prompts]
                fake.calls.append((ids, sampling_params, lora_request))
                fake.listener(lora_request)
                return [fake.output(*pair) for pair in zip(ids, sampling_params, strict=True)]

        vllm, lora, request = map(ModuleType, ("vllm", "vllm.lora", "vllm.lora.request"))
        vllm.LLM, vllm.SamplingParams, vllm.__version__ = LLM, SamplingParams, "0.0"
        request.LoRARequest, vllm.lora, lora.request = LoRARequest, lora, request
        for module in (vllm, lora, request):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr("text2grad.vllm_engine.has_gpu", lambda: True)
        return self

    def output(self, prompt, params):
        ids, reason = self.say(prompt, params)
        sampled = SimpleNamespace(token_ids=tuple(ids), finish_reason=reason)
        return SimpleNamespace(prompt_token_ids=list(prompt), outputs=[sampled])


def seeded_ids(prompt, params, vocabulary=500):
    """Ids that depend on prompt and seed only: sampled ones without an end, up to the bound."""
    generator = torch.Generator().manual_seed((params.seed or 0) + sum(prompt))
    ids = torch.randint(3, vocabulary, (params.max_tokens,), generator=generator).tolist()
    return ids, "length"
