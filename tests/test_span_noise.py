"""Errors in critiques: on cases worked out by hand, in files, and in PPO."""

import json
import random
from collections import Counter

import pytest
from policy_runs import FakeCritic, config, rows_of, save_tiny, write_posts

from text2grad.config import NoiseConfig, PolicyConfig
from text2grad.files import read_rows
from text2grad.noisy_feedback import (
    NoisyCritic,
    disturb_feedback,
    opposite_labels,
    write_noisy_copy,
)
from text2grad.records import read_records
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.scoring import critique_counts, judge
from text2grad.span_noise import NOISE_KINDS, Noise, disturb_spans, read_noise, word_places
from text2grad.tasks import get_task

TASK = get_task("slf5k")
OPPOSITE = {"good": "poor", "poor": "good"}
TEXT = "one two three four five six"
TWO = Span("two", "good", 4, 7)


class Draws:
    """Stands in for the generator and says which numbers come."""

    def __init__(self, *numbers):
        self.numbers = iter(numbers)

    def random(self):
        return next(self.numbers)

    def choice(self, options):
        return options[0]


def disturbed(kind, where, *spans, text=TEXT, rate=0.5, **more):
    """The spans with an error each, which `where` in [0, 1) chooses."""
    numbers = [number for _ in spans for number in (0.0, where)]
    numbers = [0.0, *([where] * len(spans))] if kind == "irrelevant" else numbers
    return disturb_spans(spans, text, Noise(kind, rate), Draws(*numbers), OPPOSITE, **more)


# -- spans in, spans out


def test_a_flip_keeps_the_place():
    assert disturbed("flip", 0.9, TWO) == [Span("two", "poor", 4, 7)]


def test_a_dropped_span_is_gone():
    assert disturbed("drop", 0.9, TWO, Span("six", "poor", 24, 27)) == []


@pytest.mark.parametrize(
    ("where", "start"),
    # "two" is word 1 of 6: it may move to the words 0, 2, 3 and 4, one quarter of the draws each
    [(0.0, 0), (0.24, 0), (0.25, 8), (0.5, 14), (0.75, 19), (0.999, 19)],
)
def test_a_shift_goes_up_to_three_words_either_way(where, start):
    (moved,) = disturbed("shift", where, TWO)
    assert (moved.start, moved.label) == (start, "good")
    assert moved.text == TEXT[moved.start : moved.end]


@pytest.mark.parametrize(("where", "text"), [(0.0, "one"), (0.2, "three"), (0.8, "six")])
def test_a_replacement_is_any_other_place(where, text):
    (moved,) = disturbed("replace", where, TWO)  # five other words, a fifth of the draws each
    assert moved.text == text


def test_a_quote_keeps_its_number_of_words():
    pair = Span("two three", "poor", 4, 13)
    # pairs begin at the words 0 to 4, own 1: the others are 0, 2, 3, 4
    found = {disturbed("replace", w, pair)[0].text for w in (0.0, 0.3, 0.6, 0.9)}
    assert found == {"one two", "three four", "four five", "five six"}


def test_overlapping_quotes_are_moved_each_by_itself():
    spans = (Span("two three", "good", 4, 13), Span("three", "poor", 8, 13))
    found = disturbed("shift", 0.0, *spans)  # the first of the places: three words to the left
    assert [(span.text, span.label) for span in found] == [("one two", "good"), ("one", "poor")]


def test_an_irrelevant_critique_has_as_many_quotes_of_the_same_length_with_any_label():
    found = disturbed("irrelevant", 0.99, TWO, Span("four five", "good", 14, 23))
    # the last of five other words, and the last of four other pairs
    assert [span.text for span in found] == ["six", "five six"]
    assert {span.label for span in found} == {"good"}


def test_what_fills_the_response_cannot_be_moved():
    whole = Span(TEXT, "good", 0, len(TEXT), "exact")
    for kind in ("shift", "replace"):
        assert disturbed(kind, 0.5, whole) == [whole]
    assert disturbed("shift", 0.5, Span("…", "poor", 0, 1), text="…") == [Span("…", "poor", 0, 1)]


def test_a_quote_stays_in_the_stretch_that_is_judged():
    text = "prose prose\na = b\nprose"
    for where in (0.0, 0.99):
        found = disturbed("replace", where, Span("b", "poor", 16, 17), text=text, judged=[(12, 18)])
        assert found == [Span("a", "poor", 12, 13)]


