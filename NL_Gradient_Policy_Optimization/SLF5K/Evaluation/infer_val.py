"""Let the SLF5K policy summarise the validation posts.

In: records with `post`. Out: `{id, query, response, ideal_human_summary}` per post.

    python infer_val.py --model_path ../ckpt/text2grad_slf5k/final_merge
"""

from dataclasses import dataclass

from text2grad.config import PolicyInferConfig, launch


@dataclass(frozen=True)
class Args(PolicyInferConfig):
    """Run the SLF5K policy. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    model_path: str = "../ckpt/text2grad_slf5k/final_merge"
    input_path: str = "../../../RM_Data_Anno/SLF5K/data/validation.json"
    max_new_tokens: int = 90


if __name__ == "__main__":
    launch(Args, "text2grad.generate:infer_policy")
