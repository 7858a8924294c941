"""Annotate KodCode solutions: a critique, wrong code, and code that could be better.

In: records with `question`, `solution` and, for `openai`, the `log` that test_case.py wrote. Out:
the same records with `code_feedback`, `wrong_code`, `improvement_code` and `spans` (offsets and
how each quote was matched).

    python dual_feedback_annotation_RM.py --base_url http://localhost:8000/v1 --annotator_model NAME
"""

from dataclasses import dataclass

from text2grad.config import AnnotateConfig, launch


@dataclass(frozen=True)
class Args(AnnotateConfig):
    """Annotate KodCode. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    data_path: str = "data/train_tested.json"
    output_path: str = "data/train_annotated.json"
    annotator_model: str = "gpt-4-1106-preview"
    temperature: float = 0.1
    top_p: float = 1.0
    max_tokens: int = 968


if __name__ == "__main__":
    launch(Args, "text2grad.annotate:annotate_file")
