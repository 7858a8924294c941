"""Fault localisation: coverage, statements, trial edits, ranking; no solution is run here."""

import ast
import math

import pytest

from text2grad.localisation.edits import Edit, expression_edits
from text2grad.localisation.ranking import Suspect, prior_suspicion, rank, select
from text2grad.localisation.search import (
    failing_statements,
    literal_returns,
    localise,
    read_symptoms,
    unchanging,
)
from text2grad.localisation.spectrum import Hits, count_hits, ochiai
from text2grad.localisation.statement_edits import Symptoms, insertions, statement_edits
from text2grad.localisation.syntax import Source, feeding, local_names
from text2grad.localisation.trials import Trial, Trials, plan_edits, run_trials, statement_hits
from text2grad.outcomes import TIME_LIMIT, CheckOutcome, TestLog

LARGEST = """\
import math

def largest(xs):
    \"\"\"The largest,
    or None.\"\"\"
    if not xs:  # nothing
        return None
    best = xs[0]
    for x in xs:
        if (x <
                best):
            best = x
    return best
"""


def at(source, line):
    return source.statement_at(line)


def text_of(source, statement):
    return source.text[statement.start : statement.end]


def check(passed, covered=(), line=1, **more):
    return CheckOutcome(
        "test_f", line, f"assert f({line})", passed, covered=frozenset(covered), **more
    )


def log_of(*checks, **more):
    passed = bool(checks) and all(c.passed for c in checks)
    more.setdefault("error_type", None if passed else "test_failure")
    return TestLog(passed, checks=checks, **more)


# 2 of 2 failing and 2 passing checks ran it: 2 / sqrt(2 * 4); 1 of 2 failing alone: 1 / sqrt(2 * 1)
@pytest.mark.parametrize(
    ("failing", "passing", "all_failing", "value"),
    [(2, 2, 2, 1 / math.sqrt(2)), (1, 0, 2, 1 / math.sqrt(2)), (3, 0, 3, 1.0), (0, 5, 3, 0.0)],
)
def test_ochiai(failing, passing, all_failing, value):
    assert ochiai(failing, passing, all_failing) == pytest.approx(value, abs=1e-12)


def test_lines_are_counted_by_check():
    hits = count_hits([(True, {1, 2}), (False, {1, 3}), (False, {1})])
    assert hits == {1: Hits(2, 1, 2), 2: Hits(0, 1, 2), 3: Hits(1, 0, 2)}
    # line 1: 2 / sqrt(2 * 3); line 3: 1 / sqrt(2 * 1)
    assert hits[1].suspicion == pytest.approx(2 / math.sqrt(6), abs=1e-12)
    assert hits[3].suspicion == pytest.approx(1 / math.sqrt(2), abs=1e-12)
    assert count_hits([]) == {}


def test_statements_are_headers_of_what_has_a_body():
    source = Source(LARGEST)
    shown = [text_of(source, statement) for statement in source.statements]
    assert shown == [
        "import math",
        "def largest(xs):",
        "if not xs:",
        "return None",
        "best = xs[0]",
        "for x in xs:",
        "if (x <\n                best):",
        "best = x",
        "return best",
    ]
    assert [(s.first, s.last) for s in source.statements][6] == (10, 11)
    assert [len(s.parents) for s in source.statements] == [0, 0, 0, 1, 0, 0, 1, 2, 0]
    assert source.code_lines == {1, 3, 6, 7, 8, 9, 10, 11, 12, 13}
    assert at(source, 4) is None
    assert text_of(source, at(source, 12)) == "best = x"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_places_are_characters_whatever_the_line_ends_and_the_letters(end):
    text = end.join(["def f(ä):", "    ü = 'Größe 🙂' + ä; return ü", ""])
    source = Source(text)
    shown = [text_of(source, statement) for statement in source.statements]
    assert shown == ["def f(ä):", "ü = 'Größe 🙂' + ä", "return ü"]
    assert [source.line_of(s.start) for s in source.statements] == [1, 2, 2]


def test_try_with_match_and_decorated_statements():
    source = Source(
        "@cache\ndef f(a):\n    try:\n        b = g(a)\n    except (A, B):\n"
        "        b = {1: 2}[1:]\n    else:\n        b = 3\n"
        "    with open(a) as c:\n        pass\n    match a:\n"
        "        case 1:\n            return lambda x: x\n"
    )
    shown = [text_of(source, statement) for statement in source.statements]
    assert shown == [
        "def f(a):",
        "b = g(a)",
        "except (A, B):",
        "b = {1: 2}[1:]",
        "b = 3",
        "with open(a) as c:",
        "pass",
        "match a:",
        "return lambda x: x",
    ]


