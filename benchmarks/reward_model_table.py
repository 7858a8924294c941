"""The table of `reward_model_slf5k.sh`: reward models beside the baselines that they must beat.

    python benchmarks/reward_model_table.py runs/reward_model_slf5k --output_path table.md

Reads metrics.json, config.json and training_log.json of each run's folder. Where `3_metrics.py` was
given `--apart`, the responses that it found are the policy's own answers, and the others those that
came with the data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from text2grad.files import read_text, write_text
from text2grad.report_data import read_object
from text2grad.reward_report import check_reward_report
from text2grad.schema import UserError
from text2grad.tables import interval_text, markdown_table

FLAG = "FOLDER"
REWARD_MODEL = "reward_model"
PARTS = {"others": "of the data", "apart": "the policy's own"}


def describe(folder: Path) -> str:
    """Name, target format, epochs, examples and minutes of a run, as far as it says.

    The minutes are those since it was last resumed, as the trainer counts no others.
    """
    config = read_object(folder / "config.json", FLAG)
    flags = config.get("flags") or {}
    facts = [flags.get("target_format", "")]
    if "examples" in config:
        facts.append(f"{flags['num_train_epochs']:g} epochs of {config['examples']} examples")
    log = folder / "training_log.json"
    rows = json.loads(read_text(log, FLAG)) if log.exists() else []
    seconds = [row["train_runtime"] for row in rows if "train_runtime" in row]
    if seconds:
        state = Path(config.get("resumed_from") or "").name
        since = f" since {state}" if state else ""
        facts.append(f"{seconds[-1] / 60:.0f} min{since}")
    known = ", ".join(filter(None, facts))
    return f"**{folder.resolve().name}**" + (f" ({known})" if known else "")


def table(folders: list[Path]) -> str:
    """Markdown: for all responses of a run, and for each part of them, a row for each system.

    Raises:
        UserError: a folder has no figures, or figures of another format.
    """
    rows: list[list[Any]] = []
    labels: list[str] = []
    for folder in folders:
        path = folder / "metrics.json"
        if not path.exists():
            raise UserError(f"{FLAG} {folder}: no metrics.json in it; 3_metrics.py writes it")
        metrics = read_object(path, FLAG)
        check_reward_report(metrics, f"{FLAG} {path}")
        own = metrics["systems"][REWARD_MODEL]["tokens"]
        found = [key for key, value in own.items() if isinstance(value, Mapping)]
        if labels and found != labels:
            raise UserError(f"{FLAG} {path}: has the labels {found}, and the first run {labels}")
        labels = found
        rows += _rows_of(describe(folder), metrics, labels)
    header = ["system", "responses", "macro-F1", "macro-F1 lead", "sign accuracy", "sign lead"]
    header += [f"F1 {label}" for label in labels]
    header += ["parse rate without the grammar", "unmatched without it"]
    return (
        "Held-out responses. Macro-F1 and F1 per word or token, sign accuracy over those that the "
        "annotation marks. Lead: of the run's reward model over this baseline, with the 95 % "
        "interval of a paired bootstrap over posts; clear if it leaves out 0.\n\n"
        + markdown_table(header, rows)
    )


def _rows_of(run: str, metrics: Mapping[str, Any], labels: list[str]) -> Iterator[list[Any]]:
    free = (metrics.get("decoding") or {}).get("unconstrained") or {}
    rates = [_rate(free, "parse_rate", "replies"), _rate(free, "unmatched_rate", "quotes")]
    measured = {"all": metrics}
    parts = metrics.get("parts") or {}
    measured |= {title: parts[name] for name, title in PARTS.items() if name in parts}
    for scope, figures in measured.items():
        for name, system in figures["systems"].items():
            tokens, lead = system["tokens"], figures["lead"].get(name, {})
            is_run = name == REWARD_MODEL
            yield [
                run if is_run else name.replace("_", " "),
                f"{scope} {figures['responses']}",
                tokens["macro_f1"],
                _lead(lead, "macro_f1", "interval"),
                tokens["sign_accuracy"],
                _lead(lead, "sign_accuracy", "sign_accuracy_interval"),
                *(tokens[label]["f1"] for label in labels),
                *(rates if is_run and scope == "all" else ("", "")),
            ]


def _lead(lead: Mapping[str, Any], key: str, interval: str) -> str:
    if lead.get(key) is None:
        return ""
    return f"{lead[key]:+.3f} {interval_text(lead.get(interval), signed=True)}".rstrip()


def _rate(free: Mapping[str, Any], key: str, base: str) -> str:
    if not free or free[key] is None:
        return "not measured"
    return f"{free[key]:.1%} of {free[base]} {base}"


def main() -> None:
    """Read the runs, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar=FLAG)
    parser.add_argument("--output_path", required=True)
    args = parser.parse_args()
    try:
        text = table(args.folders)
        write_text(args.output_path, text, "--output_path")
    except UserError as error:
        sys.exit(f"error: {error}")
    print(text)


if __name__ == "__main__":
    main()
