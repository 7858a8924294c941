"""The execution annotator: what it says and quotes for every way in which a solution can end."""

import json

import pytest

from text2grad.annotate import annotate_file
from text2grad.annotators.execution import ExecutionAnnotator, ExecutionSettings
from text2grad.annotators.execution_wording import Critique, clip
from text2grad.config import AnnotateConfig
from text2grad.files import read_rows, write_rows
from text2grad.sandbox import Limits, find_sandbox
from text2grad.schema import Feedback, Record, Unparseable
from text2grad.tasks import get_task

TASK = get_task("kodcode")
TEST = """\
from solution import *

def test_f():
    assert f([3, 1, 2]) == 3
    assert f([1]) == 1
    assert f([1, 5, 2]) == 5
    assert f([]) is None
"""
RIGHT = """\
def f(xs):
    if not xs:
        return None
    best = xs[0]
    for x in xs:
        if x > best:
            best = x
    return best
"""
WRONG = RIGHT.replace("x > best", "x < best")
LINES = "".join(f"   {line}" for line in WRONG.splitlines(keepends=True))
FENCED = f"Look:\n\n1. The code:\n   ```python\n{LINES}   ```\n"

# name: (response, tests, what the critique says, what is wrong_code)
CASES = {
    "right": (RIGHT, TEST, ["4 checks"], []),
    "wrong": (WRONG, TEST, ["2 of 4 checks", "f([3, 1, 2]) == 3", "line 6"], None),
    "fenced": (FENCED, TEST, ["line 6", "`>`"], ["if x < best:"]),
    "guard": (
        RIGHT.replace("    if not xs:\n        return None\n", ""),
        TEST,
        ["IndexError", "on line 2", "`if not xs: return None`"],
        ["best = xs[0]"],
    ),
    "undefined": (
        RIGHT.replace("    best = xs[0]\n", ""),
        TEST,
        ["UnboundLocalError", "best"],
        None,
    ),
    "no return": (RIGHT.replace("    return best\n", ""), TEST, ["3 of 4 checks", "None"], None),
    "syntax": ("def f(xs):\n    return (xs\n", TEST, ["never closed", "line 2"], ["return (xs"]),
    "null byte": (
        "def f(xs):\n    return '\0'\n",
        TEST,
        ["null bytes", "line 2"],
        ["return '\0'"],
    ),
    "byte order mark": ("\ufeffdef f(xs):\n    return 3\n", TEST, ["line 2"], None),
    "other name": ("def g(xs):\n    return max(xs)\n", TEST, ["`f`", "`g`"], ["def g(xs):"]),
    "not imported": (
        "def g(xs):\n    return max(xs)\n",
        TEST.replace("*", "f"),
        ["`f`", "`g`"],
        ["def g(xs):"],
    ),
    "signature": (
        "def f(xs, k):\n    return max(xs)\n",
        TEST,
        ["signature", "missing 1 required positional argument: 'k'"],
        ["def f(xs, k):"],
    ),
    "endless": (
        "def f(xs):\n    i = 0\n    while i < len(xs):\n        best = xs[i]\n    return best\n",
        TEST,
        ["nothing inside the loop changes `i` or `xs`"],
        None,
    ),
    "not loaded": (
        f"x = 1 / 0\n{RIGHT}",
        TEST,
        ["ZeroDivisionError: division by zero", "the error is raised there"],
        ["x = 1 / 0"],
    ),
    "exits": ("import os\n\ndef f(xs):\n    os._exit(0)\n", TEST, ["status 0"], ["os._exit(0)"]),
    "only a comment": ("```python\n\n# f\n```", TEST, ["`f`"], ["# f"]),
    "only blanks": ("```python\n  \n```", TEST, ["no code"], []),
    "prose": ("I think that it is 5.", TEST, ["no code"], []),
}
MENDED = ("fenced", "guard")
UNTESTED = {
    "module": (f"import no_such_module\n{RIGHT}", TEST, "not installed here: no_such_module"),
    "nested": (f"{RIGHT}\nx = {'-' * 5000}1\n", TEST, "the code cannot be searched"),
    "no tests": (RIGHT, "", "the record has no tests (keys: test, test_code)"),
    "empty tests": (RIGHT, "from solution import *\n", "no tests: no test function ran"),
    "broken tests": (RIGHT, "def test(:\n", "the tests are no valid Python"),
    "tampered": (
        "class E:\n    __hash__ = None\n    def __eq__(self, other):\n        return True\n\n"
        "def f(xs):\n    return E()\n",
        TEST,
        "tampered",
    ),
}


def record(name, response, test):
    return Record(name, "question", response, test=test)


@pytest.fixture(scope="module")
def sandbox():
    return find_sandbox()


@pytest.fixture(scope="module")
def annotator(sandbox):
    """Without trial edits, so that nothing depends on how fast the machine is."""
    settings = ExecutionSettings(Limits(3.0, 1), localisation_seconds=0.0, workers=2)
    return ExecutionAnnotator(TASK, sandbox, settings)


