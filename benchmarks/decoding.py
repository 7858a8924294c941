"""What constrained decoding costs, and what it hides: with the grammar and without, side by side.

    python benchmarks/decoding.py [--models DIR ...] [--data_path FILE] [--samples 200] [--json]

By default the embedded model as it is and the reward model of `bash quickstart.sh`, on the records
annotated there. Each batch is decoded three times:

- with the grammar: seconds, share of tokens that were forced, share of the free ones at which the
  model's first choice was rejected, probability removed;
- plainly, greedy, exactly as many tokens as the longest reply of the batch: seconds, for the ratio.
  (The plain loop carries every row to the end; replies that have ended leave the batch above.)
- plainly, greedy, until the model ends by itself: whether it parses and quotes what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.decoding import constrained_generate
from text2grad.models import quiet_libraries
from text2grad.records import read_records
from text2grad.rollout import Sampling, sample_responses
from text2grad.schema import Record
from text2grad.tables import text_table
from text2grad.tasks import get_task

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "runs/quickstart"
MODELS = (ROOT / "models/smollm2-135m-instruct", RUN / "reward_model/final_merge")
HEADER = (
    *("model", "batch", "replies", "tokens", "forced", "rejected", "mass"),
    *("tokens/s", "plain tokens/s", "time ratio", "plain parse", "plain unmatched"),
)


def measure(model: str, records: list[Record], batch_size: int, limit: int) -> dict[str, Any]:
    """All figures of one model."""
    task = get_task("slf5k")
    judge = RewardModelAnnotator(
        model, task, batch_size=batch_size, max_new_tokens=limit, flag="--models"
    )
    prompts = [
        judge.renderer.render(r.origin, prompt=r.prompt, response=r.response).ids for r in records
    ]
    order = sorted(range(len(records)), key=lambda i: len(prompts[i]))
    replies, ratios, seconds, plain_tokens, plain_seconds = [], [], 0.0, 0, 0.0
    for start in tqdm(range(0, len(order), batch_size), desc=Path(model).name, unit="batch"):
        rows = order[start : start + batch_size]
        batch = [prompts[i] for i in rows]
        grammars = [judge.format.grammar(task, records[i].response) for i in rows]
        began = time.perf_counter()
        written = constrained_generate(judge.model, judge.table, batch, grammars, limit)
        took = time.perf_counter() - began
        longest = max(len(reply.ids) for reply in written)
        pad, exact = judge.tokenizer.pad_token_id, (("min_new_tokens", longest),)
        same_length = Sampling(longest, 0.0, tuple(judge.eos_ids), pad, exact)
        began = time.perf_counter()
        plain = sample_responses(judge.model, batch, same_length)
        plain_took = time.perf_counter() - began
        replies += written
        seconds, plain_seconds = seconds + took, plain_seconds + plain_took
        plain_tokens += sum(map(len, plain))
        if len(rows) == batch_size:
            ratios.append(took / plain_took)
    free = sum(reply.n_free for reply in replies)
    tokens = sum(len(reply.ids) for reply in replies)
    unconstrained = judge.unconstrained_rates(records)
    return {
        "model": Path(model).name,
        "batch_size": batch_size,
        "replies": len(replies),
        "tokens_per_reply": tokens / len(replies),
        "forced_share": 1 - free / tokens,
        "rejected_share": sum(reply.n_rejected for reply in replies) / free,
        "removed_mass": sum(reply.removed_mass * reply.n_free for reply in replies) / free,
        "tokens_per_second": tokens / seconds,
        "plain_tokens_per_second": plain_tokens / plain_seconds,
        "time_ratio": median(ratios) if ratios else None,
        "unconstrained_parse_rate": unconstrained["parse_rate"],
        "unconstrained_unmatched_rate": unconstrained["unmatched_rate"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(map(str, MODELS)))
    parser.add_argument("--data_path", default=str(RUN / "data/train_annotated.json"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_new_tokens", type=int, default=256)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    args = parser.parse_args()
    quiet_libraries()
    records = read_records(args.data_path, get_task("slf5k"), ("prompt", "response"))
    records = records[: args.samples]
    found = [measure(model, records, args.batch_size, args.max_new_tokens) for model in args.models]
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(HEADER, [list(row.values()) for row in found]))


if __name__ == "__main__":
    main()
