"""The controlled testbed: its language, its critics, its statistics, and a small study."""

import json
import random
import re
from dataclasses import replace

import pytest
from trees import ROOT

from text2grad.alignment import TokenBytes, response_text
from text2grad.config import TestbedConfig
from text2grad.schema import Record, UserError
from text2grad.scoring import judge
from text2grad.span_noise import NOISE_KINDS, Noise, disturb_spans
from text2grad.tasks import get_task
from text2grad.testbed import language
from text2grad.testbed.comparison import (
    Curve,
    compare_curves,
    compare_steps,
    paired_difference,
    sign_test,
)
from text2grad.testbed.critics import OPPOSITE, SyntheticAnnotator, exact_spans
from text2grad.testbed.start_model import END, build_tokenizer
from text2grad.testbed.study import Testbed, run_testbed

TASK = get_task("ultrafeedback")
TOKENIZER = build_tokenizer()
PIECES = TokenBytes(TOKENIZER)


def phrases_of(worth):
    return [phrase for phrase, its_worth in language.WORTHS.items() if its_worth == worth]


def written(count):
    draw = random.Random(0)
    return [Record(f"p{n}", "x", language.written_response(draw, 8)) for n in range(count)]


def token_scores(record, **critic):
    """What the trainer would pay for the response: the real alignment of the critique."""
    ids = TOKENIZER.encode(record.response + END)
    pieces = PIECES.pieces(ids)
    assert response_text(pieces) == record.response
    (said,) = SyntheticAnnotator(**critic).annotate([record])
    return judge(record, pieces, said, TASK), pieces


# -- the language


def test_no_word_alone_tells_good_from_poor():
    counts = [len(phrases_of(worth)) for worth in ("good", "poor", "neutral")]
    assert counts == [12, 12, 24]
    for word in (*language.ADJECTIVES, *language.NOUNS):
        worths = {worth for phrase, worth in language.WORTHS.items() if word in phrase}
        assert len(worths) > 1, word


def test_prompts_to_measure_by_are_never_trained_on():
    known, held_out = language.prompts(False), language.prompts(True)
    assert (len(known), len(held_out)) == (24 * 12, 24 * 4)
    assert not set(known) & set(held_out)


def test_quality_counts_a_good_phrase_once_and_a_poor_one_each_time():
    (good, other), poor = phrases_of("good")[:2], phrases_of("poor")[0]
    neutral = phrases_of("neutral")[0]
    text = language.join_phrases([good, poor, neutral, good, poor, other])
    found = language.quality(text)
    assert (found.good, found.poor, found.net) == (2, 2, 0)
    assert [p.worth for p in language.find_phrases(text)] == [
        *("good", "poor", "neutral", "neutral", "poor", "good")
    ]


def test_phrases_have_their_place_and_other_words_are_none():
    (found,) = language.find_phrases(" calm river, river old  house calm\nhouse")
    assert (found.text, found.start, found.end) == ("calm river", 1, 11)
    assert language.find_phrases("") == []


# -- critics


def test_an_exact_critique_pays_two_tokens_for_every_phrase():
    for record in written(50):
        judged, _ = token_scores(record)
        assert sum(judged.scores) == 2 * language.quality(record.response).net
        assert all(span.match == "exact" for span in judged.spans)


def test_a_dense_critique_scores_every_word():
    for record in written(50):
        (exact, pieces), (dense, _) = token_scores(record), token_scores(record, marks="everything")
        decided = [one.scores for one in (exact, dense)]
        assert all(b == a for a, b in zip(*decided, strict=True) if a)
        found = language.quality(record.response)
        whole = 1 if found.good > found.poor else -1
        rest = [b for a, b, p in zip(*decided, pieces, strict=True) if not a and p]
        assert rest == [whole] * len(rest)


def hits(records, noise):
    """Spans of the records as they are and disturbed, one list each."""
    pairs = []
    for record in records:
        spans = exact_spans(record.response)
        draw = random.Random(record.id)
        wrong = disturb_spans(spans, record.response, noise, draw, OPPOSITE)
        pairs.append((record, spans, wrong))
    return pairs


@pytest.mark.parametrize("kind", ["flip", "shift", "replace"])
def test_noise_changes_the_share_of_the_spans_that_it_names(kind):
    changed = total = 0
    for _, before, after in hits(written(600), Noise(kind, 0.2)):
        changed += sum(a != b for a, b in zip(before, after, strict=True))
        total += len(before)
    assert total > 1500  # deviation of the share at most sqrt(0.16 / 1500) = 0.0103
    assert abs(changed / total - 0.2) < 0.04


def test_dropped_spans_are_gone_and_more_noise_drops_these_too():
    records = written(600)
    low, high = (hits(records, Noise("drop", rate)) for rate in (0.1, 0.4))
    kept, total = (sum(len(pair[place]) for pair in low) for place in (2, 1))
    assert abs(kept / total - 0.9) < 0.04
    assert all(set(b[2]) <= set(a[2]) for a, b in zip(low, high, strict=True))


