"""The DeepSpeed file, the launcher and the flags of a policy run: they agree, or none of them runs.

What a flag decides is "auto" in the file. A value there that says something else, and a launcher
that asks for something else, would be obeyed in silence by one library and not by the other.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config.policy import PolicyConfig

STAGES = (1, 2, 3)
# sections that build what the flags build
_OWN = {
    "optimizer": "--adafactor, --learning_rate and --weight_decay",
    "scheduler": "--lr_scheduler_type and --warmup_steps",
}
_PRECISION = (
    "--dtype is the precision of the frozen weights, the trained ones are fp32 without autocast"
)


def read_deepspeed(args: PolicyConfig, processes: int) -> dict[str, Any]:
    """The file of `--deepspeed` with every value that the flags decide.

    Args:
        args: deepspeed, and the flags of the optimisation.
        processes: that take part.

    Raises:
        UserError: DeepSpeed is not installed, the file cannot be read, or one of its values
            contradicts a flag; the message names both.
    """
    name = f"--deepspeed {args.deepspeed}"
    check_installed(args.deepspeed, '--deepspeed "" for the shell')
    try:
        config = json.loads(Path(args.deepspeed).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UserError(f"{name}: expected a JSON object")
    for section, flags in _OWN.items():
        if section in config:
            raise UserError(f'{name}: "{section}" contradicts {flags}; remove it')
    zero = config.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in STAGES:
        raise UserError(
            f'{name}: "zero_optimization.stage" is {stage}, expected 1, 2 or 3; without ZeRO leave '
            "--deepspeed out"
        )
    if args.adafactor:
        raise UserError(
            f"{name} contradicts --adafactor true: ZeRO cuts the weights into flat shards, which "
            "have no rows and columns to factor; pass --adafactor false"
        )
    for key, (value, flag) in _decided(args, processes).items():
        _settle(config, key, value, flag, name)
    # its own optimiser for the CPU would take the place of the one that the schedule steers
    config.setdefault("zero_force_ds_cpu_optimizer", False)
    return config


def check_installed(path: str, way_out: str) -> None:
    """DeepSpeed is there.

    Raises:
        UserError: it is not, with what to do, `way_out` being how the shell is told to go without.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise UserError(
            f"--deepspeed {path}: DeepSpeed is not installed; run bash env.sh, or leave the flag "
            f"out ({way_out})"
        )


def check_batch(args: PolicyConfig, processes: int) -> None:
    """The batch can be shared evenly among the processes.

    Raises:
        UserError: it cannot; the message names the flags.
    """
    update = args.mini_batch_size * args.gradient_accumulation_steps
    if args.batch_size % (update * processes):
        raise UserError(
            f"--batch_size {args.batch_size} is not a multiple of --mini_batch_size "
            f"{args.mini_batch_size} times --gradient_accumulation_steps "
            f"{args.gradient_accumulation_steps} times {processes} processes"
        )


def check_launcher(args: PolicyConfig, environ: Mapping[str, str]) -> None:
    """What `accelerate launch` was told, which it hands over in the environment, fits the flags.

    Raises:
        UserError: naming the launcher's setting and the flag.
    """

    def asked(name: str) -> str:
        value = environ.get(f"ACCELERATE_{name}", "").lower()
        return "" if value in ("no", "none", "false") else value

    flag = f"--deepspeed {args.deepspeed}" if args.deepspeed else "no --deepspeed"
    if precision := asked("MIXED_PRECISION"):
        raise UserError(
            f"mixed_precision: {precision} of the launcher contradicts --dtype {args.dtype}: "
            f'{_PRECISION}; set mixed_precision: "no" in its configuration'
        )
    if args.deepspeed and asked("USE_CPU"):
        raise UserError(
            f"use_cpu: true of the launcher contradicts {flag}: accelerate would leave DeepSpeed "
            "out without a word, which runs on the CPU by itself where there is no GPU; set "
            "use_cpu: false"
        )
    if not asked("USE_DEEPSPEED"):
        return
    file = environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "")
    if args.deepspeed and file and Path(file).resolve() == Path(args.deepspeed).resolve():
        return
    said = f"deepspeed_config_file: {file}" if file else "distributed_type: DEEPSPEED"
    raise UserError(
        f"{said} of the launcher contradicts {flag}: "
        + (f"pass --deepspeed {file}" if file else "set distributed_type: MULTI_GPU")
    )


def _decided(args: PolicyConfig, processes: int) -> dict[str, tuple[Any, str]]:
    """By key of the file: the value, and the flags that say so."""
    micro = f"--mini_batch_size {args.mini_batch_size}"
    steps = f"--gradient_accumulation_steps {args.gradient_accumulation_steps}"
    update = args.mini_batch_size * args.gradient_accumulation_steps * processes
    return {
        "train_micro_batch_size_per_gpu": (args.mini_batch_size, micro),
        "gradient_accumulation_steps": (args.gradient_accumulation_steps, steps),
        "train_batch_size": (update, f"{micro} times {steps} times {processes} processes"),
        "gradient_clipping": (args.max_grad_norm, f"--max_grad_norm {args.max_grad_norm}"),
        "bf16.enabled": (False, _PRECISION),
        "fp16.enabled": (False, _PRECISION),
        "torch_autocast.enabled": (False, _PRECISION),
    }


def _settle(config: dict[str, Any], key: str, value: Any, flag: str, name: str) -> None:
    """Write a value where the file leaves it open; where it does not, it has to be the same."""
    *sections, last = key.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            return  # off unless the file turns it on
        config = config[section]
    said = config.get(last, "auto")
    if said not in ("auto", value):
        raise UserError(
            f'{name}: "{key}" is {json.dumps(said)}, which contradicts {flag}; write "auto" there'
        )
    config[last] = value
