"""ARC-Challenge by lm-eval and AlpacaEval by its own program.

Everyday, programs of the same command line stand in for both (tests/programs); the slow tests set
up the real ones from PyPI.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from chat_server import KEY, serve
from policy_runs import save_tiny
from question_files import write_lines
from trees import ROOT

from text2grad import alpaca_eval, external
from text2grad.alpaca_eval import evaluate_alpaca, read_leaderboard
from text2grad.arc_challenge import evaluate_arc, read_results
from text2grad.config import AlpacaEvalConfig, ArcConfig
from text2grad.schema import UserError
from text2grad.verdicts import wilson_interval

EVALUATION = ROOT / "NL_Gradient_Policy_Optimization/UltraFeedback/Evaluation"
QUESTIONS = [
    {
        "id": str(number),
        "question": f"What of {number} is so?",
        "choices": {"text": ["this", "that", "neither"], "label": ["A", "B", "C"]},
        "answerKey": "A" if number < 6 else "B",
    }
    for number in range(8)
]
INSTRUCTIONS = [
    {"instruction": f"Name {number}.", "output": f"It is {number}.", "generator": "other"}
    for number in range(6)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("policy") / "tiny-model")


@pytest.fixture
def environment(tmp_path):
    """A virtual environment, as it looks from outside, with the programs that stand in."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    programs = ROOT / "tests/programs"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{programs}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(tmp_path / "venv")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


# -- ARC-Challenge


@pytest.fixture
def arc(tmp_path, environment):
    """Runs it on a made-up model name; flags by keyword."""

    def go(**flags):
        given = {
            "model_path": "my/model",
            "data": write_lines(tmp_path / "arc.jsonl", QUESTIONS),
            "num_fewshot": 0,
            "environment": environment,
            "output_file": str(tmp_path / "out/arc.json"),
        } | flags
        evaluate_arc(ArcConfig(**given))
        return json.loads(Path(given["output_file"]).read_text())

    return go


def words_of(report):
    return json.loads(Path(report["results"]).read_text())["words"]


def test_arc_of_a_file(arc, capsys):
    report = arc()
    assert (report["n"], report["num_fewshot"]) == (8, 0)
    assert report["acc"] == {"value": 0.75, "interval": list(wilson_interval(6, 8))}
    assert report["acc_norm"] == {"value": 0.5, "interval": list(wilson_interval(4, 8))}
    assert report["lm_eval_version"] == "0.0.stub"
    assert len(report["sha256"]) == 64
    shown = capsys.readouterr().out
    assert "ARC-Challenge, 8 questions, 0-shot" in shown
    words = words_of(report)
    assert words[words.index("--model_args") + 1] == "pretrained=my/model,dtype=auto"
    assert "--apply_chat_template" in words
    assert words[words.index("--fewshot_as_multiturn") + 1] == "false"


def test_arc_shows_solved_questions(arc, tmp_path):
    shots = str(tmp_path / "shots.json")
    Path(shots).write_text(json.dumps(QUESTIONS[:3]))
    report = arc(num_fewshot=3, fewshot_data=shots, max_samples=4, dtype="bf16", device="cpu")
    assert (report["n"], report["num_fewshot"], report["acc"]["value"]) == (4, 3, 1.0)
    words = words_of(report)
    assert words[words.index("--fewshot_as_multiturn") + 1] == "true"
    assert words[words.index("--device") + 1] == "cpu"
    assert "dtype=bfloat16" in words[words.index("--model_args") + 1]
    with pytest.raises(UserError, match="3 questions, --num_fewshot 4 needs more"):
        arc(num_fewshot=4, fewshot_data=shots)


def test_outputs_whose_names_end_alike_have_folders_of_their_own(arc, tmp_path):
    """The last part of "llama3.1" is no ending, and a file cannot lie where the folder is."""
    found = {
        name: Path(arc(output_file=str(tmp_path / "out" / name))["results"])
        for name in ("llama3.1", "llama3.2", "llama3.json")
    }
    folders = [path.relative_to(tmp_path / "out").parts[0] for path in found.values()]
    assert folders == ["llama3.1.files", "llama3.2.files", "llama3"]
    assert all((tmp_path / "out" / name).is_file() for name in found)


