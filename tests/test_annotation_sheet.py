"""The sheet that people mark: its data, and what comes back from it."""

import json
import re

import pytest

from text2grad.annotation_sheet import import_sheet, sheet_labels, write_sheet
from text2grad.config import HumanAlignmentConfig, SheetConfig, SheetImportConfig
from text2grad.human_alignment import align_with_people
from text2grad.schema import FieldNames, UserError
from text2grad.tasks import TASKS, get_task

HOSTILE = "</script><script>alert(1)</script>"
ROWS = [
    {
        "id": f"t{n}",
        "post": f"Post {n} {HOSTILE}",
        "generated_summary": f"Summary {n}: 🙂 naïve\r\nend {HOSTILE}",
        "ideal_human_summary": "Short.",
        "good_spans": ["Summary"],
        "poor_spans": ["end"],
        "textual_feedback": "An annotator's own.",
    }
    for n in range(12)
]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "records.json"
    path.write_text(json.dumps(ROWS), encoding="utf-8")
    return path


def sheet(tmp_path, data, **flags):
    """The page and the data in it."""
    page = tmp_path / "sheet.html"
    write_sheet(SheetConfig(data_path=str(data), output_path=str(page), **flags))
    text = page.read_text(encoding="utf-8")
    payload = re.search(r'<script type="application/json" id="payload">(.*?)</script>', text, re.S)
    return text, json.loads(payload[1])


def marks_of(payload, done=2, critique="It is naïve."):
    """What the page saves: "🙂 naïve" is good in every response."""
    entries = []
    for number, record in enumerate(payload["records"]):
        start = record["response"].index("🙂")
        text = record["response"][start : start + 7]
        span = {"text": text, "label": "good", "start": start, "end": start + 7}
        entry = {"id": record["id"], "sha256": record["sha256"], "done": number < done}
        entries.append(entry | {"critique": critique, "spans": [span]})
    named = {key: payload[key] for key in ("format", "task", "sheet")}
    return {**named, "saved_at": "2026-01-01T00:00:00Z", "records": entries}


def imported(tmp_path, data, saved, **flags):
    path, output = tmp_path / "marks.json", tmp_path / "human.json"
    path.write_text(json.dumps(saved), encoding="utf-8")
    names = {"marks_path": str(path), "data_path": str(data), "output_path": str(output)}
    import_sheet(SheetImportConfig(**names | flags))
    return json.loads(output.read_text(encoding="utf-8"))


# -- the page


def test_the_page_has_the_chosen_responses_and_no_annotation_of_them(tmp_path, data):
    text, payload = sheet(tmp_path, data, max_samples=5, seed=3)
    ids = [record["id"] for record in payload["records"]]
    assert len(set(ids)) == 5
    assert sheet(tmp_path, data, max_samples=5, seed=3)[1] == payload
    assert [r["id"] for r in sheet(tmp_path, data, max_samples=5, seed=4)[1]["records"]] != ids
    assert len(sheet(tmp_path, data, max_samples=0)[1]["records"]) == 12
    first = next(record for record in payload["records"] if record["id"] == ids[0])
    row = ROWS[int(ids[0][1:])]
    assert (first["prompt"], first["response"]) == (row["post"], row["generated_summary"])
    assert "An annotator" not in text
    assert "Short." not in text
    assert "Short." in sheet(tmp_path, data, show_reference=True)[0]


def test_the_page_needs_nothing_else_and_texts_are_no_markup(tmp_path, data):
    text, _ = sheet(tmp_path, data)
    assert HOSTILE not in text
    assert text.count("<script") == 2
    assert "default-src 'none'" in text
    assert not re.search(r"""(?:src|href)=["']?(?:https?:|//)""", text)


def test_labels_have_a_key_and_a_colour_each():
    assert sheet_labels(get_task("slf5k")) == [
        {"name": "good", "title": "good", "key": "g", "side": "plus"},
        {"name": "poor", "title": "poor", "key": "p", "side": "minus"},
    ]
    for task in TASKS:
        labels = sheet_labels(get_task(task))
        keys = [label["key"] for label in labels]
        assert len({*keys, *"ubnd"}) == len(keys) + 4, "no key means two things"


# -- the import


