"""Measure the KodCode policy's solutions by their tests, and against the reference solutions.

In: what infer_val.py wrote. Out: shares of solved problems and of passed checks, ROUGE, sacreBLEU,
chrF and lengths, printed and as JSON. The tests run in the sandbox.

    python metrics.py --input_file result/final_merge_samples.json
"""

from dataclasses import dataclass

from text2grad.config import PolicyMetricsConfig, launch


@dataclass(frozen=True)
class Args(PolicyMetricsConfig):
    """Measure the KodCode policy. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    input_file: str = "result/final_merge_samples.json"
    output_file: str = "result/metrics.json"


if __name__ == "__main__":
    launch(Args, "text2grad.metrics:evaluate_summaries")