def test_arc_without_a_chat_template(arc):
    assert "--apply_chat_template" not in words_of(arc(apply_chat_template=False))


def test_arc_of_a_folder_asks_nothing_of_the_hub(arc, model):
    report = arc(model_path=model)
    assert json.loads(Path(report["results"]).read_text())["offline"] == "1"


def test_lm_eval_that_fails_is_one_line_and_a_log_without_the_key(arc, tmp_path):
    with pytest.raises(UserError, match="lm-eval ended with status 1: ValueError: no such model"):
        arc(model_path="my/bad")
    log = (tmp_path / "out/arc/lm-eval.log").read_text()
    assert "the key is ***" in log


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, 'record 1: the key "question" is missing or empty'),
        ({"choices": ["a", "b"]}, 'record 1: the key "choices" must hold'),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, "choices need a label each"),
        ({"choices": {"text": ["a"], "label": ["A"]}}, "at least two of them"),
        ({"answerKey": "E"}, "answerKey 'E' is none of the labels A, B, C"),
    ],
)
def test_a_question_of_another_shape_is_named(arc, tmp_path, changes, message):
    data = write_lines(tmp_path / "other.jsonl", [{**QUESTIONS[0], **changes}])
    with pytest.raises(UserError, match=message):
        arc(data=data)


def test_nothing_is_installed_for_a_file_that_is_not_there(arc, monkeypatch):
    monkeypatch.setattr("text2grad.arc_challenge.ready", lambda *where: pytest.fail("it installs"))
    with pytest.raises(UserError, match=r"--data no.jsonl: no such file"):
        arc(data="no.jsonl")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_fewshot": 25}, "--num_fewshot 25: --data has no solved questions to show"),
        ({"data": "", "fewshot_data": "x.json"}, "--fewshot_data x.json: needs --data"),
        ({"model_path": "a,b"}, "takes no path with a comma"),
    ],
)
def test_flags_that_do_not_fit(arc, flags, message):
    with pytest.raises(UserError, match=message):
        arc(**flags)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"results": {}}, "not as lm-eval 0.4 writes it"),
        ({"n-shot": {"t": 5}}, "8 questions with 5 solved ones each, where --num_fewshot 0"),
        ({"n-samples": {"t": {"effective": 0}}}, "0 questions with"),
    ],
)
def test_results_of_another_run_are_refused(changes, message):
    found = {
        "results": {"t": {"acc,none": 0.5, "acc_norm,none": 0.5}},
        "n-shot": {"t": 0},
        "n-samples": {"t": {"effective": 8}},
    }
    assert read_results(found, "t", 0, "f.json")["n"] == 8
    with pytest.raises(UserError, match=message):
        read_results(found | changes, "t", 0, "f.json")


def test_the_shell_of_arc_runs_it(tmp_path, environment):
    data = write_lines(tmp_path / "arc.jsonl", QUESTIONS)
    done = subprocess.run(
        ["bash", str(EVALUATION / "arc_challenge.sh"), "--data", data, "--num_fewshot", "0"],
        env=os.environ
        | {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "POLICY": "my/model"}
        | {"VENV": environment, "OUTPUT": str(tmp_path / "arc.json")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "arc.json").read_text())["acc"]["value"] == 0.75


# -- AlpacaEval


@pytest.fixture
def alpaca(tmp_path, environment, model):
    """Answers the instructions and has them judged by a server; flags by keyword."""

    def go(server, **flags):
        data = tmp_path / "alpaca.json"
        if not data.exists():
            data.write_text(json.dumps(INSTRUCTIONS))
        given = {
            "model_path": model,
            "data": str(data),
            "base_url": server.url,
            "environment": environment,
            "output_file": str(tmp_path / "out/alpaca.json"),
            "length_controlled": False,
            "prompt_max_length": 200,
            "max_new_tokens": 8,
            "dtype": "fp32",
        } | flags
        evaluate_alpaca(AlpacaEvalConfig(**given))
        return json.loads(Path(given["output_file"]).read_text())

    return go


