"""What the paper leaves open: what would be run, and the table of it, worked out by hand."""

import json

import pytest
from test_paper_plan import planned, started
from test_paper_tables import FIXTURE
from trees import ROOT, check_flags

from text2grad.config import PaperRunConfig, PaperTablesConfig
from text2grad.paper.cells import Cell, lead, reward_table
from text2grad.paper.measured import Measured, Run, read_stored
from text2grad.paper.methods import METHODS, REWARD_MODELS
from text2grad.paper.noise_table import noise_tables
from text2grad.paper.page import write_tables
from text2grad.paper.results import read_folder, read_folders
from text2grad.paper.runner import default_folder
from text2grad.schema import UserError
from text2grad.student import student_interval
from text2grad.tasks import get_task


def flag_of(command, name):
    return command.words[command.words.index(name) + 1]


def runs_in(stages):
    return [name for name in stages if "-1" in name and not name.endswith("/measures")]


# -- noise


def test_noise_in_the_labels_spoils_what_is_learned_and_nothing_that_is_measured_by(tmp_path):
    clean = planned(tmp_path, methods=("text2grad",))
    stages = planned(tmp_path, noise=("flip:0.2", "drop:0.4"), noise_at="labels")
    folder = "noise/flip-0.2-labels"
    assert [name for name in stages if not name.endswith("/measures")] == [
        *("model", "data", "own_answers", "annotation"),
        *(f"{folder}/annotation", f"{folder}/reward_model-spans"),
        *(f"{folder}/scalar_ppo-1", f"{folder}/text2grad-1"),
        *("noise/drop-0.4-labels/annotation", "noise/drop-0.4-labels/reward_model-spans"),
        *("noise/drop-0.4-labels/scalar_ppo-1", "noise/drop-0.4-labels/text2grad-1"),
    ]
    copies = stages[f"{folder}/annotation"].commands
    names = ["train_own_annotated.json", "train_annotated.json"]
    for command, name in zip(copies, names, strict=True):
        assert flag_of(command, "--data_path") == str(tmp_path / "annotation" / name)
        assert flag_of(command, "--output_path") == str(tmp_path / folder / "annotation" / name)
        assert flag_of(command, "--noise") == "flip:0.2"
        ((script, words),) = started(command)
        check_flags(script, words)
    # the reward model differs in what it learns from and where it lies, in nothing else
    before = [str(command) for command in clean["reward_model-spans"].commands]
    after = [str(command) for command in stages[f"{folder}/reward_model-spans"].commands]
    own, there = str(tmp_path / folder), str(tmp_path)
    for text, other in zip(before, after, strict=True):
        moved = text.replace(f"{there}/reward_model-spans", f"{own}/reward_model-spans")
        for name in names:
            moved = moved.replace(f"{there}/annotation/{name}", f"{own}/annotation/{name}")
        assert moved == other
    assert "validation_annotated.json" in after[0]
    assert f"{own}/annotation/validation" not in after[0]
    ppo = stages[f"{folder}/text2grad-1"]
    assert ppo.commands[0].settings["REWARD_MODEL"].startswith(f"{own}/reward_model-spans")
    assert ppo.commands[0].settings["RM_METRICS"].startswith(f"{own}/reward_model-spans")
    assert "--feedback_noise" not in ppo.commands[0].words
    facts = {"noise": "flip", "rate": 0.2, "noise_at": "labels"}
    assert facts.items() <= ppo.facts.items()


