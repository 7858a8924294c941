"use strict";
(() => {
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
    const text = Number.isInteger(value) || Math.abs(value) >= 1000 ? value.toFixed(0)
      : Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(3);
    return text.replace("-", "−");
  };
  const signed = (value) => (value > 0 ? "+" : "") + number(value);

  // -- the text beside the pointer

  const showTip = (event, title, lines) => {
    tip.replaceChildren(make("b", "", title), lines.join("\n"));
    tip.hidden = false;
    const width = tip.offsetWidth, height = tip.offsetHeight;
    const left = Math.min(event.clientX + 14, window.innerWidth - width - 8);
    const above = event.clientY + 18 + height > window.innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above ? event.clientY - height - 12 : event.clientY + 18}px`;
  };
  const hideTip = () => { tip.hidden = true; };

  // -- charts

  for (const figure of document.querySelectorAll("[data-chart]")) {
    const chart = data.charts[Number(figure.dataset.chart)];
    const svg = figure.querySelector("svg"), cursor = svg.querySelector(".cursor");
    const first = chart.steps[0], last = chart.steps[chart.steps.length - 1];
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const share = ((event.clientX - box.left) / box.width - chart.left) / (chart.right - chart.left);
      const wanted = first + Math.min(1, Math.max(0, share)) * (last - first);
      let best = 0;
      chart.steps.forEach((step, i) => {
        if (Math.abs(step - wanted) < Math.abs(chart.steps[best] - wanted)) best = i;
      });
      const at = (chart.steps[best] - first) / ((last - first) || 1);
      const x = (chart.left + at * (chart.right - chart.left)) * svg.viewBox.baseVal.width;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      cursor.setAttribute("visibility", "visible");
      const wide = Math.max(...chart.names.map((name) => name.length));
      const lines = chart.names.map((name, i) =>
        `${name.padEnd(wide)}  ${number(chart.values[i][best])}`);
      showTip(event, `step ${chart.steps[best]}`, lines);
    });
    svg.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      hideTip();
    });
  }

  // -- lists that grow while one scrolls

  const buildList = (name, items, page, render) => {
    const list = document.querySelector(`[data-list="${name}"]`);
    const more = make("button", "more", "Show more");
    let chosen = items, shown = 0;
    const grow = () => {
      for (const item of chosen.slice(shown, shown + page)) list.append(render(item));
      shown = Math.min(chosen.length, shown + page);
      more.hidden = shown >= chosen.length;
    };
    const show = (next) => {
      chosen = next;
      shown = 0;
      list.replaceChildren();
      grow();
    };
    list.after(more);
    more.addEventListener("click", grow);
    if ("IntersectionObserver" in window) {
      new IntersectionObserver((seen) => {
        if (seen.some((one) => one.isIntersecting) && shown > page) grow();
      }, { rootMargin: "600px" }).observe(more);
    }
    return { list, show };
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

  const promptNode = (text) => {
    const details = make("details", "prompt"), summary = make("summary", "", "Prompt ");
    summary.append(make("span", "", text.slice(0, 160)));
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.childElementCount === 1) details.append(make("p", "plain", text));
    });
    return details;
  };

  // -- judged responses

  const buildEntries = () => {
    const views = ["score", "advantage", "reward", "kl"].filter((view) =>
      data.entries.some((entry) => entry.values[view]));
    const words = {
      score: ["negative: quoted as poor", "positive: quoted as good"],
      advantage: ["negative: made less likely", "positive: made more likely"],
      reward: ["negative reward", "positive reward"],
      kl: ["less likely than under the reference", "more likely than under the reference"],
    };
    let view = views[0] || "score";
    let painted = [];

    const scales = {};
    const scaleOf = (name) => {
      if (!(name in scales)) {
        const sizes = data.entries.flatMap((entry) => (entry.values[name] || []).map(Math.abs));
        sizes.sort((a, b) => a - b);
        const top = name === "score" ? 1 : sizes[Math.floor(0.97 * (sizes.length - 1))];
        scales[name] = top || sizes[sizes.length - 1] || 1;
      }
      return scales[name];
    };

    const paint = ({ entry, box, nodes }) => {
      const values = entry.values[view] || [];
      box.classList.toggle("marked", view === "score");
      nodes.forEach((node, i) => {
        const value = values[i] || 0;
        node.classList.toggle("plus", value > 0);
        node.classList.toggle("minus", value < 0);
        const depth = Math.min(1, Math.abs(value) / scaleOf(view));
        node.style.setProperty("--depth", (view === "score" ? 0.24 * depth : 0.62 * depth).toFixed(3));
      });
    };

    const responseNode = (entry) => {
      const box = make("p", "text");
      const nodes = entry.tokens.map((token, i) => {
        const node = make("span", token ? "t" : "t end", token || "end");
        node.dataset.token = i;
        box.append(node);
        return node;
      });
      const one = { entry, box, nodes };
      box.addEventListener("pointermove", (event) => {
        const node = event.target.closest(".t");
        if (!node) { hideTip(); return; }
        const i = Number(node.dataset.token);
        const lines = views.filter((name) => entry.values[name])
          .map((name) => `${name.padEnd(9)} ${signed(entry.values[name][i]).padStart(8)}`);
        showTip(event, JSON.stringify(entry.tokens[i]).slice(0, 60), lines);
      });
      box.addEventListener("pointerleave", hideTip);
      painted.push(one);
      paint(one);
      return box;
    };

    const critiqueNodes = (entry) => {
      const nodes = [];
      if (entry.note) nodes.push(make("p", "trouble", entry.note));
      if (entry.critique) nodes.push(make("p", "plain", entry.critique));
      const list = make("ul", "quotes");
      for (const quote of entry.quotes) {
        const item = make("li", quote.sign > 0 ? "plus" : quote.sign < 0 ? "minus" : "");
        const lost = quote.match === "unmatched";
        item.append(make("span", lost ? "lost" : "", quote.text));
        const how = lost ? ", not in the response" : quote.match && quote.match !== "exact" ? `, ${quote.match}` : "";
        item.append(make("span", "tag", quote.label.replaceAll("_", " ") + how));
        list.append(item);
      }
      if (entry.quotes.length) nodes.push(list);
      return nodes;
    };

    const bothColumns = (entry, left, right) => {
      const columns = make("div", "columns2");
      const response = make("div"), critique = make("div");
      response.append(make("h4", "", left), responseNode(entry));
      critique.append(make("h4", "", right), ...critiqueNodes(entry));
      columns.append(response, critique);
      return columns;
    };

    const render = (entry) => {
      const article = make("article"), head = make("div", "head");
      const sampled = entry.step != null;
      const facts = [
        ["step", entry.step], ["id", entry.id],
        [sampled ? "score" : "quotes, good less poor", entry.total == null ? null : signed(entry.total)],
        ["reward", entry.reward == null ? null : signed(entry.reward)],
        ["tokens", sampled ? entry.tokens.length : null],
      ];
      for (const [name, value] of facts) {
        if (value == null) continue;
        const fact = make("span", "", `${name} `);
        fact.append(make("b", "", value));
        head.append(fact);
      }
      article.append(head, promptNode(data.prompts[entry.prompt]));
      if (entry.gold) {
        article.append(bothColumns(entry, "Response, as predicted", "Predicted critique"));
        article.append(bothColumns(entry.gold, "Response, as annotated", "Annotated critique"));
      } else {
        article.append(bothColumns(entry, "Response", "Critique"));
      }
      return article;
    };

    const bar = document.querySelector('[data-controls="entries"]');
    const { list, show } = buildList("entries", data.entries, 12, render);
    const texts = data.entries.map((entry) => [
      entry.tokens.join(""), entry.critique, entry.note, String(entry.id), data.prompts[entry.prompt],
    ].join("\n").toLowerCase());
    const steps = [...new Set(data.entries.map((entry) => entry.step))].filter((step) => step != null);
    const count = make("span", "count");
    const refresh = () => {
      const wanted = search.value.trim().toLowerCase();
      painted = [];
      const chosen = data.entries.filter((entry, i) =>
        (step.value === "" || String(entry.step) === step.value)
        && (!wanted || texts[i].includes(wanted)));
      if (order.value === "late") chosen.reverse();
      if (order.value === "high" || order.value === "low") {
        const flip = order.value === "low" ? 1 : -1;
        const key = (entry) => entry.total ?? flip * Infinity;
        chosen.sort((a, b) => flip * (key(a) - key(b)) || 0);
      }
      count.textContent = `${chosen.length} of ${data.entries.length}`;
      show(chosen);
    };
    const step = select("Step", [["", "All steps"], ...steps.map((s) => [s, `Step ${s}`])], refresh);
    const order = select("Order", [
      ["file", steps.length ? "First step first" : "In order of the file"],
      ...(steps.length ? [["late", "Last step first"]] : []),
      ["high", "Highest score first"], ["low", "Lowest score first"],
    ], refresh);
    const search = searchBox(refresh);
    if (views.length > 1) {
      const group = make("div", "group");
      for (const name of views) {
        const button = make("button", "", name === "kl" ? "KL" : name[0].toUpperCase() + name.slice(1));
        button.setAttribute("aria-pressed", String(name === view));
        button.addEventListener("click", () => {
          view = name;
          for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
          document.querySelector('[data-legend="minus"]').textContent = words[view][0];
          document.querySelector('[data-legend="plus"]').textContent = words[view][1];
          painted.forEach(paint);
        });
        group.append(button);
      }
      bar.append(group);
    }
    if (steps.length > 1) bar.append(step);
    bar.append(order, search, count);
    refresh();
    return list;
  };

  // -- before and after

  const buildPairs = () => {
    const change = (pair) => (pair.after_scores?.rougeL ?? 0) - (pair.before_scores?.rougeL ?? 0);
    const side = (title, text, scores, other) => {
      const node = make("div"), heading = make("h4", "", title);
      if (scores && scores.rougeL !== undefined) {
        let note = `ROUGE-L ${number(scores.rougeL)}`;
        if (other && other.rougeL !== undefined) note += ` (${signed(scores.rougeL - other.rougeL)})`;
        heading.append(make("span", "score", note));
      }
      node.append(heading, make("p", "plain", text || "(empty)"));
      return node;
    };
    const render = (pair) => {
      const article = make("article"), columns = make("div", "columns3");
      columns.append(
        side("Human reference", pair.reference),
        side("Before", pair.before, pair.before_scores),
        side("After", pair.after, pair.after_scores, pair.before_scores),
      );
      article.append(promptNode(pair.prompt || ""), columns);
      return article;
    };
    const { show } = buildList("pairs", data.pairs, 6, render);
    const texts = data.pairs.map((pair) =>
      [pair.prompt, pair.reference, pair.before, pair.after].join("\n").toLowerCase());
    const count = make("span", "count");
    const refresh = () => {
      const wanted = search.value.trim().toLowerCase();
      const chosen = data.pairs.filter((pair, i) => !wanted || texts[i].includes(wanted));
      const flip = { gain: -1, loss: 1 }[order.value];
      if (flip) chosen.sort((a, b) => flip * (change(a) - change(b)));
      count.textContent = `${chosen.length} of ${data.pairs.length}`;
      show(chosen);
    };
    const order = select("Order", [
      ["file", "In order of the file"], ["gain", "Largest gain first"], ["loss", "Largest loss first"],
    ], refresh);
    const search = searchBox(refresh);
    const bar = document.querySelector('[data-controls="pairs"]');
    if (data.pairs.some((pair) => pair.after_scores)) bar.append(order);
    bar.append(search, count);
    refresh();
  };

  if (data.pairs.length) buildPairs();
  if (data.entries.length) buildEntries();
  window.addEventListener("scroll", hideTip, { passive: true });
})();
