"""From coverage, trial edits, traceback and data flow to the few statements that are blamed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from text2grad.localisation.spectrum import Hits
from text2grad.localisation.syntax import LOOPS, Source, Statement, feeding
from text2grad.localisation.trials import Trial, Trials

_COVERAGE = 0.45
_TRACEBACK = 0.25
_DATA_FLOW = 0.2
_FAR_SIDE = 0.9  # the statement after a gap, against the one before it
_NEAR_BEST = 0.6  # of the highest score, to be blamed beside it
_NEAR_UNSURE = 0.4  # the same where no trial edit mends everything
_MOST_SHARE = 0.35  # of the lines of code, where a trial edit mends everything
_UNSURE_SHARE = 0.5  # of them, where none does, or others are suspected as strongly
_TIED = 0.95  # of the highest score
_MOST_STATEMENTS = 4


@dataclass(frozen=True)
class Suspect:
    """A statement with all that speaks against it.

    Attributes:
        statement: where.
        score: how strongly; comparable within one solution.
        hits: checks that ran it.
        trial: the most telling edit of it that mends something, None without.
        in_traceback: whether an exception passed through it.
    """

    statement: Statement
    score: float
    hits: Hits
    trial: Trial | None = None
    in_traceback: bool = False


def prior_suspicion(
    source: Source,
    hits: Mapping[Statement, Hits],
    failed_at: Sequence[Statement],
    raised: Sequence[Statement] = (),
) -> dict[Statement, float]:
    """Suspicion before any trial: coverage, the traceback, and what feeds the failing place.

    Args:
        source: the solution.
        hits: of each statement.
        failed_at: where failing checks went wrong.
        raised: those of them at which an exception was raised.
    """
    near: dict[Statement, float] = {}
    for place in failed_at:
        near[place] = 1.0
        for statement, distance in feeding(source, place).items():
            near[statement] = max(near.get(statement, 0.0), 1.0 / (1 + distance))
        if isinstance(place.node, LOOPS):  # it does not stop: what it does inside may be why
            for statement in source.statements:
                if place in statement.parents:
                    near[statement] = max(near.get(statement, 0.0), 0.5)
    suspicion = {}
    for statement, hit in hits.items():
        is_sound = statement.is_definition and statement not in failed_at
        if is_sound or not (hit.suspicion or statement in near):
            continue
        at_fault = _TRACEBACK * (statement in raised)
        flow = _DATA_FLOW * near.get(statement, 0.0)
        suspicion[statement] = _COVERAGE * hit.suspicion + at_fault + flow
    return suspicion


def rank(
    prior: Mapping[Statement, float],
    hits: Mapping[Statement, Hits],
    trials: Trials,
    failing: int,
    failed_at: Sequence[Statement] = (),
) -> list[Suspect]:
    """All suspects, the strongest first; of equals the one further up.

    A statement that a trial edit mends gains the strength of the best such edit, and a little for
    every further one: many ways to mend a solution at one place are rarer than one.
    """
    best: dict[Statement, Trial] = {}
    gain: dict[Statement, float] = {}
    count: dict[Statement, int] = {}
    for trial in trials.trials:
        strength = trial.strength(failing)
        if not strength:
            continue
        for statement, share in _blamed(trial):
            count[statement] = count.get(statement, 0) + trial.passes
            if strength * share > gain.get(statement, 0.0):
                gain[statement] = strength * share
                best[statement] = trial
    suspects = []
    for statement in {**prior, **gain}:
        more = 0.08 * math.log2(count[statement]) if count.get(statement) else 0.0
        score = prior.get(statement, 0.0) + gain.get(statement, 0.0) + more
        hit = hits.get(statement, Hits())
        trial = best.get(statement)
        suspects.append(Suspect(statement, score, hit, trial, statement in failed_at))
    return sorted(suspects, key=lambda suspect: (-suspect.score, suspect.statement.start))


def select(
    suspects: Sequence[Suspect], code_lines: int, most: int = _MOST_STATEMENTS
) -> list[Suspect]:
    """The suspects that are quoted: near the strongest, few, and on a small share of the lines.

    The strongest is quoted whatever its size, the others only while their lines stay within
    a fixed share of all; the share is larger where no trial edit mends everything, and for those
    that are suspected as strongly.
    """
    sure = any(suspect.trial and suspect.trial.passes for suspect in suspects)
    near = _NEAR_BEST if sure else _NEAR_UNSURE
    chosen: list[Suspect] = []
    lines: set[int] = set()
    for suspect in suspects[: 2 * most]:
        if chosen and suspect.score < near * suspects[0].score:
            break
        tied = suspect.score >= _TIED * suspects[0].score
        share = _MOST_SHARE if sure and not tied else _UNSURE_SHARE
        own = set(range(suspect.statement.first, suspect.statement.last + 1))
        if chosen and (len(lines | own) > share * code_lines or len(chosen) >= most):
            continue
        chosen.append(suspect)
        lines |= own
    return chosen


def _blamed(trial: Trial) -> list[tuple[Statement, float]]:
    sides = [(trial.edit.statement, 1.0)]
    if trial.edit.other is not None:
        sides.append((trial.edit.other, _FAR_SIDE))
    return sides
