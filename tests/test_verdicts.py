"""What a judge says: read strictly, and added up. Known judges give known figures."""

import json
import random

import pytest

from text2grad.schema import Unparseable
from text2grad.verdicts import (
    JudgedPair,
    Verdict,
    judge_figures,
    parse_verdict,
    position_bias,
    wilson_interval,
)

CRITERIA = ("accuracy", "conciseness")


def grades(overall, **others):
    return {"accuracy": overall, "conciseness": overall, "overall": overall, **others}


def reply(first=8, second=3, better="first"):
    both = {"first": grades(first), "second": grades(second)}
    return {"reasoning": "A.", **both, "better": better}


def verdict(better, first=5.0, second=5.0):
    return Verdict(better, grades(first), grades(second))


PREFERS = {"a": ("first", "second"), "b": ("second", "first"), "tie": ("tie", "tie")}
PREFERS |= {"first": ("first", "first"), "second": ("second", "second")}


def pair(prefers):
    """Both orders of one pair: the judge prefers A, B, none, or whatever stands at a position."""
    a_first, b_first = PREFERS[prefers]
    return JudgedPair(verdict(a_first), verdict(b_first))


# -- reading


@pytest.mark.parametrize("wrapped", ["{}", "```json\n{}\n```", "Let me see.\n{}"])
def test_a_verdict_is_read(wrapped):
    text = wrapped.replace("{}", json.dumps(reply(8, 2.5)))
    found = parse_verdict(text, CRITERIA)
    assert (found.better, found.reasoning, found.raw) == ("first", "A.", text)
    assert found.first == {"accuracy": 8.0, "conciseness": 8.0, "overall": 8.0}
    assert found.second["overall"] == 2.5


def test_equal_overall_grades_are_a_tie_and_a_tie_may_have_other_grades():
    assert parse_verdict(json.dumps(reply(7, 7, "first")), CRITERIA).better == "tie"
    assert parse_verdict(json.dumps(reply(7, 6, "tie")), CRITERIA).better == "tie"
    assert parse_verdict(json.dumps(reply(3, 4, "second")), CRITERIA).better == "second"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty reply"),
        ("The first one.", "no JSON object"),
        (json.dumps(reply())[:-30], "truncated"),
        (json.dumps(reply()).replace('"better"', "better"), "not JSON"),
        (json.dumps(reply(better="A")), "better is none of first, second, tie"),
        (json.dumps(reply(better=["first"])), "better is none of first, second, tie"),
        (json.dumps(reply(3, 8, "first")), "better contradicts the overall grades"),
        (json.dumps(reply(8, 3, "second")), "better contradicts the overall grades"),
        (json.dumps({**reply(), "first": {"accuracy": 3}}), "missing key first.conciseness"),
        (json.dumps({**reply(), "second": 7}), "missing key second"),
        (json.dumps({"first": grades(1), "better": "first"}), "missing key second"),
        (json.dumps({**reply(), "second": grades(3, accuracy="7")}), "grade is not a number"),
        (json.dumps({**reply(), "second": grades(3, accuracy=True)}), "grade is not a number"),
        (json.dumps({**reply(), "second": grades(3, accuracy=None)}), "grade is not a number"),
        (json.dumps({**reply(), "second": grades(3, accuracy=11)}), "grade out of range"),
        (json.dumps({**reply(), "second": grades(3, accuracy=-1)}), "grade out of range"),
        (json.dumps({**reply(), "second": grades(3, accuracy=float("nan"))}), "grade out of range"),
        (json.dumps(reply()) + json.dumps(reply()), "two objects"),
    ],
)
def test_what_cannot_be_read_has_a_reason(text, reason):
    found = parse_verdict(text, CRITERIA)
    assert isinstance(found, Unparseable)
    assert (found.reason, found.raw) == (reason, text)


# -- adding up


@pytest.mark.parametrize(
    ("prefers", "outcome"), [("a", 1), ("b", 0), ("tie", 0.5), ("first", 0.5), ("second", 0.5)]
)
def test_a_win_needs_both_orders(prefers, outcome):
    assert pair(prefers).outcome == outcome


