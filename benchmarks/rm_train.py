"""How fast the reward model trains: tokens per second, and the share of padding in its batches.

    python benchmarks/rm_train.py [--base_model DIR] [--data_path FILE] [--rounds 3] [--json]
        [--output_path benchmarks/results/rm_train.md]

By default the embedded model on the records that `bash quickstart.sh` annotated. In every round
the same few updates are made in four ways, in turn, so that whatever else slows the machine slows
all of them:

- logits for the targets alone, batches of similar length: how `train_rm.py` trains;
- the same on batches in random order, with the padding that this takes;
- the loss of TRL's own SFTTrainer on batches of similar length;
- that in random order: TRL's SFTTrainer as it comes.

Tokens are those of prompts and targets, without padding. The padding share is that of a whole
epoch, of which only the first updates are timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn
from torch.utils.data import RandomSampler, Sampler
from tqdm import tqdm
from transformers import TrainerCallback, set_seed
from trl import SFTTrainer

from text2grad.config import RewardTrainConfig
from text2grad.environment import device_line
from text2grad.files import write_text
from text2grad.models import add_lora, load_model, quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.records import read_records
from text2grad.reward_model import ExampleMaker, check_feedback
from text2grad.schema import UserError
from text2grad.supervised import collect_examples, trl_config
from text2grad.tables import markdown_table, text_table
from text2grad.target_trainer import Example, TargetTrainer, make_dataset
from text2grad.tasks import get_task

ROOT = Path(__file__).resolve().parent.parent
NEED = ("prompt", "response", "feedback")
COLUMNS = {
    "way": "way",
    "seconds_per_update": "s per update",
    "tokens_per_second": "tokens per s",
    "padding_share": "padding share",
    "speed": "speed against the last",
    "speed_range": "its range",
}


class ShuffledTargetTrainer(TargetTrainer):
    """The same loss on batches in random order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return RandomSampler(range(len(self.train_dataset) - 1))  # without the blank row


class GroupedSFTTrainer(SFTTrainer):
    """TRL's loss on the batches that the reward model is trained on."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return TargetTrainer._get_train_sampler(self)


class ShuffledSFTTrainer(SFTTrainer):
    """TRL's loss on batches in random order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return ShuffledTargetTrainer._get_train_sampler(self)


WAYS: dict[str, type[SFTTrainer]] = {
    "targets' logits, similar lengths": TargetTrainer,
    "targets' logits, random order": ShuffledTargetTrainer,
    "TRL's loss, similar lengths": GroupedSFTTrainer,
    "TRL's loss, random order": ShuffledSFTTrainer,
}


class UpdateClock(TrainerCallback):
    """Seconds of the updates, without loading before and saving after them.

    Attributes:
        seconds: of all updates together.
        tokens, cells: fed in them, without padding and with it.
    """

    def __init__(self, model: nn.Module) -> None:
        self.seconds, self.tokens, self.cells, self._began = 0.0, 0, 0, 0.0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        mask = kwargs["attention_mask"]
        self.tokens += int(mask.sum())
        self.cells += mask.numel()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Before the first forward pass of an update."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After the optimiser's step."""
        self.seconds += time.perf_counter() - self._began


@dataclass(frozen=True)
class Timed:
    """A few updates: their seconds, their tokens, and the padding share of the whole epoch."""

    seconds: float
    tokens: int
    padding_share: float


