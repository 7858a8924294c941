"""From model text and record keys to feedback."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text2grad.parsing import RUNGS, parse_reply, read_feedback, reasons, target_json
from text2grad.schema import Feedback, Span, Unparseable
from text2grad.tasks import get_task
from text2grad.word_scores import word_spans

TASK = get_task("slf5k")
REPLIES = json.loads((Path(__file__).parent / "fixtures/replies_slf5k.json").read_text("utf-8"))
QUOTES = [Span("the dog", "good"), Span("a cat", "poor")]
CLEAN = target_json(Feedback('Uses {x} and "y" [z].', (*QUOTES, Span("]}, {[", "poor"))), TASK)


@pytest.mark.parametrize("case", REPLIES, ids=[case["name"] for case in REPLIES])
def test_canned_replies(case):
    read = parse_reply(case["reply"], TASK, case.get("response", ""))
    if "reason" in case:
        assert read == Unparseable(case["reason"], case["reply"])
        return
    expected = case["feedback"]
    assert isinstance(read, Feedback), read
    assert [[span.label, span.text] for span in read.spans] == expected["spans"]
    assert read.critique == expected["critique"]
    assert read.repair == expected["repair"]
    assert read.reasoning == expected.get("reasoning", "")
    offsets = [[span.start, span.end] if span.end else None for span in read.spans]
    assert offsets == expected.get("offsets", [None] * len(read.spans))
    assert all(span.match is None for span in read.spans)


def test_the_canned_replies_reach_every_rung_and_reason():
    assert len(REPLIES) >= 60
    assert {case["feedback"]["repair"] for case in REPLIES if "feedback" in case} == set(RUNGS)
    of_rows = {"span has an unknown label", "span offsets are wrong", "annotation failed"}
    reached = {case["reason"] for case in REPLIES if "reason" in case}
    assert reached == set(reasons(TASK)) - of_rows - {"nested too deep"}


@pytest.mark.parametrize("reply", [CLEAN, json.dumps(json.loads(CLEAN), indent=2), f"So: {CLEAN}"])
def test_no_beginning_of_a_reply_is_feedback(reply):
    for length in range(len(reply)):
        read = parse_reply(reply[:length], TASK)
        assert isinstance(read, Unparseable), reply[:length]
        assert read.reason in ("empty reply", "no JSON object", "truncated")


def test_no_beginning_of_a_malformed_reply_is_feedback():
    reply = "{'textual_feedback': 'Short {x}.', 'good_spans': ['a b'], 'poor_spans': ['c [d] e']}"
    assert isinstance(parse_reply(reply, TASK), Feedback)
    for length in range(len(reply)):
        assert isinstance(parse_reply(reply[:length], TASK), Unparseable), reply[:length]


def test_nesting_and_digits_without_end():
    for reply in ('{"a":' * 50_000, '{"a": ' + "[" * 50_000 + "}", "[" * 100_000):
        assert isinstance(parse_reply(reply, TASK), Unparseable)
    assert parse_reply('{"a":' * 50_000, TASK).reason == "nested too deep"
    number = CLEAN[:-1] + f', "n": {"9" * 5000}}}'
    assert parse_reply(number, TASK).repair == "none"
    assert parse_reply(number.replace("and", "\n"), TASK).repair == "control characters"


@given(st.text())
@settings(deadline=None)
def test_any_text_is_read_or_refused_for_a_known_reason(text):
    read = parse_reply(text, TASK)
    assert isinstance(read, Unparseable)
    assert read.reason in reasons(TASK)


@given(st.integers(0, len(CLEAN)), st.sampled_from(["", *"\"'{}[],:\\\n", "good_spans", "```"]))
@settings(deadline=None, max_examples=200)
def test_a_damaged_reply_quotes_nothing_that_was_not_quoted(at, inserted):
    read = parse_reply(CLEAN[:at] + inserted + CLEAN[at + 1 :], TASK, "the dog and a cat")
    if isinstance(read, Unparseable):
        assert read.reason in reasons(TASK)
        return
    whole = {span.text for span in parse_reply(CLEAN, TASK).spans}
    changed = [span.text for span in read.spans if span.text not in whole]
    assert len(changed) <= 1
    assert len(read.spans) <= len(whole)


PLAIN = st.text(min_size=1).filter(str.strip)


@given(PLAIN, st.lists(PLAIN, max_size=2), st.lists(PLAIN, max_size=2))
@settings(deadline=None)
def test_the_target_reads_back(critique, good, poor):
    spans = [Span(text, "good") for text in good] + [Span(text, "poor") for text in poor]
    target = target_json(Feedback(critique, tuple(spans)), TASK)
    assert list(json.loads(target)) == ["textual_feedback", "good_spans", "poor_spans"]
    assert parse_reply(target, TASK) == Feedback(critique.strip(), tuple(spans))


def test_the_target_is_written_so():
    feedback = Feedback("Gut – so.", (Span("z", "poor"), Span("é", "good")))
    expected = '{"textual_feedback": "Gut – so.", "good_spans": ["é"], "poor_spans": ["z"]}'
    assert target_json(feedback, TASK) == expected


BOTH = (Span("the dog", "good"), Span("a cat", "poor"))
FLAT = {"good_spans": ["the dog"], "poor_spans": ["a cat"]}
SLF5K_ROW = {"id": "t3", "post": "...", "feedback": "The summary should say why.", "critique": ""}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"post": "...", "generated_summary": "..."}, None),
        (SLF5K_ROW, None),
        ({"critique": None, "textual_feedback": " "}, None),
        ({"post": "...", "metadata": {"critique": "So.", **FLAT}}, None),
        ({"textual_feedback": "", "good_spans": [], "poor_spans": []}, None),
        ({"textual_feedback": "So.", **FLAT}, Feedback("So.", BOTH)),
        ({"critique": "So.", "good_spans": ["the dog"], "bad_spans": ["a cat"]}, "So."),
        ({"critique": "So.", "annotations": FLAT}, "So."),
        ({"annotations": {"Textual Feedback": "So.", **FLAT}}, "So."),
        ({"analysis": {"critique": "So.", **FLAT}}, "So."),
        ({"critique": "So.", "spans": FLAT}, "So."),
        (FLAT, ""),
        ({"critique": json.dumps({"textual_feedback": "So.", **FLAT})}, "So."),
    ],
)
def test_records_in_every_published_shape(row, expected):
    if isinstance(expected, str):
        expected = Feedback(expected, BOTH)
    assert read_feedback(row, TASK) == expected


def test_one_list_of_quotes_is_enough_in_a_record():
    assert read_feedback({"poor_spans": ["a cat"]}, TASK) == Feedback("", BOTH[1:])
    assert read_feedback({"critique": "So.", "poor_spans": []}, TASK) == Feedback("So.")


def test_spans_with_offsets_are_kept_and_go_before_lists_of_quotes():
    row = {
        "textual_feedback": "So.",
        "good_spans": ["stale"],
        "spans": [
            {"text": "so", "label": "good", "start": 0, "end": 2, "match": "exact", "copies": 2},
            {"text": "zebra", "label": "poor_spans", "match": "unmatched"},
            {"label": "poor", "start": 3, "end": 5},
        ],
        "generated_summary": "so it is",
        "annotation": {"annotator": "openai", "reasoning": "Because."},
    }
    spans = (
        Span("so", "good", 0, 2, "exact", 2),
        Span("zebra", "poor", match="unmatched"),
        Span("it", "poor", 3, 5),
    )
    assert read_feedback(row, TASK) == Feedback("So.", spans, "Because.")
    assert [span.to_json() for span in spans[:2]] == [
        row["spans"][0],
        row["spans"][1] | {"label": "poor"},
    ]


def test_the_fenced_raw_reply_of_the_published_annotator_is_read():
    reply = "Let me think.\n```json\n" + CLEAN + "\n```"
    read = read_feedback({"post": "...", "critique": reply}, TASK)
    assert (read.repair, read.reasoning, len(read.spans)) == ("prose", "Let me think.", 3)


def test_word_scores_of_a_record_are_located_in_its_response():
    row = {"textual_feedback": "So.", "word_score_list": [["dog", 1], ["cat", "-1"]]}
    read = read_feedback({**row, "generated_summary": "the dog, a cat"}, TASK)
    assert read.spans == (Span("dog", "good", 4, 7), Span("cat", "poor", 11, 14))
    assert read_feedback(row, TASK, "cat dog").spans[0] == Span("dog", "good", 4, 7)
    assert read_feedback(row, TASK).reason == "word scores need the response"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"critique": "Only prose."}, "missing key good_spans"),
        ({"critique": "Error {code}"}, "not JSON"),
        ({"critique": '{"textual_feedback": "So.", "good_spans": ["the d'}, "truncated"),
        ({"analysis": {"error": "timeout"}}, "annotation failed"),
        ({"critique": ["So."], **FLAT}, "critique is not a string"),
        ({"critique": "So.", "good_spans": [3]}, "span is not a string"),
        ({"spans": ["the dog"]}, "span is not a string"),
        ({"spans": [{"text": "x", "label": "great"}]}, "span has an unknown label"),
        ({"spans": [{"text": "x", "label": "good", "start": 3}]}, "span offsets are wrong"),
        (
            {"spans": [{"text": "x", "label": "good", "start": 3, "end": 3}]},
            "span offsets are wrong",
        ),
        (
            {"spans": [{"text": "x", "label": "good", "start": "1", "end": "2"}]},
            "span offsets are wrong",
        ),
        ({"spans": [{"label": "good"}]}, "span is not a string"),
    ],
)
def test_records_that_cannot_be_read_say_why(row, reason):
    read = read_feedback(row, TASK)
    assert isinstance(read, Unparseable)
    assert read.reason == reason
    assert reason in reasons(TASK)
    assert read.raw in (row.get("critique"), json.dumps(row))


def test_word_scores_keep_their_place_after_words_one_side_lacks():
    response = "I don’t know the old house; the new house is fine."
    entries = [["I", 0], ["Don't", -1], ["know", -1], ["new", 1], ["house", 1], ["fine", 1]]
    assert word_spans(entries, response, TASK) == [
        Span("don’t know", "poor", 2, 12),
        Span("new house", "good", 32, 41),
        Span("fine", "good", 45, 49),
    ]


def test_word_scores_example_of_the_docstring():
    entries = [["the", 0], ["cat", "1"], ["sat", 1]]
    assert word_spans(entries, "the cat sat", TASK) == [Span("cat sat", "good", 4, 11)]
