"""Reward models beside people in the paper's tables: what would be run, and the columns of it."""

import json

import pytest
from test_paper_plan import planned, started
from test_paper_questions import column, write_files, write_judge, write_runs
from trees import load_args

from text2grad.config import HumanAlignmentConfig, PaperTablesConfig, parse
from text2grad.human_alignment import align_with_people
from text2grad.paper.cells import Cell, reward_table
from text2grad.paper.measured import read_stored, store
from text2grad.paper.page import write_tables
from text2grad.paper.render import body, header
from text2grad.paper.results import read_folder, read_folders
from text2grad.schema import UserError

DONE = {"key": "k", "done": True, "seconds": 60.0}
RECORDS = [
    {"id": f"h-{n}", "post": "What is it?", "generated_summary": "aa bb cc dd", "human_errors": own}
    for n, own in enumerate(([{"type": "Wrong", "start": 0, "end": 5}], []), 1)
]


@pytest.fixture
def marked(tmp_path):
    """Two responses of four words; people marked two words of the first."""
    path = tmp_path / "people.json"
    path.write_text(json.dumps(RECORDS))
    return path


# -- what would be run


def test_every_reward_model_is_measured_on_all_that_people_marked(tmp_path, marked):
    other = tmp_path / "kodcode-small"
    (other / "reward_model-spans/train/final_merge").mkdir(parents=True)
    stages = planned(
        tmp_path / "out",
        methods=("text2grad", "dense", "learned_scalar_ppo"),
        human_spans=str(marked),
        reward_from=str(other),
    )
    measured = {name for name in stages if name.endswith("/people")}
    names = {"reward_model-spans", "reward_model-word_scores", "reward_from-kodcode-small"}
    assert measured == {f"{name}/people" for name in names}
    for name in names:
        stage, folder = stages[f"{name}/people"], tmp_path / "out" / name
        judge, align = stage.commands
        assert stage.needs == (name,)
        ((script, own),) = started(stages[name].commands[-2])
        ((same_script, words),) = started(judge)
        assert script == same_script
        own, flags = parse(load_args(script), own), parse(load_args(script), words)
        assert (flags.data_path, flags.max_samples) == (str(marked), 0)
        assert flags.unconstrained_samples == 0
        for shared in ("model_path", "max_new_tokens", "max_length", "batch_size"):
            assert getattr(flags, shared) == getattr(own, shared), shared
        model = tmp_path / "kodcode-small/reward_model-spans" if "from" in name else folder
        assert flags.model_path == str(model / "train/final_merge")
        ((script, words),) = started(align)
        flags = parse(load_args(script), words)
        assert flags.human_file == str(marked)
        assert flags.compare_files == (str(folder / "people/inference.json"),)
        assert flags.output_file == str(folder / "people/alignment.json")
    before = stages["reward_model-spans/people"].inputs
    marked.write_text(json.dumps(RECORDS[:1]))
    again = planned(tmp_path / "out", methods=("text2grad",), human_spans=str(marked))
    assert again["reward_model-spans/people"].inputs != before
    assert again["reward_model-spans"].inputs == stages["reward_model-spans"].inputs


def without(key):
    return [{name: value for name, value in row.items() if name != key} for row in RECORDS]


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        (None, {}, "--human_spans .*people.json: "),
        ("[{", {}, "--human_spans .*people.json"),
        (without("human_errors"), {}, r"record 1 \(id h-1\): has no human spans \(from --human_sp"),
        (RECORDS[1:], {}, "--human_spans .*people.json: nobody marked a span in any of the resp"),
        (without("post"), {}, r"the prompt is missing or empty.*\(from --human_spans\)"),
        (RECORDS, {"methods": ("sft",)}, "--human_spans .*: no reward model is trained that"),
        (RECORDS, {"noise": ("flip:0.2",)}, "--human_spans .*: no reward model is trained that"),
    ],
)
def test_a_wrong_file_is_one_line_before_anything_runs(tmp_path, content, given, said):
    path = tmp_path / "people.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        planned(tmp_path / "out", human_spans=str(path), **{"methods": ()} | given)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


# -- the columns


