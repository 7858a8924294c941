"""What a policy's training left in its folder: its scores, and what its steps took and saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from text2grad.files import Row, read_rows
from text2grad.paper.measured import History
from text2grad.report_data import read_object
from text2grad.shapes import NUMBER, check_shape
from text2grad.trends import column

POINTS = 250
# the trainer's own name, and what TRL calls the mean reward of GRPO's `CritiqueReward`
SCORES = ("score", "rewards/critique/mean")
SECONDS = "seconds_"
QUOTED = ("coverage", "positive_share", "negative_share", "unmatched_rate")
_CONFIG = {"flags": {"batch_size": NUMBER}}


def read_training(
    folder: Path, flag: str, quotes: bool = True
) -> tuple[int, dict[str, float], History] | None:
    """Read `metrics.jsonl` and `config.json` of a policy's training.

    Args:
        folder: of the training.
        flag: for messages.
        quotes: whether its critiques quote; a learned scalar covers no token, which says nothing.

    Returns:
        How many batches of responses were sampled, `step_figures` of them, and what they scored;
        None where nothing was sampled, as in SFT and DPO.

    Raises:
        UserError: a file is damaged.
    """
    path = folder / "metrics.jsonl"
    rows = read_rows(path, flag) if path.exists() else []
    key = next((key for key in SCORES if any(v is not None for v in column(rows, key))), "")
    if not key:
        return None
    config = read_object(folder / "config.json", flag)
    advice = "the trainer writes it; remove the run's folder and run it again"
    check_shape(config, _CONFIG, f"{flag} {folder / 'config.json'}", advice)
    # TRL logs every update, and a score only where it sampled
    sampled = [row for row in rows if row.get(key) is not None]
    figures = step_figures(sampled)
    if not quotes:
        figures = {name: value for name, value in figures.items() if name not in QUOTED}
    return len(sampled), figures, _history(sampled, key, config["flags"]["batch_size"])


def step_figures(rows: Sequence[Row]) -> dict[str, float]:
    """Means over the steps of a run.

    Returns:
        As far as the rows have them: "seconds_PHASE" and "seconds_step"; "critique_share", of the
        whole step, and "critique_added", over the rest of it; the shares of tokens in `QUOTED`;
        "reward_variance" between the responses of a step and "advantage_variance" between its
        tokens, before whitening.

    Example: steps of 2 s sampling and 1 s critique -> seconds_step 3, share 1/3, added 1/2
    """
    found = {name: values for name in QUOTED if (values := _known(rows, name))}
    found |= _variances(rows)
    phases = dict.fromkeys(key for row in rows for key in row if key.startswith(SECONDS))
    found |= {phase: values for phase in phases if (values := _known(rows, phase))}
    figures = {name: mean(values) for name, values in found.items()}
    if phases:
        whole = sum(figures.get(phase, 0.0) for phase in phases)
        critique = figures.get(f"{SECONDS}critique", 0.0)
        figures[f"{SECONDS}step"] = whole
        figures["critique_share"] = critique / whole
        if whole > critique:
            figures["critique_added"] = critique / (whole - critique)
    return figures


def thin(history: History, points: int = POINTS) -> History:
    """At most `points` points, each the mean of its neighbours, at the last of their steps.

    Example: 4 steps that scored 1, 3, 5, 7, of which 2 points are kept -> 2 and 6 at steps 2 and 4
    """
    size = max(1, math.ceil(len(history.steps) / points))
    starts = range(0, len(history.steps), size)

    def last(values: Sequence[int]) -> tuple[int, ...]:
        return tuple(values[at : at + size][-1] for at in starts)

    def means(values: Sequence[float]) -> tuple[float, ...]:
        return tuple(mean(values[at : at + size]) for at in starts if values)

    return History(
        last(history.steps), last(history.samples), means(history.score), means(history.reward)
    )


def _history(rows: Sequence[Row], key: str, batch: int) -> History:
    judged = [
        (number, score)
        for number, (row, score) in enumerate(zip(rows, column(rows, key), strict=True), 1)
        # where no critique could be read the mean is of nothing
        if score is not None and row.get("judged", 1)
    ]
    steps = tuple(number for number, _ in judged)
    samples = tuple(number * int(batch) for number in steps)
    rewards = column([rows[n - 1] for n in steps], "reward")
    logged = key == SCORES[0] and None not in rewards
    score = tuple(score for _, score in judged)
    return thin(History(steps, samples, score, tuple(rewards) if logged else ()))


def _variances(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Of each step: of the reward, and of the advantage in the unit of the score."""
    units = column(rows, "return_scale")
    spread = zip(column(rows, "advantage_deviation"), units, strict=True)
    found = {
        "reward_variance": [value**2 for value in _known(rows, "reward_deviation")],
        "advantage_variance": [(a * b) ** 2 for a, b in spread if None not in (a, b)],
    }
    return {name: values for name, values in found.items() if values}


def _known(rows: Sequence[Row], key: str) -> list[float]:
    return [value for value in column(rows, key) if value is not None]
