"""Trial edits run against the tests: what mends failing checks and breaks no passing one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from text2grad.localisation.edits import Edit, expression_edits
from text2grad.localisation.spectrum import Hits
from text2grad.localisation.statement_edits import Symptoms, insertions, statement_edits
from text2grad.localisation.syntax import Source, Statement
from text2grad.outcomes import TestLog

RunVariants = Callable[[Sequence[str]], Sequence[TestLog]]

_FIRST_BATCH = 6  # edits per start of the sandbox, before their cost is known
_BATCH = 48  # later, as long as the time is enough
_SUSPICION = 0.5  # how much it counts in the order, against plausibility
_INSERTION_DISCOUNT = 0.2  # one statement more fits in many places that are not the fault
_WANTED = 0.1  # what the symptoms ask for goes first
_LESS_PLAUSIBLE = 0.15  # than an edit that mended all: no longer tried


@dataclass(frozen=True)
class Trial:
    """What an edit does to the checks.

    Attributes:
        edit: the change.
        mended: failing checks that pass with it.
        broken: passing checks that fail with it.
        passes: whether the whole test file passes.
        checks: how many there were.
    """

    edit: Edit
    mended: int
    broken: int
    passes: bool
    checks: int

    def strength(self, failing: int) -> float:
        """How strongly it blames its statement, in [0, 1]; 1 if it is plausible and mends all."""
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
    source: Source,
    suspicion: Mapping[Statement, float],
    symptoms: Symptoms = Symptoms(),  # noqa: B008
) -> list[Edit]:
    """Every trial edit once, plausible changes and suspicious statements first.

    Args:
        source: the solution.
        suspicion: of each statement, >= 0; statements without any are left alone.
        symptoms: what the failing checks tell of a missing statement.
    """
    most = max(suspicion.values(), default=0.0)
    edits: list[tuple[float, Edit]] = []
    for statement, worth in suspicion.items():
        if worth > 0:
            for edit in (*expression_edits(source, statement), *statement_edits(source, statement)):
                edits.append((edit.plausibility + _SUSPICION * worth / most, edit))
    for edit in insertions(source, symptoms):
        sides = [edit.statement] if edit.other is None else [edit.statement, edit.other]
        worth = max(suspicion.get(side, 0.0) for side in sides)
        if worth > 0:
            discount = -_WANTED if edit.plausibility == 1.0 else _INSERTION_DISCOUNT
            edits.append((edit.plausibility - discount + _SUSPICION * worth / most, edit))
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

    Once one mends everything, only edits that are about as plausible are still tried.

    Args:
        text: the solution.
        log: its test run.
        edits: what to try.
        run: runs several variants of the solution against the same tests.
        seconds: time budget; a batch that has begun is finished.
        clock: seconds, increasing.
    """
    started = clock()
    deadline = started + seconds
    trials: list[Trial] = []
    before = _outcomes(log)
    left = list(edits)
    size = _FIRST_BATCH
    while left and clock() < deadline:
        batch, left = left[:size], left[size:]
        logs = run([edit.apply(text) for edit in batch])
        trials += [_compare(edit, before, after) for edit, after in zip(batch, logs, strict=True)]
        found = max((trial.edit.plausibility for trial in trials if trial.passes), default=0.0)
        left = [edit for edit in left if edit.plausibility >= found - _LESS_PLAUSIBLE]
        now = clock()
        affordable = (deadline - now) * len(trials) / max(now - started, 1e-6)
        size = max(1, min(_BATCH, int(affordable)))
    return Trials(trials, len(edits))


def _compare(edit: Edit, before: Mapping[tuple, bool], after: TestLog) -> Trial:
    now = _outcomes(after)
    mended = sum(not passed and now.get(check, False) for check, passed in before.items())
    broken = sum(passed and not now.get(check, False) for check, passed in before.items())
    return Trial(edit, mended, broken, after.passed, len(now))


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
