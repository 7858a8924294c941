"""How fast, how whole and how large annotation is, against a server that fails in every way.

    python benchmarks/annotation.py [--records 2000] [--concurrency 64] [--latency 1] [--json]

The server (tests/fault_server.py, a process of its own on loopback) answers after --latency
seconds; 3 % each of the requests meet 429 with and without Retry-After, 500, 503, a stall longer
than the client's time-out, a cut connection or a broken body, and 3 % each of the replies are cut
JSON, wrong keys, a refusal, prose, or JSON in a fence. "ideal" is requests, retries included, times
latency over concurrency, so a stall counts as one latency there; "ideal with stalls" counts it as
the time-out that the client has to wait. The serial client is the SDK's, with its own retries, on
--serial_records of the same records.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai

from text2grad.annotate import annotate_file
from text2grad.annotators.openai_server import OpenAIAnnotator
from text2grad.config import AnnotateConfig
from text2grad.parsing import parse_reply
from text2grad.records import read_records
from text2grad.schema import Feedback
from text2grad.tables import text_table
from text2grad.tasks import get_task

TASK = get_task("slf5k")
SERVER = Path(__file__).resolve().parent.parent / "tests" / "fault_server.py"


@contextmanager
def serve(args: argparse.Namespace) -> Iterator[str]:
    """The address of a new server."""
    flags = ["--latency", args.latency, "--stall", args.stall, "--patience", args.timeout_seconds]
    command = [sys.executable, str(SERVER), *map(str, flags)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def write_records(folder: Path, count: int) -> Path:
    """Records of the size of a post, each different."""
    rows = [
        {
            "id": f"r{n}",
            "post": f"Post {n}. " + "A dog ran after a cat in the park. " * 60,
            "generated_summary": f"The dog number {n} ran to the park and saw a cat on Monday.",
        }
        for n in range(count)
    ]
    path = folder / "records.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def run_many(data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All records by the annotation script's engine."""
    output = data.parent / "annotated.json"
    with serve(args) as address:
        flags = AnnotateConfig(
            data_path=str(data),
            output_path=str(output),
            base_url=address,
            annotator_model="stub",
            concurrency=args.concurrency,
            timeout_seconds=args.timeout_seconds,
        )
        began, processor = time.monotonic(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            annotate_file(flags)
        seconds, processor = time.monotonic() - began, time.process_time() - processor
        with urllib.request.urlopen(address.removesuffix("/v1") + "/stats") as reply:
            stats = json.load(reply)
    failed_path = output.with_suffix(".failed.jsonl")
    failed = failed_path.read_text().splitlines() if failed_path.exists() else []
    reasons = Counter(json.loads(line)["reason"] for line in failed)
    annotated = json.loads(output.read_text())
    ids = [row["id"] for row in annotated] + [json.loads(line)["id"] for line in failed]
    wanted = {row["id"] for row in json.loads(data.read_text())}
    ideal = stats["requests"] * args.latency / args.concurrency
    with_stalls = stats["service_seconds"] / args.concurrency
    return {
        "records": args.records,
        "annotated": len(annotated),
        "failed": dict(reasons),
        "lost": len(wanted - set(ids)),
        "twice": len(ids) - len(set(ids)),
        "requests": stats["requests"],
        "faults": stats["faults"],
        "seconds": seconds,
        "processor_milliseconds_per_request": 1000 * processor / stats["requests"],
        "ideal_seconds": ideal,
        "over_ideal": seconds / ideal,
        "ideal_with_stalls_seconds": with_stalls,
        "over_ideal_with_stalls": seconds / with_stalls,
        "records_per_second": args.records / seconds,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def run_serial(data: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Some of the records one after the other, by the SDK alone."""
    flags = AnnotateConfig(data_path=str(data), annotator_model="stub")
    annotator = OpenAIAnnotator(TASK, flags)
    records = read_records(data, TASK, ("response",))[: args.serial_records]
    done = 0
    with serve(args) as address:
        client = openai.OpenAI(
            api_key="none", base_url=address, timeout=args.timeout_seconds, max_retries=4
        )
        began = time.monotonic()
        for record in records:
            message = {"role": "user", "content": annotator.prompt(record)}
            # a broken body is no error of the SDK's
            with contextlib.suppress(openai.APIError, json.JSONDecodeError):
                reply = client.chat.completions.create(model="stub", messages=[message])
                text = reply.choices[0].message.content or ""
                done += isinstance(parse_reply(text, TASK), Feedback)
        seconds = time.monotonic() - began
    rate = len(records) / seconds
    return {"serial_records": len(records), "serial_annotated": done, "serial_per_second": rate}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--serial_records", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--stall", type=float, default=5.0)
    parser.add_argument("--timeout_seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as folder:
        data = write_records(Path(folder), max(args.records, args.serial_records))
        found = run_many(data, args)
        found |= run_serial(data, args)
    found["times_serial"] = found["records_per_second"] / found["serial_per_second"]
    if args.json:
        print(json.dumps(found))
        return
    shown = {key: value for key, value in found.items() if not isinstance(value, dict)}
    print(text_table(("annotation against a failing server", ""), list(shown.items())))
    for key in ("failed", "faults"):
        print(f"{key}: {json.dumps(found[key])}")


if __name__ == "__main__":
    main()