def second_but_last(prompt, body):
    """Our answer is better, but for the last two: one is worse, one cannot be read."""
    said = {"Name 4.": "first", "Name 5.": "neither"}
    return 200, next((word for name, word in said.items() if name in prompt), "second")


def test_alpaca_is_answered_judged_and_read(alpaca, tmp_path, capsys):
    with serve(second_but_last) as server:
        report = alpaca(server, judge_model="my-judge")
        assert {body["model"] for body in server.bodies} == {"my-judge"}
        prompts = [body["messages"][0]["content"] for body in server.bodies]
    own = json.loads((tmp_path / "out/alpaca/outputs.json").read_text())
    assert [row["instruction"] for row in own] == [row["instruction"] for row in INSTRUCTIONS]
    assert {row["generator"] for row in own} == {"tiny-model"}
    assert f"INSTRUCTION Name 0. FIRST It is 0. SECOND {own[0]['output']}" in prompts[0]
    # 4 of 5 pairs: error sqrt(0.8 * 0.2 / 4) = 0.2; 80 % -+ 1.959964 * 20 %
    assert (report["n"], report["unread"], report["instructions"]) == (5, 1, 6)
    assert report["win_rate"]["value"] == pytest.approx(80.0, abs=1e-9)
    assert report["win_rate"]["standard_error"] == pytest.approx(20.0, abs=1e-9)
    assert report["win_rate"]["interval"] == pytest.approx([40.80072, 119.19928], abs=1e-6)
    assert "length_controlled_win_rate" not in report
    assert "1 replies of the judge unread" in capsys.readouterr().out


def test_alpaca_writes_beside_an_output_without_an_ending(alpaca, tmp_path):
    with serve(second_but_last) as server:
        alpaca(server, output_file=str(tmp_path / "out/llama3.1"))
    assert (tmp_path / "out/llama3.1").is_file()
    assert (tmp_path / "out/llama3.1.files/outputs.json").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "llama3.1",
        "llama3.1.files",
    ]


def test_alpaca_by_its_own_judge_with_control_of_length(alpaca):
    with serve(lambda p, b: (200, "second")) as server:
        report = alpaca(server, length_controlled=True)
        assert {body["model"] for body in server.bodies} == {"its-own-judge"}
    assert report["length_controlled_win_rate"] == {
        "value": 41.5,
        "standard_error": 1.25,
        "interval": pytest.approx([41.5 - 1.959964 * 1.25, 41.5 + 1.959964 * 1.25], abs=1e-9),
    }


def test_alpaca_by_a_configuration_of_the_user(alpaca, tmp_path):
    folder = tmp_path / "mine/judge"
    folder.mkdir(parents=True)
    (tmp_path / "mine/p.txt").write_text("MINE {instruction} {output_1} {output_2}")
    config = {"mine": {"prompt_template": "p.txt", "completions_kwargs": {"model_name": "m"}}}
    (folder / "configs.yaml").write_text(json.dumps(config))
    with serve(lambda p, b: (200, "second")) as server:
        alpaca(server, annotators_config=str(folder / "configs.yaml"))
        assert {body["model"] for body in server.bodies} == {"m"}
        assert server.bodies[0]["messages"][0]["content"].startswith("MINE Name 0.")


def test_answers_are_generated_once(alpaca, monkeypatch):
    with serve(lambda p, b: (200, "second")) as server:
        alpaca(server)
        monkeypatch.setattr("text2grad.chat_answers.load_for_inference", None)
        alpaca(server)


def test_the_key_is_in_no_file_of_alpaca(alpaca, tmp_path):
    with serve(lambda p, b: (200, "second")) as server:
        alpaca(server)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 7
    assert not [path for path in written if KEY in path.read_text()]


