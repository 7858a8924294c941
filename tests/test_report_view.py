"""What the report says at first sight: charts, key figures, warnings, wording."""

import re

import pytest
from test_report import evaluation, reward_report, step

from text2grad.chart_axes import Mark
from text2grad.charts import Series, area_chart, interval_chart, line_chart
from text2grad.report_data import ReportData
from text2grad.report_view import (
    change_rows,
    draw_charts,
    flat_rows,
    key_figures,
    reward_model_identity,
)
from text2grad.trends import ends, find_warnings
from text2grad.wording import number, pretty, signed

# -- charts


def test_line_chart_coordinates():
    # The plot runs from x 46 to 370 and from y 166 (low) to 10 (high).
    chart = line_chart("T", [0, 1, 2], [Series("a", [0.0, 0.5, 1.0])], bounds=(0.0, 1.0))
    assert 'd="M46.0 166.0L208.0 88.0L370.0 10.0"' in chart.svg
    clipped = line_chart("T", [0, 2], [Series("a", [-7.0, 0.5])], bounds=(0.0, 1.0))
    assert 'd="M46.0 166.0L370.0 88.0"' in clipped.svg


def test_chart_bridges_what_is_missing_and_survives_odd_values():
    values = [1.0, None, float("nan"), "x", 2.0]
    chart = line_chart("T", range(5), [Series("a", values)], bounds=(0.0, 2.0))
    assert 'd="M46.0 88.0L370.0 10.0"' in chart.svg
    assert chart.values == ((1.0, None, None, None, 2.0),)
    flat = line_chart("<b>", [1, 2], [Series("a", [3.0, 3.0])])
    assert "<b>" not in flat.svg
    assert "nan" not in flat.svg


def test_a_mark_is_ringed_inside_the_chart():
    # The plot is 324 wide from 46 and 156 high up from 166.
    series = [Series("a", [0.0, 0.5, 1.0])]
    chart = line_chart("T", [0, 1, 2], series, bounds=(0.0, 1.0), mark=Mark(1, 0.5, "<best>"))
    assert '<circle class="ring" cx="208.0" cy="88.0" r="5"/>' in chart.svg
    assert 'x="212.0" y="79.0" text-anchor="start">&lt;best&gt;</text>' in chart.svg
    last = line_chart("T", [0, 1, 2], series, mark=Mark(2, 1.0, "best"))
    # the axis ends at 1.06, and 12 % of it above leave room for the name
    y = 166 - 156 / (1.06 * 1.12)
    assert f'cx="370.0" cy="{y:.1f}"' in last.svg
    assert f'x="366.0" y="{y - 9:.1f}" text-anchor="end">best</text>' in last.svg
    assert "ring" not in line_chart("T", [0, 1, 2], series, mark=Mark(3, 0.5, "best")).svg
    # beyond the means of a long run the axis grows to hold it
    high = line_chart("T", range(1000), [Series("a", [0.0] * 1000)], mark=Mark(7, 1.0, "best"))
    assert float(re.search(r'class="ring" cx="[\d.]+" cy="([\d.]+)"', high.svg)[1]) > 10


def test_the_best_checkpoint_is_marked_where_validation_is_drawn():
    steps = [step(i, **({"valid_score": 0.1 * i} if i % 2 else {})) for i in range(1, 6)]
    best = {"step": 3, "valid_score": 0.3, "checkpoint": "epoch_0_step_3"}
    ringed = [chart.title for chart in draw_charts(steps, best) if "ring" in chart.svg]
    assert ringed == ["Validation score"]
    (chart,) = [chart for chart in draw_charts(steps, best) if chart.title == ringed[0]]
    # steps 1 to 5, scores 0.1 to 0.5 with 6 % around: 0.3 is the middle of both
    assert 'class="ring" cx="208.0" cy="' in chart.svg
    assert "best checkpoint, step 3</text>" in chart.svg
    assert not [chart for chart in draw_charts(steps) if "ring" in chart.svg]
    figures = {one.name: (one.value, one.remark) for one in key_figures(ReportData("t", best=best))}
    assert figures == {"Best validation score": ("+0.300", "at step 3: epoch_0_step_3")}


def test_area_chart_stacks():
    chart = area_chart("T", [0, 1], [Series("a", [1.0, 1.0]), Series("b", [3.0, None])])
    # the second series lies between 1 and 4, then between 1 and 1, of 4
    assert 'd="M46.0 10.0L370.0 127.0L370.0 127.0L46.0 127.0Z"' in chart.svg


