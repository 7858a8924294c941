"""The report: what is in the page, what is kept out of it, and its charts and warnings."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import text2grad.report as report_module
from text2grad.report import ReportConfig, build_report, render_report
from text2grad.report_data import read_judged, read_run, spread
from text2grad.report_page import SCRIPTS, embed_json
from text2grad.schema import UserError
from text2grad.tasks import get_task

TASK = get_task("slf5k")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!-- & \" ' {{ 7*7 }}"


class Page(HTMLParser):
    """Elements, visible text and the content of scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.text = [], [], [], ""
        self.inside = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data

    @property
    def payload(self):
        return json.loads(self.scripts[0])


def step(number, **more):
    row = {"step": number, "score": -1.0 + number, "reward": -1.5 + number, "kl": 0.5 * number}
    row |= {"parse_rate": 1.0, "unmatched_rate": 0.0, "response_tokens": 40.0}
    row |= {"seconds_rollout": 30.0, "seconds_update": 90.0, "tokens_per_second_rollout": 50.0}
    return row | more


def sample(number, **more):
    spans = [{"text": "cat", "label": "good", "start": 2, "end": 5, "match": "exact"}]
    row = {"step": number, "id": "7", "prompt": "a post", "response": "a cat", "critique": "ok"}
    row |= {"spans": spans, "tokens": ["a", " cat", ""], "scores": [0.0, 1.0, 0.0]}
    row |= {"rewards": [-0.1, 0.9, 0.0], "kl": [0.5, 0.5, 0.0], "advantages": [0.8, 1.0, -1.8]}
    return row | {"reward_total": 0.8, "unparseable": ""} | more


def reward_report():
    scores = {"precision": 0.5, "recall": None, "f1": 0.25, "gold": 2, "predicted": 4}
    tokens = {"good": scores, "poor": scores, "neutral": scores}
    tokens |= {"macro_f1": 0.25, "sign_accuracy": 0.5}
    spans = {"good": {**scores, "mean_iou": 0.1}, "poor": {**scores, "mean_iou": 0.1}}
    system = {"tokens": tokens, "spans": spans, "spans_exact": spans}
    counts = {"quotes": 4, "exact": 3, "normalised": 0, "fuzzy": 0, "unmatched": 1}
    return {
        "task": "slf5k",
        "unit": "words",
        "responses": 6,
        "posts": 3,
        "without_gold": 0,
        "gold_quotes": {**counts, "unmatched_rate": 0.25},
        "quotes": {**counts, "unmatched_rate": 0.25},
        "parse": {"rate": 0.5, "unparseable": {"truncated": 3}, "repairs": {"none": 2, "fence": 1}},
        "critique": {"reward_model": {"rouge1": 0.3, "rouge2": 0.1, "rougeL": 0.2}},
        "systems": {"reward_model": system, "bag_of_words": system},
        "macro_f1_interval": {"reward_model": [0.2, 0.3], "bag_of_words": None},
        "lead": {"bag_of_words": {"macro_f1": 0.01, "interval": [-0.02, 0.04]}},
    }


def evaluation():
    pair = {"id": "1", "prompt": "a post", "reference": "r", "before": "b", "after": "c"}
    return {
        "n": 1,
        "before": {"rougeL": 0.2, "mean_words": 40.0, "sacrebleu": 3.0},
        "after": {"rougeL": 0.25, "mean_words": 30.0, "sacrebleu": 2.0},
        "difference": {
            "rougeL": {"value": 0.05, "interval": [0.01, 0.09]},
            "mean_words": {"value": -10.0, "interval": [-12.0, -8.0]},
        },
        "samples": [pair],
    }


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"flags": {"task": "slf5k", "kl_target": 6.0, "seed": 42}, "commit": "abc"}
    config |= {"reward_model": "ckpt/rm", "reward_model_sha256": "c3ab8ff13720e8ad"}
    (folder / "config.json").write_text(json.dumps(config))
    steps = [step(1, valid_score=0.1), step(2), step(3, valid_score=0.2)]
    write_lines(folder / "metrics.jsonl", steps)
    write_lines(folder / "samples.jsonl", [sample(1), sample(2), sample(3)])
    (folder / "evaluation.json").write_text(json.dumps(evaluation()))
    best = {"step": 3, "valid_score": 0.2, "checkpoint": "epoch_0_step_3"}
    (folder / "best.json").write_text(json.dumps(best))
    return folder


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# -- the page


def test_a_damaged_marker_of_the_best_checkpoint_is_named(run_dir):
    (run_dir / "best.json").write_text('{"step": 3}')
    with pytest.raises(UserError, match=r'^--run_dir .*best.json: the key "valid_score" is miss'):
        read_run(run_dir)