def test_data_flow_goes_back_from_the_return():
    source = Source(LARGEST)
    distance = feeding(source, at(source, 13))
    near = {text_of(source, s): d for s, d in distance.items()}
    assert near["best = xs[0]"] == near["best = x"] == 1
    assert near["for x in xs:"] == 2
    assert "return None" not in near
    assert local_names(source, at(source, 13).function) == (["xs"], ["best", "x"])


def test_changes_of_an_object_are_writes():
    source = Source("def f(a, b):\n    a[0].x = b\n    b.append(a)\n    del a[1]\n    len(b)\n")
    assert [set(s.writes) for s in source.statements[1:]] == [{"a"}, {"b"}, {"a"}, set()]


def edited(source, line):
    """Every text that the statement of a line may become."""
    statement = next(s for s in source.statements if s.first == line)
    edits = [*expression_edits(source, statement), *statement_edits(source, statement)]
    return {e.apply(source.text).splitlines()[line - 1].strip(): e for e in edits}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("return a + b", "return a - b"),
        ("return (a) * (b)", "return (a) // (b)"),
        ("return a - b", "return b - a"),
        ("return a & b", "return a | b"),
        ("return a < b", "return a <= b"),
        ("return a == b", "return a != b"),
        ("return a is not b", "return a is b"),
        ("return a in b", "return a not in b"),
        ("return a and b", "return a or b"),
        ("return a and b", "return b"),
        ("return not a", "return a"),
        ("return -a", "return a"),
        ("return a", "return a + 1"),
        ("return a", "return b"),
        ("return a", "return sorted(a)"),
        ("return 3", "return 2"),
        ("return 3", "return (-3)"),
        ("return True", "return False"),
        ("return 'No'", "return 'no'"),
        ("return", "return a"),
        ("return a[b]", "return a[b - 1]"),
        ("return a[b:]", "return a[b + 1:]"),
        ("return a[:b]", "return a[1:b]"),
        ("return f(a, b)", "return f(b, a)"),
        ("return min(a)", "return max(a)"),
        ("return a.lower()", "return a.upper()"),
        ("a += b", "a -= b"),
        ("a += b", "a = b"),
        ("a = b", "a += b"),
        ("a = b", "pass"),
        ("if a < b: pass", "if not (a < b): pass"),
        ("while not a: pass", "while a: pass"),
        ("for c in a: pass", "for c in a[1:]: pass"),
        ("for c in range(a): pass", "for c in range(1, a): pass"),
        ("for c in range(a): pass", "for c in range(a + 1): pass"),
        ("return [c for c in a if c]", "return [c for c in a if not (c)]"),
    ],
)
def test_trial_edits(line, wanted):
    source = Source(f"def f(a, b):\n    {line}\n")
    assert wanted in edited(source, 2)


def test_a_comment_with_an_operator_is_left_alone():
    source = Source("def f(a, b):\n    return (a  # not <\n            < b)\n")
    texts = {edit.apply(source.text) for edit in expression_edits(source, at(source, 2))}
    assert "def f(a, b):\n    return (a  # not <\n            <= b)\n" in texts
    assert not any("# not >" in text for text in texts)


def test_headers_are_edited_without_their_bodies():
    source = Source(LARGEST)
    for edit in expression_edits(source, at(source, 10)):
        assert edit.apply(source.text).endswith("            best = x\n    return best\n")


def test_a_return_may_move_out_of_its_loop():
    source = Source("def f(a):\n    for b in a:\n        b += 1\n        return b\n")
    moved = [e for e in statement_edits(source, at(source, 4)) if "further out" in e.note]
    assert [e.apply(source.text) for e in moved] == [
        "def f(a):\n    for b in a:\n        b += 1\n    return b\n"
    ]


def test_insertions_fill_every_gap_with_what_is_in_scope():
    source = Source("def f(a):\n    n = 0\n    for b in a:\n        c = []\n    return n\n")
    texts = {e.apply(source.text): e for e in insertions(source)}
    counted = (
        "def f(a):\n    n = 0\n    for b in a:\n        c = []\n        n += 1\n    return n\n"
    )
    assert texts[counted].statement is at(source, 4)
    guard = f"def f(a):\n    if not a: return []\n{source.text[10:]}"
    assert texts[guard].statement is at(source, 2)
    for text in texts:
        ast.parse(text)
    unended = Source("def f(a):\n    n = 0")
    assert "def f(a):\n    n = 0\n    return n\n" in {
        e.apply(unended.text) for e in insertions(unended)
    }


