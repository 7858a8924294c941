"""Tokenizers and models of a few kilobytes, built in memory; no file, no network, a fixed seed.

Tests say `from tiny import byte_level_tokenizer, tiny_llama` (pytest puts this folder on the path).
"""

from __future__ import annotations

import json

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = (
    "The dog ran to the park and the dog saw a cat. My sister said that she would not come home. "
    "I think the summary is good because it keeps the main point of the post, but it leaves out "
    "the question at the end. We have been together for two years and I do not know what to do. "
    "Last week my boss told me that the project was late, so I worked all night. Is it wrong to "
    "ask for more money? There is one thing that the answer gets wrong: the meeting was on Monday. "
    'def add(a, b):\n    return a + b\n\nprint("hello, world")\nfor i in range(10):\n    x = i\n'
    '{"textual_feedback": "The summary is short.", "good_spans": ["the main point"], '
    '"poor_spans": ["a cat"]} This is accurate. That is not in the post.'
)

CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}"
    "{{ eos_token }}{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)


def byte_level_tokenizer(vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """Byte-level BPE as in GPT-2, Llama 3, Qwen and SmolLM2, with ChatML and no BOS.

    Ids 0-2 are <|endoftext|> (pad), <|im_start|> and <|im_end|> (eos); the last id is <tool>, an
    added token that is *not* special. All 256 bytes are pieces, so any text can be encoded.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size - 1,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_ML,
        model_max_length=2048,
    )


def byte_fallback_tokenizer(vocab_size: int = 700) -> PreTrainedTokenizerFast:
    """SentencePiece-style BPE as in Llama 2 and Mistral: "▁" for a space, <0xXX> for other bytes.

    Ids 0-2 are <unk>, <s> (bos, also the pad) and </s> (eos); 3-258 are the bytes. Encoding adds
    a BOS, as those models do, and a "▁" before the first word; the chat template writes its BOS.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = BpeTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    learner.train_from_iterator(TEXT.split("\n"), trainer)
    learned = json.loads(learner.to_str())["model"]
    # The byte tokens were special for the trainer only: in the tokenizer itself they are pieces.
    tokenizer = Tokenizer(
        models.BPE(
            vocab=learned["vocab"],
            merges=[tuple(pair) for pair in learned["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", learned["vocab"]["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<s>",
        chat_template=INST,
        model_max_length=2048,
    )


def tiny_llama(
    tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: int
) -> LlamaForCausalLM:
    """A random Llama of 2 layers and width 32 in fp32, in eval mode, the same for the same seed.

    `changes` override fields of `LlamaConfig`, for example `hidden_size=64`.
    """
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**(fields | changes)))
    return model.to(torch.float32).eval()
