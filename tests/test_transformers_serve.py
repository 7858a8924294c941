"""A real server with a real model behind it: `transformers serve`, where it can be started."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from annotation_runs import write_many
from chat_server import KEY, config, written
from policy_runs import save_tiny
from transformers.utils.import_utils import is_serve_available

from text2grad.annotate import annotate_file
from text2grad.embedded import export_embedded_model
from text2grad.schema import UserError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not is_serve_available(), reason="needs fastapi and uvicorn"),
]
START_SECONDS = 300
COUNT = 10


@contextlib.contextmanager
def transformers_serve(model, log):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", code, "serve", str(model), "--port", str(port)]
    with open(log, "wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            wait_until_up(f"http://localhost:{port}/health", process)
            yield f"http://localhost:{port}/v1"
        finally:
            process.terminate()


def wait_until_up(address, process):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "the server has stopped"
        with contextlib.suppress(OSError), urllib.request.urlopen(address):
            return
        time.sleep(0.5)
    raise TimeoutError(address)


@pytest.mark.parametrize("kind", ["tiny", pytest.param("embedded", marks=pytest.mark.embedded)])
def test_every_record_ends_as_data_or_as_a_named_failure(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    build = save_tiny if kind == "tiny" else export_embedded_model
    model, data = build(tmp_path / "model"), write_many(tmp_path, COUNT)
    tokens = 40 if kind == "tiny" else 300
    flags = {"annotator_model": str(model), "max_tokens": tokens, "timeout_seconds": 300.0}
    # all of a model's replies may be unusable, which is an error
    unusable = contextlib.suppress(UserError)
    with transformers_serve(model, tmp_path / "serve.log") as address, unusable:
        annotate_file(config(data, base_url=address, concurrency=4, cot=False, **flags))
    out = data.parent / "out"
    rows = written(data) if (out / "annotated.json").exists() else []
    failed = out / "annotated.failed.jsonl"
    failures = written(data, failed.name) if failed.exists() else []
    assert sorted(row["id"] for row in (*rows, *failures)) == sorted(f"r{n}" for n in range(COUNT))
    assert all(failure["raw"] and failure["reason"] for failure in failures)
    for line in (out / "annotated.journal.jsonl").read_text().splitlines():
        usage = json.loads(line)["usage"]
        assert "estimated" not in usage
        assert 0 < usage["output"] <= tokens
