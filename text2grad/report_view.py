"""What the report says at first sight: key figures, curves, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from text2grad.chart_axes import Mark
from text2grad.charts import Chart, Series, area_chart, interval_chart, line_chart, share_bar
from text2grad.files import Row
from text2grad.report_data import ReportData
from text2grad.schema import MATCHES
from text2grad.summary_quality import LOWER_IS_BETTER
from text2grad.trends import column, ends, known
from text2grad.wording import NAMES, decimals, mended, number, pretty, signed

VALIDATION = (("valid_score", "score"),)
# title, note, (key, name) of each line, fixed range
LINES = (
    (
        "Score and reward",
        "per response; reward = score − KL penalty",
        (("score", "score"), ("reward", "reward")),
        None,
    ),
    (
        "Validation score",
        "per token, greedy answers to prompts not trained on",
        VALIDATION,
        None,
    ),
    ("KL to the reference", "nats per response", (("kl", "KL"),), None),
    ("KL coefficient", "weight of the penalty", (("kl_coef", "coefficient"),), None),
    ("Response length", "tokens", (("response_tokens", "tokens"),), None),
    (
        "Critiques",
        "share of replies readable, of quotes not in the response",
        (("parse_rate", "readable"), ("unmatched_rate", "not found")),
        (0.0, 1.0),
    ),
    (
        "Tokens with a score",
        "share of response tokens",
        (("coverage", "any"), ("positive_share", "positive"), ("negative_share", "negative")),
        None,
    ),
    (
        "Constrained decoding",
        "argmax rejected, probability mass removed",
        (("rejected_share", "rejected"), ("removed_mass", "removed")),
        None,
    ),
    (
        "Explained variance",
        "1 is perfect, 0 no better than the mean; cut off at −1",
        (("explained_variance", "of the returns"),),
        (-1.0, 1.0),
    ),
    ("Value error", "squared, in deviations of the return", (("value_error", "error"),), None),
    ("Entropy", "nats per token", (("entropy", "entropy"),), None),
    (
        "Size of the update",
        "share of ratios clipped; KL in nats per token",
        (("clip_fraction", "clipped"), ("approx_kl", "approx. KL")),
        None,
    ),
)


@dataclass(frozen=True)
class Figure:
    """One number at the top of the page."""

    name: str
    value: str
    remark: str = ""


def key_figures(data: ReportData) -> list[Figure]:
    """The handful of numbers to read first."""
    figures = [Figure(*figure) for figure in data.figures]
    figures += _evaluation_figures(data.evaluation)
    figures += _step_figures(data.steps)
    if data.best:
        remark = f"at step {data.best['step']}: {data.best['checkpoint']}"
        figures.append(Figure("Best validation score", signed(data.best["valid_score"]), remark))
    report = data.reward_model
    if report:
        own = report["systems"]["reward_model"]["tokens"]["macro_f1"]
        others = {name: lead["macro_f1"] for name, lead in report["lead"].items()}
        best = min(others, key=others.get, default=None)
        remark = f"{signed(others[best])} against {pretty(best)}" if best else ""
        figures.append(Figure("Reward model, macro-F1", number(own), remark))
    return figures


def draw_charts(steps: Sequence[Row], best: Mapping[str, Any] | None = None) -> list[Chart]:
    """A chart for each group of keys that the steps have.

    Args:
        steps: of a run.
        best: its best validation, marked in the chart of the validation score.
    """
    if len(steps) < 2:
        return []
    xs = [step["step"] for step in steps]
    charts = []
    for title, note, keys, bounds in LINES:
        series = [Series(name, column(steps, key)) for key, name in keys if known(steps, key)]
        if series:
            mark = _best_mark(best) if best and keys == VALIDATION else None
            charts.append(line_chart(title, xs, series, note, bounds, mark))
    phases = _prefixed(steps, "seconds_")
    if phases:
        charts.append(area_chart("Time per step", xs, phases, "seconds, by phase"))
    speeds = _prefixed(steps, "tokens_per_second_")
    if speeds:
        charts.append(line_chart("Throughput", xs, speeds, "tokens per second, by phase"))
    return charts


def change_rows(evaluation: Mapping[str, Any]) -> list[dict[str, str]]:
    """Before, after and change of each metric, as text."""
    before, after = evaluation.get("before") or {}, evaluation.get("after") or {}
    rows = []
    for name, value in after.items():
        if not isinstance(value, (int, float)) or not isinstance(before.get(name), (int, float)):
            continue
        found = (evaluation.get("difference") or {}).get(name) or {}
        interval = found.get("interval")
        change = value - before[name]
        verdict = ""
        clear = interval and (interval[0] > 0 or interval[1] < 0)
        if clear and name != "mean_words":  # shorter is neither better nor worse
            verdict = "up" if (change > 0) != (name in LOWER_IS_BETTER) else "down"
        digits = decimals(before[name], value, *(interval or ()))
        ends = [signed(end, digits) for end in interval or ()]
        rows.append(
            {
                "name": pretty(name),
                "before": number(before[name], digits),
                "after": number(value, digits),
                "change": signed(change, digits),
                "interval": " to ".join(ends),
                "verdict": verdict,
            }
        )
    return rows


def quality_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of the reward model's table.

    Each row is a name and then cells: F1 with precision and recall of each label, by unit and by
    span.
    """
    header, rows = [], []
    for name, found in report["systems"].items():
        header = ["", "sign"]
        cells = [{"main": number(found["tokens"]["sign_accuracy"]), "detail": ""}]
        for level, title in (("tokens", report["unit"]), ("spans", "spans")):
            for label, scores in found[level].items():
                if isinstance(scores, Mapping):
                    header.append(f"{label}, {title}")
                    detail = f"{number(scores['precision'])} / {number(scores['recall'])}"
                    cells.append({"main": number(scores["f1"]), "detail": detail})
        rows.append([pretty(name), *cells])
    return header, rows


