"""Trial edits run against the tests: what mends failing checks and breaks no passing one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from text2grad.localisation.edits import Edit, expression_edits
from text2grad.localisation.spectrum import Hits
from text2grad.localisation.statement_edits import insertions, statement_edits
from text2grad.localisation.syntax import Source, Statement
from text2grad.unit_tests import TestLog

RunVariants = Callable[[Sequence[str]], Sequence[TestLog]]

_BATCH = 24
_INSERTION_DISCOUNT = 0.85  # one statement more fits in many places that are not the fault


@dataclass(frozen=True)
class Trial:
    """What an edit does to the checks.

    Attributes:
        edit: the change.
        mended: failing checks that pass with it.
        broken: passing checks that fail with it.
        passes: whether the whole test file passes.
    """

    edit: Edit
    mended: int
    broken: int
    passes: bool

    def strength(self, failing: int) -> float:
        """How strongly it blames its statement, in [0, 1]; 1 for a plausible edit that mends all."""
        if self.passes:
            return self.edit.plausibility
        if self.broken or not failing:
            return 0.0
        return 0.5 * self.edit.plausibility * min(1.0, self.mended / failing)


@dataclass(frozen=True)
class Trials:
    """The trials that were made.

    Attributes:
        trials: in the order of their making.
        planned: how many edits there were to try.
    """

    trials: Sequence[Trial]
    planned: int


def plan_edits(
    source: Source, suspicion: Mapping[Statement, float], missing: str = ""
) -> list[Edit]:
    """Every trial edit once, those of suspicious statements and plausible changes first.

    Args:
        source: the solution.
        suspicion: of each statement, in [0, 1]; statements without any are left alone.
        missing: a name the checks found undefined, "" for none.
    """
    edits: list[tuple[float, Edit]] = []
    for statement, worth in suspicion.items():
        if worth > 0:
            for edit in (
                *expression_edits(source, statement),
                *statement_edits(source, statement),
            ):
                edits.append((worth * edit.plausibility, edit))
    for edit in insertions(source, missing):
        sides = [edit.statement] if edit.other is None else [edit.statement, edit.other]
        worth = max(suspicion.get(side, 0.0) for side in sides)
        if worth > 0:
            discount = 1.0 if missing else _INSERTION_DISCOUNT
            edits.append((worth * edit.plausibility * discount, edit))
    edits.sort(key=lambda pair: -pair[0])
    seen = {source.text}
    planned = []
    for _, edit in edits:
        text = edit.apply(source.text)
        if text not in seen:
            seen.add(text)
            planned.append(edit)
    return planned


def run_trials(
    text: str,
    log: TestLog,
    edits: Sequence[Edit],
    run: RunVariants,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Trials:
    """Try edits in order until all are tried or the time is over.

    Args:
        text: the solution.
        log: its test run.
        edits: what to try.
        run: runs several variants of the solution against the same tests.
        seconds: time budget; a batch that has begun is finished.
        clock: seconds, increasing.
    """
    deadline = clock() + seconds
    trials: list[Trial] = []
    before = _outcomes(log)
    for start in range(0, len(edits), _BATCH):
        if clock() >= deadline:
            break
        batch = edits[start : start + _BATCH]
        logs = run([edit.apply(text) for edit in batch])
        for edit, after in zip(batch, logs, strict=True):
            trials.append(_compare(edit, before, after))
    return Trials(trials, len(edits))


def _compare(edit: Edit, before: Mapping[tuple, bool], after: TestLog) -> Trial:
    now = _outcomes(after)
    mended = sum(not passed and now.get(check, False) for check, passed in before.items())
    broken = sum(passed and not now.get(check, False) for check, passed in before.items())
    return Trial(edit, mended, broken, after.passed)


def _outcomes(log: TestLog) -> dict[tuple, bool]:
    """Whether each check passed; a check that was not reached is not there."""
    outcomes: dict[tuple, bool] = {}
    for check in log.checks:
        key = (check.test, check.line, check.source)
        outcomes[key] = outcomes.get(key, True) and check.passed
    return outcomes


def statement_hits(source: Source, hits: Mapping[int, Hits]) -> dict[Statement, Hits]:
    """The hits of each statement: those of its most suspicious line."""
    return {
        statement: max(
            (hits[line] for line in range(statement.first, statement.last + 1) if line in hits),
            key=lambda hit: hit.suspicion,
            default=Hits(),
        )
        for statement in source.statements
    }


def first_of(trials: Iterable[Trial]) -> dict[Statement, Trial]:
    """The trial that passes and tells most, of each statement that has one."""
    best: dict[Statement, Trial] = {}
    for trial in trials:
        known = best.get(trial.edit.statement)
        if trial.passes and (not known or trial.edit.plausibility > known.edit.plausibility):
            best[trial.edit.statement] = trial
    return best
