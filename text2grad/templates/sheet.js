// -- a person's marks; offsets are those of JavaScript until they are saved

const STORE = `text2grad-sheet-${data.sheet}`;
const node = (name) => document.querySelector(`[data-${name}]`);
const response = node("response"), critique = node("critique"), done = node("done");
const labelOf = Object.fromEntries(data.labels.map((label) => [label.name, label]));
const work = data.records.map(() => ({ spans: [], critique: "", done: false }));
const past = data.records.map(() => []); // earlier spans of each response, for undo
let place = 0;
let chosen = null; // what is selected in the response, [start, end)
let kept = true; // whether this browser keeps the work

const say = (text) => { node("said").textContent = text; };

const keep = () => {
  try {
    localStorage.setItem(STORE, JSON.stringify(work));
    kept = true;
  } catch {
    kept = false;
    say("This browser does not keep your marks: save them to a file before you close the page.");
  }
};
const restore = () => {
  try {
    JSON.parse(localStorage.getItem(STORE) || "[]").forEach((own, i) => {
      if (i < work.length) Object.assign(work[i], own);
    });
  } catch { /* damaged or not allowed: start anew */ }
};

// -- the response: text between marks, and places in it

const showResponse = () => {
  const text = data.records[place].response, parts = [];
  let at = 0;
  for (const span of [...work[place].spans].sort((a, b) => a.start - b.start)) {
    parts.push(text.slice(at, span.start));
    const mark = make("mark", labelOf[span.label].side, text.slice(span.start, span.end));
    mark.title = labelOf[span.label].title;
    parts.push(mark);
    at = span.end;
  }
  response.replaceChildren(...parts, text.slice(at));
};

// text node and offset in it of a place in the response
const pointAt = (offset) => {
  const walker = document.createTreeWalker(response, NodeFilter.SHOW_TEXT);
  let text = walker.nextNode();
  while (text && offset > text.length) {
    offset -= text.length;
    text = walker.nextNode();
  }
  return text ? [text, offset] : [response, 0];
};
const choose = (start, end) => getSelection().setBaseAndExtent(...pointAt(start), ...pointAt(end));

// without white space at the ends, and with whole characters
const trimmed = (text, start, end) => {
  while (start < end && /\s/.test(text[start])) start += 1;
  while (start < end && /\s/.test(text[end - 1])) end -= 1;
  if (start > 0 && /[\uDC00-\uDFFF]/.test(text[start]) && /[\uD800-\uDBFF]/.test(text[start - 1])) start -= 1;
  if (end < text.length && /[\uDC00-\uDFFF]/.test(text[end]) && /[\uD800-\uDBFF]/.test(text[end - 1])) end += 1;
  return start < end ? [start, end] : null;
};
const readSelection = () => {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0).cloneRange(), whole = document.createRange();
  if (!range.intersectsNode(response)) return null;
  whole.selectNodeContents(response);
  if (range.compareBoundaryPoints(Range.START_TO_START, whole) < 0) range.setStart(response, 0);
  if (range.compareBoundaryPoints(Range.END_TO_END, whole) > 0) range.setEnd(response, response.childNodes.length);
  whole.setEnd(range.startContainer, range.startOffset);
  const start = whole.toString().length;
  return trimmed(data.records[place].response, start, start + range.toString().length);
};
document.addEventListener("selectionchange", () => {
  const now = readSelection(), inside = response.contains(getSelection().anchorNode);
  if (now || inside) chosen = now; // a press on a button may take the selection away
});

// -- what is shown

const showMarks = () => {
  const text = data.records[place].response;
  node("marks").replaceChildren(...work[place].spans.map((span) => {
    const item = make("li", labelOf[span.label].side, text.slice(span.start, span.end));
    const remove = make("button", "", "remove");
    remove.type = "button";
    remove.addEventListener("click", () => change(work[place].spans.filter((one) => one !== span), "Removed."));
    item.append(make("span", "tag", labelOf[span.label].title), remove);
    return item;
  }));
  node("undo").disabled = !past[place].length;
};
const showProgress = () => {
  const count = work.filter((own) => own.done).length;
  node("progress").textContent = `${count} of ${work.length} done`;
  node("bar").value = count;
  work.forEach((own, i) => { node("place").options[i].textContent = `${i + 1}${own.done ? " ✓" : ""}`; });
};
const show = () => {
  const record = data.records[place];
  node("prompt").textContent = record.prompt;
  if (node("reference")) node("reference").textContent = record.reference;
  node("title").textContent = `Response ${place + 1} of ${work.length}`;
  node("place").value = String(place);
  critique.value = work[place].critique;
  done.checked = work[place].done;
  chosen = cursor = null;
  showResponse();
  showMarks();
  showProgress();
};
const go = (to) => {
  place = Math.min(work.length - 1, Math.max(0, to));
  say("");
  show();
  node("prompt").scrollTop = 0;
};

// -- what a person does

