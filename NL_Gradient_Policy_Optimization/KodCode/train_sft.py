"""Fine-tune the KodCode policy on the reference solutions, the usual start of PPO.

In: records with `question` and `reference_solution`. Out: the adapter `ckpt/sft/final`.

    python train_sft.py && bash train_kodcode.sh --base_model_adapter_model ckpt/sft/final
"""

from dataclasses import dataclass

from text2grad.config import SFTConfig, launch


@dataclass(frozen=True)
class Args(SFTConfig):
    """Fine-tune the KodCode policy. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    base_model_name: str = "meta-llama/Llama-3.2-3B-Instruct"
    data_path: str = "../../RM_Data_Anno/KodCode/data/train.json"
    output_dir: str = "ckpt/sft"
    prompt_max_length: int = 970
    answer_max_length: int = 512


if __name__ == "__main__":
    launch(Args, "text2grad.sft:train_sft")
