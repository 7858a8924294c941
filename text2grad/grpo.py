"""GRPO through TRL: the baseline whose reward is the sum of the scores of the same critiques.

Prompts, sampling, critiques and their place on the sampled tokens are those of PPO here; TRL
compares the answers to one prompt with each other and makes the update.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from transformers import set_seed
from trl import GRPOConfig as TrlConfig
from trl import GRPOTrainer

from text2grad.alignment import TokenBytes
from text2grad.config import PolicyConfig
from text2grad.files import check_writable
from text2grad.models import add_lora, check_context, eos_ids, load_model, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.prompts import read_prompts
from text2grad.rollout import Sampling, sample_responses
from text2grad.run_folder import MetricsFile, write_run_config
from text2grad.schema import Feedback, Record
from text2grad.scoring import Judged, build_critic, critic_facts, judge, sampled_record
from text2grad.tasks import TaskSpec, get_task
from text2grad.trl_policy import (
    StepLog,
    resumed_step,
    save_trained,
    state_to_resume,
    trl_settings,
)
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import GRPOConfig

FLAG = "--base_model_name"


def train_grpo(args: GRPOConfig) -> None:
    """Train an adapter and save it as `OUTPUT_DIR/final`.

    Raises:
        UserError: unusable data, models or flags.
    """
    quiet_libraries()
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # TRL is pinned
    task = get_task(args.task)
    if args.unmarked_score is not None:
        task = replace(task, unmarked_score=args.unmarked_score)
    output_dir = check_writable(args.output_dir, "--output_dir")
    resumed = state_to_resume(args)
    judging = critic_flags(args)
    records = read_prompts(args.data_path, judging, "--data_path")
    if args.max_train_samples:
        records = records[: args.max_train_samples]
    facts = {"resumed_from": resumed, **critic_facts(judging)}
    write_run_config(output_dir, args, {"data_path": args.data_path}, **facts)
    tokenizer = load_tokenizer(args.base_model_name, FLAG, args.chat_template)
    template = task.prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
    model = load_model(args.base_model_name, args.dtype, FLAG)
    bounds = f"--prompt_max_length {args.prompt_max_length} --output_max_length"
    longest = args.prompt_max_length + args.output_max_length
    check_context(model, f"{FLAG} {args.base_model_name}", longest, bounds)
    set_seed(args.seed)  # the trainer sets it too, but the adapter is drawn before
    model = add_lora(model, args, args.lora_dropout, f"{FLAG} {args.base_model_name}")
    samples = MetricsFile(output_dir / "samples.jsonl", resumed_step(resumed))
    rewards = CritiqueReward(records, build_critic(judging, task), tokenizer, task, samples)
    ends = tuple(eos_ids(model, tokenizer))
    sampling = Sampling(args.output_max_length, args.temperature, ends, tokenizer.pad_token_id)
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=rewards,
        args=_trl_config(args),
        # the place of each record, as TRL hands nothing else of it to what samples
        train_dataset=Dataset.from_list([{"prompt": str(i)} for i in range(len(records))]),
        processing_class=tokenizer,
        callbacks=[StepLog(output_dir, resumed_step(resumed))],
        rollout_func=Rollouts(records, renderer, sampling),
    )
    trainer.train(resume_from_checkpoint=resumed or None)
    save_trained(trainer, tokenizer, output_dir / "final")
    print(f"policy after GRPO: {output_dir / 'final'}")


class Rollouts:
    """Samples as PPO does; what TRL calls for every batch of prompts."""

    def __init__(self, records: Sequence[Record], renderer: TurnRenderer, how: Sampling) -> None:
        self.records, self.renderer, self.sampling = records, renderer, how

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """One response per prompt, each of which is the place of a record."""
        ids = [list(self.renderer.render_record(self.records[int(one)]).ids) for one in prompts]
        model = trainer.accelerator.unwrap_model(trainer.model)
        training, cached = model.training, model.config.use_cache
        model.eval()
        model.config.use_cache = True
        try:
            sampled = sample_responses(model, ids, self.sampling)
        finally:
            model.train(training)
            model.config.use_cache = cached
        return {"prompt_ids": ids, "completion_ids": sampled, "logprobs": None}


class CritiqueReward:
    """The scalar of a critique: the sum of the scores that its quotes put on the tokens.

    Args:
        records: of the prompts.
        critic: see `build_critic`.
        tokenizer: of the policy.
        task: gives the scores.
        samples: gets a row per response.
    """

    __name__ = "critique"  # TRL names its figures by it

    def __init__(
        self,
        records: Sequence[Record],
        critic: Any,
        tokenizer: Any,
        task: TaskSpec,
        samples: MetricsFile,
    ) -> None:
        self.records, self.critic, self.task, self.samples = records, critic, task, samples
        self.token_bytes = TokenBytes(tokenizer)

    def __call__(
        self, prompts: Sequence[str], completion_ids: Sequence[list[int]], **given: Any
    ) -> list[float | None]:
        """None where the critique cannot be read: TRL then leaves the response out."""
        pieces = [self.token_bytes.pieces(ids) for ids in completion_ids]
        asked = [self.records[int(place)] for place in prompts]
        sampled = [sampled_record(*pair) for pair in zip(asked, pieces, strict=True)]
        said = self.critic.annotate(sampled)
        triples = zip(sampled, pieces, said, strict=True)
        judged = [judge(record, piece, one, self.task) for record, piece, one in triples]
        state = given.get("trainer_state")
        if state is None or state.is_world_process_zero:
            step = state.global_step if state else 0
            self.samples.append(*(_sample_row(step + 1, one) for one in judged))
        return [None if one.scores is None else float(sum(one.scores)) for one in judged]


def critic_flags(args: GRPOConfig) -> PolicyConfig:
    """The flags from which PPO builds its critic."""
    return PolicyConfig(
        task=args.task,
        fields=args.fields,
        dtype=args.dtype,
        feedback_source=args.feedback_source,
        reward_model_name=args.reward_model_name,
        reward_target_format=args.reward_target_format,
        reward_batch_size=args.reward_batch_size,
        reward_prompt_max_length=args.reward_prompt_max_length,
        reward_max_new_tokens=args.reward_max_new_tokens,
    )


def _trl_config(args: GRPOConfig) -> TrlConfig:
    return TrlConfig(
        **trl_settings(args),
        generation_batch_size=args.batch_size,
        num_generations=args.num_generations,
        num_iterations=args.num_iterations,
        max_completion_length=args.output_max_length,
        temperature=args.temperature,
        beta=args.beta,
        epsilon=args.cliprange,
    )


def _sample_row(step: int, one: Judged) -> dict[str, Any]:
    parsed = isinstance(one.feedback, Feedback)
    return {
        "step": step,
        "id": one.record.id,
        "prompt": one.record.prompt,
        "response": one.record.response,
        "critique": one.feedback.critique if parsed else "",
        "unparseable": "" if parsed else one.feedback.reason,
        "spans": [span.to_json() for span in one.spans],
        "score": sum(one.scores) if parsed else None,
    }
