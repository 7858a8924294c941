"""PPO on token-level rewards: collect, critique, score, credit, optimise, log."""

from __future__ import annotations

import importlib.util
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from text2grad import ppo_math
from text2grad.alignment import TokenBytes
from text2grad.chat import PromptRenderer
from text2grad.checkpoint import (
    checkpoint_name,
    find_checkpoint,
    load_policy,
    load_state,
    prune_checkpoints,
    save_checkpoint,
    save_policy,
)
from text2grad.files import check_writable
from text2grad.models import eos_ids, load_tokenizer, quiet_libraries, replace_folder
from text2grad.policy import build_optimizer, build_policy
from text2grad.ppo_state import AdaptiveKL, FixedKL, ReturnScale
from text2grad.records import read_records
from text2grad.rollout import (
    MicroBatch,
    Sampling,
    TokenStats,
    sample_responses,
    score_tokens_of,
    split_micro_batches,
)
from text2grad.run_folder import MetricsFile, weights_sha256, write_run_config
from text2grad.schema import Record, UserError
from text2grad.scoring import Judged, build_critic, critique_health, judge, sampled_record
from text2grad.step_log import sample_rows, step_metrics
from text2grad.tasks import get_task
from text2grad.update import Credit, Updater

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

    Raises:
        UserError: models, data, folders or flags that cannot work, before any training.
    """

    def __init__(self, args: PolicyConfig) -> None:
        self.args, self.task = args, get_task(args.task)
        self.output_dir = check_writable(args.output_dir, "--output_dir")
        self.prompts = read_prompts(args.data_file_path, args, "--data_file_path")
        if len(self.prompts) < args.batch_size:
            raise UserError(
                f"--data_file_path {args.data_file_path}: {len(self.prompts)} different prompts, "
                f"fewer than --batch_size {args.batch_size}"
            )
        self.valid_prompts: list[Record] = []
        if args.eval_steps and args.valid_data_file_path:
            valid = read_prompts(args.valid_data_file_path, args, "--valid_data_file_path")
            self.valid_prompts = valid[: args.eval_samples]
        self.accelerator = start_accelerator(args)
        self.tokenizer = load_tokenizer(args.base_model_name, "--base_model_name")
        template = self.task.prompt_template("policy", args.prompt_file)
        self.renderer = PromptRenderer(self.tokenizer, template, args.prompt_max_length)
        self.policy = build_policy(args, self.tokenizer)
        optimizer, self.scheduler = build_optimizer(args, self.policy)
        self.prepared, self.optimizer = self.accelerator.prepare(self.policy, optimizer)
        self.updater = Updater(args, self.prepared, self.optimizer, self.accelerator)
        self.token_bytes = TokenBytes(self.tokenizer)
        self.critic = build_critic(args, self.task)
        kl = AdaptiveKL(args.init_kl_coef, args.kl_target, args.kl_horizon)
        self.kl = kl if args.adap_kl_ctrl else FixedKL(args.init_kl_coef)
        self.return_scale = ReturnScale()
        self.step_number, self.bad_steps = 0, 0
        self.seconds: dict[str, float] = {}

    # -- the run

    def train(self) -> None:
        """Run all steps; the last one is always saved."""
        resumed = self._resume()
        self._write_config(resumed)
        self.metrics = MetricsFile(self.output_dir / "metrics.jsonl", self.step_number)
        self.samples = MetricsFile(self.output_dir / "samples.jsonl", self.step_number)
        total = min(self.args.steps, self.args.train_epochs * self.steps_per_epoch)
        with tqdm(total=total, initial=self.step_number, desc="PPO", unit="step") as bar:
            while self.step_number < total:
                row = self.step(self._batch(self.step_number))
                figures = {k: v for k, v in row.items() if isinstance(v, (int, float))}
                self.accelerator.log(figures, step=self.step_number)
                bar.set_postfix(score=f"{row['score']:+.2f}", kl=f"{row['kl']:.2f}")
                bar.update()
                if self.step_number % self.args.save_freq == 0 or self.step_number == total:
                    self.save()
        self._save_final()
        self.accelerator.end_training()

    def step(self, records: Sequence[Record]) -> dict[str, Any]:
        """One PPO step over this process's prompts."""
        self.step_number += 1
        self.seconds = {}
        with self._phase("rollout"):
            prompts, responses = self.collect(records)
        with self._phase("critique"):
            judged = self.critique(records, responses)
        with self._phase("score"):
            batches = self._micro_batches(prompts, responses)
            shape = (len(responses), max(map(len, responses)))
            stats = score_tokens_of(
                self.policy.lm,
                self.policy.value_head,
                batches,
                shape,
                self.args.temperature,
                self.args.logp_chunk_tokens,
            )
            credit, rewards, kl = self.credit(judged, stats)
        with self._phase("update"):
            losses = self.updater.run(batches, credit, self.step_number)
            self.scheduler.step()
        n_judged = self._sum(credit.mask.any(1).sum())
        kl_nats = self._sum((kl * credit.mask).sum()) / max(n_judged, 1)
        row = step_metrics(judged, credit, stats, rewards, kl, losses, self.seconds)
        row |= {"step": self.step_number, "kl": kl_nats, "kl_coef": self.kl.coef}
        row |= {
            "learning_rate": self.scheduler.get_last_lr()[0],
            **getattr(self.critic, "rates", dict)(),
        }
        row |= {"return_scale": self.return_scale.scale}
        self.kl.update(kl_nats, int(n_judged))
        if self.valid_prompts and self.step_number % self.args.eval_steps == 0:
            row |= self.validate()
        if self.accelerator.is_main_process:
            self.metrics.append(row)
            for sample in sample_rows(self.step_number, judged, credit, rewards, kl):
                self.samples.append(sample)
        self._watch(row)
        return row

    # -- the method

    def collect(self, records: Sequence[Record]) -> tuple[list[list[int]], list[list[int]]]:
        """Prompt ids, and response ids exactly as they were sampled."""
        prompts = [self.renderer.render(r.origin, prompt=r.prompt).ids for r in records]
        return prompts, sample_responses(self.policy.lm, prompts, self._sampling())

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
        """Greedy answers to the validation prompts, judged by the critic."""
        prompts = [self.renderer.render(r.origin, prompt=r.prompt).ids for r in self.valid_prompts]
        greedy = self._sampling(temperature=0.0)
        responses, size = [], max(self.args.batch_size, self.args.reward_batch_size)
        for start in range(0, len(prompts), size):
            responses += sample_responses(self.policy.lm, prompts[start : start + size], greedy)
        judged = self.critique(self.valid_prompts, responses)
        scores = [sum(one.scores) / max(len(one.scores), 1) for one in judged if one.scores]
        return {
            "valid_score": sum(scores) / max(len(scores), 1),
            "valid_parse_rate": critique_health(judged)["parse_rate"],
            "valid_response_tokens": sum(map(len, responses)) / len(responses),
        }

    # -- state

    def save(self) -> None:
        """Write a checkpoint from which training goes on bit by bit."""
        epoch = (self.step_number - 1) // self.steps_per_epoch
        state = {
            "step": self.step_number,
            "kl": self.kl.state_dict(),
            "return_scale": self.return_scale.state_dict(),
            "bad_steps": self.bad_steps,
            "threads": torch.get_num_threads(),
        }
        tensors = {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        path = self.output_dir / checkpoint_name(epoch, self.step_number)
        save_checkpoint(path, self._write_weights, state, tensors)
        prune_checkpoints(self.output_dir, self.args.save_total_limit)

    def _save_final(self) -> None:
        with replace_folder(self.output_dir / "final") as folder:
            self._write_weights(folder)

    def _write_weights(self, folder: Any) -> None:
        save_policy(folder, self.policy.lm, self.policy.value_head, self.tokenizer)

    def _resume(self) -> str:
        path = find_checkpoint(self.output_dir, self.args.resume_from_checkpoint)
        if path is None:
            return ""
        load_policy(path, self.policy.lm, self.policy.value_head)
        state, tensors = load_state(path)
        self.optimizer.load_state_dict(tensors["optimizer"])
        self.scheduler.load_state_dict(tensors["scheduler"])
        torch.set_rng_state(tensors["rng"])
        if tensors["cuda_rng"]:
            torch.cuda.set_rng_state_all(tensors["cuda_rng"])
        self.kl.load_state_dict(state["kl"])
        self.return_scale.load_state_dict(state["return_scale"])
        self.step_number, self.bad_steps = state["step"], state["bad_steps"]
        if state["threads"] != torch.get_num_threads():
            print(
                f"{path} was written with {state['threads']} threads; results may differ in "
                "the last digits"
            )
        print(f"going on from {path}")
        return str(path)

    def _write_config(self, resumed: str) -> None:
        args = self.args
        data = {"data_file_path": args.data_file_path}
        if args.feedback_source == "reward_model":
            name = args.reward_model_name
            critic = {"reward_model": name, "reward_model_sha256": weights_sha256(name)}
        else:
            critic = {"reward_model": f"the {args.feedback_source} annotator, directly"}
        write_run_config(self.output_dir, args, data, resumed_from=resumed, **critic)

    # -- small parts

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the prompts."""
        return len(self.prompts) // self.args.batch_size

    def _batch(self, step: int) -> list[Record]:
        epoch, place = divmod(step, self.steps_per_epoch)
        order = list(range(len(self.prompts)))
        random.Random(f"{self.args.seed}-{epoch}").shuffle(order)
        size = self.args.batch_size
        rows = order[place * size : (place + 1) * size]
        mine = rows[self.accelerator.process_index :: self.accelerator.num_processes]
        return [self.prompts[row] for row in mine]

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

    def _moments(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.accelerator.reduce(ppo_math.masked_moments(x, mask), "sum")

    def _sum(self, value: Tensor) -> float:
        return self.accelerator.reduce(value.detach().double(), "sum").item()

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started

    def _watch(self, row: dict[str, Any]) -> None:
        args = self.args
        bad = 1 - row["parse_rate"] > args.max_unparseable_share
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if self.bad_steps >= args.max_bad_steps:
            self.save()
            raise UserError(
                f"stopped: more than --max_unparseable_share {args.max_unparseable_share} of the "
                f"critiques could not be parsed for {self.bad_steps} steps in a row; look at the "
                f"reasons in {self.metrics.path} and at the replies of {args.reward_model_name}"
            )


def read_prompts(path: str, args: PolicyConfig, flag: str) -> list[Record]:
    """The different prompts of a file, in its order: several responses to one prompt are one."""
    records = read_records(path, get_task(args.task), ("prompt",), args.fields, flag)
    return list({record.prompt: record for record in records}.values())


def start_accelerator(args: PolicyConfig) -> Accelerator:
    """Devices and processes, and the tracker asked for.

    Raises:
        UserError: the tracker is not installed, or its arguments are no JSON object.
    """
    if args.log_with == "none":
        return Accelerator()
    if importlib.util.find_spec(args.log_with) is None:
        raise UserError(f"--log_with {args.log_with}: not installed; pip install {args.log_with}")
    try:
        more = json.loads(args.tracker_kwargs or "{}")
    except json.JSONDecodeError as error:
        raise UserError(f"--tracker_kwargs {args.tracker_kwargs}: not JSON: {error.msg}") from error
    accelerator = Accelerator(log_with=args.log_with, project_dir=args.output_dir)
    accelerator.init_trackers(args.project_name, init_kwargs={args.log_with: more})
    return accelerator
