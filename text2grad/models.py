"""Models, LoRA, merging: the only module that knows peft, beside `checkpoint`."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.pytorch_utils import Conv1D

from text2grad.attention import attention_setting, choose_attention
from text2grad.files import check_writable
from text2grad.precision import cpu_dtype
from text2grad.pretrained import (
    base_of,
    end_ids,
    is_adapter,
    lacks_tokenizer,
    load_tokenizer,
    no_adapter,
    not_loadable,
    one_line,
)
from text2grad.schema import UserError
from text2grad.target_formats import read_facts, write_facts
from text2grad.whole_folder import replace_folder

if TYPE_CHECKING:
    from text2grad.config import MergeConfig, PolicyConfig
    from text2grad.config.training import AdapterTrainConfig

    LoraFlags = PolicyConfig | AdapterTrainConfig


def resolve_dtype(name: str) -> torch.dtype:
    """`auto` is bf16 where the hardware multiplies in it, and on a CPU is fast at that; or fp32."""
    if name == "auto":
        if torch.cuda.is_available():
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            name = "bf16" if native else "fp32"
        else:
            name = cpu_dtype()
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]


def default_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_memory(limit: str) -> dict[int, str] | None:
    """`--gpu_memory 30GiB` as a bound for each visible GPU; a warning and no bound without one."""
    if not limit:
        return None
    if not torch.cuda.is_available():
        print(f"--gpu_memory {limit}: no GPU is visible, running on the CPU")
        return None
    return dict.fromkeys(range(torch.cuda.device_count()), limit)


def load_model(name: str, dtype: str, flag: str, **load: Any) -> nn.Module:
    """A causal language model, or an adapter on its base model; weights as safetensors only.

    The model's own generation settings are dropped: what is sampled is what the flags say.

    Raises:
        UserError: nothing loadable at `name`.
    """
    base = base_of(name)
    if Path(base).is_dir():
        base = str(Path(base).resolve())  # an adapter records it, and is read from other folders
    try:
        settings = {"dtype": resolve_dtype(dtype), **attention_setting(), **load}
        model = AutoModelForCausalLM.from_pretrained(base, use_safetensors=True, **settings)
        choose_attention(model)
        if is_adapter(name):
            model = PeftModel.from_pretrained(model, name, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise UserError(not_loadable(flag, name, error)) from error
    causal = _without_adapter(model)
    ends = causal.generation_config.eos_token_id  # some families list all end tokens only here
    causal.generation_config = GenerationConfig(eos_token_id=ends)
    causal.config.use_cache = True
    return model


def load_for_inference(name: str, dtype: str, flag: str, memory: str = "") -> nn.Module:
    """A model in evaluation mode on the default device, or spread under `--gpu_memory`."""
    limits = gpu_memory(memory)
    if limits:
        return load_model(name, dtype, flag, device_map="auto", max_memory=limits).eval()
    return load_model(name, dtype, flag).eval().to(default_device())


def eos_ids(model: nn.Module, tokenizer: Any) -> list[int]:
    """All ids that end a response: the tokenizer's and those of the model's configurations."""
    return end_ids(tokenizer, model.config.get_text_config(), model.generation_config)


def add_lora(model: nn.Module, args: LoraFlags, dropout: float, flag: str) -> PeftModel:
    """Put a trainable LoRA adapter on `model`; its weights are fp32.

    Raises:
        UserError: the model, named by `flag`, is an adapter or has none of the target layers.
    """
    if isinstance(model, PeftModel):
        raise UserError(
            f"{flag}: names an adapter, not a whole model; merge it first (merge_lora.py), or, for "
            "the policy, name it by --base_model_adapter_model"
        )
    targets = list(args.lora_target_modules)
    depth = model.config.get_text_config().num_hidden_layers
    first = max(0, depth - args.lora_last_layers) if args.lora_last_layers else 0
    config = LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=dropout,
        target_modules=_linear_names(model) if targets == ["all-linear"] else targets,
        layers_to_transform=list(range(first, depth)) if first else None,
        bias="none",
        # with a head of its own for one score, that head is trained and saved too
        task_type="SEQ_CLS" if hasattr(model, "score") else "CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"--lora_target_modules {' '.join(targets)}: {one_line(error)} "
            "(all-linear fits every model)"
        ) from error


def _linear_names(model: nn.Module) -> list[str]:
    """Last names of all linear layers but the head's."""
    head = getattr(model, "score", None) or model.get_output_embeddings()
    linear = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head  # Conv1D: GPT-2
    }
    return sorted(linear)


