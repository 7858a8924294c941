"""Measure the KodCode policy on HumanEval and HumanEval+, or MBPP and MBPP+, by EvalPlus.

In: what infer_val.py wrote to the prompts of evalplus_problems.py. Out: pass@k under the
benchmark's own tests and under EvalPlus' as well, printed and as JSON. EvalPlus and the solutions
run in the sandbox. Part of evalplus.sh.

    python evalplus_metrics.py --dataset mbpp --input_file result/mbpp_samples.json \
        --output_file result/mbpp_plus.json
"""

from dataclasses import dataclass

from text2grad.config import EvalPlusConfig, launch


@dataclass(frozen=True)
class Args(EvalPlusConfig):
    """Measure the KodCode policy. For your own data edit these defaults, or pass the flags."""

    input_file: str = "result/humaneval_samples.json"
    output_file: str = "result/humaneval_plus.json"


if __name__ == "__main__":
    launch(Args, "text2grad.evalplus_metrics:evaluate_evalplus")
