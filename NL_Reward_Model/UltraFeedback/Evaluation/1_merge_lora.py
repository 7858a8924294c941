"""Merge the UltraFeedback reward model's adapter into its base model.

In: an adapter folder. Out: an ordinary model folder.

    python 1_merge_lora.py --lora_model ../ckpt/llama31-8B-ultrafeedback/final
"""

from dataclasses import dataclass

from text2grad.config import MergeConfig, launch


@dataclass(frozen=True)
class Args(MergeConfig):
    """Merge the UltraFeedback reward model. For your own model edit these defaults."""

    lora_model: str = "../ckpt/llama31-8B-ultrafeedback/final"


if __name__ == "__main__":
    launch(Args, "text2grad.models:merge_lora")
