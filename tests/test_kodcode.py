"""KodCode's records: hub tables, HumanEval, published shapes, and what an annotator is told."""

import ast
import json
from dataclasses import replace

import pyarrow
import pytest
from policy_runs import config, trainer
from pyarrow import parquet

from text2grad.annotate import annotate_file
from text2grad.annotators import make_annotator
from text2grad.annotators.openai_server import OpenAIAnnotator
from text2grad.annotators.verdict import tests_verdict as verdict  # pytest would collect it
from text2grad.config import AnnotateConfig, PolicyConfig, PrepareConfig
from text2grad.human_eval import human_eval_rows
from text2grad.prepare import prepare_data
from text2grad.prompts import read_prompts
from text2grad.records import read_records
from text2grad.schema import Record, UserError
from text2grad.scoring import build_critic, judge, sampled_record
from text2grad.tasks import get_task

TASK = get_task("kodcode")
CODE = "def f(x):\n    return x\n"
TEST = "from solution import f\n\ndef test_f():\n    assert f(1) == 1\n"


def hub_row(number, **changes):
    """A row of KodCode-V1-SFT-R1 with the keys of its card."""
    return {
        "split": "train",
        "subset": "Leetcode",
        "conversation_id": f"Leetcode_{number}",
        "question": f"Problem {number}: return x.",
        "solution": CODE,
        "test_code": TEST,
        "test_entry_point": [{"function_name": "f"}],
        "gpt_difficulty": "easy",
        "r1_correctness": "False",
        "r1_solution": f"def f(x):\n    return {number}\n",
        "conversations": [{"from": "human", "value": "Problem"}],
    } | changes


def prepare(tmp_path, **flags):
    flags = {"task": "kodcode", "output_dir": str(tmp_path / "out")} | flags
    prepare_data(PrepareConfig(**flags))
    return {f.stem: json.loads(f.read_text("utf-8")) for f in (tmp_path / "out").glob("*.json")}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A copy of the hub's files, and what was asked of it."""
    import huggingface_hub

    asked = []
    (tmp_path / "hub/data").mkdir(parents=True)
    for split, numbers in (("train", range(12)), ("incorrect", range(12, 20))):
        rows = [hub_row(number) for number in numbers]
        name = f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "hub/data" / name)

    def download(source, **flags):
        asked.append((source, flags["allow_patterns"][1]))
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return asked


def test_hub_tables_are_joined_and_split_by_prompt(tmp_path, hub, capsys):
    out = prepare(tmp_path)
    source = "KodCode/KodCode-V1-SFT-R1"
    assert hub == [(source, "*train*.parquet"), (source, "*incorrect*.parquet")]
    assert (len(out["train"]), len(out["validation"])) == (18, 2)
    row = out["train"][0]
    assert row["id"] == row["conversation_id"]
    assert (row["solution"], row["reference_solution"], row["test"]) == (CODE, CODE, TEST)
    assert row["candidate"] == "solution"
    assert "test_code" not in row
    assert "responses from: solution (20)" in capsys.readouterr().out


def test_prompts_for_ppo_come_from_their_own_data_set(tmp_path, hub):
    prepare(tmp_path, source="KodCode/KodCode-Light-RL-10K")
    assert hub == [("KodCode/KodCode-Light-RL-10K", "*train*.parquet")]


@pytest.mark.parametrize(
    ("candidates", "endings"), [("r1_solution", {"-r1"}), ("all", {"", "-r1"})]
)
def test_the_solution_field_is_chosen_and_named(tmp_path, hub, candidates, endings):
    rows = prepare(tmp_path, candidates=candidates)["validation"]
    assert {row["id"].removeprefix(row["conversation_id"]) for row in rows} == endings
    for row in rows:
        assert row["candidate"] == ("r1_solution" if row["id"].endswith("-r1") else "solution")
        assert (row["solution"] == CODE) == (row["candidate"] == "solution")
        assert row["reference_solution"] == CODE
    with pytest.raises(UserError, match=r"--candidates r2: unknown, known are feedback, all, sol"):
        prepare(tmp_path, candidates="r2")


