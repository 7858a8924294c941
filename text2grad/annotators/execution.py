"""Annotator without a model: runs the tests, finds the faulty statements, says what is wrong.

Passing code gets no `wrong_code`. Failing code always gets some: the few statements that coverage,
trial edits, tracebacks and the syntax tree point to (`text2grad.localisation`). What cannot be
tested here, for want of a module for instance, is a failure with its reason and no feedback.
"""

from __future__ import annotations

import math
import re
import tokenize
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from text2grad.annotators import Answer, OnAnswer, ignore
from text2grad.annotators import execution_wording as words
from text2grad.annotators.execution_case import (
    Case,
    missing_name,
    say_missing_name,
    say_syntax_error,
    why_unreadable,
    wrong_signature,
)
from text2grad.code_blocks import extract_code
from text2grad.files import sha256_text
from text2grad.localisation.observations import observe
from text2grad.localisation.search import MOST_CHARS, Localisation, localise
from text2grad.localisation.syntax import Place, Source
from text2grad.sandbox import Limits, Sandbox
from text2grad.schema import Feedback, Record, Span, Unparseable
from text2grad.tasks import TaskSpec
from text2grad.unit_tests import run_tests, run_variants

VERSION = 1  # of the answers; part of the key under which they are kept
_NO_VERDICT = ("tampered", "no_tests")  # they say nothing of the code that could be quoted


@dataclass(frozen=True)
class ExecutionSettings:
    """How the annotator works.

    Attributes:
        limits: of the tests of one response. The wall time is the longer one: it only stops what
            sleeps, and a busy machine must not make a slow verdict a wrong one.
        localisation_seconds: time for the trial edits of one failing response.
        workers: records under way at once.
    """

    limits: Limits = Limits(wall_seconds=30.0, cpu_seconds=10)
    localisation_seconds: float = 10.0
    workers: int = 1


class ExecutionAnnotator:
    """Critiques from test runs; no model, no network.

    Args:
        task: names the keys that hold the tests; its label of lowest score is for faulty code, the
            one of highest for code that could be better.
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
        limits = f"{settings.limits}/{settings.localisation_seconds}"
        version = f"execution {VERSION}"
        return sha256_text(version, record.id, record.response, record.test, limits)

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

    def _judge(self, record: Record) -> Answer:
        if not record.test:
            keys = ", ".join(self._task.test_keys)
            return Unparseable(f"the record has no tests (keys: {keys})")
        critique = words.Critique(record.id, self._task.max_critique_chars)
        code = extract_code(record.response)
        if not code.text.strip():
            words.say_no_code(critique)
            return Feedback(critique.text)
        unreadable = why_unreadable(record.test)
        if unreadable:
            return Unparseable(f"the tests are no valid Python: {unreadable}")
        log = run_tests(self._sandbox, code.text, record.test, self._settings.limits)
        missing = [name for name in log.missing_modules if name != "solution"]
        if missing:
            return Unparseable(f"not installed here: {', '.join(missing)}", log.message)
        if log.error_type in _NO_VERDICT:
            return Unparseable(f"{log.error_type.replace('_', ' ')}: {log.message}")
        try:
            case = Case(record.response, code, record.test, log, critique)
            wrong, improvable = self._find(case)
        except (RecursionError, MemoryError, tokenize.TokenError) as error:
            return Unparseable(f"the code cannot be searched: {type(error).__name__}: {error}")
        return Feedback(critique.text, (*self._spans(case, wrong, improvable),))

    def _find(self, case: Case) -> tuple[list[Place], list[Place]]:
        """Places of the code that are wrong and that could be better; writes the critique."""
        source = case.source
        if source is None:
            return [say_syntax_error(case)], []
        if case.log.passed:
            words.say_passed(case.critique, source, case.log.checks)
            return [], self._observe(case, source, [])
        wrong = self._blame(case, source)
        return wrong, self._observe(case, source, wrong)

    def _blame(self, case: Case, source: Source) -> list[Place]:
        name = missing_name(case)
        if name:
            return [say_missing_name(case, source, name)]
        signature = wrong_signature(case, source)
        if signature:
            return [signature]
        found = self._localise(case, source)
        if any(not check.passed for check in case.log.checks):
            words.say_failed(case.critique, source, case.log.checks)
        else:
            words.say_stopped(case.critique, case.log)
        words.say_suspects(case.critique, source, found)
        return [suspect.statement.place for suspect in found.suspects] or [case.first_place]

    def _localise(self, case: Case, source: Source) -> Localisation:
        seconds = self._settings.localisation_seconds
        # A variant that takes much longer than the solution did is in an endless loop of its own.
        own = 0.0 if case.log.error_type == "timeout" else 3 * case.log.seconds
        own = min(self._settings.limits.cpu_seconds, max(1.0, own))
        limits = Limits(wall_seconds=own, cpu_seconds=math.ceil(own))
        return localise(
            source,
            case.log,
            lambda variants: run_variants(self._sandbox, variants, case.test, limits),
            seconds,
        )

    def _observe(self, case: Case, source: Source, wrong: Sequence[Place]) -> list[Place]:
        """Places outside the faulty ones that could be better."""
        if len(source.text) > MOST_CHARS:
            return []
        used = frozenset(re.findall(r"\w+", case.test))
        free = [
            observation
            for observation in observe(source, used)
            if not any(_overlap(observation.statement.place, place) for place in wrong)
        ][: self._task.max_quotes]
        words.say_observations(case.critique, free, bool(wrong))
        return list(dict.fromkeys(observation.statement.place for observation in free))

    def _spans(self, case: Case, wrong: Sequence[Place], improvable: Sequence[Place]) -> list[Span]:
        """The places as quotes of the response, in the order of the text."""
        labelled = [(place, self._wrong) for place in wrong[: self._task.max_quotes]]
        labelled += [(place, self._improvable) for place in improvable]
        spans = []
        for (start, end), label in sorted(labelled):
            first, last = case.code.place(start, end)
            text = _shorten(case.response[first:last], self._task.max_quote_chars)
            spans.append(Span(text, label, first, first + len(text)))
        return spans


def _shorten(text: str, most: int) -> str:
    """A quote of at most so many characters, cut at the end of a line where there is one."""
    if len(text) <= most:
        return text.rstrip()
    lines = text[:most].rpartition("\n")[0]
    return (lines or text[:most]).rstrip()


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[1] and other[0] < one[1]
