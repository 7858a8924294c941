"""Words and their scores: from spans to the published list, and back."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2grad.parsing import parse_reply, word_target_json
from text2grad.schema import Feedback, Span
from text2grad.tasks import get_task
from text2grad.tasks.spec import Label
from text2grad.word_scores import word_scores, word_spans, words_of, written_scores

TASK = get_task("slf5k")
CODE = replace(
    TASK,
    labels=(Label("wrong", "wrong_code", -1.0, "first"), Label("weak", "weak_code", 0.0, "first")),
    unmarked_score=1.0,
)


def span(text, label, response, start=0):
    start = response.index(text, start)
    return Span(text, label, start, start + len(text))


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("It's 3 p.m., isn't it?", ["It's", "3", "p", "m", "isn't", "it"]),
        ("'the' naïve_x don’t—stop", ["the", "naïve_x", "don’t", "stop"]),
        ("我们 ok", ["我们", "ok"]),
        (" .,! ", []),
        ("", []),
    ],
)
def test_words_are_letters_digits_and_inner_apostrophes(response, words):
    assert words_of(response) == words


def test_word_scores_example_of_the_docstring():
    response = "the cat sat."
    found = word_scores([span("cat sat", "good", response)], response, TASK)
    assert found == [("the", 0), ("cat", 1), ("sat", 1)]


def test_a_word_takes_the_score_that_covers_half_of_it_and_the_lowest_of_two():
    response = "abcd efgh ijkl"
    spans = [
        Span("cd ef", "good", 2, 7),  # two of four letters of both words: just half
        Span("h ", "good", 8, 10),  # the white space is no letter
        Span("i", "good", 10, 11),  # a quarter
        Span("ef", "poor", 5, 7),
        Span("gone", "poor"),
    ]
    assert word_scores(spans, response, TASK) == [("abcd", 1), ("efgh", -1), ("ijkl", 0)]
    assert word_scores([Span("é", "poor", 0, 1)], "éab", TASK) == [("éab", -1)]  # bytes: 2 of 4


def test_scores_are_written_as_json_writes_them():
    assert written_scores(TASK) == ["0", "1", "-1"]
    assert written_scores(CODE) == ["1", "-1", "0"]
    assert written_scores(replace(TASK, unmarked_score=0.5)) == ["0.5", "1", "-1"]
    response = "x = 1; y"
    target = word_target_json(Feedback("Ok.", (span("x", "wrong", response),)), response, CODE)
    assert target == (
        '{"textual_feedback": "Ok.", "word_score_list": [["x", -1], ["1", 1], ["y", 1]]}'
    )


# ---------------------------------------------------------------- there and back


def back(spans, response, task=TASK):
    """The spans that a reply with the list of these spans is read as."""
    target = word_target_json(Feedback("x", tuple(spans)), response, task)
    said = parse_reply(target, task, response)
    assert isinstance(said, Feedback)
    return said.spans


PIECES = ["the", "don't", "a", "naïve", "我们", "x_1", ", ", *'3 ."\\–\n']


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.data())
def test_the_same_words_have_the_same_scores_there_and_back(response, data):
    spans = []
    for label in data.draw(st.lists(st.sampled_from(["good", "poor"]), max_size=4)):
        place = st.integers(0, len(response))
        start, end = sorted((data.draw(place), data.draw(place)))
        if start < end:
            spans.append(Span(response[start:end], label, start, end))
    scores = word_scores(spans, response, TASK)
    read = back(spans, response)
    assert [word for word, _ in scores] == words_of(response)
    assert word_scores(read, response, TASK) == scores
    assert all(response[one.start : one.end] == one.text for one in read)
    # Once read, nothing is lost any more.
    assert list(back(read, response)) == list(read)


def test_spans_of_whole_words_come_back_as_they_were():
    response = "My dog ran home, fast. It was May."
    spans = [span("My dog", "good", response), span("home, fast", "poor", response)]
    assert list(back(spans, response)) == spans


@pytest.mark.parametrize(
    ("quotes", "read"),
    [
        (["ran home, "], ["ran home"]),  # marks at the end of a span are in no word
        (["."], []),  # nor is a span of marks alone
        (["ran home", "fast"], ["ran home, fast"]),  # neighbours of one score grow together
        (["an ho"], ["ran home"]),  # half a word is the word
        (["n h"], []),  # and less is nothing
    ],
)
def test_what_a_list_cannot_say(quotes, read):
    response = "My dog ran home, fast. It was May."
    found = back([span(quote, "good", response) for quote in quotes], response)
    assert [one.text for one in found] == read


def test_the_list_of_a_reply_may_be_shorter_than_the_response():
    listed = json.dumps([["dog", 1], ["May", -1]])
    reply = f'{{"textual_feedback": "x", "word_score_list": {listed}}}'
    said = parse_reply(reply, TASK, "My dog ran home. It was May.")
    assert [(one.text, one.label, one.start) for one in said.spans] == [
        ("dog", "good", 3),
        ("May", "poor", 24),
    ]
    assert word_spans([], "My dog", TASK) == []
