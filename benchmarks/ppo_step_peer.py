"""TRL's `PPOTrainer.step`, in an environment of its own; started by ppo_step.py."""

from __future__ import annotations

import importlib.metadata

import torch
from peft import LoraConfig
from ppo_step_worker import Settings, serve
from transformers import AutoConfig, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer


def main() -> None:
    """Build what its documentation builds, then serve."""
    settings = Settings.read()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    shape = AutoConfig.from_pretrained(settings.model)
    # newer files say these in a way that this version does not read; the tokenizer only pads here
    shape.rope_theta = getattr(shape, "rope_parameters", {}).get("rope_theta", shape.rope_theta)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=f"{settings.model}/tokenizer.json")
    tokenizer.pad_token_id = shape.pad_token_id or 0
    lora = LoraConfig(
        r=settings.lora_r,
        lora_alpha=2 * settings.lora_r,
        lora_dropout=0.0,
        target_modules=["q_proj", "v_proj"],
        bias="none",
        task_type="CAUSAL_LM",
    )
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.dtype]
    model = AutoModelForCausalLMWithValueHead.from_pretrained(
        settings.model, peft_config=lora, torch_dtype=kind, config=shape
    )
    config = PPOConfig(
        batch_size=settings.batch_size,
        mini_batch_size=settings.mini_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.mini_batch_size,
        ppo_epochs=settings.ppo_epochs,
        learning_rate=settings.learning_rate,
        kl_penalty=settings.kl_penalty,
        max_grad_norm=1.0,
    )
    trainer = PPOTrainer(config, model, None, tokenizer)
    prompts, responses = settings.sequences(model.pretrained_model.config.vocab_size)
    queries = [torch.tensor(ids) for ids in prompts]
    answers = [torch.tensor(ids) for ids in responses]
    scores = [torch.tensor(sum(row)) for row in settings.token_scores()]
    serve(
        settings,
        lambda: trainer.step(queries, answers, scores),
        attention=model.pretrained_model.config._attn_implementation,
        dtype=str(next(model.pretrained_model.parameters()).dtype).removeprefix("torch."),
        **{name: importlib.metadata.version(name) for name in ("trl", "transformers", "peft")},
    )


if __name__ == "__main__":
    main()
