"""Tables on training and annotation, on made-up runs whose figures a person worked out."""

import json
import math
from statistics import mean, variance

import pytest
from policy_runs import FakeCritic

from text2grad.paper.cells import Cell
from text2grad.paper.claims import CLAIMS, Claim, claim_cell, claims_table, verdict
from text2grad.paper.measured import History, Measured, Run, read_stored, store
from text2grad.paper.models_table import models_tables
from text2grad.paper.render import body, header
from text2grad.paper.results import read_folder
from text2grad.paper.tables_data import SIGNAL_MEASURES, TIME_MEASURES
from text2grad.paper.training import POINTS, read_training, step_figures, thin
from text2grad.paper.training_tables import (
    annotation_table,
    convergence,
    convergence_table,
    steps_saved,
    training_tables,
)
from text2grad.schema import UserError

FACTS = {"table": "slf5k", "budget": "small", "start": "base", "data": "", "judge_model": ""}
FACTS |= {"model": "smollm2-135m-instruct", "machine": "2 CPU cores"}
FACTS |= {"annotator": {"annotator": "reference"}}
DONE = {"key": "k", "finished": 1, "seconds": 60.0, "done": True, "error": ""}


def history(scores, per_step=8, **more):
    steps = tuple(range(1, len(scores) + 1))
    return History(steps, tuple(per_step * n for n in steps), tuple(map(float, scores)), **more)


def trained(row, *curves, n=4):
    return [Run(row, n, {}, seed, history=history(one)) for seed, one in enumerate(curves, 1)]


def measured(**lists):
    return Measured("slf5k-small", FACTS, **lists)


def rows_of(table):
    """Cells as text, {row: {column: text}}."""
    texts = [dict(zip(header(table), row, strict=True)) for row in body(table)]
    return {key: own for (key, _, _), own in zip(table.rows, texts, strict=True)}


# -- convergence


def test_steps_to_95_percent_of_the_rise():
    # from 0 to 10: 9.5 is reached at step 3 of 4, after 3 * 8 responses; 10 is best at the end
    found = convergence(trained("text2grad", (0, 5, 9.5, 10))[0])
    assert found == {
        "first_score": 0.0,
        "last_score": 10.0,
        "steps_to_95": 3,
        "samples_to_95": 24,
        "share_to_95": 0.75,
        "best_share": 1.0,
    }
    # below zero it is the way that counts: from -10 to -5 it is -5.25
    below = convergence(trained("text2grad", (-10, -5.3, -4, -5))[0])
    assert (below["steps_to_95"], below["best_share"]) == (3, 0.75)


def test_a_run_that_did_not_rise_has_no_steps_to_it():
    found = convergence(trained("text2grad", (3, 5, 2))[0])
    assert found == {"first_score": 3.0, "last_score": 2.0, "best_share": pytest.approx(2 / 3)}
    assert convergence(Run("sft", 1, {})) == {}


def test_long_curves_are_smoothed_over_a_tenth():
    # 20 steps, so the mean of two: 0, 0.5, 1.5, ... 17.5, 18.5; 95 % of 18.5 is 17.575
    found = convergence(trained("text2grad", range(20))[0])
    assert (found["first_score"], found["last_score"]) == (0.0, 18.5)
    assert found["steps_to_95"] == 20


def test_table_of_convergence_over_seeds():
    slow, fast = (0, 1, 2, 4), (0, 4, 4, 4)
    runs = trained("text2grad", fast, fast, (0, 2, 4, 4)) + trained("scalar_ppo", slow, slow, slow)
    table = rows_of(convergence_table(measured(training=runs)))
    ours = table["text2grad"]
    # 2, 2 and 3 steps: mean 7/3, deviation 1/sqrt(3), 4.3027 * (1/sqrt(3)) / sqrt(3) = 1.434
    assert ours["steps to 95 % of the rise"] == "2.3 [0.9, 3.8]"
    assert ours["responses to it"] == "19 [7, 30]"  # eight times that: 18.67 -+ 11.47
    assert (ours["seeds"], ours["n"]) == ("3", "4")
    # steps 2, 2, 3 in place of 4, 4, 4 to the score 4: 1 - 7/12
    assert ours["steps saved"].startswith("0.417 [")
    assert ours["steps saved (paper, not comparable)"] == "0.220"
    assert table["scalar_ppo"]["steps saved"] == ""
    assert table["scalar_ppo"]["steps to 95 % of the rise"] == "4.0 [4.0, 4.0]"
    assert set(table) == {
        *("grpo", "learned_scalar_ppo", "scalar_ppo"),
        *("dense", "text2grad_no_cot", "text2grad"),
    }
    empty = {name: text for name, text in table["grpo"].items() if text}
    assert set(empty) == {"method"}


