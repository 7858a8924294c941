"""Train a reward model with one score for a whole response, the usual one of PPO, on pairs.

In: records with prompt, response and reference; where both differ, the reference was chosen.
Out: the whole model `final` with `scalar_reward.json`, `metrics.jsonl`, `config.json`.

    python paper/train_scalar_reward.py --task ultrafeedback --data_path data/train.json \
        --base_model_name my/model
"""

from dataclasses import dataclass

from text2grad.config import ScalarRewardConfig, launch


@dataclass(frozen=True)
class Args(ScalarRewardConfig):
    """Train a reward model with one score for a response, on pairs, through TRL."""


if __name__ == "__main__":
    launch(Args, "text2grad.scalar_reward:train_scalar_reward")
