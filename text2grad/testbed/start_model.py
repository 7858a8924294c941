"""The policy that every method starts from: a Llama of a few hundred thousand weights.

It learns the form of the language from written texts, and leaves to PPO which phrases are good.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from text2grad.models import replace_folder
from text2grad.testbed import language

END, PAD = "<|im_end|>", "<|endoftext|>"
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}"
    + END
    + "{% endif %}{% endfor %}{% if add_generation_prompt %}:{% endif %}"
)
SEED = 0
PEAK_RATE = 3e-3
WRITTEN_AT_ONCE = 64
NO_TARGET = -100


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every word of the language is one token."""
    words = [*language.ADJECTIVES, *language.NOUNS, *language.SUBJECTS, *language.READERS]
    words += [*language.NAMES, "asks", "for"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=1024,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f" {word}" for word in words], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, chat_template=TEMPLATE
    )


def write_start_model(folder: Path, steps: int, most_phrases: int) -> None:
    """Train a start model and write it with its tokenizer; a folder that is there stays.

    Args:
        folder: to write.
        steps: updates, each on new texts.
        most_phrases: phrases of the longest text.
    """
    if folder.exists():
        return
    tokenizer = build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=64,
                intermediate_size=192,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=128,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    _learn_form(model, tokenizer, random.Random(SEED), steps, most_phrases)
    with replace_folder(folder) as made:
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)


def _learn_form(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    draw: random.Random,
    steps: int,
    most_phrases: int,
) -> None:
    known = language.prompts(held_out=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        ids, labels = [], []
        for prompt in draw.choices(known, k=WRITTEN_AT_ONCE):
            asked = tokenizer.encode(f"{prompt}:")
            told = tokenizer.encode(language.written_response(draw, most_phrases) + END)
            ids.append(torch.tensor(asked + told))
            labels.append(torch.tensor([NO_TARGET] * len(asked) + told))
        batch = pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        targets = pad_sequence(labels, batch_first=True, padding_value=NO_TARGET)
        model(input_ids=batch, labels=targets).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
