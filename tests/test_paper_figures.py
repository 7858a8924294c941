"""Figures, and the page of results that the stored metrics give again."""

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from test_paper_training import FACTS, measured, trained
from trees import ROOT

from text2grad.config import PaperFiguresConfig, PaperTablesConfig
from text2grad.paper.figures import figures, write_figures
from text2grad.paper.measured import Measured, Run, read_stored, store
from text2grad.paper.page import gather, results_page, write_tables
from text2grad.paper.png import PACKAGE
from text2grad.paper.tables_data import TABLES
from text2grad.schema import UserError
from text2grad.testbed.comparison import Curve, mean_curve
from text2grad.testbed.table import testbed_markdown as markdown_of

RESULTS = ROOT / "benchmarks" / "results"
AGAIN = "figures.py and then tables.py of paper/, both with --runs_dir '', write it"


def test_mean_of_curves_is_of_the_steps_that_all_have():
    found = mean_curve([Curve((1, 2, 3), (0.0, 1.0, 9.0)), Curve((1, 2), (0.0, 3.0))])
    assert (found["steps"], found["mean"]) == ([1, 2], [0.0, 2.0])
    # 1 and 3: 2 -+ 12.7062 * sqrt(2) / sqrt(2)
    assert (found["low"][1], found["high"][1]) == pytest.approx((2 - 12.7062, 2 + 12.7062))
    assert mean_curve([Curve((1,), (5.0,))])["low"] == [None]


def whole_testbed():
    curve = {"steps": [0, 2], "mean": [0.0, 1.0], "low": [-0.5, 0.5], "high": [0.5, 1.5]}
    facts = {"final": 1.0, "final_interval": [0.5, 1.5], "curve": curve}
    noise = [
        {"kind": "flip", "rate": rate, "span": facts, "scalar": facts | {"final_interval": None}}
        for rate in (0.4, 0.1)
    ]
    return {"methods": {"span": facts, "scalar": facts | {"final_interval": None}}, "noise": noise}


def drawn(svg):
    """The file's parts by class; a file that is no XML is an error."""
    parts = {}
    for part in ElementTree.fromstring(svg).iter():
        for name in part.get("class", "").split():
            parts.setdefault(name, []).append(part)
    return parts


def test_every_figure_there_is_something_for():
    run = Run("text2grad", 9, {"rougeL": 0.3, "chrf": 20.0}, 1)
    training = trained("text2grad", (0, 1, 2), (0, 2, 4)) + trained("dense", (1, 1, 3))
    one = measured(runs=[run, Run("sft", 9, {"rougeL": 0.1}, 1)], training=training)
    found = dict(figures([one], whole_testbed()))
    assert list(found) == [
        *("slf5k-small-convergence", "slf5k-small-values"),
        *("testbed-convergence", "testbed-noise"),
    ]
    curves = drawn(found["slf5k-small-convergence"])
    # two panels, as no reward was logged; each with two lines and the band of two seeds, and one
    # line each in the legend
    assert len(curves["line"]) == 2 * 2 + 2
    assert len(curves["area"]) == 2
    titles = [part.text for part in curves["title"]]
    assert titles[1:] == ["score over steps", "score over responses"]
    assert {part.text for part in curves["name"]} == {
        "Text2Grad",
        "dense: a score for every word",
    }
    values = drawn(found["slf5k-small-values"])
    assert [part.text for part in values["name"]] == ["Text2Grad", "SFT", "Text2Grad"]
    assert [part.text for part in values["value"]] == ["0.300", "0.100", "20.000"]
    assert len(drawn(found["testbed-noise"])["area"]) == 1
    assert list(figures([measured()], {})) == []


def test_a_band_lies_where_its_interval_is():
    """A panel of 0 to 2 steps from x 46 to 370; of -0.5 to 1.5 with 6 % around, 166 to 10."""
    svg = dict(figures([], whole_testbed()))["testbed-convergence"]
    (area, *_) = drawn(svg)["area"]

    def y(value):
        return f"{166 - 156 * (value + 0.5 + 0.12) / 2.24:.1f}"

    want = f"M46.0 {y(0.5)}L370.0 {y(1.5)}L370.0 {y(0.5)}L46.0 {y(-0.5)}Z"
    assert area.get("d") == want


def flags(kind, folder, **more):
    places = {"metrics_dir": "metrics", "testbed": "testbed.json", "figures_dir": "figures"}
    given = {name: str(folder / place) for name, place in places.items()}
    return kind(**{"runs_dir": "", **given, **more})


def test_figures_are_written_and_the_results_show_those_that_there_are(tmp_path):
    with pytest.raises(UserError, match=r"--metrics_dir .*metrics: holds nothing to draw"):
        write_figures(flags(PaperFiguresConfig, tmp_path))
    store(measured(training=trained("text2grad", (0, 1, 2))), tmp_path / "metrics")
    page = tmp_path / "RESULTS.md"
    tables = flags(PaperTablesConfig, tmp_path, output_dir=str(tmp_path / "t"), results=str(page))
    write_tables(tables)
    assert "![" not in page.read_text()
    write_figures(flags(PaperFiguresConfig, tmp_path))
    assert (tmp_path / "figures/slf5k-small-convergence.svg").exists()
    write_tables(tables)
    shown = re.findall(r"!\[[\w-]+\]\((.*)\)", page.read_text())
    assert shown == [f"{tmp_path}/figures/slf5k-small-convergence.svg"]


