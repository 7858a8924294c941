"""Model families with tokenizers of their own, each of a few kilobytes, built in memory.

Tests say `from families import FAMILIES, save_family`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny import byte_fallback_tokenizer, byte_level_tokenizer, tiny_llama
from tokenizers import decoders, normalizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

FAMILIES = ("llama", "qwen", "gemma", "gpt2")

LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n\n{{ m['content'] | trim }}"
    "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}"
    "{% endif %}<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# GPT-2 has none: it is given by --chat_template
PLAIN = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
}


def family_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """As the family has it; no two split a text alike."""
    if name == "llama":  # byte-level, a BOS that the template and the tokenizer both write
        tokenizer = byte_level_tokenizer(400)
        tokenizer.add_special_tokens({"bos_token": "<|begin_of_text|>"})
        tokenizer.pad_token = None
        bos = ("<|begin_of_text|>", tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[bos]
        )
        tokenizer.chat_template = LLAMA_3
    elif name == "qwen":  # byte-level, ChatML, no BOS
        tokenizer = byte_level_tokenizer(512)
    elif name == "gemma":  # byte fallback, a BOS, no system role, two end tokens
        tokenizer = byte_fallback_tokenizer(700)
        turns = ["<start_of_turn>", "<end_of_turn>"]
        tokenizer.add_special_tokens({"additional_special_tokens": turns})
        tokenizer.backend_tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.backend_tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
        tokenizer.chat_template = GEMMA
    else:  # byte-level, one special token for everything, no pad, no template
        tokenizer = byte_level_tokenizer(300)
        tokenizer.eos_token = tokenizer.bos_token = "<|endoftext|>"
        tokenizer.pad_token = None
        tokenizer.chat_template = None
    return tokenizer


def family_model(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """A random model of 2 layers and width 32, the same for the same name."""
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if name == "llama":
        return tiny_llama(tokenizer, initializer_range=0.2)
    size = {"vocab_size": len(tokenizer), **ends}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FAMILIES.index(name))
        if name == "qwen":
            model = Qwen2ForCausalLM(Qwen2Config(**size, **_SIZES))
        elif name == "gemma":
            model = Gemma2ForCausalLM(Gemma2Config(**size, **_SIZES, head_dim=8))
            turn = tokenizer.convert_tokens_to_ids("<end_of_turn>")
            model.generation_config.eos_token_id = [tokenizer.eos_token_id, turn]
        else:
            shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024}
            model = GPT2LMHeadModel(GPT2Config(**size, **shape, initializer_range=0.2))
    return model.to(torch.float32).eval()


def save_family(name: str, folder: Path) -> str:
    """Write model and tokenizer; the folder's path."""
    tokenizer = family_tokenizer(name)
    family_model(name, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
