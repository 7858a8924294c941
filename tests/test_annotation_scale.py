"""Annotation of many records: every fault, kills, the bound of the cost, several samples."""

import json
import logging
import random
import time
import traceback
from collections import Counter

import pytest
from annotation_runs import start_process, write_many
from chat_server import GOOD_REPLY, KEY, config, good, serve, write_data, written
from fault_server import CONTENT, TRANSPORT, serve_faults

from text2grad import dispatch
from text2grad.annotate import annotate_file
from text2grad.annotators import make_annotator
from text2grad.config import AnnotateConfig
from text2grad.files import Journal
from text2grad.ledger import Prices
from text2grad.records import read_records
from text2grad.schema import UserError
from text2grad.tasks import TASKS, get_task

TASK = get_task("slf5k")
ENVIRONMENT = {"OPENAI_API_KEY": KEY, "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def price_file(folder):
    """One unit of money per token, in or out."""
    table = {
        "currency": "EUR",
        "batch_factor": 0.5,
        "models": {"stub": {"input": 1e6, "cached_input": 5e5, "output": 1e6}},
    }
    path = folder / "prices.json"
    path.write_text(json.dumps(table))
    return str(path)


def is_final(row):
    return "asked_again" not in row


def test_every_record_ends_as_data_or_as_a_named_failure(folder, monkeypatch, capsys):
    monkeypatch.setattr(dispatch, "_FIRST_WAIT", 0.01)
    data = write_many(folder, 300)
    with serve_faults(stall=30.0, patience=2.5, retry_after=0.01) as server:
        flags = {"concurrency": 16, "timeout_seconds": 3.0, "max_retries": 4}
        annotate_file(config(data, base_url=server.url, **flags))
        assert set(server.stats()["faults"]) == {"none", *TRANSPORT, *CONTENT}
        assert server.most_active <= 16
        whole = sum(fault not in TRANSPORT for _, _, fault in server.log)
    rows, failed = written(data), written(data, "annotated.failed.jsonl")
    ids = [row["id"] for row in (*rows, *failed)]
    assert sorted(ids) == sorted(f"r{n}" for n in range(300))
    assert all(span["match"] == "exact" for row in rows for span in row["spans"])
    assert {row["reason"] for row in failed} <= {
        *("truncated", "no JSON object", "missing key textual_feedback", "refused by the model"),
        "timed out",
    }
    assert 0 < len(failed) < 10  # (4 * 3 %)^2 of 300 is 4
    journal = Journal.look(data.parent / "out/annotated.journal.jsonl")
    # one reply to each record and, only after one that could not be read, a second
    assert all(is_final(row) for row in journal.rows.values())
    assert not any(is_final(row) for row in journal.replaced)
    assert max(Counter(row["key"] for row in journal.replaced).values()) == 1
    replies = len(journal.rows) + len(journal.replaced)
    assert replies <= whole
    assert f"all runs             {replies} " in capsys.readouterr().out


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_the_run_ends_as_if_undisturbed(folder, kills):
    count, concurrency = 10 + 5 * kills, 6
    flags = {"concurrency": concurrency, "max_retries": 12, "timeout_seconds": 20.0}
    faults = ("429 with Retry-After", *CONTENT)
    latency = 0.02
    settings = {"latency": latency, "retry_after": 0.01, "share": 0.06, "faults": faults}
    calm = folder / "calm"
    calm.mkdir()
    with serve_faults(**settings) as server:
        annotate_file(config(write_many(calm, count), base_url=server.url, **flags))
        requests = len(server.log)

    data, out = write_many(folder, count), folder / "out"
    records = read_records(data, TASK, ("response",))
    annotator = make_annotator(config(data), TASK)
    prompt_of = {annotator.key(record): annotator.prompt(record) for record in records}
    draws = random.Random(3)
    moments = sorted(draws.sample(range(1, requests), kills))
    with serve_faults(**settings) as server:
        kept, seen = set(), 0
        for moment in [*moments, None]:
            process = start_process(data, ENVIRONMENT, base_url=server.url, **flags)
            if moment is not None and server.wait_for(max(moment, seen + 1), 30):
                time.sleep(draws.uniform(0.0, 2 * latency))  # also while a reply is taken in
                process.kill()
            process.join(60)
            server.wait_until_idle(30)
            asked = {(prompt, turn) for prompt, turn, _ in server.log[seen:]}
            assert not kept & asked, "asked again for what the journal holds"
            whole = {
                (prompt, turn) for prompt, turn, fault in server.log[seen:] if "4" not in fault
            }
            journal = Journal.look(out / "annotated.journal.jsonl")
            for key, row in journal.rows.items():
                kept |= {(prompt_of[key], turn) for turn in (1, 3) if turn == 1 or is_final(row)}
            assert len(whole - kept) <= concurrency, "more is lost than was under way"
            seen = len(server.log)
        assert process.exitcode == 0
    for name in ("annotated.json", "annotated.failed.jsonl", "annotated.qc.json"):
        assert (out / name).read_bytes() == (calm / "out" / name).read_bytes(), name


def test_the_key_is_in_no_file_no_output_and_no_log(folder, capfd, caplog):
    caplog.set_level(logging.DEBUG)  # what OPENAI_LOG=debug shows, and the HTTP library's own

    def told(prompt, body):
        if "0: The cat" in prompt:
            return 200, f"Your key is {KEY}."
        if "1: The cat" in prompt:
            return 400, {"message": f"{'x' * 190}{KEY}"}
        return 200, {**GOOD_REPLY, "textual_feedback": f"Says {KEY}."}

    data, heads = write_data(folder), []
    with serve(told) as server:
        server.handler.parse_request = _noting(server.handler.parse_request, heads)
        annotate_file(config(data, base_url=server.url))
        annotate_file(config(data, base_url=server.url, dry_run=True))
    assert {head["authorization"] for _, head in heads} == {f"Bearer {KEY}"}
    refusal = pytest.raises(UserError)
    with serve(lambda prompt, body: (401, {"message": KEY})) as server, refusal as caught:
        annotate_file(config(data, base_url=server.url, retry_failed=True))
    said = capfd.readouterr()
    texts = [p.read_text(encoding="utf-8") for p in folder.rglob("*") if p.is_file()]
    assert len(texts) == 5
    part = KEY[:12]
    outputs = [said.out, said.err, str(caught.value), caplog.text]
    assert not any(part in text for text in [*texts, *outputs])
    assert "Says ***." in (folder / "out/annotated.json").read_text()
    assert "openai._base_client" in caplog.text


def test_a_traceback_does_not_show_the_key(folder):
    refusal = pytest.raises(UserError)
    with serve(lambda prompt, body: (401, {"message": "no"})) as server, refusal as caught:
        annotate_file(config(write_data(folder), base_url=server.url))
    text = "".join(traceback.format_exception(caught.value))
    assert "AuthenticationError" in text
    assert KEY[:12] not in text


def test_an_address_that_holds_a_key_is_refused(folder):
    with pytest.raises(UserError, match="must not hold a key") as caught:
        config(folder / "x", base_url=f"http://user:{KEY}@localhost:8000/v1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"samples_per_record": 3, "temperature": 0.0}, "all samples would be the same"),
        ({"samples_per_record": 3, "annotator": "reference"}, "asks no server; needs openai"),
        ({"batch_api": True, "annotator": "human"}, "--batch_api true: --annotator human"),
        ({"api_version": "2024-10-21"}, "needs --base_url of the resource"),
        ({"max_cost": -1.0}, "--max_cost -1.0: must be 0 or more"),
        ({"spans_path": "s.json"}, "--spans_path s.json: is read by --annotator human alone"),
    ],
)
def test_flags_that_do_not_go_together(folder, flags, message):
    with pytest.raises(UserError, match=message):
        config(folder / "x", **flags)


