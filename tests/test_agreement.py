"""Units and their labels, counts and scores, span matching, bootstrap."""

import numpy as np
import pytest
from tiny import byte_level_tokenizer

from text2grad.agreement import (
    bootstrap_interval,
    class_scores,
    classes_of,
    cohen_kappa,
    compare,
    label_units,
    macro_f1,
    match_spans,
    one_against_rest,
    sign_accuracy,
    token_units,
    word_units,
)
from text2grad.alignment import TokenBytes, score_tokens
from text2grad.schema import Span
from text2grad.tasks import get_task

TASK = get_task("slf5k")
CLASSES = ("good", "poor", "neutral")


# -- units


def test_half_rule_and_poor_wins():
    text = "abcd efgh ijkl"
    half = Span("cd ef", "good", 2, 7, "exact")  # 2 of 4 characters of both words
    less = Span("l", "good", 13, 14, "exact")  # 1 of 4
    poor = Span("ab", "poor", 0, 2, "exact")  # the other half of the first word: poor wins
    units = word_units(text)
    assert units == [(0, 4), (5, 9), (10, 14)]
    assert label_units([half, less], text, TASK, units) == ["good", "good", "neutral"]
    assert label_units([half, poor], text, TASK, units) == ["poor", "good", "neutral"]


def test_half_is_counted_in_bytes_and_unmatched_spans_label_nothing():
    text = "aé b"  # 1 + 2 bytes
    units = word_units(text)
    assert label_units([Span("a", "good", 0, 1)], text, TASK, units) == ["neutral", "neutral"]
    assert label_units([Span("é", "good", 1, 2)], text, TASK, units) == ["good", "neutral"]
    lost = Span("b", "poor", match="unmatched")
    assert label_units([lost], text, TASK, units) == ["neutral", "neutral"]


def test_token_labels_are_the_signs_of_the_token_scores():
    tokenizer = byte_level_tokenizer()
    text = "The dog ran to the park 🙂 and\n\n naïve 東京 saw a cat."
    generator = np.random.default_rng(0)
    for _ in range(40):
        spans = []
        for label in generator.choice(["good", "poor"], size=3):
            start, end = sorted(generator.choice(len(text), size=2, replace=False))
            spans.append(Span(text[start:end], str(label), int(start), int(end), "exact"))
        pieces = TokenBytes(tokenizer).pieces(tokenizer(text)["input_ids"])
        named = {1.0: "good", -1.0: "poor", 0.0: "neutral"}
        scores = zip(pieces, score_tokens(pieces, spans, TASK), strict=True)
        wanted = [named[score] for piece, score in scores if piece.strip()]
        units = token_units(tokenizer)(text)
        assert label_units(spans, text, TASK, units) == wanted


def test_counts_scores_and_sign_accuracy():
    gold = ["good", "good", "poor", "neutral", "poor"]
    predicted = ["good", "poor", "poor", "good", "neutral"]
    counts = compare(gold, predicted, CLASSES)
    # good: 1 hit, 2 gold, 2 predicted; poor likewise; neutral: 0 hits, 1 gold, 1 predicted
    assert class_scores(counts, 0) == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "gold": 2,
        "predicted": 2,
    }
    assert class_scores(counts, 2)["f1"] == 0.0
    assert macro_f1(counts) == pytest.approx(1 / 3)
    assert sign_accuracy(counts, TASK) == 0.5  # 4 labelled units, 2 with the right sign


def test_unreadable_reply_is_wrong_everywhere_and_never_left_out():
    perfect = compare(["good", "neutral"], ["good", "neutral"], CLASSES)
    unreadable = compare(["good", "neutral"], None, CLASSES)
    assert macro_f1(unreadable) == 0.0
    assert [class_scores(unreadable, row)["f1"] for row in range(3)] == [0.0, None, 0.0]
    # a perfect and an unreadable reply: hits 1, gold 2, predicted 1 -> F1 2/3, recall 1/2
    both = class_scores(perfect + unreadable, 0)
    assert (both["f1"], both["recall"]) == (pytest.approx(2 / 3), 0.5)
    assert sign_accuracy(perfect + unreadable, TASK) == 0.5
    assert macro_f1(compare([], [], CLASSES)) is None


