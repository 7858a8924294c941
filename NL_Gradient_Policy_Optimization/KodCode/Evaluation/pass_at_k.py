"""Measure the share of problems that the KodCode policy solves: pass@k, by their tests.

In: what infer_val.py wrote, with one or several solutions of each problem. Out: pass@k and the
share of passed checks, printed and as JSON. The tests run in the sandbox.

    python pass_at_k.py --input_file result/human_eval.json --k 1 10
"""

from dataclasses import dataclass

from text2grad.config import PassAtKConfig, launch


@dataclass(frozen=True)
class Args(PassAtKConfig):
    """Measure the KodCode policy. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    input_file: str = "result/final_merge_samples.json"
    output_file: str = "result/pass_at_k.json"


if __name__ == "__main__":
    launch(Args, "text2grad.solutions:evaluate_pass_at_k")
