"""How far responses get under their tests, and where those that fail are at fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from text2grad.outcomes import TestLog
from text2grad.schema import Feedback, Record, Unparseable

KEY = "test_result"
PASSED = "solved"
FEW = 0.05  # below this share of solved problems their number says next to nothing


def result_of(
    log: TestLog, said: Feedback | Unparseable | None, label_scores: Mapping[str, float]
) -> dict[str, Any]:
    """What a record carries of its test run under `KEY`.

    Args:
        log: of the run.
        said: the critique of a response that failed, if the faults were looked for.
        label_scores: those of the task; a span whose label scores below 0 is a fault.

    Returns:
        "outcome" ("solved", or why not), "checks" and how many "held"; with a critique also
        "critique" and "faults", [start, end) in characters of the response.
    """
    result: dict[str, Any] = {"outcome": PASSED if log.passed else log.error_type or "test_failure"}
    result |= {"checks": len(log.checks), "held": sum(check.passed for check in log.checks)}
    if isinstance(said, Feedback):
        faults = [span for span in said.spans if label_scores[span.label] < 0]
        result["critique"] = said.critique
        result["faults"] = [[span.start, span.end] for span in faults if span.start is not None]
    return result


def results(records: Sequence[Record]) -> list[Mapping[str, Any]]:
    """The test results of all records, none unless every record has one."""
    found = [record.fields.get(KEY) for record in records]
    return found if all(isinstance(one, Mapping) for one in found) else []


def outcome_counts(found: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Responses by outcome, and "checks" with "held" summed over all."""
    counts = Counter(one["outcome"] for one in found)
    sums = {name: sum(one[name] for one in found) for name in ("checks", "held")}
    return {"responses": len(found), PASSED: counts.pop(PASSED, 0), **sums} | dict(counts)


def progress_view(tests: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """The table of an evaluation's "tests" and what it allows to be said, {} without any.

    Args:
        tests: `outcome_counts` under "after" and, where there was one, "before".

    Returns:
        "columns", "rows" (name, then a text per column) and "remark".
    """
    columns = [when for when in ("before", "after") if when in tests]
    if not columns:
        return {}
    sides = [tests[when] for when in columns]
    rows = [
        ["Problems solved whole", *(f"{side[PASSED]} of {side['responses']}" for side in sides)],
        [
            "Checks that hold, of those reached",
            *(_share(side["held"], side["checks"]) for side in sides),
        ],
    ]
    known = ("responses", "checks", "held", PASSED)
    reasons = sorted({name for side in sides for name in side if name not in known})
    rows += [
        [f"Failed: {name.replace('_', ' ')}", *(f"{side.get(name, 0)}" for side in sides)]
        for name in reasons
    ]
    return {"columns": columns, "rows": rows, "remark": _remark(sides)}


def _remark(sides: Sequence[Mapping[str, int]]) -> str:
    if any(side[PASSED] > FEW * side["responses"] for side in sides):
        return ""
    return (
        "Hardly any problem is solved whole, so their number says next to nothing here. Read how "
        "many single checks hold, and below each answer where its fault lies."
    )


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole}" if whole else "none was reached"
