"""A chat server on loopback, and records to send to it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from text2grad.config import AnnotateConfig

KEY = "sk-secret-of-the-test"
POST = "The cat took my keys on Monday. How do I get them back?"
SUMMARY = "A dog took my keys. The cat took the keys."
GOOD_REPLY = {
    "reasoning": "The animal is wrong.",
    "textual_feedback": "It names the wrong animal.",
    "good_spans": ["The cat took the keys"],
    "poor_spans": ["A dog"],
}


class Server:
    """A chat server on loopback. `answer(prompt, body)` gives (status, reply object or text)."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.active = 0
        self.most_active = 0
        self.lock = threading.Lock()

    def reply(self, body):
        with self.lock:
            self.bodies.append(body)
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        status, said = self.answer(body["messages"][0]["content"], body)
        with self.lock:
            self.active -= 1
        if status != 200:
            return status, {"error": said}
        content = said if isinstance(said, str) else json.dumps(said)
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
        return 200, {
            "usage": usage,
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
        }


class Listener(ThreadingHTTPServer):
    """Takes as many connections at once as a client opens; five are the default."""

    request_queue_size = 128


@contextmanager
def serve(answer):
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, reply = server.reply(body)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "1")
            self.end_headers()
            with suppress(BrokenPipeError):  # a client that was stopped
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    listener = Listener(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    server.handler = Handler
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


def good(prompt, body):
    return 200, GOOD_REPLY


def write_data(folder):
    """Three records; the second has a person's feedback."""
    rows = [{"id": f"r{n}", "post": f"{n}: {POST}", "generated_summary": SUMMARY} for n in range(3)]
    rows[1]["feedback"] = "It was a cat all along."
    path = folder / "train.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def config(data, **flags):
    """Flags that write beside the data."""
    flags = {"annotator": "openai", "annotator_model": "stub", "max_retries": 0, **flags}
    return AnnotateConfig(
        data_path=str(data), output_path=str(data.parent / "out" / "annotated.json"), **flags
    )


def written(data, name="annotated.json"):
    """What a run has left in its output folder."""
    text = (data.parent / "out" / name).read_text(encoding="utf-8")
    return [json.loads(x) for x in text.splitlines()] if "jsonl" in name else json.loads(text)
