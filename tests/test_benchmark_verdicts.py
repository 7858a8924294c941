"""Verdicts beside somebody else's: what agrees, what differs and why."""

import json
import sys

import pytest
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import verdicts

TEST = "from solution import f\n\ndef test_f():\n    assert f(1) == 2\n"
GOOD, BAD = "def f(x):\n    return x + 1\n", "def f(x):\n    return x\n"


def rows(*trials):
    names = ("question_id", "solution", "test", "upstream_status")
    return [dict(zip(names, trial, strict=True)) for trial in trials]


def run(path, monkeypatch, trials, *words):
    path.write_text(json.dumps(trials))
    monkeypatch.setattr(sys, "argv", ["verdicts.py", "--data_path", str(path), *words])
    verdicts.main()


def test_what_differs_is_named_with_its_reason(tmp_path, monkeypatch, capsys):
    trials = rows(
        ("a", GOOD, TEST, "pass"),
        ("b", BAD, TEST, "fail"),
        ("b", BAD, TEST, "pass"),
        ("c", GOOD, TEST, "fail"),
        ("d", GOOD, f"import no_such_module\n{TEST}", "pass"),
        ("e", f"import no_such_module\n{GOOD}", TEST, "fail"),
    )
    run(tmp_path / "trials.json", monkeypatch, trials)
    text = capsys.readouterr().out
    counts = [line.split()[-2:] for line in text.splitlines()[2:6]]
    assert counts == [["3", "0.500"], ["1", "0.167"], ["1", "0.167"], ["1", "0.167"]]
    assert "b-2: passed there only: test_f, line 4: assert f(1) == 2: expected 2, got 1" in text
    assert "c: passed here only: every test passed" in text
    assert "d: a module is missing here: " in text
    assert "\na: " not in text


def test_the_other_verdict_may_be_under_another_key(tmp_path, monkeypatch, capsys):
    trials = [{"solution": GOOD, "test": TEST, "ok": True}]
    run(tmp_path / "t.json", monkeypatch, trials, "--status_key", "ok", "--json")
    [row] = json.loads(capsys.readouterr().out)
    assert (row["kind"], row["passed_here"], row["message"]) == ("agree", True, "")
    with pytest.raises(SystemExit, match=r'record 1 .*"upstream_status" is none, neither pass nor'):
        run(tmp_path / "t.json", monkeypatch, trials)
