import json
import random
from dataclasses import replace

import pytest

from text2grad.grammar import ReplyGrammar
from text2grad.parsing import target_json
from text2grad.schema import Feedback, Span
from text2grad.targets import TargetTrimmer
from text2grad.tasks import get_task

SLF5K = get_task("slf5k")
RESPONSE = "The dog ran to the park. It saw a cat, and my boss was late. Is it wrong?"


def place(text, label="good", response=RESPONSE):
    start = response.index(text)
    return Span(text, label, start, start + len(text), "exact")


def quotes(spans, task=SLF5K, response=RESPONSE, label="good"):
    trimmer = TargetTrimmer(task)
    made = trimmer.trim(Feedback("ok", tuple(spans)), response)
    return [span.text for span in made.spans if span.label == label], dict(trimmer.counts)


def test_what_fits_stays_as_it_is():
    spans = (place("The dog ran"), place("a cat"), place("Is it wrong?", "poor"))
    trimmer = TargetTrimmer(SLF5K)
    made = trimmer.trim(Feedback("Short.", spans), RESPONSE)
    assert made.critique == "Short."
    assert [(s.text, s.label) for s in made.spans] == [(s.text, s.label) for s in spans]
    assert trimmer.summary() == ""


def test_the_longest_quotes_stay_in_the_order_of_the_text():
    spans = [place(text) for text in ("Is it wrong", "dog", "my boss was late", "a cat")]
    kept, counts = quotes(spans)
    assert kept == ["my boss was late", "Is it wrong"]
    assert counts == {"quotes over the number left out": 2}


def test_labels_are_counted_apart():
    spans = [place(text, label) for text in ("dog", "park", "cat") for label in ("good", "poor")]
    assert quotes(spans, label="poor")[0] == ["dog", "park"]
    assert quotes(spans)[0] == ["cat"], "what is good and poor at once is poor"


def test_a_quote_inside_another_one_of_its_label_is_left_out():
    found, counts = quotes([place("dog ran to"), place("ran")])
    assert found == ["dog ran to"]
    assert counts == {"quotes that start with or inside another left out": 1}


def test_a_long_quote_is_cut_at_the_end_of_a_word():
    task = replace(SLF5K, max_quote_chars=12)
    assert quotes([place("dog ran to the park")], task) == (["dog ran to"], {"quotes shortened": 1})
    assert quotes([place("dog ran")], task) == (["dog ran"], {})
    task = replace(SLF5K, max_quote_chars=2)  # not even one word fits
    assert quotes([place("park")], task)[0] == []


def test_quotes_are_widened_to_whole_words_and_lose_outer_space():
    start = RESPONSE.index("og ran to ")
    assert quotes([Span("og ran to ", "good", start, start + 10, "exact")])[0] == ["dog ran to"]
    start = RESPONSE.index(" a ca")
    assert quotes([Span(" a ca", "good", start, start + 5, "exact")])[0] == ["a cat"]


def test_inexact_quotes_become_the_responses_words_and_foreign_ones_go():
    spans = [Span("the DOG  ran to the park", "good"), Span("nothing of the kind", "good")]
    kept, counts = quotes(spans)
    assert kept == ["The dog ran to the park"]
    assert counts == {"quotes not in the response left out": 1}


def test_the_same_place_is_quoted_once():
    assert quotes([place("a cat"), place("a cat")])[0] == ["a cat"]


@pytest.mark.parametrize(
    ("critique", "expected"),
    [
        ("One. Two three. Four five six.", "One. Two three."),
        ("It costs 3.14159265358979.", "It costs"),
        ("No end of a sentence anywhere here", "No end of a sentence"),
        ('He said "no." And that was that.', 'He said "no."'),
        ("x" * 40, "x" * 20),
        ("主要观点保留。其余全部遗漏了，而且没有回答问题。真的。", "主要观点保留。"),
    ],
)
def test_a_long_critique_is_cut_at_the_end_of_a_sentence(critique, expected):
    trimmer = TargetTrimmer(replace(SLF5K, max_critique_chars=20))
    assert trimmer.trim(Feedback(critique), RESPONSE).critique == expected
    assert trimmer.summary() == "1 critiques shortened"


def test_every_target_is_a_reply_that_the_grammar_writes():
    rng = random.Random(0)
    alphabet = [*"ab \n\"\\.,'", "é", "🙂", "中", "文", "e\u0301", "👨‍👩‍👧", "word ", "under_score"]
    task = replace(SLF5K, max_quote_chars=9, max_critique_chars=30)
    written = 0
    for _ in range(300):
        response = "".join(rng.choices(alphabet, k=rng.randint(1, 40)))
        spans = []
        for _ in range(rng.randint(0, 6)):
            start, end = sorted(rng.choices(range(len(response) + 1), k=2))
            if start < end:
                text = response[start:end]
                label = rng.choice(["good", "poor"])
                spans.append(Span(text, label, start, end, "exact"))
        critique = "x" + "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
        made = TargetTrimmer(task).trim(Feedback(critique, tuple(spans)), response)
        grammar = ReplyGrammar(task, response)
        target = target_json(made, task)
        state = grammar.advance(grammar.initial, target.encode())
        assert state is not None, (response, target)
        assert grammar.closed(state), (response, target)
        written += len(json.loads(target)["good_spans"])
    assert written > 100
