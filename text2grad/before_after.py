"""Print the short table at the end of a run: `python -m text2grad.before_after evaluation.json`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from text2grad.report_data import read_object
from text2grad.schema import UserError
from text2grad.tables import interval_text, text_table

MEASURES = {
    "solved": "solved: all checks of its tests pass",
    "checks_passed": "share of the checks that pass",
    "rougeL": "ROUGE-L against the references",
    "bertscore_f1": "BERTScore F1 against them",
    "chrf": "chrF against them (used nowhere in training)",
    "support_score": "support by prompt and reference (no model)",
    "reward_model_score": "reward model's net score per word (PPO trains on it)",
    "perplexity": "perplexity given the prompt (lower is better)",
    "mean_words": "words",
}


def before_after_table(evaluation: Mapping[str, Any]) -> str:
    """The measures of `summary_quality.summary_report` that tell the story, with their change."""
    rows = []
    for name, title in MEASURES.items():
        if name in evaluation["difference"]:
            change = evaluation["difference"][name]
            values = (evaluation[when][name] for when in ("before", "after"))
            interval = interval_text(change["interval"], signed=True)
            rows.append([title, *values, f"{change['value']:+.3f}", interval])
    head = [f"{evaluation['n']} validation prompts", "before", "after", "change", "95 % interval"]
    return text_table(head, rows)


def main() -> None:
    """The table of one evaluation file."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m text2grad.before_after evaluation.json")
    try:
        evaluation = read_object(sys.argv[1], "FILE")
        if "difference" not in evaluation:
            raise UserError(f"FILE {sys.argv[1]}: holds no before and after")
        print(before_after_table(evaluation))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
