"""Let the UltraFeedback policy answer the validation prompts.

In: records with `prompt`, a text or the messages of a conversation. Out: `{id, query, response,
reference}` per prompt.

    python infer_val.py --model_path ../ckpt/text2grad_ultrafeedback/final_merge
"""

from dataclasses import dataclass

from text2grad.config import PolicyInferConfig, launch


@dataclass(frozen=True)
class Args(PolicyInferConfig):
    """Run the UltraFeedback policy. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    model_path: str = "../ckpt/text2grad_ultrafeedback/final_merge"
    input_path: str = "../../../RM_Data_Anno/UltraFeedback/data/validation.json"
    prompt_max_length: int = 970
    max_new_tokens: int = 512
    top_p: float = 1.0


if __name__ == "__main__":
    launch(Args, "text2grad.generate:infer_policy")