def test_long_series_are_thinned_to_means():
    steps = list(range(1, 1001))
    chart = line_chart("T", steps, [Series("a", [float(step) for step in steps])])
    assert len(chart.steps) == 200  # buckets of five
    assert (chart.steps[0], chart.values[0][0]) == (5, 3.0)
    assert (chart.steps[-1], chart.values[0][-1]) == (1000, 998.0)


def test_interval_chart():
    svg = interval_chart([("<RM>", 0.5, [0.25, 0.75]), ("b", 0.0, None)], (0.0, 1.0))
    # 350 of 560 units wide, from 150
    assert 'x1="237.5" x2="412.5"' in svg
    assert 'cx="325.0"' in svg
    assert "&lt;RM&gt;" in svg
    assert svg.count("whisker") == 1


# -- figures, tables, warnings


def test_ends_are_means_of_tenths():
    steps = [{"step": i, "score": float(i)} for i in range(40)]
    assert ends(steps, "score") == (1.5, 37.5)
    assert ends(steps, "reward") is None
    assert ends([{"score": None}, {"score": 2.0}], "score") == (2.0, 2.0)


def test_change_rows_colour_only_clear_changes():
    rows = {row["name"]: row for row in change_rows(evaluation())}
    assert (rows["ROUGE-L"]["change"], rows["ROUGE-L"]["verdict"]) == ("+0.050", "up")
    assert rows["sacreBLEU"]["change"] == "−1.000"
    assert (rows["sacreBLEU"]["interval"], rows["sacreBLEU"]["verdict"]) == ("", "")
    assert rows["Length in words"]["verdict"] == ""


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"parse_rate": 0.5}, "Only 50% of the last critiques"),
        ({"unmatched_rate": 0.2}, "20% of the last quotes"),
        ({"rejected_share": 0.4}, "overruled the reward model"),
        ({"removed_mass": 0.4}, "probability mass was removed"),
        ({"kl": 13.0}, "far above --kl_target 6"),
        ({"score": -3.0}, "The score did not rise"),
        ({"explained_variance": -0.5}, "explains less than a constant"),
        ({"response_tokens": 90.0}, "from 40 to 90 tokens: read some, the score may reward"),
        ({"response_tokens": 15.0}, "from 40 to 15 tokens: read some, the policy may say less"),
        ({"value_error": float("inf")}, "Not finite in some steps: value_error"),
    ],
)
def test_warnings_of_a_run(more, text):
    steps = [step(i) for i in range(1, 6)]
    config = {"flags": {"kl_target": 6.0}}
    assert find_warnings(ReportData("t", config, steps)) == []
    found = find_warnings(ReportData("t", config, [*steps, step(6, **more)]))
    assert len(found) == 1
    assert text in found[0]


def test_warnings_about_quality():
    worse = {"difference": {"rougeL": {"value": -0.03, "interval": [-0.05, -0.01]}}}
    found = find_warnings(ReportData("t", evaluation=worse, reward_model=reward_report()))
    assert len(found) == 2
    assert "not clearly better than the baseline “Bag of words”" in found[0]
    assert "ROUGE-L on validation fell by 0.030" in found[1]


def test_key_figures_of_a_run():
    data = ReportData("t", {}, [step(1), step(2)], evaluation=evaluation())
    figures = {figure.name: (figure.value, figure.remark) for figure in key_figures(data)}
    assert figures["ROUGE-L"] == ("0.200 → 0.250", "+0.050 on validation")
    assert figures["Score per response"][0] == "0.000 → 1.000"
    assert figures["PPO steps"] == ("2", "4 min, 120.0 s per step")


def test_reward_model_identity_in_both_shapes():
    assert reward_model_identity({"reward_model": {"path": "a", "sha256": "b"}}) == ("a", "b")
    flat = {"reward_model": "a", "reward_model_sha256": "b"}
    assert reward_model_identity(flat) == ("a", "b")
    assert reward_model_identity({"flags": {"reward_model_name": "a"}}) == ("a", "")
    assert reward_model_identity({}) == ("", "")


def test_wording():
    assert flat_rows({"a": {"b": 1, "c": [1, 2]}, "d": None}) == [
        ("a.b", "1"),
        ("a.c", "1, 2"),
        ("d", ""),
    ]
    assert [number(value) for value in (None, 3, -0.25, 12.34)] == ["–", "3", "−0.250", "12.3"]
    assert (signed(0.5), signed(-0.5)) == ("+0.500", "−0.500")
    assert (pretty("rougeL"), pretty("all_good")) == ("ROUGE-L", "Everything good")
