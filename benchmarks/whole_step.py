"""Where the time of a PPO step goes, and what the critique adds to it.

    python benchmarks/whole_step.py [--base_model_name DIR] [--reward_model_name DIR]
        [--data_file_path FILE] [--rounds 3] [--json]
        [--output_path benchmarks/results/whole_step.md]

By default the embedded model as policy and the reward model of `bash quickstart.sh`, on its posts.
In every round the same posts are gone through once in each of three ways, in turn, so that
whatever else slows the machine slows all three:

- with the critique of the reward model, whose instructions are computed once for all prompts;
- with the same critique, where every batch computes them anew;
- without a critic: every token scores 0.

The learning rate is next to nothing and each way starts from the same random state, so that all
three sample the same responses and do the same update.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from text2grad.config import PolicyConfig
from text2grad.environment import device_line
from text2grad.files import write_text
from text2grad.models import quiet_libraries
from text2grad.run_folder import MetricsFile
from text2grad.schema import Feedback, Record, UserError
from text2grad.tables import markdown_table, text_table
from text2grad.trainer import Text2GradTrainer

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs/quickstart"
PHASES = ("rollout", "critique", "score", "update")
WAYS = ("critique", "critique, instructions anew", "no critic")
COLUMNS = ("way", "step, s", *(f"{phase}, s" for phase in PHASES), "critique's share", "overhead")
NO_LEARNING = 1e-30


class NoCritic:
    """Finds nothing to quote in any response, in no time."""

    def annotate(self, records: Sequence[Record]) -> list[Feedback]:
        """An empty feedback per record."""
        return [Feedback("")] * len(records)


def step_flags(args: argparse.Namespace, folder: str) -> PolicyConfig:
    """The PPO run that is measured."""
    return PolicyConfig(
        task=args.task,
        base_model_name=args.base_model_name,
        reward_model_name=args.reward_model_name,
        reward_model_metrics="",
        data_file_path=args.data_file_path,
        valid_data_file_path="",
        output_dir=folder,
        dtype=args.dtype,
        batch_size=args.batch_size,
        mini_batch_size=args.mini_batch_size,
        gradient_accumulation_steps=1,
        ppo_epochs=args.ppo_epochs,
        output_max_length=args.output_max_length,
        reward_max_new_tokens=args.reward_max_new_tokens,
        learning_rate=NO_LEARNING,
        lr_scheduler_type="constant",
        adafactor=False,
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of each way's phases, round by round, and what they come to."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Text2GradTrainer(step_flags(args, folder))
        trainer.metrics = MetricsFile(Path(folder) / "metrics.jsonl", 0)
        trainer.samples = MetricsFile(Path(folder) / "samples.jsonl", 0)
        anew = copy.copy(trainer.critic)
        anew.prefix = None
        critics = dict(zip(WAYS, (trainer.critic, anew, NoCritic()), strict=True))
        with contextlib.redirect_stdout(sys.stderr):  # the run's own warnings
            rounds = list(run_rounds(trainer, critics, args.rounds))
    return {
        "device": device_line(),
        "policy": "/".join(Path(args.base_model_name).parts[-2:]),
        "reward_model": "/".join(Path(args.reward_model_name).parts[-2:]),
        **{name: getattr(args, name) for name in ("batch_size", "ppo_epochs", "rounds")},
        **{name: rounds[0][WAYS[0]][name] for name in ("prompt_tokens", "critique_tokens")},
        "response_tokens": [one[WAYS[0]]["response_tokens"] for one in rounds],
        **summary([{way: seconds_of(row) for way, row in one.items()} for one in rounds]),
    }


def run_rounds(
    trainer: Text2GradTrainer, critics: Mapping[str, Any], rounds: int
) -> Iterator[dict[str, dict[str, Any]]]:
    """Each way's row of figures, round by round; a first step goes unmeasured."""
    trainer.step(trainer.order.batch(0))
    for number in tqdm(range(rounds), unit="round"):
        rows = {}
        shift = number % len(critics)
        for way in [*critics][shift:] + [*critics][:shift]:
            trainer.critic = critics[way]
            torch.manual_seed(number)
            rows[way] = trainer.step(trainer.order.batch(number))
        lengths = {row["response_tokens"] for row in rows.values()}
        if len(lengths) > 1:
            raise RuntimeError(f"the ways sampled different responses: {lengths} tokens")
        yield rows