def test_one_order_tied_is_a_tie():
    assert JudgedPair(verdict("first"), verdict("tie")).outcome == 0.5
    assert JudgedPair(verdict("tie"), verdict("first")).outcome == 0.5


def test_figures_by_hand():
    figures = judge_figures([pair(p) for p in ("a", "a", "a", "b", "tie", "first")], seed=0)
    assert (figures["n"], figures["wins"], figures["ties"], figures["losses"]) == (6, 3, 2, 1)
    assert figures["win_rate"] == pytest.approx((3 + 2 / 2) / 6)
    assert figures["agreement"] == pytest.approx(5 / 6)
    # 3 + 1 pairs with one first each, one pair with two; 5 pairs decide in both orders
    assert figures["position"]["verdicts"] == 10
    assert figures["position"]["first_share"] == pytest.approx(6 / 10)


def test_wilson_interval():
    # all won: n / (n + z^2) to 1; all lost: its mirror
    assert wilson_interval(10, 10) == pytest.approx((10 / (10 + 1.959964**2), 1.0))
    assert wilson_interval(0, 10) == pytest.approx((0.0, 1.959964**2 / (10 + 1.959964**2)))
    # the textbook's 15 of 20
    assert wilson_interval(15, 20) == pytest.approx((0.531, 0.888), abs=5e-4)


def test_grades_are_means_of_both_orders_and_their_difference_is_paired():
    pairs = [
        JudgedPair(verdict("first", 8, 6), verdict("second", 5, 9)),  # A 8.5, B 5.5
        JudgedPair(verdict("tie", 4, 4), verdict("second", 2, 3)),  # A 3.5, B 3
    ]
    found = judge_figures(pairs, seed=0)["criteria"]
    assert set(found) == {"accuracy", "conciseness", "overall"}
    assert (found["overall"]["a"], found["overall"]["b"]) == (6.0, 4.25)
    assert found["overall"]["difference"] == 1.75
    assert found["overall"]["interval"] == (0.5, 3.0)


# -- known judges


def test_a_perfect_judge_finds_the_truth():
    figures = judge_figures([pair("a")] * 500, seed=0)
    assert figures["win_rate"] == 1.0
    assert figures["interval"][0] > 0.99
    assert figures["agreement"] == 1.0
    assert figures["position"]["first_share"] == 0.5
    assert not figures["position"]["biased"]
    assert judge_figures([pair("b")] * 500, seed=0)["win_rate"] == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_coin_says_half(seed):
    coin = random.Random(seed)
    sides = ("first", "second")
    pairs = [
        JudgedPair(verdict(coin.choice(sides)), verdict(coin.choice(sides))) for _ in range(500)
    ]
    figures = judge_figures(pairs, seed=0)
    low, high = figures["interval"]
    assert low < 0.5 < high
    assert high - low < 0.1
    assert figures["agreement"] == pytest.approx(0.5, abs=0.1)
    assert not figures["position"]["biased"]


def test_a_judge_of_positions_says_half_and_is_caught():
    figures = judge_figures([pair("first")] * 500, seed=0)
    assert (figures["win_rate"], figures["ties"]) == (0.5, 500)
    assert figures["position"]["first_share"] == 1.0
    assert figures["position"]["biased"]
    assert judge_figures([pair("second")] * 500, seed=0)["position"]["biased"]


def test_a_slight_preference_for_a_position_is_caught_beside_real_verdicts():
    """A better in 60 of 100, B in 30, the first position in 10: 55 % of the verdicts."""
    found = position_bias([pair("a")] * 60 + [pair("b")] * 30 + [pair("first")] * 10, seed=0)
    assert found["first_share"] == pytest.approx(0.55)
    assert found["biased"]


def test_a_judge_that_never_decides_has_no_position():
    found = position_bias([pair("tie")] * 5, seed=0)
    assert found == {"verdicts": 0, "first_share": None, "interval": None, "biased": False}
    assert position_bias([pair("first")], seed=0)["interval"] is None
