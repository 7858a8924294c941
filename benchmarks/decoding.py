"""What constrained decoding costs, and what it hides: with the grammar and without, side by side.

    python benchmarks/decoding.py [--models DIR ...] [--data_path FILE] [--samples 200] [--json]
        [--output_path benchmarks/results/decoding.md]

By default the embedded model as it is and the reward model of `bash quickstart.sh`, on the records
annotated there. Each batch is decoded three times before the next one, so that whatever else slows
the machine slows all three:

- with the grammar: seconds, share of tokens that were forced, share of the free ones at which the
  model's first choice was rejected, probability removed;
- plainly, greedy, exactly as many tokens as the longest reply of the batch: seconds, for the ratio.
  (The plain loop carries every row to the end; replies that have ended leave the batch above.)
- plainly, greedy, until the model ends by itself: whether it parses and quotes what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.decoding import Reply, constrained_generate
from text2grad.files import write_text
from text2grad.models import quiet_libraries
from text2grad.pretrained import load_tokenizer
from text2grad.records import read_records
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Record, UserError
from text2grad.tables import markdown_table, text_table
from text2grad.tasks import get_task

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs/quickstart"
MODELS = (ROOT / "models/smollm2-135m-instruct", RUN / "reward_model/final_merge")
COLUMNS = {
    "model": "model",
    "replies": "replies",
    "full_batches": "full batches",
    "seconds": "with grammar, s per batch",
    "plain_seconds": "plain, s per batch",
    "time_ratio": "time ratio",
    "time_ratio_range": "its range",
    "tokens_per_reply": "tokens per reply",
    "forced_share": "forced",
    "rejected_share": "rejected",
    "removed_mass": "mass removed",
    "unconstrained_parse_rate": "plain parse rate",
    "unconstrained_unmatched_rate": "plain unmatched rate",
}


def measure(model: str, records: list[Record], batch_size: int, limit: int) -> dict[str, Any]:
    """All figures of one model; seconds and ratio are medians over the full batches."""
    judge = RewardModelAnnotator(
        model, get_task("slf5k"), batch_size=batch_size, max_new_tokens=limit, flag="--models"
    )
    prompts = [
        judge.renderer.render(r.origin, prompt=r.prompt, response=r.response).ids for r in records
    ]
    order = sorted(range(len(records)), key=lambda i: len(prompts[i]))
    replies: list[Reply] = []
    timed: list[tuple[float, float]] = []
    for start in tqdm(range(0, len(order), batch_size), desc=Path(model).name, unit="batch"):
        rows = order[start : start + batch_size]
        batch = [prompts[i] for i in rows]
        written, *seconds = decode_both(judge, batch, [records[i] for i in rows], limit)
        replies += written
        if len(rows) == batch_size:
            timed.append(tuple(seconds))
    free = sum(reply.n_free for reply in replies)
    tokens = sum(len(reply.ids) for reply in replies)
    unconstrained = judge.unconstrained_rates(records)
    ratios = [own / plain for own, plain in timed]
    return {
        "model": "/".join(Path(model).parts[-2:]),
        "batch_size": batch_size,
        "threads": torch.get_num_threads(),
        "replies": len(replies),
        "full_batches": len(timed),
        "seconds": median(own for own, _ in timed) if timed else None,
        "plain_seconds": median(plain for _, plain in timed) if timed else None,
        "time_ratio": median(ratios) if timed else None,
        "time_ratio_range": [min(ratios), max(ratios)] if timed else None,
        "tokens_per_reply": tokens / len(replies),
        "forced_share": 1 - free / tokens,
        "rejected_share": sum(reply.n_rejected for reply in replies) / free,
        "removed_mass": sum(reply.removed_mass * reply.n_free for reply in replies) / free,
        "unconstrained_parse_rate": unconstrained["parse_rate"],
        "unconstrained_unmatched_rate": unconstrained["unmatched_rate"],
    }


def decode_both(
    judge: RewardModelAnnotator, prompts: list[list[int]], records: list[Record], limit: int
) -> tuple[list[Reply], float, float]:
    """Replies inside the grammar, their seconds, and those of plain decoding of their length."""
    grammars = [judge.grammar_of(record.response) for record in records]
    began = time.perf_counter()
    written = constrained_generate(judge.model, judge.table, prompts, grammars, limit)
    took = time.perf_counter() - began
    longest = max(len(reply.ids) for reply in written)
    pad, exact = judge.tokenizer.pad_token_id, (("min_new_tokens", longest),)
    same_length = Sampling(longest, 0.0, tuple(judge.eos_ids), pad, exact)
    began = time.perf_counter()
    sample_responses(judge.model, prompts, same_length)
    return written, took, time.perf_counter() - began


def table_rows(found: list[dict[str, Any]]) -> list[list[Any]]:
    """The figures of `COLUMNS`, one row for each model."""
    rows = [{**one, "time_ratio_range": _range_text(one["time_ratio_range"])} for one in found]
    return [[row[key] for key in COLUMNS] for row in rows]


def markdown(found: list[dict[str, Any]]) -> str:
    """The table with what is needed to read it."""
    batch, threads = found[0]["batch_size"], found[0]["threads"]
    return (
        f"Batches of {batch} on {threads} threads. Each is decoded inside the grammar and at once "
        "plainly, greedy, as many tokens as its longest reply has; seconds and time ratio are "
        "medians over the full batches. Plain decoding carries every row to the end of the "
        "longest, as `generate` does; inside the grammar a reply that has ended leaves the batch. "
        "Forced: tokens that needed no forward pass of their own. Plain parse and unmatched rate: "
        "replies without the grammar, which makes the first 1 and the second 0 by itself.\n\n"
        + markdown_table(list(COLUMNS.values()), table_rows(found))
    )


def _range_text(ends: list[float] | None) -> str | None:
    return None if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def run(args: argparse.Namespace) -> None:
    """Measure all models, print the figures and write them.

    Raises:
        UserError: records or a model are not there, before anything is measured.
    """
    records = read_records(args.data_path, get_task("slf5k"), ("prompt", "response"))
    for model in args.models:
        load_tokenizer(model, "--models")
    records = records[: args.samples]
    found = [measure(model, records, args.batch_size, args.max_new_tokens) for model in args.models]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(list(COLUMNS.values()), table_rows(found)))
    if args.output_path:
        write_text(args.output_path, markdown(found), "--output_path")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(map(str, MODELS)))
    parser.add_argument("--data_path", default=str(RUN / "data/train_annotated.json"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_new_tokens", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output_path", default="", help="Markdown table to write")
    args = parser.parse_args()
    quiet_libraries()
    try:
        run(args)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
