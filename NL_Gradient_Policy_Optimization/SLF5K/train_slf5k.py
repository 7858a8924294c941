"""Optimise the SLF5K policy with PPO on token-level rewards from critiques.

In: prompts (`post`), a reward model. Out: checkpoints `epoch_{E}_step_{S}` and `final`,
`metrics.jsonl`, `samples.jsonl`, `config.json`.

    bash train_slf5k.sh
"""

from dataclasses import dataclass

from text2grad.config import PolicyConfig, launch


@dataclass(frozen=True)
class Args(PolicyConfig):
    """Train the SLF5K policy. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    reward_model_name: str = "../../NL_Reward_Model/SLF5K/ckpt/llama31-8B-slf5k/final_merge"
    reward_model_metrics: str = "../../NL_Reward_Model/SLF5K/Evaluation/reward_model_metrics.json"
    data_file_path: str = "../../RM_Data_Anno/SLF5K/data/train.json"
    valid_data_file_path: str = "../../RM_Data_Anno/SLF5K/data/validation.json"
    output_dir: str = "ckpt/text2grad_slf5k"
    prompt_max_length: int = 640
    output_max_length: int = 90


if __name__ == "__main__":
    launch(Args, "text2grad.trainer:train_policy")
