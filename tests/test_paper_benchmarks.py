"""The public benchmarks as stages of the paper's runs, and as columns of its tables."""

import json
import math
import re
import runpy
import sys
from dataclasses import replace

import pytest
from chat_server import KEY, serve
from policy_runs import save_tiny
from question_files import write_lines, write_mtbench
from test_benchmark_programs import INSTRUCTIONS
from test_evalplus import DOUBLE
from test_paper_plan import planned, started
from test_paper_tables import build, config, rows
from trees import ROOT, check_flags, load_args

from text2grad.config import PaperRunConfig, parse
from text2grad.paper.benchmarks import BENCHMARKS, read_figures
from text2grad.paper.page import write_tables
from text2grad.paper.plan import plan
from text2grad.paper.results import read_folders
from text2grad.schema import UserError

JUDGED = {"judge_model": "judge", "judge_base_url": "http://localhost:9/v1"}
CHAT = ("arc_challenge", "mt_bench", "alpaca_eval")


def flag(words, name):
    return words[words.index(f"--{name}") + 1]


def chat_stages(tmp_path, **given):
    flags = {"table": "ultrafeedback", "methods": ("base", "text2grad"), "benchmarks": CHAT}
    return planned(tmp_path, **flags | JUDGED | given)


# -- what would run


def test_benchmarks_are_stages_after_the_run_with_flags_that_exist(tmp_path):
    stages = chat_stages(tmp_path)
    for name in CHAT:
        stage = stages[f"runs/text2grad-1/{name}"]
        assert stage.needs == ("runs/text2grad-1",)
        (command,) = stage.commands
        ((script, words),) = started(command)
        check_flags(script, words)
        args = parse(load_args(script), words)
        assert args.output_file == str(tmp_path / f"runs/text2grad-1/{name}/{name}.json")
        # the adapter: the merged model is not kept
        assert args.model_path == str(tmp_path / "runs/text2grad-1/train/final")
        if name != "arc_challenge":
            assert (args.judge_model, args.base_url) == ("judge", "http://localhost:9/v1")
    assert flag(stages["runs/base-0/arc_challenge"].commands[0].words, "model_path").endswith(
        "smollm2-135m-instruct"
    )
    assert not any(name.endswith("/judge") for name in stages), "the table has no judge of pairs"


def test_nothing_else_changes_by_benchmarks(tmp_path):
    flags = {"table": "ultrafeedback", "methods": ("text2grad",), "seeds": 1}

    def keys(**given):
        return plan(PaperRunConfig(**flags | given), tmp_path).keys()

    before, after = keys(), keys(benchmarks=("arc_challenge",))
    assert {name: after[name] for name in before} == before, "nothing is trained again"
    assert set(after) - set(before) == {"runs/text2grad-1/arc_challenge"}


def test_a_revision_has_no_benchmarks(tmp_path):
    stages = planned(
        tmp_path, table="kodcode", methods=("sft", "sft_reflection"), benchmarks=("humaneval",)
    )
    assert "runs/sft-1/humaneval" in stages
    assert "runs/sft_reflection-1/humaneval" not in stages
    model = stages["runs/sft-1/humaneval"].commands[0].settings["POLICY"]
    assert model == str(tmp_path / "sft-1/train/final_merge")


