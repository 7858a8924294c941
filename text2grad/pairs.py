"""Pairs of a chosen and a rejected answer, as ids, out of a task's records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.annotators.scalar_model import answer_ids
from text2grad.files import write_json
from text2grad.records import read_records
from text2grad.schema import Record, UserError
from text2grad.tasks import get_task
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import DPOConfig, ScalarRewardConfig


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer, as ids; answers have their end token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]


def read_pairs(args: DPOConfig | ScalarRewardConfig, tokenizer: Any, left_out: Path) -> list[Pair]:
    """The pairs of `args.data_path`: the reference was chosen, a response that differs rejected.

    Raises:
        UserError: unusable data, or no record is a pair.
    """
    task = get_task(args.task)
    records = read_records(args.data_path, task, ("prompt", "response", "reference"), args.fields)
    worse = [one for one in records if one.response.strip() != one.reference.strip()]
    if not worse:
        raise UserError(
            f"--data_path {args.data_path}: in none of {len(records)} records the response differs "
            "from the reference, so there are no pairs; prepare_data.py --candidates all makes some"
        )
    if args.max_train_samples:
        worse = worse[: args.max_train_samples]
    template = task.prompt_template("policy", args.prompt_file)
    renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
    return make_pairs(worse, renderer, args.answer_max_length, left_out)


def make_pairs(
    records: Sequence[Record], renderer: TurnRenderer, most: int, left_out: Path
) -> list[Pair]:
    """The reference as the chosen answer, the response as the rejected one.

    Args:
        records: their responses are not their references.
        renderer: of the policy's prompt.
        most: tokens of an answer; a pair with a longer one is left out.
        left_out: where those are named, if there are any.

    Raises:
        UserError: none is left.
    """
    pairs, dropped = [], {}
    for record in records:
        texts = (record.reference, record.response)
        chosen, rejected = (answer_ids(text, renderer) for text in texts)
        longest = max(len(chosen), len(rejected))
        if longest > most:
            dropped[record.id] = f"an answer has {longest} tokens, over --answer_max_length {most}"
        else:
            pairs.append(Pair(list(renderer.render_record(record).ids), chosen, rejected))
    left_out.unlink(missing_ok=True)  # of an earlier run
    if dropped:
        write_json(left_out, dropped, "--output_dir")
        print(f"{len(dropped)} of {len(records)} pairs left out, all named in {left_out}")
    if not pairs:
        raise UserError(f"--answer_max_length {most}: no pair fits; raise it")
    return pairs
