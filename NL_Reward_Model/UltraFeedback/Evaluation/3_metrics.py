"""Measure the UltraFeedback reward model against the annotation and against trivial baselines.

In: what 2_infer.py wrote. Out: parse and match rates, token and span precision, recall and F1,
ROUGE of the critique, each beside the baselines.

    python 3_metrics.py --input_file inference_results.json
"""

from dataclasses import dataclass

from text2grad.config import RewardMetricsConfig, launch


@dataclass(frozen=True)
class Args(RewardMetricsConfig):
    """Measure the UltraFeedback reward model. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    input_file: str = "inference_results.json"
    output_file: str = "reward_model_metrics.json"
    train_file: str = "../data/UltraFeedback/ultrafeedback_train.json"


if __name__ == "__main__":
    launch(Args, "text2grad.metrics:evaluate_reward_model")
