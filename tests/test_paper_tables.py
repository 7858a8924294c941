"""The tables, rendered again from stored metrics, and compared with what a person worked out."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from text2grad.config import PaperTablesConfig
from text2grad.paper.cells import Cell, cell, policy_table
from text2grad.paper.measured import Measured, Run, read_stored, store
from text2grad.paper.page import write_tables
from text2grad.paper.render import latex, markdown
from text2grad.paper.results import read_folders
from text2grad.schema import UserError
from text2grad.student import student_interval, student_quantile

FIXTURE = Path(__file__).parent / "fixtures" / "paper_runs.json"


def build(folder, change=lambda stored: None):
    """The folders of runs that the fixture holds, {path: content}."""
    stored = json.loads(FIXTURE.read_text(encoding="utf-8"))
    change(stored)
    for path, content in stored.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return build(tmp_path_factory.mktemp("paper") / "runs")


def config(runs, folder, results=""):
    """Flags that keep everything beside the runs."""
    beside = folder.parent
    return PaperTablesConfig(
        runs_dir=str(runs),
        metrics_dir=str(beside / "metrics"),
        testbed=str(beside / "testbed.json"),
        figures_dir=str(beside / "figures"),
        output_dir=str(folder),
        results=str(results),
    )


@pytest.fixture(scope="module")
def written(runs):
    """The files of tables.py, by name."""
    folder, results = runs.parent / "tables", runs.parent / "RESULTS.md"
    write_tables(config(runs, folder, results))
    paths = [results, *folder.iterdir(), *(runs.parent / "metrics").iterdir()]
    return {path.name: path.read_text(encoding="utf-8") for path in paths}


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    table = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}


# ROUGE-L of three seeds: 0.1, 0.2, 0.3. Mean 0.2, deviation 0.1; Student's t of two degrees of
# freedom 4.3027 times 0.1 / sqrt(3) = 0.2484.
TEXT2GRAD = "0.200 [-0.048, 0.448]"


def test_a_cell_is_the_mean_over_seeds_with_its_interval(written):
    table = rows(written["slf5k-small.md"])
    ours = table["Text2Grad"]
    assert ours["ROUGE-L"] == TEXT2GRAD
    assert (ours["seeds"], ours["n"]) == ("3", "32")
    # two seeds, 10 and 20: 15 -+ 12.7062 * 7.0711 / sqrt(2) = 63.531
    assert table["SFT"]["BLEU"] == "15.000 [-48.531, 78.531]"
    # one run alone has no interval
    assert table["start model"]["ROUGE-L"] == "0.125"
    assert table["start model"]["seeds"] == "1"


def test_what_was_not_run_or_measured_is_empty(written):
    table = rows(written["slf5k-small.md"])
    paper = "ROUGE-L (paper, not comparable)"
    assert set(table["GRPO, scalar of the critiques"].values()) == {
        "",
        "GRPO, scalar of the critiques",
    }
    assert table["Text2Grad"]["BERTScore F1"] == ""
    # no run of ours, the paper's own figure alone
    assert table["dense: a score for every word"]["ROUGE-L"] == ""
    assert table["dense: a score for every word"][paper] == "0.196"
    assert table["Text2Grad"][paper] == "0.291"
    assert table["SFT"][paper] == ""
    assert "DPO" not in table  # SLF5K has no such row


def test_the_papers_figures_are_marked(written):
    text = written["slf5k-small.md"]
    assert "at another scale the two cannot be compared" in text
    assert "+25.3 % BLEU" in text
    assert (
        "Model smollm2-135m-instruct, annotator reference, policies from `base`; on 2 CPU cores."
        in text
    )


def test_the_csv_has_a_line_for_each_cell(written):
    lines = list(csv.DictReader(io.StringIO(written["slf5k-small.csv"])))
    found = {(line["row"], line["measure"]): line for line in lines}
    ours = found["text2grad", "rougeL"]
    assert float(ours["value"]) == pytest.approx(0.2)
    assert float(ours["low"]) == pytest.approx(0.2 - 4.3027 * 0.1 / 3**0.5)
    assert (ours["seeds"], ours["n"], ours["paper"]) == ("3", "32", "0.291")
    empty = found["grpo", "rougeL"]
    assert (empty["value"], empty["low"], empty["seeds"], empty["paper"]) == ("", "", "", "")
    assert len(lines) == 9 * 10  # methods and measures


def test_the_latex_has_the_same_cells(written):
    text = written["slf5k-small.tex"]
    line = next(line for line in text.splitlines() if line.startswith("Text2Grad &"))
    assert TEXT2GRAD in line
    assert line.endswith(r"\\")
    columns = text.partition(r"\begin{tabular}{")[2].partition("}")[0]
    assert len(columns) == line.count("&") + 1 == 14
    assert text.count(r"\hline") == 3


def test_a_judges_win_rate_is_a_measure_of_the_run(written):
    table = rows(written["slf5k-small.md"])
    assert table["SFT"]["win rate against the start model"] == "0.625 (1 of 2 seeds)"
    assert table["Text2Grad"]["win rate against the start model"] == ""


def test_latex_escapes(tmp_path):
    table = policy_table(read_folders(build(tmp_path))[0])
    spoilt = type(table)(**{**vars(table), "rows": [("a", "50 % of a_b & c", table.rows[0][2])]})
    assert r"50 \% of a\_b \& c &" in latex(spoilt)


def test_reward_models_have_a_table_of_their_own(written):
    table = rows(written["slf5k-small-reward_models.md"])
    row = table["critique and quotes"]
    assert row["macro-F1"] == "0.410 [0.380, 0.440]"
    assert row["readable without the grammar"] == "0.875"
    assert row["poor recall"] == "0.500"
    assert table["critique and a score for every word"]["macro-F1"] == ""


def test_results_say_what_was_run_and_what_failed(written):
    text = written["RESULTS.md"]
    assert (
        "#### SLF5K: summaries against the human ones\n\n`python paper/run.py --table slf5k" in text
    )
    for name in ("slf5k-small.md", "slf5k-small-reward_models.md", "slf5k-small-time.md"):
        lines = [line for line in written[name].splitlines() if line.startswith("|")]
        assert "\n".join(lines) in text
    assert "| smollm2-135m-instruct | 2 CPU cores | 21 | base (1), sft (2), text2grad (3) |" in text
    assert "- `slf5k-small`, runs/dense-1: error: out of memory (status 2)" in text
    assert "Written by `python paper/tables.py`" in text


def test_the_same_files_give_the_same_tables(written, runs, tmp_path):
    again = tmp_path / "again"
    write_tables(config(runs, again))
    for path in again.iterdir():
        assert path.read_text(encoding="utf-8") == written[path.name]


def test_what_was_set_aside_or_is_not_done_does_not_count(tmp_path):
    runs = build(tmp_path)
    shutil.copytree(
        runs / "slf5k-small/runs/text2grad-1", runs / "slf5k-small/runs/text2grad-1.aside-1"
    )
    cells = {key: own for key, _, own in policy_table(read_folders(runs)[0]).rows}
    assert cells["text2grad"][3].seeds == 3
    assert cells["dense"][3].seeds == 0  # its run failed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda stored: stored["slf5k-small/runs/text2grad-2/run.json"].update(model="other"),
            "text2grad was made with model other, base with .*smollm2",
        ),
        (
            lambda stored: stored["slf5k-small/runs/text2grad-2/measures/evaluation.json"].pop("n"),
            r'evaluation.json: the key "n" is missing; .*remove its folder and run that again',
        ),
        (lambda stored: stored.clear(), "holds no finished run"),
    ],
)
def test_runs_that_do_not_belong_together_are_an_error(tmp_path, change, said):
    runs = build(tmp_path, change)
    with pytest.raises(UserError, match=said):
        read_folders(runs)


def test_a_measure_that_some_seeds_lack_counts_the_others():
    figures = ({"rougeL": 0.5}, {"rougeL": None}, {})
    runs = [Run("sft", n, own) for n, own in zip((9, 1, 1), figures, strict=True)]
    assert cell(runs, "rougeL") == Cell(0.5, None, 1, 9)
    assert cell(runs, "chrf", 0.3) == Cell(published=0.3)


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (9, 2.2622), (30, 2.0423), (40, 2.0211), (120, 1.9799)]
)
def test_quantiles_of_student(freedom, quantile):
    """Values of printed tables; beyond 30 from the expansion."""
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5e-4)


def test_interval_of_a_mean():
    low, high = student_interval([1, 2, 3])
    assert (low, high) == pytest.approx((2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5))
    assert student_interval([1.0]) is None


def test_figures_about_other_records_say_how_many(tmp_path):
    figures = {"rougeL": 0.5, "mbpp_plus": 0.25}
    runs = [Run("sft", 9, {**figures}, seed, {}, {"mbpp_plus": 378}) for seed in (1, 2)]
    assert cell(runs, "mbpp_plus") == Cell(0.25, (0.25, 0.25), 2, 378)
    facts = {"table": "slf5k", "budget": "small", "start": "base", "model": "m", "machine": "x"}
    facts |= {"data": "", "judge_model": "", "annotator": {}}
    store(Measured("slf5k-small", facts, runs), tmp_path)
    (back,) = read_stored(tmp_path)
    assert list(back.runs) == runs
    runs[0].figures["chrf"], runs[0].counts["chrf"] = 20.0, 5
    row = rows(markdown(policy_table(Measured("slf5k-small", facts, runs))))["SFT"]
    assert (row["n"], row["ROUGE-L"]) == ("9", "0.500 [0.500, 0.500]")
    assert row["chrF"] == "20.000 (1 of 2 seeds) (n 5)"
