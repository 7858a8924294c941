"""Measure the UltraFeedback policy on ARC-Challenge; arc_challenge.sh runs this.

In: questions in the format of ARC; without a file lm-eval, in an environment of its own, downloads
them. Out: accuracy and accuracy by characters (acc_norm), with intervals, printed and as JSON.

    bash arc_challenge.sh --num_fewshot 0
"""

from dataclasses import dataclass

from text2grad.config import ArcConfig, launch


@dataclass(frozen=True)
class Args(ArcConfig):
    """Measure a chat model. For your own model edit these defaults, or pass the flags."""

    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"


if __name__ == "__main__":
    launch(Args, "text2grad.arc_challenge:evaluate_arc")
