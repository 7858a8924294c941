"""Let a chat model compare two SLF5K policies' summaries, each pair in both orders.

In: two files of infer_val.py on the same posts. Out: win rate, grades and position bias, printed
and as JSON, with every raw reply and verdict beside it.

    python llm_as_a_judge.py --input_file result/after.json --compare_file result/before.json
"""

from dataclasses import dataclass

from text2grad.config import JudgeConfig, launch


@dataclass(frozen=True)
class Args(JudgeConfig):
    """Compare SLF5K policies. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    input_file: str = "result/final_merge_samples.json"
    compare_file: str = "result/Llama-3.1-8B-Instruct_samples.json"


if __name__ == "__main__":
    launch(Args, "text2grad.judge:judge_responses")
