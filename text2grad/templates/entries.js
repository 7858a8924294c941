
// -- judged responses: every token in the colour of one of its values

const buildEntries = () => {
  const entries = data.groups.flat();
  const views = ["score", "advantage", "reward", "kl"].filter((name) =>
    entries.some((entry) => entry.values[name]));
  const titles = { score: "Score", advantage: "Advantage", reward: "Reward", kl: "KL" };
  const words = {
    score: ["negative: quoted as poor", "positive: quoted as good"],
    advantage: ["negative: made less likely", "positive: made more likely"],
    reward: ["negative reward", "positive reward"],
    kl: ["below 0", "far from the reference"],
  };
  let view = views[0] || "score";
  let painted = [];

  // full colour at this size: few tokens are larger, and they would make all others pale
  const scales = {};
  const scaleOf = (name) => {
    if (!(name in scales)) {
      const sizes = entries.flatMap((entry) => (entry.values[name] || []).map(Math.abs));
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
      node.style.setProperty("--depth", `${((view === "score" ? 24 : 50) * depth).toFixed(1)}%`);
    });
  };

  const isSigned = (name) => entries.some((entry) => (entry.values[name] || []).some((value) => value < 0));

  const showView = () => {
    document.body.dataset.view = view;
    const scale = view === "score" ? "" : `, full colour at ${number(scaleOf(view))}`;
    const minus = document.querySelector('[data-legend="minus"]');
    minus.textContent = words[view][0];
    minus.parentElement.hidden = view === "kl" && !isSigned(view);
    document.querySelector('[data-legend="plus"]').textContent = words[view][1] + scale;
    painted.forEach(paint);
  };

  const tokenLines = (entry, i) => {
    const lines = views.filter((name) => entry.values[name])
      .map((name) => `${titles[name].toLowerCase().padEnd(11)} ${signed(entry.values[name][i]).padStart(8)}`);
    const logp = entry.values.logp && entry.values.logp[i];
    if (logp != null) lines.push(`probability ${number(Math.exp(logp)).padStart(8)}`);
    for (const quote of entry.quotes) {
      if (!quote.tokens || i < quote.tokens[0] || i >= quote.tokens[1]) continue;
      const text = quote.text.length > 32 ? `${quote.text.slice(0, 31)}…` : quote.text;
      lines.push(`${quote.label.replaceAll("_", " ")}: “${text}”`);
    }
    return [...new Set(lines)];
  };

  const responseNode = (entry) => {
    const box = make("p", "text");
    const nodes = entry.tokens.map((token, i) => {
      const node = make("span", token ? "t" : "t end", token || "end");
      node.dataset.token = i;
      return node;
    });
    let now = -1;
    const leave = () => {
      if (now >= 0) nodes[now].classList.remove("now");
      now = -1;
      hideTip();
    };
    const show = (i) => {
      if (now >= 0) nodes[now].classList.remove("now");
      now = Math.min(nodes.length - 1, Math.max(0, i));
      nodes[now].classList.add("now");
      const lines = tokenLines(entry, now), node = nodes[now];
      showTip(() => node.getClientRects()[0], JSON.stringify(entry.tokens[now]).slice(0, 60), lines.length ? lines : ["not judged"]);
    };
    const follow = (event) => {
      const node = event.target.closest(".t");
      if (node) show(Number(node.dataset.token));
      else leave();
    };
    box.append(...nodes);
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Response; the arrow keys go from token to token");
    box.addEventListener("pointermove", follow);
    box.addEventListener("click", follow);
    box.addEventListener("pointerleave", leave);
    box.addEventListener("blur", leave);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: nodes.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to);
      const place = nodes[now].getClientRects()[0];
      if (place.top < 60 || place.bottom > window.innerHeight - 40) {
        nodes[now].scrollIntoView({ block: "center", behavior: "instant" });
      }
    });
    const one = { entry, box, nodes };
    painted.push(one);
    paint(one);
    return one;
  };

  const quoteNode = (quote, nodes) => {
    const item = make("li", quote.sign > 0 ? "plus" : quote.sign < 0 ? "minus" : "");
    const lost = quote.match === "unmatched";
    const notes = [quote.label.replaceAll("_", " ")];
    if (lost) notes.push("not in the response");
    else if (quote.match && quote.match !== "exact") notes.push(quote.match);
    if (quote.copies) notes.push(`one of ${quote.copies} places`);
    item.append(make("span", lost ? "lost" : "", quote.text), make("span", "tag", notes.join(", ")));
    const over = quote.tokens ? nodes.slice(...quote.tokens) : [];
    const mark = (on) => over.forEach((node) => node.classList.toggle("quoted", on));
    item.addEventListener("pointerenter", () => mark(true));
    item.addEventListener("pointerleave", () => mark(false));
    return item;
  };

  const critiqueNodes = (entry, nodes) => {
    const found = [];
    if (entry.note) found.push(make("p", "trouble", entry.note));
    if (entry.critique) found.push(make("p", "plain", entry.critique));
    if (entry.quotes.length) {
      const list = make("ul", "quotes");
      list.append(...entry.quotes.map((quote) => quoteNode(quote, nodes)));
      found.push(list);
    }
    return found;
  };

  const bothColumns = (entry, left, right) => {
    const columns = make("div", "columns2"), response = make("div"), critique = make("div");
    const { box, nodes } = responseNode(entry);
    response.append(make("h4", "", left), box);
    critique.append(make("h4", "", right), ...critiqueNodes(entry, nodes));
    columns.append(response, critique);
    return columns;
  };

  const headNode = (entry, title) => {
    const head = make("div", "head"), sampled = entry.step != null;
    const facts = [
      [title === undefined ? "" : "run", title],
      ["step", entry.step], ["id", title === undefined ? entry.id : null],
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
    return head;
  };

  const renderRuns = (group) => {
    const article = make("article"), columns = make("div", "runs"), head = make("div", "head");
    const id = make("span", "", "id ");
    id.append(make("b", "", group[0].id));
    head.append(id);
    columns.append(...group.map((entry, run) => {
      const column = make("div"), { box, nodes } = responseNode(entry);
      column.append(headNode(entry, data.runs[run]), box, make("h4", "", "Critique"), ...critiqueNodes(entry, nodes));
      return column;
    }));
    article.append(head, promptNode(data.prompts[group[0].prompt]), columns);
    return article;
  };

  const render = (group) => {
    if (data.runs.length) return renderRuns(group);
    const entry = group[0], article = make("article");
    article.append(headNode(entry), promptNode(data.prompts[entry.prompt]));
    if (entry.gold) {
      article.append(bothColumns(entry, "Response, as predicted", "Predicted critique"));
      article.append(bothColumns(entry.gold, "Response, as annotated", "Annotated critique"));
    } else {
      article.append(bothColumns(entry, "Response", "Critique"));
    }
    return article;
  };

  const kinds = {
    all: ["All responses", () => true],
    high: ["Score above 0", (entry) => entry.total > 0],
    low: ["Score below 0", (entry) => entry.total < 0],
    unmatched: ["A quote not found", (entry) => entry.quotes.some((quote) => quote.match === "unmatched")],
    loose: ["A quote not word for word", (entry) => entry.quotes.some((quote) =>
      quote.match === "normalised" || quote.match === "fuzzy")],
    ambiguous: ["An ambiguous quote", (entry) => entry.quotes.some((quote) => quote.copies > 1)],
    silent: ["No quote", (entry) => !entry.note && !entry.quotes.length],
    unreadable: ["No usable critique", (entry) => Boolean(entry.note)],
  };
  const countOf = (kind) => data.groups.filter((group) => group.some(kinds[kind][1])).length;
  const present = Object.keys(kinds).filter((kind) => countOf(kind));

  const show = buildList("entries", 12, render);
  const matches = searchable(data.groups, (group) => [
    data.prompts[group[0].prompt],
    ...group.flatMap((entry) => [entry.tokens.join(""), entry.critique, entry.note, String(entry.id)]),
  ]);
  const steps = data.runs.length ? []
    : [...new Set(entries.map((entry) => entry.step))].filter((step) => step != null);
  const count = make("span", "count");
  count.setAttribute("role", "status");
  const total = (group) => {
    const totals = group.map((entry) => entry.total).filter((value) => value != null);
    return totals.length ? totals.reduce((sum, value) => sum + value, 0) / totals.length : null;
  };
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    painted = [];
    hideTip();
    const chosen = data.groups.filter((group) =>
      (step.value === "" || String(group[0].step) === step.value)
      && group.some(kinds[which.value][1])
      && matches(group, wanted));
    if (order.value === "late") chosen.reverse();
    if (order.value === "high" || order.value === "low") {
      const flip = order.value === "low" ? 1 : -1;
      const key = (group) => total(group) ?? flip * Infinity;
      chosen.sort((a, b) => flip * (key(a) - key(b)) || 0);
    }
    count.textContent = `${chosen.length} of ${data.groups.length}`;
    show(chosen);
  };
  const step = select("Step", [["", "All steps"], ...steps.map((s) => [s, `Step ${s}`])], refresh);
  const which = select("Which", present.map((kind) => [kind, `${kinds[kind][0]} (${countOf(kind)})`]), refresh);
  const order = select("Order", [
    ["file", steps.length ? "First step first" : "In order of the file"],
    ...(steps.length ? [["late", "Last step first"]] : []),
    ["high", "Highest score first"], ["low", "Lowest score first"],
  ], refresh);
  const search = searchBox(refresh);
  const bar = document.querySelector('[data-controls="entries"]');
  if (views.length > 1) {
    const group = make("div", "group");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "Colour by");
    for (const name of views) {
      const button = make("button", "", titles[name]);
      button.type = "button";
      button.setAttribute("aria-pressed", String(name === view));
      button.addEventListener("click", () => {
        view = name;
        for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
        showView();
      });
      group.append(button);
    }
    bar.append(group);
  }
  if (steps.length > 1) bar.append(step);
  if (present.length > 1) bar.append(which);
  bar.append(order, search, count);
  refresh();
  showView();
};

if (data.groups.length) buildEntries();
