"""The DeepSpeed file, the launcher and the flags of a training: they agree, or none of them runs.

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
    from text2grad.config.training import AdapterTrainConfig

    TrainFlags = PolicyConfig | AdapterTrainConfig

STAGES = (1, 2, 3)
# sections that build what the flags build, of which each training has some
_OWN = {
    "optimizer": ("adafactor", "learning_rate", "weight_decay"),
    "scheduler": ("lr_scheduler_type", "warmup_steps", "warmup_ratio"),
}
# by the name that `accelerate launch` gives its setting: where the file has it
_LAUNCHER_KEYS = {
    "DEEPSPEED_ZERO_STAGE": "zero_optimization.stage",
    "DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "zero_optimization.offload_optimizer.device",
    "DEEPSPEED_OFFLOAD_PARAM_DEVICE": "zero_optimization.offload_param.device",
    "GRADIENT_ACCUMULATION_STEPS": "gradient_accumulation_steps",
    "GRADIENT_CLIPPING": "gradient_clipping",
}
# ways of the launcher to cut a model, by the name that it gives them
_OTHER_WAYS = {"USE_FSDP": "FSDP", "USE_MEGATRON_LM": "MEGATRON_LM"}
# rows of one forward and backward pass, by whichever name a training has for them
_MICRO_BATCH = ("mini_batch_size", "per_device_train_batch_size")
_PRECISION = (
    "--dtype is the precision of the frozen weights, the trained ones are fp32 without autocast"
)


def read_deepspeed(
    args: TrainFlags, processes: int, way_out: str = '--deepspeed "" for the shell'
) -> dict[str, Any]:
    """The file of `--deepspeed` with every value that the flags decide.

    Args:
        args: deepspeed, and the flags of the optimisation.
        processes: that take part.
        way_out: how the shell is told to go without.

    Raises:
        UserError: DeepSpeed is not installed, the file cannot be read, or one of its values
            contradicts a flag; the message names both.
    """
    name = f"--deepspeed {args.deepspeed}"
    check_installed(args.deepspeed, way_out)
    try:
        config = json.loads(Path(args.deepspeed).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise UserError(f"{name}: expected a JSON object")
    for section, names in _OWN.items():
        if section in config:
            flags = " and ".join(f"--{flag}" for flag in names if hasattr(args, flag))
            raise UserError(f'{name}: "{section}" contradicts {flags}; remove it')
    zero = config.get("zero_optimization")
    stage = zero.get("stage") if isinstance(zero, dict) else None
    if stage not in STAGES:
        raise UserError(
            f'{name}: "zero_optimization.stage" is {stage}, expected 1, 2 or 3; without ZeRO leave '
            "--deepspeed out"
        )
    if getattr(args, "adafactor", False):
        raise UserError(
            f"{name} contradicts --adafactor true: ZeRO cuts the weights into flat shards, which "
            "have no rows and columns to factor; pass --adafactor false"
        )
    if args.load_in_4bit and stage == STAGES[-1]:
        raise UserError(
            f'{name}: "zero_optimization.stage" is 3, which contradicts --load_in_4bit true: '
            "packed weights cannot be cut; set 2, a packed model is small"
        )
    for key, (value, flag) in _decided(args, processes).items():
        _settle(config, key, value, flag, name)
    # DeepSpeed gathers the weights below this size all at once and in the precision of the first,
    # but the adapter is fp32 and the base may be bf16
    if zero.get("stage3_param_persistence_threshold", "auto") == "auto":
        zero["stage3_param_persistence_threshold"] = 0
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


def check_launcher(args: TrainFlags, environ: Mapping[str, str]) -> None:
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
    for name, kind in _OTHER_WAYS.items():
        if asked(name):
            raise UserError(
                f"distributed_type: {kind} of the launcher contradicts {flag}: only DeepSpeed cuts "
                "the models here; set distributed_type: MULTI_GPU"
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


def check_launcher_values(config: Mapping[str, Any], name: str, environ: Mapping[str, str]) -> None:
    """What the launcher's configuration says of DeepSpeed beside its file fits that file.

    Args:
        config: made by `read_deepspeed`.
        name: the flag and its value, for messages.
        environ: where `accelerate launch` put its configuration, which is not read again.

    Raises:
        UserError: naming the launcher's key and that of the file.
    """
    for key, place in _LAUNCHER_KEYS.items():
        said = environ.get(f"ACCELERATE_{key}", "none").lower()
        value: Any = config
        for part in place.split("."):
            value = value.get(part, "none") if isinstance(value, Mapping) else "none"
        if said != "none" and said not in (str(value).lower(), f"{value}.0"):
            setting = key.lower().removeprefix("deepspeed_")
            raise UserError(
                f'{setting}: {said} of the launcher contradicts "{place}" of {name}, which is '
                f"{value}; remove it from the launcher's configuration"
            )


def _decided(args: TrainFlags, processes: int) -> dict[str, tuple[Any, str]]:
    """By key of the file: the value, and the flags that say so."""
    flag = next(flag for flag in _MICRO_BATCH if hasattr(args, flag))
    rows = getattr(args, flag)
    micro = f"--{flag} {rows}"
    steps = f"--gradient_accumulation_steps {args.gradient_accumulation_steps}"
    update = rows * args.gradient_accumulation_steps * processes
    return {
        "train_micro_batch_size_per_gpu": (rows, micro),
        "gradient_accumulation_steps": (args.gradient_accumulation_steps, steps),
        "train_batch_size": (update, f"{micro} times {steps} times {processes} processes"),
        "gradient_clipping": (args.max_grad_norm, f"--max_grad_norm {args.max_grad_norm}"),
        "bf16.enabled": (False, _PRECISION),
        "fp16.enabled": (False, _PRECISION),
        "torch_autocast.enabled": (False, _PRECISION),
        # its own optimiser, for weights that lie in the CPU's memory
        "zero_force_ds_cpu_optimizer": (
            False,
            "--learning_rate and --lr_scheduler_type: they steer another optimizer than its own",
        ),
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
