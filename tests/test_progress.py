"""What a report says of responses with tests, by hand."""

from text2grad.outcomes import TestLog
from text2grad.progress import KEY, outcome_counts, progress_view, result_of, results
from text2grad.report_pairs import before_after
from text2grad.schema import Feedback, Record, Span, Unparseable


def result(outcome, held, checks, **more):
    return {"outcome": outcome, "held": held, "checks": checks} | more


def test_only_what_is_wrong_is_a_fault():
    spans = (Span("x", "wrong_code", 3, 4), Span("y", "improvement_code", 7, 8))
    scores = {"wrong_code": -1.0, "improvement_code": 0.0}
    log = TestLog(False, "timeout")
    bare = {"outcome": "timeout", "checks": 0, "held": 0}
    assert result_of(log, Feedback("why", spans), scores) == bare | {
        "critique": "why",
        "faults": [[3, 4]],
    }
    assert result_of(log, Unparseable("no tests"), scores) == bare
    assert result_of(TestLog(True, None), None, scores)["outcome"] == "solved"


def test_counts():
    found = [result("solved", 2, 2), result("timeout", 0, 0), result("timeout", 1, 4)]
    counts = {"responses": 3, "solved": 1, "checks": 6, "held": 3, "timeout": 2}
    assert outcome_counts(found) == counts
    records = [Record(str(n), "p", fields={KEY: one}) for n, one in enumerate(found)]
    assert results(records) == found
    assert results([*records, Record("4", "p")]) == [], "figures of a part would mislead"


def test_the_table_says_when_the_number_of_solved_problems_says_nothing():
    before = outcome_counts([result("syntax_error", 0, 0)] * 40)
    after = outcome_counts([result("test_failure", 3, 4)] * 39 + [result("solved", 4, 4)])
    view = progress_view({"after": after, "before": before})
    assert view["columns"] == ["before", "after"]
    assert view["rows"] == [
        ["Problems solved whole", "0 of 40", "1 of 40"],
        ["Checks that hold, of those reached", "none was reached", "121 of 160"],
        ["Failed: syntax error", "40", "0"],
        ["Failed: test failure", "0", "39"],
    ]
    assert view["remark"].startswith("Hardly any problem is solved whole")
    good = outcome_counts([result("solved", 1, 1)])
    assert progress_view({"before": before, "after": good})["remark"] == ""
    assert progress_view({}) == {}


def test_an_answer_is_cut_at_its_faults():
    code = "def f(x):\n    y = 1\n    return x"
    faults = [[24, 34], [14, 19]]  # in any order
    one = {"id": "1", "prompt": "p", "reference": "r", "after": code}
    one |= {"after_tests": result("test_failure", 1, 3, faults=faults, critique="why")}
    one |= {"after_scores": {"rougeL": 0.5, "checks_passed": 1 / 3}}
    pairs = before_after({"samples": [one]}, 5)
    assert pairs["score"] == "Checks passed"
    reference, after = pairs["rows"][0]["tests"]
    assert reference is None
    assert after["pieces"] == ["def f(x):\n    ", "y = 1", "\n    ", "return x", ""]
    assert after["outcome"] == "test failure, 1 of 3 checks hold"
    assert after["critique"] == "why"
