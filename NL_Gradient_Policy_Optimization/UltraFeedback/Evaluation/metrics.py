"""Measure the UltraFeedback policy's answers against the chosen ones.

In: what infer_val.py wrote. Out: ROUGE-1/2/L, sacreBLEU, chrF and lengths, printed and as JSON.

    python metrics.py --input_file result/final_merge_samples.json
"""

from dataclasses import dataclass

from text2grad.config import PolicyMetricsConfig, launch


@dataclass(frozen=True)
class Args(PolicyMetricsConfig):
    """Measure the UltraFeedback policy. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    input_file: str = "result/final_merge_samples.json"
    output_file: str = "result/metrics.json"
    prompt_max_length: int = 970
    reward_prompt_max_length: int = 950


if __name__ == "__main__":
    launch(Args, "text2grad.metrics:evaluate_summaries")
