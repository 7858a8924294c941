"""Sampling, and the forward passes over what was sampled. Sampled ids are never re-encoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import GenerationConfig

from text2grad.models import backbone, head_is_trained, head_logits
from text2grad.ppo_math import full_kl


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled; with the defaults, exactly from the policy.

    Attributes:
        max_new_tokens: length bound, the end token included.
        temperature: 0 is greedy.
        eos_ids: every id that ends a response.
        pad_id: fills finished rows; may equal an end id.
        extra: further settings of `generate`, under which sampled and optimised policy differ.
    """

    max_new_tokens: int
    temperature: float
    eos_ids: tuple[int, ...]
    pad_id: int
    extra: tuple[tuple[str, Any], ...] = ()

    def generation_config(self) -> GenerationConfig:
        """As transformers takes it; its default of 50 top tokens is switched off."""
        choice: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            choice = {"do_sample": True, "temperature": self.temperature, "top_k": 0, "top_p": 1.0}
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            eos_token_id=list(self.eos_ids),
            pad_token_id=self.pad_id,
            **{**choice, **dict(self.extra)},
        )


@torch.no_grad()
def sample_responses(
    model: nn.Module, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> list[list[int]]:
    """One response per prompt, as sampled, up to and including its first end token."""
    device = next(model.parameters()).device
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), sampling.pad_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    out = model.generate(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        generation_config=sampling.generation_config(),
    )
    return [cut_at_end(row, sampling.eos_ids) for row in out[:, width:].tolist()]


def cut_at_end(ids: Sequence[int], eos_ids: Sequence[int]) -> list[int]:
    """`ids` up to and including the first end token; all of them if there is none."""
    for position, token in enumerate(ids):
        if token in eos_ids:
            return list(ids[: position + 1])
    return list(ids)


@dataclass(frozen=True)
class MicroBatch:
    """Responses that go through the model together: prompts left-padded, responses right-padded.

    Attributes:
        rows: (b,) their places in the batch.
        input_ids, attention_mask, position_ids: (b, P + R).
        response_ids: (b, R).
        response_mask: (b, R) bool, True = a sampled token.
        update: number of the update that it is a part of in every epoch; None if updates are drawn
            anew in each.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    position_ids: Tensor
    response_ids: Tensor
    response_mask: Tensor
    update: int | None = None

    @classmethod
    def collate(
        cls,
        rows: Sequence[int],
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        pad_id: int,
        device: torch.device,
        update: int | None = None,
    ) -> MicroBatch:
        """Pad the chosen rows; masks come from lengths, never from the pad id."""
        width_p = max(len(prompts[row]) for row in rows)
        width_r = max(len(responses[row]) for row in rows)
        ids = torch.full((len(rows), width_p + width_r), pad_id)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for place, row in enumerate(rows):
            sequence = [*prompts[row], *responses[row]]
            start = width_p - len(prompts[row])
            ids[place, start : start + len(sequence)] = torch.tensor(sequence)
            mask[place, start : start + len(sequence)] = True
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        return cls(
            torch.tensor(list(rows)),
            ids.to(device),
            mask.long().to(device),
            positions.to(device),
            ids[:, width_p:].to(device),
            mask[:, width_p:].to(device),
            update,
        )

    @property
    def prompt_width(self) -> int:
        """P."""
        return self.input_ids.shape[1] - self.response_ids.shape[1]


def response_hidden(model: nn.Module, batch: MicroBatch) -> Tensor:
    """(b, R, H): the hidden states that predict the response tokens, adapters as they are set."""
    hidden = backbone(model)(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    first = batch.prompt_width - 1  # the last prompt position predicts the first response token
    return hidden[:, first : first + batch.response_ids.shape[1]]


def token_logps(
    model: nn.Module,
    hidden: Tensor,
    batch: MicroBatch,
    temperature: float,
    chunk: int,
    head_calls: int = 0,
) -> Tensor:
    """(b, R) log-probabilities of the sampled tokens, 0 on padding; differentiable.

    Logits exist for `chunk` tokens at a time, in the backward pass too. There are at least
    `head_calls` chunks, the last ones empty.
    """
    states, targets = hidden[batch.response_mask], batch.response_ids[batch.response_mask]
    chunks = [*zip(states.split(chunk), targets.split(chunk), strict=True)]
    chunks += [(states[:0], targets[:0])] * (head_calls - len(chunks))
    head = partial(_scaled_logits, model, temperature)

    def logp(states: Tensor, targets: Tensor) -> Tensor:
        return _picked_logp(head(states), targets)[0]

    if not torch.is_grad_enabled():
        parts = [logp(*pair) for pair in chunks]
    elif head_is_trained(model):
        parts = [checkpoint(logp, *pair, use_reentrant=False) for pair in chunks]
    else:
        parts = [_ChunkLogp.apply(*pair, head) for pair in chunks]
    return _on_mask(torch.cat(parts), batch.response_mask)


def _scaled_logits(model: nn.Module, temperature: float, states: Tensor) -> Tensor:
    logits = head_logits(model, states)
    return logits if temperature == 1.0 else logits / temperature


def _picked_logp(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) log-probabilities of the targets, and normalisers of all."""
    normaliser = logits.logsumexp(1)
    return logits.gather(1, targets[:, None])[:, 0] - normaliser, normaliser