def test_marks_become_annotated_records(tmp_path, data, capsys):
    _, payload = sheet(tmp_path, data, max_samples=4)
    rows = imported(tmp_path, data, marks_of(payload))
    assert "2 of 4 responses, 2 spans" in capsys.readouterr().out
    assert [row["id"] for row in rows] == [record["id"] for record in payload["records"][:2]]
    for row in rows:
        (span,) = row["spans"]
        response = row["generated_summary"]
        assert response[span["start"] : span["end"]] == span["text"] == "🙂 naïve"
        # bytes follow from characters: four of the face, one of the blank, six of the word
        before, marked = response[: span["start"]], response[span["start"] : span["end"]]
        assert (len(before.encode()), len(marked.encode())) == (span["start"], 11)
        assert (row["good_spans"], row["poor_spans"]) == (["🙂 naïve"], [])
        assert row["textual_feedback"] == "It is naïve."
        assert row["annotation"]["annotator"] == "human"
        assert row["annotation"]["critique_written"]


def test_what_a_person_left_empty(tmp_path, data):
    _, payload = sheet(tmp_path, data, max_samples=3)
    saved = marks_of(payload, critique=" ")
    saved["records"][1]["spans"] = []
    with_span, without = imported(tmp_path, data, saved)
    assert with_span["textual_feedback"] == "“🙂 naïve” is right."
    assert without["textual_feedback"] == "No fault was marked in it."
    assert not with_span["annotation"]["critique_written"]


def test_two_people_agree_as_they_marked(tmp_path, data):
    _, payload = sheet(tmp_path, data, max_samples=4)
    first = imported(tmp_path, data, marks_of(payload, done=4))
    other = marks_of(payload, done=4)
    for entry in other["records"][:2]:
        entry["spans"] = []
        entry["critique"] = "It is not naïve."
    second = imported(tmp_path, data, other)
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path, rows in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(rows), encoding="utf-8")
    output = tmp_path / "alignment.json"
    align_with_people(
        HumanAlignmentConfig(
            human_file=str(paths[0]), compare_files=(str(paths[1]),), output_file=str(output)
        )
    )
    found = json.loads(output.read_text())["systems"]["second"]
    assert found["labels"]["good"]["recall"]["value"] == 0.5
    assert found["labels"]["good"]["span_iou"]["value"] == 0.5
    # "na" and "ve" are words to ROUGE: all four words, and four of four and of five
    assert found["critique"]["rougeL"]["value"] == pytest.approx((2 * 1 + 2 * 8 / 9) / 4)


def test_keys_of_the_users_own(tmp_path):
    path = tmp_path / "own.json"
    rows = [{"q": "Why?", "a": "Because 🙂 naïve."}, {"q": "How?", "a": "So 🙂 naïve."}]
    path.write_text(json.dumps(rows), encoding="utf-8")
    fields = FieldNames(prompt="q", response="a")
    _, payload = sheet(tmp_path, path, fields=fields)
    found = imported(tmp_path, path, marks_of(payload), fields=fields)
    assert {row["generated_summary"] for row in found} == {row["a"] for row in rows}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.update(format="other"), "was not saved from an annotation sheet"),
        (lambda saved: saved.update(task="kodcode"), "of task kodcode; pass --task kodcode"),
        (lambda saved: saved.update(records={}), '"records" must be a list'),
        (lambda saved: saved["records"][0].pop("done"), 'record 1: the key "done" is missing'),
        (lambda saved: saved["records"][0].update(id="t99"), "has no such response"),
        (lambda saved: saved["records"][1].update(sha256="0"), r"record 2 \(id .*no such response"),
        (lambda saved: saved["records"][0].update(spans="x"), '"spans" must be a list'),
        (
            lambda saved: saved["records"][0]["spans"][0].update(start=0),
            "a span from 0 to .*is not in the response as it was saved",
        ),
        (
            lambda saved: saved["records"][0]["spans"][0].update(label="odd"),
            'labelled "odd", is not in the response',
        ),
        (
            lambda saved: [entry.update(done=False) for entry in saved["records"]],
            "none of its 3 responses is done",
        ),
    ],
)
def test_files_that_the_sheet_did_not_save(tmp_path, data, change, message):
    _, payload = sheet(tmp_path, data, max_samples=3)
    saved = marks_of(payload)
    change(saved)
    with pytest.raises(UserError, match=message):
        imported(tmp_path, data, saved)


def test_no_such_file(tmp_path, data):
    flags = {"marks_path": str(tmp_path / "none.json"), "data_path": str(data)}
    with pytest.raises(UserError, match=r"--marks_path .*none.json: no such file"):
        import_sheet(SheetImportConfig(**flags))