def test_steps_saved_pair_seeds_and_count_who_never_gets_there():
    ours = [Run("text2grad", 4, {}, seed, history=history((0, 1, 2, 3))) for seed in (1, 3)]
    theirs = trained("scalar_ppo", (0, 3, 3, 3), (0, 9, 9, 9))
    # seeds 1 alone is a pair: step 4 in place of step 2
    found = steps_saved(measured(training=ours + theirs), "text2grad")
    assert found == Cell(-1.0, None, 1, 4)
    beyond = trained("text2grad", (0, 1, 1, 1)) + trained("scalar_ppo", (0, 0, 0, 3))
    assert steps_saved(measured(training=beyond), "text2grad").value == 0.0
    assert steps_saved(measured(), "text2grad") == Cell()


def test_only_methods_with_the_same_reward_model_are_compared():
    scalar = trained("scalar_ppo", (0, 1, 2, 4))
    dense = trained("dense", (0, 4, 4, 4))
    table = rows_of(convergence_table(measured(training=scalar + dense)))
    assert table["dense"]["steps saved"] == ""
    assert table["dense"]["score at the end"] == "4.000"


# -- what training leaves


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def step(number, **more):
    seconds = {"seconds_rollout": 4.0, "seconds_critique": 1.0, "seconds_score": 2.0}
    row = {"step": number, "score": 1.0 * number, "reward": 0.5 * number, "judged": 8}
    row |= {"reward_deviation": 3.0, "advantage_deviation": 0.5, "return_scale": 4.0}
    row |= {"coverage": 0.25, "positive_share": 0.2, "negative_share": 0.05, "unmatched_rate": 0.0}
    return row | seconds | {"seconds_update": 4.0} | more


def test_figures_of_steps():
    rows = [step(1), step(2, coverage=0.35, reward_deviation=1.0, seconds_critique=2.0)]
    found = step_figures(rows)
    assert found["coverage"] == pytest.approx(0.3)
    assert found["reward_variance"] == 5.0  # 9 and 1
    assert found["advantage_variance"] == 4.0  # (0.5 * 4)^2 in the unit of the score
    assert found["seconds_critique"] == 1.5
    assert found["seconds_step"] == 11.5  # 4 + 1.5 + 2 + 4
    assert found["critique_share"] == pytest.approx(1.5 / 11.5)
    assert found["critique_added"] == pytest.approx(0.15)
    assert step_figures([{"step": 1, "loss": 2.0}]) == {}


def test_training_of_ppo(tmp_path):
    unjudged = step(2, score=0.0, judged=0)
    write_lines(tmp_path / "metrics.jsonl", [step(1), unjudged, step(3)])
    (tmp_path / "config.json").write_text(json.dumps({"flags": {"batch_size": 8}}))
    steps, figures, scored = read_training(tmp_path, "--runs_dir")
    assert steps == 3
    assert figures["coverage"] == 0.25
    # a step without a readable critique says nothing of the policy
    assert scored == History((1, 3), (8, 24), (1.0, 3.0), (0.5, 1.5))
    _, figures, _ = read_training(tmp_path, "--runs_dir", quotes=False)
    assert "coverage" not in figures
    assert figures["reward_variance"] == 9.0


