"""A server with a batch endpoint: files, batches, and what becomes of them."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class BatchServer:
    """Answers a batch at the second look at it, by `answer(prompt, body)` as in chat_server."""

    def __init__(self, answer):
        self.answer = answer
        self.files, self.batches, self.paths = {}, {}, []
        self.calls = Counter()
        self.looks = Counter()
        self.ending, self.refusal = "completed", "line 1 is too long"
        self.dies_after_create = False

    def upload(self, data):
        content = re.search(rb'filename="requests.jsonl".*?\r\n\r\n(.*?)\r\n--', data, re.S)[1]
        assert b'name="purpose"\r\n\r\nbatch' in data
        return self.keep(content.decode())

    def keep(self, text):
        name = f"file-{len(self.files)}"
        self.files[name] = text
        return {"id": name, "object": "file", "purpose": "batch"}

    def create(self, body):
        assert body["completion_window"] == "24h"
        name = f"batch-{len(self.batches)}"
        self.batches[name] = {**body, "id": name, "object": "batch", "status": "in_progress"}
        return self.batches[name]

    def look(self, name):
        self.looks[name] += 1
        batch = self.batches[name]
        if self.looks[name] == 2:
            self.finish(batch)
        return batch

    def finish(self, batch):
        batch["status"] = self.ending
        if self.ending == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": self.refusal}]}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        answered = lines[: len(lines) // 2] if self.ending == "expired" else lines
        results = {True: [], False: []}
        for line in reversed(answered):  # the order is not that of the requests
            status, said = self.answer(line["body"]["messages"][0]["content"], line["body"])
            results[status == 200].append(self.result(line, status, said))
        for is_good, key in ((True, "output_file_id"), (False, "error_file_id")):
            if results[is_good]:
                text = "".join(json.dumps(row) + "\n" for row in results[is_good])
                batch[key] = self.keep(text)["id"]

    @staticmethod
    def result(line, status, said):
        content = said if isinstance(said, str) else json.dumps(said)
        body = {"error": said}
        if status == 200:
            message = {"role": "assistant", "content": content}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        response = {"status_code": status, "body": body}
        return {"custom_id": line["custom_id"], "response": response, "error": None}

    def reply(self, method, path, data):
        """The decoded reply, or the text of a file."""
        self.paths.append(path)
        parts = re.sub(r"^/(v1|openai)/", "", path.partition("?")[0]).split("/")
        self.calls[method, parts[0]] += 1
        if parts[0] == "files":
            return self.upload(data) if method == "POST" else self.files[parts[1]]
        if method == "POST":
            return self.create(json.loads(data))
        if len(parts) == 2:
            return self.look(parts[1])
        return {"object": "list", "data": list(self.batches.values()), "has_more": False}


@contextmanager
def serve_batches(answer):
    server = BatchServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.handle_request(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self):
            self.handle_request(b"")

        def handle_request(self, data):
            reply = server.reply(self.command, self.path, data)
            if server.dies_after_create and self.command == "POST" and "batches" in self.path:
                self.connection.close()
                return
            text = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
            self.send_response(200)
            kind = "text/plain" if isinstance(reply, str) else "application/json"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listener.server_address[1]}/v1"
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
