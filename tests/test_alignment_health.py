"""How quotes found their tokens, counted on texts small enough to count by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text2grad.alignment import token_offsets
from text2grad.alignment_health import (
    LocatedQuotes,
    alignment_health,
    cut_tokens,
    read_span,
    token_places,
)
from text2grad.schema import Span


@pytest.mark.parametrize(
    ("tokens", "response", "places"),
    [
        (["a", " cat", ""], "a cat", [(0, 1), (1, 5), (5, 5)]),
        (["a", " \ufffd", "\ufffd", "!"], "a é!", [(0, 1), (1, 3), (2, 3), (3, 4)]),
        # the second character starts in a token that also holds a space
        (["\ufffd", "\ufffd", " \ufffd", "\ufffd"], "é ü", [(0, 1), (0, 1), (1, 3), (2, 3)]),
        (["\ufffd", "x"], "\ufffdx", [(0, 1), (1, 2)]),  # what was sampled is broken itself
        (["\ufffd", "\ufffd"], "é", [(0, 1), (0, 1)]),
        ([], "", []),
        (["a", "b"], "ac", None),
        (["a"], "ab", None),
        (["a", "\ufffd", "\ufffd", "x"], "aéy", None),
    ],
)
def test_places_of_tokens(tokens, response, places):
    assert token_places(tokens, response) == places


@given(st.lists(st.text(max_size=6), max_size=8))
def test_places_of_whole_characters_are_those_of_the_alignment(texts):
    pieces = [text.encode("utf-8", "replace") for text in texts]
    tokens = [piece.decode() for piece in pieces]
    assert token_places(tokens, "".join(tokens)) == token_offsets(pieces)


def test_tokens_cut_by_an_edge():
    places = [(0, 4), (4, 9)]  # "cats" and " sing", of 4 letters each
    assert cut_tokens("cats sing", places, [Span("cat", "good", 0, 3)]) == (1, 1)
    assert cut_tokens("cats sing", places, [Span("c", "good", 0, 1)]) == (1, 0)
    assert cut_tokens("cats sing", places, [Span("cats", "good", 0, 4)]) == (0, 0)
    assert cut_tokens("cats sing", places, [Span("sing", "good", 5, 9)]) == (0, 0)  # but a space
    both = [Span("ca", "good", 0, 2), Span("s", "poor", 3, 4), Span("x", "poor")]
    assert cut_tokens("cats sing", places, both) == (2, 1)


def test_health_of_two_responses_and_an_unreadable_one():
    first = [
        Span("cat", "good", 0, 3, "exact"),
        Span("S", "poor", 5, 6, "normalised", copies=2),
        Span("dog", "good", match="unmatched"),
    ]
    health = alignment_health(
        [
            LocatedQuotes("cats sing", first, ["cats", " sing"]),
            LocatedQuotes("no", ()),
            LocatedQuotes("anything", unreadable="truncated"),
        ]
    )
    assert health["labels"] == {
        "good": {"exact": 1, "normalised": 0, "fuzzy": 0, "unmatched": 1, "ambiguous": 0},
        "poor": {"exact": 0, "normalised": 1, "fuzzy": 0, "unmatched": 0, "ambiguous": 1},
    }
    assert (health["n_responses"], health["without_spans"], health["n_spans"]) == (2, 1, 3)
    assert (health["n_unreadable"], health["unreadable"]) == (1, {"truncated": 1})
    # "cat" of "cats" keeps the token, "s" of "sing" does not
    assert (health["tokens"], health["cut"], health["cut_kept"]) == (2, 2, 1)
    assert health["coverage"] == pytest.approx(4 / 10)


def test_a_span_outside_its_response_has_no_place():
    row = {"text": "b", "label": "good", "start": 1, "end": 2, "match": "exact", "copies": 3}
    assert read_span(row, "ab") == Span("b", "good", 1, 2, "exact", 3)
    for start, end in ((1, 3), (-1, 1), (1, 1), ("0", 1), (None, None)):
        wrong = read_span({**row, "start": start, "end": end}, "ab")
        assert (wrong.start, wrong.end, wrong.match) == (None, None, "unmatched")
