"""Train the KodCode reward model: problem and solution in, critique and quotes out.

In: annotated records (`question`, `solution`, `code_feedback`, `wrong_code`,
`improvement_code`). Out: adapters `ckpt/llama31-8B-kodcode/{epoch}_{step}` and `final`.

    bash deepspeed_train_kodcode.sh
"""

from dataclasses import dataclass

from text2grad.config import RewardTrainConfig, launch


@dataclass(frozen=True)
class Args(RewardTrainConfig):
    """Train the KodCode reward model. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    data_path: str = "../../RM_Data_Anno/KodCode/data/train_annotated.json"
    valid_data_path: str = "../../RM_Data_Anno/KodCode/data/validation_annotated.json"
    data_dir: str = "data/KodCode"
    output_dir: str = "ckpt/llama31-8B-kodcode"
    prompt_max_length: int = 900
    max_length: int = 1250
    answer_max_length: int = 349
    learning_rate: float = 2e-5
    weight_decay: float = 0.01
    lora_dropout: float = 0.1
    lora_target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    per_device_train_batch_size: int = 2
    eval_steps: int = 400
    eval_samples: int = 200


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:train_reward_model")
