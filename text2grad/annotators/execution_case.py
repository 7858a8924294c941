"""One solution with its test run, and the failures that need no search for a fault."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence

from text2grad.annotators import execution_wording as words
from text2grad.code_blocks import Code
from text2grad.localisation.syntax import Place, Source
from text2grad.outcomes import CheckOutcome, TestLog

_NO_NAME = re.compile(
    r"cannot import name '(\w+)' from 'solution'|module 'solution' has no attribute '(\w+)'"
)
_NAME = re.compile(r"name '(\w+)' is not defined")
_UNREADABLE = re.compile("[\0\ud800-\udfff]")
_SIGNATURE = re.compile(r"(\w+)\(\) (?:takes|missing|got an unexpected keyword|got multiple)")


class Case:
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
    def first_place(self) -> Place:
        """The first statement, or the first line where there is nothing but a comment."""
        if self.source and self.source.statements:
            return self.source.statements[0].place
        lines = self.code.text.split("\n")
        return _line_place(lines, next(n for n, text in enumerate(lines, 1) if text.strip()))

    @property
    def failing(self) -> list[CheckOutcome]:
        """The checks that failed."""
        return [check for check in self.log.checks if not check.passed]


def why_unreadable(test: str) -> str:
    """Why a test file is no Python, "" if it is."""
    try:
        ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return str(error)
    return ""


def say_syntax_error(case: Case) -> Place:
    """Reports where Python stopped reading; the place of that line, or of the first with code."""
    lines = case.code.text.split("\n")
    given = getattr(case.error, "lineno", None) or (case.log.solution_lines or (0,))[-1]
    given = given or _unreadable_line(lines)
    line = min(max(1, given), len(lines))
    while line > 1 and not lines[line - 1].strip():
        line -= 1
    message = getattr(case.error, "msg", None) or str(case.error)
    words.say_syntax_error(case.critique, message, line, lines[line - 1])
    return _line_place(lines, line) if lines[line - 1].strip() else case.first_place


def _unreadable_line(lines: Sequence[str]) -> int:
    """The first line with a character that no source text may hold, 1 if there is none."""
    return next((n for n, text in enumerate(lines, 1) if _UNREADABLE.search(text)), 1)


def missing_name(case: Case) -> str:
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


def say_missing_name(case: Case, source: Source, name: str) -> Place:
    """Reports it; the place of the definition that comes nearest, or of the first statement."""
    top = [s for s in source.statements if s.function is None and not s.parents]
    named = {s.node.name: s for s in top if hasattr(s.node, "name")}
    close = difflib.get_close_matches(name, named, n=1, cutoff=0.0)
    words.say_missing_name(case.critique, name, close[0] if close else "")
    return named[close[0]].place if close else case.first_place


def wrong_signature(case: Case, source: Source) -> Place | None:
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
    return header.place


def _line_place(lines: Sequence[str], line: int) -> Place:
    """The characters of a line without the white space around them."""
    start = sum(len(text) + 1 for text in lines[: line - 1])
    text = lines[line - 1]
    return start + len(text) - len(text.lstrip()), start + len(text.rstrip())