def run_way(
    kind: type[SFTTrainer],
    flags: RewardTrainConfig,
    tokenizer: Any,
    examples: Sequence[Example],
) -> Timed:
    """Make `flags.max_steps` updates on a fresh adapter."""
    model = load_model(flags.base_model, flags.dtype, "--base_model")
    model.config.use_cache = False
    set_seed(flags.seed)
    model = add_lora(model, flags, flags.lora_dropout, "--base_model")
    clock = UpdateClock(model)
    config = trl_config(flags, 0)
    config.disable_tqdm, config.logging_strategy = True, "no"  # the rounds have a bar
    trainer = kind(
        model=model,
        args=config,
        train_dataset=make_dataset(examples, blank=True),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    masks = [batch["attention_mask"] for batch in trainer.get_train_dataloader()]
    cells = sum(mask.numel() for mask in masks)
    padding = 1 - sum(int(mask.sum()) for mask in masks) / cells
    trainer.train()
    return Timed(clock.seconds, clock.tokens, padding)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Each way's figures, round by round, and what they come to."""
    task = get_task(args.task)
    records = read_records(args.data_path, task, NEED)[: args.samples]
    check_feedback(records, "--data_path")
    tokenizer = load_tokenizer(args.base_model, "--base_model")
    with tempfile.TemporaryDirectory() as folder:
        flags = RewardTrainConfig(
            task=args.task,
            base_model=args.base_model,
            data_path=args.data_path,
            output_dir=folder,
            dtype=args.dtype,
            max_steps=args.updates,
            per_device_train_batch_size=args.batch_size,
            gradient_accumulation_steps=args.accumulation,
        )
        maker = ExampleMaker(flags, task, tokenizer)
        listed = Path(folder) / "left_out.json"
        examples = collect_examples(records, maker.make, f"--data_path {args.data_path}", listed)
        rounds = []
        for number in tqdm(range(args.rounds), unit="round"):
            seeded = {**vars(flags), "seed": args.seed + number}
            one = RewardTrainConfig(**seeded)
            shift = number % len(WAYS)
            names = [*WAYS][shift:] + [*WAYS][:shift]
            timed = {name: run_way(WAYS[name], one, tokenizer, examples) for name in names}
            rounds.append(timed)
    lengths = [len(one.prompt_ids) + len(one.target_ids) for one in examples]
    targets = [len(one.target_ids) for one in examples]
    return {
        "device": device_line(),
        "base_model": "/".join(Path(args.base_model).parts[-2:]),
        "examples": len(examples),
        "tokens_per_example": sum(lengths) / len(examples),
        "target_tokens": sum(targets) / len(examples),
        **{name: getattr(args, name) for name in ("batch_size", "accumulation", "updates")},
        "rounds": args.rounds,
        "ways": summary(rounds, args.updates),
    }


def summary(rounds: Sequence[Mapping[str, Timed]], updates: int) -> list[dict[str, Any]]:
    """Medians over the rounds, and speed ratios within a round.

    Returns:
        For each way `seconds_per_update`, `tokens_per_second`, `padding_share`, and `speed`: its
        tokens per second over those of the last way in the same round, the median and both ends.
    """
    last = [*WAYS][-1]
    found = []
    for way in WAYS:
        timed = [one[way] for one in rounds]
        speeds = [one.tokens / one.seconds for one in timed]
        ratios = [
            speed / (one[last].tokens / one[last].seconds)
            for speed, one in zip(speeds, rounds, strict=True)
        ]
        found.append(
            {
                "way": way,
                "seconds_per_update": median(one.seconds for one in timed) / updates,
                "tokens_per_second": median(speeds),
                "padding_share": median(one.padding_share for one in timed),
                "speed": median(ratios),
                "speed_range": [min(ratios), max(ratios)],
            }
        )
    return found


def table_rows(found: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each way, under `COLUMNS`."""
    rows = []
    for one in found["ways"]:
        low, high = one["speed_range"]
        rows.append([{**one, "speed_range": f"{low:.3f} to {high:.3f}"}[key] for key in COLUMNS])
    return rows


def markdown(found: Mapping[str, Any]) -> str:
    """The table with what is needed to read it."""
    return (
        f"{found['base_model']} with LoRA, {found['examples']} examples of "
        f"{found['tokens_per_example']:.0f} tokens on average, {found['target_tokens']:.0f} of "
        f"them the target's; {found['batch_size']} sequences per forward pass, "
        f"{found['accumulation']} passes per update; {found['device']}. Medians over "
        f"{found['rounds']} rounds, in each of which all ways make {found['updates']} updates in "
        "turn. Tokens are counted without "
        "padding; the padding share is that of a whole epoch. The last way is TRL's SFTTrainer as "
        "it comes.\n\n" + markdown_table(list(COLUMNS.values()), table_rows(found))
    )


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="slf5k")
    parser.add_argument("--base_model", default=str(ROOT / "models/smollm2-135m-instruct"))
    data = ROOT / "runs/quickstart/data/train_annotated.json"
    parser.add_argument("--data_path", default=str(data))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--samples", type=int, default=344)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--accumulation", type=int, default=2)
    parser.add_argument("--updates", type=int, default=4, help="timed in each way and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output_path", default="", help="Markdown table to write")
    args = parser.parse_args()
    quiet_libraries()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the trainers say
            found = measure(args)
        if args.output_path:
            write_text(args.output_path, markdown(found), "--output_path")
    except UserError as error:
        sys.exit(f"error: {error}")
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(list(COLUMNS.values()), table_rows(found)))


if __name__ == "__main__":
    main()