@pytest.fixture
def runs(tmp_path, marked):
    """A reward model that quoted one of the two words, beside one that was not measured."""
    own = tmp_path / "runs" / "slf5k-small"
    write_runs(own / "runs", {}, {"sft": [0.9]})
    write_judge(own / "reward_model-spans", 0.5)
    write_judge(own / "reward_model-word_scores", 0.4, reward_model="word_scores")
    place = own / "reward_model-spans" / "people"
    said = {"textual_feedback": "So.", "good_spans": [], "poor_spans": ["bb"]}
    rows = [
        {**row, **said, "poor_spans": quotes}
        for row, quotes in zip(RECORDS, (["bb"], []), strict=True)
    ]
    files = {"stage.json": DONE, "run.json": {"human_spans": str(marked)}, "inference.json": rows}
    write_files(place, files)
    flags = {"compare_files": (str(place / "inference.json"),)}
    align_with_people(
        HumanAlignmentConfig(
            human_file=str(marked), output_file=str(place / "alignment.json"), **flags
        )
    )
    return tmp_path / "runs"


def test_agreement_with_people_is_a_column_of_the_reward_models(runs):
    (measured,) = read_folders(runs)
    store(measured, runs / "metrics")
    (stored,) = read_stored(runs / "metrics")
    table = reward_table(stored)
    cells = column(table, "human_macro_f1")
    # 8 words: poor 2 by people, 1 by the model, 1 of both: 2/3; unmarked 6 and 7, 6 of both: 12/13
    assert cells["spans"].value == pytest.approx((2 / 3 + 12 / 13) / 2, abs=1e-5)
    low, high = cells["spans"].interval
    # the first response alone: poor 2/3, unmarked 2 * 2 / (2 + 3) = 4/5; the second alone: 1
    assert (low, high) == (pytest.approx((2 / 3 + 4 / 5) / 2, abs=1e-5), 1.0)
    assert (cells["spans"].seeds, cells["spans"].n) == (1, 2)
    # 7 of 8 alike; by chance 2/8 * 1/8 + 6/8 * 7/8 = 44/64
    kappa = column(table, "human_kappa")
    assert kappa["spans"].value == pytest.approx((7 / 8 - 44 / 64) / (1 - 44 / 64), abs=1e-5)
    assert cells["word_scores"] == cells["spans_no_cot"] == Cell()
    names = header(table)
    shown = {row[0]: dict(zip(names, row, strict=True)) for row in body(table)}
    own = shown["critique and quotes"]
    assert own["macro-F1 against people's spans"] == "0.795 [0.733, 1.000] (n 2)"
    assert own["n"] == "60"
    assert shown["critique and a score for every word"]["kappa with people"] == ""
    assert table.command.endswith("--budget small --human_spans people.json")


def test_the_column_is_rendered_from_what_is_stored(runs):
    place = {name: str(runs / name) for name in ("metrics_dir", "testbed", "figures_dir")}
    place |= {"output_dir": str(runs / "tables"), "results": str(runs / "R.md")}
    write_tables(PaperTablesConfig(runs_dir=str(runs), **place))
    page = (runs / "R.md").read_text()
    assert "0.795 [0.733, 1.000] (n 2)" in page
    write_tables(PaperTablesConfig(runs_dir="", **place))
    assert (runs / "R.md").read_text() == page


def test_a_stage_that_is_not_done_or_damaged_and_two_files_of_people(runs):
    own = runs / "slf5k-small"
    write_files(own / "reward_model-word_scores/people", {"stage.json": DONE | {"done": False}})
    (measured,) = read_folder(own)
    figures = {run.row: run.figures for run in measured.reward_models}
    assert "human_kappa" in figures["spans"]
    assert "human_kappa" not in figures["word_scores"]
    report = own / "reward_model-spans/people/alignment.json"
    kept = report.read_text()
    report.write_text(json.dumps(json.loads(kept) | {"responses": "two"}))
    with pytest.raises(UserError, match=r'alignment.json: the key "responses" holds "two"'):
        read_folder(own)
    report.write_text(kept)
    write_files(
        own / "reward_model-word_scores/people",
        {
            "stage.json": DONE,
            "run.json": {"human_spans": "/x/others.json"},
            "alignment.json": json.loads(kept),
        },
    )
    with pytest.raises(UserError, match=r"people marked in others.json and people.json; run paper"):
        read_folder(own)
