"""What `scaling.py` measures: this machine, PPO steps of one and two processes, bytes in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from text2grad.config import PolicyConfig
from text2grad.estimate import PpoStep, update_bytes
from text2grad.estimate_time import Machine, ppo_seconds
from text2grad.memory import Placement
from text2grad.model_shapes import Lora, ModelShape, read_shape
from text2grad.models import load_tokenizer, resolve_dtype
from text2grad.policy import build_policy
from text2grad.rollout import MicroBatch
from text2grad.schema import UserError

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "NL_Gradient_Policy_Optimization/SLF5K/train_slf5k.py"
PHASES = ("rollout", "score", "update")
MICRO_BATCH = 2


@dataclass(frozen=True)
class Load:
    """One PPO step to measure."""

    prompt: int = 96
    response: int = 32
    batch: int = 8
    ranks: int = 1


def loads(base: Load) -> Iterator[tuple[str, Load]]:
    """The base with one thing changed at a time, under what is changed."""
    yield "base", base
    for factor in (2, 4):
        yield "response", replace(base, response=base.response * factor)
    for factor in (2, 4):
        yield "prompt", replace(base, prompt=base.prompt * factor)
    yield "batch", replace(base, batch=base.batch // 2)
    yield "batch", replace(base, batch=base.batch * 2)
    yield "ranks", replace(base, ranks=2)


# -- this machine


def calibrate(dtype: torch.dtype) -> Machine:
    """What one process reaches: products of many tokens, of one, and the launch of a block.

    On one thread, from here on too: `run` gives each process one.
    """
    torch.set_num_threads(1)
    left, right = torch.ones(256, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    flops = 2 * 256 * 576 * 1536 / seconds_of(lambda: left @ right)
    row, wide = torch.ones(1, 4096, dtype=dtype), torch.ones(8192, 4096, dtype=dtype)
    bandwidth = wide.nbytes / seconds_of(lambda: torch.nn.functional.linear(row, wide))
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=2,
    )
    blocks, token = LlamaForCausalLM(config).to(dtype).eval(), torch.ones(1, 1, dtype=torch.long)
    with torch.inference_mode():
        launch = seconds_of(lambda: blocks(token)) / config.num_hidden_layers
    shares = {"compute_share": 1.0, "bandwidth_share": 1.0, "block_seconds": launch}
    return Machine(0.0, flops, bandwidth, bandwidth, bandwidth, **shares)


def seconds_of(work: Callable[[], Any], times: int = 20) -> float:
    """Median of several, after one that is not counted."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


# -- PPO steps


def measure(model: str, load: Load, machine: Machine, dtype: str, steps: int) -> dict[str, Any]:
    """The last of a few PPO steps, as its command runs it, beside the estimate."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            {"id": str(i), "post": f"{i} cats. " * load.prompt, "ideal_human_summary": "Cats."}
            for i in range(load.batch)
        ]
        data = Path(folder) / "posts.json"
        data.write_text(json.dumps(rows), encoding="utf-8")
        run(command(model, load, dtype, steps, data, Path(folder) / "run"), load.ranks)
        lines = (Path(folder) / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[-1])
    shape, lora = read_shape(model), Lora(PolicyConfig.lora_r)
    place = Placement(load.ranks, width=resolve_dtype(dtype).itemsize, attention="blocked")
    prompt = round(row["prompt_tokens"])
    step = PpoStep(shape, lora, place, None, prompt, load.response, load.batch, MICRO_BATCH)
    step = replace(step, accumulation=load.batch // load.ranks // MICRO_BATCH, epochs=1)
    estimated = ppo_seconds(step, machine)
    measured = {phase: row[f"seconds_{phase}"] for phase in PHASES}
    found: dict[str, Any] = {**load.__dict__, "prompt": prompt}
    for phase in PHASES:
        found[phase] = measured[phase]
        found[f"{phase}_ratio"] = estimated[phase] / measured[phase]
    found["seconds"] = sum(measured.values())
    found["tokens_per_second"] = load.batch * load.response / found["seconds"]
    return found


def command(model: str, load: Load, dtype: str, steps: int, data: Path, output: Path) -> list[str]:
    """The flags of such a run; no response ends before its limit."""
    flags = {
        "base_model_name": model,
        "feedback_source": "reference",
        "reward_model_metrics": "",
        "data_file_path": data,
        "valid_data_file_path": "",
        "output_dir": output,
        "dtype": dtype,
        "adafactor": False,
        "steps": steps,
        "train_epochs": steps,
        "save_freq": steps,
        "batch_size": load.batch,
        "mini_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": load.batch // load.ranks // MICRO_BATCH,
        "ppo_epochs": 1,
        "prompt_max_length": load.prompt,
        "output_max_length": load.response,
        "min_new_tokens": load.response,
        "allow_off_policy_sampling": True,
    }
    return [word for name, value in flags.items() for word in (f"--{name}", str(value))]


def run(flags: list[str], ranks: int) -> None:
    """Start the script in one process, or in several by torchrun over gloo; one thread each.

    Raises:
        UserError: it failed, with the last lines that it wrote.
    """
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*start, str(SCRIPT), *flags],
        cwd=SCRIPT.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"{SCRIPT.name} failed: {' '.join(done.stderr.split())[-500:]}")


# -- bytes


def measure_bytes(model: str, lengths: list[int], dtype: str) -> list[dict[str, Any]]:
    """The most bytes in use during forward and backward of a micro-batch, beside the estimate."""
    flags = {"base_model_name": model, "dtype": dtype, "adafactor": False}
    args = PolicyConfig(**flags, prompt_max_length=max(lengths))
    policy = build_policy(args, load_tokenizer(model, "--model"))
    shape, lora = read_shape(model), Lora(args.lora_r, args.lora_target_modules)
    place = Placement(width=resolve_dtype(dtype).itemsize, attention="blocked")
    found = []
    for length in lengths:
        half = length // 2
        prompts = [[3 + i % 50 for i in range(half)]] * MICRO_BATCH
        batch = MicroBatch.collate(range(MICRO_BATCH), prompts, prompts, 0, torch.device("cpu"))

        def update(batch: MicroBatch = batch) -> None:
            logp, values = policy(batch, 1.0, args.logp_chunk_tokens, False)
            (logp.sum() + values.sum()).backward()

        policy.zero_grad()
        update()  # gradients exist from here on, as they do in a run
        measured = most_bytes(update)
        step = PpoStep(shape, lora, place, None, half, half, micro_batch=MICRO_BATCH)
        estimated = update_bytes(step)
        row = {"tokens": 2 * half * MICRO_BATCH, "measured": measured, "estimated": estimated}
        found.append({**row, "ratio": estimated / measured})
    return found


def most_bytes(work: Callable[[], Any]) -> int:
    """The most that tensors take at once during `work`, beyond what they took before."""
    with torch.profiler.profile(profile_memory=True) as profile:
        work()
    events = profile.profiler.kineto_results.events()
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


def shape_facts(model: str) -> dict[str, Any]:
    """What the tables name."""
    shape: ModelShape = read_shape(model)
    return {"model": Path(model).name, "parameters": shape.parameters}