def test_at_full_rate_every_span_has_the_error():
    for _, before, after in hits(written(50), Noise("flip", 1.0)):
        assert [(s.text, s.start) for s in before] == [(s.text, s.start) for s in after]
        assert all(a.label != b.label for a, b in zip(before, after, strict=True))
    for kind, reach in (("shift", 3), ("replace", 99)):
        for record, before, after in hits(written(50), Noise(kind, 1.0)):
            starts = [start for start, _ in language.word_places(record.response)]
            for a, b in zip(before, after, strict=True):
                assert a.label == b.label
                assert record.response[b.start : b.end] == b.text
                assert len(b.text.replace(",", "").split()) == 2
                assert 0 < abs(starts.index(a.start) - starts.index(b.start)) <= reach


def test_an_irrelevant_critique_says_nothing_about_worth():
    records = written(400)
    said = SyntheticAnnotator(noise=Noise("irrelevant", 1.0), seed=3).annotate(records)
    right = total = 0
    for record, one in zip(records, said, strict=True):
        assert len(one.spans) == len(exact_spans(record.response))
        assert all(span.text in record.response for span in one.spans)
        judged = [(s.label, language.WORTHS[s.text]) for s in one.spans]
        decided = [pair for pair in judged if pair[1] != "neutral"]
        right += sum(label == worth for label, worth in decided)
        total += len(decided)
    assert total > 500  # deviation of the share at most 0.5 / sqrt(500) = 0.022
    assert abs(right / total - 0.5) < 0.09


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_a_response_gets_the_same_critique_whoever_asks(kind):
    records, noise = written(20), Noise(kind, 0.4)
    together = SyntheticAnnotator(noise=noise, seed=1).annotate(records)
    alone = [SyntheticAnnotator(noise=noise, seed=1).annotate([r])[0] for r in records[::-1]]
    assert together == alone[::-1]
    assert SyntheticAnnotator(noise=noise, seed=2).annotate(records) != together


# -- statistics


def test_smooth_curve_and_first_reach():
    curve = Curve((0, 2, 4), (1.0, 2.0, 6.0))
    assert curve.smooth(2).values == (1.0, 1.5, 4.0)
    assert curve.average == 3.0
    assert curve.first_reach(2.0) == 2
    assert curve.first_reach(6.5) is None
    # the first passage counts, wherever the curve goes afterwards
    assert Curve((0, 2, 4), (1.0, 3.0, 2.0)).first_reach(2.0) == 2


def test_paired_difference_by_hand():
    # differences 2, 4: mean 3, deviation sqrt 2, over sqrt 2 is 1, t(1) 12.7062
    found = paired_difference([3.0, 5.0], [1.0, 1.0])
    assert found["mean"] == 3.0
    assert found["interval"] == pytest.approx((-9.7062, 15.7062), abs=1e-4)
    # the same numbers in other pairs differ by 4, 2 as well, but equal shifts leave no doubt
    assert paired_difference([1.0, 9.0], [0.0, 8.0])["interval"] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [(5, 0, 0.0625), (0, 5, 0.0625), (3, 1, 0.625), (2, 2, 1.0), (0, 0, 1.0)],  # 2 (1 + 4) / 16
)
def test_sign_test_by_hand(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, abs=1e-12)


def test_steps_of_censored_runs_count_as_the_budget_and_lose_to_those_that_got_there():
    found = compare_steps([10, 20, None, None], [20, 20, 30, None], 40)
    assert found["ours"] == 27.5  # (10 + 20 + 40 + 40) / 4
    assert found["theirs"] == 27.5
    assert (found["censored_ours"], found["censored_theirs"]) == (2, 1)
    assert (found["wins"], found["ties"], found["losses"]) == (1, 2, 1)
    assert found["difference"]["mean"] == 0
    assert found["saved"] == 0
    low, high = found["saved_interval"]
    assert low < 0 < high
    # nobody got there at 40 of 40: a tie, though both count as 40
    assert compare_steps([None], [40], 40)["losses"] == 1


def test_saved_steps_by_hand():
    # every pair 10 against 20: half is saved in every resample
    found = compare_steps([10, 10, 10], [20, 20, 20], 40)
    assert found["saved"] == 0.5
    assert found["saved_interval"] == (0.5, 0.5)
    assert found["p_value"] == 0.25
    # reached before the first step by both: no share is defined
    nothing = compare_steps([0, 0], [0, 0], 40)
    assert nothing["saved"] is None
    assert nothing["saved_interval"] is None


def test_curves_are_compared_at_the_score_with_which_the_other_of_the_same_seed_ends():
    steps = (0, 1, 2, 3)
    theirs = [Curve(steps, (0, 1, 2, 3)), Curve(steps, (0, 0, 4, 2))]
    ours = [Curve(steps, (0, 3, 4, 4)), Curve(steps, (0, 1, 1, 1))]
    found = compare_curves(ours, theirs, 3, 1)
    assert found["steps_ours"] == [1, None]  # scores 3 and 2
    assert found["steps_theirs"] == [3, 2]
    assert found["final"]["mean"] == 0  # 4 - 3 and 1 - 2
    assert found["average"]["mean"] == pytest.approx((1.25 - 0.75) / 2)  # 11/4 - 6/4, 3/4 - 6/4


