"""Measure the SLF5K policy's summaries against the human ones.

In: what infer_val.py wrote. Out: ROUGE-1/2/L, sacreBLEU, chrF and lengths, printed and as JSON.

    python metrics.py --input_file result/final_merge_samples.json
"""

from dataclasses import dataclass

from text2grad.config import PolicyMetricsConfig, launch


@dataclass(frozen=True)
class Args(PolicyMetricsConfig):
    """Measure the SLF5K policy. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    input_file: str = "result/final_merge_samples.json"
    output_file: str = "result/metrics.json"


if __name__ == "__main__":
    launch(Args, "text2grad.metrics:evaluate_summaries")