def test_an_instruction_too_long_is_left_out_and_named(alpaca, tmp_path):
    rows = [*INSTRUCTIONS, {**INSTRUCTIONS[0], "instruction": "Why? " * 200}]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    with serve(lambda p, b: (200, "second")) as server:
        report = alpaca(server)
        reason = "instruction 7: conversation longer than --prompt_max_length 200"
        assert (report["n"], report["without_answer"]) == (6, [reason])
        with pytest.raises(UserError, match="1 of 7 instructions have no answer"):
            alpaca(server, length_controlled=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"annotators_config": "none_such"}, "neither a file nor a configuration of alpaca_eval"),
        ({"max_samples": 2, "length_controlled": True}, "needs all instructions"),
        ({"base_url": ""}, "OPENAI_API_KEY; export it, or give --base_url"),
    ],
)
def test_mistakes_in_the_flags_of_alpaca(alpaca, monkeypatch, flags, message):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serve(second_but_last) as server, pytest.raises(UserError, match=message):
        alpaca(server, **flags)
    assert not server.bodies


def test_a_reference_of_the_same_name_is_refused(alpaca, tmp_path):
    rows = [{**INSTRUCTIONS[0], "generator": "tiny-model"}]
    (tmp_path / "alpaca.json").write_text(json.dumps(rows))
    with serve(second_but_last) as server, pytest.raises(UserError, match="of the same name"):
        alpaca(server)


def test_a_leaderboard_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "leaderboard.csv"
    path.write_text(",win_rate,standard_error,n_total,avg_length\nmine,50.0,,1,20\n")
    found = read_leaderboard(path, "mine", False)
    assert found["win_rate"] == {"value": 50.0, "standard_error": None, "interval": None}
    with pytest.raises(UserError, match=r"not as alpaca_eval 0.6 writes it \(KeyError"):
        read_leaderboard(path, "other", False)
    with pytest.raises(UserError, match="length_controlled_winrate"):
        read_leaderboard(path, "mine", True)
    path.write_text(",win_rate,standard_error,n_total,avg_length\nmine,nan,,0,20\n")
    with pytest.raises(UserError, match="no reply of the judge could be read"):
        read_leaderboard(path, "mine", False)


# -- environments


def test_a_folder_that_is_no_environment_is_left_alone(arc, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("words")
    with pytest.raises(UserError, match="is no virtual environment that has lm-eval"):
        arc(environment=str(tmp_path / "mine"))
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_what_pip_cannot_install_is_one_line(tmp_path, monkeypatch):
    """The environment itself is made in truth: with this one's packages, and without any."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    for shared in (True, False):
        program = external.Program("nothing", "no_such_module", ("no-such-package==1",), shared)
        place = tmp_path / f"venv-{shared}"
        with pytest.raises(UserError, match=r"nothing could not be set up \(ERROR: No matching"):
            external.ready(program, str(place), tmp_path)
        has = "import importlib.util; print(importlib.util.find_spec('tyro') is not None)"
        done = subprocess.run(
            [str(place / "bin/python"), "-c", has], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(shared)


# -- the real programs


@pytest.mark.slow
def test_the_real_lm_eval(tmp_path, model):
    data = write_lines(tmp_path / "arc.jsonl", QUESTIONS)
    shots = write_lines(tmp_path / "shots.jsonl", QUESTIONS[:3])
    output = tmp_path / "arc.json"
    flags = {"model_path": model, "data": data, "fewshot_data": shots, "num_fewshot": 2}
    place = {"environment": str(tmp_path / "lm"), "output_file": str(output), "device": "cpu"}
    evaluate_arc(ArcConfig(**flags, **place))
    report = json.loads(output.read_text())
    assert (report["n"], report["num_fewshot"]) == (8, 2)
    assert report["lm_eval_version"] == "0.4.13"
    assert 0 <= report["acc"]["value"] <= 1


@pytest.mark.slow
def test_the_real_alpaca_eval(alpaca, tmp_path):
    """The prompt that asks for a ranking: the other one needs log-probabilities of the server."""

    def judge(prompt, body):
        return 200, "[{'model': 'model_1', 'rank': 1}, {'model': 'model_2', 'rank': 2}]"

    with serve(judge) as server:
        report = alpaca(
            server,
            environment=str(tmp_path / "alpaca"),
            annotators_config="alpaca_eval_gpt4",
            judge_model="my-judge",
        )
        assert {body["model"] for body in server.bodies} == {"my-judge"}
    assert (report["n"], report["unread"]) == (6, 0)
    assert alpaca_eval.alpaca_table(report)