def quality_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the reward model's replies are like, as (name, text)."""
    parse, quotes, gold = report["parse"], report["quotes"], report["gold_quotes"]
    facts = [
        ("Responses", f"{report['responses']} of {report['posts']} posts"),
        ("Readable replies", f"{parse['rate']:.1%}"),
        *((f"unreadable: {reason}", str(count)) for reason, count in parse["unparseable"].items()),
        *((f"mended: {name}", str(count)) for name, count in mended(parse["repairs"]).items()),
        ("Quotes", f"{quotes['quotes']} (annotation: {gold['quotes']})"),
    ]
    if quotes["unmatched_rate"] is not None:
        facts.append(("Quotes not in the response", f"{quotes['unmatched_rate']:.1%}"))
    for name, scores in report["critique"].items():
        rouge = [f"{pretty(kind)} {number(value)}" for kind, value in scores.items()]
        facts.append((f"Critique against annotation: {pretty(name)}", ", ".join(rouge)))
    return facts


def quality_chart(report: Mapping[str, Any]) -> str:
    """Macro-F1 of the reward model and of each baseline with intervals, as SVG."""
    rows = [
        (pretty(name), found["tokens"]["macro_f1"] or 0.0, report["macro_f1_interval"].get(name))
        for name, found in report["systems"].items()
    ]
    ends = [value for _, mean, interval in rows for value in (mean, *(interval or ()))]
    return interval_chart(rows, (0.0, min(1.0, max(ends) + 0.05)))