@pytest.fixture(scope="module")
def answers(sandbox, annotator):
    """All cases, as the annotation loop asks for them; two with all the time for trial edits."""
    cases = {**CASES, **UNTESTED}
    places = []
    records = [record(name, *case[:2]) for name, case in cases.items()]
    found = annotator.annotate(records, lambda place, answer: places.append(place))
    assert sorted(places) == list(range(len(records)))
    patient = ExecutionAnnotator(TASK, sandbox, ExecutionSettings(localisation_seconds=200.0))
    mended = patient.annotate([r for r in records if r.id in MENDED])
    return {**dict(zip(cases, found, strict=True)), **dict(zip(MENDED, mended, strict=True))}


@pytest.mark.parametrize("name", CASES)
def test_says_and_quotes(name, answers):
    response, _, said, wrong = CASES[name]
    answer = answers[name]
    assert isinstance(answer, Feedback), answer
    for part in said:
        assert part in answer.critique
    assert len(answer.critique) <= TASK.max_critique_chars
    quotes = [span.text for span in answer.spans if span.label == "wrong_code"]
    assert 1 <= len(quotes) <= TASK.max_quotes if wrong is None else quotes == wrong
    for span in answer.spans:
        assert response[span.start : span.end] == span.text
        assert span.text == span.text.strip()


@pytest.mark.parametrize("name", UNTESTED)
def test_what_cannot_be_tested_is_no_feedback(name, answers):
    assert isinstance(answers[name], Unparseable)
    assert answers[name].reason.startswith(UNTESTED[name][2])


def test_a_loop_that_does_not_end_is_quoted(answers):
    assert "while i < len(xs):" in [span.text for span in answers["endless"].spans]


def test_code_that_could_be_better(annotator):
    slow = "def f(xs):\n    out = []\n    unused = 1\n    return max(xs) if xs else None\n    xs\n"
    [answer] = annotator.annotate([record("slow", slow, TEST)])
    quotes = {span.text: span.label for span in answer.spans}
    assert quotes == {
        "out = []": "improvement_code",
        "unused = 1": "improvement_code",
        "xs": "improvement_code",
    }
    assert "`unused` is given a value that is never used" in answer.critique


def test_the_same_record_gets_the_same_critique_and_others_other_words(annotator):
    same = [record("one", RIGHT, TEST)] * 2
    others = [record(f"record {n}", RIGHT, TEST) for n in range(6)]
    answers = annotator.annotate([*same, *others])
    assert answers[0] == answers[1]
    assert len({answer.critique for answer in answers}) > 1


def test_key_changes_with_all_that_the_answer_depends_on(sandbox, annotator):
    base = annotator.key(record("a", RIGHT, TEST))
    assert base == annotator.key(record("a", RIGHT, TEST))
    others = [record("b", RIGHT, TEST), record("a", WRONG, TEST), record("a", RIGHT, TEST + "#")]
    assert base not in [annotator.key(other) for other in others]
    settings = ExecutionSettings(localisation_seconds=3.0)
    other = ExecutionAnnotator(TASK, sandbox, settings)
    assert other.key(record("a", RIGHT, TEST)) != base


def test_a_long_solution_is_searched_without_trial_edits(sandbox):
    patient = ExecutionAnnotator(TASK, sandbox, ExecutionSettings(localisation_seconds=600.0))
    [answer] = patient.annotate([record("long", "y = 1\n" * 9_000 + WRONG, TEST)])
    assert "2 of 4 checks" in answer.critique
    assert 1 <= len(answer.spans) <= TASK.max_quotes
    assert all(span.start > 54_000 for span in answer.spans)


def test_an_interrupted_run_goes_on_and_keeps_the_places(tmp_path, monkeypatch):
    twice = RIGHT.replace("    return best\n", "    best = best\n    best = best\n")
    rows = [{"id": "a", "question": "q", "solution": twice, "test": TEST}]
    rows.append({"id": "b", "question": "q", "solution": RIGHT, "test": "def test(:"})
    write_rows(tmp_path / "in.json", rows)
    args = AnnotateConfig(
        task="kodcode",
        data_path=str(tmp_path / "in.json"),
        output_path=str(tmp_path / "out.json"),
        annotator="execution",
        localisation_seconds=0.0,
    )
    annotate_file(args)
    first = (tmp_path / "out.json").read_text()
    [row] = json.loads(first)
    assert row["annotation"]["annotator"] == "execution"
    assert row["wrong_code"]
    for span in row["spans"]:
        assert span["match"] == "exact"
        assert twice[span["start"] : span["end"]] == span["text"]
    [failed] = read_rows(tmp_path / "out.failed.jsonl")
    assert failed["id"] == "b"
    monkeypatch.setattr("text2grad.annotators.execution.run_tests", lambda *_: pytest.fail("run"))
    annotate_file(args)
    assert (tmp_path / "out.json").read_text() == first


def test_sentences_are_left_out_whole_and_the_first_is_cut():
    critique = Critique("id", 20)
    critique.say(("It fails.",))
    critique.say(("This sentence is too long to stand.",))
    critique.say(("Short {x}.",), x="{y}")
    assert critique.text == "It fails. Short {y}."
    long = Critique("id", 20)
    long.say(("a" * 30,))
    assert long.text == "A" + "a" * 16 + "..."
    assert clip("a\n   b", 10) == "a b"
