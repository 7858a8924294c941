"""Let the KodCode policy solve the validation problems.

In: records with `question`. Out: `{id, query, response, reference_solution, test}` per problem.

    python infer_val.py --model_path ../ckpt/text2grad_kodcode/final_merge
"""

from dataclasses import dataclass

from text2grad.config import PolicyInferConfig, launch


@dataclass(frozen=True)
class Args(PolicyInferConfig):
    """Run the KodCode policy. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    model_path: str = "../ckpt/text2grad_kodcode/final_merge"
    input_path: str = "../../../RM_Data_Anno/KodCode/data/validation.json"
    prompt_max_length: int = 970
    max_new_tokens: int = 512
    top_p: float = 1.0


if __name__ == "__main__":
    launch(Args, "text2grad.generate:infer_policy")
