"""The watches of a run: each fires when provoked, once, and none does in a healthy run."""

import math
import random
import re

import pytest
from policy_runs import FakeCritic, comparable, rows_of

from text2grad.config import PolicyConfig
from text2grad.report_data import ReportData
from text2grad.schema import UserError
from text2grad.trends import find_warnings
from text2grad.watch import BOUNDS, RunWatch, reward_swing, watched_figures

ARGS = PolicyConfig(output_dir="run", watch_steps=8, kl_target=6.0)


def healthy(n_steps, seed=0, batch=12, deviation=4.0):
    """Rows of a run that learns, as noisy as a batch of `batch` responses makes them."""
    noise = random.Random(seed)
    for step in range(1, n_steps + 1):
        learned = step / n_steps
        rewards = [noise.gauss(6 * learned - 2, deviation) for _ in range(batch)]
        mean = sum(rewards) / batch
        variance = sum((reward - mean) ** 2 for reward in rewards) / (batch - 1)
        positive, negative = noise.uniform(0.1, 0.3) + 0.2 * learned, noise.uniform(0.05, 0.2)
        yield {
            "step": step,
            "judged": batch,
            "spans_per_response": 3.0,
            "unmatched_rate": max(0.0, noise.gauss(0.015, 0.015)),
            "coverage": positive + negative,
            "positive_share": positive,
            "negative_share": negative,
            "rejected_share": abs(noise.gauss(0.1, 0.05)),
            "removed_mass": abs(noise.gauss(0.05, 0.03)),
            "reward": mean,
            "reward_deviation": math.sqrt(variance),
            "response_tokens": noise.gauss(45 - 8 * learned, 3),
            "kl": abs(noise.gauss(7 * learned, 1.5)),
        }


def warnings_of(rows, args=ARGS):
    watch = RunWatch(args)
    return [watch.update(row, 0.0) for row in rows]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_silent(seed):
    assert not any(warnings_of(healthy(1000, seed)))


def sudden(row, number):
    """The reward falls once, and stays there."""
    return {"reward": row["reward"] - 40}


def shares(positive, negative):
    return {"positive_share": positive, "negative_share": negative}


PROVOKED = {
    "max_unmatched_rate": lambda row, i: {"unmatched_rate": 0.12},
    "min_coverage": lambda row, i: {"coverage": 0.01} | shares(0.005, 0.005),
    "max_coverage": lambda row, i: {"coverage": 1.0} | shares(0.5, 0.5),
    "max_sign_share": lambda row, i: {"coverage": 0.4} | shares(0.4, 0.0),
    "max_rejected_share": lambda row, i: {"rejected_share": 0.45},
    "max_removed_mass": lambda row, i: {"removed_mass": 0.45},
    "max_reward_swing": lambda row, i: {"reward": row["reward"] + 6 * (-1) ** i},
    "max_length_growth": lambda row, i: {"response_tokens": 80.0},
    "min_length_growth": lambda row, i: {"response_tokens": 20.0},
    "max_kl_ratio": lambda row, i: {"kl": 20.0},
}


def test_every_bound_is_provoked():
    assert [bound.flag for bound in BOUNDS] == list(PROVOKED)


@pytest.mark.parametrize("flag", PROVOKED)
def test_each_watch_fires_once_when_provoked_and_again_after_a_calm(flag):
    args = ARGS
    if flag == "max_sign_share":  # all negative counts as well
        rows = list(healthy(30))
        poor = [row | {"positive_share": 0.0} if row["step"] > 12 else row for row in rows]
        assert [text for found in warnings_of(poor) for text in found]
    rows = []
    for i, row in enumerate(healthy(100)):
        ill = 12 <= i < 40 or i >= 70
        rows.append(row | PROVOKED[flag](row, i) if ill else row)
    found = warnings_of(rows, args)
    fired = [(step, text) for step, texts in enumerate(found) for text in texts]
    assert len(fired) == 2, fired
    for (step, text), start in zip(fired, (12, 70), strict=True):
        assert start <= step < start + args.watch_steps
        assert f" --{flag} {getattr(args, flag):g}: " in text
        assert re.search("samples.jsonl|metrics.jsonl|--constrained_decoding false", text)


def test_the_message_names_figure_bound_flag_and_what_to_look_at():
    rows = [row | {"unmatched_rate": 0.125} for row in healthy(8)]
    *before, last = warnings_of(rows)
    assert not any(before)
    assert last == [
        "share of unmatched quotes 0.125 over 8 steps, above --max_unmatched_rate 0.05: they earn "
        'nothing; look at spans with "match": "unmatched" in samples.jsonl'
    ]


def silenced(row, number):
    """Each step says a little less, and what it says is poor but for one word."""
    left = 45 - 2 * max(0, number - 8)
    return {"response_tokens": left, "positive_share": 0.1 * row["coverage"]}


def test_a_policy_that_falls_silent_under_blame_is_told_what_to_look_at():
    rows = [row | silenced(row, i) for i, row in enumerate(healthy(24))]
    ((step, text),) = [(i, text) for i, found in enumerate(warnings_of(rows)) for text in found]
    # eight lengths from 35 down to 21 are 28 on average, 0.62 of 45; the next 26, 0.58
    assert step == 21
    assert text == (
        "length of the responses against the first steps 0.578 over 8 steps, below "
        "--min_length_growth 0.6: a policy may say less to earn less blame; see in samples.jsonl "
        "whether nearly all labels are poor, and in metrics.jsonl negative_share and "
        "response_tokens_min; raise --init_kl_coef, or compare with --credit_assignment scalar"
    )


