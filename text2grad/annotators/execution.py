"""Annotator without a model: runs the tests, finds the faulty statements, says what is wrong.

Passing code gets no `wrong_code`. Failing code always gets some: the few statements that coverage,
trial edits, tracebacks and the syntax tree point to (`text2grad.localisation`). What cannot be
tested here, for want of a module for instance, is a failure with its reason and no feedback.
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.annotators import execution_wording as words
from text2grad.code_blocks import Code, extract_code
from text2grad.files import sha256_text
from text2grad.localisation.observations import observe
from text2grad.localisation.search import Localisation, localise
from text2grad.localisation.syntax import Place, Source, Statement
from text2grad.outcomes import CheckOutcome, TestLog
from text2grad.records import message_text
from text2grad.sandbox import Limits, Sandbox
from text2grad.schema import Feedback, Record, Span, Unparseable
from text2grad.tasks import TaskSpec
from text2grad.unit_tests import run_tests, run_variants

VERSION = 1  # of the answers; part of the key under which they are kept
_NO_NAME = re.compile(
    r"cannot import name '(\w+)' from 'solution'|module 'solution' has no attribute '(\w+)'"
)
_NAME = re.compile(r"name '(\w+)' is not defined")
_SIGNATURE = re.compile(r"(\w+)\(\) (?:takes|missing|got an unexpected keyword|got multiple)")
_NO_VERDICT = ("tampered", "no_tests")  # they say nothing of the code that could be quoted


@dataclass(frozen=True)
class ExecutionSettings:
    """How the annotator works.

    Attributes:
        test_seconds: processor time of one test run.
        localisation_seconds: time for the trial edits of one failing solution.
        workers: records under way at once.
    """

    test_seconds: float = 10.0
    localisation_seconds: float = 10.0
    workers: int = 1


class ExecutionAnnotator:
    """Critiques from test runs; no model, no network.

    Args:
        task: names the keys that hold the tests; its label of lowest score is for faulty code, the
            other one for code that could be better.
        sandbox: where everything is run.
        settings: time limits and workers.
    """

    is_costly = True

    def __init__(
        self,
        task: TaskSpec,
        sandbox: Sandbox,
        settings: ExecutionSettings = ExecutionSettings(),
    ) -> None:
        self._task = task
        self._sandbox = sandbox
        self._settings = settings
        ordered = sorted(task.labels, key=lambda label: label.score)
        self._wrong, self._improvable = ordered[0].name, ordered[-1].name

    def provenance(self) -> dict[str, Any]:
        """What the annotated record says about its annotator."""
        return {
            "annotator": "execution",
            "sandbox": self._sandbox.tier,
            "localisation_seconds": self._settings.localisation_seconds,
        }

    def key(self, record: Record) -> str:
        """Hash of the response, its tests and the limits."""
        settings = self._settings
        limits = f"{settings.test_seconds}/{settings.localisation_seconds}"
        version = f"execution {VERSION}"
        return sha256_text(version, record.id, record.response, self._test(record), limits)

    def annotate(self, records: Sequence[Record], done: OnAnswer = ignore) -> list[Answer]:
        """One answer per record, in order; `done` gets each as it comes.

        Raises:
            UserError: the sandbox does not start.
        """
        answers: list[Answer] = [Unparseable("not reached")] * len(records)
        with ThreadPoolExecutor(max(1, self._settings.workers)) as pool:
            places: dict[Future, int] = {
                pool.submit(self._judge, record): place for place, record in enumerate(records)
            }
            try:
                for future in as_completed(places):
                    answers[places[future]] = future.result()
                    done(places[future], answers[places[future]])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return answers

    def _test(self, record: Record) -> str:
        for key in self._task.test_keys:
            text = message_text(record.fields.get(key))
            if text and text.strip():
                return text
        return ""

    def _judge(self, record: Record) -> Answer:
        test = self._test(record)
        if not test:
            keys = ", ".join(self._task.test_keys) or "none for this task"
            return Unparseable(f"the record has no tests (keys: {keys})")
        critique = words.Critique(record.id, self._task.max_critique_chars)
        code = extract_code(record.response)
        if not code.text.strip():
            words.say_no_code(critique)
            return Feedback(critique.text)
        unreadable = _unreadable(test)
        if unreadable:
            return Unparseable(f"the tests are no valid Python: {unreadable}")
        log = run_tests(self._sandbox, code.text, test, self._limits(self._settings.test_seconds))
        missing = [name for name in log.missing_modules if name != "solution"]
        if missing:
            return Unparseable(f"not installed here: {', '.join(missing)}", log.message)
        if log.error_type in _NO_VERDICT:
            return Unparseable(f"{log.error_type.replace('_', ' ')}: {log.message}")
        case = _Case(record.response, code, test, log, critique)
        wrong, improvable = self._find(case)
        return Feedback(critique.text, (*self._spans(case, wrong, improvable),))

    def _find(self, case: _Case) -> tuple[list[Place], list[Place]]:
        """Places of the code that are wrong and that could be better; writes the critique."""
        source = case.source
        if source is None:
            return [_say_syntax_error(case)], []
        if case.log.passed:
            words.say_passed(case.critique, source, case.log.checks)
            return [], self._observe(case, source, [])
        wrong = self._blame(case, source)
        return wrong, self._observe(case, source, wrong)

    def _blame(self, case: _Case, source: Source) -> list[Place]:
        name = _missing_name(case)
        if name:
            return [_say_missing_name(case, source, name)]
        signature = _signature(case, source)
        if signature:
            return [signature]
        found = self._localise(case, source)
        if any(not check.passed for check in case.log.checks):
            words.say_failed(case.critique, source, case.log.checks)
        else:
            words.say_stopped(case.critique, case.log)
        words.say_suspects(case.critique, source, found)
        places = [(s.statement.start, s.statement.end) for s in found.suspects]
        return places or [_place(statement) for statement in source.statements[:1]]

    def _localise(self, case: _Case, source: Source) -> Localisation:
        seconds = self._settings.localisation_seconds
        # A variant that takes much longer than the solution did is in an endless loop of its own.
        own = 0.0 if case.log.error_type == "timeout" else 3 * case.log.seconds
        own = min(self._settings.test_seconds, max(1.0, own))
        limits = Limits(wall_seconds=own, cpu_seconds=math.ceil(own))
        return localise(
            source,
            case.log,
            lambda variants: run_variants(self._sandbox, variants, case.test, limits),
            seconds,
        )

    def _limits(self, seconds: float) -> Limits:
        # Wall time only stops what sleeps; a busy machine must not make a slow verdict a wrong one.
        return Limits(wall_seconds=2 * seconds + 1, cpu_seconds=max(1, round(seconds)))

    def _observe(self, case: _Case, source: Source, wrong: Sequence[Place]) -> list[Place]:
        """Places outside the faulty ones that could be better."""
        used = frozenset(re.findall(r"\w+", case.test))
        free = [
            observation
            for observation in observe(source, used)
            if not any(_overlap(_place(observation.statement), place) for place in wrong)
        ][: self._task.max_quotes]
        words.say_observations(case.critique, free, bool(wrong))
        return list(dict.fromkeys(_place(observation.statement) for observation in free))

    def _spans(
        self, case: _Case, wrong: Sequence[Place], improvable: Sequence[Place]
    ) -> list[Span]:
        """The places as quotes of the response, in the order of the text."""
        labelled = [(place, self._wrong) for place in wrong[: self._task.max_quotes]]
        labelled += [(place, self._improvable) for place in improvable]
        spans = []
        for (start, end), label in sorted(labelled):
            first, last = case.code.place(start, end)
            text = _shorten(case.response[first:last], self._task.max_quote_chars)
            spans.append(Span(text, label, first, first + len(text)))
        return spans


class _Case:
    """One solution with its test run.

    Attributes:
        code: of the response.
        test, log: its tests and what they said.
        critique: to be written.
        source: the code's syntax tree, None where it has none.
    """

    def __init__(
        self, response: str, code: Code, test: str, log: TestLog, critique: words.Critique
    ) -> None:
        self.response = response
        self.code, self.test, self.log, self.critique = code, test, log, critique
        self.error: SyntaxError | ValueError | None = None
        self.source: Source | None = None
        try:
            self.source = Source(code.text)
        except (SyntaxError, ValueError) as error:
            self.error = error

    @property
    def failing(self) -> list[CheckOutcome]:
        """The checks that failed."""
        return [check for check in self.log.checks if not check.passed]


def _unreadable(test: str) -> str:
    """Why a test file is no Python, "" if it is."""
    try:
        ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""


def _say_syntax_error(case: _Case) -> Place:
    """Reports where Python stopped reading; the place of that line, or of the first with code."""
    lines = case.code.text.split("\n")
    given = getattr(case.error, "lineno", None) or (case.log.solution_lines or (1,))[-1]
    line = min(max(1, given), len(lines))
    while line > 1 and not lines[line - 1].strip():
        line -= 1
    if not lines[line - 1].strip():
        line = next(number for number, text in enumerate(lines, 1) if text.strip())
    message = getattr(case.error, "msg", None) or str(case.error)
    words.say_syntax_error(case.critique, message, line, lines[line - 1])
    return _line_place(lines, line)


def _missing_name(case: _Case) -> str:
    """A name that the tests use and the code does not have, "" for none."""
    texts = [check.message for check in case.failing if not check.solution_lines]
    if not case.log.solution_lines:
        texts.append(case.log.message)
    for text in texts:
        match = _NO_NAME.search(text)
        if match:
            return match[1] or match[2]
    defined = {node.name for node in ast.walk(case.source.tree) if hasattr(node, "name")}
    for check in case.failing:
        match = _NAME.search(check.message) if check.error_type == "NameError" else None
        if match and not check.solution_lines and match[1] not in defined:
            return match[1]
    return ""


def _say_missing_name(case: _Case, source: Source, name: str) -> Place:
    """Reports it; the place of the definition that comes nearest, or of the first statement."""
    top = [s for s in source.statements if s.function is None and not s.parents]
    named = {s.node.name: s for s in top if hasattr(s.node, "name")}
    close = difflib.get_close_matches(name, named, n=1, cutoff=0.0)
    words.say_missing_name(case.critique, name, close[0] if close else "")
    return _place(named[close[0]] if close else source.statements[0])


def _signature(case: _Case, source: Source) -> Place | None:
    """Where every failing check cannot even call a function: the place of its header."""
    if not case.failing:
        return None
    for check in case.failing:
        match = _SIGNATURE.search(check.message)
        header = next(
            (s for s in source.statements if match and getattr(s.node, "name", "") == match[1]),
            None,
        )
        if check.error_type != "TypeError" or check.solution_lines or header is None:
            return None
    words.say_signature(case.critique, check, header.first, words.quote(source, header))
    return _place(header)


def _shorten(text: str, most: int) -> str:
    """A quote of at most so many characters, cut at the end of a line where there is one."""
    if len(text) <= most:
        return text.rstrip()
    lines = text[:most].rpartition("\n")[0]
    return (lines or text[:most]).rstrip()


def _line_place(lines: Sequence[str], line: int) -> Place:
    """The characters of a line without the white space around them."""
    start = sum(len(text) + 1 for text in lines[: line - 1])
    text = lines[line - 1]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())


def _place(statement: Statement) -> Place:
    return statement.start, statement.end


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[1] and other[0] < one[1]
