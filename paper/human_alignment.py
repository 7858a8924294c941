"""How far annotators and reward models agree with people, on spans and on critiques.

In: responses that people marked, and annotations of the same responses by others. Out: token
precision, recall and F1, Cohen's kappa, span overlap and critiques, with intervals, as JSON and
Markdown.

    python paper/human_alignment.py --human_file human_annotated.json \
        --compare_files annotated.json inference_results.json
"""

from dataclasses import dataclass

from text2grad.config import HumanAlignmentConfig, launch


@dataclass(frozen=True)
class Args(HumanAlignmentConfig):
    """Compare annotations of responses with the spans that people marked in them."""


if __name__ == "__main__":
    launch(Args, "text2grad.human_alignment:align_with_people")
