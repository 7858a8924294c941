"""Annotate SLF5K summaries: a critique, and good and poor quotes found in the summary.

In: records with `post` and `generated_summary`. Out: the same records with `textual_feedback`,
`good_spans`, `poor_spans` and `spans` (offsets and how each quote was matched).

    python dual_feedback_annotation_RM.py --annotator reference
    python dual_feedback_annotation_RM.py --base_url http://localhost:8000/v1 --annotator_model NAME
"""

from dataclasses import dataclass

from text2grad.config import AnnotateConfig, launch


@dataclass(frozen=True)
class Args(AnnotateConfig):
    """Annotate SLF5K. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    data_path: str = "data/train.json"
    output_path: str = "data/train_annotated.json"
    annotator_model: str = "gpt-4o"
    temperature: float = 0.3
    top_p: float = 0.95
    max_tokens: int = 1200


if __name__ == "__main__":
    launch(Args, "text2grad.annotate:annotate_file")
