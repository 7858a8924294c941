"""What the paper claims, as data, and what the runs say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from text2grad.paper.cells import Cell, cell, lead
from text2grad.paper.measured import Measured, Run
from text2grad.paper.training_tables import convergence, steps_saved
from text2grad.tables import interval_text, markdown_table

Source = Literal["runs", "training", "reward_models", "convergence"]
SAVED = "steps_saved"
NOT_RUN, OPEN, HOLDS, FAILS = "not run", "open", "holds here", "does not hold here"


@dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        text: what it says.
        published: the paper's figure.
        table: the table of which the runs are.
        source: which figures of them.
        measure: the figure.
        row: the method or reward model.
        against: the method it is compared with by the difference, "" for the figure itself.
        low, high: the claim holds between them.
    """

    text: str
    published: str
    table: str
    source: Source
    measure: str
    row: str = "text2grad"
    against: str = "scalar_ppo"
    low: float = 0.0
    high: float = math.inf


_STEPS = Claim("fewer steps than PPO", "22 %", "slf5k", "convergence", SAVED)
CLAIMS = (
    Claim("Text2Grad has more BLEU than PPO", "+25.3 %", "slf5k", "runs", "sacrebleu"),
    Claim("Text2Grad has more ROUGE-L than PPO", "+6.7", "slf5k", "runs", "rougeL"),
    Claim(
        *("more ROUGE-L with CoT than without", "0.291 and 0.275", "slf5k", "runs", "rougeL"),
        against="text2grad_no_cot",
    ),
    Claim(
        *("more ROUGE-L from spans than from dense scores", "0.291 and 0.196", "slf5k", "runs"),
        *("rougeL", "text2grad", "dense"),
    ),
    _STEPS,
    Claim(
        *("best at an earlier share of the steps than PPO", "75 % and 97 %", "slf5k"),
        *("convergence", "best_share"),
        low=-math.inf,
        high=0.0,
    ),
    Claim("more MBPP+ than PPO", "+5.8", "kodcode", "runs", "mbpp_plus"),
    Claim("more AlpacaEval 2.0 than PPO", "+2.3", "ultrafeedback", "runs", "alpaca_eval"),
    Claim(
        *("hardly any quote of the reward model is not in the response", "< 2.5 %", "slf5k"),
        *("reward_models", "free_unmatched_rate", "spans", ""),
        high=0.025,
    ),
    Claim(
        *("the reward model adds little to a step", "9 to 11 %", "slf5k", "training"),
        *("critique_added", "text2grad", ""),
        low=0.09,
        high=0.11,
    ),
)


def claim_cell(measured: Measured, claim: Claim) -> Cell:
    """The figure, or the difference by seed, that the claim is about."""
    if claim.measure == SAVED:
        return steps_saved(measured, claim.row, claim.against)
    runs = _runs(measured, claim.source)
    if not claim.against:
        return cell([run for run in runs if run.row == claim.row], claim.measure)
    return lead(runs, claim.row, claim.against, claim.measure)


def verdict(found: Cell, low: float, high: float) -> str:
    """Whether the 95 % interval lies where the claim holds, elsewhere, or in both places.

    Example: [0.1, 0.3] for 0 to infinity -> "holds here"
    """
    if found.value is None:
        return NOT_RUN
    if found.interval is None:
        return OPEN
    first, last = found.interval
    if low <= first and last <= high:
        return HOLDS
    return FAILS if last < low or first > high else OPEN


def claims_table(measured: Sequence[Measured], testbed: Mapping[str, Any]) -> str:
    """Every claim beside what was found, as Markdown.

    Args:
        measured: of all tables; those of the budget `trial` say nothing of a method.
        testbed: its figures, {} where it was not run.
    """
    rows, tried = [], [one for one in measured if one.facts["budget"] != "trial"]
    for claim in CLAIMS:
        own = [one for one in tried if one.facts["table"] == claim.table]
        for one in own or [None]:
            found = claim_cell(one, claim) if one else Cell()
            where = f"`{one.name}`" if one else f"`{claim.table}`"
            rows.append(_row(claim, where, found))
    rows.append(_row(_STEPS, "testbed", _testbed_cell(testbed)))
    head = ["the paper says", "its figure", "runs", "here", "95 % interval", "seeds", "so it"]
    return markdown_table(head, rows)


def _row(claim: Claim, where: str, found: Cell) -> list[str]:
    sign = "+" if claim.against else ""
    shown = "" if found.value is None else f"{found.value:{sign}.3f}"
    seeds = str(found.seeds) if found.seeds else ""
    said = verdict(found, claim.low, claim.high)
    bounds = interval_text(found.interval, signed=bool(claim.against))
    return [claim.text, claim.published, where, shown, bounds, seeds, said]


def _testbed_cell(testbed: Mapping[str, Any]) -> Cell:
    span = (testbed.get("methods") or {}).get("span") or {}
    compared = span.get("against_scalar")
    if not compared:
        return Cell()
    steps = compared["steps"]
    interval = steps["saved_interval"]
    return Cell(steps["saved"], interval and tuple(interval), len(span["seeds"]))


def _runs(measured: Measured, source: Source) -> Sequence[Run]:
    if source != "convergence":
        return getattr(measured, source)
    return [replace(run, figures=convergence(run)) for run in measured.training]
