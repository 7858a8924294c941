"""Train the SLF5K reward model: post and summary in, critique and quotes out.

In: annotated records (`post`, `generated_summary`, `textual_feedback`, `good_spans`,
`poor_spans`). Out: adapters `ckpt/llama31-8B-slf5k/{epoch}_{step}` and `final`.

    bash deepspeed_train_slf5k.sh
"""

from dataclasses import dataclass

from text2grad.config import RewardTrainConfig, launch


@dataclass(frozen=True)
class Args(RewardTrainConfig):
    """Train the SLF5K reward model. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    data_path: str = "../../RM_Data_Anno/SLF5K/data/train_annotated.json"
    valid_data_path: str = "../../RM_Data_Anno/SLF5K/data/validation_annotated.json"
    data_dir: str = "data/SLF5K"
    output_dir: str = "ckpt/llama31-8B-slf5k"
    prompt_max_length: int = 900
    max_length: int = 1400
    answer_max_length: int = 499


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:train_reward_model")