const change = (spans, text) => {
  past[place].push(work[place].spans);
  work[place].spans = spans;
  finishChange(text);
};
const finishChange = (text) => {
  getSelection().removeAllRanges();
  chosen = null;
  say(text);
  keep();
  showResponse();
  showMarks();
};
const mark = (label) => {
  if (!chosen) {
    say("Select words of the response first.");
    return;
  }
  const [start, end] = chosen;
  const apart = work[place].spans.filter((one) => one.end <= start || end <= one.start);
  change([...apart, { label, start, end }].sort((a, b) => a.start - b.start), `Marked ${labelOf[label].title}.`);
  cursor = [start, end];
};
const undo = () => {
  if (!past[place].length) return;
  work[place].spans = past[place].pop();
  finishChange("Undone.");
};
const setDone = (value) => {
  work[place].done = value;
  keep();
  showProgress();
};
const finish = () => {
  setDone(true);
  const after = work.map((_, i) => (place + 1 + i) % work.length).find((i) => !work[i].done);
  if (after === undefined) {
    show();
    say("All responses are done: save the marks to a file.");
  } else go(after);
};

// -- words by the arrow keys

const wordsOf = (text) => {
  if (!("Segmenter" in Intl)) return [...text.matchAll(/\S+/g)].map((one) => [one.index, one.index + one[0].length]);
  const parts = [...new Intl.Segmenter(undefined, { granularity: "word" }).segment(text)];
  return parts.filter((one) => one.segment.trim()).map((one) => [one.index, one.index + one.segment.length]);
};
let cursor = null; // the words chosen last; the first number is where Shift began
response.addEventListener("keydown", (event) => {
  const words = wordsOf(data.records[place].response);
  if (!words.length || event.ctrlKey || event.metaKey || event.altKey) return;
  const last = words.length - 1, [from, to] = chosen || cursor || [0, 0];
  const before = words.findLastIndex((word) => word[0] < from), after = words.findIndex((word) => word[0] >= to);
  const at = {
    ArrowRight: to && after < 0 ? last : Math.max(0, after), ArrowLeft: Math.max(0, before), Home: 0, End: last,
  }[event.key];
  if (at === undefined) return;
  event.preventDefault();
  const [start, end] = words[at];
  cursor = event.shiftKey && chosen ? [Math.min(from, start), Math.max(to, end)] : [start, end];
  choose(...cursor);
  chosen = cursor;
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("textarea, select, input");
  if (typing || event.altKey || event.metaKey) return;
  if (event.ctrlKey) {
    if (event.key !== "z") return;
    event.preventDefault();
    undo();
    return;
  }
  const label = data.labels.find((one, i) => event.key === one.key || event.key === String(i + 1));
  const act = { u: undo, n: () => go(place + 1), b: () => go(place - 1), d: finish }[event.key];
  if (label) mark(label.name);
  else if (act) act();
  else return;
  event.preventDefault();
});

// -- the file: characters are counted as code points

const points = (text) => Array.from(text).length;
const units = (text, count) => Array.from(text).slice(0, count).join("").length;
const saved = () => ({
  format: data.format, task: data.task, sheet: data.sheet, saved_at: new Date().toISOString(),
  records: data.records.map((record, i) => ({
    id: record.id, sha256: record.sha256, done: work[i].done, critique: work[i].critique,
    spans: work[i].spans.map((span) => {
      const start = points(record.response.slice(0, span.start)), text = record.response.slice(span.start, span.end);
      return { text, label: span.label, start, end: start + points(text) };
    }),
  })),
});
const save = () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(saved(), null, 1)], { type: "application/json" }));
  link.download = `${data.name}.marks.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  say(`${work.filter((own) => own.done).length} of ${work.length} responses are done in the file.`);
};
const load = async (file) => {
  let found;
  try { found = JSON.parse(await file.text()); } catch { found = null; }
  if (!found || found.sheet !== data.sheet || found.records?.length !== work.length) {
    say("That file was not saved from this sheet.");
    return;
  }
  found.records.forEach((own, i) => {
    const text = data.records[i].response;
    const spans = own.spans.filter((span) => labelOf[span.label])
      .map((span) => ({ label: span.label, start: units(text, span.start), end: units(text, span.end) }));
    work[i] = { spans, critique: own.critique, done: own.done };
    past[i] = [];
  });
  keep();
  show();
  say("Loaded.");
};

data.records.forEach((_, i) => {
  const option = make("option");
  option.value = String(i);
  node("place").append(option);
});
node("place").addEventListener("change", (event) => go(Number(event.target.value)));
document.querySelectorAll("[data-go]").forEach((button) => {
  button.addEventListener("click", () => go(place + Number(button.dataset.go)));
});
document.querySelectorAll(".bar button").forEach((button) => {
  button.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the selection
  button.addEventListener("click", () => (button.dataset.label ? mark(button.dataset.label) : undo()));
});
critique.addEventListener("input", () => {
  work[place].critique = critique.value;
  keep();
});
done.addEventListener("change", () => setDone(done.checked));
node("finish").addEventListener("click", finish);
node("save").addEventListener("click", save);
node("load").addEventListener("change", (event) => {
  if (event.target.files.length) load(event.target.files[0]);
  event.target.value = "";
});
window.addEventListener("beforeunload", (event) => { if (!kept) event.preventDefault(); });

restore();
place = Math.max(0, work.findIndex((own) => !own.done));
show();
