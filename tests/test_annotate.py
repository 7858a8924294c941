"""The annotation loop: resumable, failures apart, every span verified, figures at the end."""

import json
from collections import Counter

import pytest
from chat_server import GOOD_REPLY, KEY, POST, SUMMARY, config, good, serve, write_data, written

from text2grad.annotate import annotate_file
from text2grad.annotators import make_annotator
from text2grad.records import read_records
from text2grad.schema import FieldNames, UserError
from text2grad.tasks import get_task

TASK = get_task("slf5k")


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return write_data(tmp_path)


def test_answers_become_records_with_verified_spans(data, capsys):
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
    rows = written(data)
    assert [row["id"] for row in rows] == ["r0", "r1", "r2"]
    assert rows[0]["textual_feedback"] == "It names the wrong animal."
    assert rows[0]["good_spans"] == ["The cat took the keys"]
    assert rows[0]["spans"] == [
        {
            "text": "The cat took the keys",
            "label": "good",
            "start": 20,
            "end": 41,
            "match": "exact",
        },
        {"text": "A dog", "label": "poor", "start": 0, "end": 5, "match": "exact"},
    ]
    provenance = rows[0]["annotation"]
    assert provenance["reasoning"] == "The animal is wrong."
    assert (provenance["annotator"], provenance["model"]) == ("openai", "stub")
    table = capsys.readouterr().out
    assert "parsed" in table
    assert "3 (100.0%)" in table
    quality = written(data, "annotated.qc.json")
    assert quality["unmatched"] == 0
    assert quality["spans"] == {"good": 3, "poor": 3}
    # 21 + 5 characters less 4 + 1 spaces of the 42 less 9 in the response
    assert quality["coverage"] == pytest.approx(21 / 33)
    assert not (data.parent / "out/annotated.failed.jsonl").exists()


def test_the_next_stage_reads_the_output(data):
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
    records = read_records(data.parent / "out/annotated.json", TASK, ("response", "feedback"))
    assert records[0].feedback.spans[0].start == 20


def test_resume_asks_only_for_what_is_missing_or_changed(data):
    calls = Counter()

    def stop_at_second(prompt, body):
        calls["n"] += 1
        return (200, GOOD_REPLY) if calls["n"] == 1 else (401, {"message": "bad key"})

    with serve(stop_at_second) as server, pytest.raises(UserError, match="was refused"):
        annotate_file(config(data, base_url=server.url, concurrency=1))
    assert not (data.parent / "out/annotated.json").exists()
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == 2
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == 2
        rows = json.loads(data.read_text())
        rows[2]["post"] = "Another post."
        data.write_text(json.dumps(rows))
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == 3
        annotate_file(config(data, base_url=server.url, temperature=0.9))
        assert len(server.bodies) == 6


def test_killed_while_writing_loses_one_answer_at_most(data):
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
        journal = data.parent / "out/annotated.journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-20])
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == 4
    assert len(written(data)) == 3


def test_equal_texts_are_asked_for_once(data):
    rows = [{"id": n, "post": POST, "generated_summary": SUMMARY} for n in range(4)]
    data.write_text(json.dumps(rows))
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == 1
    assert len(written(data)) == 4


def test_failures_are_rows_with_a_reason_and_never_data(data, capsys):
    def second_fails(prompt, body):
        return 200, "No JSON here." if "1: The cat" in prompt else GOOD_REPLY

    with serve(second_fails) as server:
        annotate_file(config(data, base_url=server.url))
        (failed,) = written(data, "annotated.failed.jsonl")
        assert failed == {"id": "r1", "reason": "no JSON object", "raw": "No JSON here."}
        assert [row["id"] for row in written(data)] == ["r0", "r2"]
        said = capsys.readouterr()
        assert "WARNING: only 66.7%" in said.err
        assert "1 without an annotation: " in said.out.splitlines()[-1]
        assert said.out.rstrip().endswith("failed.jsonl; --retry_failed true asks again")
        asked = len(server.bodies)
        annotate_file(config(data, base_url=server.url))
        assert len(server.bodies) == asked
        server.answer = good
        annotate_file(config(data, base_url=server.url, retry_failed=True))
        assert len(server.bodies) == asked + 1
    assert len(written(data)) == 3
    assert not (data.parent / "out/annotated.failed.jsonl").exists()