@pytest.mark.parametrize("key", list(reward_report()))
def test_metrics_of_another_format_are_one_line(run_dir, tmp_path, key):
    """Whatever key of the reward model's metrics is of another kind, the page says which."""
    for foreign in ("x", [], None):
        if key in ("task", "without_gold") or (key == "unit" and foreign == "x"):
            continue
        path = tmp_path / "rm.json"
        path.write_text(json.dumps(reward_report() | {key: foreign}))
        with pytest.raises(UserError, match=f'^--reward_model_metrics {path}: the key "{key}" '):
            build_report(ReportConfig(run_dir=str(run_dir), reward_model_metrics=str(path)))


def test_page_of_a_whole_run(run_dir, tmp_path, capsys):
    metrics, qc = tmp_path / "rm.json", tmp_path / "qc.json"
    metrics.write_text(json.dumps(reward_report()))
    qc.write_text(json.dumps({"match": {"exact": 9}, "coverage": 0.5}))
    build_report(ReportConfig(run_dir=str(run_dir), reward_model_metrics=str(metrics), qc=str(qc)))
    path = run_dir / "report.html"
    assert capsys.readouterr().out.strip() == f"report: {path}"
    page = Page(path.read_text(encoding="utf-8"))
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert "best checkpoint, step 3" in page.text
    sections = {"glance", "curves", "reward-model", "before-after", "samples"}
    assert sections | {"alignment", "annotation", "configuration"} <= anchors
    for text in ("0.200 → 0.250", "ckpt/rm (c3ab8ff13720)", "Bag of words", "match.exact", "6 min"):
        assert text in page.text, text
    entry = page.payload["groups"][0][0]
    assert entry["tokens"] == ["a", " cat", ""]
    assert entry["values"]["advantage"] == [0.8, 1.0, -1.8]
    quote = {"text": "cat", "label": "good", "match": "exact", "sign": 1, "tokens": [1, 2]}
    assert entry["quotes"] == [quote]
    assert (entry["total"], entry["reward"], page.payload["prompts"]) == (1.0, 0.8, ["a post"])
    assert page.payload["pairs"] == {
        "titles": ["Human reference", "Before", "After"],
        "score": "",
        "rows": [{"prompt": "a post", "texts": ["r", "b", "c"], "scores": [None, None, None]}],
    }


