"""The ways to isolate a command that work here, and a look at its processes from outside."""

import contextlib
import os
import threading
import time
from pathlib import Path

from text2grad.process_tree import proportional_bytes
from text2grad.sandbox import Sandbox, working_sandboxes
from text2grad.sandbox_tiers import Bubblewrap, Unshare, tiers

# As root the user namespaces of ordinary users are tested too: find_sandbox would not take them.
USER_WAYS = (Bubblewrap(own_uid=False), Unshare(own_uid=False))
WAYS = [*tiers(), *(way for way in USER_WAYS if way not in tiers())]


def name_of(way):
    return f"{way.name}, {'own user id' if way.own_uid else 'user namespace'}"


def works(way):
    return any(found.how == way for found in working_sandboxes([way])[0])


def processes_with(word):
    """Numbers of the processes, anywhere on this machine, that carry the word as an argument."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]


class Watch(threading.Thread):
    """Counts the processes that carry a word, and their memory, until it is left."""

    def __init__(self, word):
        super().__init__(daemon=True)
        self.word, self.most, self.most_bytes, self.stopped = word, 0, 0, threading.Event()

    def run(self):
        while not self.stopped.wait(0.05):
            pids = processes_with(self.word)
            self.most = max(self.most, len(pids))
            self.most_bytes = max(self.most_bytes, sum(map(proportional_bytes, pids)))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


def none_left(word, seconds=2.0):
    """Whether no process carries the word; one that was killed may take a moment to vanish."""
    late = time.monotonic() + seconds
    while processes_with(word):
        if time.monotonic() > late:
            return False
        time.sleep(0.02)
    return True


__all__ = ["WAYS", "Sandbox", "Watch", "name_of", "none_left", "processes_with", "works"]
