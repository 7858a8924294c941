"""The batch endpoint: submit, leave, come back, and pay for nothing twice."""

import json

import pytest
from annotation_runs import write_many
from batch_server import serve_batches
from chat_server import GOOD_REPLY, KEY, config, good, serve, written

from text2grad import batch_client
from text2grad.annotate import annotate_file
from text2grad.schema import UserError


@pytest.fixture
def data(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return write_many(tmp_path, 4)


def flags(data, server, **more):
    more = {"base_url": server.url, "batch_poll_seconds": 0.001, **more}
    return config(data, batch_api=True, **more)


def test_a_batch_gives_what_single_requests_give(data):
    with serve(good) as server:
        annotate_file(config(data, base_url=server.url))
    single = written(data)
    (data.parent / "out/annotated.journal.jsonl").unlink()
    with serve_batches(good) as server:
        annotate_file(flags(data, server))
    assert written(data) == single
    journal = written(data, "annotated.journal.jsonl")
    usage = {"model": "stub", "input": 100, "output": 10, "batch": True}
    assert [row["usage"] for row in journal] == [usage] * 4
    assert not (data.parent / "out/annotated.batch.json").exists()


def test_submit_leave_and_collect(data, capsys):
    with serve_batches(good) as server:
        with pytest.raises(UserError, match="4 answers are still to come, from batch-0; the same"):
            annotate_file(flags(data, server, batch_poll_seconds=0))
        assert json.loads((data.parent / "out/annotated.batch.json").read_text())
        annotate_file(flags(data, server, batch_poll_seconds=0))
        assert len(server.batches) == 1
    assert len(written(data)) == 4
    assert "batch batch-0: completed" in capsys.readouterr().err


def test_a_run_that_dies_while_it_submits_finds_its_batch_again(data):
    with serve_batches(good) as server:
        server.dies_after_create = True
        with pytest.raises(UserError, match="--batch_api: "):
            annotate_file(flags(data, server, max_retries=0))
        (kept,) = json.loads((data.parent / "out/annotated.batch.json").read_text())
        assert kept["batch_id"] == ""
        server.dies_after_create = False
        annotate_file(flags(data, server))
        assert len(server.batches) == 1, "not submitted a second time"
    assert len(written(data)) == 4


def test_a_kill_while_collecting_pays_for_nothing_twice(data):
    with serve_batches(good) as server:
        annotate_file(flags(data, server))
        journal = data.parent / "out/annotated.journal.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:2]))
        names = [json.loads(line)["key"] + "-1" for line in lines]
        row = {"tag": "t", "batch_id": "batch-0", "at_most": 0.0, "requests": names}
        (data.parent / "out/annotated.batch.json").write_text(json.dumps([row]))
        annotate_file(flags(data, server))
        assert len(server.batches) == 1
    assert journal.read_text().splitlines(keepends=True) == lines


def test_what_cannot_be_read_goes_into_a_second_batch_and_then_fails(data):
    def stubborn(prompt, body):
        if "Post 1" in prompt or ("Post 2" in prompt and len(body["messages"]) == 1):
            return 200, "No."
        return 200, GOOD_REPLY

    with serve_batches(stubborn) as server:
        annotate_file(flags(data, server))
        sent = [server.files[batch["input_file_id"]] for batch in server.batches.values()]
        assert [text.count("\n") for text in sent] == [4, 2]
        annotate_file(flags(data, server))
        assert len(server.batches) == 2
    assert [row["id"] for row in written(data)] == ["r0", "r2", "r3"]
    (failed,) = written(data, "annotated.failed.jsonl")
    assert (failed["id"], failed["reason"]) == ("r1", "no JSON object")


def test_refused_requests_are_failures_and_refused_settings_are_left_out(data):
    def newer(prompt, body):
        if "max_tokens" in body:
            return 400, {"message": "Use 'max_completion_tokens' instead."}
        return (500, {"message": "boom"}) if "Post 3" in prompt else (200, GOOD_REPLY)

    with serve_batches(newer) as server:
        annotate_file(flags(data, server))
        assert len(server.batches) == 2
    (failed,) = written(data, "annotated.failed.jsonl")
    assert (failed["id"], failed["reason"]) == ("r3", "batch: 500 boom")


def test_an_expired_batch_leaves_failures_that_can_be_retried(data):
    with serve_batches(good) as server:
        server.ending = "expired"
        annotate_file(flags(data, server))
        assert {row["reason"] for row in written(data, "annotated.failed.jsonl")} == {
            "batch expired"
        }
        server.ending = "completed"
        annotate_file(flags(data, server, retry_failed=True))
        assert [len(f.splitlines()) for f in list(server.files.values())[::2]] == [4, 2]
    assert len(written(data)) == 4


def test_a_refused_batch_says_why(data):
    with serve_batches(good) as server:
        server.ending = "failed"
        with pytest.raises(UserError, match="batch-0 was refused: line 1 is too long"):
            annotate_file(flags(data, server))


def test_a_server_without_the_endpoint_is_one_line(data):
    with serve(good) as server:
        server.handler.do_POST = lambda self: self.send_error(404)
        with pytest.raises(UserError, match="no batch endpoint at --base_url http") as caught:
            annotate_file(flags(data, server, max_retries=0))
    assert "\n" not in str(caught.value)


def test_a_batch_that_could_cost_too_much_is_not_submitted(data):
    prices = data.parent / "prices.json"
    model = {"stub": {"input": 0, "output": 1e6}}
    table = {"currency": "EUR", "batch_factor": 0.5, "models": model}
    prices.write_text(json.dumps(table))
    with serve_batches(good) as server:
        more = {"price_file": str(prices), "max_tokens": 50}
        with pytest.raises(UserError, match=r"--max_cost 99: .* may cost 100\.0000"):
            annotate_file(flags(data, server, max_cost=99.0, **more))
        assert not server.calls["POST", "files"]
        annotate_file(flags(data, server, max_cost=100.0, **more))


@pytest.mark.parametrize(
    ("azure", "endpoint"), [(False, "/v1/chat/completions"), (True, "/chat/completions")]
)
def test_the_endpoint_has_the_provider_s_name(data, monkeypatch, azure, endpoint):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    with serve_batches(good) as server:
        address = server.url.removesuffix("/v1") if azure else server.url
        version = "2024-10-21" if azure else ""
        annotate_file(flags(data, server, api_version=version, base_url=address))
        assert server.batches["batch-0"]["endpoint"] == endpoint
        sent = [json.loads(line) for line in server.files["file-0"].splitlines()]
        assert {row["url"] for row in sent} == {endpoint}
        assert [path for path in server.paths if "/deployments/" in path] == []
    assert len(written(data)) == 4


def test_the_key_is_in_no_file_and_no_output(data, capfd):
    def told(prompt, body):
        if "Post 1" in prompt:
            return 400, {"message": f"refused for {KEY}"}
        return 200, f"Your key is {KEY}." if "Post 2" in prompt else GOOD_REPLY

    with serve_batches(told) as server:
        with pytest.raises(UserError, match="still to come"):
            annotate_file(flags(data, server, batch_poll_seconds=0))
        folder = data.parent / "out"
        texts = [path.read_text() for path in folder.iterdir()]
        annotate_file(flags(data, server))
        texts += [path.read_text() for path in folder.iterdir()]
        server.ending = "failed"
        server.refusal = f"the key {KEY} has no batches"
        with pytest.raises(UserError, match=r"the key \*\*\* has no batches") as caught:
            annotate_file(flags(data, server, retry_failed=True))
    texts += [path.read_text() for path in folder.iterdir()]
    said = capfd.readouterr()
    # journal and batch; journal, failures, data and figures; the same four
    assert len(texts) == 2 + 4 + 4
    assert not any(KEY[:12] in text for text in [*texts, said.out, said.err, str(caught.value)])


def test_long_lists_become_several_files(data, monkeypatch):
    monkeypatch.setattr(batch_client, "MOST_REQUESTS", 3)
    with serve_batches(good) as server:
        annotate_file(flags(data, server))
        assert len(server.batches) == 2
    assert len(written(data)) == 4