def test_evalplus_is_run_by_its_shell(tmp_path):
    own = tmp_path / "HumanEvalPlus.jsonl"
    own.write_text("{}\n")
    stages = planned(
        tmp_path / "out",
        table="kodcode",
        methods=("text2grad",),
        benchmarks=("mbpp", "humaneval"),
        benchmark_files=(f"humaneval={own}",),
        benchmark_samples=7,
    )
    ours = stages["runs/text2grad-1/humaneval"]
    scripts = started(ours.commands[0])
    assert [script.name for script, _ in scripts] == [
        "evalplus_problems.py",
        "infer_val.py",
        "evalplus_metrics.py",
    ]
    for script, words in scripts:
        check_flags(script, words)
        parse(load_args(script), words)
    folder = str(tmp_path / "out/runs/text2grad-1/humaneval")
    assert flag(scripts[2][1], "output_file") == f"{folder}/humaneval_plus.json"
    assert flag(scripts[0][1], "humaneval_path") == str(own)
    assert flag(scripts[1][1], "sample_size") == flag(scripts[2][1], "sample_size") == "7"
    (other, *_) = started(stages["runs/text2grad-1/mbpp"].commands[0])
    assert flag(other[1], "dataset") == "mbpp"
    own.write_text("{} \n")
    again = planned(
        tmp_path / "out",
        table="kodcode",
        methods=("text2grad",),
        benchmarks=("humaneval",),
        benchmark_files=(f"humaneval={own}",),
    )
    assert again["runs/text2grad-1/humaneval"].inputs != ours.inputs, "another file is another run"


