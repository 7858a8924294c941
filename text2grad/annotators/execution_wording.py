"""What tests and the search for the fault found, as a critique that a programmer would write.

Wording varies with the record, and is always the same for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from text2grad.localisation.observations import Observation
from text2grad.localisation.ranking import Suspect
from text2grad.localisation.search import Localisation, unchanging
from text2grad.localisation.syntax import Source
from text2grad.outcomes import TIME_LIMIT, CheckOutcome, TestLog

_QUOTE_CHARS = 70
_VALUE_CHARS = 60
_MESSAGE_CHARS = 110

_PASSED = (
    "All {total} checks pass.",
    "The code passes all {total} checks.",
    "Every one of the {total} checks passes.",
    "Correct as far as the tests go: {total} of {total} checks pass.",
)
_PASSED_ONE = ("The only check passes.", "The code passes its one check.")
_FAILED_ALL = (
    "None of the {total} checks passes.",
    "All {total} checks fail.",
    "The code fails each of the {total} checks.",
)
_FAILED_ONE = ("The only check fails.", "The one check there is fails.")
_FAILED_SOME = (
    "{failed} of {total} checks fail.",
    "The code passes {passed} of {total} checks.",
    "It is wrong in {failed} of {total} checks.",
)
_WRONG_VALUE = (
    "`{check}` expects {expected} but gets {actual}.",
    "For `{check}` the result is {actual}, where {expected} is expected.",
    "`{check}` fails: expected {expected}, got {actual}.",
)
_RAISED = (
    "`{check}` ends in {error}{where}.",
    "`{check}` raises {error}{where}.",
    "Running `{check}` fails with {error}{where}.",
)
_BROKEN = ("`{check}` does not hold{message}.", "`{check}` fails{message}.")
_ENDLESS = (
    "`{check}` does not come to an end{where}.",
    "`{check}` runs out of time{where}.",
)
_MENDED = (
    "Line {line}, `{quote}`, is the likely fault: with {note} {outcome}.",
    "The fault seems to be on line {line}, `{quote}`: with {note} {outcome}.",
    "What is wrong is most likely line {line}, `{quote}`; with {note} {outcome}.",
)
_GAP = (
    "Something is missing near line {line}, `{quote}`: with {note} {outcome}.",
    "A step seems to be missing at line {line}, `{quote}`: with {note} {outcome}.",
)
_SUSPECTED = (
    "Suspicion falls on line {line}, `{quote}`{why}.",
    "The fault is probably on line {line}, `{quote}`{why}.",
    "Line {line}, `{quote}`, is the most suspicious{why}.",
)
_ALSO = (
    "Also doubtful: {places}.",
    "Also look at {places}.",
    "Less likely, but possible: {places}.",
)
_UNRUN = (
    "No check runs line {line}, `{quote}`.",
    "Line {line}, `{quote}`, is run by no check.",
)
_SYNTAX = (
    "The code is no valid Python: {message}, on line {line}, `{quote}`.",
    "Python cannot read line {line}, `{quote}`: {message}, so no test can run.",
)
_NO_NAME = (
    "The tests use `{name}`, which the code does not define{instead}.",
    "There is no `{name}` in the code, and the tests call it{instead}.",
)
_SIGNATURE = (
    "`{check}` cannot call it as the tests do: {message}. The signature on line {line}, `{quote}`, "
    "does not fit.",
    "The signature `{quote}` on line {line} is not the one the tests use: {message}, in `{check}`.",
)
_NO_CODE = (
    "There is no code in the answer, so no test can run.",
    "The answer contains no code that could be tested.",
)
_LOAD = (
    "The code cannot be loaded, so no test runs: {message}.",
    "No test runs, because loading the code fails: {message}.",
)
_STUCK = (
    "The run does not come to an end{where}: {message}.",
    "The code does not stop{where}: {message}.",
)
_ENDED = ("The run breaks off: {message}.", "No test comes to its end: {message}.")
_LOAD_PREFIX = "the solution could not be loaded: "


class Critique:
    """Sentences, put together until the limit is reached; the first always stands.

    Args:
        seed: the record's id; decides which of several wordings is taken.
        most: characters.
    """

    def __init__(self, seed: str, most: int) -> None:
        self._bytes = hashlib.sha256(seed.encode("utf-8", "backslashreplace")).digest()
        self._used = 0
        self._most = most
        self._text = ""

    def say(self, variants: Sequence[str], **slots: object) -> bool:
        """Add one sentence if it still fits, and tell whether it did."""
        wording = variants[self._bytes[self._used % len(self._bytes)] % len(variants)]
        self._used += 1
        sentence = wording.format(**slots)
        sentence = sentence[:1].upper() + sentence[1:]
        text = f"{self._text} {sentence}".strip()
        if self._text and len(text) > self._most:
            return False
        self._text = clip(text, self._most)
        return True

    @property
    def text(self) -> str:
        """The critique."""
        return self._text


def say_passed(critique: Critique, source: Source, checks: Sequence[CheckOutcome]) -> None:
    """That everything passes, and what of the code no check runs."""
    total = len(checks)
    critique.say(_PASSED if total > 1 else _PASSED_ONE, total=total)
    covered = frozenset().union(*(check.covered for check in checks))
    unrun = [
        s
        for s in source.statements
        if s.function and not s.is_definition and not covered & set(range(s.first, s.last + 1))
    ]
    if covered and unrun:
        critique.say(_UNRUN, line=unrun[0].first, quote=quote(source, unrun[0]))


def say_failed(critique: Critique, source: Source, checks: Sequence[CheckOutcome]) -> None:
    """How many checks fail, and how the first of them does."""
    failed = [check for check in checks if not check.passed]
    total = len(checks)
    if total == 1:
        critique.say(_FAILED_ONE)
    elif len(failed) == total:
        critique.say(_FAILED_ALL, total=total)
    else:
        numbers = {"failed": len(failed), "passed": total - len(failed), "total": total}
        critique.say(_FAILED_SOME, **numbers)
    say_check(critique, source, failed[0])


def say_check(critique: Critique, source: Source, check: CheckOutcome) -> None:
    """What one failing check expects and gets."""
    shown = clip(check.source, _QUOTE_CHARS)
    line = check.solution_lines[-1] if check.solution_lines else 0
    if check.error_type == TIME_LIMIT:
        where = f": the loop around line {line} does not stop" if line else ""
        critique.say(_ENDLESS, check=shown, where=where)
    elif check.error_type and check.error_type != "AssertionError":
        error = clip(f"{check.error_type}: {check.message}".rstrip(": "), _MESSAGE_CHARS)
        where = f" on line {line}" if line else ""
        critique.say(_RAISED, check=shown, error=error, where=where)
    elif check.expected is not None and check.actual is not None:
        values = {"expected": check.expected, "actual": check.actual}
        values = {name: clip(value, _VALUE_CHARS) for name, value in values.items()}
        critique.say(_WRONG_VALUE, check=shown, **values)
    else:
        message = clip(check.message, _MESSAGE_CHARS)
        critique.say(_BROKEN, check=shown, message=f": {message}" if message else "")


def say_suspects(critique: Critique, source: Source, found: Localisation) -> None:
    """Where the fault is suspected, and why."""
    others = []
    for place, suspect in enumerate(found.suspects):
        slots = {"line": suspect.statement.first, "quote": quote(source, suspect.statement)}
        mended = outcome(suspect, found)
        if mended and suspect.trial.edit.statement is suspect.statement:
            wordings = _GAP if suspect.trial.edit.is_new_line else _MENDED
            critique.say(wordings, note=suspect.trial.edit.note, outcome=mended, **slots)
        elif place:
            others.append("line {line}, `{quote}`".format(**slots))
        else:
            critique.say(_SUSPECTED, why=reason(suspect, found), **slots)
    while others and not critique.say(_ALSO, places="; ".join(others)):
        others.pop()


def outcome(suspect: Suspect, found: Localisation) -> str:
    """What a trial edit of it achieves, "" without one."""
    if suspect.trial is None:
        return ""
    total = suspect.trial.checks
    if suspect.trial.passes:
        return f"all {total} checks pass" if total > 1 else "the check passes"
    return f"{suspect.trial.mended} of the {found.failing} failing checks pass"


def reason(suspect: Suspect, found: Localisation) -> str:
    """Why it is suspected: which checks run it, and whether the error is raised there."""
    reasons = []
    if suspect.hits.failing:
        reasons.append(f"it is run by {_count(suspect.hits.failing, found.failing, 'failing')}")
        if found.passing:
            passing = _count(suspect.hits.passing, found.passing, "passing")
            reasons[0] += f" and {passing}"
    if suspect.in_traceback:
        reasons.append("the error is raised there")
    waits_for = unchanging(suspect.statement) if found.symptoms.endless else []
    if waits_for:
        names = " or ".join(f"`{name}`" for name in waits_for)
        reasons.append(f"nothing inside the loop changes {names}")
    return f": {', and '.join(reasons)}" if reasons else ""


def say_observations(
    critique: Critique, observations: Sequence[Observation], after_fault: bool
) -> None:
    """What could be better."""
    for observation in observations:
        line = observation.statement.first
        start = f"Apart from the fault, on line {line}" if after_fault else f"On line {line}"
        critique.say((f"{start}: {_escape(observation.advice)}.",))


def say_syntax_error(critique: Critique, message: str, line: int, text: str) -> None:
    """That the code cannot be parsed."""
    critique.say(
        _SYNTAX, message=clip(message, _MESSAGE_CHARS), line=line, quote=clip(text, _QUOTE_CHARS)
    )


def say_missing_name(critique: Critique, name: str, instead: str) -> None:
    """That the code lacks what the tests use; `instead` is what it defines, "" for nothing."""
    critique.say(_NO_NAME, name=name, instead=f"; it defines `{instead}`" if instead else "")


def say_signature(critique: Critique, check: CheckOutcome, line: int, text: str) -> None:
    """That the tests pass other arguments than the function takes."""
    slots = {"check": clip(check.source, _QUOTE_CHARS), "quote": clip(text, _QUOTE_CHARS)}
    critique.say(_SIGNATURE, message=clip(check.message, _MESSAGE_CHARS), line=line, **slots)


def say_no_code(critique: Critique) -> None:
    """That there is nothing to run."""
    critique.say(_NO_CODE)


def say_stopped(critique: Critique, log: TestLog) -> None:
    """That no check has an outcome: the code does not load, does not end, or ends the run."""
    message = clip(log.message.removeprefix(_LOAD_PREFIX), _MESSAGE_CHARS)
    if log.error_type == "timeout":
        line = log.solution_lines[-1] if log.solution_lines else 0
        where = f", it was stopped on line {line}" if line else ""
        critique.say(_STUCK, message=message, where=where)
    else:
        loads = log.message.startswith(_LOAD_PREFIX)
        critique.say(_LOAD if loads else _ENDED, message=message)


def quote(source: Source, statement: object) -> str:
    """A statement as the critique shows it, on one line."""
    return clip(source.text[statement.start : statement.end], _QUOTE_CHARS)


def clip(text: str, most: int) -> str:
    """A text on one line, with its end left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def _count(ran: int, all_of_them: int, kind: str) -> str:
    if ran == all_of_them:
        return f"all {ran} {kind} checks" if ran > 1 else f"the {kind} check"
    return f"{ran or 'none'} of the {all_of_them} {kind} checks"


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