def merge_adapter(model: nn.Module, adapter: str, flag: str) -> nn.Module:
    """The model with a saved adapter added into its weights."""
    if not is_adapter(adapter):
        raise UserError(f"{flag} {adapter}: {no_adapter(adapter)}")
    try:
        return PeftModel.from_pretrained(model, adapter, use_safetensors=True).merge_and_unload()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{flag} {adapter}: does not fit the model: {one_line(error)}") from error


def merge_lora(args: MergeConfig) -> None:
    """Merge an adapter into its base model and save both model and tokenizer."""
    quiet_libraries()
    if not is_adapter(args.lora_model):
        raise UserError(f"--lora_model {args.lora_model}: {no_adapter(args.lora_model)}")
    facts = read_facts(args.lora_model, "--lora_model")
    base = args.base_model or base_of(args.lora_model)
    save_dir = Path(args.save_dir or f"{args.lora_model.rstrip('/')}_merge")
    check_writable(save_dir.parent, "--save_dir")
    dtype = args.dtype if args.dtype != "auto" else _stored_dtype(base)
    model = load_model(base, dtype, "--base_model")
    merged = merge_adapter(model, args.lora_model, "--lora_model")
    source = base if lacks_tokenizer(args.lora_model) else args.lora_model
    tokenizer = load_tokenizer(source, "--base_model")
    if not args.merge_and_save:
        print(f"{args.lora_model} fits {base}; nothing saved (--merge_and_save false)")
        return
    with replace_folder(save_dir, "--save_dir") as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_facts(folder, facts)
    print(f"merged {args.lora_model} into {base}: {save_dir}")


def _without_adapter(model: nn.Module) -> nn.Module:
    return model.get_base_model() if isinstance(model, PeftModel) else model


def backbone(model: nn.Module) -> nn.Module:
    """The part of a causal language model below its head, adapters included."""
    causal = _without_adapter(model)
    return getattr(causal, causal.base_model_prefix)


def head_logits(model: nn.Module, hidden: Tensor) -> Tensor:
    """Logits of hidden states, (N, H) -> (N, V) in fp32, with the family's own scaling."""
    causal = _without_adapter(model)
    logits = causal.get_output_embeddings()(hidden).float()
    config = causal.config
    if scale := getattr(config, "logit_scale", None):  # Cohere
        logits = logits * scale
    if scale := getattr(config, "logits_scaling", None):  # Granite
        logits = logits / scale
    if cap := getattr(config, "final_logit_softcapping", None):  # Gemma 2
        logits = torch.tanh(logits / cap) * cap
    return logits


def head_is_trained(model: nn.Module) -> bool:
    """Whether an adapter changes the head, as `--lora_target_modules lm_head` asks for."""
    head = _without_adapter(model).get_output_embeddings()
    return any(parameter.requires_grad for parameter in head.parameters())


def check_context(model: nn.Module, flag: str, tokens: int, bounds: str) -> None:
    """Prove that the model reads as many tokens as the flags allow; beyond, some families crash.

    Args:
        model: named by `flag`.
        flag: for the message.
        tokens: of prompt and response together, at most.
        bounds: the flags that bound them, with their values.

    Raises:
        UserError: it reads fewer.
    """
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if most and tokens > most:
        raise UserError(
            f"{bounds}: up to {tokens} tokens, but the model of {flag} reads {most}; lower them"
        )


def check_head(model: nn.Module) -> None:
    """Prove on a few tokens that `head_logits` gives the model's own logits.

    Raises:
        UserError: this family computes its logits in a way that is not known here.
    """
    device = next(model.parameters()).device
    ids = torch.arange(2, 10, device=device)[None]
    with torch.no_grad():
        own = model(input_ids=ids).logits[0].float()
        ours = head_logits(model, backbone(model)(input_ids=ids).last_hidden_state[0])
    if not torch.allclose(own, ours, atol=1e-2, rtol=1e-2):
        raise UserError(
            f"model family {model.config.model_type}: its logits are not head(hidden state); "
            "use another --base_model_name"
        )


def quiet_libraries() -> None:
    """Leave the terminal to our own progress bars and warnings."""
    import datasets
    import transformers

    os.environ.setdefault("DS_LOG_LEVEL", "error")  # DeepSpeed writes to standard output
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")


def _stored_dtype(base: str) -> str:
    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise UserError(not_loadable("--base_model", base, error)) from error
    names = {torch.bfloat16: "bf16", torch.float16: "fp16"}
    return names.get(getattr(config, "dtype", None), "fp32")
