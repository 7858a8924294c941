"""TRL's trainer as adapters are trained here: order of the rows, loss, and what is saved."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from text2grad.target_formats import write_facts
from text2grad.trainer_states import ResumableTrainer
from text2grad.whole_folder import replace_folder

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """A prompt and its target as ids; the loss counts the target only."""

    prompt_ids: list[int]
    target_ids: list[int]


def make_dataset(examples: Sequence[Example], blank: bool = False) -> Dataset:
    """Rows of ids and labels.

    Args:
        examples: one row each.
        blank: a last row without a target follows, which fills up a batch and counts for nothing.
    """
    rows = [
        {
            "input_ids": [*one.prompt_ids, *one.target_ids],
            "labels": [IGNORED] * len(one.prompt_ids) + list(one.target_ids),
        }
        for one in examples
    ]
    if blank:
        rows.append({"input_ids": [0, 0], "labels": [IGNORED, IGNORED]})
    return Dataset.from_list(rows)


class LengthGroups(Sampler[int]):
    """Every row once an epoch, those of one update about equally long.

    Seed and epoch alone decide the order, so that a resumed run goes on in it, and any number of
    processes makes the updates that one would make of the same batch.

    Args:
        lengths: tokens of each row.
        update: rows of an update, over all processes.
        full: the rows are filled up to a multiple of it with one more, numbered `len(lengths)`.
        seed: of the order.
        epoch: gives the number of the epoch that starts.
    """

    def __init__(
        self, lengths: Sequence[int], update: int, full: int, seed: int, epoch: Callable[[], int]
    ) -> None:
        self.lengths, self.update, self.seed, self.epoch = list(lengths), update, seed, epoch
        self.blanks = -len(self.lengths) % full

    def __len__(self) -> int:
        return len(self.lengths) + self.blanks

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self.seed} {self.epoch()}").getrandbits(48)
        generator = torch.Generator().manual_seed(draw)
        yield from get_length_grouped_indices(self.lengths, self.update, generator=generator)
        yield from [len(self.lengths)] * self.blanks


class TargetTrainer(ResumableTrainer):
    """TRL's trainer with logits for the targets only.

    Its own fused head also computes gradients of the frozen head's weights, in many small tiles,
    which took most of the time on a CPU; without it there would be logits for every prompt token.

    The last row of `train_dataset` is the blank one of `make_dataset`.
    """

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy of the target tokens: their mean over the whole update."""
        labels = inputs["labels"]
        counted = (labels != IGNORED).any(0).nonzero()
        first = int(counted[0]) if len(counted) else labels.shape[1] - 1  # no target before it
        kept = labels.shape[1] - max(first - 1, 0)
        bare = {name: x for name, x in inputs.items() if name not in ("labels", "seq_lengths")}
        outputs = model(**bare, use_cache=False, logits_to_keep=kept)
        predicted = outputs.logits[:, :-1].float().flatten(0, 1)
        loss = nn.functional.cross_entropy(
            predicted, labels[:, 1 - kept :].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if num_items_in_batch is None:  # in validation, whose losses are averaged over processes
            tokens = (labels[:, 1:] != IGNORED).sum().float()
            loss = loss / self.accelerator.reduce(tokens, "mean").clamp(min=1)
        else:
            loss = loss / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write adapter and tokenizer as plain libraries read them; every process must call it.

        The library's own way copies the frozen weights too, on every process.
        """
        with self.whole_adapter():
            if self.args.should_save:
                self._save(output_dir)

    @contextlib.contextmanager
    def whole_adapter(self) -> Iterator[None]:
        """Within, every process has the whole adapter; all of them have to enter."""
        if not self.is_deepspeed_enabled or self.model_wrapped.zero_optimization_stage() < 3:
            yield
            return
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters([p for p in self.model.parameters() if p.requires_grad]):
            yield

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroups:
        rows = (train_dataset or self.train_dataset)["input_ids"]
        processes = self.args.world_size
        together = self.args.train_batch_size * processes
        return LengthGroups(
            [len(ids) for ids in rows][:-1],
            together * self.args.gradient_accumulation_steps,
            together if processes > 1 else 1,  # one process may have a smaller last batch
            self.args.seed,
            lambda: int(self.state.epoch or 0),
        )

    def _get_eval_sampler(self, eval_dataset: Dataset) -> LengthGroups:
        lengths = [len(ids) for ids in eval_dataset["input_ids"]]
        together = self.args.eval_batch_size * self.args.world_size
        return LengthGroups(lengths, together, 1, self.args.seed, lambda: 0)


def save_adapter(
    trainer: TargetTrainer, tokenizer: Any, path: Path, facts: Mapping[str, str] | None = None
) -> None:
    """Write adapter, tokenizer and facts, whole or not at all; every process must call it."""
    with trainer.whole_adapter():
        if trainer.is_world_process_zero():
            with replace_folder(path) as folder:
                trainer.model.save_pretrained(folder)
                tokenizer.save_pretrained(folder)
                write_facts(folder, facts)


class NamedCheckpoints(TrainerCallback):
    """Writes the adapter as `{epoch}_{step}` at every save; the step starts anew each epoch."""

    def __init__(
        self, output_dir: str | Path, tokenizer: Any, facts: Mapping[str, str] | None = None
    ) -> None:
        self.output_dir, self.tokenizer, self.facts = Path(output_dir), tokenizer, facts
        self.trainer: TargetTrainer | None = None

    def on_save(self, args: Any, state: Any, control: Any, train_dataloader: Any, **_: Any) -> None:
        """Called by the trainer after it wrote its own resumable state."""
        per_epoch = math.ceil(len(train_dataloader) / args.gradient_accumulation_steps)
        epoch, step = divmod(state.global_step - 1, per_epoch)
        path = self.output_dir / f"{epoch}_{step + 1}"
        save_adapter(self.trainer, self.tokenizer, path, self.facts)
