"""Train the UltraFeedback reward model: conversation and answer in, critique and quotes out.

In: annotated records (`prompt`, `response`, `textual_feedback`, `good_spans`, `poor_spans`). Out:
adapters `ckpt/llama31-8B-ultrafeedback/{epoch}_{step}` and `final`.

    bash deepspeed_train_ultrafeedback.sh
"""

from dataclasses import dataclass

from text2grad.config import RewardTrainConfig, launch


@dataclass(frozen=True)
class Args(RewardTrainConfig):
    """Train the UltraFeedback reward model. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    data_path: str = "../../RM_Data_Anno/UltraFeedback/data/train_annotated.json"
    valid_data_path: str = "../../RM_Data_Anno/UltraFeedback/data/validation_annotated.json"
    data_dir: str = "data/UltraFeedback"
    output_dir: str = "ckpt/llama31-8B-ultrafeedback"
    prompt_max_length: int = 950
    max_length: int = 1250
    answer_max_length: int = 299
    lora_dropout: float = 0.1
    eval_steps: int = 400
    eval_samples: int = 200


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:train_reward_model")
