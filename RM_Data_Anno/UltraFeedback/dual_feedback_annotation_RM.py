"""Annotate UltraFeedback answers: a critique, and good and poor quotes found in the answer.

In: records with `prompt` and `response`, each a text or chat messages. Out: the same records with
`textual_feedback`, `good_spans`, `poor_spans` and `spans` (offsets and how each quote was matched).

    python dual_feedback_annotation_RM.py --data_path path/to/data
    python dual_feedback_annotation_RM.py --annotator reference
"""

from dataclasses import dataclass

from text2grad.config import AnnotateConfig, launch


@dataclass(frozen=True)
class Args(AnnotateConfig):
    """Annotate UltraFeedback. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    data_path: str = "data/train.json"
    output_path: str = "data/train_annotated.json"
    annotator_model: str = "gpt-4o"
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 1200


if __name__ == "__main__":
    launch(Args, "text2grad.annotate:annotate_file")
