"""What a failed request means."""

import asyncio
import json
from types import SimpleNamespace

import openai
import pytest

from text2grad.chat_client import parse_message
from text2grad.chat_errors import (
    hide_keys,
    read_key,
    read_trouble,
    retry_after_seconds,
    said_in,
)
from text2grad.chat_request import read_reply
from text2grad.schema import Unparseable, UserError

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT
ASKED = [{"role": "user", "content": "x" * 40}]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 14 Nov 99999999999 22:13:50 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 20000 22:13:50 GMT"}, None),
    ],
)
def test_retry_after(headers, seconds):
    assert retry_after_seconds(headers, NOW) == seconds


def status_error(status, headers=None, body=None):
    """The error that the SDK raises for a reply of this status."""
    response = SimpleNamespace(status_code=status, headers=headers or {}, request=None, text="")
    return openai.APIStatusError("said", response=response, body=body or {})


@pytest.mark.parametrize(
    ("error", "then", "busy"),
    [
        (status_error(401), "stop", False),
        (status_error(402), "stop", False),
        (status_error(403), "never", False),
        (status_error(429, body={"code": "429", "type": "insufficient_quota"}), "stop", False),
        (status_error(400, body={"code": "billing_hard_limit_reached"}), "stop", False),
        (status_error(400, body={"message": "Model m does not exist"}), "never", False),
        (status_error(404), "stop", False),
        (status_error(429, body={"code": "insufficient_quota"}), "stop", False),
        (status_error(429, {"retry-after": "601"}), "stop", False),
        (status_error(429, {"retry-after": "600"}), "later", True),
        (status_error(429), "later", True),
        (status_error(503), "later", True),
        (status_error(500), "later", False),
        (status_error(500, {"retry-after": "1"}), "later", True),
        (status_error(408), "later", False),
        (status_error(409), "later", False),
        (status_error(400), "never", False),
        (status_error(413), "never", False),
        (status_error(500, {"x-should-retry": "false"}), "never", False),
        (status_error(400, {"x-should-retry": "true"}), "later", False),
        (asyncio.TimeoutError(), "later", False),
        (openai.APITimeoutError(request=None), "later", False),
        (openai.APIConnectionError(request=None), "later", False),
        (json.JSONDecodeError("x", "y", 0), "later", False),
    ],
)
def test_stop_later_or_never(error, then, busy):
    trouble = read_trouble(error, "--base_url URL", "--model m", reached=True)
    assert (trouble.then, trouble.busy) == (then, busy)


@pytest.mark.parametrize(
    "said",
    [
        "Model m does not exist",
        "The model `m` was not found",
        "Invalid model: m",
        "Server is pinned to 'a'; requested 'm'.",
    ],
)
def test_a_400_about_the_model_stops_the_run_unless_the_server_has_answered(said):
    trouble = read_trouble(status_error(400, body=said), "--base_url URL", "--model m", False)
    assert trouble.then == "stop"
    assert trouble.reason == f"--model m: not known at --base_url URL (400 {said})"
    long = "This model's maximum context length is 4096 tokens; yours are 5000"
    trouble = read_trouble(status_error(400, body=long), "--base_url URL", "--model m", False)
    assert trouble.then == "never"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "no", "code": "x"}, "no"),
        ({"error": {"message": "no"}}, "no"),
        ([{"error": {"code": 400, "message": "no"}}], "no"),
        ({"error": "no"}, "no"),
        ({"detail": "no"}, "no"),
        (
            {"detail": [{"loc": ["body", "top_p"], "msg": "no", "input": {"x": "y"}}]},
            "body.top_p: no",
        ),
        ({"detail": [{"msg": "no"}, {"loc": [], "msg": "never"}]}, "no; never"),
        ("no\n  such thing", "no such thing"),
        ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        ("x" * 1000, "x" * 300),
        ([1, None, {"message": {"a": 1}}], ""),
        (None, ""),
    ],
)
def test_words_in_the_body_of_an_error(body, words):
    assert said_in(body) == words


def test_words_nested_without_end_are_none():
    body = "deep"
    for _ in range(20_000):
        body = {"error": [body]}
    assert said_in(body) == ""


@pytest.mark.parametrize(("reached", "then"), [(False, "stop"), (True, "later")])
def test_a_server_that_was_never_there_stops_the_run(reached, then):
    error = openai.APIConnectionError(request=None)
    error.__cause__ = type("ConnectError", (Exception,), {})("refused")
    trouble = read_trouble(error, "--base_url URL", "--model m", reached)
    assert trouble.then == then
    assert "refused" in trouble.reason


def test_keys_are_hidden_and_placeholders_are_not(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "0123456789abcdef")
    assert hide_keys("The list is EMPTY; key 0123456789abcdef.") == "The list is EMPTY; key ***."


@pytest.mark.parametrize(
    "spelled",
    [
        r"sk\u002dof/the+test",
        r"sk-of\/the\u002Btest",
        r"sk-of\\/the\\u002btest",
        r"sk\x2dof/the+test",
        "".join(f"\\u{ord(letter):04x}" for letter in "sk-of/the+test"),
    ],
)
def test_a_key_that_json_spells_with_escapes_is_hidden(monkeypatch, spelled):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of/the+test")
    assert hide_keys(f'{{"a": "is {spelled}."}}') == '{"a": "is ***."}'
    assert hide_keys(r"sk-of/the\ntest") == r"sk-of/the\ntest"


@pytest.mark.parametrize("key", ["sk-two parts", "sk-line\nbreak", "sk-“quoted”"])
def test_a_key_that_is_none_is_named_without_being_shown(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(UserError, match="OPENAI_API_KEY: holds") as caught:
        read_key("OPENAI_API_KEY")
    assert key[:5] not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-file\n")
    assert read_key("OPENAI_API_KEY") == "sk-of-a-file"


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (None, "reply without a message"),
        ([1], "reply without a message"),
        ({"choices": []}, "reply without a message"),
        ({"choices": ["x"]}, "reply without a message"),
        ({"choices": [{"message": {"content": None, "refusal": "No."}}]}, "refused by the model"),
        (
            {"choices": [{"message": {"content": "x"}, "finish_reason": "content_filter"}]},
            "stopped by the server's content filter",
        ),
        (
            {"choices": [{"message": {"content": "{"}, "finish_reason": "length"}]},
            "cut off at --max_tokens",
        ),
        ({"choices": [{"message": {"content": "{"}}]}, "unread"),
        ({"choices": [{"message": {"content": 3}}]}, "unread"),
    ],
)
def test_a_reply_of_any_shape_is_read_or_named(body, failure):
    reply = read_reply(body, ASKED, "m")
    answer = parse_message(reply, lambda text: Unparseable("unread", text))
    assert answer.reason == failure
    assert reply.usage.estimated
    assert reply.usage.input == 18  # 8 + 40 / 4


def test_a_reply_that_is_decoded_and_too_deep_to_be_shown_is_named():
    body = []
    for _ in range(20_000):
        body = [body]
    reply = read_reply(body, ASKED, "m", batch=True)
    assert (reply.failure, reply.text) == ("reply without a message", "nested too deep")


def test_tokens_are_those_that_the_server_counted():
    counted = {"prompt_tokens": 9, "completion_tokens": 4}
    body = {"choices": [], "usage": {**counted, "prompt_tokens_details": {"cached_tokens": 5}}}
    usage = read_reply(body, ASKED, "m", batch=True).usage
    assert (usage.input, usage.cached, usage.output, usage.batch) == (9, 5, 4, True)
    assert not usage.estimated
