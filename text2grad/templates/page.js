"use strict";

// Everything that a model or a data file wrote gets into the page as text, never as markup.

const data = JSON.parse(document.getElementById("payload").textContent);
const tip = document.getElementById("tip");

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined && text !== null) node.textContent = text;
  return node;
};
const number = (value) => {
  if (value == null) return "–";
  const size = Math.abs(value);
  const text = Number.isInteger(value) || size >= 1000 ? value.toFixed(0)
    : size >= 10 ? value.toFixed(1) : size < 0.01 ? value.toFixed(4) : value.toFixed(3);
  return text.replace("-", "−");
};
const signed = (value) => (value > 0 ? "+" : "") + number(value);

// -- light and dark: what the system asks for, until the reader chooses

const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
const themeButtons = document.querySelectorAll(".theme button");
let chosenTheme = null;
const showTheme = () => {
  if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
  const now = chosenTheme || (systemDark.matches ? "dark" : "light");
  for (const button of themeButtons) button.setAttribute("aria-pressed", String(button.dataset.theme === now));
};
try {
  chosenTheme = { light: "light", dark: "dark" }[localStorage.getItem("text2grad-theme")] || null;
} catch { /* a page without storage forgets the choice */ }
for (const button of themeButtons) {
  button.addEventListener("click", () => {
    chosenTheme = button.dataset.theme;
    try { localStorage.setItem("text2grad-theme", chosenTheme); } catch { /* likewise */ }
    showTheme();
  });
}
systemDark.addEventListener("change", showTheme);
document.querySelector(".theme").hidden = false;
showTheme();

// -- the numbers beside what is pointed at

let anchor = null; // gives the box on the screen that the text belongs to

const placeTip = () => {
  if (!anchor) return;
  const box = anchor(), width = tip.offsetWidth, height = tip.offsetHeight;
  const left = Math.min(box.left, window.innerWidth - width - 8);
  const above = box.bottom + 8 + height > window.innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above ? box.top - height - 8 : box.bottom + 8}px`;
};
const showTip = (boxOf, title, lines) => {
  anchor = boxOf;
  tip.replaceChildren(make("b", "", title), lines.join("\n"));
  tip.hidden = false;
  placeTip();
};
const hideTip = () => {
  anchor = null;
  tip.hidden = true;
};

// -- charts

const wireChart = (figure) => {
  const chart = data.charts[Number(figure.dataset.chart)];
  const svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor");
  const first = chart.steps[0], last = chart.steps[chart.steps.length - 1];
  const wide = Math.max(...chart.names.map((name) => name.length));
  let now = chart.steps.length - 1;
  const show = (index) => {
    now = Math.min(chart.steps.length - 1, Math.max(0, index));
    const at = (chart.steps[now] - first) / ((last - first) || 1);
    const share = chart.left + at * (chart.right - chart.left);
    const x = share * svg.viewBox.baseVal.width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
    const lines = chart.names.map((name, i) => `${name.padEnd(wide)}  ${number(chart.values[i][now])}`);
    showTip(() => {
      const box = svg.getBoundingClientRect();
      return { left: box.left + share * box.width + 10, top: box.top, bottom: box.top + box.height / 2 };
    }, `step ${chart.steps[now]}`, lines);
  };
  const hide = () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - chart.left) / (chart.right - chart.left);
    const wanted = first + Math.min(1, Math.max(0, share)) * (last - first);
    let best = 0;
    chart.steps.forEach((step, i) => {
      if (Math.abs(step - wanted) < Math.abs(chart.steps[best] - wanted)) best = i;
    });
    show(best);
  };
  svg.tabIndex = 0;
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("click", follow);
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: chart.steps.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
};

// -- lists that grow while one scrolls

const buildList = (name, page, render) => {
  const list = document.querySelector(`[data-list="${name}"]`);
  const more = make("button", "more", "Show more");
  let chosen = [], shown = 0;
  const grow = () => {
    list.append(...chosen.slice(shown, shown + page).map(render));
    shown = Math.min(chosen.length, shown + page);
    more.hidden = shown >= chosen.length;
  };
  list.after(more);
  more.addEventListener("click", grow);
  if ("IntersectionObserver" in window) {
    new IntersectionObserver((seen) => {
      if (seen.some((one) => one.isIntersecting) && shown > page) grow();
    }, { rootMargin: "600px" }).observe(more);
  }
  return (next) => {
    chosen = next;
    shown = 0;
    list.replaceChildren();
    if (chosen.length) grow();
    else list.append(make("p", "hint", "Nothing fits."));
    more.hidden = shown >= chosen.length;
  };
};

const select = (label, options, change) => {
  const node = make("select");
  node.setAttribute("aria-label", label);
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    node.append(option);
  }
  node.addEventListener("change", change);
  return node;
};

const searchBox = (change) => {
  const node = make("input");
  let timer;
  node.type = "search";
  node.placeholder = "Search the texts";
  node.setAttribute("aria-label", "Search the texts");
  node.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(change, 150);
  });
  return node;
};

// The texts of all items are joined at the first search, not when the page opens.
const searchable = (items, textsOf) => {
  let found = null;
  return (item, wanted) => {
    if (!wanted) return true;
    found ||= new Map(items.map((one) => [one, textsOf(one).join("\n").toLowerCase()]));
    return found.get(item).includes(wanted);
  };
};

const promptNode = (text) => {
  const details = make("details", "prompt"), summary = make("summary", "", "Prompt ");
  summary.append(make("span", "", text.slice(0, 160)));
  details.append(summary);
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.append(make("p", "plain", text));
  });
  return details;
};

document.querySelectorAll("[data-chart]").forEach(wireChart);
window.addEventListener("scroll", placeTip, { passive: true });
