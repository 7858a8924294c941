"""Train a policy with GRPO on the sum of the scores that critiques put on an answer.

In: prompts, a reward model. Out: the adapter `final`, `metrics.jsonl`, `samples.jsonl`,
`config.json`.

    python paper/train_grpo.py --task slf5k --data_path data/train.json \
        --base_model_name my/model --reward_model_name my/reward_model
"""

from dataclasses import dataclass

from text2grad.config import GRPOConfig, launch


@dataclass(frozen=True)
class Args(GRPOConfig):
    """GRPO on the sum of the scores that critiques put on an answer, through TRL."""


if __name__ == "__main__":
    launch(Args, "text2grad.grpo:train_grpo")
