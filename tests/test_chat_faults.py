"""What a server says in other ways than OpenAI's, and what it says that nobody can decode."""

import json
from collections import Counter

import pytest
from annotation_runs import write_many
from batch_server import serve_batches
from chat_server import GOOD_REPLY, KEY, config, serve, written

from text2grad import dispatch
from text2grad.annotate import annotate_file
from text2grad.schema import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(dispatch, "_FIRST_WAIT", 0.001)
    return tmp_path


def number(prompt):
    """Of the record that `write_many` has put into a prompt."""
    return int(prompt.split("Post ")[1].split(":")[0])


def reasons(data):
    """The ids and reasons of the records that failed."""
    return {row["id"]: row["reason"] for row in written(data, "annotated.failed.jsonl")}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {"detail": "Unexpected fields in the request: {'response_format'}"}),
        (422, {"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs"}]}),
        (400, {"error": "response_format is not supported"}),
        (400, "response_format is not supported"),
        (400, {"error": {"message": "This model does not support structured outputs."}}),
        (200, {"error": {"code": 400, "message": "response_format is not supported"}}),
    ],
)
def test_a_schema_that_is_refused_in_any_words_is_left_out(folder, status, body):
    refusal = (body if isinstance(body, str) else json.dumps(body)).encode()

    def plain(prompt, asked):
        return (status, refusal) if "response_format" in asked else (200, GOOD_REPLY)

    data = write_many(folder, 3)
    with serve(plain) as server:
        annotate_file(config(data, base_url=server.url, concurrency=1))
        assert ["response_format" in asked for asked in server.bodies] == [
            True,
            False,
            False,
            False,
        ]
    assert len(written(data)) == 3


def test_an_unknown_model_stops_after_one_request_in_fastapis_words(folder):
    refusal = json.dumps({"detail": "Server is pinned to '/m/a'; requested 'stub'."}).encode()
    with serve(lambda prompt, body: (400, refusal)) as server:
        with pytest.raises(
            UserError, match=r"--annotator_model stub: not known .*pinned to '/m/a'"
        ):
            annotate_file(config(write_many(folder, 3), base_url=server.url))
        assert len(server.bodies) == 1


def test_refusals_of_single_records_do_not_stop_the_run(folder):
    sick = [True]

    def long(prompt, body):
        if number(prompt) in range(5, 30):
            return 400, {"message": "maximum context length"}
        return (500, {"message": "boom"}) if sick[0] and number(prompt) == 35 else (200, GOOD_REPLY)

    data = write_many(folder, 40)
    with serve(long) as server:
        annotate_file(config(data, base_url=server.url, concurrency=4))
        assert len(reasons(data)) == 26
        sick[0] = False
        # the first 25 that are asked now are those that nothing can mend
        annotate_file(config(data, base_url=server.url, concurrency=4, retry_failed=True))
    assert reasons(data) == {f"r{n}": "400 maximum context length" for n in range(5, 30)}
    assert len(written(data)) == 15


def test_a_server_that_has_refused_everything_stops_the_run(folder):
    refusal = pytest.raises(UserError, match="20 requests in a row failed, the last: 400 no")
    with serve(lambda prompt, body: (400, {"message": "no"})) as server, refusal:
        annotate_file(config(write_many(folder, 40), base_url=server.url, concurrency=2))


def test_a_403_stops_the_run_only_before_any_answer(folder):
    data = write_many(folder, 6)

    def flagged(prompt, body):
        return (403, {"message": "flagged"}) if number(prompt) == 3 else (200, GOOD_REPLY)

    with serve(flagged) as server:
        annotate_file(config(data, base_url=server.url, concurrency=2))
    assert reasons(data) == {"r3": "403 flagged"}
    with serve(lambda prompt, body: (403, {"message": "no"})) as server:
        with pytest.raises(UserError, match=r"the key in OPENAI_API_KEY was refused \(403 no\)"):
            annotate_file(config(data, base_url=server.url, temperature=0.1))
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"choices": ' + b"9" * 6000 + b"}",
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b"",
    ],
    ids=["nested too deep", "too many digits", "not UTF-8", "nothing"],
)
def test_a_reply_that_nobody_can_decode_is_a_named_failure(folder, body):
    def second(prompt, asked):
        return (200, body) if number(prompt) == 1 else (200, GOOD_REPLY)

    data = write_many(folder, 3)
    with serve(second) as server:
        annotate_file(config(data, base_url=server.url, max_retries=1))
        assert len(server.bodies) == 4
    assert reasons(data) == {"r1": "the server's reply is not JSON"}


