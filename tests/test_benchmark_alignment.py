"""The bounds that alignment must hold, on the sample posts and, where they are given, real answers.

TEXT2GRAD_QA_FEEDBACK=records.json TEXT2GRAD_ULTRAFEEDBACK=records.json bash tests/run.sh
"""

import os
import sys

import pytest
from tiny import byte_level_tokenizer
from trees import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from alignment import build, read_sets

SOURCES = {
    "sample": {"qa": "", "ultrafeedback": ""},
    "human": {"qa": os.environ.get("TEXT2GRAD_QA_FEEDBACK", ""), "ultrafeedback": ""},
    "sentences": {"qa": "", "ultrafeedback": os.environ.get("TEXT2GRAD_ULTRAFEEDBACK", "")},
}


@pytest.fixture(scope="module", params=SOURCES)
def table(request):
    paths = SOURCES[request.param]
    if request.param != "sample" and not any(paths.values()):
        pytest.skip("no real answers named in the environment")
    ((name, (texts, places)),) = read_sets(**paths).items()
    rows = build(name, texts, places, byte_level_tokenizer()).measure()
    return {row["quotes_changed_by"]: row for row in rows}


def test_exact_quotes_that_occur_once_mark_exactly_their_tokens(table):
    row = table["exact, occurs once"]
    assert row["quotes"] > 100
    assert row["f1"] == 1.0


def test_changed_writing_loses_nothing(table):
    for name in ("white space", "case", "quote marks, dashes", "Unicode form", "all of these"):
        assert table[name]["f1"] >= 0.999, name


def test_mistyped_quotes_are_found_and_mark_little_else(table):
    for name in ("one typo", "two typos", "a dropped word"):
        assert table[name]["recall"] >= 0.95, name
        assert table[name]["precision"] >= 0.99, name


def test_quotes_of_another_answer_are_refused(table):
    assert table["quoted from another answer"]["accepted"] <= 0.01


def test_offsets_that_cut_tokens_follow_the_half_rule(table):
    assert table["given offsets that cut tokens"]["f1"] == 1.0
