"""Write the problems of HumanEval+ or MBPP+ as prompts for the KodCode policy.

In: EvalPlus' data, fetched once from its release, or a file of it. Out: `{id, question,
reference_solution}` per problem. Part of evalplus.sh.

    python evalplus_problems.py --dataset mbpp --output_path result/mbpp_problems.json
"""

from dataclasses import dataclass

from text2grad.config import EvalPlusProblemsConfig, launch


@dataclass(frozen=True)
class Args(EvalPlusProblemsConfig):
    """Prompts for the KodCode policy. For other data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    output_path: str = "result/humaneval_problems.json"


if __name__ == "__main__":
    launch(Args, "text2grad.evalplus_problems:write_problems")
