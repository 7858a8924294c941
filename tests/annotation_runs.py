"""Runs of the annotation against a server, in this process or in one that can be killed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os

from chat_server import config

from text2grad.annotate import annotate_file

PROCESSES = multiprocessing.get_context("forkserver")
# the children are forked from a process that has imported all this once
PROCESSES.set_forkserver_preload(["text2grad.annotate", "text2grad.annotators.openai_server"])


def write_many(folder, count):
    """So many records, each with its own summary."""
    rows = [
        {
            "id": f"r{n}",
            "post": f"Post {n}: a dog ran after a cat.",
            "generated_summary": f"The dog number {n} ran to the park and saw a cat on Monday.",
        }
        for n in range(count)
    ]
    path = folder / "train.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def start_process(data, environment, **flags):
    """The annotation of `data` in a process of its own."""
    process = PROCESSES.Process(target=_annotate, args=(data, environment, flags), daemon=True)
    process.start()
    return process


def _annotate(data, environment, flags):
    os.environ.clear()
    os.environ.update(environment)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stderr(nowhere),
        contextlib.redirect_stdout(nowhere),
    ):
        annotate_file(config(data, **flags))