def test_the_output_is_not_the_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--output_path ./x.json: is --data_path"):
        AnnotateConfig(data_path="x.json", output_path="./x.json")


def test_the_cost_stays_under_its_bound_and_the_run_goes_on(folder, capsys):
    data = write_many(folder, 40)
    flags = {"price_file": price_file(folder), "max_tokens": 100, "concurrency": 8}
    with serve_faults(share=0.0) as server:
        with pytest.raises(UserError, match=r"--max_cost 9000: .* EUR are spent .* is kept"):
            annotate_file(config(data, base_url=server.url, max_cost=9000.0, **flags))
        first = len(server.log)
        table = capsys.readouterr().out.splitlines()[-1]
        spent = float(table.split()[-1])
        assert 9000 - 1000 < spent <= 9000
        assert not (folder / "out/annotated.json").exists()
        annotate_file(config(data, base_url=server.url, **flags))
        assert len(server.log) == 40 > first > 0
    assert len(written(data)) == 40
    with pytest.raises(UserError, match=r"--max_cost 1: .*prices.json has no price for stub"):
        annotate_file(config(data, max_cost=1.0))


def test_a_dry_run_asks_nothing_and_says_what_it_would_cost(folder, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    data = write_many(folder, 40)
    flags = {"price_file": price_file(folder), "max_tokens": 100, "dry_run": True}
    annotate_file(config(data, **flags))
    said = capsys.readouterr().out
    assert "Post 0: a dog ran" in said
    assert not (folder / "out").exists()
    shown = dict(line.rsplit(None, 1) for line in said.splitlines() if line[-1:].isdigit())
    read = int(shown["input tokens, about"].replace(",", ""))
    assert float(shown["cost, EUR, at most (--max_tokens)"].replace(",", "")) == read + 4000
    with serve_faults(share=0.0) as server:
        flags["dry_run"] = False
        annotate_file(config(data, base_url=server.url, max_samples=10, **flags))
    flags["dry_run"] = True
    capsys.readouterr()
    annotate_file(config(data, **flags))
    said = capsys.readouterr().out
    shown = dict(line.rsplit(None, 1) for line in said.splitlines() if line[-1:].isdigit())
    assert (shown["answered already"], shown["to ask"]) == ("10", "30")
    assert shown["output tokens, as 10 earlier replies"] == "1,800"


def test_the_dry_run_says_how_old_its_prices_are(folder, capsys):
    annotate_file(config(write_many(folder, 2), annotator_model="gpt-4o", dry_run=True))
    assert f"prices.json, as of {Prices.read().as_of}; compare" in capsys.readouterr().out
    prices = price_file(folder)
    annotate_file(config(folder / "train.json", dry_run=True, price_file=prices))
    assert f"(prices: {prices}; compare" in capsys.readouterr().out


def test_the_ledger_does_not_stand_behind_the_progress_bar(folder, capfd):
    with serve(good) as server:
        annotate_file(config(write_data(folder), base_url=server.url))
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("tokens and cost ")


def test_several_samples_keep_what_most_of_them_mark(folder):
    data = write_data(folder)
    replies = [GOOD_REPLY, {**GOOD_REPLY, "poor_spans": []}, {**GOOD_REPLY, "good_spans": []}]
    number = Counter()

    def in_turn(prompt, body):
        number[prompt] += 1
        return 200, replies[(number[prompt] - 1) % 3]

    with serve(in_turn) as server:
        flags = {"base_url": server.url, "concurrency": 1}
        annotate_file(config(data, max_samples=1, **flags))
        annotate_file(config(data, samples_per_record=3, **flags))
        assert len(server.bodies) == 9  # the one sample from before is the first of three
    assert all(row["good_spans"] == ["The cat took the keys"] for row in written(data))
    quality = written(data, "annotated.qc.json")
    assert quality["samples_per_record"] == 3
    # A (good, poor), B (good), C (poor): 2 of A and B, 2 of A and C, 0 of B and C, of 3 + 3 + 2
    assert quality["agreement"]["span_agreement"] == pytest.approx(4 / 8)


@pytest.mark.parametrize("name", TASKS)
def test_records_of_every_task_are_annotated_by_a_server(folder, name):
    task = get_task(name)
    row = {
        "id": "a",
        task.prompt_keys[0]: "Return x.",
        task.response_keys[0]: "def f(x):\n    return x + 1\n",
        "log": {"passed": False, "stderr": "ZeroDivisionError"},
    }
    quotes = {
        label.key: [text] for label, text in zip(task.labels, ("def f(x):", "+ 1"), strict=True)
    }
    reply = {"reasoning": "Compared.", task.critique_keys[0]: "Adds one.", **quotes}
    data = folder / "train.json"
    data.write_text(json.dumps([row]))
    with serve(lambda prompt, body: (200, reply)) as server:
        annotate_file(config(data, base_url=server.url, task=name))
        (body,) = server.bodies
    assert body["response_format"]["json_schema"]["schema"]["required"] == list(reply)
    prompt = body["messages"][0]["content"]
    assert row[task.response_keys[0]].strip() in prompt
    assert ("ZeroDivisionError" in prompt) == bool(task.test_keys)
    (out,) = written(data)
    assert {key: out[key] for key in quotes} == quotes
    assert {span["match"] for span in out["spans"]} == {"exact"}


def test_azure_is_asked_by_deployment_and_version(folder, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-key-of-the-test")
    paths = []
    with serve(good) as server:
        server.handler.parse_request = _noting(server.handler.parse_request, paths)
        address = server.url.removesuffix("/v1")
        data = write_data(folder)
        annotate_file(config(data, base_url=address, api_version="2024-10-21"))
    path, head = paths[0]
    assert path == "/openai/deployments/stub/chat/completions?api-version=2024-10-21"
    assert head["api-key"] == "azure-key-of-the-test"
    assert len(written(data)) == 3


def _noting(parse, paths):
    def parse_request(self):
        found = parse(self)
        paths.append((self.path, self.headers))
        return found

    return parse_request


def test_a_record_is_asked_again_with_what_was_wrong(folder):
    def second_time(prompt, body):
        return 200, GOOD_REPLY if len(body["messages"]) == 3 else "I'd rather not."

    with serve(second_time) as server:
        annotate_file(config(write_data(folder), base_url=server.url, concurrency=1))
        again = server.bodies[1]["messages"]
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == "I'd rather not."
    assert "no JSON object" in again[2]["content"]


def test_a_model_that_takes_no_temperature_is_asked_without(folder, capsys):
    def fixed(prompt, body):
        for name in ("temperature", "top_p"):
            if name in body:
                return 400, {"message": f"Unsupported value: '{name}' does not support 0.3."}
        return 200, GOOD_REPLY

    with serve(fixed) as server:
        annotate_file(config(write_data(folder), base_url=server.url))
        assert len(server.bodies) == 5
    assert capsys.readouterr().err.count("WARNING: the server does not take --temperature") == 1


def test_two_runs_cannot_write_one_journal(folder):
    journal = Journal(folder / "x.journal.jsonl")
    with pytest.raises(UserError, match="another run is writing this journal"):
        Journal(folder / "x.journal.jsonl")
    journal.close()
    Journal(folder / "x.journal.jsonl").close()