@pytest.mark.parametrize("status", [200, 400])
def test_half_an_emoji_in_what_is_no_answer_stops_nothing(folder, status):
    half = json.dumps({"message": "no \ud83d"}).encode()
    data = write_many(folder, 3)
    with serve(lambda p, b: (status, half) if number(p) == 1 else (200, GOOD_REPLY)) as server:
        annotate_file(config(data, base_url=server.url))
    assert list(reasons(data)) == ["r1"]


def test_a_time_to_return_that_no_calendar_has_is_none(folder):
    calls = Counter()

    def busy_once(prompt, body):
        calls[prompt] += 1
        return (200, GOOD_REPLY) if calls[prompt] > 1 else (429, {"message": "busy"})

    data = write_many(folder, 2)
    with serve(busy_once) as server:
        server.headers = {"Retry-After": "Fri, 31 Dec 99999999999 23:59:59 GMT"}
        annotate_file(config(data, base_url=server.url, max_retries=2))
    assert len(written(data)) == 2


def test_a_quota_named_by_the_type_alone_stops_the_run(folder):
    error = {"message": "You exceeded", "type": "insufficient_quota", "code": "429"}
    with serve(lambda prompt, body: (429, error)) as server:
        with pytest.raises(UserError, match="no quota left"):
            annotate_file(config(write_many(folder, 3), base_url=server.url, max_retries=2))
        assert len(server.bodies) == 1


@pytest.mark.parametrize("code", [429, "502"])
def test_an_error_of_status_200_is_sent_again_as_the_error_that_it_names(folder, code):
    calls = Counter()
    error = {"error": {"code": code, "message": "Rate limited upstream"}}

    def relay(prompt, body):
        calls[number(prompt)] += 1
        ill = number(prompt) == 1 or calls[number(prompt)] == 1
        return (200, json.dumps(error).encode()) if ill else (200, GOOD_REPLY)

    data = write_many(folder, 3)
    with serve(relay) as server:
        annotate_file(config(data, base_url=server.url, max_retries=1))
    assert reasons(data) == {"r1": f"{code} Rate limited upstream"}
    assert calls[0] == calls[2] == 2
    # nothing was paid for
    assert "usage" not in written(data, "annotated.journal.jsonl")[-1]


def test_an_error_of_status_200_stops_what_that_error_stops(folder):
    error = json.dumps({"error": {"code": 402, "message": "no credits"}}).encode()
    with serve(lambda prompt, body: (200, error)) as server:
        with pytest.raises(UserError, match=r"no quota left \(402 no credits\)"):
            annotate_file(config(write_many(folder, 3), base_url=server.url))
        assert len(server.bodies) == 1


def test_a_key_spelled_with_escapes_lands_in_no_file(folder, capsys):
    spelled = KEY.replace("-", "\\u002d")

    def told(prompt, body):
        if number(prompt) == 0:
            return 200, f'{{"reasoning": "{spelled}", "no end'
        if number(prompt) == 1:
            return 400, f'{{"detail": "{spelled}", broken'.encode()
        return 200, json.dumps({**GOOD_REPLY, "textual_feedback": f"Says {KEY}."}).replace(
            KEY, spelled
        )

    data = write_many(folder, 3)
    with serve(told) as server:
        annotate_file(config(data, base_url=server.url))
    said = capsys.readouterr()
    texts = [path.read_text(encoding="utf-8") for path in (folder / "out").iterdir()]
    for text in [*texts, said.out, said.err]:
        assert KEY not in text
        assert "u002d" not in text
    assert written(data)[0]["textual_feedback"] == "Says ***."


def test_a_batch_tells_what_a_request_failed_with(folder):
    bodies = [
        (400, {"error": "too long"}),
        (422, {"detail": "no"}),
        (200, {"error": {"code": 502, "message": "upstream is away"}}),
    ]
    data = write_many(folder, 4)
    with serve_batches(lambda prompt, body: (200, GOOD_REPLY)) as server:
        result = server.result

        def some_fail(line, status, said):
            row = result(line, status, said)
            place = number(line["body"]["messages"][0]["content"])
            if place < 3:
                row["response"] = dict(zip(("status_code", "body"), bodies[place], strict=True))
            return row

        server.result = some_fail
        annotate_file(config(data, base_url=server.url, batch_api=True, batch_poll_seconds=0.001))
    assert reasons(data) == {
        "r0": "batch: 400 too long",
        "r1": "batch: 422 no",
        "r2": "batch: 200 upstream is away",
    }
