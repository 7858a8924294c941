"""What training costs with length, batch and processes, and what it would take of large models.

    python benchmarks/scaling.py [--model DIR] [--json] [--output_path FILE.md]
    python benchmarks/scaling.py --estimate [--gpu A100-80GB] [--json]
    python benchmarks/scaling.py --preset slf5k [--stage policy] [-- MORE FLAGS]

The first measures PPO steps on this machine, one thing changed at a time, on one and on two
processes, and the bytes of an update; beside each figure stands what `text2grad/estimate.py` says
of it. The second prints that estimate for 1B to 70B on 1 to 1,024 GPUs, the third for a preset,
whose flags it first checks as the start does; variables from outside count (GPUS=4). Neither the
second nor the third has been measured: they are arithmetic on the assumptions that they print.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from text2grad.estimate import (
    FIXED_BYTES,
    SLACK,
    PpoStep,
    RewardTraining,
    ppo_memory,
    reward_training_memory,
)
from text2grad.estimate_time import UNPACKING, Machine, machine, ppo_seconds, reward_update_seconds
from text2grad.files import write_text
from text2grad.memory import Placement
from text2grad.model_shapes import Lora, known, read_shape
from text2grad.plans import read_plan, takes
from text2grad.schema import UserError
from text2grad.tables import markdown_table, text_table

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/smollm2-135m-instruct"
GPUS = (1, 8, 64, 256, 1024)
RESPONSES = 8  # of each GPU
SMALLEST = 1e9
STAGES = ("reward_model", "policy")
# Records that the estimate of a preset counts with: SLF5K's training posts, the published split of
# KodCode and the prompts of KodCode-Light-RL-10K, both answers and the prompts of UltraFeedback.
RECORDS = {
    "slf5k": {"reward_model": 5000, "policy": 5000},
    "kodcode": {"reward_model": 9000, "policy": 10000},
    "ultrafeedback": {"reward_model": 122270, "policy": 61135},
}
STEP_COLUMNS = {
    "changed": "changed",
    "ranks": "processes",
    "prompt": "prompt tokens",
    "response": "response tokens",
    "batch": "batch",
    "rollout": "rollout, s",
    "rollout_ratio": "estimate / measured",
    "score": "score, s",
    "score_ratio": "estimate / measured",
    "update": "update, s",
    "update_ratio": "estimate / measured",
    "tokens_per_second": "response tokens / s",
}
BYTE_COLUMNS = {
    "tokens": "tokens of the micro-batch",
    "measured": "measured, MB",
    "estimated": "estimate, MB",
    "ratio": "estimate / measured",
}
GRID_COLUMNS = {
    "stage": "stage",
    "model": "model",
    "gpus": "GPUs",
    "way": "how it fits",
    "gigabytes": "GB per GPU",
    "seconds": "s per step or update",
    "per_hour": "1,000 responses or examples / h",
}
PRESET_COLUMNS = {
    "preset": "preset",
    "stage": "stage",
    "gpus": "GPUs",
    "zero_stage": "ZeRO",
    "gigabytes": "GB per GPU",
    "fits": "fits",
    "seconds": "s per step or update",
    "updates": "steps or updates",
    "gpu_hours": "GPU hours",
}


def assumptions(gpu: str) -> str:
    """What the estimates rest on beside the formulas."""
    one = machine(gpu)
    return (
        f"Estimates, not measurements. {gpu}: {one.flops / 1e12:.0f} TFLOP/s at "
        f"{one.compute_share:.0%}, {one.bandwidth / 1e12:.2f} TB/s at {one.bandwidth_share:.0%} "
        f"in decoding, {one.block_seconds * 1000:.1f} ms to launch a block, "
        f"{one.link / 1e9:.0f} GB/s to GPUs of the node ({one.node}), {one.network / 1e9:.0f} "
        f"GB/s to others, nothing overlaps; {FIXED_BYTES / 1e9:.0f} GB and {SLACK:.0%} of what "
        f"comes and goes on top; products with 4-bit weights {UNPACKING:g} times slower. Every "
        "prompt, response and critique is as long as its flag allows; transformers samples."
    )


# -- any model on any number of GPUs


def grid(gpu: str) -> list[dict[str, Any]]:
    """PPO steps and updates of reward models from 1B on, by the first way that fits.

    The reward model of a PPO step is on the same GPU if it fits there: a server needs others.
    """
    names = [name for name in known("models") if read_shape(name).parameters > SMALLEST]
    return [
        _fitted(stage, name, gpus, ways(name, gpus), machine(gpu))
        for stage, ways in (("policy", _policy_ways), ("reward model", _reward_ways))
        for name in names
        for gpus in GPUS
    ]


def _policy_ways(name: str, gpus: int) -> dict[str, PpoStep]:
    shape, place = read_shape(name), Placement(gpus, 2)
    batch = {"batch": RESPONSES * gpus, "accumulation": RESPONSES}
    lengths = {"prompt_tokens": 970, "response_tokens": 512}
    beside = PpoStep(shape, Lora(), place, shape, **lengths, **batch)
    served = replace(beside, critic=None)
    packed = replace(served, place=replace(place, four_bit=True))
    checked = replace(packed, place=replace(packed.place, checkpointing=True))
    return {
        "reward model beside": beside,
        "reward model on a server": served,
        "reward model on a server, 4 bits": packed,
        "reward model on a server, 4 bits, checkpointing": checked,
    }


def _reward_ways(name: str, gpus: int) -> dict[str, RewardTraining]:
    shape, place = read_shape(name), Placement(gpus, 2)
    whole = RewardTraining(shape, Lora(), place)
    checked = replace(whole, place=replace(place, checkpointing=True))
    cut = replace(whole, place=replace(place, zero_stage=3, checkpointing=True))
    packed = replace(checked, place=replace(checked.place, four_bit=True))
    return {
        "whole": whole,
        "checkpointing": checked,
        "4 bits, checkpointing": packed,
        "ZeRO-3, checkpointing": cut,
    }


def _fitted(
    stage: str, name: str, gpus: int, ways: dict[str, Any], where: Machine
) -> dict[str, Any]:
    row = {"stage": stage, "model": name.split("/")[-1], "gpus": gpus}
    found = [{**row, "way": way, **_figures(run, where)} for way, run in ways.items()]
    fitting = [one for one in found if one["gigabytes"] * 1e9 <= where.memory]
    if fitting:
        return fitting[0]
    least = min(found, key=lambda one: one["gigabytes"])
    return {**least, "way": "none", "seconds": None, "per_hour": None}


def _figures(run: PpoStep | RewardTraining, where: Machine) -> dict[str, float]:
    if isinstance(run, PpoStep):
        peak, seconds, count = ppo_memory(run)["peak"], ppo_seconds(run, where)["step"], run.batch
    else:
        peak, seconds = reward_training_memory(run)["peak"], reward_update_seconds(run, where)
        count = run.micro_batch * run.accumulation * run.place.gpus
    per_hour = count / seconds * 3.6
    return {"gigabytes": peak / 1e9, "seconds": seconds, "per_hour": per_hour}


# -- presets


def preset(
    name: str, gpu: str, more: Sequence[str] = (), stages: Sequence[str] = STAGES
) -> list[dict[str, Any]]:
    """Stages of a preset: checked, and what they take.

    Args:
        name: of the preset.
        gpu: on which.
        more: flags for these stages.
        stages: reward_model, policy.

    Raises:
        UserError: there is no such preset, or its flags cannot start.
    """
    shell = ROOT / f"presets/{name}.sh"
    if not shell.is_file():
        there = ", ".join(sorted(path.stem for path in shell.parent.glob("*.sh")))
        raise UserError(f"--preset {name}: not one of {there}")
    base = read_plan(dry_run(shell, STAGES[0])).args.base_model
    rows, critic = [], read_shape(base, "--base_model")
    for stage in stages:
        plan = read_plan(dry_run(shell, stage, more))
        found = takes(plan, machine(gpu), RECORDS[name][stage], critic)
        seconds = sum(found["seconds"].values()) if stage == "reward_model" else None
        row = {**found, "preset": name, "stage": stage, "fits": "yes" if found["fits"] else "no"}
        row["seconds"] = seconds or found["seconds"]["step"]
        rows.append({**row, "phases": found["seconds"], "gigabytes": found["memory"]["peak"] / 1e9})
    return rows


def dry_run(shell: Path, stage: str, more: Sequence[str] = ()) -> str:
    """What a stage of a preset would start."""
    done = subprocess.run(
        ["bash", str(shell), stage, *more],
        env=os.environ | {"DRY_RUN": "1", "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(done.stderr.strip().removeprefix("error: "))
    return done.stdout


# -- this machine


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures of this machine.

    Raises:
        UserError: the model cannot be read, or a run failed.
    """
    import scaling_runs as runs  # torch

    facts = runs.shape_facts(args.model)
    where = runs.calibrate(runs.resolve_dtype(args.dtype))
    base = runs.Load(args.prompt, args.response, args.batch)
    steps = []
    for changed, load in runs.loads(base):
        found = runs.measure(args.model, load, where, args.dtype, args.steps)
        print(f"{changed}: {found['seconds']:.1f} s", file=sys.stderr)
        steps.append({"changed": changed, **found})
    lengths = [base.prompt + base.response * factor for factor in (1, 2, 4)]
    return {
        **facts,
        "dtype": str(runs.resolve_dtype(args.dtype)).removeprefix("torch."),
        "gigaflops": where.flops / 1e9,
        "gigabytes_per_second": where.bandwidth / 1e9,
        "block_milliseconds": where.block_seconds * 1000,
        "steps": steps,
        "bytes": runs.measure_bytes(args.model, lengths, args.dtype),
    }