def draws(folder, **flag):
    """Draws one figure of one run; gives its SVG."""
    store(measured(training=trained("text2grad", (0, 1, 2))), folder / "metrics")
    write_figures(flags(PaperFiguresConfig, folder, **flag))
    return (folder / "figures/slf5k-small-convergence.svg").read_text(encoding="utf-8")


def test_a_png_is_made_of_the_svg_by_a_library_that_only_it_needs(tmp_path, monkeypatch, capsys):
    calls = []

    def convert(**given):
        calls.append(given)
        return list(b"a picture")  # as the library says that it returns them

    monkeypatch.setitem(sys.modules, "resvg_py", SimpleNamespace(svg_to_bytes=convert))
    svg = draws(tmp_path, png=True)
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == [
        "slf5k-small-convergence.png",
        "slf5k-small-convergence.svg",
    ]
    assert (tmp_path / "figures/slf5k-small-convergence.png").read_bytes() == b"a picture"
    [call] = calls
    assert (call["svg_string"], call["zoom"], call["skip_system_fonts"]) == (svg, 2, True)
    assert all(Path(font).is_file() for font in call["font_files"])
    assert "slf5k-small-convergence.png\n" in capsys.readouterr().out


def test_png_without_the_library_is_one_line_before_anything_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    said = rf"^--png true: .*resvg_py.*; pip install {PACKAGE} matplotlib$"
    with pytest.raises(UserError, match=said):
        draws(tmp_path, png=True)
    assert not (tmp_path / "figures").exists()
    assert draws(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`pip install {PACKAGE}`" in readme


@pytest.mark.slow
def test_the_real_library_draws_lines_and_texts(tmp_path, monkeypatch):
    """Installed from PyPI as the message says."""
    from PIL import Image  # comes with matplotlib

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, PACKAGE], check=True)
    monkeypatch.syspath_prepend(tmp_path / "site")
    svg = draws(tmp_path, png=True)
    with Image.open(tmp_path / "figures/slf5k-small-convergence.png") as opened:
        shown = opened.convert("RGB")
    root = ElementTree.fromstring(svg)
    assert shown.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
    heading = shown.crop((0, 0, shown.width, 2 * 34))
    for part, colour in ((heading, (0x22, 0x26, 0x2B)), (shown, (0x1B, 0x78, 0x37))):
        pixels = {own: count for count, own in part.getcolors(1 << 24)}
        assert pixels[colour] > 100, "the title's ink, and the line's"


def test_the_page_without_a_run_has_every_table_empty_and_the_papers_figures():
    text = results_page([], {}, PaperTablesConfig())
    rows = [line for line in text.splitlines() if line.startswith("| Text2Grad |")]
    assert len(rows) == len(TABLES)
    assert re.findall(r"\d\.\d+", rows[0]) == ["0.291"]
    assert text.count("Nothing was run.") == len(TABLES)
    assert "`python paper/run.py --table kodcode --budget small`" in text
    assert "## Controlled testbed" in text
    assert "Not run.\n" in text


# -- what lies in the repository


def committed():
    """What tables.py would read in the repository, and its flags; paths as it writes them."""
    return [
        read_stored(RESULTS / "paper"),
        gather(flags(PaperTablesConfig, RESULTS))[1],
        PaperTablesConfig(runs_dir=""),
    ]


def test_results_are_what_the_stored_metrics_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    assert text == results_page(*committed()), f"RESULTS.md is out of date: {AGAIN}"
    for path in re.findall(r"!\[[\w-]+\]\((.*)\)", text):
        assert (ROOT / path).exists()


def test_figures_and_the_testbeds_table_are_what_the_stored_metrics_give():
    stored, testbed, _ = committed()
    paths = {path.stem: path for path in (RESULTS / "figures").glob("*.svg")}
    drawn_again = dict(figures(stored, testbed))
    assert set(paths) == set(drawn_again), AGAIN
    for name, path in paths.items():
        assert path.read_text(encoding="utf-8") == drawn_again[name], f"{name}: {AGAIN}"
    if testbed:
        assert (RESULTS / "testbed.md").read_text(encoding="utf-8") == markdown_of(testbed)


def test_a_figure_typed_into_the_results_would_be_found():
    """The page is made of the metrics alone: another figure there is another page."""
    one = Measured("slf5k-small", FACTS, runs=[Run("sft", 9, {"rougeL": 0.31}, 1)])
    other = Measured("slf5k-small", FACTS, runs=[Run("sft", 9, {"rougeL": 0.41}, 1)])
    pages = [results_page([each], {}, PaperTablesConfig()) for each in (one, other)]
    assert pages[0] != pages[1]
    assert pages[0].replace("0.310", "0.410") == pages[1]


def test_a_damaged_testbed_is_one_line(tmp_path):
    (tmp_path / "testbed.json").write_text('{"settings": {}, "tuning": {}}')
    said = r'--testbed .*testbed.json: the key "methods" is missing; paper/testbed.py writes it'
    with pytest.raises(UserError, match=said):
        gather(flags(PaperTablesConfig, tmp_path))
