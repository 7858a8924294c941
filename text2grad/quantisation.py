"""A frozen base model in 4 bits (QLoRA), by bitsandbytes, which is imported only for it."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import torch
from transformers import BitsAndBytesConfig

from text2grad.models import resolve_dtype
from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig
    from text2grad.config.training import AdapterTrainConfig


def packed(args: PolicyConfig | AdapterTrainConfig) -> dict[str, Any]:
    """What `load_model` needs beside a name for `--load_in_4bit`, {} without the flag.

    Normal floats with packed scales, as QLoRA has them; --dtype is what they are multiplied in.
    The head and the norms are not packed.

    Raises:
        UserError: there is no GPU, or bitsandbytes is not installed.

    Source: QLoRA, arXiv:2305.14314.
    """
    if not args.load_in_4bit:
        return {}
    if not torch.cuda.is_available():
        raise UserError("--load_in_4bit true: no GPU is visible; leave the flag out on the CPU")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "--load_in_4bit true: bitsandbytes is not installed; pip install bitsandbytes, or "
            "leave the flag out"
        )
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=resolve_dtype(args.dtype),
    )
    device = max(0, int(os.environ.get("LOCAL_RANK", "0")))
    return {"quantization_config": settings, "device_map": {"": device}}
