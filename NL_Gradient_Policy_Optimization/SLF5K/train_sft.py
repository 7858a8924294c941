"""Fine-tune the SLF5K policy on the human summaries, the usual start of PPO.

In: records with `post` and `ideal_human_summary`. Out: the adapter `ckpt/sft/final`.

    python train_sft.py && bash train_slf5k.sh --base_model_adapter_model ckpt/sft/final
"""

from dataclasses import dataclass

from text2grad.config import SFTConfig, launch


@dataclass(frozen=True)
class Args(SFTConfig):
    """Fine-tune the SLF5K policy. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    data_path: str = "../../RM_Data_Anno/SLF5K/data/train.json"
    output_dir: str = "ckpt/sft"
    prompt_max_length: int = 640
    answer_max_length: int = 128


if __name__ == "__main__":
    launch(Args, "text2grad.sft:train_sft")