# -- spans


def test_span_hits_need_half_of_the_union_and_are_one_to_one():
    gold = [Span("", "good", 0, 10), Span("", "good", 20, 30)]
    predicted = [
        Span("", "good", 0, 10),  # exact
        Span("", "good", 0, 6),  # its target is taken
        Span("", "good", 20, 25),  # 5 of 10: just a hit
        Span("nowhere", "good", match="unmatched"),
        Span("", "poor", 0, 10),  # other label
    ]
    counts = match_spans(gold, predicted, "good")
    assert (counts.gold, counts.predicted, counts.hits, counts.exact) == (2, 4, 2, 1)
    assert counts.mean_iou == pytest.approx(0.75)
    miss = match_spans(gold, [Span("", "good", 24, 34)], "good")  # 6 of 14
    assert (miss.hits, miss.mean_iou) == (0, pytest.approx(6 / 14 / 2))
    assert match_spans([Span("x", "good")], [], "good").gold == 0  # gold that is not in the text


def test_best_overlap_is_paired_first():
    gold = [Span("", "poor", 0, 10), Span("", "poor", 8, 20)]
    predicted = [Span("", "poor", 6, 20)]  # 12/14 with the second, 4/20 with the first
    counts = match_spans(gold, predicted, "poor")
    assert (counts.hits, counts.overlap) == (1, pytest.approx(12 / 14))


# -- bootstrap


def test_bootstrap_interval():
    values = np.random.default_rng(1).normal(0.5, 1.0, size=400)
    low, high = bootstrap_interval(values, seed=3)
    # the mean +- 1.96 standard errors
    wanted = values.mean() + np.array([-1.96, 1.96]) * values.std() / 20
    np.testing.assert_allclose([low, high], wanted, atol=0.01)
    assert bootstrap_interval(values, seed=3) == (low, high)
    assert bootstrap_interval([0.25] * 9, seed=0) == (0.25, 0.25)
    assert bootstrap_interval([0.25], seed=0) is None
    pairs = np.array([[1.0, 2.0], [3.0, 6.0], [2.0, 4.0]])
    assert bootstrap_interval(pairs, 0, lambda mean: mean[1] / mean[0]) == pytest.approx((2.0, 2.0))


def test_classes_follow_the_task():
    assert classes_of(TASK) == CLASSES


# -- kappa


def test_kappa_by_hand():
    # 35 of 50 alike; by chance 25/50 * 30/50 + 25/50 * 20/50 = 0.5: (0.7 - 0.5) / 0.5
    table = np.array([[20, 5, 0], [10, 15, 0]])
    assert cohen_kappa(table) == pytest.approx(0.4)
    assert cohen_kappa(table / 7) == pytest.approx(0.4)
    assert cohen_kappa(np.array([[5, 0, 0], [0, 9, 0]])) == pytest.approx(1.0)
    # always the same label: by chance as often alike
    assert cohen_kappa(np.array([[5, 0, 0], [9, 0, 0]])) == pytest.approx(0.0)
    assert cohen_kappa(np.array([[5, 0, 0], [0, 0, 0]])) is None
    assert cohen_kappa(np.zeros((2, 3))) is None


def test_an_unreadable_reply_lowers_kappa():
    # 4 of 8 alike, by chance 4/8 * 2/8 + 4/8 * 2/8 = 0.25: 0.25 / 0.75
    assert cohen_kappa(np.array([[2, 0, 2], [0, 2, 2]])) == pytest.approx(1 / 3)


def test_one_label_against_the_rest():
    table = np.array([[3, 1, 0, 5], [0, 2, 4, 1], [6, 0, 7, 0]])
    np.testing.assert_array_equal(one_against_rest(table, 0), [[3, 1, 5], [6, 13, 1]])
    np.testing.assert_array_equal(one_against_rest(table, 2), [[7, 6, 0], [4, 6, 6]])
