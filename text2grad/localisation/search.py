"""The whole search for the faulty statements of one solution."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from text2grad.localisation.ranking import Suspect, prior_suspicion, rank, select
from text2grad.localisation.spectrum import count_hits
from text2grad.localisation.statement_edits import Symptoms
from text2grad.localisation.syntax import LOOPS, Source, Statement, bound_names
from text2grad.localisation.trials import (
    RunVariants,
    Trials,
    plan_edits,
    run_trials,
    statement_hits,
)
from text2grad.outcomes import TIME_LIMIT, CheckOutcome, TestLog

_UNDEFINED = re.compile(
    r"name '(\w+)' is not defined|variable '(\w+)' (?:where it is not|referenced before)"
)

MOST_CHARS = 50_000  # of a solution that edits are tried on; each is a copy of it
_LITERAL = 0.2  # suspicion of the statement that returned the very value that is wrong


@dataclass(frozen=True)
class Localisation:
    """Where the fault of a solution is suspected.

    Attributes:
        suspects: the statements that are quoted, the strongest first.
        ranking: all suspects.
        trials: the edits that were tried.
        failing, passing: how many checks failed and passed.
        symptoms: what the failing checks tell of a missing statement.
    """

    suspects: Sequence[Suspect]
    ranking: Sequence[Suspect]
    trials: Trials
    failing: int
    passing: int
    symptoms: Symptoms


def localise(source: Source, log: TestLog, run: RunVariants, seconds: float) -> Localisation:
    """Find the statements to blame for the failing checks of a log.

    Args:
        source: the solution.
        log: its test run, with coverage.
        run: runs variants of the solution against the same tests.
        seconds: time budget of the trial edits.
    """
    failing = [check for check in log.checks if not check.passed]
    hits = statement_hits(source, count_hits((c.passed, c.covered) for c in log.checks))
    failed_at = failing_statements(source, log)
    stopped = bool(log.solution_lines) and log.error_type != "timeout"
    raised = failed_at if stopped or any(check.solution_lines for check in failing) else []
    prior = prior_suspicion(source, hits, failed_at, raised)
    for statement in literal_returns(source, failing):
        prior[statement] = prior.get(statement, 0.0) + _LITERAL
    if not prior:
        prior = {s: 0.1 for s in source.statements if not s.is_definition}
    symptoms = read_symptoms(source, log)
    edits = plan_edits(source, prior, symptoms) if len(source.text) <= MOST_CHARS else []
    trials = run_trials(source.text, log, edits, run, seconds)
    ranking = rank(prior, hits, trials, len(failing), raised)
    chosen = select(ranking, len(source.code_lines))
    return Localisation(
        chosen, ranking, trials, len(failing), len(log.checks) - len(failing), symptoms
    )


def failing_statements(source: Source, log: TestLog) -> list[Statement]:
    """Where the failing checks went wrong, as far as they show it.

    The innermost statement of each traceback; of a check that ran out of time the loop it was in;
    of a wrong value the `return` statements that the check came through, and where it came through
    none the end of each function.
    """
    found: list[Statement | None] = []
    for check in log.checks:
        if check.passed:
            continue
        if check.solution_lines:
            at = source.statement_at(check.solution_lines[-1])
            if check.error_type == TIME_LIMIT and at is not None:
                at = enclosing_loop(at) or at
            found.append(at)
            continue
        returns = _returns(source, check)
        ends = {s.function: s for s in source.statements if s.first in check.covered}
        found += returns or list(ends.values())
    if log.solution_lines:
        at = source.statement_at(log.solution_lines[-1])
        found.append((at and log.error_type == "timeout" and enclosing_loop(at)) or at)
    return [statement for statement in dict.fromkeys(found) if statement is not None]


def literal_returns(source: Source, failing: Sequence[CheckOutcome]) -> list[Statement]:
    """The statements that return a literal which is the wrong value of a check that ran them."""
    found = {}
    for check in failing:
        for statement in _returns(source, check):
            value = statement.node.value
            literal = "None" if value is None else ast.unparse(value)
            if literal == check.actual:
                found[statement] = None
    return list(found)


def read_symptoms(source: Source, log: TestLog) -> Symptoms:
    """What the failing checks tell of a missing statement."""
    failing = [check for check in log.checks if not check.passed]
    fell_off = any(
        check.actual == "None" != check.expected and not _returns(source, check)
        for check in failing
    )
    return Symptoms(undefined_name(failing), fell_off, log.error_type == "timeout")


def _returns(source: Source, check: CheckOutcome) -> list[Statement]:
    """The `return` statements that a check ran."""
    return [
        statement
        for statement in source.statements
        if isinstance(statement.node, ast.Return) and statement.first in check.covered
    ]


def unchanging(statement: Statement) -> list[str]:
    """The names that a `while` loop waits for and never changes, if it has no other way out."""
    node = statement.node
    if not isinstance(node, ast.While):
        return []
    inside = [inner for part in node.body for inner in ast.walk(part)]
    leaves = (ast.Break, ast.Return, ast.Raise, ast.Yield, ast.YieldFrom, ast.Await)
    changed = set(bound_names(inside))
    # What is only read in the loop cannot change; what is handed on may.
    handed_on = {
        argument.id
        for call in inside
        if isinstance(call, ast.Call)
        for argument in (*call.args, getattr(call.func, "value", None))
        if isinstance(argument, ast.Name)
    }
    asks = any(isinstance(part, ast.Call) for part in ast.walk(node.test) if not _is_len(part))
    if asks or any(isinstance(inner, leaves) for inner in inside):
        return []
    waits_for = sorted(statement.reads - {"len"})
    free = not set(waits_for) & (changed | handed_on)
    return waits_for if free else []


def _is_len(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len"


def enclosing_loop(statement: Statement) -> Statement | None:
    """The innermost loop around a statement, or the statement itself if it is one."""
    around = [s for s in (*statement.parents, statement) if isinstance(s.node, LOOPS)]
    return around[-1] if around else None


def undefined_name(failing: Sequence[CheckOutcome]) -> str:
    """The name that the solution used before it had a value, "" if no check met one."""
    for check in failing:
        match = _UNDEFINED.search(check.message) if check.solution_lines else None
        if match and check.error_type in ("NameError", "UnboundLocalError"):
            return match[1] or match[2]
    return ""
