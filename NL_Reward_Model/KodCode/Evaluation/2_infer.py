"""Let the KodCode reward model judge solutions.

In: records with `question` and `solution`. Out: the same records with `code_feedback`,
`wrong_code`, `improvement_code` and located `spans`; an annotation they came with moves under
`gold`.

    python 2_infer.py --model_path ../ckpt/llama31-8B-kodcode/final_merge
"""

from dataclasses import dataclass

from text2grad.config import RewardInferConfig, launch


@dataclass(frozen=True)
class Args(RewardInferConfig):
    """Run the KodCode reward model. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    model_path: str = "../ckpt/llama31-8B-kodcode/final_merge"
    data_path: str = "../data/KodCode/kodcode_test.json"
    output_path: str = "inference_results.json"
    batch_size: int = 40
    prompt_max_length: int = 1000
    max_length: int = 1600
    max_new_tokens: int = 350


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:infer_reward_model")
