"""Let the SLF5K reward model judge summaries.

In: records with `post` and `generated_summary`. Out: the same records with `textual_feedback`,
`good_spans`, `poor_spans` and located `spans`; an annotation they came with moves under `gold`.

    python 2_infer.py --model_path ../ckpt/llama31-8B-slf5k/final_merge
"""

from dataclasses import dataclass

from text2grad.config import RewardInferConfig, launch


@dataclass(frozen=True)
class Args(RewardInferConfig):
    """Run the SLF5K reward model. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    model_path: str = "../ckpt/llama31-8B-slf5k/final_merge"
    data_path: str = "../data/SLF5K/slf5k_test.json"
    output_path: str = "inference_results.json"
    batch_size: int = 24
    prompt_max_length: int = 900
    max_length: int = 1400
    max_new_tokens: int = 499


if __name__ == "__main__":
    launch(Args, "text2grad.reward_model:infer_reward_model")