def test_noise_in_the_rewards_is_a_flag_of_ppo(tmp_path):
    clean = planned(tmp_path, methods=("scalar_ppo",))
    stages = planned(
        tmp_path, methods=("scalar_ppo",), noise=("irrelevant:0.05",), noise_at="rewards"
    )
    name = "noise/irrelevant-0.05-rewards/scalar_ppo-1"
    assert runs_in(stages) == [name]
    before = str(clean["runs/scalar_ppo-1"].commands[0])
    after = str(stages[name].commands[0])
    after = after.replace("--feedback_noise irrelevant:0.05 ", "")
    assert after.replace(str(tmp_path / name), str(tmp_path / "runs/scalar_ppo-1")) == before
    assert stages["reward_model-spans"].commands == clean["reward_model-spans"].commands


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"noise": ("flip:2",)}, "--noise flip:2: after the colon comes a share"),
        ({"noise": ("",)}, "--noise: names none"),
        ({"noise": ("flip:1",), "methods": ("sft",)}, "--noise with --methods sft: PPO pays it by"),
        ({"noise": ("flip:1",), "methods": ("magic",)}, "--methods magic: unknown"),
        ({"reward_from": "nowhere"}, "--reward_from nowhere: no reward_model-spans/train"),
        ({"annotations_from": "nowhere"}, "--annotations_from nowhere: no annotation/validation_"),
    ],
)
def test_what_cannot_be_run_is_an_error(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        planned(tmp_path, **given)


# -- an open-ended task


def test_every_command_about_the_open_ended_task_names_its_file(tmp_path):
    stages = planned(tmp_path, table="writing", noise=("drop:0.1",))
    stages |= planned(tmp_path, table="writing", judge_model="judge")
    file = ROOT / "paper/writing/task.py"
    seen = set()
    for stage in stages.values():
        for command in stage.commands:
            for script, words in started(command):
                if "merge_lora" not in script.name:
                    assert words[words.index("--task") + 1] == str(file), script
                seen.add(script.name)
    assert {"prepare_data.py", "train_slf5k.py", "llm_as_a_judge.py", "noise.py"} <= seen
    assert get_task(str(file)).name == "writing"


# -- other reward models and annotators


def test_another_tables_reward_model_judges_what_the_own_one_is_measured_on(tmp_path):
    other = tmp_path / "slf5k-small"
    model = other / "reward_model-spans/train/final_merge"
    model.mkdir(parents=True)
    (model / "weights").write_text("1")
    stages = planned(tmp_path / "out", table="ultrafeedback", reward_from=str(other))
    assert "reward_from-slf5k-small" in stages
    assert not runs_in(stages)  # no method was named
    own, foreign = stages["reward_model-spans"], stages["reward_from-slf5k-small"]
    for name, mine, its in zip(
        ("2_infer.py", "3_metrics.py"), own.commands[2:], foreign.commands, strict=True
    ):
        assert its.words[1].endswith(name)
        text = str(mine).replace(
            "reward_model-spans/inference", "reward_from-slf5k-small/inference"
        )
        text = text.replace("reward_model-spans/metrics", "reward_from-slf5k-small/metrics")
        own_model = tmp_path / "out/reward_model-spans/train/final_merge"
        assert text.replace(str(own_model), str(model)) == str(its)
    before = foreign.inputs
    (model / "weights").write_text("2")
    again = planned(tmp_path / "out", table="ultrafeedback", reward_from=str(other))
    assert again["reward_from-slf5k-small"].inputs != before


@pytest.mark.parametrize(
    ("table", "file"),
    [("slf5k", "validation_annotated.json"), ("kodcode", "validation_own_annotated.json")],
)
def test_two_annotators_are_compared_on_the_same_responses(tmp_path, table, file):
    other = tmp_path / "other"
    (other / "annotation").mkdir(parents=True)
    (other / "annotation" / file).write_text("[]")
    stages = planned(tmp_path / "out", table=table, annotations_from=str(other))
    (command,) = stages["annotations_from-other"].commands
    assert flag_of(command, "--input_file") == str(other / "annotation" / file)
    assert flag_of(command, "--data_path") == str(tmp_path / "out/annotation" / file)
    ((script, words),) = started(command)
    check_flags(script, words)


def test_each_annotator_has_a_folder_of_its_own():
    def folder(**given):
        return default_folder(PaperRunConfig(**given)).name

    assert folder() == folder(annotator="reference") == "slf5k-small"
    assert folder(annotator="openai") == "slf5k-small-openai-gpt-4o"
    named = folder(annotator="openai", annotator_model="org/judge", budget="paper")
    assert named == "slf5k-paper-openai-judge"
    assert folder(budget="paper") == "slf5k-paper"


# -- the tables of it

FACTS = {"table": "slf5k", "budget": "small", "start": "base", "model": "smollm2-135m-instruct"}
FACTS |= {"machine": "2 cores", "data_path": "", "annotator": {"annotator": "reference"}}
DONE = {"key": "k", "done": True, "seconds": 60.0}
FLIP = {"noise": "flip", "noise_at": "rewards"}


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))