def test_hostile_text_stays_text(run_dir):
    bad = {"text": HOSTILE, "label": HOSTILE, "match": HOSTILE}
    row = sample(1, id=HOSTILE, prompt=HOSTILE, critique=HOSTILE, spans=[bad], unparseable=HOSTILE)
    write_lines(run_dir / "samples.jsonl", [row | {"tokens": [HOSTILE, "\u2028\ud800"]}])
    pair = dict.fromkeys(("prompt", "reference", "before", "after"), HOSTILE)
    scores = {HOSTILE: 0.1}
    (run_dir / "evaluation.json").write_text(
        json.dumps({"before": scores, "after": scores, "samples": [pair]})
    )
    (run_dir / "config.json").write_text(json.dumps({"flags": {HOSTILE: HOSTILE, "task": HOSTILE}}))
    write_lines(run_dir / "metrics.jsonl", [step(i, **{f"seconds_{HOSTILE}": 1.0}) for i in (1, 2)])
    build_report(ReportConfig(run_dir=str(run_dir), title=HOSTILE))
    page = Page((run_dir / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 2
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    entry = page.payload["groups"][0][0]
    assert entry["tokens"] == [HOSTILE, "\u2028\ud800"]
    assert (entry["critique"], page.payload["prompts"]) == (HOSTILE, [HOSTILE])
    assert page.payload["pairs"]["rows"][0]["texts"] == [HOSTILE] * 3
    assert HOSTILE in page.text


def test_page_needs_no_network_and_allows_only_its_own_script(run_dir):
    html = render_report(read_run(run_dir, 500))
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\bfetch\(|innerHTML|\beval\(", html)
    page = Page(html)
    assert not [name for _, name, _ in page.attributes if name in ("src", "style")]
    links = [value for _, name, value in page.attributes if name == "href"]
    assert all(link.startswith("#") for link in links)
    policy = next(
        value for _, name, value in page.attributes if name == "content" and "src" in value
    )
    digest = hashlib.sha256(page.scripts[1].encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert policy.startswith("default-src 'none'")
    style = re.search(r"<style>(.*?)</style>", html, re.S)[1]
    digest = hashlib.sha256(style.encode()).digest()
    assert f"style-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_templates_hold_no_closing_tag_that_would_end_them_early():
    folder = Path(report_module.__file__).parent / "templates"
    for name in SCRIPTS:
        assert "</script" not in (folder / name).read_text()
    assert "</style" not in (folder / "report.css").read_text()


def test_missing_parts_are_left_out(tmp_path):
    write_lines(tmp_path / "metrics.jsonl", [step(1)])
    page = Page(render_report(read_run(tmp_path, 0)))
    anchors = {value for _, name, value in page.attributes if name == "id"}
    assert "glance" in anchors
    assert not {"curves", "samples", "before-after", "reward-model", "configuration"} & anchors
    assert page.payload["groups"] == page.payload["charts"] == []
    assert page.payload["pairs"] == {}


def test_values_that_json_cannot_say_become_null():
    text = str(embed_json({"a": [float("nan"), float("inf"), 1.5], "b": "<!--"}))
    assert text == '{"a":[null,null,1.5],"b":"\\u003c!--"}'


# -- reading


def test_torn_and_repeated_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_lines(path, [step(1), step(2, score=9.0), step(2, score=5.0)])
    path.write_text(path.read_text() + '{"step": 3, "sco')
    assert [row["score"] for row in read_run(tmp_path, 0).steps] == [0.0, 5.0]
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 1 is not JSON"):
        read_run(tmp_path, 0)


def test_unusable_arguments(tmp_path):
    for flags in ({}, {"run_dir": "a", "data_path": "b"}):
        with pytest.raises(UserError, match="either --run_dir or"):
            ReportConfig(**flags)
    with pytest.raises(UserError, match=r"holds no metrics\.jsonl"):
        read_run(tmp_path, 0)
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.json: line 1 is not JSON"):
        read_run(tmp_path, 0)
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()))
    with pytest.raises(UserError, match="--qc nope: no such file"):
        build_report(ReportConfig(run_dir=str(tmp_path), qc="nope"))


def test_unparseable_sample_has_no_scores(run_dir):
    row = sample(1, scores=None, rewards=None, advantages=None, spans=[], unparseable="truncated")
    write_lines(run_dir / "samples.jsonl", [row])
    entry = read_run(run_dir, 0).entries[0]
    assert entry["values"] == {"kl": [0.5, 0.5, 0.0]}
    assert (entry["total"], entry["note"]) == (None, "no usable critique: truncated")


def judged_file(tmp_path, rows):
    path = tmp_path / "judged.json"
    path.write_text(json.dumps(rows))
    return path


def test_judged_file_is_cut_at_span_borders(tmp_path):
    base = {"post": "p", "generated_summary": "one two three four"}
    said = {"textual_feedback": "x", "good_spans": ["one two three"], "poor_spans": ["three four"]}
    gold = {"textual_feedback": "y", "good_spans": [], "poor_spans": ["one"]}
    rows = [
        {"id": "1", **base, **said, "gold": gold},
        {"id": "2", **base, "unparseable": "truncated", "reply": "{ I", "gold": gold},
        {"id": "3", **base},
    ]
    path = judged_file(tmp_path, rows)
    data = read_judged(path, TASK, 0)
    first, second = data.entries
    assert first["tokens"] == ["one two ", "three", " four"]
    assert first["values"]["score"] == [1.0, -1.0, -1.0]  # poor wins where they overlap
    assert first["gold"]["values"]["score"] == [-1.0, 0.0]
    assert (second["note"], second["critique"]) == ("unreadable reply: truncated", "{ I")
    assert second["values"] == {}
    figures = {name: value for name, value, _ in data.figures}
    assert figures == {
        "Responses": "2",
        "Readable": "50.0%",
        "Quotes": "2",
        "Quotes not in the response": "0.0%",
        "Coverage": "100.0%",
    }
    build_report(ReportConfig(data_path=str(path)))
    assert "judged.json" in (tmp_path / "judged.html").read_text()


def test_tokens_of_an_aligned_file_are_shown_as_they_are(tmp_path):
    row = {"post": "p", "generated_summary": "one two", "good_spans": ["one"], "poor_spans": []}
    aligned = {"tokens": ["o", "ne", " two"], "token_scores": [1.0, 1.0, 0.0]}
    rewritten = {"tokens": ["ONE", " TWO"], "token_scores": [1.0, 0.0]}
    rows = [{"id": "1", **row, **aligned}, {"id": "2", **row, **rewritten}]
    data = read_judged(judged_file(tmp_path, rows), TASK, 0)
    first, second = data.entries
    assert (first["tokens"], first["values"]) == (["o", "ne", " two"], {"score": [1, 1, 0]})
    assert first["quotes"][0]["tokens"] == [0, 2]
    assert second["tokens"] == ["one", " two"], "tokens of another text are not the response's"
    assert data.health["tokens"] == 3


def test_judged_file_without_feedback(tmp_path):
    path = judged_file(tmp_path, [{"post": "p", "generated_summary": "one"}])
    with pytest.raises(UserError, match="no record has feedback"):
        read_judged(path, TASK, 0)


def test_spread_is_even():
    assert spread(range(9), 3) == [1, 4, 7]
    assert spread([1, 2], 3) == spread([1, 2], 0) == [1, 2]
    assert len(set(spread(range(1000), 500))) == 500
