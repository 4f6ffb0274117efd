"use strict";
// Labels and texts reach the document as text nodes only, never as markup.
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  // First the blocks of the records, then as many blocks for each run.
  const blocks = document.getElementsByClassName("block"), columns = document.getElementsByClassName("columns");
  const perRun = Math.ceil(index.case.length / index.block);
  const size = index.case.length, PAGE = 50;
  const at = (id) => document.getElementById(id);
  const texts = index.case.map((id, i) => [id, index.subject[i], index.true[i], index.new[i]].join("\n").toLowerCase());
  const unpacked = new Map();
  let found = [], page = 0, run = 0, scores = columns.length ? JSON.parse(columns[0].textContent) : {};
  const score = (name, i) => scores[name]?.[i] ?? null;

  const make = (tag, attributes, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null));
    return node;
  };
  const isolated = (text) => make("bdi", {}, text);

  const OUTCOMES = {
    "": () => true,
    worked: (i) => score("ES_post", i) === 100,
    failed: (i) => score("ES_post", i) !== null && score("ES_post", i) < 100,
    damaged: (i) => score("NS_post", i) !== null && score("NS_post", i) < score("NS_pre", i),
    fault: (i) => score("fault", i) !== null,
    unscored: (i) => score("ES_pre", i) === null,
  };
  const names = new Intl.Collator();
  let orders = {};
  const order = (name) => {
    if (!orders[name]) {
      const column = index[name] || scores[name] || [], all = [...Array(size).keys()];
      const compare = name === "subject" ? (a, b) => names.compare(column[a], column[b])
        : (a, b) => (column[a] ?? Infinity) - (column[b] ?? Infinity);
      orders[name] = name === "case" ? all : all.sort((a, b) => compare(a, b) || a - b);
    }
    return orders[name];
  };

  function filter() {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const relation = at("relation").value, passes = OUTCOMES[at("outcome").value];
    found = order(at("order").value).filter((i) =>
      (!relation || index.relation[i] === relation) && passes(i) && words.every((word) => texts[i].includes(word)));
    page = 0;
    show();
    const plural = found.length === 1 ? "" : "s";
    at("count").textContent = found.length === size ? `${size.toLocaleString("en")} record${plural}`
      : `${found.length.toLocaleString("en")} of ${size.toLocaleString("en")} records`;
  }

  function show() {
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    at("rows").replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(row));
    at("page").textContent = `page ${page + 1} of ${pages.toLocaleString("en")}`;
    at("previous").disabled = page === 0;
    at("next").disabled = page + 1 >= pages;
  }

  function row(i) {
    const button = make("button", { type: "button", class: "open", "aria-expanded": "false", "data-record": i }, isolated(index.subject[i]));
    const line = make("tr", { role: "row" },
      make("td", { role: "cell" }, button),
      make("td", { role: "cell" }, isolated(index.true[i]), " → ", isolated(index.new[i])),
      make("td", { role: "cell", class: "relation" }, index.relation[i]),
      ...["ES", "PS", "NS"].map((name) => make("td", { role: "cell", class: "number", "data-label": name }, change(i, name))));
    button.addEventListener("click", () => toggle(i, line, button));
    return line;
  }

  function change(i, name) {
    const before = score(`${name}_pre`, i), after = score(`${name}_post`, i);
    if (before === null) return "–";
    return `${before} → ${after === null ? "–" : after}`;
  }

  async function toggle(i, line, button) {
    if (button.getAttribute("aria-expanded") === "true") {
      button.setAttribute("aria-expanded", "false");
      line.nextSibling.remove();
      return;
    }
    button.setAttribute("aria-expanded", "true");
    const cell = make("td", { role: "cell", colspan: "6" }, "…");
    line.after(make("tr", { role: "row", class: "details" }, cell));
    try {
      const number = Math.floor(i / index.block), place = i % index.block, shown = run;
      const record = (await unpack(number))[place];
      const scored = columns.length ? (await unpack((shown + 1) * perRun + number))[place] : null;
      cell.replaceChildren(...details(i, { ...record, ...(scored || NOT_SCORED) }));
    } catch (error) {
      cell.replaceChildren(make("p", { class: "fault" }, `This browser cannot unpack the record (${error.message}).`));
    }
  }

  const NOT_SCORED = { pre: null, post: null, texts: [], edit: {} };

  // Open records stay open, so that two runs can be compared on a record.
  function change_run() {
    const kept = page, open = [...document.querySelectorAll(".open[aria-expanded=true]")].map((button) => button.dataset.record);
    run = Number(at("run").value);
    scores = JSON.parse(columns[run].textContent);
    orders = {};
    for (const node of document.querySelectorAll("[data-run]")) node.hidden = node.dataset.run !== String(run);
    mark_row();
    filter();
    if (kept * PAGE < found.length) { page = kept; show(); }
    for (const button of document.querySelectorAll(".open")) if (open.includes(button.dataset.record)) button.click();
  }

  function mark_row() {
    const name = at("run").selectedOptions[0].textContent;
    for (const row of document.querySelectorAll("[data-row]")) row.classList.toggle("shown", row.dataset.row === name);
  }

  async function unpack(number) {
    if (!unpacked.has(number)) {
      const bytes = Uint8Array.from(atob(blocks[number].textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      unpacked.set(number, JSON.parse(await new Response(stream).text()));
    }
    return unpacked.get(number);
  }

  // Marks whole names in a text, the longest first where they overlap.
  function marked(text, names) {
    const parts = [];
    let rest = 0;
    while (rest < text.length) {
      let best = null;
      for (const [kind, name] of names) {
        const place = name ? text.indexOf(name, rest) : -1;
        if (place >= 0 && (!best || place < best.place || (place === best.place && name.length > best.name.length)))
          best = { place, name, kind };
      }
      if (!best) break;
      if (best.place > rest) parts.push(text.slice(rest, best.place));
      parts.push(make("mark", { class: best.kind }, best.name));
      rest = best.place + best.name.length;
    }
    if (rest < text.length) parts.push(text.slice(rest));
    return make("bdi", { dir: "auto" }, ...parts);
  }

  const percent = (nll) => {
    const p = 100 * Math.exp(-nll);
    return p >= 99.95 ? "100%" : p >= 9.995 ? `${p.toFixed(1)}%` : p >= 0.01 ? `${p.toPrecision(2)}%` : "<0.01%";
  };

  function pair(nlls, which) {
    if (!nlls) return "–";
    const wins = nlls[which] < nlls[1 - which];
    return make("span", wins ? { class: "wins" } : {}, percent(nlls[which]), wins ? " ●" : "");
  }

  const GROUPS = { rewrite: "Rewrite prompt", paraphrase: "Paraphrase prompts", neighborhood: "Neighborhood prompts",
    attribute: "Attribute prompts", ...index.groups };

  function details(i, record) {
    const names = [["subject", index.subject[i]], ["true", index.true[i]], ["new", index.new[i]]];
    const nodes = [facts({ case: index.case[i], subject: record.ids[0], "true object": record.ids[1], "o*": record.ids[2],
      source: record.source, ...record.edit, ...Object.assign({}, ...Object.values(record.scores)) })];
    const fault = score("fault", i);
    if (fault) nodes.push(make("p", { class: "fault" }, `No edit: ${fault}`));
    for (const [group, title] of Object.entries(GROUPS))
      if (record.prompts[group]?.length) nodes.push(make("h4", {}, title), prompts(group, title, i, record, names));
    if (record.answers) nodes.push(make("h4", {}, "Answers in use"), answered(record, names));
    nodes.push(make("p", { class: "note" }, "P is the geometric mean over the target's tokens; ● marks the likelier target."));
    if (record.texts.length) nodes.push(make("h4", {}, "Generated texts"), written(record, names));
    if (columns.length > 1 && (record.texts.length || record.answers)) nodes.push(all_runs(i, record, names));
    else if (record.generation.length)
      nodes.push(make("h4", {}, "Generation prompts"), make("ul", {}, ...record.generation.map((text) => make("li", {}, marked(text, names)))));
    return nodes;
  }

  const facts = (values) => make("dl", { class: "facts" }, ...Object.entries(values)
    .filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value]) => make("div", {}, make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, isolated(String(value))))));

  function prompts(group, title, i, record, names) {
    const columns = [[0, "pre", ["new", index.new[i]]], [0, "post", null], [1, "pre", ["true", index.true[i]]], [1, "post", null]];
    const scored = record.pre !== null;
    const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Prompt"),
      ...(scored ? columns.map(([, , name]) => make("th", { scope: "col", class: "p" },
        ...(name ? ["P(", make("mark", { class: name[0] }, name[1]), ") before"] : ["after"]))) : [])));
    const label = ["o* before", "o* after", "true before", "true after"];
    const body = record.prompts[group].map((text, n) => make("tr", {}, make("td", {}, marked(text, names)),
      ...(scored ? columns.map(([which, stage], k) => make("td", { class: "p", "data-label": label[k] },
        pair(record[stage] && (record[stage][group] || [])[n], which))) : [])));
    return make("table", { class: "prompts", "aria-label": title }, head, make("tbody", {}, ...body));
  }

  function written(record, names) {
    const both = record.texts.flatMap(([before, after]) => [["Before", before], ["After", after]].map(([label, text]) =>
      make("div", { class: "text" }, make("p", { class: "label" }, label), make("p", {}, text ? marked(text, names) : "–"))));
    const grid = make("div", { class: "texts" }, make("p", { class: "head" }, "Before"), make("p", { class: "head" }, "After"), ...both);
    if (index.all_texts) return grid;
    return make("div", {}, grid, make("p", { class: "note" }, "The first texts only; cases.jsonl holds all of them."));
  }

  // Answers are shown like prompts, with the model's own answer instead of probabilities.
  function answered(record, names) {
    const head = make("thead", {}, make("tr", {}, ...["Prompt", "Before", "After"].map((name) => make("th", { scope: "col" }, name))));
    const body = Object.entries(record.answers).flatMap(([group, texts]) => texts.map(([before, after], n) => make("tr", {},
      make("td", {}, marked(record.prompts[group][n], names)),
      ...[["Before", before], ["After", after]].map(([label, text]) => make("td", { "data-label": label }, text ? marked(text, names) : "–")))));
    return make("table", { class: "prompts answers", "aria-label": "Answers in use" }, head, make("tbody", {}, ...body));
  }

  // The texts of every run below the unedited model's (the paper's Figure 6). The runs' blocks are unpacked when this is
  // opened.
  function all_runs(i, record, names) {
    const fold = make("details", { class: "side" }, make("summary", {}, "Texts of all runs side by side"));
    fold.addEventListener("toggle", async () => {
      if (!fold.open || fold.children.length > 1) return;
      const number = Math.floor(i / index.block), place = i % index.block, runs = [];
      const titles = [...at("run").options].map((option) => option.textContent);
      for (let n = 0; n < columns.length; n++) runs.push([titles[n], (await unpack((n + 1) * perRun + number))[place]]);
      fold.append(make("p", {}, "Request: ", marked(record.prompts.rewrite[0], names), " → ", make("mark", { class: "new" }, index.new[i])));
      for (const [group, n, prompt] of generated(record, runs)) fold.append(compared(group, n, prompt, runs, names));
    }, { passive: true });
    return fold;
  }

  // [group of answers, or null for texts; number; prompt] of every answer and text that any run has.
  function generated(record, runs) {
    const most = (count) => Math.max(0, ...runs.map(([, scored]) => (scored && count(scored)) || 0));
    const places = (group, count) => [...Array(count).keys()].map((n) => [group, n, (group ? record.prompts[group] : record.generation)[n]]);
    return [...Object.keys(GROUPS).flatMap((group) => places(group, most((scored) => scored.answers?.[group]?.length))),
      ...places(null, most((scored) => scored.texts.length))];
  }

  function compared(group, n, prompt, runs, names) {
    const pick = (scored) => scored && (group ? scored.answers?.[group]?.[n] : scored.texts[n]);
    const unedited = runs.map(([, scored]) => pick(scored)).find(Boolean);
    const rows = [["unedited", unedited && unedited[0]], ...runs.map(([name, scored]) => [name, pick(scored) && pick(scored)[1]])];
    const caption = make("caption", {}, group ? "Answer to: " : "Text from: ", marked(prompt, names));
    return make("table", { class: "compared" }, caption, make("tbody", {}, ...rows.map(([name, text]) =>
      make("tr", {}, make("th", { scope: "row" }, isolated(name)), make("td", {}, text ? marked(text, names) : "–")))));
  }

  let waiting = 0;
  const soon = () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(filter); };
  at("search").addEventListener("input", soon);
  for (const id of ["relation", "outcome", "order"]) at(id).addEventListener("change", filter);
  at("filters").addEventListener("submit", (event) => event.preventDefault());
  const turn = (step) => { page += step; show(); at("records").focus(); at("list").scrollIntoView({ block: "start" }); };
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  if (at("run")) {
    at("run").addEventListener("change", change_run);
    at("switch").addEventListener("submit", (event) => event.preventDefault());
    mark_row();
    // The browser may have kept the choice from an earlier visit.
    if (at("run").value !== "0") change_run();
  }
  filter();
})();
