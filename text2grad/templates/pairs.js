
// -- answers to the same prompt side by side

const buildPairs = () => {
  const { titles, score, rows } = data.pairs;
  const last = titles.length - 1;
  const base = titles.findIndex((_, i) => rows.some((row) => row.scores[i] != null));
  const gain = (row) => (row.scores[last] ?? 0) - (row.scores[base] ?? 0);
  const side = (row, i) => {
    const node = make("div"), heading = make("h4", "", titles[i]);
    const own = row.scores[i], earlier = i > base ? row.scores[base] : null;
    if (own != null) {
      const change = earlier == null ? "" : ` (${signed(own - earlier)})`;
      heading.append(make("span", "score", `${score} ${number(own)}${change}`));
    }
    const tested = row.tests?.[i];
    if (tested) {
      const code = make("pre", "code");
      tested.pieces.forEach((piece, k) => code.append(k % 2 ? make("mark", "", piece) : piece));
      node.append(heading, make("p", "outcome", tested.outcome), code);
      if (tested.critique) node.append(make("p", "plain critique", tested.critique));
      return node;
    }
    node.append(heading, make("p", row.tests ? "plain code" : "plain", row.texts[i] || "(empty)"));
    return node;
  };
  const render = (row) => {
    const article = make("article"), columns = make("div", "sides");
    columns.append(...titles.map((_, i) => side(row, i)));
    article.append(promptNode(row.prompt), columns);
    return article;
  };
  const show = buildList("pairs", 6, render);
  const matches = searchable(rows, (row) => [row.prompt, ...row.texts]);
  const count = make("span", "count");
  count.setAttribute("role", "status");
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    const chosen = rows.filter((row) => matches(row, wanted));
    const flip = { gain: -1, loss: 1 }[order.value];
    if (flip) chosen.sort((a, b) => flip * (gain(a) - gain(b)));
    count.textContent = `${chosen.length} of ${rows.length}`;
    show(chosen);
  };
  const order = select("Order", [
    ["file", "In order of the file"], ["gain", "Largest gain first"], ["loss", "Largest loss first"],
  ], refresh);
  const search = searchBox(refresh);
  const bar = document.querySelector('[data-controls="pairs"]');
  if (base >= 0 && base < last) bar.append(order);
  bar.append(search, count);
  refresh();
};

if (data.pairs.rows) buildPairs();