class _ChunkLogp(torch.autograd.Function):
    """Log-probabilities of a chunk under a frozen head; its logits go with the forward pass.

    A token's log-probability depends on its own state alone, so its gradient is the same vector
    whatever the loss: it is taken at once, while the logits are there, and scaled later.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor]
    ) -> Tensor:
        with torch.enable_grad():
            leaf = states.detach().requires_grad_()
            logits = head(leaf)
        with torch.no_grad():
            logp, normaliser = _picked_logp(logits, targets)
            # d logp / d logits = one at the target - probabilities
            slope = (logits - normaliser[:, None]).exp_().neg_()
            slope.scatter_add_(1, targets[:, None], torch.ones_like(logp)[:, None])
        (gradient,) = torch.autograd.grad(logits, leaf, slope)
        ctx.save_for_backward(gradient)
        return logp

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (grad[:, None] * gradient).to(gradient.dtype), None, None


@dataclass(frozen=True)
class TokenStats:
    """What the models say of the sampled tokens, all (B, R) fp32 and 0 on padding.

    Attributes:
        logp, ref_logp: log-probability in nats under policy and reference.
        entropy: of the policy's next-token distribution, in nats.
        kl_full: KL(policy || reference) of that distribution, in nats.
        values: expected return.
    """

    logp: Tensor
    ref_logp: Tensor
    entropy: Tensor
    kl_full: Tensor
    values: Tensor


@torch.no_grad()
def score_tokens_of(
    model: nn.Module,
    value_head: nn.Module,
    batches: Sequence[MicroBatch],
    shape: tuple[int, int],
    temperature: float,
    chunk: int,
) -> TokenStats:
    """One forward with the adapter and one without, for every micro-batch.

    Args:
        model: a PEFT model; the reference is the same model with its adapter off.
        value_head: from hidden states to values.
        batches: they cover the batch; updates must use the same ones (in bf16 another grouping
            gives other log-probabilities).
        shape: (B, R) of the result.
        temperature: divides the logits of policy and reference alike.
        chunk: tokens whose logits exist at once.
    """
    device = batches[0].input_ids.device
    out = torch.zeros(5, *shape, device=device)
    for batch in batches:
        hidden = response_hidden(model, batch)
        with model.disable_adapter():
            ref_hidden = response_hidden(model, batch)
        mask, rows = batch.response_mask, batch.rows.to(device)
        columns = batch.response_ids.shape[1]
        states, ref_states = hidden[mask].split(chunk), ref_hidden[mask].split(chunk)
        targets = batch.response_ids[mask].split(chunk)
        parts = [
            _compare(model, s, r, t, temperature)
            for s, r, t in zip(states, ref_states, targets, strict=True)
        ]
        for index, flat in enumerate(torch.cat(parts, dim=1)):
            out[index, rows, :columns] = _on_mask(flat, mask)
        values = value_head(hidden).masked_fill(~mask, 0.0)
        out[4, rows, :columns] = values
    return TokenStats(*out)


def _compare(
    model: nn.Module, states: Tensor, ref_states: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    logits = _scaled_logits(model, temperature, states)
    logp, normaliser = _picked_logp(logits, targets)  # as in `token_logps`: the first ratio is 1
    logp_all = logits - normaliser[:, None]
    with model.disable_adapter():
        ref_logits = _scaled_logits(model, temperature, ref_states)
    # again the same expression: equal logits have a KL of exactly 0
    ref_logp_all = ref_logits - ref_logits.logsumexp(1)[:, None]
    return torch.stack(
        [
            logp,
            ref_logp_all.gather(1, targets[:, None])[:, 0],
            -(logp_all.exp() * logp_all).sum(1),
            full_kl(logp_all, ref_logp_all),
        ]
    )


def _on_mask(flat: Tensor, mask: Tensor) -> Tensor:
    out = torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device)
    return out.masked_scatter(mask, flat)
