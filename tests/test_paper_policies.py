"""Several policies under one reward model: what would be run, and the table of it by hand."""

import json

import pytest
from families import save_family
from test_families import CASES, expected_scores
from test_paper_people import RECORDS
from test_paper_plan import planned, started
from test_paper_questions import FACTS, column, write_judge, write_runs
from test_paper_run import few_records, start
from trees import load_args

from text2grad.alignment import byte_pieces, locate_spans, score_tokens, token_offsets
from text2grad.config import PaperRunConfig, PaperTablesConfig, parse
from text2grad.paper.cells import Cell, reward_table
from text2grad.paper.measured import Measured, Run, read_stored, store
from text2grad.paper.models_table import gain, models_tables
from text2grad.paper.page import write_tables
from text2grad.paper.results import read_folder, read_folders
from text2grad.paper.runner import run_paper
from text2grad.parsing import parse_reply, word_target_json
from text2grad.pretrained import load_tokenizer
from text2grad.schema import Feedback, Span, UserError
from text2grad.tasks import get_task

NAMES = ("llama", "gemma")  # byte-level and byte-fallback


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two families with tokenizers of their own, {name: folder}."""
    folder = tmp_path_factory.mktemp("models")
    return {name: save_family(name, folder / name) for name in NAMES}


def plan_both(tmp_path, models, **given):
    own, other = (models[name] for name in NAMES)
    return planned(tmp_path, model=own, policies=(other,), **given)


# -- what would be run


def test_the_reward_models_are_there_once(tmp_path, models):
    stages = plan_both(tmp_path, models, methods=("text2grad", "grpo"))
    assert [name for name in stages if not name.endswith("/measures")] == [
        *("model", "data", "runs/base-0"),
        *("own_answers", "annotation", "reward_model-spans", "runs/grpo-1", "runs/text2grad-1"),
        *("policy-gemma/model", "policy-gemma/runs/base-0"),
        *("policy-gemma/runs/grpo-1", "policy-gemma/runs/text2grad-1"),
    ]
    assert stages["policy-gemma/model"].commands == ()
    facts = stages["policy-gemma/runs/grpo-1"].facts
    assert (facts["policy"], facts["model"]) == ("gemma", models["gemma"])
    assert facts["judge_model"] == stages["reward_model-spans"].facts["model"] == models["llama"]
    assert stages["runs/grpo-1"].facts["model"] == models["llama"]


METHODS = ("sft", "grpo", "learned_scalar_ppo", "scalar_ppo", "dense", "text2grad_no_cot")


@pytest.mark.parametrize("start", ["base", "sft"])
def test_another_policys_runs_differ_in_the_policy_alone(tmp_path, models, start):
    stages = plan_both(tmp_path, models, methods=(*METHODS, "text2grad"), start=start)
    names = [name for name in stages if name.startswith("policy-gemma/")]
    assert len(names) == 1 + 1 + 2 * (len(METHODS) + 1 + (start == "base"))
    for name in names:
        if name == "policy-gemma/model":
            continue
        plain = name.removeprefix("policy-gemma/")
        commands = list(map(str, stages[name].commands))
        for text, own in zip(commands, map(str, stages[plain].commands), strict=True):
            for part in ("runs/", "sft-1/"):
                own = own.replace(f"{tmp_path}/{part}", f"{tmp_path}/policy-gemma/{part}")
            if not name.endswith("/measures"):  # perplexity is one model's for all
                own = own.replace(models["llama"], models["gemma"])
            assert text == own
    others = [stage for name, stage in stages.items() if name not in names]
    assert not any(need.startswith("policy-") for stage in others for need in stage.needs)


@pytest.mark.parametrize("start", ["base", "sft"])
def test_each_training_gets_its_own_policy_and_the_shared_reward_model(tmp_path, models, start):
    """As the training scripts read their flags, behind their shells."""
    stages = plan_both(tmp_path, models, methods=("text2grad", "dense"), start=start)
    judges = set()
    for place, model in (("", models["llama"]), ("policy-gemma/", models["gemma"])):
        merged = str(tmp_path / place / "sft-1/train/final_merge")
        for method, kind in (("text2grad", "spans"), ("dense", "word_scores")):
            ((script, words),) = started(stages[f"{place}runs/{method}-1"].commands[0])
            flags = parse(load_args(script), words)
            assert flags.base_model_name == (merged if start == "sft" else model)
            shared = tmp_path / f"reward_model-{kind}" / "train" / "final_merge"
            assert flags.reward_model_name == str(shared)
            judges.add(flags.reward_model_name)
            assert f"reward_model-{kind}" in stages[f"{place}runs/{method}-1"].needs
    assert len(judges) == 2
    for kind in ("spans", "word_scores"):
        assert stages[f"reward_model-{kind}"].commands[0].settings["MODEL"] == models["llama"]


def test_a_judge_compares_each_policy_with_its_own_start(tmp_path, models):
    stages = plan_both(tmp_path, models, methods=("sft",), judge_model="judge")
    for place in ("", "policy-gemma/"):
        stage = stages[f"{place}runs/sft-1/judge"]
        assert stage.needs == (f"{place}runs/sft-1", f"{place}runs/base-0")
        words = stage.commands[0].words
        theirs = words[words.index("--compare_file") + 1]
        assert theirs == str(tmp_path / place / "runs/base-0/answers.json")


def test_a_dry_run_of_all_methods_shows_each_reward_model_once(tmp_path, models, capsys):
    own, other = (models[name] for name in NAMES)
    given = {"model": own, "policies": (other, "org/Third-1B"), "seeds": 1, "dry_run": True}
    run_paper(PaperRunConfig(output_dir=str(tmp_path / "out"), **given))
    lines = [line[2:] for line in capsys.readouterr().out.splitlines() if line[:2] == "# "]
    assert len(set(lines)) == len(lines)
    judges = [line for line in lines if "reward_model" in line]
    assert sorted(judges) == [
        *("reward_model-spans", "reward_model-word_scores", "scalar_reward_model")
    ]
    runs = [line for line in lines if line.startswith("runs/")]
    for name in ("gemma", "Third-1B"):
        assert [f"policy-{name}/{line}" for line in runs] == [
            line for line in lines if line.startswith(f"policy-{name}/runs/")
        ]


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        (("{llama}",), "--policies .*llama: that is --model, which is trained anyway"),
        (("{llama}/../llama",), "--policies .*llama: that is --model"),
        (("org/llama",), "--policies org/llama: would be called llama, as .*/llama is; put one"),
        (("a/x", "b/x"), "--policies b/x: would be called x, as a/x is"),
        (("{gemma}", "{gemma}"), "--policies .*gemma: would be called gemma"),
        (("./nowhere",), r"--policies ./nowhere: no such folder \(looked in"),
        (("",), "--policies: names none, for example"),
    ],
)
def test_policies_that_cannot_be_told_apart_or_found_are_errors(tmp_path, models, policies, said):
    with pytest.raises(UserError, match=said):
        planned(
            tmp_path, model=models["llama"], policies=tuple(p.format(**models) for p in policies)
        )


def test_policies_and_errors_in_critiques_are_apart(tmp_path):
    with pytest.raises(UserError, match="--policies with --noise: "):
        PaperRunConfig(policies=("a/b",), noise=("flip:0.2",))
    embedded = "models/smollm2-135m-instruct"
    with pytest.raises(UserError, match=f"--policies {embedded}: "):
        planned(tmp_path, policies=(embedded,))


# -- tokenizers


@pytest.mark.parametrize(("response", "good", "poor"), CASES)
def test_scores_of_words_pay_the_same_characters_of_every_policy(models, response, good, poor):
    """A word-level critique is text: what it pays does not depend on who tokenizes the response.

    A word's punctuation goes with the token it is in, and tokens differ.
    """
    task = get_task("slf5k")
    quotes = [Span(text, "good") for text in good] + [Span(text, "poor") for text in poor]
    said = Feedback("It is so.", tuple(locate_spans(quotes, response, task)))
    reply = parse_reply(word_target_json(said, response, task), task, response)
    spans = locate_spans(reply.spans, response, task)
    assert {span.label for span in spans} == {"good", "poor"}
    paid = {}
    for name in NAMES:
        tokenizer = load_tokenizer(models[name], "--model_path")
        pieces = byte_pieces(tokenizer, tokenizer(response, add_special_tokens=False)["input_ids"])
        by_character = [0.0] * len(response)
        scores = zip(token_offsets(pieces), score_tokens(pieces, spans, task), strict=True)
        for (first, end), score in scores:
            by_character[first:end] = [score] * (end - first)
        paid[name] = [s for s, c in zip(by_character, response, strict=True) if c.isalnum()]
    assert paid["llama"] == paid["gemma"]
    assert {1.0, -1.0} <= set(paid["llama"])


# -- the table


OTHER = {"policy": "gemma", "model": "/somewhere/gemma", "judge_model": FACTS["model"]}


@pytest.fixture
def runs(tmp_path):
    """Two policies with the ROUGE-L of their start and of two seeds."""
    own = tmp_path / "slf5k-small"
    write_runs(own / "runs", {"seed": 0}, {"base": [0.5]})
    write_runs(own / "runs", {}, {"text2grad": [0.6], "scalar_ppo": [0.5, 0.7]})
    write_runs(own / "policy-gemma/runs", OTHER | {"seed": 0}, {"base": [0.1]})
    write_runs(own / "policy-gemma/runs", OTHER, {"text2grad": [0.2, 0.4]})
    write_judge(own / "reward_model-spans", 0.5)
    return tmp_path


def test_each_policy_stands_beside_its_own_start(runs):
    (measured,) = read_folders(runs)
    assert {run.row for run in measured.runs} == {"base", "text2grad", "scalar_ppo"}
    store(measured, runs / "metrics")
    (stored,) = read_stored(runs / "metrics")
    (table,) = models_tables([stored])
    cells = column(table, "rougeL")
    own = "smollm2-135m-instruct"
    assert list(cells) == [
        *(f"{own}:base", f"{own}:scalar_ppo", f"{own}:scalar_ppo:gain"),
        *(f"{own}:text2grad", f"{own}:text2grad:gain"),
        *("gemma:base", "gemma:text2grad", "gemma:text2grad:gain"),
    ]
    assert cells["gemma:base"] == Cell(0.1, None, 1, 32)
    assert cells["gemma:text2grad"].value == pytest.approx(0.3)
    # 0.2 - 0.1 and 0.4 - 0.1: mean 0.2, deviation 0.1414, times 12.7062 over the root of 2: 1.2706
    gained = cells["gemma:text2grad:gain"]
    assert gained.value == pytest.approx(0.2)
    assert gained.interval == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-4)
    assert (gained.seeds, gained.n) == (2, 32)
    assert cells[f"{own}:text2grad:gain"] == Cell(pytest.approx(0.1), None, 1, 32)
    assert cells[f"{own}:scalar_ppo:gain"].value == pytest.approx(0.1)
    titles = {key: title for key, title, _ in table.rows}
    assert titles["gemma:base"] == "gemma: start model"
    assert titles["gemma:text2grad:gain"] == "gemma: Text2Grad, over its own start"
    assert 'trained once from smollm2-135m-instruct: "critique and quotes"' in table.note
    assert "of reward models of `slf5k-small`" in table.note
    assert table.command == "python paper/run.py --table slf5k --budget small --policies gemma"


def test_a_start_that_was_trained_is_paired_by_seed():
    def made(row, *values):
        return [Run(row, 5, {"m": value}, seed) for seed, value in enumerate(values, 1)]

    runs = made("sft", 1.0, 2.0, 9.0) + made("text2grad", 2.0, 5.0)
    found = gain(runs, "text2grad", "sft", "m")
    # 1 and 3: 2 -+ 12.7062 * 1
    assert (found.value, found.seeds) == (2.0, 2)
    assert found.interval == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)
    # against one untrained start: 2 - 1 and 5 - 1
    once = [Run("base", 3, {"m": 1.0}, 0), *runs]
    found = gain(once, "text2grad", "base", "m")
    assert (found.value, found.seeds, found.n) == (2.5, 2, 3)
    # a deviation of 2.1213 over the root of 2, times 12.7062
    assert found.interval == pytest.approx((2.5 - 19.0593, 2.5 + 19.0593), abs=1e-3)
    assert gain(runs, "text2grad", "base", "m") == Cell()


def test_shared_and_separate_reward_models_are_different_tables(runs):
    (first,) = read_folders(runs)
    facts = first.facts | {"model": "other", "judge_model": "other"}
    second = Measured("slf5k-other", facts, runs=[Run("text2grad", 9, {"rougeL": 0.3}, 1)])
    shared, apart = models_tables([first, second])
    assert shared.name == "slf5k-small-policies"
    assert apart.name == "slf5k-small-models"
    assert not any("gemma" in title for _, title, _ in apart.rows)
    assert not any("other" in title for _, title, _ in shared.rows)
    assert column(apart, "rougeL")["slf5k-other:text2grad"] == Cell(0.3, None, 1, 9)


def test_the_results_have_the_table_and_render_again_from_what_is_stored(runs):
    place = {name: str(runs / name) for name in ("metrics_dir", "testbed", "figures_dir")}
    place |= {"output_dir": str(runs / "tables"), "results": str(runs / "R.md")}
    write_tables(PaperTablesConfig(runs_dir=str(runs), **place))
    text = (runs / "tables/slf5k-small-policies.md").read_text()
    assert "| gemma: Text2Grad, over its own start | 2 | 32 |" in text
    assert "Model smollm2-135m-instruct, gemma, annotator reference" in text
    page = (runs / "R.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "\n".join(lines) in page
    assert "base (1), scalar_ppo (2), text2grad (1), with the policy gemma (3) |" in page
    assert "| Text2Grad | 1 | 32 |" in (runs / "tables/slf5k-small.md").read_text()
    write_tables(PaperTablesConfig(runs_dir="", **place))
    assert (runs / "R.md").read_text() == page


def test_policies_of_one_name_and_two_models_and_damaged_rows_are_errors(runs):
    path = runs / "slf5k-small/policy-gemma/runs/text2grad-2/run.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"model": "/elsewhere/gemma"}))
    with pytest.raises(UserError, match="gemma/text2grad was made with model /elsewhere/gemma"):
        read_folder(runs / "slf5k-small")
    path.write_text(json.dumps(stored | {"budget": "paper"}))
    with pytest.raises(UserError, match="gemma/text2grad was made with budget paper, base with"):
        read_folder(runs / "slf5k-small")
    path.write_text(json.dumps(stored | {"judge_model": "other"}))
    with pytest.raises(UserError, match="gemma/text2grad was trained under a reward model of oth"):
        read_folder(runs / "slf5k-small")
    facts = FACTS | {"data": "", "judge_model": ""}
    for row in ("text2grad", "gemma/magic", ""):
        damaged = Measured("slf5k-small", facts, policies=[Run(row, 1, {})])
        with pytest.raises(UserError, match=r"--metrics_dir slf5k-small.json: .*not a row such as"):
            models_tables([damaged])


# -- two families, from the records to the table


@pytest.mark.slow
def test_two_families_are_trained_under_one_reward_model(tmp_path, models):
    people = tmp_path / "people.json"
    people.write_text(json.dumps(RECORDS))
    out = tmp_path / "runs" / "slf5k-trial"
    own, other = (models[name] for name in NAMES)
    done = start(
        *("run.py", "--table", "slf5k", "--budget", "trial", "--seeds", 1, "--output_dir", out),
        *("--methods", "text2grad", "--model", own, "--policies", other),
        *("--data_path", few_records(tmp_path / "data"), "--human_spans", people),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = read_folders(out.parent)
    (table,) = models_tables([measured])
    cells = column(table, "rougeL")
    assert list(cells) == [
        f"{name}:{row}" for name in NAMES for row in ("base", "text2grad", "text2grad:gain")
    ]
    assert all((cell.seeds, cell.n) == (1, 3) for cell in cells.values())
    judge = str(out / "reward_model-spans/train/final_merge")
    for place, model in (("", own), ("policy-gemma", other)):
        folder = out / place / "runs/text2grad-1/train"
        flags = json.loads((folder / "config.json").read_text())["flags"]
        assert (flags["base_model_name"], flags["reward_model_name"]) == (model, judge)
        rows = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
        whole = [row for row in rows if "".join(row["tokens"]) == row["response"]]
        assert all(row["scores"] == expected_scores(row) for row in whole)
    assert column(reward_table(measured), "human_kappa")["spans"].n == len(RECORDS)