def test_training_of_grpo_counts_batches_of_responses(tmp_path):
    """TRL logs every update; two are made of each batch."""
    name = "rewards/critique/mean"
    rows = [{"step": 1, name: 1.0, "reward": 9.0}, {"step": 2, "loss": 0.1}, {"step": 3, name: 2.0}]
    write_lines(tmp_path / "metrics.jsonl", rows)
    (tmp_path / "config.json").write_text(json.dumps({"flags": {"batch_size": 12}}))
    steps, figures, scored = read_training(tmp_path, "--runs_dir")
    assert (steps, figures) == (2, {})
    assert scored == History((1, 2), (12, 24), (1.0, 2.0))


def test_training_without_samples_and_with_a_damaged_record(tmp_path):
    assert read_training(tmp_path, "--runs_dir") is None
    write_lines(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 2.0}])
    assert read_training(tmp_path, "--runs_dir") is None
    write_lines(tmp_path / "metrics.jsonl", [step(1)])
    with pytest.raises(UserError, match=r'--runs_dir .*config.json: the key "flags" is missing'):
        read_training(tmp_path, "--runs_dir")


def test_thinning_keeps_the_last_step_and_the_mean():
    whole = history((1, 3, 5, 7, 9), reward=(0.0, 2.0, 4.0, 6.0, 8.0))
    assert thin(whole, 3) == History((2, 4, 5), (16, 32, 40), (2.0, 6.0, 9.0), (1.0, 5.0, 8.0))
    assert thin(whole) == whole
    assert len(thin(history(range(1001))).steps) <= POINTS
    assert thin(History((), (), ())) == History((), (), ())


def test_tables_of_time_and_signal():
    figures = [{"seconds_step": s, "critique_added": 0.1, "coverage": 0.3} for s in (1.0, 2.0, 3.0)]
    runs = [Run("text2grad", 12, own, seed) for seed, own in enumerate(figures, 1)]
    _, time, signal, _ = training_tables(measured(training=runs))
    assert rows_of(time)["text2grad"]["seconds per step"] == "2.00 [-0.48, 4.48]"
    assert rows_of(time)["text2grad"]["critiques over the rest"] == "0.100 [0.100, 0.100]"
    shown = rows_of(signal)
    marked = "share of the tokens that a quote marks"
    assert shown["text2grad"][marked] == "0.300 [0.300, 0.300]"
    assert shown["text2grad"][f"{marked} (paper, not comparable)"] == "0.300"
    assert shown["dense"][f"{marked} (paper, not comparable)"] == "0.700"
    assert shown["dense"][marked] == ""
    assert shown["text2grad"]["variance of the advantage"] == ""
    assert "grpo" not in shown


# -- annotation


def annotated(name, response, spans):
    row = {"id": name, "post": "p", "generated_summary": response, "textual_feedback": "so"}
    found = [{"text": text, "label": label, "match": "exact"} for text, label in spans]
    for span in found:
        span["start"] = response.find(span["text"])
        span["end"] = span["start"] + len(span["text"])
    return row | {"good_spans": [], "poor_spans": [], "spans": found, "annotation": {}}


@pytest.fixture
def folder(tmp_path):
    """A folder of runs with an annotation by a paid model, one policy and one judge."""

    def write(path, value):
        path = tmp_path / "slf5k-small" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    facts = {"table": "slf5k", "budget": "small", "start": "base", "machine": "2 CPU cores"}
    facts |= {"model": "/somewhere/models/smollm2-135m-instruct", "data_path": ""}
    facts["annotator"] = {
        "annotator": "openai",
        "annotator_model": "gpt-4o",
        "base_url": "http://h",
    }
    for name in ("annotation", "runs/text2grad-1"):
        write(f"{name}/stage.json", DONE)
    failed = DONE | {"done": False, "error": f"error: {tmp_path}/slf5k-small/data: full (status 2)"}
    write("runs/dense-1/stage.json", failed)
    write("runs/text2grad-1/run.json", facts | {"method": "text2grad", "seed": 1})
    write("runs/text2grad-1/train/config.json", {"flags": {"batch_size": 8}})
    metrics = tmp_path / "slf5k-small/runs/text2grad-1/train/metrics.jsonl"
    write_lines(metrics, [step(1), step(2)])
    # one of four words, and one of two
    rows = [annotated("a", "he ran off fast", [("ran", "good")])]
    write("annotation/train_annotated.json", rows)
    write("annotation/validation_annotated.json", [annotated("b", "he ran", [("ran", "poor")])])
    use = {"model": "gpt-4o", "input": 1000, "output": 100}
    again = {"key": "1", "asked_again": True, "reason": "no JSON", "raw": "", "usage": use}
    first = {"key": "1", "id": "a", "critique": "so", "spans": [], "usage": use}
    write_lines(tmp_path / "slf5k-small/annotation/train_annotated.journal.jsonl", [again, first])
    other = {"key": "2", "id": "b", "critique": "so", "usage": use | {"estimated": True}}
    write_lines(tmp_path / "slf5k-small/annotation/validation_annotated.journal.jsonl", [other])
    return tmp_path / "slf5k-small"


