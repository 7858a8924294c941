"""The report's page as a reader meets it, in headless Chromium."""

import json
import random
import time
from pathlib import Path

import pytest
from test_report import HOSTILE, evaluation, reward_report, sample, step
from test_report_compare import write_run

from text2grad.report import ReportConfig, build_report

MAX_SECONDS = 1.0
CODE = 'def f():\n    """🙂 🙂"""\n    return 🙂'
TOKENS = '[data-list="entries"] .t'


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of each kind: one run, two runs, a file."""
    folder = tmp_path_factory.mktemp("pages")
    rows = [sample(i, id=f"{i}", logp=[-0.5, -0.69315, None]) for i in range(1, 31)]
    rows[1] |= {"spans": [{"text": "cow", "label": "poor", "match": "unmatched"}]}
    rows[2] |= {"scores": [0.0, -1.0, 0.0], "critique": "not good"}
    steps = [step(i, warnings=["the KL is far"] * (i == 2)) for i in range(1, 31)]
    one = write_run(folder / "one", steps, rows, seed=1)
    two = write_run(folder / "two", steps[:20], rows[5:], seed=2)
    metrics, judged = folder / "metrics.json", folder / "judged.json"
    metrics.write_text(json.dumps(reward_report()))
    said = {"textual_feedback": "x", "good_spans": ["one two"], "poor_spans": ["four"]}
    record = {"id": "1", "post": "p", "generated_summary": "one two three four", **said}
    judged.write_text(json.dumps([record | {"gold": said}]))
    build_report(ReportConfig(run_dir=one, reward_model_metrics=str(metrics)))
    build_report(ReportConfig(run_dir=one, compare_dir=(two,)))
    build_report(ReportConfig(data_path=str(judged)))
    code = evaluation() | {
        "tests": {"after": {"responses": 1, "solved": 0, "checks": 2, "held": 1}}
    }
    start = CODE.index("return")
    tested = {"outcome": "test_failure", "checks": 2, "held": 1, "critique": "It returns a face."}
    tested |= {"faults": [[start, len(CODE)]]}
    code["samples"] = [{"id": "1", "prompt": "p", "after": CODE, "after_tests": tested}]
    (folder / "code").mkdir()
    (folder / "code" / "evaluation.json").write_text(json.dumps(code))
    build_report(ReportConfig(run_dir=str(folder / "code")))
    names = {
        "code": "code/report.html",
        "run": "one/report.html",
        "two": "one/comparison.html",
        "file": "judged.html",
    }
    return {kind: folder / name for kind, name in names.items()}


def tip(browser):
    """What stands beside the token, None if nothing does."""
    return browser.value("tip.hidden ? null : tip.textContent")


def words(browser):
    return " ".join(tip(browser).split())


def inside_window(browser):
    return browser.value(
        "(() => { const box = tip.getBoundingClientRect(); return box.left >= 0 && box.top >= 0"
        " && box.right <= innerWidth && box.bottom <= innerHeight; })()"
    )


def shown_steps(browser):
    heads = browser.value(
        "[...document.querySelectorAll('[data-list=\"entries\"] article .head b')]"
        ".map((node) => node.textContent)"
    )
    return heads[::5]  # step, id, score, reward, tokens


def choose(browser, label, value):
    browser.value(
        f"(() => {{ const node = document.querySelector('[aria-label=\"{label}\"]');"
        f"node.value = {json.dumps(value)}; node.dispatchEvent(new Event('change')); }})()"
    )


# -- one token


@pytest.mark.parametrize("way", ["mouse", "touch"])
def test_pointing_at_a_token_shows_all_its_numbers(browser, pages, way):
    browser.open(pages["run"], width=1280 if way == "mouse" else 390)
    move = browser.point if way == "mouse" else browser.tap
    move(TOKENS, 1)
    browser.wait("!tip.hidden")
    # exp(-0.69315) is a half
    assert words(browser) == (
        '" cat"score +1 advantage +1 reward +0.900 kl +0.500 probability 0.500 good: “cat”'
    )
    assert inside_window(browser)
    browser.point("h1") if way == "mouse" else browser.tap("h1")
    assert tip(browser) is None


def test_arrow_keys_go_from_token_to_token(browser, pages):
    browser.open(pages["run"])
    browser.value("document.querySelector('[data-list=\"entries\"] .text').focus()")
    browser.press("ArrowRight")
    assert words(browser).startswith('"a"score 0 advantage +0.800')
    browser.press("ArrowRight")
    assert words(browser).startswith('" cat"score +1')
    browser.press("End")
    assert words(browser).startswith('""score 0 advantage −1.800')
    assert inside_window(browser)
    browser.press("ArrowRight")
    assert words(browser).startswith('""score 0'), "the last stays the last"
    browser.press("Escape")
    assert tip(browser) is None


def test_colours_follow_the_chosen_value(browser, pages):
    browser.open(pages["run"])
    colour = f"getComputedStyle(document.querySelectorAll('{TOKENS}')[2]).backgroundColor"
    plain = browser.value(colour)
    assert plain == "rgba(0, 0, 0, 0)", "the end has no score"
    browser.click('[data-controls="entries"] .group button', 1)
    assert browser.value(colour) != plain, "but an advantage"
    assert "made less likely" in browser.value("document.querySelector('.legend').textContent")
    browser.click('[data-controls="entries"] .group button', 3)
    assert browser.value(colour) == plain, "and no KL"
    hidden = "document.querySelector('[data-legend=\"minus\"]').parentElement.hidden"
    assert browser.value(hidden), "KL is never below 0 here"


def test_pointing_at_a_quote_marks_its_tokens(browser, pages):
    browser.open(pages["run"])
    browser.point('[data-list="entries"] .quotes li')
    marked = "[...document.querySelectorAll('.t.quoted')].map((node) => node.textContent)"
    assert browser.value(marked) == [" cat"]


# -- many responses


def test_filters_and_search(browser, pages):
    browser.open(pages["run"])
    assert shown_steps(browser) == [str(i) for i in range(1, 13)]
    choose(browser, "Which", "unmatched")
    assert shown_steps(browser) == ["2"]
    choose(browser, "Which", "low")
    assert shown_steps(browser) == ["3"]
    choose(browser, "Which", "all")
    choose(browser, "Step", "30")
    assert shown_steps(browser) == ["30"]
    choose(browser, "Step", "")
    choose(browser, "Order", "late")
    assert shown_steps(browser)[:2] == ["30", "29"]
    search = "document.querySelector('[data-controls=\"entries\"] input')"
    browser.value(f"{search}.value = 'NOT good'; {search}.dispatchEvent(new Event('input'))")
    count = "document.querySelector('[data-controls=\"entries\"] .count').textContent"
    browser.wait(f"{count} === '1 of 30'", 10)
    assert shown_steps(browser) == ["3"]
    browser.value(f"{search}.value = 'nowhere'; {search}.dispatchEvent(new Event('input'))")
    browser.wait(f"{count} === '0 of 30'", 10)
    assert shown_steps(browser) == []


def big_run(folder):
    """500 responses of 60 tokens, every value logged."""
    chance = random.Random(0)
    rows = []
    for number in range(500):
        tokens = [f" {chance.choice(('alpha', 'beta', 'gamma'))}" for _ in range(60)]
        values = [round(chance.gauss(0, 1), 4) for _ in tokens]
        quote = {"text": "".join(tokens[:9]).strip(), "label": "good", "match": "exact"}
        quote |= {"start": 1, "end": len("".join(tokens[:9]))}
        row = sample(number, id=str(number), prompt=f"{number} " + "word " * 150, tokens=tokens)
        row |= {"response": "".join(tokens), "spans": [quote], "critique": "said " * 30}
        row |= dict.fromkeys(("scores", "rewards", "kl", "advantages", "logp"), values)
        rows.append(row)
    return write_run(folder, [step(i) for i in range(500)], rows)


def test_500_responses_open_in_under_a_second(browser, tmp_path):
    build_report(ReportConfig(run_dir=big_run(tmp_path / "big")))
    page = tmp_path / "big" / "report.html"
    assert page.stat().st_size < 4_000_000
    seconds = []
    for _ in range(5):  # the best of five: another process may hold the processor
        browser.open(page)
        browser.wait("performance.getEntriesByType('paint').length > 0")
        painted, loaded = browser.value(
            "[performance.getEntriesByType('paint').at(-1).startTime,"
            " performance.timing.loadEventEnd - performance.timing.navigationStart]"
        )
        seconds.append(max(painted, loaded) / 1000)
    assert browser.value("data.groups.length") == 500
    assert (
        0
        < browser.value("document.querySelectorAll('[data-list=\"entries\"] article').length")
        < 50
    )
    assert min(seconds) < MAX_SECONDS, seconds
    started = time.perf_counter()
    choose(browser, "Order", "late")
    browser.click('[data-controls="entries"] .group button', 1)
    assert browser.value("document.querySelector('[data-list=\"entries\"] b').textContent") == "499"
    assert time.perf_counter() - started < 2 * MAX_SECONDS


# -- every page


@pytest.mark.parametrize("kind", ["run", "two", "file"])
def test_nothing_is_asked_for_and_nothing_goes_wrong(browser, pages, kind):
    browser.open(pages[kind])
    browser.value("document.querySelectorAll('button.more').forEach((node) => node.click())")
    assert browser.troubles == []
    assert browser.requests == [pages[kind].as_uri()]


@pytest.mark.parametrize("kind", ["run", "two", "file"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_is_wider_than_its_window(browser, pages, kind, width):
    browser.open(pages[kind], width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelector('.t').getBoundingClientRect().right") <= width


CONTRAST = """(() => {
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\\d.]+/g).map(Number);
    return { rgb: text.startsWith('color') ? [r, g, b] : [r, g, b].map((c) => c / 255), alpha };
  };
  const light = (rgb) => rgb.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    if (!node) return [1, 1, 1];
    const { rgb, alpha } = parse(getComputedStyle(node).backgroundColor);
    if (alpha === 1) return rgb;
    const below = ground(node.parentElement);
    return rgb.map((c, i) => alpha * c + (1 - alpha) * below[i]);
  };
  return [...document.querySelectorAll('h1, dt, dd, nav a, .name, .value, .warnings li, th, td, '
    + 'figcaption span, .hint, .legend span, .head, summary, h4, .plain, .t, .tag, button')]
    .filter((node) => node.textContent.trim() && !node.closest('[hidden]'))
    .map((node) => {
      const [a, b] = [light(parse(getComputedStyle(node).color).rgb), light(ground(node))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 90)];
    }).sort((a, b) => a[0] - b[0])[0];
})()"""


@pytest.mark.parametrize("kind", ["run", "two", "file"])
@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(browser, pages, kind, dark):
    """WCAG AA: at least 4.5 between text and what it stands on."""
    browser.open(pages[kind], dark=dark)
    for view in range(browser.value("document.querySelectorAll('.group button').length") or 1):
        browser.value(f"document.querySelectorAll('.group button')[{view}]?.click()")
        ratio, where = browser.value(CONTRAST)
        assert ratio >= 4.5, where
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 384) is dark


def test_a_reader_can_choose_light_or_dark(browser, pages):
    paper = "getComputedStyle(document.body).backgroundColor"
    pressed = "document.querySelector('.theme [aria-pressed=\"true\"]').textContent"
    browser.open(pages["run"], dark=True)
    dark = browser.value(paper)
    assert browser.value(pressed) == "Dark"
    browser.click(".theme button", 0)
    light = browser.value(paper)
    assert light != dark
    assert browser.value(pressed) == "Light"
    browser.open(pages["run"], dark=True)
    assert browser.value(paper) == light, "the choice outlives the page"
    browser.click(".theme button", 1)
    browser.prefer(dark=False)
    assert browser.value(paper) == dark, "and goes before the system's"
    browser.value("localStorage.clear()")


def test_charts_say_their_values(browser, pages):
    browser.open(pages["two"])
    browser.value("document.querySelector('[data-chart] svg').focus()")
    browser.press("Home")
    assert words(browser) == "step 1one 0 two 0"  # the score is -1 + step
    browser.press("End")
    assert words(browser) == "step 30one 29.0 two –".replace("29.0", "29")
    browser.point("[data-chart] svg")
    assert words(browser).startswith("step 1")


def test_before_and_after_stand_side_by_side(browser, pages):
    browser.open(pages["run"])
    titles = (
        "[...document.querySelectorAll('[data-list=\"pairs\"] h4')].map((n) => n.firstChild.data)"
    )
    lefts = (
        "[...document.querySelectorAll('[data-list=\"pairs\"] h4')]"
        ".map((n) => n.getBoundingClientRect().left)"
    )
    assert browser.value(titles) == ["Human reference", "Before", "After"]
    places = browser.value(lefts)
    assert places == sorted(set(places)), "from left to right"
    browser.resize(390, 900)
    assert len(set(browser.value(lefts))) == 1, "one below the other on a telephone"


def test_faults_of_code_are_marked_where_they_are(browser, pages):
    browser.open(pages["code"])
    marks = "[...document.querySelectorAll('[data-list=\"pairs\"] mark')].map((n) => n.textContent)"
    assert browser.value(marks) == ["return 🙂"], "whatever stands before it takes two units"
    text = "document.querySelector('[data-list=\"pairs\"] pre').textContent"
    assert browser.value(text) == CODE
    assert browser.value("document.querySelector('#tests td').textContent") == "0 of 1"
    assert "Hardly any" in browser.value("document.querySelector('#tests p').textContent")


def test_runs_stand_side_by_side(browser, pages):
    browser.open(pages["two"])
    count = "document.querySelector('[data-controls=\"entries\"] .count').textContent"
    assert browser.value(count) == "25 of 25", "the prompts that both runs had"
    heads = (
        "[...document.querySelector('.runs').children].map((n) => n.querySelector('b').textContent)"
    )
    assert browser.value(heads) == ["one", "two"]


def test_predicted_and_annotated_are_both_shown(browser, pages):
    browser.open(pages["file"])
    texts = (
        "[...document.querySelectorAll('[data-list=\"entries\"] .text')].map((n) => n.textContent)"
    )
    assert browser.value(texts) == ["one two three four"] * 2
    browser.point(TOKENS, 0)
    assert words(browser) == '"one two"score +1 good: “one two”'


def test_hostile_content_is_shown_and_never_run(browser, tmp_path):
    evil = HOSTILE + "<svg onload=alert(3)><style>*{display:none}</style>"
    bad = {"text": evil, "label": "good", "start": 0, "end": len(evil), "match": "exact"}
    row = sample(1, id=evil, prompt=evil, critique=evil, spans=[bad], unparseable=evil)
    row |= {"response": evil, "tokens": [evil], "scores": [1.0], "logp": [-1.0]}
    run = write_run(tmp_path / "run", [step(1, warnings=[evil]), step(2)], [row], seed=evil)
    pair = dict.fromkeys(("prompt", "reference", "before", "after"), evil)
    Path(run, "evaluation.json").write_text(json.dumps(evaluation() | {"samples": [pair]}))
    build_report(ReportConfig(run_dir=run, title=evil))
    browser.open(Path(run, "report.html"))
    for summary in range(2):
        browser.click("article summary", summary)
    browser.wait("document.querySelectorAll('article .prompt p').length === 2", 10)
    browser.point(TOKENS, 0)
    assert evil[:30] in tip(browser)
    shown = browser.value("document.querySelector('[data-list=\"entries\"] article').innerText")
    assert shown.count(evil) >= 4
    assert browser.value("document.querySelectorAll('script').length") == 2
    assert browser.value("document.querySelectorAll('main img, main style').length") == 0
    assert browser.troubles == []
    assert browser.requests == [Path(run, "report.html").as_uri()]
