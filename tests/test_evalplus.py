"""HumanEval+ and MBPP+ by EvalPlus in the sandbox, on problems made here, without a network."""

import gzip
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sandboxes import WAYS, name_of, works
from trees import ROOT

from text2grad import evalplus_problems
from text2grad.config import EvalPlusConfig, EvalPlusProblemsConfig, PolicyInferConfig
from text2grad.evalplus_metrics import evaluate_evalplus, judge_sample
from text2grad.evalplus_problems import BENCHMARKS, write_problems
from text2grad.evalplus_samples import Sample
from text2grad.files import read_rows
from text2grad.generate import infer_policy
from text2grad.sandbox import Limits, Sandbox, find_sandbox
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
ZERO = problem(
    "HumanEval/32", "find_zero", "    return -xs[0] / xs[1]\n", [[[2, 1]]], [[[4, 2]]], "xs"
)
ABSOLUTE_CODE = "def absolute(x):\n    return max(x, -x)\n"
ZERO["atol"] = 1e-4
# the numbers of MBPP's problems say which arguments EvalPlus turns into tuples
SIMILAR = problem(
    "Mbpp/2", "similar_elements", "    return tuple(set(a) & set(b))\n", [[[3, 4], [4]]],
    [[[1, 2], [3]]], "a, b",
)  # fmt: skip

RIGHT = (
    "Here it is:\n```python\ndef double(x):\n    return x + x\n```\nprint(double('a') + 1) fails."
)
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
MEMORY = """def double(x):
    return [bytearray(1 << 30) for _ in range(10)]
"""
# right, unless it can write EvalPlus' report or open its memory
OPENS = """import os
def double(x):
    parent = f"/proc/{os.getppid()}"
    found = 2 * x
    for path, flags in ((parent + "/fd/3", os.O_WRONLY), (parent + "/mem", os.O_RDONLY)):
        try:
            os.open(path, flags)
            found = path
        except PermissionError:
            pass
    return found
"""
KILL = """import ctypes, os
def double(x):
    ctypes.CDLL(None).kill(os.getppid(), 9)
    return x
"""
NO_TEXT = "def double(x):\n    return '\ud800\0'\n"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Default outputs are relative to the working folder."""
    monkeypatch.chdir(tmp_path)


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
        "min_time_limit": 2.0,  # the machine may be busy
    }
    return EvalPlusConfig(**given | changes)


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


# Each with the verdicts that it may end in. What takes all it can get meets the limit of memory or
# its own limit of time, "fail", or before that, on a busy machine, EvalPlus' patience, "timeout".
ATTACKS = {
    "exit": (EXIT, {"timeout"}),  # EvalPlus' word for a process that said nothing
    "loop": (LOOP, {"fail", "timeout"}),
    "equal": (EQUAL, {"tampered"}),
    "verdict": (VERDICT, {"tampered"}),
    "memory": (MEMORY, {"fail", "timeout"}),
    "kill": (KILL, {"stopped"}),
    "no text": (NO_TEXT, {"fail"}),
}


def test_every_solution_gets_the_verdict_of_evalplus_and_no_attack_passes(tmp_path, capsys):
    rows = answers("HumanEval/0", [RIGHT, WRONG, NO_CODE, *(text for text, _ in ATTACKS.values())])
    rows += answers("HumanEval/1", ["def absolute(x):\n    return x\n", ABSOLUTE_CODE])
    evaluate_evalplus(flags(tmp_path, [DOUBLE, ABSOLUTE], rows, k=(1, 2)))
    report = read_json(tmp_path / "plus.json")

    statuses = [(row["base_status"], row["plus_status"]) for row in report["after"]]
    assert statuses[:3] == [("pass", "pass"), ("fail", "fail"), ("fail", "fail")]
    named = dict(zip(ATTACKS, statuses[3:10], strict=True))
    for name, (_, allowed) in ATTACKS.items():
        assert set(named[name]) <= allowed, name
    assert statuses[10:] == [("pass", "fail"), ("pass", "pass")]

    counts = {"HumanEval/0": (10, 1, 1), "HumanEval/1": (2, 2, 1)}
    assert {name: tuple(found.values()) for name, found in report["tasks"].items()} == counts
    values = {name: found["value"] for name, found in report["figures"].items()}
    assert values == pytest.approx(
        {
            "HumanEval pass@1": 0.55,  # (1/10 + 1) / 2
            "HumanEval pass@2": 0.6,  # (1 - 36/45 + 1) / 2
            "HumanEval+ pass@1": 0.3,  # (1/10 + 1/2) / 2
            "HumanEval+ pass@2": 0.6,  # (1 - 36/45 + 1) / 2
        },
        abs=1e-12,
    )
    assert all(len(found["interval"]) == 2 for found in report["figures"].values())
    faults = ["fail", "fail", "fail of plus", *(base for base, _ in named.values())]
    assert report["errors"] == Counter(faults)
    assert (report["problems"], report["samples"], report["unsolvable"]) == (2, 12, [])
    assert report["evalplus"] == importlib.metadata.version("evalplus")
    assert "return x + x" in report["after"][0]["solution"]
    assert "fails" not in report["after"][0]["solution"], "EvalPlus cuts the code out"
    assert "HumanEval+ pass@1" in capsys.readouterr().out
    assert printed_by_evalplus(tmp_path / "plus_solutions.jsonl") == ["0.550", "0.300"]


@pytest.mark.parametrize("way", WAYS, ids=name_of)
def test_a_solution_can_neither_report_nor_read_the_evaluator(way):
    if not works(way):
        pytest.skip("does not work here")
    sample = Sample("a", "HumanEval/0", OPENS, is_response=True)
    args = EvalPlusConfig(min_time_limit=2.0, memory_mb=512)
    verdict = judge_sample(Sandbox(way), sample, DOUBLE, args, with_reference=True)
    assert (verdict.base, verdict.plus) == ("pass", "pass")
    assert verdict.reference == {"base": "pass", "plus": "pass"}


def printed_by_evalplus(samples):
    """pass@1 as EvalPlus' command prints it for the verdicts that lie beside the solutions."""
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
    return re.findall(r"pass@1:\t([\d.]+)", done.stdout)