def test_words_of_scripts_without_spaces_are_characters():
    assert word_places("so, it's") == [(0, 2), (4, 8)]
    assert word_places("猫が dog") == [(0, 1), (1, 2), (3, 6)]
    assert word_places("cafe\u0301 x") == [(0, 5), (6, 7)]
    assert word_places(TEXT, 4, 7) == [(4, 7)]


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_no_noise_changes_nothing_and_spans_stay_inside(kind):
    draw = random.Random(0)
    for length in range(1, 30):
        text = " ".join(draw.choice(("a", "bc", "d,", "(e)", "é")) for _ in range(length))
        words = word_places(text)
        places = [(a, words[min(n + 2, length - 1)][1]) for n, (a, _) in enumerate(words)]
        spans = [Span(text[a:b], "good", a, b) for a, b in places]
        noise = Noise(kind, 0.0)
        assert disturb_spans(spans, text, noise, random.Random(length), OPPOSITE) == spans
        after = disturb_spans(spans, text, Noise(kind, 1.0), random.Random(length), OPPOSITE)
        assert len(after) == (0 if kind == "drop" else len(spans))
        for span in after:
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end] == span.text


# -- feedback and labels


def test_the_opposite_of_the_best_label_is_the_worst_and_of_all_others_the_best():
    assert opposite_labels(TASK) == OPPOSITE
    code = {"wrong_code": "improvement_code", "improvement_code": "wrong_code"}
    assert opposite_labels(get_task("kodcode")) == code


def test_errors_are_counted_and_unmatched_quotes_left_alone():
    record = Record("r", "p", TEXT)
    said = Feedback("fine", (Span("two", "good"), Span("eleven", "poor")), "because", "fences")
    wrong = disturb_feedback(said, record, Noise("flip", 1.0), 0, TASK)
    assert [(s.text, s.label, s.match) for s in wrong.spans] == [
        ("two", "poor", "exact"),
        ("eleven", "poor", "unmatched"),
    ]
    assert (wrong.placed, wrong.errors) == (1, 1)
    assert (wrong.critique, wrong.reasoning, wrong.repair) == ("fine", "because", "fences")
    none = disturb_feedback(said, record, Noise("flip", 1e-9), 0, TASK)
    assert (none.placed, none.errors) == (1, 0)


def test_a_moved_copy_keeps_its_own_place():
    """The text of another copy is not looked up again."""
    record = Record("r", "p", "a b a b a")
    said = Feedback("", (Span("b", "good", 2, 3),))
    places = set()
    for seed in range(20):
        wrong = disturb_feedback(said, record, Noise("replace", 1.0), seed, TASK)
        places.add(wrong.spans[0].start)
    assert places == {0, 4, 6, 8}


def test_whoever_asks_is_told_the_same():
    class Critic:
        def annotate(self, records):
            return [Unparseable("no") if r.id == "x" else Feedback("", (TWO,)) for r in records]

    records = [Record(name, "p", TEXT) for name in ("a", "x", "b")]
    one, other = (NoisyCritic(Critic(), Noise("replace", 1.0), seed, TASK) for seed in (1, 1))
    assert one.annotate(records) == other.annotate(records[::-1])[::-1]
    assert isinstance(one.annotate(records)[1], Unparseable)
    assert one.stats is None


