"""Let the UltraFeedback reward model judge answers.

In: records with `prompt` and `response`. Out: the same records with `textual_feedback`,
`good_spans`, `poor_spans` and located `spans`; an annotation they came with moves under `gold`.

    python 2_infer.py --model_path ../ckpt/llama31-8B-ultrafeedback/final_merge
"""

from dataclasses import dataclass

from text2grad.config import RewardInferConfig, launch


@dataclass(frozen=True)
class Args(RewardInferConfig):
    """Run the UltraFeedback reward model. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    model_path: str = "../ckpt/llama31-8B-ultrafeedback/final_merge"
    data_path: str = "../data/UltraFeedback/ultrafeedback_test.json"
    output_path: str = "inference_results.json"
    batch_size: int = 32
    prompt_max_length: int = 950
    max_length: int = 1250
    max_new_tokens: int = 300
    max_samples: int = 1000


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:infer_reward_model")