OWN_COMMAND = """import json, os, sys
from evalplus_inside import load_evalplus
for name in ("HUMANEVAL", "MBPP"):
    os.environ[name + "_OVERRIDE_PATH"] = name.lower() + ".jsonl"
for name in ("humaneval", "mbpp"):
    load_evalplus().evaluate(name, samples=name + "_samples.jsonl", parallel=1)
    found = json.load(open(name + "_samples_eval_results.json"))
    for rows in found["eval"].values():
        for row in rows:
            os.write(3, json.dumps([row["base_status"], row["plus_status"]]).encode() + b"\\n")
os._exit(0)  # its thread that looks for stuck processes sleeps 20 seconds
"""


def test_verdicts_are_those_of_evalplus_own_command(tmp_path):
    """Also where EvalPlus has a rule of its own; HumanEval/32 it never lets pass."""
    solutions = {
        "humaneval": [
            ("HumanEval/0", "def double(x):\n    return max(x, 2 * x)\n"),
            ("HumanEval/32", "def find_zero(xs):\n    return -xs[0] / xs[1]\n"),
        ],
        "mbpp": [
            ("Mbpp/2", "def similar_elements(a, b):\n    return {x for x in a + () if x in b}\n"),
            ("Mbpp/2", "def similar_elements(a, b):\n    return a\n"),
        ],
    }
    problems = {"humaneval": [DOUBLE, ZERO], "mbpp": [SIMILAR]}
    found, files = {}, {"run.py": OWN_COMMAND}
    files["evalplus_inside.py"] = (ROOT / "text2grad/evalplus_inside.py").read_text("utf-8")
    for dataset, rows in solutions.items():
        samples = [{"task_id": name, "solution": code} for name, code in rows]
        path = {f"{dataset}_path": write_lines(tmp_path / dataset, problems[dataset])}
        evaluate_evalplus(flags(tmp_path, [], samples, dataset=dataset, **path))
        found[dataset] = read_json(tmp_path / "plus.json")
        files[f"{dataset}.jsonl"] = (tmp_path / dataset).read_text("utf-8")
        files[f"{dataset}_samples.jsonl"] = (tmp_path / "samples.jsonl").read_text("utf-8")
    limits = Limits(60, 60, memory_mb=4096)
    finished = find_sandbox().run(files, ["python", "run.py"], limits)
    theirs = [tuple(json.loads(line)) for line in finished.report.splitlines()]
    ours = [
        (row["base_status"], row["plus_status"])
        for dataset in solutions
        for row in found[dataset]["after"]
    ]
    assert theirs == ours, finished.stderr
    assert ours == [("pass", "fail"), ("fail", "fail"), ("pass", "pass"), ("fail", "fail")]
    assert found["humaneval"]["unsolvable"] == ["HumanEval/32"]
    assert [name for name in found["mbpp"]["figures"]] == ["MBPP pass@1", "MBPP+ pass@1"]