def health_view(health: Mapping[str, Any]) -> dict[str, Any]:
    """How quotes found their tokens: a bar and counts by kind, a table by label, facts."""
    total = health["n_spans"]
    facts = [("Readable critiques", f"{health['n_responses']:,}")]
    facts += [(f"unreadable: {why}", f"{n:,}") for why, n in health["unreadable"].items()]
    facts += [
        ("Responses without a quote", f"{health['without_spans']:,}"),
        ("Coverage", f"{health['coverage']:.1%} of the characters lie in a quote"),
        (
            "Ambiguous quotes",
            f"{health['ambiguous']:,} of {total:,} occur several times in their response",
        ),
    ]
    if health["tokens"]:
        facts.append(
            (
                "Tokens cut by a quote’s edge",
                f"{health['cut']:,} of {health['tokens']:,}; at least half of it lies inside, and "
                f"it takes the score, in {health['cut_kept']:,}",
            )
        )
    return {
        "bar": share_bar("Quotes by how they were found", [(k, health[k]) for k in MATCHES]),
        "kinds": [(k, f"{health[k]:,}", f"{health[k] / max(total, 1):.1%}") for k in MATCHES],
        "labels": [
            (pretty(label), [f"{sum(counts[k] for k in MATCHES):,}", *map(number, counts.values())])
            for label, counts in health["labels"].items()
        ],
        "facts": facts,
        "total": f"{total:,}",
    }


def flat_rows(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested object as (dotted name, text) rows."""
    rows = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            rows += flat_rows(item, f"{name}.")
        elif isinstance(item, float):
            rows.append((name, f"{item:.6g}"))
        elif isinstance(item, (list, tuple)):
            rows.append((name, ", ".join(map(str, item))))
        else:
            rows.append((name, "" if item is None else str(item)))
    return rows


def reward_model_identity(config: Mapping[str, Any]) -> tuple[str, str]:
    """Path and hash of the reward model, "" where the run did not write them."""
    found = config.get("reward_model")
    found = found if isinstance(found, Mapping) else {"path": found}
    flags = config.get("flags") or {}
    path = found.get("path") or flags.get("reward_model_name") or ""
    return path, found.get("sha256") or config.get("reward_model_sha256") or ""


def _evaluation_figures(evaluation: Mapping[str, Any]) -> list[Figure]:
    wanted = [row for row in change_rows(evaluation) if row["name"] != NAMES["mean_words"]]
    first = [row for row in wanted if row["name"] == NAMES["rougeL"]]
    own = [row for row in wanted if row["name"] not in NAMES.values()]
    return [
        Figure(row["name"], f"{row['before']} → {row['after']}", f"{row['change']} on validation")
        for row in [*first, *own][:3]
    ]


def _step_figures(steps: Sequence[Row]) -> list[Figure]:
    figures = []
    score = ends(steps, "score")
    if score:
        figures.append(
            Figure(
                "Score per response",
                " → ".join(number(value, decimals(*score)) for value in score),
                "in training",
            )
        )
    kl = ends(steps, "kl")
    if kl:
        figures.append(Figure("KL at the end", number(kl[1]), "nats per response"))
    length = ends(steps, "response_tokens")
    if length:
        figures.append(
            Figure("Response length", f"{length[0]:.0f} → {length[1]:.0f}", "tokens per response")
        )
    parse, unmatched = ends(steps, "parse_rate"), ends(steps, "unmatched_rate")
    if parse:
        remark = f"{unmatched[1]:.1%} of quotes not found" if unmatched else ""
        figures.append(Figure("Critiques readable", f"{parse[1]:.1%}", remark))
    if steps:
        figures.append(Figure("PPO steps", number(steps[-1]["step"]), _duration(steps)))
    return figures


def _best_mark(best: Mapping[str, Any]) -> Mark:
    return Mark(best["step"], best["valid_score"], f"best checkpoint, step {best['step']}")


def _duration(steps: Sequence[Row]) -> str:
    phases = {key for step in steps for key in step if key.startswith("seconds_")}
    seconds = sum(value or 0.0 for key in phases for value in column(steps, key))
    if not seconds:
        return ""
    minutes = round(seconds / 60)
    total = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{total}, {seconds / len(steps):.1f} s per step"


def _prefixed(steps: Sequence[Row], prefix: str) -> list[Series]:
    keys = dict.fromkeys(key for step in steps for key in step if key.startswith(prefix))
    chosen = [key for key in keys if known(steps, key)][:6]
    return [
        Series(key.removeprefix(prefix).replace("_", " "), column(steps, key)) for key in chosen
    ]