def tables(found: dict[str, Any], table: Any) -> str:
    """Both tables of a measurement under what is needed to read them."""
    rows = [[row[key] for key in STEP_COLUMNS] for row in found["steps"]]
    mega = [
        {**row, "measured": row["measured"] / 1e6, "estimated": row["estimated"] / 1e6}
        for row in found["bytes"]
    ]
    facts = (
        f"{found['model']}, {found['parameters']:,} parameters, {found['dtype']}, one thread a "
        f"process: {found['gigaflops']:.0f} GFLOP/s in products of 256 tokens, "
        f"{found['gigabytes_per_second']:.1f} GB/s in products of one, "
        f"{found['block_milliseconds']:.2f} ms for a block of next to no width; the estimate knows "
        "these three figures and the model's shape.\n\n"
        "PPO steps of one epoch, two responses a forward pass, every response at its limit; the "
        "last of a run's steps.\n\n"
    )
    bytes_of = "\nThe most bytes in use during forward and backward of a micro-batch of two.\n\n"
    second = table(list(BYTE_COLUMNS.values()), [[row[k] for k in BYTE_COLUMNS] for row in mega])
    return facts + table(list(STEP_COLUMNS.values()), rows) + bytes_of + second


def run(args: argparse.Namespace) -> None:
    """Do what the flags ask for, print and write it."""
    if args.estimate or args.preset:
        columns = PRESET_COLUMNS if args.preset else GRID_COLUMNS
        found: Any = grid(args.gpu) if not args.preset else []
        for name in args.preset:
            found += preset(name, args.gpu, args.more, args.stage or STAGES)

        def show(table: Any) -> str:
            rows = [[row[key] for key in columns] for row in found]
            return f"{assumptions(args.gpu)}\n\n{table(list(columns.values()), rows)}"
    else:
        found = measure(args)

        def show(table: Any) -> str:
            return tables(found, table)

    print(json.dumps(found, indent=1) if args.json else show(text_table))
    if args.output_path:
        write_text(args.output_path, show(markdown_table), "--output_path")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--estimate", action="store_true", help="1B to 70B on 1 to 1,024 GPUs")
    parser.add_argument("--preset", action="append", default=[], help="a task of presets/")
    parser.add_argument("--stage", action="append", choices=STAGES, help="of the preset; both")
    parser.add_argument("--gpu", default="A100-80GB", choices=sorted(known("gpus")))
    parser.add_argument("--model", default=str(MODEL))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompt", type=int, default=96)
    parser.add_argument("--response", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output_path", default="", help="Markdown table to write")
    parser.add_argument("more", nargs="*", help="after --: flags for these stages")
    args = parser.parse_args()
    try:
        run(args)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
