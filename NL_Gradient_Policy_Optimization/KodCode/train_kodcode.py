"""Optimise the KodCode policy with PPO on token-level rewards from critiques of its code.

In: prompts (`question`), a reward model. Out: checkpoints `epoch_{E}_step_{S}` and `final`,
`metrics.jsonl`, `samples.jsonl`, `config.json`.

    bash train_kodcode.sh
"""

from dataclasses import dataclass

from text2grad.config import PolicyConfig, launch


@dataclass(frozen=True)
class Args(PolicyConfig):
    """Train the KodCode policy. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    base_model_name: str = "meta-llama/Llama-3.2-3B-Instruct"
    reward_model_name: str = "../../NL_Reward_Model/KodCode/ckpt/llama31-8B-kodcode/final_merge"
    reward_model_metrics: str = "../../NL_Reward_Model/KodCode/Evaluation/reward_model_metrics.json"
    data_file_path: str = "../../RM_Data_Anno/KodCode/data/train.json"
    valid_data_file_path: str = "../../RM_Data_Anno/KodCode/data/validation.json"
    output_dir: str = "ckpt/text2grad_kodcode"
    prompt_max_length: int = 970
    output_max_length: int = 256
    temperature: float = 0.6
    batch_size: int = 8
    gradient_accumulation_steps: int = 8
    learning_rate: float = 5e-7
    lr_scheduler_type: str = "cosine"
    adafactor: bool = False
    init_kl_coef: float = 0.07
    reward_max_new_tokens: int = 349
    max_sign_share: float = 0.995


if __name__ == "__main__":
    launch(Args, "text2grad.trainer:train_policy")
