"""Measure the UltraFeedback policy on MT-Bench or MT-Bench-101: a chat model rates every answer.

In: questions in the published format; without a file they are downloaded. Out: mean ratings by
category and by turn, printed and as JSON, with every answer and raw reply beside it.

    python mt_bench.py --set mtbench101 --data mtbench101.jsonl --judge_model my-judge
"""

from dataclasses import dataclass

from text2grad.config import MtBenchConfig, launch


@dataclass(frozen=True)
class Args(MtBenchConfig):
    """Measure a chat model. For your own model edit these defaults, or pass the flags."""

    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"


if __name__ == "__main__":
    launch(Args, "text2grad.mt_bench:evaluate_mt_bench")