def write_runs(folder, kind, finals):
    """Finished runs {method: [ROUGE-L of seed 1, 2, ...]} with the facts of one noise."""
    for method, values in finals.items():
        for seed, value in enumerate(values, 1):
            files = {"run.json": FACTS | {"method": method, "seed": seed, **kind}}
            files |= {"stage.json": DONE, "measures/stage.json": DONE}
            files |= {"measures/evaluation.json": {"n": 32, "after": {"rougeL": value}}}
            write_files(folder / f"{method}-{seed}", files)


def write_judge(folder, macro_f1, **facts):
    """A finished reward model, measured on 60 responses."""
    report = json.loads(FIXTURE.read_text())["slf5k-small/reward_model-spans/metrics.json"]
    report["systems"]["reward_model"]["tokens"]["macro_f1"] = macro_f1
    report["macro_f1_interval"] = {}
    files = {"run.json": FACTS | {"reward_model": "spans"} | facts, "stage.json": DONE}
    write_files(folder, files | {"metrics.json": report})


@pytest.fixture
def noisy_runs(tmp_path):
    own = tmp_path / "slf5k-small"
    pair = ("text2grad", "scalar_ppo")
    write_runs(own / "runs", {}, {"sft": [0.9], "text2grad": [0.5], "scalar_ppo": [0.2]})
    write_judge(own / "reward_model-spans", 0.5)
    for rate, ours in ((0.4, [0.2, 0.5]), (0.05, [0.4, 0.4])):
        finals = dict(zip(pair, (ours, [0.1, 0.2]), strict=True))
        write_runs(own / f"noise/flip-{rate}-rewards", FLIP | {"rate": rate}, finals)
    labels = {"noise": "drop", "noise_at": "labels", "rate": 0.2}
    folder = own / "noise/drop-0.2-labels"
    write_runs(folder, labels, {"text2grad": [0.3]})
    write_judge(folder / "reward_model-spans", 0.25, **labels)
    write_files(folder, {"annotation/stage.json": DONE})
    write_files(folder, {"dense-1/stage.json": DONE | {"done": False, "error": "full"}})
    return tmp_path


def column(table, name):
    """{row: cell} of one measure."""
    place = [measure.name for measure in table.measures].index(name)
    return {key: cells[place] for key, _, cells in table.rows}


def test_the_table_says_how_far_span_leads_scalar_under_each_noise(noisy_runs):
    (measured,) = read_folders(noisy_runs)
    (table,) = noise_tables(measured)
    cells = column(table, "rougeL")
    assert list(cells)[:3] == ["none/scalar_ppo", "none/text2grad", "none/lead"]
    assert "none/sft" not in cells  # nothing to compare it with
    assert cells["none/lead"] == Cell(pytest.approx(0.3), None, 1, 32)
    # leads 0.1 and 0.3: mean 0.2, deviation 0.1414, times 12.7062 over the root of 2: 1.2706
    found = cells["flip 40% of the rewards/lead"]
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-4)
    assert (found.seeds, found.n) == (2, 32)
    places = [list(cells).index(f"flip {rate} of the rewards/lead") for rate in ("5%", "40%")]
    assert places == sorted(places)
    # errors in the labels have a reward model of their own
    judged = column(table, "macro_f1")
    assert judged["drop 20% of the labels/text2grad"] == Cell(0.25, None, 1, 60)
    assert judged["flip 40% of the rewards/text2grad"] == Cell(0.5, None, 1, 60)
    assert judged["none/lead"] == Cell()
    assert table.command == (
        "python paper/run.py --table slf5k --budget small --methods text2grad --noise drop:0.2 "
        "--noise_at labels; python paper/run.py --table slf5k --budget small --noise flip:0.05 "
        "flip:0.4 --noise_at rewards"
    )