def test_what_annotation_took_and_marked(folder):
    (found,) = read_folder(folder)
    (run,) = found.annotations
    assert (run.row, run.n) == ("annotation", 2)
    figures = run.figures
    assert figures["word_coverage"] == pytest.approx((0.25 + 0.5) / 2)
    # the first response was asked for twice
    assert (figures["input_tokens"], figures["output_tokens"]) == (1500.0, 150.0)
    # at 2.5 and 10 per million: 0.0035 a reply
    assert figures["cost"] == pytest.approx(3 * 0.0035)
    assert figures["cost_per_1000"] == pytest.approx(1000 * 3 * 0.0035 / 2)
    assert figures["estimated"] == 0.5
    # 2000 and 1000: 1500 -+ 12.7062 * 707.107 / sqrt(2)
    assert run.intervals["input_tokens"] == pytest.approx((1500 - 6353.1, 1500 + 6353.1))
    table = rows_of(annotation_table(found))
    marked = "share of the words that a quote marks"
    assert table["annotation"][marked].startswith("0.375 [")
    assert table["annotation"][f"{marked} (paper, not comparable)"] == "0.300"
    assert table["annotation"]["tokens written per response"].startswith("150.0 [")
    assert table["annotation_dense"][marked] == ""


def test_what_is_stored_comes_back_and_names_no_place(folder, tmp_path):
    (found,) = read_folder(folder)
    assert found.failures == ["runs/dense-1: error: data: full (status 2)"]
    assert found.minutes == 3.0
    store(found, tmp_path / "metrics")
    text = (tmp_path / "metrics/slf5k-small.json").read_text()
    assert str(tmp_path) not in text
    assert "somewhere" not in text
    assert "http" not in text
    (back,) = read_stored(tmp_path / "metrics")
    assert back.training[0].history == History((1, 2), (8, 16), (1.0, 2.0), (0.5, 1.0))
    assert back.facts == found.facts
    assert back.failures == found.failures
    for ours, theirs in zip(back.annotations, found.annotations, strict=True):
        assert ours.figures == pytest.approx(theirs.figures, rel=1e-5)
        assert ours.n == theirs.n
    store(back, tmp_path / "again")
    assert (tmp_path / "again/slf5k-small.json").read_text() == text


def test_damaged_metrics_are_one_line(tmp_path):
    (tmp_path / "slf5k-small.json").write_text('{"facts": {}}')
    with pytest.raises(UserError, match=r'--metrics_dir .*slf5k-small.json: the key "facts.table"'):
        read_stored(tmp_path)
    facts = FACTS | {"table": "slf5k"}
    row = {"row": "sft", "seed": 1, "n": 3, "figures": {"rougeL": "high"}}
    stored = {"facts": facts, "minutes": 1, "runs": [row]}
    (tmp_path / "slf5k-small.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r'the key "figures.rougeL" holds "high"'):
        read_stored(tmp_path)


# -- claims and several models


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.1, 0.3), "holds here"),
        ((-0.1, 0.3), "open"),
        ((-0.3, -0.1), "does not hold here"),
        (None, "open"),
    ],
)
def test_verdicts(interval, said):
    assert verdict(Cell(0.1, interval), 0.0, math.inf) == said
    assert verdict(Cell(), 0.0, math.inf) == "not run"


