"""HumanEval+ and MBPP+ by EvalPlus in the sandbox, on problems made here, without a network."""

import gzip
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from trees import ROOT

from text2grad import evalplus_problems
from text2grad.config import EvalPlusConfig, EvalPlusProblemsConfig
from text2grad.evalplus_metrics import evaluate_evalplus
from text2grad.evalplus_problems import BENCHMARKS, write_problems
from text2grad.files import read_rows
from text2grad.sandbox import Limits, find_sandbox
from text2grad.schema import UserError


def problem(task_id, name, body, base, plus, arguments="x"):
    return {
        "task_id": task_id,
        "prompt": f'def {name}({arguments}):\n    """What {name} does."""\n',
        "entry_point": name,
        "canonical_solution": body,
        "contract": "",
        "base_input": base,
        "plus_input": plus,
        "atol": 0,
    }


DOUBLE = problem("HumanEval/0", "double", "    return 2 * x\n", [[1], [3]], [[-2], [0]])
ABSOLUTE = problem("HumanEval/1", "absolute", "    return abs(x)\n", [[1], [2]], [[-3]])
# EvalPlus 0.3.1 has a rule of its own for this name, and never lets it pass
ZERO = problem("HumanEval/32", "find_zero", "    return -xs[0] / xs[1]\n", [[[2, 1]]], [[[4, 2]]], "xs")
ZERO["atol"] = 1e-4
# the numbers of MBPP's problems say which arguments EvalPlus turns into tuples
SIMILAR = problem(
    "Mbpp/2", "similar_elements", "    return tuple(set(a) & set(b))\n", [[[3, 4], [4]]],
    [[[1, 2], [3]]], "a, b",
)  # fmt: skip

RIGHT = "Here it is:\n```python\ndef double(x):\n    return x + x\n```\nprint(double('a') + 1) fails."
WRONG = "```python\ndef double(x):\n    return 2\n```"
NO_CODE = "I cannot."
EXIT = "```python\nimport os\ndef double(x):\n    os._exit(0)\n    return 0\n```"
LOOP = "def double(x):\n    while True:\n        x = 1 - x\n    return x\n"
EQUAL = """class Anything:
    def __eq__(self, other):
        return True

def double(x):
    return Anything()
"""
VERDICT = """import sys, os
def double(x):
    frame = sys._getframe()
    while "stat" not in frame.f_locals:
        frame = frame.f_back
    found = frame.f_locals
    found["details"][:] = [1] * len(found["details"])
    found["progress"].value = len(found["inputs"])
    found["stat"].value = 0
    os._exit(0)
    return x
"""
REPORT = """import os
def double(x):
    line = b'{"reference": null, "solution": "", "base": "pass", "plus": "pass", "forged": false}'
    for path in ("/proc/self/fd/3", f"/proc/{os.getppid()}/fd/3"):
        try:
            open(path, "wb").write(line)
        except OSError:
            pass
    return os.open("/proc/%d/mem" % os.getppid(), os.O_RDWR)
"""
KILL = """import ctypes, os
def double(x):
    ctypes.CDLL(None).kill(os.getppid(), 9)
    return x
"""
NAN_TEXT = "def double(x):\n    return '\ud800\0'\n"


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answers(task_id, texts):
    return [
        {"id": f"{task_id}-{number}", "query": "?", "response": text}
        for number, text in enumerate(texts)
    ]


def flags(tmp_path, problems, rows, **changes):
    given = {
        "humaneval_path": write_lines(tmp_path / "problems.jsonl", problems),
        "input_file": write_lines(tmp_path / "samples.jsonl", rows),
        "output_file": str(tmp_path / "plus.json"),
    }
    return EvalPlusConfig(**given | changes)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


ATTACKS = {
    "exit": (EXIT, "timeout"),  # EvalPlus' word for a process that said nothing
    "loop": (LOOP, "fail"),
    "equal": (EQUAL, "tampered"),
    "verdict": (VERDICT, "tampered"),
    "report": (REPORT, "fail"),
    "kill": (KILL, "stopped"),
    "no text": (NAN_TEXT, "fail"),
}


def test_every_solution_gets_the_verdict_of_evalplus_and_no_attack_passes(tmp_path, capsys):
    texts = [RIGHT, WRONG, NO_CODE, *(text for text, _ in ATTACKS.values())]
    plus_only = "def absolute(x):\n    return x\n"
    others = [plus_only, *["def absolute(x):\n    return max(x, -x)\n"] * 9]
    rows = answers("HumanEval/0", texts) + answers("HumanEval/1", others)
    evaluate_evalplus(flags(tmp_path, [DOUBLE, ABSOLUTE], rows, k=(1, 2)))
    report = read_json(tmp_path / "plus.json")

    statuses = [(row["base_status"], row["plus_status"]) for row in report["after"]]
    assert statuses[:3] == [("pass", "pass"), ("fail", "fail"), ("fail", "fail")]
    named = dict(zip(ATTACKS, statuses[3:10], strict=True))
    assert named == {name: (status, status) for name, (_, status) in ATTACKS.items()}
    assert statuses[10:] == [("pass", "fail"), *[("pass", "pass")] * 9]

    counts = {"HumanEval/0": (10, 1, 1), "HumanEval/1": (10, 10, 9)}
    assert {name: tuple(found.values()) for name, found in report["tasks"].items()} == counts
    values = {name: found["value"] for name, found in report["figures"].items()}
    assert values == pytest.approx(
        {
            "HumanEval pass@1": 0.55,  # (1/10 + 1) / 2
            "HumanEval pass@2": 0.6,  # (1 - 36/45 + 1) / 2
            "HumanEval+ pass@1": 0.5,  # (1/10 + 9/10) / 2
            "HumanEval+ pass@2": 0.6,  # (1 - 36/45 + 1 - 0/45) / 2
        },
        abs=1e-12,
    )
    assert all(len(found["interval"]) == 2 for found in report["figures"].values())
    assert report["errors"]["fail of plus"] == 1
    assert (report["problems"], report["samples"], report["evalplus"]) == (2, 20, "0.3.1")
    assert report["unsolvable"] == []
    assert "return x + x" in report["after"][0]["solution"]
    assert "fails" not in report["after"][0]["solution"], "EvalPlus cuts the code out"
    assert "HumanEval+ pass@1" in capsys.readouterr().out
    assert own_command(tmp_path / "plus_solutions.jsonl") == ["0.550", "0.500", "0.500", "0.900"]


def own_command(samples):
    """What EvalPlus' command prints for the verdicts that lie beside the solutions."""
    code = (
        "import sys; from text2grad.evalplus_inside import load_evalplus\n"
        "load_evalplus().evaluate('humaneval', samples=sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(samples)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.findall(r"pass@\d+:\t(\S+?)(?:\x1b|\n|$)", done.stdout)
