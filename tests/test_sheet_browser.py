"""The sheet as a person uses it, in headless Chromium: select, mark, undo, go on, save, load."""

import json
import time

import pytest

from text2grad.annotation_sheet import import_sheet, write_sheet
from text2grad.config import SheetConfig, SheetImportConfig

ANSWER = "🙂 One two\r\nthree <b>four</b> five."
TEXT = "document.querySelector('[data-response]').textContent"
SAID = "document.querySelector('[data-said]').textContent"


@pytest.fixture
def page(tmp_path):
    data, path = tmp_path / "records.json", tmp_path / "sheet.html"
    name = tmp_path.name  # a sheet of its own: the browser keeps the work of each
    rows = [{"id": f"t{n}", "post": name, "generated_summary": ANSWER} for n in range(3)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    write_sheet(SheetConfig(data_path=str(data), output_path=str(path), seed=1))
    return path


def work(browser):
    """What the page would save, without what its records are."""
    return browser.value("saved().records.map(r => ({ ...r, id: undefined, sha256: undefined }))")


def marks(browser, number=0):
    return [(span["label"], span["text"]) for span in work(browser)[number]["spans"]]


def drag(browser, start, end):
    """Select by code, as a finger or a mouse would; the press on a label is real."""
    browser.value(f"choose({start}, {end})")
    browser.wait("chosen !== null")


def key(browser, name, shift=False):
    for kind in ("keyDown", "keyUp"):
        event = {"type": kind, "key": name, "modifiers": 8 if shift else 0}
        text = {"text": name} if kind == "keyDown" and len(name) == 1 else {}
        browser.call("Input.dispatchKeyEvent", **event, **text)


def test_marks_by_mouse_are_undone_replaced_and_removed(browser, page):
    browser.open(page)
    assert browser.troubles == []
    assert browser.value(TEXT) == ANSWER, "as it is, line ends and tags too"
    browser.click('[data-label="good"]')
    assert browser.value(SAID) == "Select words of the response first."
    drag(browser, 3, 11)
    browser.click('[data-label="good"]')
    assert marks(browser) == [("good", "One two")], "without the white space at its end"
    assert browser.value("document.querySelectorAll('.response mark.plus').length") == 1
    drag(browser, 7, 17)
    browser.click('[data-label="poor"]')
    assert marks(browser) == [("poor", "two\r\nthree")], "takes the place of what it overlaps"
    browser.click("[data-undo]")
    assert marks(browser) == [("good", "One two")]
    drag(browser, 0, 1)  # half of a face
    browser.click('[data-label="poor"]')
    assert marks(browser) == [("poor", "🙂"), ("good", "One two")]
    browser.click(".quotes button", 0)
    assert marks(browser) == [("good", "One two")]
    assert browser.value(TEXT) == ANSWER
    assert browser.troubles == []
    assert [url for url in browser.requests if not url.startswith("file:")] == []


def test_everything_goes_by_keyboard(browser, page):
    browser.open(page)
    browser.value("document.querySelector('[data-response]').focus()")
    for name, shift in (("ArrowRight", False), ("ArrowRight", False), ("ArrowRight", True)):
        key(browser, name, shift)
    browser.wait("getSelection().toString() === 'One two'")
    key(browser, "g")
    assert marks(browser) == [("good", "One two")]
    key(browser, "ArrowRight")
    key(browser, "p")
    assert marks(browser) == [("good", "One two"), ("poor", "three")]
    key(browser, "u")
    assert marks(browser) == [("good", "One two")]
    key(browser, "n")
    assert browser.value("document.querySelector('[data-title]').textContent") == "Response 2 of 3"
    key(browser, "b")
    key(browser, "d")
    assert browser.value("document.querySelector('[data-progress]').textContent") == "1 of 3 done"
    assert browser.value("document.querySelector('[data-title]').textContent") == "Response 2 of 3"
    browser.value("document.querySelector('[data-critique]').focus()")
    key(browser, "g")
    browser.wait("document.querySelector('[data-critique]').value === 'g'")
    assert marks(browser, 1) == [], "letters of a critique mark nothing"


def test_work_is_kept_saved_imported_and_loaded(browser, page, tmp_path):
    browser.open(page)
    drag(browser, 3, 6)
    browser.click('[data-label="good"]')
    browser.value("critique.value = 'Naïve 🙂.'; critique.dispatchEvent(new Event('input'))")
    browser.click("[data-finish]")
    browser.open(page)
    assert marks(browser) == [("good", "One")], "after the page was closed"
    shown = browser.value("document.querySelector('[data-title]').textContent")
    assert shown == "Response 2 of 3", "goes on with the first that is not done"
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.click("[data-save]")
    saved = tmp_path / "sheet.marks.json"
    until = time.monotonic() + 20
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.02)
    output = tmp_path / "human.json"
    import_sheet(
        SheetImportConfig(
            marks_path=str(saved),
            data_path=str(tmp_path / "records.json"),
            output_path=str(output),
        )
    )
    (row,) = json.loads(output.read_text(encoding="utf-8"))
    found = {key: row["spans"][0][key] for key in ("text", "start", "end")}
    assert found == {"text": "One", "start": 2, "end": 5}, "in characters, not UTF-16"
    assert row["textual_feedback"] == "Naïve 🙂."
    browser.value("localStorage.clear()")
    browser.open(page)
    assert marks(browser) == []
    text = json.dumps(saved.read_text(encoding="utf-8"))
    browser.value(f"load(new File([{text}], 'x.json'))")
    browser.wait(f"{SAID} === 'Loaded.'")
    assert marks(browser) == [("good", "One")]
    browser.value("load(new File(['{}'], 'x.json'))")
    browser.wait(f"{SAID} === 'That file was not saved from this sheet.'")
    assert browser.troubles == []


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(browser, page, width):
    browser.open(page, width=width, height=700)
    assert browser.value("document.documentElement.scrollWidth <= innerWidth")
    assert browser.value("document.querySelector('.bar').getBoundingClientRect().bottom <= 701")
