"""What the steps of a run show, and what a careful reader would want to be told."""

from __future__ import annotations

import math
from collections.abc import Sequence

from text2grad.files import Row
from text2grad.report_data import ReportData
from text2grad.wording import number, pretty, signed

LOW_PARSE_RATE = 0.9
HIGH_UNMATCHED_RATE = 0.05
HIGH_REJECTED_SHARE = 0.3
HIGH_REMOVED_MASS = 0.3
KL_OVER_TARGET = 2.0
LENGTH_CHANGE = 2.0
MOST_WATCH_WARNINGS = 20


def find_warnings(data: ReportData) -> list[str]:
    """What a careful reader would want to be told."""
    return [*_run_warnings(data), *_quality_warnings(data), *_watch_warnings(data.steps)]


def column(steps: Sequence[Row], key: str) -> list[float | None]:
    """The value of each step; None where it is missing or no finite number."""
    values = [step.get(key) for step in steps]
    return [
        float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
        for value in values
    ]


def known(steps: Sequence[Row], key: str) -> bool:
    """Whether any step has a number under `key`."""
    return any(value is not None for value in column(steps, key))


def ends(steps: Sequence[Row], key: str) -> tuple[float, float] | None:
    """Means over the first and the last tenth of the steps, of at most 20 each."""
    values = [value for value in column(steps, key) if value is not None]
    if not values:
        return None
    size = min(20, max(1, len(values) // 10))
    return sum(values[:size]) / size, sum(values[-size:]) / size


def _run_warnings(data: ReportData) -> list[str]:
    steps, found = data.steps, []
    parse, unmatched = ends(steps, "parse_rate"), ends(steps, "unmatched_rate")
    if parse and parse[1] < LOW_PARSE_RATE:
        found.append(
            f"Only {parse[1]:.0%} of the last critiques were readable; the other responses earned "
            "nothing. Train the reward model longer, or use constrained decoding."
        )
    if unmatched and unmatched[1] > HIGH_UNMATCHED_RATE:
        found.append(
            f"{unmatched[1]:.0%} of the last quotes are not in their response and gave no reward."
        )
    for key, bound, what in (
        ("rejected_share", HIGH_REJECTED_SHARE, "steps of decoding overruled the reward model"),
        ("removed_mass", HIGH_REMOVED_MASS, "probability mass was removed by constrained decoding"),
    ):
        share = ends(steps, key)
        if share and share[1] > bound:
            found.append(
                f"{share[1]:.0%} of the {what}: its quotes are forced more than chosen, and a full "
                "parse rate says little about it."
            )
    target = (data.config.get("flags") or {}).get("kl_target")
    kl = ends(steps, "kl")
    if kl and isinstance(target, (int, float)) and kl[1] > KL_OVER_TARGET * target:
        found.append(
            f"KL ended at {kl[1]:.1f} nats per response, far above --kl_target {target:g}: the "
            "policy drifts. Lower the learning rate or raise --init_kl_coef."
        )
    return found + _trend_warnings(steps)


def _trend_warnings(steps: Sequence[Row]) -> list[str]:
    found = []
    score, variance = ends(steps, "score"), ends(steps, "explained_variance")
    length = ends(steps, "response_tokens")
    if score and len(steps) >= 5 and score[1] <= score[0]:
        found.append(f"The score did not rise ({number(score[0])} to {number(score[1])}).")
    if variance and variance[1] < 0:
        found.append("The value head explains less than a constant would (explained variance < 0).")
    if length and not 1 / LENGTH_CHANGE < length[1] / max(length[0], 1e-9) < LENGTH_CHANGE:
        why = (
            "the score may reward length alone"
            if length[1] > length[0]
            else "the policy may say less to earn less blame"
        )
        found.append(
            f"Responses went from {length[0]:.0f} to {length[1]:.0f} tokens: read some, {why}."
        )
    broken = sorted(
        {
            key
            for step in steps
            for key, value in step.items()
            if isinstance(value, float) and not math.isfinite(value)
        }
    )
    if broken:
        found.append(f"Not finite in some steps: {', '.join(broken)}.")
    return found


def _watch_warnings(steps: Sequence[Row]) -> list[str]:
    """What the watches said while the run was going on."""
    found = [f"Step {row['step']}: {text}." for row in steps for text in row.get("warnings") or ()]
    more = len(found) - MOST_WATCH_WARNINGS
    rest = [f"{more} more warnings are in metrics.jsonl."] if more > 0 else []
    return found[:MOST_WATCH_WARNINGS] + rest


def _quality_warnings(data: ReportData) -> list[str]:
    found = []
    for name, lead in (data.reward_model.get("lead") or {}).items():
        interval = lead.get("interval") or (lead["macro_f1"], lead["macro_f1"])
        if interval[0] <= 0:
            found.append(
                f"The reward model is not clearly better than the baseline “{pretty(name)}” "
                f"(macro-F1 {signed(lead['macro_f1'])}, {signed(interval[0])} to "
                f"{signed(interval[1])})."
            )
    rouge = (data.evaluation.get("difference") or {}).get("rougeL") or {}
    if rouge.get("interval") and rouge["interval"][1] < 0:
        found.append(f"ROUGE-L on validation fell by {-rouge['value']:.3f}.")
    return found
