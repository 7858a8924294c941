"""Merge the UltraFeedback policy's adapter into its base model.

In: an adapter folder. Out: an ordinary model folder.

    python merge_lora.py --lora_model ../ckpt/text2grad_ultrafeedback/final
"""

from dataclasses import dataclass

from text2grad.config import MergeConfig, launch


@dataclass(frozen=True)
class Args(MergeConfig):
    """Merge the UltraFeedback policy. For your own model edit these defaults."""

    lora_model: str = "../ckpt/text2grad_ultrafeedback/final"


if __name__ == "__main__":
    launch(Args, "text2grad.models:merge_lora")