def test_own_questions_are_asked_as_they_can_be(tmp_path):
    own = tmp_path / "questions.json"
    own.write_text("[]")
    files = (*(f"{name}={own}" for name in CHAT), "mt_bench_prompts=own")
    stages = chat_stages(tmp_path / "out", benchmark_files=files)
    words = {name: stages[f"runs/base-0/{name}"].commands[0].words for name in CHAT}
    assert all(flag(own_words, "data") == str(own) for own_words in words.values())
    assert flag(words["arc_challenge"], "num_fewshot") == "0"
    assert flag(words["alpaca_eval"], "length_controlled") == "false"
    assert flag(words["mt_bench"], "judge_prompts") == "own"
    some = chat_stages(tmp_path / "out", benchmark_samples=5)
    words = some["runs/base-0/alpaca_eval"].commands[0].words
    assert (flag(words, "max_samples"), flag(words, "length_controlled")) == ("5", "false")
    assert "--num_fewshot" not in some["runs/base-0/arc_challenge"].commands[0].words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"benchmarks": ("gsm8k",)}, "--benchmarks gsm8k: table ultrafeedback has arc_challenge"),
        ({"benchmarks": ("mbpp",)}, "--benchmarks mbpp: table ultrafeedback has arc_challenge"),
        ({"table": "slf5k"}, "--benchmarks arc_challenge: table slf5k has none"),
        ({"judge_model": ""}, "--benchmarks mt_bench: needs a judge; .*--judge_model"),
        ({"benchmark_files": ("mt_bench",)}, "--benchmark_files mt_bench: must be NAME=FILE"),
        (
            {"benchmark_files": ("mbpp=x.json",)},
            "--benchmark_files mbpp=x.json: must be NAME=FILE, with one of: arc_challenge, mt_",
        ),
        ({"benchmark_files": ("mt_bench=x.json",)}, "mt_bench=x.json: no such file"),
        ({"benchmark_files": ("alpaca_eval=own",)}, "alpaca_eval=own: no such file"),
        (
            {"benchmarks": (), "benchmark_files": ("mbpp=x",)},
            "one of: none, as --benchmarks names none",
        ),
        (
            {"benchmarks": ("arc_challenge",)},
            "--judge_model judge: table ultrafeedback has no judge",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(tmp_path, given, said):
    if "table" in given:
        given = given | {"methods": ("base",)}
    with pytest.raises(UserError, match=said):
        chat_stages(tmp_path, **given)


# -- what came out


def add_benchmark(stored, run, name, written):
    folder = f"slf5k-small/runs/{run}/{name}"
    done = {"key": "k", "finished": 1, "seconds": 1.0, "done": True, "error": ""}
    stored[f"{folder}/stage.json"] = done
    stored[f"{folder}/{BENCHMARKS[name].output}"] = written


def as_ultrafeedback(stored):
    """The fixture's runs as those of another table, two of them with benchmarks."""
    for path in [path for path in stored if path.endswith("run.json")]:
        stored[path]["table"] = "ultrafeedback"
        if "reward_model" in stored[path]:
            del stored[path]
    for path in [path for path in stored if "reward_model" in path or "judge" in path]:
        stored.pop(path, None)
    for seed, rating in ((1, 5.0), (2, 6.0)):
        written = {"overall": {"mean": rating, "interval": None, "n": 160}}
        add_benchmark(stored, f"text2grad-{seed}", "mt_bench", written)
    rates = {"n": 805, "win_rate": {"value": 12.5}}
    add_benchmark(stored, "base-0", "alpaca_eval", rates)


def test_benchmarks_are_columns_with_their_own_n(tmp_path):
    runs = build(tmp_path / "runs", as_ultrafeedback)
    write_tables(config(runs, tmp_path / "tables"))
    table = rows((tmp_path / "tables/slf5k-small.md").read_text())
    # 5 and 6: 5.5 -+ 12.7062 * 0.5
    assert table["Text2Grad"]["MT-Bench"] == "5.500 [-0.853, 11.853] (2 of 3 seeds) (n 160)"
    assert table["start model"]["AlpacaEval 2.0, %"] == "12.500 (n 805)"
    assert table["start model"]["AlpacaEval 2.0, length-controlled, %"] == ""
    assert table["SFT"]["ARC-C"] == ""
    assert table["Text2Grad"]["n"] == "32", "of the validation prompts"


def test_a_damaged_result_is_named(tmp_path):
    def change(stored):
        as_ultrafeedback(stored)
        add_benchmark(stored, "base-0", "arc_challenge", {"n": 3, "acc": {"value": 0.5}})

    with pytest.raises(UserError, match=r'arc_challenge.json: holds no number under "acc_norm.val'):
        read_folders(build(tmp_path, change))


def test_what_the_tables_read_is_what_the_scripts_write(tmp_path):
    """The keys, from the reports of the scripts themselves."""
    from text2grad.alpaca_eval import read_leaderboard
    from text2grad.arc_challenge import read_results
    from text2grad.question_sets import SETS
    from text2grad.ratings import RatedDialogue, rating_figures

    found = {
        "results": {"t": {"acc,none": 0.25, "acc_norm,none": 0.5}},
        "n-samples": {"t": {"effective": 4}},
        "n-shot": {"t": 0},
    }
    arc = read_results(found, "t", 0, "x")
    assert read_figures(arc, BENCHMARKS["arc_challenge"], "x") == (
        {"arc_challenge": 0.25, "arc_challenge_norm": 0.5},
        4,
    )
    board = tmp_path / "board.csv"
    board.write_text(
        ",win_rate,standard_error,n_total,avg_length,length_controlled_winrate,lc_standard_error\n"
        "ours,40.0,1.0,805,900,42.0,1.0\n"
    )
    alpaca = read_leaderboard(board, "ours", True)
    assert read_figures(alpaca, BENCHMARKS["alpaca_eval"], "x") == (
        {"alpaca_eval": 40.0, "alpaca_eval_length_controlled": 42.0},
        805,
    )
    rated = [RatedDialogue("1", "math", {1: 4.0, 2: 6.0}), RatedDialogue("2", "math", {1: 8.0})]
    ratings = rating_figures(rated, SETS["mtbench"], 1)
    assert read_figures(ratings, BENCHMARKS["mt_bench"], "x") == ({"mt_bench": 6.0}, 3)


# -- for real, on a model of a few kilobytes


@pytest.fixture
def run_base(tmp_path, monkeypatch):
    """Runs the start model on one benchmark, with a program's environment of its own.

    Gives its figures as tables read them, and the start model's row in the table.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def go(table, benchmark, files, judge=""):
        runs, one = tmp_path / "runs", BENCHMARKS[benchmark]
        if one.environment:
            one = replace(one, environment=str(tmp_path / "environment"))
            monkeypatch.setitem(BENCHMARKS, benchmark, one)
        words = ["--table", table, "--budget", "trial", "--methods", "base"]
        words += ["--model", save_tiny(tmp_path / "model"), "--benchmarks", benchmark]
        words += ["--benchmark_files", *files, "--output_dir", str(runs / "trial")]
        if judge:
            words += ["--judge_model", "stub", "--judge_base_url", judge]
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        runpy.run_path(str(ROOT / "paper/run.py"), run_name="__main__")
        output = runs / "trial/runs/base-0" / benchmark / one.output
        figures = read_figures(json.loads(output.read_text()), one, str(output))
        write_tables(config(runs, tmp_path / "tables"))
        return figures, rows((tmp_path / "tables/trial.md").read_text())["start model"]

    return go


@pytest.mark.slow
def test_a_run_is_measured_by_evalplus(run_base, tmp_path):
    own = write_lines(tmp_path / "HumanEvalPlus.jsonl", [DOUBLE])
    figures, row = run_base("kodcode", "humaneval", [f"humaneval={own}"])
    assert figures == ({"humaneval": 0.0, "humaneval_plus": 0.0}, 1)
    assert (row["HumanEval"], row["HumanEval+"]) == ("0.000 (n 1)", "0.000 (n 1)")


@pytest.mark.slow
def test_a_run_is_rated_by_a_judge(run_base, tmp_path):
    own = write_mtbench(tmp_path)
    files = [f"mt_bench={own['data']}", f"mt_bench_references={own['references']}"]
    with serve(lambda prompt, body: (200, "It is fair. [[7]]")) as server:
        figures, row = run_base(
            "ultrafeedback", "mt_bench", [*files, "mt_bench_prompts=own"], server.url
        )
    assert figures == ({"mt_bench": 7.0}, 6)
    assert row["MT-Bench"] == "7.000 (n 6)"


@pytest.mark.slow
def test_a_run_is_measured_by_lm_eval(run_base, tmp_path):
    """Of a short choice and one of eighty words the short one is likelier for any model."""
    texts = ["yes", "no " * 80]
    own = [
        {
            "id": str(number),
            "question": f"Is {number} so?",
            "choices": {"text": texts, "label": ["A", "B"]},
            "answerKey": "A" if number < 6 else "B",
        }
        for number in range(8)
    ]
    path = write_lines(tmp_path / "arc.jsonl", own)
    (figures, count), row = run_base("ultrafeedback", "arc_challenge", [f"arc_challenge={path}"])
    assert (figures["arc_challenge"], count) == (0.75, 8)
    assert row["ARC-C"] == "0.750 (n 8)"
    assert row["ARC-C, acc_norm"] == f"{figures['arc_challenge_norm']:.3f} (n 8)"


def weighing(prompt, body):
    """Alpaca's default judge: the letter of the better answer, ours three times as likely."""
    first = body["messages"][-1]["content"].split('"output"')[1]
    of_first = 0.25 if re.search(r"It is \d\.", first) else 0.75
    shares = {"m": of_first, "M": 1 - of_first}
    top = [{"token": name, "logprob": math.log(share)} for name, share in shares.items()]
    said = max(shares, key=shares.get)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": said},
        "finish_reason": "length",
        "logprobs": {"content": [{"token": said, "logprob": math.log(0.75), "top_logprobs": top}]},
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    whole = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
    return 200, json.dumps(whole | {"choices": [choice], "usage": usage}).encode()


@pytest.mark.slow
def test_a_run_is_judged_by_alpaca_eval(run_base, tmp_path):
    own = tmp_path / "alpaca.json"
    own.write_text(json.dumps(INSTRUCTIONS))
    with serve(weighing) as server:
        figures, row = run_base("ultrafeedback", "alpaca_eval", [f"alpaca_eval={own}"], server.url)
        assert {body["model"] for body in server.bodies} == {"stub"}
    (found, count) = figures
    assert found["alpaca_eval"] == pytest.approx(75.0, abs=1e-6)
    assert (found["alpaca_eval_length_controlled"], count) == (None, len(INSTRUCTIONS))
    assert row["AlpacaEval 2.0, %"] == "75.000 (n 6)"
    assert row["AlpacaEval 2.0, length-controlled, %"] == ""
