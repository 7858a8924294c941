"""pass@k by hand, and the command on solutions whose outcome is known."""

import json
from itertools import combinations

import pytest

from text2grad.config import PassAtKConfig, PolicyMetricsConfig
from text2grad.metrics import evaluate_summaries
from text2grad.pass_at_k import Attempt, pass_at_k, pass_report, pass_table
from text2grad.schema import UserError
from text2grad.solutions import evaluate_pass_at_k

TEST = "from solution import f\n\n\ndef test_f():\n    assert f(1) == 2\n    assert f(2) == 4\n"
RIGHT = "So:\n\n```python\ndef f(x):\n    return 2 * x\n```\nThat is all."
HALF = "```python\ndef f(x):\n    return x + 1\n```"
BROKEN = "```python\ndef f(x:\n```"


@pytest.mark.parametrize(
    ("samples", "solved", "k", "value"),
    [
        (5, 2, 2, 0.7),  # 1 - 3/10: of the ten pairs three avoid both right ones
        (4, 1, 1, 0.25),
        (3, 0, 3, 0.0),
        (3, 1, 3, 1.0),
        (10, 9, 2, 1.0),  # two draws cannot both be the wrong one
    ],
)
def test_pass_at_k_by_hand(samples, solved, k, value):
    assert pass_at_k(samples, solved, k) == pytest.approx(value, abs=1e-12)


def test_pass_at_k_is_the_share_of_all_draws():
    for solved in range(7):
        drawn = list(combinations([True] * solved + [False] * (6 - solved), 3))
        share = sum(any(draw) for draw in drawn) / len(drawn)
        assert pass_at_k(6, solved, 3) == pytest.approx(share, abs=1e-12)
    with pytest.raises(ValueError, match="k = 7 needs at least as many samples, there are 6"):
        pass_at_k(6, 1, 7)


def test_report_by_hand():
    after = [
        Attempt("a", True, 1.0),
        Attempt("a", False, 0.5, "test_failure"),
        Attempt("b", False, 0.0, "timeout"),
        Attempt("b", False, 0.5, "test_failure"),
    ]
    before = [Attempt("a", False, 0.25, "x")] * 2 + [Attempt("b", False, 0.25, "x")] * 2
    report = pass_report(after, before, (1, 2), seed=0)
    figures = report["figures"]
    assert (report["problems"], report["samples"]) == (2, 4)
    assert figures["pass@1"]["value"] == 0.25  # (1/2 + 0) / 2
    assert figures["pass@2"]["value"] == 0.5
    assert figures["checks passed"]["value"] == 0.5  # (0.75 + 0.25) / 2
    assert figures["checks passed"]["change"] == 0.25
    assert report["errors"] == {"test_failure": 2, "timeout": 1}
    assert "+0.250" in pass_table(report)
    assert "before" not in pass_table(pass_report(after, [], (1,), 0))


def write(path, responses, **changes):
    rows = [
        {"id": f"p{n}-{k}", "query": f"Problem {n}?", "response": text, "test": TEST} | changes
        for n, texts in enumerate(responses)
        for k, text in enumerate(texts)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_the_command_runs_the_tests_of_every_solution(tmp_path, capsys):
    after = write(tmp_path / "after.json", [[RIGHT, HALF], [BROKEN, "I do not know."]])
    before = write(tmp_path / "before.json", [[HALF, HALF], [HALF, HALF]])
    output = tmp_path / "out.json"
    flags = {"input_file": after, "output_file": str(output), "k": (1, 2), "workers": 2}
    evaluate_pass_at_k(PassAtKConfig(compare_file=before, **flags))
    report = json.loads(output.read_text("utf-8"))
    assert report["figures"]["pass@1"]["value"] == 0.25
    assert report["figures"]["pass@2"]["value"] == 0.5
    assert report["figures"]["checks passed"]["value"] == 0.375  # (1 + 1/2) / 2, 0
    assert [row["log"]["passed"] for row in report["after"]] == [True, False, False, False]
    assert report["before"][0]["log"]["checks"][1]["actual"] == "3"
    assert "syntax_error" in capsys.readouterr().out
    lines = output.with_suffix(".journal.jsonl").read_text().splitlines()
    assert len(lines) == 4, "of eight responses four are alike: what is alike is run once"
    evaluate_pass_at_k(PassAtKConfig(compare_file=before, **flags))
    assert json.loads(output.read_text("utf-8")) == report
    assert output.with_suffix(".journal.jsonl").read_text().splitlines() == lines, "nor again"


def test_metrics_tell_how_far_the_solutions_get(tmp_path):
    after = write(tmp_path / "after.json", [[RIGHT], [HALF]], reference_solution=RIGHT)
    flags = {"task": "kodcode", "input_file": after, "output_file": str(tmp_path / "m.json")}
    evaluate_summaries(PolicyMetricsConfig(**flags))
    figures = json.loads((tmp_path / "m.json").read_text("utf-8"))["after"]
    assert (figures["solved"], figures["checks_passed"]) == (0.5, 0.75)
    assert "support_score" not in figures


def test_metrics_say_where_failing_solutions_are_at_fault(tmp_path):
    after = write(tmp_path / "after.json", [[RIGHT], [HALF], [BROKEN]], reference_solution=RIGHT)
    before = write(tmp_path / "b.json", [[HALF], [HALF], [HALF]], reference_solution=RIGHT)
    flags = {"task": "kodcode", "input_file": after, "compare_file": before}
    flags |= {"output_file": str(tmp_path / "m.json"), "workers": 2}
    evaluate_summaries(PolicyMetricsConfig(**flags))
    report = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert report["tests"] == {
        "before": {"responses": 3, "solved": 0, "checks": 6, "held": 3, "test_failure": 3},
        "after": {"responses": 3, "solved": 1, "checks": 4, "held": 3}
        | {"syntax_error": 1, "test_failure": 1},
    }
    right, half, broken = (sample["after_tests"] for sample in report["samples"])
    assert right == {"outcome": "solved", "checks": 2, "held": 2}
    ((start, end),) = half["faults"]
    assert HALF[start:end] == "return x + 1"
    assert "expected" in half["critique"]
    assert broken["outcome"] == "syntax_error"

    evaluate_summaries(PolicyMetricsConfig(**flags, localisation_seconds=0.0))
    report = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert report["samples"][1]["after_tests"] == {"outcome": "test_failure"} | {
        "checks": 2,
        "held": 1,
    }


def test_mistakes_are_one_line(tmp_path):
    flags = {"output_file": str(tmp_path / "o.json"), "workers": 1}
    bare = write(tmp_path / "bare.json", [[RIGHT]], test=None)
    with pytest.raises(UserError, match=r"bare\.json, record 1 .*has no tests.*test, test_code"):
        evaluate_pass_at_k(PassAtKConfig(input_file=bare, **flags))
    one = write(tmp_path / "one.json", [[HALF]])
    with pytest.raises(UserError, match=r"--k 1 5: k = 5 needs .*there are 1; .*samples_per_pro"):
        evaluate_pass_at_k(PassAtKConfig(input_file=one, k=(1, 5), **flags))
    other = write(tmp_path / "other.json", [[HALF]], query="Another?")
    with pytest.raises(UserError, match=r"--compare_file .*: 2 prompts are in one of the two"):
        evaluate_pass_at_k(PassAtKConfig(input_file=one, compare_file=other, **flags))
    with pytest.raises(UserError, match=r"--k 0: must be 1 or more"):
        PassAtKConfig(k=(0,))
