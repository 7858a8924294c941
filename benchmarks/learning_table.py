"""The table of `learning_slf5k.sh`: change of each measure, with an interval over seeds.

    python benchmarks/learning_table.py runs/learning_slf5k --output_path table.md

The interval is Student's for the mean of the seeds' changes, each a mean over the same posts:
with three seeds it is wide, and that is what three seeds can say.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from text2grad.files import write_text
from text2grad.report_data import read_object
from text2grad.schema import UserError
from text2grad.shapes import NUMBER, Maybe, check_shape
from text2grad.tables import interval_text, markdown_table

# 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MEASURES = {
    "support_score": "support by post and human summary",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
    "reward_model_score": "reward model's net score per word",
    "mean_words": "words",
}
HEADER = ["feedback from", "measure", "seeds", "posts", "before", "after", "change"]
CAPTION = (
    "Before and after: means over posts and seeds. The interval is Student's 95 % interval of the "
    "mean of the seeds' changes; each seed, one training run, counts once, with the mean change "
    "over its posts.\n\n"
)
EVALUATION = {
    "n": NUMBER,
    "before": {"*": Maybe(NUMBER)},
    "difference": {"*": {"value": NUMBER}},
}


def interval(values: list[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of two to ten independent values; else None."""
    if not 2 <= len(values) <= len(STUDENT) + 1:
        return None
    half = STUDENT[len(values) - 2] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def read_runs(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The evaluations of all seeds by source of feedback, from `SOURCE-SEED/evaluation.json`.

    Raises:
        UserError: there is none, or one has no before and after.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-*/evaluation.json")):
        evaluation = read_object(path, "FOLDER")
        advice = "metrics.py --compare_file writes it"
        check_shape(evaluation, EVALUATION, f"FOLDER {path}", advice)
        runs.setdefault(path.parent.name.rsplit("-", 1)[0], []).append(evaluation)
    if not runs:
        raise UserError(f"FOLDER {folder}: no SOURCE-SEED/evaluation.json in it")
    return runs


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row for each source of feedback and measure, under a caption."""
    rows: list[list[Any]] = []
    for source, found in runs.items():
        for name, title in MEASURES.items():
            if not all(name in one["difference"] for one in found):
                continue
            before = mean(one["before"][name] for one in found)
            changes = [one["difference"][name]["value"] for one in found]
            change = mean(changes)
            row = [source, title, len(found), found[0]["n"], before, before + change]
            rows.append([*row, f"{change:+.3f}", interval_text(interval(changes), signed=True)])
    return CAPTION + markdown_table([*HEADER, "95 % interval"], rows)


def main() -> None:
    """Read the runs, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--output_path", required=True)
    args = parser.parse_args()
    try:
        text = table(read_runs(args.folder))
        write_text(args.output_path, text, "--output_path")
    except UserError as error:
        sys.exit(f"error: {error}")
    print(text)


if __name__ == "__main__":
    main()
