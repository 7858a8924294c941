"""What the tests said of a solution, as an annotator is told."""

from __future__ import annotations

from collections.abc import Mapping

from text2grad.outcomes import LOG_KEY
from text2grad.schema import Record, UserError

MAX_TEST_CHARS = 6000
MAX_OUTPUT_CHARS = 3000
_CUT = "\n[... left out ...]\n"
_FAILED = """Its tests were run: the solution failed them ({reason}).

<tests>
{tests}
</tests>

<error_output>
{output}
</error_output>"""


def tests_verdict(record: Record) -> str:
    """The verdict, and for a solution that failed its tests and all they printed.

    Long texts lose their middle: a test file begins with what it imports, and what failed is told
    at the end of the output.

    Raises:
        UserError: the record does not say what its tests said.
    """
    log = record.fields.get(LOG_KEY)
    if not isinstance(log, Mapping) or not isinstance(log.get("passed"), bool):
        raise UserError(
            f'{record.origin}: no result of its tests: expected "{LOG_KEY}" with "passed"; run '
            "test_case.py first"
        )
    if log["passed"]:
        return "Its tests were run: the solution passed all of them."
    printed = [str(log[key]).strip("\n") for key in ("stdout", "stderr") if log.get(key)]
    return _FAILED.format(
        reason=str(log.get("error_type") or "no reason given").replace("_", " "),
        tests=_shorten(record.test.strip("\n"), MAX_TEST_CHARS),
        output=_shorten("\n".join(printed), MAX_OUTPUT_CHARS),
    )


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    keep = limit - len(_CUT)
    return f"{text[: keep // 3]}{_CUT}{text[len(text) - (keep - keep // 3) :]}"
