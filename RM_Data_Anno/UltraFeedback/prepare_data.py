"""Prepare UltraFeedback: prompts with a chosen and a rejected answer in, one record per answer out.

In: `HuggingFaceH4/ultrafeedback_binarized` from the Hugging Face hub (splits train_prefs and
test_prefs), or --data_path (a file, or a folder with files named after the splits). Answers may be
texts or chat messages. Out: `data/train.json` and `data/validation.json` with `prompt` (a text, or
the messages of a conversation), `response`, `reference` (the chosen answer) and `candidate`.

    python prepare_data.py --data_path sample
"""

from dataclasses import dataclass

from text2grad.config import PrepareConfig, launch


@dataclass(frozen=True)
class Args(PrepareConfig):
    """Prepare UltraFeedback. For your own data edit these defaults."""

    task: str = "ultrafeedback"
    source: str = "HuggingFaceH4/ultrafeedback_binarized"
    output_dir: str = "data"
    splits: tuple[str, ...] = ("train", "validation")
    candidates: str = "all"


if __name__ == "__main__":
    launch(Args, "text2grad.prepare:prepare_data")
