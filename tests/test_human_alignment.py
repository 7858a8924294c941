"""Annotators and reward models against what people marked: hand-derived figures, and files."""

import json
from pathlib import Path

import pytest

from text2grad.annotators.human import HumanAnnotator
from text2grad.config import HumanAlignmentConfig
from text2grad.human_alignment import align_with_people, system_names
from text2grad.human_figures import Marked, alignment_report, alignment_tables
from text2grad.schema import Feedback, FieldNames, Record, Span, Unparseable, UserError
from text2grad.tables import interval_text
from text2grad.tasks import get_task

TASK = get_task("slf5k")
TEXT = "aa bb cc dd ee ff"


def spans(*places):
    return tuple(Span(TEXT[a:b], label, a, b, "exact") for label, a, b in places)


def marked(*places, critique=""):
    words = [(3 * n, 3 * n + 2) for n in range(6)]
    return Marked(Record("r", "p", TEXT), words, spans(*places), critique)


def value(found, *keys):
    for key in keys:
        found = found[key]
    return found["value"]


# -- figures


def test_figures_of_two_responses_by_hand():
    """Two responses of six words, one of each answered in part, so that every figure differs."""
    people = [marked(("poor", 0, 8)), marked(("poor", 3, 5), ("good", 9, 17))]
    said = [
        Feedback("x", spans(("poor", 3, 11))),  # words 2 to 4 where people marked 1 to 3
        Feedback("x", spans(("poor", 3, 5), ("good", 9, 11))),
    ]
    report = alignment_report(people, {"ours": said}, TASK, 1)
    assert (report["responses"], report["labels"], report["left_out"]) == (2, ["good", "poor"], [])
    poor, good = (report["systems"]["ours"]["labels"][name] for name in ("poor", "good"))
    # words: people mark 3 + 1 as poor, we 3 + 1, both 2 + 1
    assert value(poor, "precision") == value(poor, "recall") == value(poor, "f1") == 0.75
    # of 12 words 10 alike; by chance 4/12 * 4/12 + 8/12 * 8/12 = 5/9: (5/6 - 5/9) / (4/9)
    assert value(poor, "kappa") == pytest.approx(0.625)
    # spans: 5 of 11 characters shared is no hit, the other is exact; mean IoU (5/11 + 1) / 2
    assert value(poor, "span_f1") == 0.5
    assert value(poor, "span_iou") == pytest.approx((5 / 11 + 1) / 2)
    # good: 3 words by people, 1 by us; its span shares 2 of 8 characters
    assert (value(good, "precision"), value(good, "recall")) == (1.0, pytest.approx(1 / 3))
    assert (value(good, "span_precision"), value(good, "span_iou")) == (0.0, 0.25)
    overall = report["systems"]["ours"]["overall"]
    # F1 of poor 3/4, of good 1/2, of the rest 4 of 5 and 7: 2/3
    assert value(overall, "macro_f1") == pytest.approx((3 / 4 + 1 / 2 + 2 / 3) / 3)
    # 8 of 12 words alike (3 poor, 1 good, 4 neutral); of the 7 marked words 4 have the sign
    assert value(overall, "alike") == pytest.approx(8 / 12)
    assert value(overall, "sign_accuracy") == pytest.approx(4 / 7)
    # chance: good 3*1, poor 4*4, neutral 5*7, of 144
    assert value(overall, "kappa") == pytest.approx((8 / 12 - 54 / 144) / (1 - 54 / 144))
    low, high = poor["f1"]["interval"]
    assert (low, high) == (pytest.approx(2 / 3), 1.0)  # the first alone, the second alone


def test_one_label_for_every_word_has_no_kappa():
    report = alignment_report([marked(("poor", 0, 8))] * 3, {}, TASK, 1)
    assert list(report["systems"]) == ["every word poor"]
    poor = report["systems"]["every word poor"]["labels"]["poor"]
    assert (value(poor, "precision"), value(poor, "recall")) == (0.5, 1.0)
    assert value(poor, "kappa") == 0.0


def test_a_label_that_people_never_gave_is_left_out():
    people = [marked(("poor", 0, 2))] * 2
    said = [Feedback("x", spans(("poor", 0, 2), ("good", 3, 17)))] * 2
    report = alignment_report(people, {"ours": said}, TASK, 1)
    assert (report["labels"], report["left_out"]) == (["poor"], ["good"])
    assert value(report["systems"]["ours"], "overall", "alike") == 1.0
    text = alignment_tables(report | {"unit": "words", "without_human": 0})
    assert "People never marked anything as good: it is not compared." in text
    with pytest.raises(UserError, match="nobody marked a span"):
        alignment_report([marked()], {}, TASK, 1)


def test_an_unreadable_answer_is_wrong_and_counted():
    people = [marked(("poor", 0, 2)), marked(("poor", 0, 2))]
    said = [Feedback("x", spans(("poor", 0, 2))), Unparseable("truncated")]
    ours = alignment_report(people, {"ours": said}, TASK, 1)["systems"]["ours"]
    assert ours["unreadable"] == {"truncated": 1}
    assert value(ours, "overall", "alike") == 0.5
    assert value(ours, "labels", "poor", "recall") == 0.5
    assert value(ours, "labels", "poor", "span_recall") == 0.5