def test_unmatched_quotes_are_kept_without_place_and_warned_about(data, capsys):
    reply = {**GOOD_REPLY, "poor_spans": ["Seven elephants marched through the town hall"]}
    with serve(lambda prompt, body: (200, reply)) as server:
        annotate_file(config(data, base_url=server.url))
    span = written(data)[0]["spans"][1]
    assert span["match"] == "unmatched"
    assert "start" not in span
    assert written(data, "annotated.qc.json")["unmatched_rate"] == 0.5
    assert "50.0% of the quotes are not in their response" in capsys.readouterr().err


def test_ctrl_c_keeps_the_journal(data, monkeypatch):
    class Interrupted:
        is_costly = True

        def provenance(self):
            return {}

        def key(self, record):
            return record.id

        def annotate(self, records, done):
            done(0, make_annotator(config(data, annotator="reference"), TASK).annotate(records)[0])
            raise KeyboardInterrupt

    monkeypatch.setattr("text2grad.annotate.make_annotator", lambda args, task: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        annotate_file(config(data))
    (line,) = written(data, "annotated.journal.jsonl")
    assert line["key"] == "r0"


def test_a_sample_is_the_same_for_the_same_seed(data):
    for _ in range(2):
        annotate_file(config(data, annotator="reference", max_samples=2, seed=5))
        ids = [row["id"] for row in written(data)]
    assert len(ids) == 2
    assert ids == sorted(ids)


def test_own_keys_and_prompt_file(data, tmp_path):
    rows = [{"question": "Who?", "answer": SUMMARY}]
    data.write_text(json.dumps(rows))
    fields = FieldNames(prompt="question", response="answer")
    annotate_file(config(data, annotator="reference", fields=fields))
    (row,) = written(data)
    assert (row["post"], row["generated_summary"]) == ("Who?", SUMMARY)
    wording = tmp_path / "mine.txt"
    wording.write_text("Judge $response", encoding="utf-8")
    with pytest.raises(UserError, match=r"--prompt_file .*must use exactly the slots"):
        annotate_file(config(data, fields=fields, prompt_file=str(wording)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("", "the file is empty"),
        ('[{"post": "a", ', "is not JSON"),
        ('[{"post": "a"}]', r"record 1 \(id train-1\): the response is missing"),
        ('[{"post": " ", "summary": "s"}]', "the prompt is missing or empty"),
        ('[{"post": "a", "summary": {"x": 1}}]', '"summary" must be a string'),
        ('[{"id": 1, "post": "a", "summary": "s"}, {"id": 1, "post": "b", "summary": "t"}]',
         'have the same id "1"'),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(data, text, message):
    data.unlink() if text is None else data.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        annotate_file(config(data, annotator="reference"))
    assert str(data) in str(error.value)
    assert "\n" not in str(error.value)


def test_dense_annotation_quotes_all_that_can_be_judged(tmp_path):
    """Three sentences that the post has nothing of; without the flag two of them are quoted."""
    post = "My flatmate Dario uses my rice cooker every day. It cost me 64 euros in March."
    lies = ("A purple elephant visited Paris", "Spanish kings ate twice", "Seven submarines sank")
    row = {"id": "a", "post": post, "ideal_human_summary": "Dario uses my rice cooker every day."}
    row["generated_summary"] = ". ".join(["Dario uses my rice cooker every day", *lies, ""]).strip()
    data = tmp_path / "data.json"
    data.write_text(json.dumps([row]))
    found = {}
    for density in ("spans", "dense"):
        annotate_file(config(data, annotator="reference", density=density))
        found[density] = written(data)[0]["poor_spans"]
    assert len(found["spans"]) == 2
    assert len(found["dense"]) == 3
    assert set(found["spans"]) <= set(found["dense"])


def test_a_server_is_asked_for_dense_quotes(data):
    records = read_records(data, TASK, ("prompt", "response"))
    prompts = {
        density: make_annotator(config(data, density=density), TASK).prompt(records[0])
        for density in ("spans", "dense")
    }
    assert "at most two phrases" in prompts["spans"]
    assert "at most two phrases" not in prompts["dense"]
    assert "Every word that helps or harms the reader must be in one of them" in prompts["dense"]
    with pytest.raises(UserError, match="--density dense --cot false: its prompt asks for reason"):
        config(data, density="dense", cot=False)