def test_a_policy_that_learns_to_be_brief_is_left_alone():
    """From 45 to 29 tokens on average: 0.64 of the first steps at the least."""
    rows = [row | {"response_tokens": 45 - 16 * i / 99} for i, row in enumerate(healthy(100))]
    assert not any(warnings_of(rows))


def test_a_figure_around_its_bound_is_one_episode():
    kls = [20.0, 4.0] * 30  # the mean of 8 is 12, the bound: from step to step above or not
    rows = [
        row | {"kl": kl + row["step"] % 3 - 1} for row, kl in zip(healthy(60), kls, strict=True)
    ]
    assert sum(map(len, warnings_of(rows))) == 1


def test_a_single_fall_is_no_oscillation():
    rows = [row | (sudden(row, i) if i > 20 else {}) for i, row in enumerate(healthy(40))]
    assert not any(warnings_of(rows))


def test_reward_swing():
    # changes 2, -2, 2 turn each time; chance gives a change the deviation sqrt(2 * 0.25)
    assert reward_swing([1, 3, 1, 3], [0.5] * 4) == pytest.approx(2 / math.sqrt(0.5))
    assert reward_swing([1, 3, 5, 7], [0.5] * 4) == 0  # a rise
    assert reward_swing([1, 1, 1], [0.5] * 3) == 0
    assert reward_swing([0, 1, 0], [0.0] * 3) == math.inf  # nothing that chance explains
    # +, -, -, +: one turn of two, then again: half of the changes turn back
    assert reward_swing([0, 2, 1, -1, 1], [1.0] * 5) == pytest.approx(2 / math.sqrt(2))


def test_what_was_not_judged_is_no_figure():
    row = next(healthy(1))
    assert watched_figures(row | {"judged": 0}) == {"response_tokens": row["response_tokens"]}
    assert "unmatched_rate" not in watched_figures(row | {"spans_per_response": 0.0})
    none = {"coverage": 0.0} | shares(0.0, 0.0)
    assert watched_figures(row | none)["coverage"] == 0
    assert "positive" not in watched_figures(row | none)
    assert "kl" not in watched_figures(row | {"kl": math.nan})


def test_a_resumed_watch_goes_on_as_if_nothing_had_happened():
    rows = [
        row | (PROVOKED["max_kl_ratio"](row, 0) if i > 10 else {})
        for i, row in enumerate(healthy(40))
    ]
    whole = warnings_of(rows)
    assert sum(map(len, whole)) == 1
    for cut in (5, 14, 30):
        first, second = RunWatch(ARGS), RunWatch(ARGS)
        found = [first.update(row, 0.0) for row in rows[:cut]]
        second.load_state_dict(first.state_dict())
        assert found + [second.update(row, 0.0) for row in rows[cut:]] == whole


def test_unparseable_critiques_stop_only_if_they_persist():
    watch, row = RunWatch(PolicyConfig(max_bad_steps=3, output_dir="run")), next(healthy(1))
    for share in (0.6, 0.6, 0.5, 0.6, 0.6):
        watch.update(row, share)
        assert watch.reason_to_stop == ""
    watch.update(row, 0.6)
    assert watch.reason_to_stop.startswith("stopped: more than --max_unparseable_share 0.5")


def test_bounds_are_checked():
    for flag in ({"watch_steps": 3}, {"max_coverage": 1.5}, {"max_kl_ratio": 0.0}):
        (name, value), *_ = flag.items()
        with pytest.raises(UserError, match=f"--{name} {value}: must"):
            PolicyConfig(**flag)


# -- in a run

CALM = {"steps": 10, "watch_steps": 4, "learning_rate": 1e-4, "batch_size": 8}


def test_a_small_real_run_is_silent(make, capsys):
    made = make(FakeCritic(good="etaoin", poor="shrdlu"), **CALM)
    made.train()
    rows = rows_of(made.output_dir)
    assert [row["warnings"] for row in rows] == [[]] * 10
    assert "warning:" not in capsys.readouterr().out


def test_warnings_are_printed_recorded_and_reported(make, capsys):
    made = make(FakeCritic(good="etaoinshrdlu", poor=""), **CALM)
    made.train()
    rows = rows_of(made.output_dir)
    said = [(row["step"], text) for row in rows for text in row["warnings"]]
    ((step, text),) = said
    assert (step, text.split(",")[0]) == (4, "share of the scores with one sign 1 over 4 steps")
    assert f"warning: step 4: {text}\n" in capsys.readouterr().out
    found = find_warnings(ReportData("t", {}, rows))
    assert f"Step 4: {text}." in found


def test_a_resumed_run_does_not_repeat_its_warnings(make):
    critic = FakeCritic(good="etaoinshrdlu", poor="")
    whole = make(critic, folder="whole", **CALM)
    whole.train()
    make(critic, folder="half", **CALM | {"steps": 6}).train()
    resumed = make(critic, folder="half", resume_from_checkpoint="auto", **CALM)
    resumed.train()
    assert comparable(rows_of(resumed.output_dir)) == comparable(rows_of(whole.output_dir))


def test_a_report_of_many_warnings_shows_the_first():
    rows = [{"step": i, "warnings": ["x"]} for i in range(25)]
    found = find_warnings(ReportData("t", {}, rows))
    assert len(found) == 21
    assert found[-1] == "5 more warnings are in metrics.jsonl."
