"""Let a policy criticise its own answers and write them anew; nothing is trained.

In: what infer_val.py wrote. Out: the same records with revised responses.

    python paper/reflect.py --task slf5k --model_path my/model \
        --input_file first_answers.json --output_file answers.json
"""

from dataclasses import dataclass

from text2grad.config import ReflectConfig, launch


@dataclass(frozen=True)
class Args(ReflectConfig):
    """Let a policy criticise its own answers and write them anew; nothing is trained."""


if __name__ == "__main__":
    launch(Args, "text2grad.reflect:reflect_file")