def seconds_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Of each phase, and of all together."""
    spent = {phase: row[f"seconds_{phase}"] for phase in PHASES}
    return {**spent, "step": sum(spent.values())}


def summary(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Medians over the rounds, and ratios within a round.

    Args:
        rounds: way -> phase -> seconds, one for each round.

    Returns:
        For each way its seconds, the share of each phase, and `overhead`: by how much its step
        takes longer than that without a critic in the same round, the median and both ends. And
        `prefix_ratio`: the critique's seconds with shared instructions over those without.
    """
    ways = {}
    for way in WAYS:
        over = [one[way]["step"] / one[WAYS[-1]]["step"] - 1 for one in rounds]
        ways[way] = {
            "seconds": {
                name: median(one[way][name] for one in rounds) for name in ("step", *PHASES)
            },
            "share": {
                name: median(one[way][name] / one[way]["step"] for one in rounds) for name in PHASES
            },
            "overhead": median(over),
            "overhead_range": [min(over), max(over)],
        }
    ratios = [one[WAYS[0]]["critique"] / one[WAYS[1]]["critique"] for one in rounds]
    return {
        "ways": ways,
        "prefix_ratio": median(ratios),
        "prefix_ratio_range": [min(ratios), max(ratios)],
    }


def table_rows(found: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each way, under `COLUMNS`."""
    rows = []
    for way, one in found["ways"].items():
        seconds = [one["seconds"][name] for name in ("step", *PHASES)]
        over = None if way == WAYS[-1] else one["overhead"]
        rows.append([way, *seconds, one["share"]["critique"], over])
    return rows


def markdown(found: Mapping[str, Any]) -> str:
    """The table with what is needed to read it."""
    low, high = found["prefix_ratio_range"]
    critic = found["ways"][WAYS[0]]
    ends = critic["overhead_range"]
    return (
        f"{found['batch_size']} prompts a step of {found['prompt_tokens']:.0f} tokens on average, "
        f"responses of {median(found['response_tokens']):.0f}, critiques of "
        f"{found['critique_tokens']:.0f}, {found['ppo_epochs']} epochs; policy "
        f"{found['policy']}, reward model {found['reward_model']}; {found['device']}. Medians over "
        f"{found['rounds']} rounds, in each of which all ways handle the same responses in turn. "
        f"Overhead: against the step without a critic in the same round, here "
        f"{ends[0]:.3f} to {ends[1]:.3f}. The instructions that all prompts of the reward model "
        f"share, computed once instead of in every batch: {found['prefix_ratio']:.3f} of the "
        f"critique's time ({low:.3f} to {high:.3f}).\n\n"
        + markdown_table(COLUMNS, table_rows(found))
    )


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="slf5k")
    parser.add_argument("--base_model_name", default=str(ROOT / "models/smollm2-135m-instruct"))
    parser.add_argument("--reward_model_name", default=str(RUN / "reward_model/final_merge"))
    parser.add_argument("--data_file_path", default=str(RUN / "data/train.json"))
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--mini_batch_size", type=int, default=4)
    parser.add_argument("--ppo_epochs", type=int, default=4)
    parser.add_argument("--output_max_length", type=int, default=48)
    parser.add_argument("--reward_max_new_tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output_path", default="", help="Markdown table to write")
    args = parser.parse_args()
    quiet_libraries()
    try:
        found = measure(args)
        if args.output_path:
            write_text(args.output_path, markdown(found), "--output_path")
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(found, indent=1) if args.json else text_table(COLUMNS, table_rows(found)))


if __name__ == "__main__":
    main()
