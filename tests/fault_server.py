"""A chat server on loopback that fails in every way a real one does, and always in the same ways.

What goes wrong depends on the prompt and on how often it was asked, not on when: two runs see the
same replies. As a program, for benchmarks: prints its address, and answers GET /stats.

    python tests/fault_server.py --latency 0.5 --stall 5 --patience 2
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
import threading
from collections import Counter, defaultdict

TRANSPORT = ("429", "429 with Retry-After", "500", "503", "stall", "cut", "broken body")
CONTENT = ("truncated", "wrong keys", "refusal", "prose", "fenced")
REQUEST = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
MOST_HEAD = 1 << 16


class FaultServer:
    """Answers with quotes of the summary in the prompt, unless something goes wrong.

    Args:
        share: of the requests that each fault of TRANSPORT hits, and of the replies that each of
            CONTENT hits.
        latency: seconds until a reply.
        stall: seconds until a stalled one.
        patience: the client's time-out; what it no longer waits for is not counted as active.
        retry_after: what a busy server asks for, in seconds.
        faults: those in use.
    """

    def __init__(
        self,
        share=0.03,
        latency=0.0,
        stall=5.0,
        patience=2.0,
        retry_after=1.0,
        faults=TRANSPORT + CONTENT,
    ):
        self.share, self.latency, self.stall = share, latency, stall
        self.patience, self.retry_after, self.faults = patience, retry_after, faults
        self.log = []  # (prompt, turn, fault), in the order in which the requests came
        self.asked = defaultdict(int)
        self.active = self.most_active = 0
        self.service_seconds = 0.0
        self.changed = threading.Condition()

    def stats(self):
        return {
            "requests": len(self.log),
            "faults": dict(Counter(fault or "none" for _, _, fault in self.log)),
            "service_seconds": self.service_seconds,
            "most_active": self.most_active,
        }

    def wait_for(self, requests, seconds):
        """Until so many requests have come, or for so long; whether they have."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.log) >= requests, seconds)

    def wait_until_idle(self, seconds):
        """Until no request is being answered."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.active, seconds)

    def draw(self, names, *about):
        """One of the faults, or "", always the same for the same request."""
        digest = hashlib.sha256(repr(about).encode()).digest()
        place = int(int.from_bytes(digest[:6], "big") / 2**48 / self.share) if self.share else 99
        fault = names[place] if place < len(names) else ""
        return fault if fault in self.faults else ""

    def choose(self, messages):
        """The fault of a request."""
        prompt, turn = messages[0]["content"], len(messages)
        self.asked[prompt, turn] += 1
        fault = self.draw(TRANSPORT, prompt, turn, self.asked[prompt, turn])
        fault = fault or self.draw(CONTENT, prompt, turn)
        with self.changed:
            self.log.append((prompt, turn, fault))
            self.changed.notify_all()
        return fault

    def content(self, prompt, fault):
        """The message and, for a refusal, what stands in its place."""
        summary = re.search(r"<summary>\n(.*?)\n</summary>", prompt, re.S)[1]
        words = summary.split()
        said = json.dumps(
            {
                "reasoning": "Compared.",
                "textual_feedback": f"Of {len(words)} words the last are doubtful.",
                "good_spans": [" ".join(words[:3])],
                "poor_spans": [" ".join(words[-2:])],
            }
        )
        texts = {
            "truncated": said[: len(said) // 2],
            "wrong keys": json.dumps({"verdict": "fine", "score": 3}),
            "refusal": None,
            "prose": "I like this summary, though the end is weak.",
            "fenced": f"Here you are:\n```json\n{said}\n```",
        }
        return texts.get(fault, said)

    def reply(self, body, fault):
        """Status, extra headers and body of a reply."""
        if fault in ("429", "429 with Retry-After", "500", "503"):
            wait = f"Retry-After: {self.retry_after}\r\n" if "Retry" in fault else ""
            error = {"message": f"fault {fault}", "type": "server_error"}
            return int(fault[:3]), wait, json.dumps({"error": error})
        prompt = body["messages"][0]["content"]
        text = self.content(prompt, fault)
        refusal = "I cannot judge that." if fault == "refusal" else None
        message = {"role": "assistant", "content": text, "refusal": refusal}
        usage = {"prompt_tokens": len(prompt) // 5, "completion_tokens": 60}
        whole = json.dumps(
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": usage,
            }
        )
        return 200, "", whole[:-9] if fault == "broken body" else whole

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = REQUEST.search(head)
                raw = await reader.readexactly(int(length[1]) if length else 0)
                if head.startswith(b"GET /stats"):
                    self.write(writer, 200, "", json.dumps(self.stats()))
                elif not await self.answer(json.loads(raw), writer):
                    break
                await writer.drain()
        writer.close()

    async def answer(self, body, writer):
        """Whether the connection stays."""
        fault = self.choose(body["messages"])
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        seconds = self.stall if fault == "stall" else self.latency
        heard = min(seconds, self.patience)
        self.service_seconds += heard
        await asyncio.sleep(heard)
        with self.changed:
            self.active -= 1
            self.changed.notify_all()
        await asyncio.sleep(seconds - heard)
        if fault == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: 900\r\n\r\n{")
            return False
        self.write(writer, *self.reply(body, fault))
        return True

    @staticmethod
    def write(writer, status, headers, text):
        data = text.encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{headers}"
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    async def start(self):
        """Listen; the address."""
        listener = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=MOST_HEAD)
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        return listener


@contextlib.contextmanager
def serve_faults(**settings):
    """The server on a thread of its own."""
    server, loop = FaultServer(**settings), asyncio.new_event_loop()
    listener = loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(listener.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("share", 0.03), ("latency", 0.5), ("stall", 5.0), ("patience", 2.0)):
        parser.add_argument(f"--{name}", type=float, default=default)
    server = FaultServer(**vars(parser.parse_args()))

    async def run():
        listener = await server.start()
        print(server.url, flush=True)
        await listener.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