def test_a_claim_is_a_difference_paired_by_seed():
    ours = [Run("text2grad", 9, {"rougeL": value}, seed) for seed, value in ((1, 0.3), (2, 0.5))]
    theirs = [Run("scalar_ppo", 9, {"rougeL": value}, seed) for seed, value in ((2, 0.2), (1, 0.2))]
    theirs.append(Run("scalar_ppo", 9, {"rougeL": 9.0}, 3))
    claim = Claim("more", "+6.7", "slf5k", "runs", "rougeL")
    found = claim_cell(measured(runs=ours + theirs), claim)
    # 0.1 and 0.3: 0.2 -+ 12.7062 * 0.1
    assert (found.value, found.seeds) == (pytest.approx(0.2), 2)
    assert found.interval == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062))
    alone = Claim("value", "", "slf5k", "runs", "rougeL", "scalar_ppo", "")
    assert claim_cell(measured(runs=theirs[:2]), alone).value == pytest.approx(0.2)


def test_claims_without_a_run_say_so_and_the_testbed_has_its_row():
    text = claims_table([], {})
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(CLAIMS) + 1
    assert all(row.endswith("| not run |") for row in rows)
    ours, theirs = (Run(row, 9, {"rougeL": 0.3}, 1) for row in ("text2grad", "scalar_ppo"))
    taste = Measured("slf5k-trial", FACTS | {"budget": "trial"}, runs=[ours, theirs])
    assert claims_table([taste], {}) == text
    steps = {"saved": 0.25, "saved_interval": [0.1, 0.4]}
    testbed = {"methods": {"span": {"seeds": [1, 2], "against_scalar": {"steps": steps}}}}
    last = claims_table([], testbed).splitlines()[-1]
    assert last == (
        "| fewer steps than PPO | 22 % | testbed | +0.250 | [+0.100, +0.400] | 2 | holds here |"
    )


def test_policies_of_several_models_stand_in_one_table():
    run = Run("text2grad", 9, {"rougeL": 0.3}, 1)
    first = Measured("a", FACTS | {"judge_model": "judge"}, runs=[run])
    assert models_tables([first]) == []
    second = Measured("b", FACTS | {"model": "other", "judge_model": "judge"}, runs=[run])
    elsewhere = Measured("c", FACTS | {"model": "third", "budget": "paper"}, runs=[run])
    (table,) = models_tables([first, second, elsewhere])
    assert [title for _, title, _ in table.rows] == [
        "smollm2-135m-instruct (reward model: judge): Text2Grad",
        "other (reward model: judge): Text2Grad",
    ]
    assert rows_of(table)["b:text2grad"]["ROUGE-L"] == "0.300"
    assert "--model other" in table.command


def test_a_real_run_has_every_figure(make, tmp_path):
    """The variance of the advantage beside that of the samples, which unwhitened runs write."""
    make(FakeCritic(), steps=2, save_freq=2, whiten="none").train()
    steps, figures, scored = read_training(tmp_path / "run", "--runs_dir")
    wanted = [measure.name for measure in (*TIME_MEASURES, *SIGNAL_MEASURES)]
    assert steps == 2
    assert set(wanted) <= set(figures)
    lines = (tmp_path / "run/samples.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    of_steps = [[row for row in rows if row["step"] == step] for step in (1, 2)]
    spread = [variance([a for row in own for a in row["advantages"]]) for own in of_steps]
    assert figures["advantage_variance"] == pytest.approx(mean(spread), rel=1e-2)
    rewards = [variance([row["reward_total"] for row in own]) for own in of_steps]
    assert figures["reward_variance"] == pytest.approx(mean(rewards), rel=1e-2)
    assert scored.score == pytest.approx([mean(row["score"] for row in own) for own in of_steps])
    assert scored.samples == (len(of_steps[0]), len(rows))