def test_an_undefined_name_is_given_a_value_and_nothing_else_is_tried():
    source = Source("def f(a):\n    for b in a:\n        n += b\n    return n\n")
    edits = list(insertions(source, Symptoms(undefined="n")))
    assert all(e.text.strip().startswith("n = ") for e in edits)
    begun = "def f(a):\n    n = 0\n    for b in a:"
    assert any(e.apply(source.text).startswith(begun) for e in edits)


def test_edits_are_planned_once_the_plausible_and_suspicious_first():
    source = Source("def f(a, b):\n    c = a + b\n    return c < b\n")
    first, second = at(source, 2), at(source, 3)
    edits = plan_edits(source, {first: 1.0, second: 0.1})
    texts = [edit.apply(source.text) for edit in edits]
    assert len(set(texts)) == len(texts)
    assert source.text not in texts
    assert edits[0].statement is first
    assert not any(e.statement is second for e in plan_edits(source, {first: 1.0}))


SWAPPED = Source("def f(a, b):\n    c = a - b\n    return c\n")
FAULTY = at(SWAPPED, 2)
BEFORE = log_of(check(False, {2, 3}, 1), check(False, {2, 3}, 2), check(True, {2, 3}, 3))


def run_as(good, partly=""):
    """A stand-in for the tests: `good` passes all, `partly` mends one check, the rest none."""

    def run(texts):
        return [
            log_of(
                *(
                    check(good in text or (bool(partly) and partly in text and n != 2), (), n)
                    for n in (1, 2, 3)
                )
            )
            for text in texts
        ]

    return run


def test_trials_say_what_they_mend_and_break():
    edits = plan_edits(SWAPPED, {FAULTY: 1.0})
    trials = run_trials(SWAPPED.text, BEFORE, edits, run_as("a + b", "a * b"), 60.0)
    by_note = {trial.edit.note: trial for trial in trials.trials}
    plus = by_note["`+` in place of `-`"]
    assert (plus.mended, plus.broken, plus.passes, plus.checks) == (2, 0, True, 3)
    assert plus.strength(2) == 1.0
    times = by_note["`*` in place of `-`"]
    assert (times.mended, times.broken, times.passes) == (1, 0, False)
    assert times.strength(2) == 0.25  # half of what it were worth if it mended both
    swap = by_note["`b - a` in place of `a - b`"]
    assert (swap.mended, swap.broken) == (0, 1)
    assert swap.strength(2) == 0.0
    # nothing less plausible was tried once `+` had mended all
    assert {t.edit.plausibility for t in trials.trials[48:]} <= {1.0, 0.9, 0.85}
    assert len(trials.trials) < trials.planned


def test_trials_end_with_the_time():
    clock = iter(float(n) for n in range(1000))
    edits = plan_edits(SWAPPED, {FAULTY: 1.0})
    trials = run_trials(SWAPPED.text, BEFORE, edits, run_as("nothing"), 3.0, lambda: next(clock))
    assert 0 < len(trials.trials) < len(edits)
    assert run_trials(SWAPPED.text, BEFORE, edits, run_as("nothing"), 0.0).trials == []


def test_what_mends_leads_and_both_sides_of_a_gap_are_blamed():
    source = Source("def f(a):\n    n = 0\n    for b in a:\n        c = b\n    return n\n")
    prior = dict.fromkeys((at(source, n) for n in (2, 3, 4, 5)), 0.2)
    edit = Edit(at(source, 4), 50, 50, "", "`n += 1` after it", 0.9, other=at(source, 5))
    trials = Trials([Trial(edit, 1, 0, True, 1)], 1)
    ranking = rank(prior, {}, trials, failing=1)
    # 0.2 + 0.9, and the far side of the gap nine tenths of it: 0.2 + 0.81
    assert [(s.statement.first, round(s.score, 9)) for s in ranking[:2]] == [(4, 1.1), (5, 1.01)]
    assert ranking[2].score == 0.2


def suspects(*scores):
    lines = "".join(f"    a = {n}\n" for n in range(len(scores)))
    statements = Source(f"def f():\n    pass\n{lines}").statements[2:]
    return [Suspect(s, score, Hits()) for s, score in zip(statements, scores, strict=True)]


