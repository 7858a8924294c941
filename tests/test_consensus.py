"""Several annotations of one response: majority and agreement, by hand."""

import pytest

from text2grad.consensus import Agreement, find_consensus
from text2grad.schema import Feedback, Span, Unparseable
from text2grad.tasks import get_task

TASK = get_task("slf5k")
RESPONSE = "aa bb cc dd ee"  # words at 0, 3, 6, 9, 12


def span(start, end, label="good"):
    return Span(RESPONSE[start:end], label, start, end, "exact")


def sample(critique, *spans):
    return Feedback(critique, spans)


def test_the_span_that_most_mark_stays():
    samples = [
        sample("a", span(0, 5), span(12, 14, "poor")),  # "aa bb", "ee"
        sample("b", span(0, 8)),  # "aa bb cc": shares 5 of 8 with the first
        sample("c", span(9, 11)),
    ]
    answer, agreement = find_consensus(samples, RESPONSE, TASK)
    assert [(s.start, s.end, s.label) for s in answer.spans] == [(0, 5, "good")]
    assert answer.critique == "a"  # equal to "b" in words alike, and first
    figures = agreement.figures()
    assert (figures["readable_samples"], figures["samples"]) == (3, 3)
    assert (figures["spans_kept"], figures["spans_marked"]) == (1, 4)
    # spans: pair ab hits 1 of 2 + 1, ac 0 of 2 + 1, bc 0 of 1 + 1: 2 * 1 / 8
    assert figures["span_agreement"] == pytest.approx(0.25, abs=1e-12)
    # words, of the 3 pairs alike: aa ggn 1, bb ggn 1, cc ngn 1, dd nng 1, ee pnn 1
    assert figures["word_agreement"] == pytest.approx(1 / 3, abs=1e-12)
    # labels: g 6, p 1, n 8 of 15: chance (36 + 1 + 64) / 225
    chance = 101 / 225
    assert figures["kappa"] == pytest.approx((1 / 3 - chance) / (1 - chance), abs=1e-12)


def test_half_is_no_majority_and_another_label_is_another_span():
    half = [sample("a", span(0, 5)), sample("b", span(0, 5, "poor"))]
    assert find_consensus(half, RESPONSE, TASK)[0].spans == ()
    both = [sample("a", span(0, 5)), sample("b", span(0, 5))]
    assert find_consensus(both, RESPONSE, TASK)[0].spans == (span(0, 5),)


def test_a_span_of_the_group_is_kept_once_and_quotes_not_found_go_by_their_text():
    lost = Span("zebra", "poor", match="unmatched")
    samples = [sample("a", span(0, 5), span(0, 4), lost), sample("b", span(0, 5), lost)]
    answer, agreement = find_consensus(samples, RESPONSE, TASK)
    assert answer.spans == (span(0, 5), lost)
    # both mark "aa bb" and quote the zebra, the first one more: 2 * 2 / (3 + 2)
    assert agreement.figures()["span_agreement"] == pytest.approx(4 / 5, abs=1e-12)


def test_unreadable_samples_do_not_vote_and_half_of_them_are_a_failure():
    lost = Unparseable("truncated", "{")
    answer, agreement = find_consensus(
        [sample("a", span(0, 5)), sample("b", span(0, 5)), lost], RESPONSE, TASK
    )
    assert answer.spans == (span(0, 5),)
    assert (agreement.readable, agreement.samples) == (2, 3)
    failed, agreement = find_consensus([sample("a", span(0, 5)), lost, lost], RESPONSE, TASK)
    assert failed == Unparseable("2 of 3 samples: truncated", "{")
    assert agreement.figures()["word_agreement"] is None


def test_equal_samples_agree_fully_and_sums_are_over_records():
    same = [sample("a", span(0, 5))] * 3
    _, one = find_consensus(same, RESPONSE, TASK)
    total = one + one
    assert total.figures()["word_agreement"] == 1.0
    assert total.figures()["kappa"] == 1.0
    assert total.figures()["span_agreement"] == 1.0
    assert (total.words, total.labels["good"]) == (10, 12)
    assert Agreement() + one == one
