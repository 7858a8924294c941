"""Figures of a step, counted by hand: of one process, and of two that share it."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from ppo_rows import NAN, row

from text2grad.annotators.reward_model import DecodingStats
from text2grad.rollout import TokenStats
from text2grad.schema import Feedback, Record, Span, Unparseable
from text2grad.scoring import Judged
from text2grad.step_log import Tally, step_metrics, tally_step
from text2grad.update import Credit

RECORD = Record("a", "p", "r")
FOUND = Span("x", "good", 0, 1, "exact")
LOST = Span("y", "poor", match="unmatched")


def judged(scores, spans=(), quoted=0):
    said = Feedback("c", spans)
    return Judged(RECORD, [b"x"] * len(scores), said, spans, scores, quoted)


def unreadable(length, reason):
    return Judged(RECORD, [b"x"] * length, Unparseable(reason))


def tally(prompt, one, kl, returns, values, seconds, replies=None):
    """Of one response; rewards are its scores minus a tenth of its KL, entropy is twice the KL."""
    n = len(one.pieces)
    mask = torch.full((1, n), one.scores is not None)
    scores = row(*(one.scores or [NAN] * n))
    kl, values = row(*kl), row(*values)
    stats = TokenStats(kl, kl, 2 * kl, kl, values)
    credit = Credit(kl, values, row(*returns), scores, mask)
    return tally_step(
        *([[1] * prompt], [one], credit, stats, scores - 0.1 * kl, kl),
        limit=3,
        seconds={"rollout": seconds, "critique": 1.0},
        replies=replies,
    )


FIRST = tally(
    *(10, judged([1.0, -1.0, 1.0], (FOUND, LOST), quoted=2), [0.1, 0.2, 0.3]),
    *([3.0, 1.0, 2.0], [3.0, 1.0, 1.0]),
    seconds=2.0,
    replies=DecodingStats(1, 30, 2.0, ["said"], 20, 5, 4.0),
)
SECOND = tally(
    *(20, judged([-1.0], (FOUND,), quoted=1), [0.6], [6.0], [4.0]),
    seconds=4.0,
    replies=DecodingStats(1, 10, 5.0, ["said"], 5, 5, 1.0),
)
THIRD = tally(30, unreadable(2, "truncated"), [9.0, 9.0], [9.0, 9.0], [0.0, NAN], seconds=1.0)


def test_the_figures_of_two_processes_are_those_of_all_their_responses():
    """Where the means of the two differ from the mean of all: 3 tokens against 1."""
    got = step_metrics(Tally.of_all([FIRST, SECOND]), {"policy_loss": 0.5})
    want = {
        "score": (1 - 1) / 2,
        "score_per_token": 0 / 4,
        "reward": ((1 - 0.06) + (-1 - 0.06)) / 2,
        "reward_deviation": 2**0.5,  # of 0.94 and -1.06
        "kl": (0.6 + 0.6) / 2,
        "kl_per_token": 1.2 / 4,
        "entropy": 2.4 / 4,
        # errors 0, 0, 1, 2 about 3 / 4: squares 5 - 4 * 9 / 16, over 3
        "advantage_deviation": (11 / 12) ** 0.5,
        # returns 3, 1, 2, 6 about 3: 14 / 4; errors 0, 0, 1, 2: 5 / 4 - 9 / 16
        "explained_variance": 1 - (11 / 16) / (14 / 4),
        "prompt_tokens": 15.0,
        "response_tokens": 2.0,
        "response_tokens_min": 1,
        "response_tokens_max": 3,
        "cut_share": 0.5,
        "judged": 2,
        "unparseable": {},
        "parse_rate": 1.0,
        "match_rate": 2 / 3,
        "unmatched_rate": 1 / 3,
        "spans_per_response": 1.5,
        "coverage": 3 / 4,
        "positive_share": 0.5,
        "negative_share": 0.5,
        "policy_loss": 0.5,
        "seconds_rollout": 4.0,
        "tokens_per_second_rollout": 4 / 4.0,
        "seconds_critique": 1.0,
        "critique_tokens": 40 / 2,
        "tokens_per_second_critique": 40 / 5.0,
        "rejected_share": 10 / 25,
        "removed_mass": 5 / 25,
    }
    assert got.keys() == want.keys()
    assert got == {key: pytest.approx(value, abs=1e-6) for key, value in want.items()}


def test_an_unreadable_critique_counts_for_lengths_alone():
    writes_nothing = [replace(one, replies=None) for one in (FIRST, SECOND, THIRD)]
    without = step_metrics(Tally.of_all(writes_nothing[:2]), {})
    got = step_metrics(Tally.of_all(writes_nothing), {})
    changed = {key for key in got if got[key] != without[key]}
    lengths = {"prompt_tokens", "tokens_per_second_rollout", "cut_share"}
    assert changed == lengths | {"parse_rate", "unparseable"}
    assert (got["prompt_tokens"], got["cut_share"]) == (20.0, pytest.approx(1 / 3))
    assert (got["parse_rate"], got["unparseable"]) == (2 / 3, {"truncated": 1})
    assert "critique_tokens" not in got


def test_a_step_without_a_readable_critique_is_all_zeros():
    got = step_metrics(Tally.of_all([THIRD, THIRD]), {})
    assert got["unparseable"] == {"truncated": 2}
    names = ("score", "reward", "reward_deviation", "kl", "entropy", "explained_variance")
    assert {got[name] for name in (*names, "judged", "parse_rate", "coverage")} == {0.0}


def test_reasons_of_all_processes_are_counted_together():
    other = replace(THIRD, reasons=Counter({"not JSON": 2, "truncated": 1}))
    assert step_metrics(Tally.of_all([THIRD, other]), {})["unparseable"] == {
        "truncated": 2,
        "not JSON": 2,
    }