@pytest.mark.parametrize(
    ("scores", "code_lines", "chosen"),
    [
        ([1.0, 0.5, 0.3], 10, 2),  # 0.3 is under 0.4 of the best
        ([1.0, 0.9], 2, 1),  # both would be all of the code
        ([1.0, 0.9, 0.9, 0.9, 0.9, 0.9], 100, 4),
        ([1.0], 1, 1),
        ([], 5, 0),
    ],
)
def test_few_are_quoted(scores, code_lines, chosen):
    assert len(select(suspects(*scores), code_lines)) == chosen


def test_suspicion_before_any_trial():
    source = Source(LARGEST)
    log = log_of(check(False, {6, 8, 9, 10, 12, 13}), check(True, {6, 7}))
    hits = statement_hits(source, count_hits((c.passed, c.covered) for c in log.checks))
    failed_at = failing_statements(source, log)
    assert failed_at == [at(source, 13)]
    prior = prior_suspicion(source, hits, failed_at)
    # best = x: 0.45 * 1 / sqrt(1 * 1) for coverage, 0.2 / 2 for feeding the return
    assert prior[at(source, 12)] == pytest.approx(0.55, abs=1e-12)
    # if not xs: run by both: 0.45 / sqrt(2); it feeds nothing
    assert prior[at(source, 6)] == pytest.approx(0.45 / math.sqrt(2), abs=1e-12)
    assert at(source, 7) not in prior
    assert at(source, 3) not in prior  # a `def` is never a suspect


def test_a_header_at_which_loading_fails_is_the_suspect():
    source = Source("def g(a):\n    return a\n\ndef f(a: Lost):\n    return a\n")
    message = "the solution could not be loaded: NameError: name 'Lost' is not defined"
    log = log_of(error_type="execution_error", message=message, solution_lines=(4,))
    found = localise(source, log, run_as("nothing"), 0.0)
    assert [text_of(source, s.statement) for s in found.suspects] == ["def f(a: Lost):"]
    assert found.suspects[0].in_traceback


def test_symptoms():
    source = Source("def f(a):\n    b = a\n    b + 1\n")
    fell_off = check(False, {2, 3}, expected="2", actual="None")
    assert read_symptoms(source, log_of(fell_off)) == Symptoms(fell_off=True)
    assert failing_statements(source, log_of(fell_off)) == [at(source, 3)]
    undefined = check(
        False, {2}, error_type="NameError", message="name 'c' is not defined", solution_lines=(2,)
    )
    assert read_symptoms(source, log_of(undefined)) == Symptoms(undefined="c")
    endless = log_of(check(False, {2}, error_type=TIME_LIMIT), error_type="timeout")
    assert read_symptoms(source, endless).endless


def test_a_literal_that_is_the_wrong_value_is_suspicious():
    source = Source("def f(a):\n    if a:\n        return -1\n    return a\n")
    failing = [check(False, {2, 3}, expected="4", actual="-1")]
    assert literal_returns(source, failing) == [at(source, 3)]
    assert literal_returns(source, [check(False, {2, 4}, expected="4", actual="-1")]) == []


@pytest.mark.parametrize(
    ("loop", "names"),
    [
        ("while i < len(a):\n        b = a[i]", ["a", "i"]),
        ("while i < n:\n        i += 1", []),
        ("while a:\n        a.pop()", []),
        ("while a[0]:\n        a[0] -= 1", []),
        ("while i < n:\n        g(i)", []),
        ("while i < n:\n        break", []),
        ("while g(i):\n        b = i", []),
        ("for i in a:\n        b = i", []),
    ],
)
def test_loops_that_wait_for_what_never_changes(loop, names):
    source = Source(f"def f(a, i, n):\n    {loop}\n")
    assert unchanging(at(source, 2)) == names


def test_the_whole_search_quotes_what_a_trial_edit_mends():
    found = localise(SWAPPED, BEFORE, run_as("a + b"), 60.0)
    assert found.suspects[0].statement is FAULTY
    assert found.suspects[0].trial.edit.note == "`+` in place of `-`"
    assert (found.failing, found.passing) == (2, 1)
    without = localise(SWAPPED, BEFORE, run_as("nothing"), 0.0)
    assert without.suspects  # coverage alone still names something
    assert without.suspects[0].trial is None


def test_no_code_of_the_search_runs_what_it_searches():
    source = Source("raise SystemExit('run')\nprint(1)\n")
    log = log_of(error_type="execution_error", message="", solution_lines=(1,))
    assert localise(source, log, run_as("nothing"), 1.0).suspects[0].statement is at(source, 1)
