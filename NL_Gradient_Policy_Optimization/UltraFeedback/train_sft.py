"""Fine-tune the UltraFeedback policy on the chosen answers, the usual start of PPO.

In: records with `prompt` and `reference`. Out: the adapter `ckpt/sft/final`.

    python train_sft.py && bash train_ultrafeedback.sh --base_model_adapter_model ckpt/sft/final
"""

from dataclasses import dataclass

from text2grad.config import SFTConfig, launch


@dataclass(frozen=True)
class Args(SFTConfig):
    """Fine-tune the UltraFeedback policy. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    data_path: str = "../../RM_Data_Anno/UltraFeedback/data/train.json"
    output_dir: str = "ckpt/sft"
    prompt_max_length: int = 970
    answer_max_length: int = 512


if __name__ == "__main__":
    launch(Args, "text2grad.sft:train_sft")