# -- a study


def small(folder, **changes):
    flags = {
        "methods": ("span", "scalar", "dense"),
        "seeds": 2,
        "learning_rates": (1e-3,),
        "noise_kinds": ("drop",),
        "noise_rates": (0.4,),
        "noise_seeds": 1,
        "steps": 2,
        "eval_steps": 1,
        "batch_size": 4,
        "mini_batch_size": 4,
        "ppo_epochs": 1,
        "eval_samples": 4,
        "most_phrases": 3,
        "start_steps": 30,
    }
    return TestbedConfig(output_dir=str(folder), **flags | changes)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("testbed")
    args = small(folder, table_path=str(folder / "out" / "table.md"))
    run_testbed(args)
    return folder, args


def test_a_study_leaves_table_figures_and_curves(study):
    folder, _ = study
    text = (folder / "out/table.md").read_text()
    assert "Not complete" not in text
    assert "| dense |" in text
    assert "| drop | 40 % | 1 |" in text
    results = json.loads((folder / "out/table.json").read_text())
    assert results["methods"]["span"]["seeds"] == [1, 2]
    assert results["methods"]["dense"]["marks"] == "everything"
    lines = (folder / "curves.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 8 * 3  # three methods of two seeds and two noisy runs, steps 0 to 2
    assert all(row["quality"] == pytest.approx(row["good"] - row["poor"]) for row in rows)
    assert any(row["quality"] for row in rows)
    first = {row["quality"] for row in rows if row["step"] == 0 and row["seed"] == 1}
    assert len(first) == 1, "runs of a seed start from the same model and are measured alike"


def test_runs_differ_in_credit_alone(study):
    folder, _ = study
    flags = {}
    for name in ("span", "scalar", "dense"):
        config = json.loads((folder / f"runs/{name}/lr-0.001/seed-1/config.json").read_text())
        flags[name] = config["flags"]
        assert config["reward_model"].startswith("synthetic")
    differing = {k for k in flags["span"] if flags["span"][k] != flags["scalar"][k]}
    assert differing == {"credit_assignment", "output_dir"}
    assert {k for k in flags["span"] if flags["span"][k] != flags["dense"][k]} == {"output_dir"}


def test_what_is_done_is_not_run_again_and_what_is_missing_comes_out_the_same(study, capsys):
    folder, args = study
    table = (folder / "out/table.md").read_text()
    again = folder / "runs/span/lr-0.001/seed-2/curve.jsonl"
    before = again.read_text()
    again.unlink()  # as if it had been stopped
    kept = folder / "runs/scalar/lr-0.001/seed-2/curve.jsonl"
    written_at = kept.stat().st_mtime_ns
    capsys.readouterr()
    run_testbed(args)
    assert len(re.findall(r": quality -?\d", capsys.readouterr().out)) == 1
    assert kept.stat().st_mtime_ns == written_at
    assert again.read_text() == before
    assert (folder / "out/table.md").read_text() == table


def test_a_folder_holds_one_budget(study):
    _, args = study
    with pytest.raises(UserError, match="--steps 4"):
        Testbed(replace(args, steps=4))


def test_the_best_learning_rate_is_chosen_on_seeds_that_are_not_compared(tmp_path, monkeypatch):
    made = []

    def make_run(run, args, root):
        """Quality 1 with the smaller rate, 2 with the larger."""
        made.append(run)
        path = run.folder(root) / "curve.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"step": step, "quality": 1 + (run.learning_rate > 0.1)} for step in (0, 2)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return rows

    monkeypatch.setattr("text2grad.testbed.study.make_run", make_run)
    args = small(tmp_path, learning_rates=(0.2, 0.01), noise_seeds=0, tuning_seeds=1)
    run_testbed(args)
    results = json.loads((tmp_path / "testbed.json").read_text())
    chosen = {"chosen": 0.2, "at_end": True, "final": {"0.01": 1, "0.2": 2}}
    assert results["tuning"] == dict.fromkeys(args.methods, chosen)
    tuned = {run.seed for run in made if run.learning_rate == 0.01}
    assert tuned.isdisjoint(results["methods"]["span"]["seeds"])
    assert {run.learning_rate for run in made if run.seed in (1, 2)} == {0.2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("span",)}, "--methods span: must name scalar"),
        ({"methods": ("scalar",)}, "--methods scalar: must name span"),
        ({"noise_rates": (0.0,)}, "--noise_rates 0"),
        ({"learning_rates": ()}, "--learning_rates: names none"),
        ({"learning_rates": (0.0,)}, "--learning_rates 0"),
        ({"steps": 3, "eval_steps": 2}, "--steps 3 is not a multiple of --eval_steps 2"),
        ({"mini_batch_size": 3}, "--batch_size 4 is not a multiple of --mini_batch_size 3"),
    ],
)
def test_flags_that_cannot_work(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        small(tmp_path, **changes)


def test_script_is_flags_and_one_call():
    text = (ROOT / "paper/testbed.py").read_text()
    assert len(text.splitlines()) <= 60
