"""The table of `learning_slf5k.sh`: change of each measure, with an interval over seeds.

    python benchmarks/learning_table.py runs/learning_slf5k --output_path table.md

The interval is Student's for the mean of the seeds' changes, each a mean over the same posts:
with three seeds it is wide, and that is what three seeds can say.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from text2grad.files import write_text

# 97.5 % quantiles of Student's t for 1 to 9 degrees of freedom
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
MEASURES = {
    "support_score": "support by post and human summary",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
    "reward_model_score": "reward model's net score per word",
    "mean_words": "words",
}


def interval(values: list[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of two to ten independent values; else None."""
    if not 2 <= len(values) <= len(STUDENT) + 1:
        return None
    half = STUDENT[len(values) - 2] * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown: a row for each source of feedback and measure."""
    lines = [
        "| feedback from | measure | seeds | posts | before | after | change | 95 % interval |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for source, found in runs.items():
        for name, title in MEASURES.items():
            if not all(name in one["difference"] for one in found):
                continue
            before = mean(one["before"][name] for one in found)
            changes = [one["difference"][name]["value"] for one in found]
            ends = interval(changes)
            shown = "" if ends is None else f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"
            figures = (
                f"{before:.3f} | {before + mean(changes):.3f} | {mean(changes):+.3f} | {shown}"
            )
            lines.append(f"| {source} | {title} | {len(found)} | {found[0]['n']} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the runs, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--output_path", required=True)
    args = parser.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(Path(args.folder).glob("*-*/evaluation.json")):
        evaluation = json.loads(path.read_text(encoding="utf-8"))
        runs.setdefault(path.parent.name.rsplit("-", 1)[0], []).append(evaluation)
    text = table(runs)
    write_text(args.output_path, text)
    print(text)


if __name__ == "__main__":
    main()
