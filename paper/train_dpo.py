"""Train a policy with DPO on pairs of a chosen and a rejected answer.

In: records with prompt, response and reference, as `prepare_data.py --candidates all` writes them.
Out: the adapter `final`, `metrics.jsonl`, `config.json`.

    python paper/train_dpo.py --task ultrafeedback --data_path data/train.json \
        --base_model_name my/model
"""

from dataclasses import dataclass

from text2grad.config import DPOConfig, launch


@dataclass(frozen=True)
class Args(DPOConfig):
    """DPO on pairs of a chosen and a rejected answer, through TRL."""


if __name__ == "__main__":
    launch(Args, "text2grad.dpo:train_dpo")
