"""The baselines, the reward model's report and the summary metrics."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from text2grad.agreement import label_units, word_units
from text2grad.baselines import (
    BagOfWordsBaseline,
    ConstantBaseline,
    CritiqueBaseline,
    spans_of_labels,
)
from text2grad.config import PolicyMetricsConfig, RewardMetricsConfig
from text2grad.files import sha256_file
from text2grad.metrics import evaluate_reward_model, evaluate_summaries
from text2grad.reward_quality import reward_model_report
from text2grad.reward_report import check_reward_report
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.summary_quality import summary_metrics
from text2grad.tasks import get_task

TASK = get_task("slf5k")


def span(response, text, label):
    start = response.index(text)
    return Span(text, label, start, start + len(text), "exact")


def record(number, response, *spans, post="a post", critique="fine"):
    return Record(str(number), post, response, feedback=Feedback(critique, tuple(spans)))


# -- baselines


def planted(count, seed):
    """Responses in which exactly the words that the post lacks are poor."""
    generator = np.random.default_rng(seed)
    known = [f"known{i}" for i in range(30)]
    records = []
    for number in range(count):
        post = list(generator.permutation(known)[:15])
        strange = [f"strange{number}x{i}" for i in range(4)]
        response = " ".join([*post[:5], *strange, *post[5:8]])
        records.append(record(number, response, span(response, " ".join(strange), "poor")))
        records[-1] = Record(**{**records[-1].__dict__, "prompt": " ".join(post)})
    return records


def test_bag_of_words_learns_what_is_not_in_the_post():
    train, test = planted(40, 0), planted(5, 99)
    model = BagOfWordsBaseline(TASK).fit(train)
    for item in test:
        wanted = label_units(item.feedback.spans, item.response, TASK, word_units(item.response))
        assert model.predict(item) == wanted
    assert model.predict(Record("0", "a post", "")) == []
    again = BagOfWordsBaseline(TASK).fit(train)
    np.testing.assert_array_equal(model.weights, again.weights)


def test_bag_of_words_needs_annotated_records():
    with pytest.raises(UserError, match="--train_file"):
        BagOfWordsBaseline(TASK).fit([Record("0", "post", "text")])


def test_constant_baseline_and_label_runs():
    response = "a b  c d"
    assert ConstantBaseline("poor").predict(Record("0", "p", response)) == ["poor"] * 4
    spans = spans_of_labels(["good", "good", "neutral", "poor"], response)
    assert [(s.text, s.label, s.start, s.end) for s in spans] == [
        ("a b", "good", 0, 3),
        ("d", "poor", 7, 8),
    ]


# -- the reward model's report


def small_report(apart=""):
    text = "one two three four"
    gold = [
        record(1, text, span(text, "one two", "good"), span(text, "four", "poor"), post="p1"),
        record(2, text, span(text, "one two", "good"), post="p2"),
        Record("3", "p3", text),
    ]
    predicted = [
        record(1, text, Span("one two", "good"), Span("five", "poor"), critique="fine"),
        Record("2", "p2", text, feedback=Unparseable("no JSON object", "hm")),
    ]
    return reward_model_report(gold, predicted, planted(3, 0), TASK, apart=apart)


def test_reward_model_report():
    report = small_report()
    assert (report["responses"], report["without_gold"], report["posts"]) == (2, 1, 2)
    assert report["parse"] == {
        "rate": 0.5,
        "unparseable": {"no JSON object": 1},
        "repairs": {"none": 1},
    }
    assert (report["quotes"]["quotes"], report["quotes"]["unmatched_rate"]) == (2, 0.5)
    tokens = report["systems"]["reward_model"]["tokens"]
    # good: 2 hits, 4 gold, 2 predicted; poor: never predicted; neutral: 1 hit, 3 gold, 2 predicted
    assert tokens["good"]["f1"] == pytest.approx(2 / 3)
    assert (tokens["poor"]["precision"], tokens["poor"]["f1"]) == (None, 0.0)
    assert tokens["neutral"]["f1"] == pytest.approx(2 / 5)
    assert tokens["macro_f1"] == pytest.approx((2 / 3 + 0 + 2 / 5) / 3)
    assert tokens["sign_accuracy"] == pytest.approx(2 / 5)
    spans = report["systems"]["reward_model"]["spans"]
    assert (spans["good"]["precision"], spans["good"]["recall"]) == (1.0, 0.5)
    assert (spans["poor"]["predicted"], spans["poor"]["f1"]) == (1, 0.0)
    # 1 for the same critique, 0 for the unreadable one
    assert report["critique"]["reward_model"]["rougeL"] == 0.5
    everything_good = report["systems"]["all_good"]["tokens"]
    assert everything_good["good"]["f1"] == pytest.approx(2 * 4 / (4 + 8))
    assert set(report["lead"]) == {"all_neutral", "all_good", "all_poor", "bag_of_words"}
    wanted = tokens["macro_f1"] - everything_good["macro_f1"]
    assert report["lead"]["all_good"]["macro_f1"] == pytest.approx(wanted)
    # of the five marked words: two right, against the four that are good
    assert report["lead"]["all_good"]["sign_accuracy"] == pytest.approx(2 / 5 - 4 / 5)
    # of the first post alone 2/3 - 2/3, of the second 0 - 1; resampled, of 3 and 2 words
    assert report["lead"]["all_good"]["sign_accuracy_interval"] == pytest.approx((-1, 0))
    assert "parts" not in report


def test_some_responses_are_measured_apart():
    report = small_report(apart="^1$")
    assert {key: value for key, value in report.items() if key not in ("apart", "parts")} == (
        small_report()
    )
    one, other = report["parts"]["apart"], report["parts"]["others"]
    assert (one["responses"], other["responses"], report["apart"]) == (1, 1, "^1$")
    # the first: good twice right, the poor word neutral, the neutral one right
    tokens = one["systems"]["reward_model"]["tokens"]
    assert tokens["sign_accuracy"] == pytest.approx(2 / 3)
    assert tokens["macro_f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    # the second, unreadable: nothing is right, where everything good has 2 of 4
    lead = other["lead"]["all_good"]
    assert other["systems"]["reward_model"]["tokens"]["macro_f1"] == 0
    assert lead["macro_f1"] == pytest.approx(-(2 * 2 / (2 + 4) + 0) / 2)
    assert (lead["sign_accuracy"], lead["interval"]) == (-1, None)
    assert set(small_report(apart="none")["parts"]) == {"others"}
    with pytest.raises(UserError, match=r"--apart \[: no regular expression"):
        small_report(apart="[")


def test_the_report_has_its_shape():
    check_reward_report(json.loads(json.dumps(small_report(apart="1"))), "f.json")


def test_prediction_that_is_missing_counts_as_unreadable():
    text = "one two"
    gold = [record(1, text, span(text, "one", "good"))]
    report = reward_model_report(gold, [], [], TASK)
    assert report["parse"]["unparseable"] == {"no prediction": 1}
    assert report["systems"]["reward_model"]["tokens"]["macro_f1"] == 0.0
    with pytest.raises(UserError, match="gold"):
        reward_model_report([Record("1", "p", text)], [], [], TASK)


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def inferred_rows():
    base = {"post": "p", "generated_summary": "one two three"}
    gold = {"textual_feedback": "ok", "good_spans": ["one two"], "poor_spans": []}
    said = {"textual_feedback": "ok", "good_spans": ["two three"], "poor_spans": []}
    return [
        {"id": "1", **base, "gold": gold, **said, "reply": "{}"},
        {"id": "2", **base, "gold": gold, "unparseable": "truncated", "reply": "{"},
    ]


def test_evaluate_reward_model_reads_what_inference_wrote(tmp_path, capsys):
    args = RewardMetricsConfig(
        input_file=write(tmp_path / "in.json", inferred_rows()),
        output_file=str(tmp_path / "out.json"),
        train_file=write(tmp_path / "train.json", [inferred_rows()[0]]),
        seed=1,
    )
    evaluate_reward_model(args)
    report = json.loads((tmp_path / "out.json").read_text())
    # 1 of 2 predicted words right, 4 in gold
    assert report["systems"]["reward_model"]["tokens"]["good"]["f1"] == pytest.approx(2 / 6)
    printed = capsys.readouterr().out
    assert "50.0% readable; unreadable: 1 truncated" in printed
    assert "bag_of_words" in printed
    bare = [
        {key: row[key] for key in ("id", "post", "generated_summary")} for row in inferred_rows()
    ]
    args = replace(args, input_file=write(tmp_path / "bare.json", bare))
    with pytest.raises(UserError, match=r"bare.json: no record has feedback under \"gold\""):
        evaluate_reward_model(args)
    args = replace(
        args, data_path=write(tmp_path / "gold.json", [{**bare[0], **inferred_rows()[0]["gold"]}])
    )
    evaluate_reward_model(args)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["parse"] == {"rate": 0.0, "unparseable": {"no prediction": 1}, "repairs": {}}


def test_metrics_carry_how_the_replies_were_decoded(tmp_path, capsys):
    source = write(tmp_path / "in.json", inferred_rows())
    free = {"replies": 2, "parse_rate": 0.5, "quotes": 4, "unmatched_rate": 0.25}
    facts = {"output_sha256": sha256_file(source), "constrained": True, "unconstrained": free}
    write(tmp_path / "in.decoding.json", facts)
    args = RewardMetricsConfig(
        input_file=source, output_file=str(tmp_path / "out.json"), train_file=""
    )
    evaluate_reward_model(args)
    assert json.loads((tmp_path / "out.json").read_text())["decoding"] == facts
    printed = capsys.readouterr().out
    assert "2 of them: 50.0% readable, 25.0% of 4 quotes not in the response" in printed
    write(tmp_path / "in.json", inferred_rows()[:1])  # the facts are those of the file before
    evaluate_reward_model(args)
    assert json.loads((tmp_path / "out.json").read_text())["decoding"] == {}
    assert "in.decoding.json is of another file than in.json" in capsys.readouterr().out


@pytest.mark.parametrize("inside", [True, False])
def test_agreement_with_people_counts_only_what_people_marked(inside):
    """One of the two words that a person marked is right; what a model marked is left out."""
    text = "one two three four"
    gold, predicted = [], []
    for number, annotator in enumerate(("human", "reference")):
        provenance = {"annotation": {"annotator": annotator}}
        fields = {"gold": provenance} if inside else provenance
        spans = span(text, "one two", "good")
        gold.append(replace(record(number, text, spans), fields=fields))
        predicted.append(record(number, text, Span("two" if number == 0 else "one two", "good")))
    report = reward_model_report(gold, predicted, [], TASK)
    assert report["human"] == {"responses": 1, "sign_accuracy": 0.5}
    assert report["systems"]["reward_model"]["tokens"]["sign_accuracy"] == 0.75
    report = reward_model_report(gold[1:], predicted, [], TASK)
    assert report["human"] == {"responses": 0, "sign_accuracy": None}


# -- summaries


def test_summary_metrics():
    same = summary_metrics(["the cat sat on the mat"], ["the cat sat on the mat"])
    assert same == pytest.approx(
        {
            "rouge1": 1.0,
            "rouge2": 1.0,
            "rougeL": 1.0,
            "sacrebleu": 100.0,
            "chrf": 100.0,
            "mean_words": 6.0,
        }
    )
    # 3 of 3 words found, 3 of 6 recalled: F 2/3; bigrams 2 of 2 and 2 of 5: F 4/7; empty counts 0
    half = summary_metrics(["the cat sat", ""], ["the cat sat on the mat", "a"])
    assert half["rouge1"] == pytest.approx(1 / 3)
    assert half["rouge2"] == pytest.approx(2 / 7)
    with pytest.raises(ValueError, match="1 predictions for 2"):
        summary_metrics(["a"], ["a", "b"])


def test_evaluate_summaries_before_and_after(tmp_path, capsys):
    def rows(responses, score):
        return [
            {
                "id": str(i),
                "query": f"post {i}",
                "response": response,
                "ideal_human_summary": "the cat sat on the mat",
                "scores": {"reward_model_score": score},
            }
            for i, response in enumerate(responses)
        ]

    after = rows(["the cat sat on the mat", "the cat sat"], 0.5)
    args = PolicyMetricsConfig(
        input_file=write(tmp_path / "after.json", after),
        compare_file=write(tmp_path / "before.json", rows(["a dog", "the cat sat"], -0.5)[::-1]),
        output_file=str(tmp_path / "out.json"),
        seed=1,
    )
    evaluate_summaries(args)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["n"] == 2
    assert report["difference"]["rouge1"]["value"] == pytest.approx((1.0 - 0.0) / 2)
    assert report["difference"]["reward_model_score"] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert report["difference"]["sacrebleu"]["interval"] is None
    first = report["samples"][0]
    assert (first["before"], first["after"]) == ("a dog", "the cat sat on the mat")
    assert first["before_scores"]["rougeL"] == 0.0
    assert "95 % interval" in capsys.readouterr().out
    args = replace(args, compare_file=write(tmp_path / "other.json", after[:1]))
    with pytest.raises(UserError, match=r"--compare_file .*1 prompts"):
        evaluate_summaries(args)


def test_metrics_import_is_light():
    code = (
        "import sys, text2grad.metrics, text2grad.report\n"
        "heavy = {'torch', 'transformers', 'peft', 'evaluate', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_critique_baselines_take_the_most_typical_and_the_most_similar():
    said = {
        "a cat": "The summary is good and short.",
        "a dog runs": "The summary is good and long.",
        "seven trains": "It invents trains.",
    }
    records = [
        Record(str(n), "post", response, feedback=Feedback(critique))
        for n, (response, critique) in enumerate(said.items())
    ]
    judged = Record("x", "post", "trains, seven of them")
    assert CritiqueBaseline(records, similar=True).predict(judged) == "It invents trains."
    typical = CritiqueBaseline(records, similar=False).predict(judged)
    assert typical in (said["a cat"], said["a dog runs"])
    assert CritiqueBaseline([], similar=True).predict(judged) == ""