def test_a_wrong_label_changes_the_sign_of_a_tokens_score():
    record, pieces = Record("r", "p", TEXT), [b"one", b" two", b" three four five six"]
    said = Feedback("", (TWO,))
    wrong = disturb_feedback(said, record, Noise("flip", 1.0), 0, TASK)
    scores = [judge(record, pieces, one, TASK).scores for one in (said, wrong)]
    assert scores == [[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]
    counts, _ = critique_counts([judge(record, pieces, wrong, TASK)])
    assert (counts["noisy_critiques"], counts["wrong_quotes"]) == (1, 1)
    exact, _ = critique_counts([judge(record, pieces, said, TASK)])
    assert "noisy_critiques" not in exact


# -- files


def annotated(folder, count=50):
    rows = [
        {
            "id": f"r{n}",
            "post": f"Post {n}.",
            "generated_summary": TEXT,
            "textual_feedback": f"critique {n}",
            "good_spans": ["two", "five"],
            "poor_spans": ["nowhere"],
            "kept": n,
            "annotation": {"annotator": "human", "reasoning": "steps"},
        }
        for n in range(count)
    ]
    path = folder / "annotated.json"
    path.write_text(json.dumps(rows))
    return path


def copied(folder, noise, **more):
    out = folder / f"{noise.replace(':', '-')}.json"
    files = {"data_path": str(folder / "annotated.json"), "output_path": str(out)}
    write_noisy_copy(NoiseConfig(**files, noise=noise, **more))
    return out


def test_a_noisy_copy_is_a_file_of_annotations(tmp_path, capsys):
    before = read_records(annotated(tmp_path), TASK)
    out = copied(tmp_path, "flip:0.2")
    after = read_records(out, TASK, ("prompt", "response", "feedback"))
    facts = json.loads((tmp_path / "flip-0.2.noise.json").read_text())
    labels = [[span.label for span in record.feedback.spans] for record in after]
    flipped = sum(label == "poor" for one in labels for label in one) - 50  # "nowhere" is poor
    assert facts["quotes"] == 100
    assert facts["records"] == 50
    assert facts["wrong"] == flipped
    assert facts["touched"] == sum(one.count("poor") > 1 for one in labels)
    assert 8 <= flipped <= 34  # 20 with a deviation of 4
    assert f"flip-0.2: {flipped} of 100 quotes wrong" in capsys.readouterr().out
    row = read_rows(out)[0]
    assert (row["kept"], row["textual_feedback"]) == (0, "critique 0")
    assert row["annotation"] == {
        **{"annotator": "human", "reasoning": "steps"},
        **{"noise": "flip:0.2", "noise_seed": 42},
    }
    assert set(row["good_spans"]) <= {"two", "five"}
    assert [r.id for r in after] == [r.id for r in before]


def test_the_same_seed_makes_the_same_errors_and_more_noise_these_too(tmp_path):
    annotated(tmp_path)
    first = read_rows(copied(tmp_path, "drop:0.2"))
    assert read_rows(copied(tmp_path, "drop:0.2")) == first
    more = read_rows(copied(tmp_path, "drop:0.4"))
    for few, many in zip(first, more, strict=True):
        assert set(many["good_spans"]) <= set(few["good_spans"])
    assert read_rows(copied(tmp_path, "drop:0.2", seed=7)) != first


def test_irrelevant_critiques_have_the_words_of_another_record(tmp_path):
    annotated(tmp_path)
    rows = read_rows(copied(tmp_path, "irrelevant:1"))
    for n, row in enumerate(rows):
        assert row["textual_feedback"] != f"critique {n}"
        assert len(row["good_spans"]) + len(row["poor_spans"]) == 3
    labels = Counter(span["label"] for row in rows for span in row["spans"] if "start" in span)
    assert 30 <= labels["poor"] <= 70  # of 100, by chance: deviation 5


def test_a_file_without_annotations_is_an_error(tmp_path):
    (tmp_path / "annotated.json").write_text('[{"post": "p", "generated_summary": "s"}]')
    with pytest.raises(UserError, match=r"record 1 .*no annotation"):
        copied(tmp_path, "flip:0.2")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("swap:0.2", "--x swap:0.2: unknown, known are flip, drop, shift, replace, irrelevant"),
        ("flip", "--x flip: after the colon comes a share of more than 0 and at most 1, as flip"),
        ("flip:half", "--x flip:half: after the colon"),
        ("flip:0", "--x flip:0: after the colon"),
        ("flip:20", "--x flip:20: after the colon"),
        ("flip:nan", "--x flip:nan: after the colon"),
    ],
)
def test_flags_that_name_no_noise(text, said):
    with pytest.raises(UserError, match=said):
        read_noise(text, "--x")


def test_noise_as_flags_spell_it():
    assert read_noise("", "--x") is None
    assert read_noise("shift:.05", "--x") == Noise("shift", 0.05)
    assert (Noise("drop", 0.4).flag, Noise("drop", 1.0).name) == ("drop:0.4", "drop-1")
    with pytest.raises(UserError, match="--noise: names none"):
        NoiseConfig(noise="")
    with pytest.raises(UserError, match="--feedback_noise flip:2: after"):
        PolicyConfig(feedback_noise="flip:2")
    with pytest.raises(UserError, match="scalar_model quotes nothing"):
        PolicyConfig(feedback_noise="flip:1", feedback_source="scalar_model")


# -- PPO


def test_ppo_pays_what_the_noisy_critique_says(tmp_path, monkeypatch):
    model, data = save_tiny(tmp_path / "model"), write_posts(tmp_path / "posts.json")
    monkeypatch.setattr("text2grad.scoring._exact_critic", lambda args, task: FakeCritic(poor=""))
    runs = {}
    for noise in ("", "flip:1"):
        args = config(model, data, tmp_path / f"run{noise[:1]}", steps=1, feedback_noise=noise)
        from text2grad.trainer import Text2GradTrainer

        Text2GradTrainer(args).train()
        samples = rows_of(args.output_dir, "samples.jsonl")
        runs[noise] = samples, rows_of(args.output_dir)
    (exact, [row]), (wrong, [noisy]) = runs[""], runs["flip:1"]
    assert [one["response"] for one in exact] == [one["response"] for one in wrong]
    assert any(any(one["scores"]) for one in exact)
    assert all(
        a["scores"] == [-score for score in b["scores"]] for a, b in zip(exact, wrong, strict=True)
    )
    assert "wrong_quotes" not in row
    assert noisy["wrong_quotes"] == sum(len(one["spans"]) for one in wrong) > 0
