"""Runs commands as they are typed, `cd` included; a program of its own, for test_literal.py.

    python tests/typed.py < commands.json      a list of blocks, each a list of lines

Each block starts in the folder this program was started in. Shells run as they are. Python
scripts run in this one process, which saves importing torch once for each.
"""

import json
import os
import runpy
import shlex
import subprocess
import sys
import time


def run_line(line):
    """One line: commands joined by `&&`."""
    for command in line.split(" && "):
        words = shlex.split(command)
        if words[0] == "cd":
            os.chdir(words[1])
        elif words[0] == "python":
            run_python(words[1:])
        else:
            subprocess.run(["bash", "-c", command], check=True, stdin=subprocess.DEVNULL)


def run_python(words):
    """What `python WORDS` does, in this process; the environment is as before afterwards."""
    before = dict(os.environ)
    try:
        if words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    start = os.getcwd()
    for block in json.load(sys.stdin):
        os.chdir(start)
        for typed in block:
            began = time.monotonic()
            print(f"$ {typed}", flush=True)
            run_line(typed)
            print(f"({time.monotonic() - began:.1f} s)", flush=True)
