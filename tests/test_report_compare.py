"""Several runs on one page, and answers side by side."""

import json
from pathlib import Path

import pytest
from test_report import HOSTILE, Page, evaluation, sample, step, write_lines

from text2grad.report import ReportConfig, build_report
from text2grad.report_compare import (
    common_prompts,
    differing_settings,
    final_rows,
    overlay_charts,
    run_names,
)
from text2grad.report_data import ReportData
from text2grad.report_pairs import across_runs, before_after
from text2grad.schema import UserError


def write_run(folder, steps, samples, **flags):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"flags": {"task": "slf5k", **flags}}))
    write_lines(folder / "metrics.jsonl", steps)
    write_lines(folder / "samples.jsonl", samples)
    (folder / "evaluation.json").write_text(json.dumps(evaluation()))
    return str(folder)


@pytest.fixture
def two_runs(tmp_path):
    first = [sample(1), sample(2, id="8"), sample(3, response="a cow")]
    second = [sample(1, id="9"), sample(2)]
    return [
        write_run(tmp_path / "one" / "policy", [step(1), step(2), step(3)], first, seed=1),
        write_run(tmp_path / "two" / "policy", [step(1), step(2, kl=9.0)], second, seed=2),
    ]


def test_page_of_two_runs(two_runs, capsys):
    build_report(ReportConfig(run_dir=two_runs[0], compare_dir=(two_runs[1],)))
    path = Path(two_runs[0], "comparison.html")
    assert capsys.readouterr().out.strip() == f"report: {path}"
    page = Page(path.read_text(encoding="utf-8"))
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert {"glance", "curves", "before-after", "samples", "configuration"} <= anchors
    assert "one/policy against two/policy" in page.text
    payload = page.payload
    assert payload["runs"] == ["one/policy", "two/policy"]
    # only the prompt 7 is in both; the last response of each run to it
    assert [[entry["step"] for entry in group] for group in payload["groups"]] == [[3, 2]]
    assert payload["pairs"]["titles"] == ["Human reference", "Before", "one/policy", "two/policy"]
    assert payload["pairs"]["rows"][0]["texts"] == ["r", "b", "c", "c"]
    kl = next(chart for chart in payload["charts"] if chart["values"][1][1] == 9.0)
    assert (kl["steps"], kl["values"]) == ([1, 2, 3], [[0.5, 1.0, 1.5], [0.5, 9.0, None]])


def test_hostile_runs_stay_text(tmp_path):
    row = sample(1, id=HOSTILE, prompt=HOSTILE, critique=HOSTILE, tokens=[HOSTILE])
    folders = [
        write_run(tmp_path / name / "run<b>", [step(1, warnings=[HOSTILE]), step(2)], [row], x=flag)
        for name, flag in (("a", HOSTILE), ("b", "y"))
    ]
    output = tmp_path / "page.html"
    build_report(
        ReportConfig(run_dir=folders[0], compare_dir=(folders[1],), output_path=str(output))
    )
    page = Page(output.read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2
    assert not {"img", "b>"} & set(page.tags)
    assert f"a/run<b>: Step 1: {HOSTILE}." in page.text
    assert page.payload["groups"][0][1]["critique"] == HOSTILE


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data_path": "f", "compare_dir": ("a",)}, "beside --run_dir, which is missing"),
        ({"run_dir": "a", "compare_dir": tuple("bcdefg")}, "at most 5 runs"),
        ({"run_dir": "a", "compare_dir": ("b",), "qc": "q"}, "leave them out with --compare_dir"),
    ],
)
def test_flags_that_do_not_fit(flags, message):
    with pytest.raises(UserError, match=message):
        ReportConfig(**flags)


def test_a_run_that_is_not_there_is_named(two_runs, tmp_path):
    missing = str(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"--compare_dir .*nothing: holds no metrics"):
        build_report(ReportConfig(run_dir=two_runs[0], compare_dir=(missing,)))


def test_names_are_the_shortest_that_differ():
    assert run_names(["/x/a/one/policy", "/x/b/two/policy"]) == ["one/policy", "two/policy"]
    assert run_names(["/x/a", "/x/b"]) == ["a", "b"]
    assert run_names(["/x/a", "/x/a"]) == ["x/a (1)", "x/a (2)"]


def test_final_rows_and_settings():
    runs = [
        ReportData("a", {"flags": {"seed": 1, "task": "t"}}, [step(1), step(2)]),
        ReportData(
            "b", {"flags": {"seed": 2, "task": "t"}, "commit": "c"}, [], evaluation=evaluation()
        ),
    ]
    rows = dict(final_rows(runs))
    assert rows["Score per response"] == ["0.000 → 1.000", "–"]
    assert rows["KL at the end, nats per response"] == ["1.000", "–"]
    assert rows["Critiques readable"] == ["100.0%", "–"]
    assert rows["PPO steps"] == ["2", "–"]
    assert rows["ROUGE-L, validation"] == ["–", "0.200 → 0.250"]
    assert "Entropy, nats per token" not in rows
    settings = differing_settings([run.config for run in runs])
    assert settings == [("flags.seed", ["1", "2"]), ("commit", ["–", "c"])]


def test_a_line_that_a_run_lacks_keeps_its_colour_free():
    charts = overlay_charts(["a", "b"], [[step(1), step(2)], [step(1, kl=None), step(2, kl=None)]])
    kl = next(chart for chart in charts if chart.title == "KL to the reference")
    assert (kl.names, kl.values[1]) == (("a", "b"), (None, None))
    assert "s1" in kl.svg
    assert "s2" not in kl.svg
    assert overlay_charts(["a", "b"], [[step(1)], []]) == []


def test_common_prompts_are_spread_over_what_is_common():
    latest = [{str(i): {"id": i, "run": run} for i in range(8 + run)} for run in (0, 1)]
    groups = common_prompts(latest, 4)  # two of eight prompts, two responses each
    assert [[entry["id"] for entry in group] for group in groups] == [[2, 2], [6, 6]]
    assert [entry["run"] for entry in groups[0]] == [0, 1]
    assert len(common_prompts(latest, 0)) == 8


def test_pairs():
    def row(id_, before, after, **scores):
        return {"id": id_, "prompt": "p", "before": before, "after": after, "after_scores": scores}

    one = {"samples": [row(1, "x", "a", mean_words=3.0, passed=1.0), row(2, "y", "b", passed=0.5)]}
    two = {"samples": [row(2, "y", "c", rougeL=0.2, passed=0.1)]}
    assert before_after({}, 0) == {}
    found = before_after(one, 0)
    assert (found["titles"], found["score"]) == (["Before", "After"], "Passed")
    assert found["rows"][1] == {"prompt": "p", "texts": ["y", "b"], "scores": [None, 0.5]}
    both = across_runs(["A", "B"], [one, two], 0)
    assert both["titles"] == ["Before", "A", "B"]
    assert [r["texts"] for r in both["rows"]] == [["y", "b", "c"]]
    two["samples"][0]["before"] = "z"  # another start: it is nobody's "before"
    assert across_runs(["A", "B"], [one, two], 0)["titles"] == ["A", "B"]
    assert across_runs(["A", "B"], [one, {}], 0) == {}
