"""The policy in training: a LoRA adapter and a value head on one backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Adafactor, get_scheduler
from transformers.modeling_layers import GradientCheckpointingLayer

from text2grad.models import (
    add_lora,
    check_context,
    check_head,
    load_model,
    merge_adapter,
)
from text2grad.quantisation import packed
from text2grad.rollout import MicroBatch, response_hidden, token_logps
from text2grad.schema import UserError
from text2grad.whole_folder import replace_folder

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig


class ValueHead(nn.Module):
    """The expected return from each position's last hidden state; fp32, starts at 0."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, dtype=torch.float32)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (...)."""
        return self.linear(hidden.float()).squeeze(-1)


class Policy(nn.Module):
    """One forward pass gives log-probabilities and values, so that any wrapper sees both.

    The model stays in evaluation mode: dropout would make the first ratio of a batch differ
    from 1.
    """

    def __init__(self, lm: nn.Module) -> None:
        super().__init__()
        self.lm = lm
        self.config = lm.get_base_model().config.get_text_config()  # read for DeepSpeed's "auto"
        self.value_head = ValueHead(self.config.hidden_size)
        self.eval()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """As TRL asks any model."""
        return self.lm.is_gradient_checkpointing

    def forward(
        self,
        batch: MicroBatch,
        temperature: float,
        chunk: int,
        detach_values: bool,
        head_calls: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """(b, R) log-probabilities of the sampled tokens, and (b, R) values.

        Args:
            batch: what was sampled.
            temperature: divides the logits.
            chunk: tokens whose logits exist at once.
            detach_values: keep the value loss off the shared backbone.
            head_calls: call the head at least so often, with nothing in the calls beyond what the
                tokens need; processes that share one head must call it together.
        """
        hidden = response_hidden(self.lm, batch)
        logp = token_logps(self.lm, hidden, batch, temperature, chunk, head_calls)
        values = self.value_head(hidden.detach() if detach_values else hidden)
        return logp, values.masked_fill(~batch.response_mask, 0.0)


def recompute_blocks(lm: nn.Module) -> None:
    """Let each block of a model keep only its input for the backward pass.

    The library's own switch acts in training mode alone, which would turn dropout on.

    Raises:
        UserError: the blocks of this family are not known.
    """
    blocks = [m for m in lm.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not blocks:
        raise UserError("--gradient_checkpointing true: not known for this model family")
    for block in blocks:
        block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *inputs: Any, **more: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **more)
    # nothing is drawn at random in evaluation mode
    keep = {"use_reentrant": False, "preserve_rng_state": False}
    return checkpoint(partial(forward, **more), *inputs, **keep)


def build_policy(args: PolicyConfig, tokenizer: Any, save_start: bool = True) -> Policy:
    """Load the start model, merging the start adapter if there is one, and put LoRA on it.

    Args:
        args: the model, its adapter, precision and LoRA.
        tokenizer: saved beside a merged start model.
        save_start: whether this process is the one that writes a merged start model.
    """
    flag = "--base_model_name"
    model = load_model(args.base_model_name, args.dtype, flag, **packed(args))
    if args.base_model_adapter_model:
        model = merge_adapter(model, args.base_model_adapter_model, "--base_model_adapter_model")
        start = Path(args.output_dir) / "start_model"
        if save_start:
            with replace_folder(start) as folder:
                model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
        # the adapter of this run belongs to the merged model, and says so
        model.name_or_path = model.config._name_or_path = str(start.resolve())
    prompt, output = args.prompt_max_length, args.output_max_length
    bounds = f"--prompt_max_length {prompt} --output_max_length {output}"
    check_context(model, flag, prompt + output, bounds)
    torch.manual_seed(args.seed)
    lm = add_lora(model, args, 0.0, flag)
    check_head(lm)
    if args.gradient_checkpointing:
        recompute_blocks(lm)
    return Policy(lm)


def build_optimizer(
    args: PolicyConfig, policy: Policy, steps: int
) -> tuple[torch.optim.Optimizer, Any]:
    """The optimiser of adapter and value head, and the learning rate's schedule over `steps`."""
    adapter = [p for p in policy.lm.parameters() if p.requires_grad]
    value_lr = args.value_learning_rate or args.learning_rate
    groups = [
        {"params": adapter, "lr": args.learning_rate},
        {"params": list(policy.value_head.parameters()), "lr": value_lr},
    ]
    plain = {"lr": args.learning_rate, "weight_decay": args.weight_decay}
    if args.adafactor:
        # torch's own Adafactor multiplies the rate by the size of the parameter, which is 0 for a
        # fresh adapter; here the rate is what the flag says.
        optimizer = Adafactor(groups, scale_parameter=False, relative_step=False, **plain)
    else:
        optimizer = torch.optim.AdamW(groups, **plain)
    try:
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            optimizer,
            num_warmup_steps=args.warmup_steps,
            num_training_steps=steps,
        )
    except ValueError as error:
        raise UserError(f"--lr_scheduler_type {args.lr_scheduler_type}: {error}") from error
    return optimizer, scheduler