def test_a_damaged_table_is_one_line(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(
        UserError, match=r"bad\.parquet: cannot be read as a parquet table"
    ) as error:
        prepare(tmp_path, data_path=str(tmp_path / "bad.parquet"))
    assert "\n" not in str(error.value)


# -- HumanEval


def test_human_eval_is_split_by_number_alone(tmp_path):
    for seed in (1, 2):
        out = prepare(tmp_path, source="human-eval", seed=seed, splits=("train", "validation"))
        numbers = {split: {int(r["id"].split("/")[1]) for r in rows} for split, rows in out.items()}
        assert numbers["validation"] == set(range(3, 164, 4))
        assert numbers["train"] == set(range(164)) - numbers["validation"]
    assert len(human_eval_rows("test")) == 164
    with pytest.raises(UserError, match=r"--source human-eval: has no split dev, only train"):
        human_eval_rows("dev")


def test_human_eval_tests_are_files_that_import_the_solution():
    for row in human_eval_rows("test"):
        tree = ast.parse(row["test"])
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert f"test_{row['entry_point']}" in names
        assert f"from solution import {row['entry_point']}" in row["test"]
        ast.parse(row["solution"])
    helped = {row["id"] for row in human_eval_rows("test") if not row["test"].startswith("from s")}
    assert {"HumanEval/32", "HumanEval/38", "HumanEval/50"} <= helped


# -- published shapes


@pytest.mark.parametrize(
    "annotation",
    [
        {"code_feedback": "Wrong.", "wrong_code": ["return x"], "improvement_code": []},
        {
            "analysis": {
                "Code Feedback": "Wrong.",
                "wrong_code": ["return x"],
                "improvement_code": [],
            }
        },
        {"analysis": {"Code Feedback": "Wrong.", "wrong_code": "return x", "improvement_code": ""}},
    ],
)
def test_annotations_of_the_published_code_are_read(tmp_path, annotation):
    row = {"question": "Q", "solution": CODE, "test": TEST} | annotation
    (tmp_path / "a.json").write_text(json.dumps([row]))
    [record] = read_records(tmp_path / "a.json", TASK, ("prompt", "response", "feedback"))
    assert record.feedback.critique == "Wrong."
    assert [(s.text, s.label) for s in record.feedback.spans] == [("return x", "wrong_code")]


# -- what an annotator is told


def record(**fields):
    origin = "f.json, record 1 (id p1)"
    return Record("p1", "Return x.", CODE, test=TEST, fields=fields, origin=origin)


def test_the_verdict_comes_with_tests_and_output_only_where_it_failed():
    passed = verdict(record(log={"passed": True, "stdout": "1 passed"}))
    assert "passed all" in passed
    assert "1 passed" not in passed
    log = {"passed": False, "stdout": "E assert 2", "stderr": "No module", "error_type": "x_y"}
    failed = verdict(record(log=log))
    assert all(text in failed for text in (TEST.strip(), "E assert 2", "No module", "(x y)"))
    long = verdict(record(log=log | {"stdout": f"first{'.' * 99_999}last"}))
    assert len(long) < 4000
    assert "last\nNo module" in long
    assert "first" in long
    for missing in ({}, {"log": "FAILED"}, {"log": {"passed": "yes"}}):
        with pytest.raises(
            UserError, match=r"f\.json, record 1 .*no result of its tests.*test_case"
        ):
            verdict(record(**missing))


@pytest.mark.parametrize("cot", [True, False])
def test_the_prompt_of_a_server_holds_problem_code_verdict_and_error_output(cot):
    args = AnnotateConfig(task="kodcode", cot=cot, base_url="http://127.0.0.1:9/v1")
    log = {"passed": False, "stdout": "", "stderr": "ZeroDivisionError"}
    prompt = OpenAIAnnotator(TASK, args).prompt(record(log=log))
    for text in ("Return x.", CODE, TEST.strip(), "ZeroDivisionError", '"wrong_code"'):
        assert text in prompt
    assert ('"reasoning"' in prompt) == cot


def test_tests_and_log_go_through_annotation_untouched(tmp_path):
    fields = {"log": {"passed": True, "stdout": "ok\n"}, "test": TEST, "wrong_code": ["return x"]}
    row = {"id": "p1", "question": "Q", "solution": CODE, "code_feedback": "So."} | fields
    (tmp_path / "in.json").write_text(json.dumps([row]))
    annotate_file(
        AnnotateConfig(
            task="kodcode",
            annotator="human",
            data_path=str(tmp_path / "in.json"),
            output_path=str(tmp_path / "out.json"),
        )
    )
    [out] = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert {key: out[key] for key in fields} == fields
    assert out["spans"][0] | {"match": "exact"} == out["spans"][0]
    assert CODE[slice(out["spans"][0]["start"], out["spans"][0]["end"])] == "return x"


def test_the_spec_is_what_the_paper_scores():
    assert TASK.label_scores == {"wrong_code": -1.0, "improvement_code": 0.0}
    assert (TASK.unmarked_score, TASK.scope) == (1.0, "code")
    assert replace(TASK, unmarked_score=0.0).label_scores == TASK.label_scores


# -- the annotator that runs tests, by its name

WRONG = "def f(x):\n    y = x + 1\n    return y\n"


@pytest.fixture
def untested(tmp_path):
    """A file of a wrong solution and a right one."""
    rows = [
        {"id": "wrong", "question": "Return x.", "solution": WRONG, "test": TEST},
        {"id": "right", "question": "Return x!", "solution": CODE, "test": TEST},
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    return str(tmp_path / "in.json")


def test_stage_1_annotates_by_execution(tmp_path, untested):
    output = tmp_path / "out.json"
    flags = {"data_path": untested, "output_path": str(output), "localisation_seconds": 2.0}
    annotate_file(AnnotateConfig(task="kodcode", annotator="execution", **flags))
    wrong, right = json.loads(output.read_text("utf-8"))
    assert wrong["wrong_code"]
    assert all(quote in WRONG for quote in wrong["wrong_code"])
    assert right["wrong_code"] == []
    assert wrong["code_feedback"] != right["code_feedback"]
    assert wrong["annotation"]["annotator"] == "execution"
    with pytest.raises(UserError, match=r"execution: the records of task slf5k have no tests"):
        make_annotator(AnnotateConfig(annotator="execution"), get_task("slf5k"))


def test_ppo_is_judged_by_execution(untested):
    args = PolicyConfig(task="kodcode", feedback_source="execution", localisation_seconds=2.0)
    [wrong, _] = read_prompts(untested, args, "--data_file_path")
    response = f"So:\n```python\n{WRONG}```\nDone: return y"
    pieces = [char.encode() for char in response]
    sampled = sampled_record(wrong, pieces)
    [said] = build_critic(args, TASK).annotate([sampled])
    judged = judge(sampled, pieces, said, TASK)
    scores = list(zip(response, judged.scores, strict=True))
    code = range(response.index("def f"), response.index("```\nDone"))
    assert {score for place, (_, score) in enumerate(scores) if place not in code} == {0.0}
    marked = {place for span in judged.spans for place in range(span.start, span.end)}
    for place in code:
        char, score = scores[place]
        assert score == (0.0 if char.isspace() else -1.0 if place in marked else 1.0)
    assert marked
    assert marked <= set(code)


def test_prompts_without_tests_are_named(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps([{"question": "Return x."}]))
    args = PolicyConfig(task="kodcode", feedback_source="execution")
    with pytest.raises(
        UserError, match=r"p\.json, record 1 .*has no tests.* one of the keys test,"
    ):
        read_prompts(str(tmp_path / "p.json"), args, "--data_file_path")


def test_the_paper_s_unmarked_score_is_a_flag(policy_files, tmp_path):
    model, _ = policy_files
    (tmp_path / "p.json").write_text(json.dumps([{"question": f"Q{n}"} for n in range(4)]))
    for flag, score in ((None, 1.0), (0.0, 0.0)):
        args = config(
            model, str(tmp_path / "p.json"), tmp_path / "run", task="kodcode", unmarked_score=flag
        )
        assert trainer(args).task.unmarked_score == score
