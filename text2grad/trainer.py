"""PPO on token-level rewards: collect, critique, score, credit, optimise, log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from text2grad import ppo_math
from text2grad.alignment import TokenBytes
from text2grad.devices import start_accelerator, start_tracker, tracked_figures
from text2grad.files import check_writable
from text2grad.gate import pass_gate
from text2grad.models import eos_ids, load_tokenizer, quiet_libraries
from text2grad.policy import build_optimizer, build_policy
from text2grad.ppo_state import AdaptiveKL, FixedKL, ReturnScale
from text2grad.prompts import PromptOrder, read_prompts
from text2grad.rollout import (
    MicroBatch,
    Sampling,
    TokenStats,
    score_tokens_of,
    split_micro_batches,
)
from text2grad.run_checkpoints import RunCheckpoints
from text2grad.run_folder import MetricsFile, write_run_config
from text2grad.samplers import build_sampler
from text2grad.schema import Record, UserError
from text2grad.scoring import (
    Judged,
    build_critic,
    critic_facts,
    critique_health,
    judge,
    sampled_record,
)
from text2grad.step_log import Stopwatch, length_figures, sample_rows, step_metrics
from text2grad.tasks import get_task
from text2grad.training_weights import training_weights
from text2grad.turns import TurnRenderer
from text2grad.update import Credit, Updater
from text2grad.watch import RunWatch

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig


def train_policy(args: PolicyConfig) -> None:
    """Train to `--steps` or the end of the last epoch, from the start or from a checkpoint."""
    quiet_libraries()
    Text2GradTrainer(args).train()


class Text2GradTrainer:
    """The method, step by step.

    Args:
        args: all flags.
        critic: who judges in place of whom the flags name, with `annotate(records)` and `facts()`
            for the run's record.

    Raises:
        UserError: models, data, folders or flags that cannot work, before any training.
    """

    def __init__(self, args: PolicyConfig, critic: Any = None) -> None:
        self.args, self.task = args, get_task(args.task)
        if args.unmarked_score is not None:
            self.task = replace(self.task, unmarked_score=args.unmarked_score)
        self.output_dir = check_writable(args.output_dir, "--output_dir")
        prompts = read_prompts(args.data_file_path, args, "--data_file_path")
        flag = f"--data_file_path {args.data_file_path}"
        self.order = PromptOrder(prompts, args.batch_size, args.seed, flag)
        self.total_steps = min(args.steps, args.train_epochs * self.order.steps_per_epoch)
        self.valid_prompts: list[Record] = []
        if args.eval_steps and args.valid_data_file_path:
            valid = read_prompts(args.valid_data_file_path, args, "--valid_data_file_path")
            self.valid_prompts = valid[: args.eval_samples]
        self.accelerator = start_accelerator(args)
        self.facts: dict[str, Any] = critic.facts() if critic else critic_facts(args)
        self.facts["gate"] = pass_gate(args, self.facts, self.accelerator.is_main_process)
        name, flag = args.base_model_name, "--base_model_name"
        self.tokenizer = load_tokenizer(name, flag, args.chat_template)
        template = self.task.prompt_template("policy", args.prompt_file)
        self.renderer = TurnRenderer(self.tokenizer, template, args.prompt_max_length)
        self.policy = build_policy(args, self.tokenizer, self.accelerator.is_main_process)
        optimizer, self.scheduler = build_optimizer(args, self.policy, self.total_steps)
        norm = args.max_grad_norm
        self.weights = training_weights(self.accelerator, self.policy, optimizer, norm)
        self.updater = Updater(args, self.weights)
        self.token_bytes = TokenBytes(self.tokenizer)
        self.sampler = build_sampler(args, self.policy.lm, self.weights)
        self.critic = critic or build_critic(args, self.task)
        kl = AdaptiveKL(args.init_kl_coef, args.kl_target, args.kl_horizon)
        self.kl = kl if args.adap_kl_ctrl else FixedKL(args.init_kl_coef)
        self.return_scale = ReturnScale()
        self.step_number, self.watch = 0, RunWatch(args)
        parts = {
            "scheduler": self.scheduler,
            "kl": self.kl,
            "return_scale": self.return_scale,
            "watch": self.watch,
        }
        self.checkpoints = RunCheckpoints(args, self.weights, self.policy, self.tokenizer, parts)

    # -- the run

    def train(self) -> None:
        """Run all steps; the last one is always saved, and so is the best validation so far.

        Raises:
            UserError: most critiques stayed unparseable; the last step is saved.
        """
        accelerator, total = self.accelerator, self.total_steps
        torch.manual_seed(self.args.seed + accelerator.process_index)
        resumed, self.step_number = self.checkpoints.resume()
        self.sampler.sync(self.step_number)
        start_tracker(accelerator, self.args, self.step_number)
        if accelerator.is_main_process:
            data = {"data_file_path": self.args.data_file_path}
            write_run_config(self.output_dir, self.args, data, resumed_from=resumed, **self.facts)
            self.metrics = MetricsFile(self.output_dir / "metrics.jsonl", self.step_number)
            self.samples = MetricsFile(self.output_dir / "samples.jsonl", self.step_number)
        with tqdm(total=total, initial=self.step_number, desc="PPO", unit="step") as bar:
            while self.step_number < total:
                ranks = accelerator.process_index, accelerator.num_processes
                row = self.step(self.order.batch(self.step_number, *ranks))
                accelerator.log(tracked_figures(row), step=self.step_number)
                bar.set_postfix(score=f"{row['score']:+.2f}", kl=f"{row['kl']:.2f}")
                bar.update()
                stop, valid_score = self.watch.reason_to_stop, row.get("valid_score")
                due = self.step_number % self.args.save_freq == 0 or self.step_number == total
                if due or stop or self.checkpoints.is_best(valid_score):
                    self.save(valid_score)
                if stop:
                    raise UserError(stop)
        self.checkpoints.save_final()
        if accelerator.is_main_process and self.checkpoints.best:
            print(self.checkpoints.summary())
        accelerator.end_training()

    def step(self, records: Sequence[Record]) -> dict[str, Any]:
        """One PPO step over this process's prompts."""
        self.step_number += 1
        clock = Stopwatch()
        with clock.phase("rollout"):
            prompts, responses = self.collect(records)
        with clock.phase("critique"):
            judged = self.critique(records, responses)
        with clock.phase("score"):
            batches = self._micro_batches(prompts, responses)
            stats = self._token_stats(batches, responses)
            credit, rewards, kl = self.credit(judged, stats)
        with clock.phase("update"):
            rate = self.scheduler.get_last_lr()[0]
            losses = self.updater.run(batches, credit, self.step_number)
            self.sampler.sync(self.step_number)
            self.scheduler.step()
        n_judged = self._sum(credit.mask.any(1).sum())
        # in nats whatever the penalty's estimator, as --kl_target is
        kl_nats = self._sum((stats.kl_full * credit.mask).sum()) / max(n_judged, 1)
        row = step_metrics(judged, credit, stats, rewards, kl, losses, clock.seconds)
        row |= {"step": self.step_number, "kl": kl_nats, "kl_coef": self.kl.coef}
        row |= {"learning_rate": rate, "return_scale": self.return_scale.scale}
        row |= getattr(self.critic, "rates", dict)()
        row |= length_figures(prompts, responses, self.args.output_max_length)
        self.kl.update(kl_nats, int(n_judged))
        if self.valid_prompts and self.step_number % self.args.eval_steps == 0:
            row |= self.validate()
        row["warnings"] = self._watch(judged, row)
        if self.accelerator.is_main_process:
            self.metrics.append(row)
            self.samples.append(*sample_rows(self.step_number, judged, credit, rewards, kl))
        return row

    # -- the method

    def collect(self, records: Sequence[Record]) -> tuple[list[list[int]], list[list[int]]]:
        """Prompt ids, and response ids exactly as they were sampled."""
        prompts = [self.renderer.render_record(r).ids for r in records]
        with self.weights.whole():
            return prompts, self.sampler.sample(prompts, self._sampling())

    def critique(self, records: Sequence[Record], responses: list[list[int]]) -> list[Judged]:
        """Ask for feedback on what was sampled, and put its quotes on the sampled tokens."""
        pieces = [self.token_bytes.pieces(ids) for ids in responses]
        sampled = [sampled_record(*pair) for pair in zip(records, pieces, strict=True)]
        feedback = self.critic.annotate(sampled)
        triples = zip(sampled, pieces, feedback, strict=True)
        return [judge(record, piece, said, self.task) for record, piece, said in triples]

    def credit(self, judged: Sequence[Judged], stats: TokenStats) -> tuple[Credit, Tensor, Tensor]:
        """Scores, minus the KL penalty, to advantages and returns.

        Returns:
            The credit, and the (B, R) rewards and KL penalties behind it.
        """
        args, device = self.args, stats.logp.device
        scores, mask = torch.zeros_like(stats.logp), torch.zeros_like(stats.logp, dtype=torch.bool)
        for row, one in enumerate(judged):
            if one.scores is not None:  # an unparseable critique leaves every statistic
                scores[row, : len(one.scores)] = torch.tensor(one.scores, device=device)
                mask[row, : len(one.scores)] = True
        if args.length_weight:
            scores = ppo_math.weigh_by_length(scores, mask, length=args.length_weight_tokens)
        scores = ppo_math.assign_credit(scores, mask, args.credit_assignment)
        if args.kl_penalty == "full":
            kl = stats.kl_full
        else:
            kl = ppo_math.kl_estimate(stats.logp, stats.ref_logp, args.kl_penalty)
        rewards = ppo_math.token_rewards(scores, kl, self.kl.coef, mask)
        zeros = torch.zeros_like(rewards)
        _, plain = ppo_math.gae(rewards, zeros, mask, args.gamma, 1.0)
        self.return_scale.update(self._moments(plain, mask))
        scale = self.return_scale.scale
        advantages, returns = ppo_math.gae(
            rewards, stats.values * scale, mask, args.gamma, args.lam
        )
        if args.whiten != "none":
            moments = self._moments(advantages, mask)
            shift = args.whiten == "shift"
            advantages = ppo_math.whiten(advantages, mask, moments, shift, args.whiten_floor)
        credit = Credit(stats.logp, stats.values, returns / scale, advantages, mask)
        return credit, rewards, kl

    def validate(self) -> dict[str, float]:
        """Greedy answers to the validation prompts, judged by the critic.

        Returns:
            `valid_score`, the mean score per token, is left out where no critique was readable.
        """
        prompts = [self.renderer.render_record(r).ids for r in self.valid_prompts]
        greedy = self._sampling(temperature=0.0)
        responses, size = [], max(self.args.batch_size, self.args.reward_batch_size)
        with self.weights.whole():
            for start in range(0, len(prompts), size):
                responses += self.sampler.sample(prompts[start : start + size], greedy)
        judged = self.critique(self.valid_prompts, responses)
        row = {
            "valid_parse_rate": critique_health(judged)["parse_rate"],
            "valid_response_tokens": sum(map(len, responses)) / len(responses),
        }
        # over all processes, which must agree on whether this is the best checkpoint
        scores = [sum(one.scores) / len(one.scores) for one in judged if one.scores]
        n_scores = self._sum(torch.tensor(len(scores)))
        if n_scores:
            row["valid_score"] = self._sum(torch.tensor(sum(scores))) / n_scores
        return row

    # -- state

    def save(self, valid_score: float | None = None) -> None:
        """Write a checkpoint; `valid_score` is that of this step's validation."""
        epoch = self.order.epoch_of(self.step_number - 1)
        self.checkpoints.save(epoch, self.step_number, valid_score)

    # -- small parts

    def _sampling(self, temperature: float | None = None) -> Sampling:
        args = self.args
        extra = ()
        if args.allow_off_policy_sampling and temperature is None:
            names = ("top_p", "top_k", "num_beams", "repetition_penalty", "min_new_tokens")
            extra = tuple((name, getattr(args, name)) for name in names)
        return Sampling(
            args.output_max_length,
            args.temperature if temperature is None else temperature,
            tuple(eos_ids(self.policy.lm, self.tokenizer)),
            self.tokenizer.pad_token_id,
            extra,
        )

    def _micro_batches(self, prompts: list, responses: list) -> list[MicroBatch]:
        lengths = [len(p) + len(r) for p, r in zip(prompts, responses, strict=True)]
        pad, device = self.tokenizer.pad_token_id, self.accelerator.device
        groups = split_micro_batches(lengths, self.args.mini_batch_size)
        return [MicroBatch.collate(rows, prompts, responses, pad, device) for rows in groups]

    def _token_stats(self, batches: list[MicroBatch], responses: list) -> TokenStats:
        policy, args = self.policy, self.args
        shape = len(responses), max(map(len, responses))
        chunk = args.logp_chunk_tokens
        with self.weights.whole():
            return score_tokens_of(
                policy.lm, policy.value_head, batches, shape, args.temperature, chunk
            )

    def _moments(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.accelerator.reduce(ppo_math.masked_moments(x, mask), "sum")

    def _sum(self, value: Tensor) -> float:
        return self.accelerator.reduce(value.double().to(self.accelerator.device), "sum").item()

    def _watch(self, judged: Sequence[Judged], row: Mapping[str, Any]) -> list[str]:
        failed = self._sum(torch.tensor(sum(one.scores is None for one in judged)))
        found = self.watch.update(row, failed / self.args.batch_size)
        for text in found if self.accelerator.is_main_process else ():
            tqdm.write(f"warning: step {self.step_number}: {text}")
        return found