def test_noisy_runs_are_stored_and_rendered_as_all_others(noisy_runs):
    place = {name: str(noisy_runs / name) for name in ("metrics_dir", "testbed", "figures_dir")}
    place |= {"output_dir": str(noisy_runs / "tables"), "results": str(noisy_runs / "R.md")}
    write_tables(PaperTablesConfig(runs_dir=str(noisy_runs), **place))
    text = (noisy_runs / "tables/slf5k-small-noise.md").read_text()
    assert "| flip 40% of the rewards: lead of span over scalar | 2 | 32 |" in text
    others = (noisy_runs / "tables/slf5k-small.md").read_text()
    assert "| Text2Grad | 1 |" in others  # noisy runs are none of the method's
    page = (noisy_runs / "R.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "\n".join(rows) in page
    assert "--noise flip:0.05 flip:0.4 --noise_at rewards`\n" in page
    assert "with errors in critiques (9)" in page
    assert "- `slf5k-small`, noise/drop-0.2-labels/dense-1: full" in page
    # 12 runs and their measures, two reward models, a noisy copy and what failed: one minute each
    (stored,) = read_stored(noisy_runs / "metrics_dir")
    assert stored.minutes == 28
    again = PaperTablesConfig(runs_dir="", **place | {"output_dir": str(noisy_runs / "again")})
    write_tables(again)
    assert (noisy_runs / "again/slf5k-small-noise.md").read_text() == text
    assert (noisy_runs / "R.md").read_text() == page


def test_noisy_runs_alone_have_a_table(tmp_path):
    own = tmp_path / "slf5k-small"
    write_runs(own / "noise/flip-0.4-rewards", FLIP | {"rate": 0.4}, {"text2grad": [0.2]})
    (measured,) = read_folders(tmp_path)
    (table,) = noise_tables(measured)
    assert list(column(table, "rougeL")) == ["flip 40% of the rewards/text2grad"]
    assert noise_tables(Measured("slf5k-small", measured.facts)) == []
    assert not set(METHODS) & set(REWARD_MODELS)  # one key tells which of the two a row is


def test_noisy_runs_with_other_settings_and_damaged_rows_are_errors(noisy_runs, tmp_path):
    path = noisy_runs / "slf5k-small/noise/drop-0.2-labels/text2grad-1/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "other"}))
    with pytest.raises(UserError, match="text2grad was made with model other"):
        read_folders(noisy_runs)
    for row in ("labels/flip:x/text2grad", "labels", "labels/flip:0.2"):
        damaged = Measured("slf5k-small", FACTS, noise=[Run(row, 1, {})])
        with pytest.raises(UserError, match=rf"--metrics_dir slf5k-small.json: (flip:x|{row}): "):
            noise_tables(damaged)


def test_a_lead_is_over_the_seeds_that_both_have():
    def runs(row, **by_seed):
        return [Run(row, 5, {"m": v}, ord(seed)) for seed, v in by_seed.items()]

    both = runs("ours", a=3.0, b=2.0, c=None) + runs("theirs", b=0.5, a=1.0, d=9.0)
    assert lead(both, "ours", "theirs", "m") == Cell(1.75, student_interval([2.0, 1.5]), 2, 5)
    assert lead(runs("ours", a=1.0) + runs("theirs", b=1.0), "ours", "theirs", "m") == Cell()


def test_other_judges_stand_beside_the_reward_models_of_a_task_from_a_file(tmp_path):
    own = tmp_path / "writing-small"
    for name, value in (("annotations_from-other", 0.75), ("reward_from-slf5k-small", 0.25)):
        write_judge(own / name, value, table="writing", reward_model=name)
    (measured,) = read_folder(own)
    table = reward_table(measured)
    assert table.title == "Writing: reward models, with and without CoT"
    titles = {key: title for key, title, _ in table.rows}
    assert titles["reward_from-slf5k-small"] == "reward model of slf5k-small"
    assert titles["annotations_from-other"] == "annotations of other"
    cells = column(table, "macro_f1")
    assert cells["reward_from-slf5k-small"] == Cell(0.25, None, 1, 60)
    assert cells["spans"] == Cell()
    first = "python paper/run.py --table writing --budget small"
    assert table.command == (
        f"{first}; {first} --annotations_from runs/paper/other; "
        f"{first} --reward_from runs/paper/slf5k-small"
    )
