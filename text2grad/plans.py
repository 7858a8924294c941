"""What a launch command would start: whether its flags can run, and what they would take.

A command is read as `DRY_RUN=1` prints it. Its flags are parsed by the script's own class, the
DeepSpeed file is read by what reads it at the start, and the sizes go to `estimate`.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from text2grad.config import PolicyConfig, RewardTrainConfig, parse
from text2grad.config.deepspeed import check_batch, read_deepspeed
from text2grad.estimate import PpoStep, RewardTraining, ppo_memory, reward_training_memory
from text2grad.estimate_time import Machine, ppo_seconds, reward_update_seconds
from text2grad.memory import BUCKET, Placement
from text2grad.model_shapes import Lora, ModelShape, read_shape

WIDTHS = {"bf16": 2, "fp16": 2, "fp32": 4, "auto": 2}


@dataclass(frozen=True)
class Plan:
    """A training as a command starts it.

    Attributes:
        script: that it starts.
        args: its flags.
        gpus: processes, over all machines.
        zero_stage: 0 without DeepSpeed.
        bucket: see `Placement`.
    """

    script: Path
    args: PolicyConfig | RewardTrainConfig
    gpus: int
    zero_stage: int = 0
    bucket: int = BUCKET

    @property
    def place(self) -> Placement:
        """How it holds its weights."""
        args = self.args
        return Placement(
            gpus=self.gpus,
            zero_stage=self.zero_stage,
            width=WIDTHS[args.dtype],
            four_bit=args.load_in_4bit,
            optimizer="adafactor" if getattr(args, "adafactor", False) else "adamw",
            checkpointing=args.gradient_checkpointing,
            bucket=self.bucket,
        )

    @property
    def lora(self) -> Lora:
        """The adapter that is trained."""
        args = self.args
        return Lora(args.lora_r, tuple(args.lora_target_modules), args.lora_last_layers)


def read_plan(printed: str) -> Plan:
    """The training that a dry run printed, with everything checked that the start checks.

    Raises:
        UserError: the flags, the DeepSpeed file or the number of processes contradict each other.
    """
    line = next(line for line in printed.splitlines() if ".py " in line)
    words = shlex.split(line)
    place = next(number for number, word in enumerate(words) if word.endswith(".py"))
    script = Path(words[1]) / words[place]
    gpus = _processes(words[:place], printed)
    args = parse(_flags_of(script), words[place + 1 :])
    if isinstance(args, PolicyConfig):
        check_batch(args, gpus)
    if not args.deepspeed:
        return Plan(script, args, gpus)
    # a path among the flags is relative to the script
    args = replace(args, deepspeed=str(script.parent / args.deepspeed))
    zero = read_deepspeed(args, gpus)["zero_optimization"]
    return Plan(script, args, gpus, zero["stage"], zero.get("reduce_bucket_size", BUCKET))


def _flags_of(script: Path) -> type:
    """The `Args` of a script, which is loaded without being run."""
    name = f"plan_{script.parent.name}_{script.stem}"
    spec = importlib.util.spec_from_file_location(name, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where the texts of the flags are looked up
    spec.loader.exec_module(module)
    return module.Args


def _processes(launcher: list[str], printed: str) -> int:
    """How many the launcher starts: its flags say so, or the file with the machines' names."""
    for flag in ("--num_processes", "--num_gpus"):
        if flag in launcher:
            return int(launcher[launcher.index(flag) + 1])
    if "--hostfile" not in launcher:
        return 1
    slots = re.findall(r"^\S+ slots=(\d+)$", printed, re.M)
    if not slots:  # given, not made
        text = Path(launcher[launcher.index("--hostfile") + 1]).read_text(encoding="utf-8")
        slots = re.findall(r"^\S+\s+slots=(\d+)", text, re.M)
    return sum(map(int, slots))


def sizes(plan: Plan, critic: ModelShape | None = None) -> RewardTraining | PpoStep:
    """What `estimate` needs to know of a plan.

    Args:
        plan: read by `read_plan`.
        critic: shape of the reward model, where the folder that the flags name is not there yet.

    Raises:
        UserError: the shape of a model is not known.
    """
    args = plan.args
    if isinstance(args, RewardTrainConfig):
        shape = read_shape(args.base_model, "--base_model")
        target = min(args.answer_max_length, args.max_length)
        return RewardTraining(
            shape,
            plan.lora,
            plan.place,
            prompt_tokens=min(args.prompt_max_length, args.max_length - target),
            target_tokens=target,
            micro_batch=args.per_device_train_batch_size,
            accumulation=args.gradient_accumulation_steps,
            dropout=args.lora_dropout,
        )
    shape = read_shape(args.base_model_name, "--base_model_name")
    judge = None
    if args.feedback_source == "reward_model" and not args.reward_base_url:
        judge = critic or read_shape(args.reward_model_name, "--reward_model_name")
    micro, accumulation = _micro_batch(args)
    return PpoStep(
        shape,
        plan.lora,
        plan.place,
        judge,
        prompt_tokens=args.prompt_max_length,
        response_tokens=args.output_max_length,
        batch=args.batch_size,
        micro_batch=micro,
        accumulation=accumulation,
        epochs=args.ppo_epochs,
        critique_prompt_tokens=args.reward_prompt_max_length,
        critique_tokens=args.reward_max_new_tokens,
        critique_batch=args.reward_batch_size,
        chunk=args.logp_chunk_tokens,
    )


def _micro_batch(args: PolicyConfig) -> tuple[int, int]:
    """Responses of a forward pass at full length, and passes of an update."""
    rows, passes = args.mini_batch_size, args.gradient_accumulation_steps
    if args.max_tokens_per_microbatch:
        update = rows * passes
        length = args.prompt_max_length + args.output_max_length
        rows = max(1, min(update, args.max_tokens_per_microbatch // length))
        passes = -(-update // rows)
    return rows, passes


def takes(
    plan: Plan, machine: Machine, records: int, critic: ModelShape | None = None
) -> dict[str, Any]:
    """What a plan takes: bytes on each GPU by part, seconds of an update or step, GPU hours of all.

    Args:
        plan: read by `read_plan`.
        machine: on which.
        records: examples of the reward model, or prompts of the policy.
        critic: see `sizes`.
    """
    run, args = sizes(plan, critic), plan.args
    if isinstance(run, RewardTraining):
        memory, seconds = reward_training_memory(run), reward_update_seconds(run, machine)
        update = run.micro_batch * run.accumulation * plan.gpus
        updates = -(-records // update) * args.num_train_epochs
        count = args.max_steps if args.max_steps > 0 else round(updates)
        parts: Mapping[str, float] = {"update": seconds}
    else:
        memory, parts = ppo_memory(run), ppo_seconds(run, machine)
        seconds = parts["step"]
        count = min(args.steps, args.train_epochs * (records // args.batch_size))
    return {
        "gpus": plan.gpus,
        "zero_stage": plan.zero_stage,
        "memory": memory,
        "fits": memory["peak"] <= machine.memory,
        "seconds": dict(parts),
        "updates": count,
        "gpu_hours": count * seconds * plan.gpus / 3600,
    }
