"""Optimise the UltraFeedback policy with PPO on token-level rewards from critiques of its answers.

In: prompts (`prompt`, a text or the messages of a conversation), a reward model. Out: checkpoints
`epoch_{E}_step_{S}` and `final`, `metrics.jsonl`, `samples.jsonl`, `config.json`.

    bash train_ultrafeedback.sh
"""

from dataclasses import dataclass

from text2grad.config import PolicyConfig, launch


@dataclass(frozen=True)
class Args(PolicyConfig):
    """Train the UltraFeedback policy. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    reward_model_name: str = (
        "../../NL_Reward_Model/UltraFeedback/ckpt/llama31-8B-ultrafeedback/final_merge"
    )
    reward_model_metrics: str = (
        "../../NL_Reward_Model/UltraFeedback/Evaluation/reward_model_metrics.json"
    )
    data_file_path: str = "../../RM_Data_Anno/UltraFeedback/data/train.json"
    valid_data_file_path: str = "../../RM_Data_Anno/UltraFeedback/data/validation.json"
    output_dir: str = "ckpt/text2grad_ultrafeedback"
    prompt_max_length: int = 970
    output_max_length: int = 512
    temperature: float = 0.6
    batch_size: int = 8
    gradient_accumulation_steps: int = 8
    learning_rate: float = 1e-6
    lr_scheduler_type: str = "cosine"
    adafactor: bool = False
    init_kl_coef: float = 0.05
    save_freq: int = 50
    reward_prompt_max_length: int = 950
    reward_max_new_tokens: int = 299


if __name__ == "__main__":
    launch(Args, "text2grad.trainer:train_policy")