def test_from_problems_to_figures_with_a_policy(tmp_path, policy_files, capsys):
    """The three steps of the shell, on a policy that knows nothing, beside a known solution."""
    path = tmp_path / "problems.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(DOUBLE).encode() + b"\n"))
    prompts, samples = str(tmp_path / "prompts.json"), tmp_path / "samples.json"
    write_problems(EvalPlusProblemsConfig(humaneval_path=str(path), output_path=prompts))
    [row] = read_rows(prompts)
    assert row["id"] == "HumanEval/0"
    assert 'all that it needs to run:\n```\ndef double(x):\n    """What' in row["question"]
    assert row["reference_solution"].endswith("    return 2 * x\n")
    infer_policy(
        PolicyInferConfig(
            task="kodcode",
            model_path=policy_files[0],
            input_path=prompts,
            output_dir=str(tmp_path),
            output_name=samples.name,
            samples_per_prompt=2,
            max_new_tokens=4,
        )
    )
    known = write_lines(
        tmp_path / "k.jsonl", [{"task_id": "HumanEval/0", "completion": "    return x * 2"}]
    )
    given = {"humaneval_path": str(path), "output_file": str(tmp_path / "plus.json")}
    evaluate_evalplus(EvalPlusConfig(input_file=str(samples), compare_file=known, **given))
    report = read_json(tmp_path / "plus.json")
    assert [row["id"] for row in report["after"]] == ["HumanEval/0-0", "HumanEval/0-1"]
    assert report["figures"]["HumanEval+ pass@1"]["value"] == 0
    assert report["figures"]["HumanEval+ pass@1"]["change"] == -1
    assert "-1.000" in capsys.readouterr().out


def changed(row, **values):
    """The row with other values; without the keys whose value is None."""
    return {key: value for key, value in (row | values).items() if value is not None}


