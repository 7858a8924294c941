"""The Markdown tables of the benchmarks, on numbers made for them."""

import json
import sys

import pytest
from test_report import reward_report
from trees import ROOT

from text2grad.schema import UserError
from text2grad.tables import markdown_table

sys.path.insert(0, str(ROOT / "benchmarks"))
import learning_table
import reward_model_table


def cells(text):
    """The rows of a Markdown table below its rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def run(module, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, words)])
    module.main()


def test_markdown_of_numbers_bars_and_nothing():
    text = markdown_table(["a", "b"], [[0.12345, None], ["x|y", 3]])
    assert text == "| a | b |\n| --- | --- |\n| 0.123 | - |\n| x\\|y | 3 |\n"


# -- does the policy learn


def evaluation(change, **more):
    difference = {"support_score": {"value": change}, **more}
    return {"n": 32, "before": {"support_score": -0.6, "chrf": 20.0}, "difference": difference}


def test_interval_over_seeds():
    # mean 0.2, deviation 0.1, t(2) 4.303: 4.303 * 0.1 / sqrt(3) = 0.24843
    assert learning_table.interval([0.1, 0.2, 0.3]) == pytest.approx((-0.04843, 0.44843), abs=1e-5)
    # t(1) 12.706, deviation 0.1 sqrt(2): 12.706 * 0.1
    assert learning_table.interval([0.0, 0.2]) == pytest.approx((-1.1706, 1.3706))
    assert learning_table.interval([0.1]) is None
    assert learning_table.interval([0.1] * 11) is None


def test_learning_table(tmp_path, monkeypatch, capsys):
    for seed, change in enumerate((0.1, 0.2, 0.3), 1):
        write(tmp_path / f"reference-{seed}/evaluation.json", evaluation(change))
    only = evaluation(0.5, chrf={"value": -1.0})
    write(tmp_path / "reward_model-1/evaluation.json", only)
    output = tmp_path / "table.md"
    run(learning_table, monkeypatch, tmp_path, "--output_path", output)
    text = output.read_text()
    assert capsys.readouterr().out == text + "\n"
    caption = text.partition("|")[0]
    assert "Student's 95 % interval of the mean of the seeds' changes" in caption
    support = "support by post and human summary"
    assert cells(text) == [
        ["reference", support, "3", "32", "-0.600", "-0.400", "+0.200", "[-0.048, +0.448]"],
        ["reward_model", support, "1", "32", "-0.600", "-0.100", "+0.500", ""],
        ["reward_model", "chrF", "1", "32", "20.000", "19.000", "-1.000", ""],
    ]


def test_faults_of_learning_runs_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"^error: FOLDER .*: no SOURCE-SEED/evaluation.json in"):
        run(learning_table, monkeypatch, tmp_path, "--output_path", tmp_path / "t.md")
    write(tmp_path / "reference-1/evaluation.json", {"n": 3, "after": {}})
    with pytest.raises(
        UserError, match=r'evaluation.json: the key "before" is missing; metrics.py'
    ):
        learning_table.read_runs(tmp_path)


# -- the reward model


def tokens(macro_f1, sign, f1):
    scores = {"precision": 0.5, "recall": 0.5, "f1": f1}
    labels = {"good": scores, "poor": scores, "neutral": scores}
    return {"tokens": {**labels, "macro_f1": macro_f1, "sign_accuracy": sign}}


def part(responses, lead):
    return {
        "responses": responses,
        "systems": {"reward_model": tokens(0.4, 0.5, 0.3), "all_good": tokens(0.2, None, 0.1)},
        "lead": {"all_good": lead},
    }


@pytest.fixture
def reward_run(tmp_path):
    folder = tmp_path / "longer"
    lead = {"macro_f1": 0.01, "interval": [-0.02, 0.04]}
    lead |= {"sign_accuracy": -0.1, "sign_accuracy_interval": [-0.15, -0.05]}
    free = {"replies": 32, "parse_rate": 0.96875, "quotes": 74, "unmatched_rate": 0.027}
    metrics = reward_report() | {
        "lead": {"bag_of_words": lead},
        "decoding": {"unconstrained": free},
    }
    clear = {"macro_f1": 0.2, "interval": [0.1, 0.3], "sign_accuracy": None}
    metrics["parts"] = {"apart": part(2, clear), "others": part(4, clear | {"interval": None})}
    write(folder / "metrics.json", metrics)
    flags = {"target_format": "spans", "num_train_epochs": 3.0}
    write(folder / "config.json", {"flags": flags, "examples": 924, "resumed_from": ""})
    write(
        folder / "training_log.json", [{"loss": 1.0}, {"train_runtime": 2280.0}, {"eval_loss": 1}]
    )
    return folder


def test_reward_model_table(reward_run, tmp_path, monkeypatch):
    output = tmp_path / "table.md"
    run(reward_model_table, monkeypatch, reward_run, "--output_path", output)
    text = output.read_text()
    assert "95 % interval of a paired bootstrap over posts" in text.partition("|")[0]
    name = "**longer** (spans, 3 epochs of 924 examples, 38 min)"
    f1, rates = ["0.250"] * 3, ["96.9% of 32 replies", "2.7% of 74 quotes"]
    own = ["0.400", "", "0.500", "", "0.300", "0.300", "0.300", "", ""]
    clear = "+0.200 [+0.100, +0.300]"
    signs = "-0.100 [-0.150, -0.050]"
    assert cells(text) == [
        [name, "all 6", "0.250", "", "0.500", "", *f1, *rates],
        ["bag of words", "all 6", "0.250", "+0.010 [-0.020, +0.040]", "0.500", signs, *f1, "", ""],
        [name, "of the data 4", *own],
        ["all good", "of the data 4", "0.200", "+0.200", "-", "", *["0.100"] * 3, "", ""],
        [name, "the policy's own 2", *own],
        ["all good", "the policy's own 2", "0.200", clear, "-", "", *["0.100"] * 3, "", ""],
    ]


def test_several_runs_and_what_a_run_does_not_say(reward_run, tmp_path):
    bare = tmp_path / "bare"
    write(bare / "metrics.json", reward_report())
    write(reward_run / "config.json", {"flags": {}, "resumed_from": "run/trainer/checkpoint-50"})
    rows = cells(reward_model_table.table([reward_run, bare]))
    assert rows[0][0] == "**longer** (38 min since checkpoint-50)"
    assert [row[0] for row in rows[6:]] == ["**bare**", "bag of words"]
    assert rows[6][-2:] == ["not measured", "not measured"]


def test_faults_of_reward_runs_are_one_line(reward_run, tmp_path, monkeypatch):
    output = ["--output_path", tmp_path / "t.md"]
    with pytest.raises(SystemExit, match=r"^error: FOLDER .*: no metrics.json in it; 3_metrics.py"):
        run(reward_model_table, monkeypatch, tmp_path, *output)
    write(tmp_path / "metrics.json", {"n": 3})
    with pytest.raises(SystemExit, match=r'metrics.json: the key "responses" is missing'):
        run(reward_model_table, monkeypatch, tmp_path, *output)
    other = reward_report()
    del other["systems"]["reward_model"]["tokens"]["poor"]
    write(tmp_path / "metrics.json", other)
    with pytest.raises(SystemExit, match=r"has the labels \['good', 'neutral'\], and the first"):
        run(reward_model_table, monkeypatch, reward_run, tmp_path, *output)
