"""Spans that people marked, imported."""

import json

import pytest
from chat_server import KEY, SUMMARY, config, write_data, written

from text2grad.annotate import annotate_file
from text2grad.schema import UserError
from text2grad.tasks import get_task

TASK = get_task("slf5k")


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return write_data(tmp_path)


def human(data, rows, **flags):
    data.write_text(json.dumps(rows))
    annotate_file(config(data, annotator="human", **flags))
    return written(data)


def test_human_errors_become_poor_spans_and_free_sentences_good(data):
    text = "She sat. Then it flew to Rome. It came back. The end of it."
    errors = [{"error_type": "Unverifiable", "start": 9, "end": 30}]
    row = {"post": "p", "generated_summary": text, "human_errors": errors}
    reference = {"ideal_human_summary": "A cat that came back was the end."}
    (out,) = human(data, [{**row, **reference}])
    assert out["poor_spans"] == ["Then it flew to Rome."]
    assert out["good_spans"] == ["It came back.", "The end of it."]
    assert out["spans"][0] == {
        "text": "Then it flew to Rome.", "label": "poor", "start": 9, "end": 30, "match": "exact"
    }  # fmt: skip
    assert "“Then it flew to Rome” is not supported by the source." in out["textual_feedback"]
    (out,) = human(data, [row], human_good="none")
    assert out["good_spans"] == []


def test_human_spans_are_joined_by_id_and_keep_offsets(data, tmp_path):
    spans = tmp_path / "spans.json"
    marked = [{"text": "keys", "label": "good", "start": 37, "end": 41}]
    rows = [{"id": "r1", "spans": marked, "critique": "Fine."}, {"id": "else", "spans": []}]
    spans.write_text(json.dumps(rows))
    annotate_file(config(data, annotator="human", spans_path=str(spans)))
    (row,) = written(data)
    assert (row["id"], row["textual_feedback"]) == ("r1", "Fine.")
    assert row["spans"][0]["start"] == 37
    assert [r["id"] for r in written(data, "annotated.failed.jsonl")] == ["r0", "r2"]


def test_human_text_goes_into_the_critique(data):
    errors = [{"type": "wrong", "start": 0, "end": 5}]
    row = {"post": "p", "generated_summary": SUMMARY, "human_errors": errors, "feedback": "A cat!"}
    (out,) = human(data, [row], human_good="none")
    assert out["textual_feedback"] == "A cat! “A dog” is wrong."


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([{"start": 0, "end": 99}], r"record 1 .*start 0 and end 99, but the response has 42"),
        ([{"start": 5, "end": 5}], r"record 1 .*start 5 and end 5"),
        ([{"start": "0", "end": 5}], r"record 1 "),
        ([{"start": 0, "end": 5, "label": "odd"}], r'unknown label "odd"'),
        ("none", r"human_errors must be a list"),
    ],
)
def test_wrong_human_spans_name_the_record(data, errors, message):
    row = {"post": "p", "generated_summary": SUMMARY, "human_errors": errors}
    with pytest.raises(UserError, match=message):
        human(data, [row])


def test_no_human_spans_at_all_is_an_error(data, tmp_path):
    with pytest.raises(UserError, match="has no human spans"):
        annotate_file(config(data, annotator="human"))
    spans = tmp_path / "spans.json"
    spans.write_text('[{"id": "other", "spans": []}]')
    with pytest.raises(UserError, match=r"--spans_path .*none of the ids"):
        annotate_file(config(data, annotator="human", spans_path=str(spans)))