def test_critiques_are_compared_with_those_of_other_responses_too():
    written = ["the cat is wrong", "a dog runs home"]
    people = [marked(("poor", 0, 2), critique=text) for text in (*written, "")]
    said = [Feedback(text) for text in ("the cat is fine", "a dog runs home", "not asked")]
    ours = alignment_report(people, {"ours": said}, TASK, 1)["systems"]["ours"]["critique"]
    # three of four words in order, and all of them; with the other's critique none
    assert value(ours, "rougeL") == pytest.approx((0.75 + 1) / 2)
    assert value(ours, "rougeL_of_others") == 0.0
    assert ours["lead"]["interval"] == pytest.approx((0.75, 1.0))
    silent = alignment_report(people, {"ours": [Unparseable("x")] * 3}, TASK, 1)
    assert value(silent["systems"]["ours"], "critique", "rougeL") == 0.0
    assert (
        alignment_report(people[2:], {"o": said[2:]}, TASK, 1)["systems"]["o"]["critique"] is None
    )


# -- files


QA = [
    {
        "question": f"What is it? {n}",
        "prediction": TEXT,
        "gold": "aa bb",
        "human_errors": [{"type": "Irrelevant", "start": 9, "end": 17}],
    }
    for n in range(3)
]
FIELDS = FieldNames(prompt="question", response="prediction", reference="gold")


@pytest.fixture
def files(tmp_path):
    """People's errors as QA-Feedback has them; an annotator's file; what 2_infer.py wrote."""
    human = tmp_path / "qa.json"
    human.write_text(json.dumps(QA))
    named = [{**row, "id": f"qa-{n}"} for n, row in enumerate(QA, 1)]
    annotated = tmp_path / "annotated.json"
    said = {"textual_feedback": "It is.", "good_spans": [], "poor_spans": ["dd ee ff"]}
    annotated.write_text(json.dumps([row | said for row in named]))
    judged = tmp_path / "rm" / "inference.json"
    judged.parent.mkdir()
    rows = [row | {"gold": said} for row in named[:2]]
    rows[0] |= {**said, "poor_spans": ["dd"]}
    rows[1] |= {"unparseable": "truncated", "reply": "{"}
    judged.write_text(json.dumps(rows))
    return str(human), str(annotated), str(judged)


def run(tmp_path, files, **flags):
    output = tmp_path / "out" / "alignment.json"
    names = {"human_file": files[0], "compare_files": files[1:], "output_file": str(output)}
    align_with_people(HumanAlignmentConfig(**names | {"fields": FIELDS} | flags))
    return json.loads(output.read_text()), output.with_suffix(".md").read_text()


def test_annotators_and_reward_models_beside_people(tmp_path, files, capsys):
    report, text = run(tmp_path, files)
    systems = report["systems"]
    assert list(systems) == ["annotated", "inference", "every word poor"]
    assert value(systems["annotated"], "labels", "poor", "f1") == 1.0
    assert value(systems["annotated"], "labels", "poor", "span_iou") == 1.0
    # one of nine words, and none of a truncated reply or of a response that is not in the file
    assert value(systems["inference"], "labels", "poor", "recall") == pytest.approx(1 / 9)
    assert systems["inference"]["unreadable"] == {"truncated": 1, "not in the file": 1}
    assert all(one["critique"] is None for one in systems.values()), "nobody wrote one"
    assert "1.000 [1.000, 1.000]" in text
    assert "| inference |" in text
    assert text in capsys.readouterr().out
    shared, _ = run(tmp_path, files, only_shared=True)
    assert shared["responses"] == 2
    assert value(shared["systems"]["inference"], "labels", "poor", "recall") == pytest.approx(1 / 6)


def test_tokens_in_place_of_words(tmp_path, files):
    from tiny import byte_level_tokenizer

    folder = tmp_path / "tokenizer"
    byte_level_tokenizer().save_pretrained(folder)
    report, _ = run(tmp_path, files[:2], tokenizer=str(folder))
    assert report["unit"] == "tokens"
    assert value(report["systems"]["annotated"], "overall", "alike") == 1.0


def test_mistakes_in_files(tmp_path, files):
    other = json.loads(Path(files[1]).read_text())
    other[1]["prediction"] = "something else"
    Path(files[1]).write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"record 2 \(id qa-2\): another response than that of"):
        run(tmp_path, files)
    Path(files[1]).write_text(json.dumps([{**row, "id": "no"} for row in other[:1]]))
    with pytest.raises(UserError, match=r"annotated.json: has none of the ids of --human_file"):
        run(tmp_path, files)
    with pytest.raises(UserError, match="two files are called rm/inference"):
        system_names([files[2], files[2]])
    assert system_names(["a/x.json", "b/x.json"]) == ["a/x", "b/x"]


def test_a_composed_critique_is_nobodys(tmp_path, files):
    """What the import of spans composes of them says nothing of how people write."""
    feedback = HumanAnnotator(TASK).annotate([Record("1", "p", TEXT, fields=QA[0])])[0]
    assert feedback.critique
    rows = [
        {**row, "id": f"qa-{n}", "textual_feedback": feedback.critique}
        for n, row in enumerate(QA, 1)
    ]
    Path(files[0]).write_text(json.dumps(rows))
    report, _ = run(tmp_path, files[:2])
    assert report["systems"]["annotated"]["critique"] is None


def test_a_value_that_is_nothing_has_no_sign():
    assert interval_text((-1e-17, 0.00049)) == "[0.000, 0.000]"
    assert interval_text((-0.0006, 0.5), signed=True) == "[-0.001, +0.500]"