@pytest.mark.parametrize(
    ("dataset", "rows", "message"),
    [
        (
            "humaneval",
            [changed(DOUBLE, atol=None, contract=None)],
            r"the keys contract, atol missing",
        ),
        (
            "humaneval",
            [{"id": 1}],
            r"line 1: the keys task_id, prompt, .* missing; .*EvalPlus' format",
        ),
        ("humaneval", [DOUBLE, DOUBLE], r'line 2: a second problem "HumanEval/0"'),
        ("humaneval", [[]], "no JSON object"),
        ("humaneval", [changed(DOUBLE, prompt=3)], '"prompt" is no string'),
        ("humaneval", [changed(DOUBLE, plus_input=[1])], '"plus_input" is no list of lists'),
        ("humaneval", [changed(DOUBLE, base_input=[])], '"base_input" is empty'),
        ("humaneval", [changed(DOUBLE, atol="0")], '"atol" is no number'),
        ("humaneval", [], "the file is empty"),
        ("mbpp", [changed(SIMILAR, task_id="Mbpp/x")], '"Mbpp/x" does not end in a number'),
    ],
)
def test_data_that_evalplus_could_not_use(tmp_path, dataset, rows, message):
    path = {f"{dataset}_path": write_lines(tmp_path / "data.jsonl", rows)}
    with pytest.raises(UserError, match=rf"^--{dataset}_path .*data\.jsonl.*{message}"):
        write_problems(EvalPlusProblemsConfig(dataset=dataset, **path))


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([{"id": "HumanEval/0"}], {}, r'record 1: expected "id" and "response" .*, found id'),
        ([{"solution": "x"}], {}, r"record 1: expected .* found solution"),
        ([{"task_id": "HumanEval/0", "solution": None}], {}, '"solution" must be a string'),
        (
            [{"id": "HumanEval/7", "response": ""}],
            {},
            r'no problem "HumanEval/7".* HumanEval/0; see --d',
        ),
        ([{"id": "Mbpp/2-1", "response": ""}], {}, r'no problem "Mbpp/2" in this data set'),
        (
            answers("HumanEval/0", [""]),
            {},
            r"1 of 2 problems have a solution \(none: HumanEval/1\)",
        ),
        (
            answers("HumanEval/0", [""]),
            {"sample_size": 1, "k": (1, 3)},
            r"--k 1 3: .* has 1 of Human",
        ),
        ([], {}, "the file is empty"),
    ],
)
def test_solutions_that_are_not_of_this_data(tmp_path, rows, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate_evalplus(flags(tmp_path, [DOUBLE, ABSOLUTE], rows, **changes))
    assert not (tmp_path / "plus.json").exists()


def test_other_mistakes_are_one_line(tmp_path, monkeypatch):
    one = answers("HumanEval/0", [RIGHT])
    both = write_lines(tmp_path / "both.jsonl", one + answers("HumanEval/1", [""]))
    given = flags(tmp_path, [DOUBLE, ABSOLUTE], one, sample_size=1, compare_file=both)
    with pytest.raises(UserError, match=r"--compare_file .*both.*: 1 problems are in one .*Eval/1"):
        evaluate_evalplus(given)
    with pytest.raises(UserError, match=r"^--mbpp_path no\.jsonl: no such file \(looked in /"):
        write_problems(EvalPlusProblemsConfig(dataset="mbpp", mbpp_path="no.jsonl"))
    for name, content in (("a.jsonl", b"{}\n{"), ("b.jsonl.gz", b"{}"), ("c.jsonl", b"\xff\n")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"^--humaneval_path .*{name}"):
            write_problems(EvalPlusProblemsConfig(humaneval_path=str(path)))
    broken = changed(DOUBLE, canonical_solution="    return 1 / 0\n")
    with pytest.raises(
        UserError, match=r"problem HumanEval/0 of --humaneval_path: ZeroDivisionErr"
    ):
        evaluate_evalplus(flags(tmp_path, [broken], one))
    with pytest.raises(UserError, match="--k 0: must be 1 or more"):
        EvalPlusConfig(k=(0,))
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(UserError, match=r"^EvalPlus is not installed here: run bash env\.sh$"):
        evaluate_evalplus(flags(tmp_path, [DOUBLE], one))


class Release(BaseHTTPRequestHandler):
    """A server of releases that has HumanEval+ only."""

    def do_GET(self):
        found = (
            self.path == "/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz"
        )
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(gzip.compress(json.dumps(DOUBLE).encode()) if found else b"")

    def log_message(self, *_):
        pass


def test_data_is_fetched_once_into_evalplus_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for benchmark in BENCHMARKS.values():
        monkeypatch.delenv(benchmark.variable, raising=False)
    server = HTTPServer(("127.0.0.1", 0), Release)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(evalplus_problems, "RELEASES", place)
    output = str(tmp_path / "prompts.json")
    write_problems(EvalPlusProblemsConfig(output_path=output))
    assert read_rows(tmp_path / "evalplus/HumanEvalPlus-v0.1.10.jsonl") == [DOUBLE]
    with pytest.raises(
        UserError, match=r"--mbpp_path: cannot download .*MbppPlus\.jsonl\.gz \(Not Found"
    ):
        write_problems(EvalPlusProblemsConfig(dataset="mbpp", output_path=output))
    server.shutdown()
    server.server_close()
    write_problems(EvalPlusProblemsConfig(output_path=output))
    with pytest.raises(UserError, match=r"cannot download .*refused"):
        write_problems(EvalPlusProblemsConfig(dataset="mbpp", output_path=output))
    assert not list(tmp_path.rglob("*Mbpp*"))
    monkeypatch.setenv("MBPP_OVERRIDE_PATH", write_lines(tmp_path / "own.jsonl", [SIMILAR]))
    write_problems(EvalPlusProblemsConfig(dataset="mbpp", output_path=output))
    assert [row["id"] for row in read_rows(output)] == ["Mbpp/2"]
