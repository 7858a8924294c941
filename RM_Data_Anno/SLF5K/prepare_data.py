"""Prepare SLF5K: posts with candidate summaries in, one record per summary out.

In: `JeremyAlain/SLF5K` from the Hugging Face hub, or --data_path (a file, or a folder with files
named after the splits). Out: `data/train.json` and `data/validation.json` with `post`,
`generated_summary`, `ideal_human_summary` and, where a person gave it, `feedback`.

    python prepare_data.py --data_path sample --candidates all
"""

from dataclasses import dataclass

from text2grad.config import PrepareConfig, launch


@dataclass(frozen=True)
class Args(PrepareConfig):
    """Prepare SLF5K. For your own data edit these defaults, or pass the flags."""

    task: str = "slf5k"
    source: str = "JeremyAlain/SLF5K"
    output_dir: str = "data"
    splits: tuple[str, ...] = ("train", "validation")


if __name__ == "__main__":
    launch(Args, "text2grad.prepare:prepare_data")
