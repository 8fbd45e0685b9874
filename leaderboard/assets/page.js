"use strict";
// The page's behaviour: one state, drawn anew when it changes. All text enters as text nodes, never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const PROTOCOLS = { sid: "SID", item: "Item" };
const $ = (id) => document.getElementById(id);
const state = { category: 0, protocol: "sid", sort: "NDCG@10", down: true, text: "", hidden: new Set(["reported"]), more: new Set(), open: new Set() };
// Columns that can be switched on, beside those that are always there.
const MORE = { effort: "Effort", versions: "Versions" };

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// The other forms (markdown, CSV's readers, LaTeX) round a half to the even digit; toFixed rounds it up.
function fixed(value, digits) {
  const exact = Math.abs(value).toFixed(100);
  const cut = exact.indexOf(".") + 1 + digits;
  const half = /^50*$/.test(exact.slice(cut)) && "02468".includes(exact[digits ? cut - 1 : cut - 2]);
  const text = half ? exact.slice(0, digits ? cut : cut - 1) : Math.abs(value).toFixed(digits);
  return (value < 0 ? "-" : "") + text;
}
const number = (value, digits = 4) => (value === null || value === undefined ? "—" : fixed(value, digits));
const signed = (value) => (value < 0 ? "−" : "+") + fixed(Math.abs(value), 4);
const percent = (value) => (value === null || value === undefined ? "—" : fixed(100 * value, 2) + " %");
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "—";
  if (seconds < 100) return fixed(seconds, 0) + " s";
  return seconds < 5400 ? fixed(seconds / 60, 1) + " min" : fixed(seconds / 3600, 1) + " h";
}
const gib = (value) => (value ? fixed(value, 1) + " GiB" : "—");
function count(value) {
  if (!value) return "—";
  return value >= 1e9 ? fixed(value / 1e9, 2) + " B" : fixed(value / 1e6, 2) + " M";
}

const category = () => DATA.categories[state.category];
const table = () => category().tables[state.protocol];

// Columns: what is shown, and what is sorted by (null sorts last, whichever way).
function columns() {
  const metrics = DATA.columns.map((name) => ({
    key: name, value: (row) => metric(row, name), cell: (row) => metricCell(row, name),
  }));
  const found = [
    { key: "Method", text: true, value: (row) => row.name.toLowerCase() },
    { key: "Group", text: true, kind: "col-group", value: (row) => row.groupTitle.toLowerCase(), cell: (row) => make("span", { class: "tag" }, row.groupTitle) },
    { key: "Seeds", value: (row) => (row.seeds ? row.seeds.length : null), cell: (row) => (row.seeds ? String(row.seeds.length) : "—") },
    ...metrics,
  ];
  for (const [key, title] of [["counting", table().counting], ["baseline", table().baseline]]) {
    if (title) found.push({ key: "Δ " + title, value: (row) => versus(row, key)?.[0] ?? null, cell: (row) => versusCell(row, key) });
  }
  found.push(
    { key: "Train", value: (row) => row.cost?.["train seconds"] ?? null, cell: (row) => duration(row.cost?.["train seconds"]) },
    { key: "Parameters", value: (row) => row.cost?.parameters || null, cell: (row) => count(row.cost?.parameters) },
    { key: "CC", value: (row) => row.invalid ?? null, cell: (row) => (row.invalid ?? "—").toString() },
  );
  for (const set of Object.keys(MORE)) if (state.more.has(set)) found.push(...switchedOn(set, found.map((column) => column.key)));
  return found;
}
function switchedOn(set, there) {
  const first = category().rows.find((row) => row[set]);
  return (first ? first[set] : []).map(([name], place) => ({ name, place })).filter(({ name }) => !there.includes(name)).map(({ name, place }) => {
    const told = (row) => row[set]?.[place]?.[1] ?? null;
    return { key: name, value: (row) => comparableText(told(row)), cell: (row) => told(row) ?? "—" };
  });
}
// Numbers sort as numbers and stand before words; what is not known sorts last.
function comparableText(text) {
  if (text === null) return null;
  const plain = text.replace(/,/g, "");
  return /^[0-9.]+$/.test(plain) && !Number.isNaN(Number(plain)) ? Number(plain).toFixed(6).padStart(24, " ") : text.toLowerCase();
}
const metric = (row, name) => row.metrics[state.protocol]?.[name] ?? null;
const versus = (row, key) => row[key]?.[state.protocol] ?? null;

function metricCell(row, name) {
  const value = metric(row, name);
  const span = make("span", {}, number(value));
  const mark = row.marks?.[state.protocol]?.[name];
  if (mark) span.className = mark;
  const spread = row.spread?.[state.protocol]?.[name];
  if (spread === undefined || spread === null) return span;
  return make("span", {}, span, make("span", { class: "pm" }, " ± " + number(spread)));
}
function versusCell(row, key) {
  const found = versus(row, key);
  if (!found) return "—";
  const why = found[1] === null ? "one seed, or users unknown: no claim" : "p = " + found[1].toPrecision(2) + ", corrected over the rows";
  return make("span", { title: why }, signed(found[0]) + (found[2] ? "*" : found[1] === null ? " ¹" : ""));
}

// Rows are made once a protocol and category; sorting only moves them.
let made = new Map();
function rowNodes(row) {
  const key = row.id;
  if (!made.has(key)) {
    const name = make("button", { type: "button", class: "unfold", "aria-expanded": "false", "aria-controls": "d-" + key, title: row.name }, row.name);
    name.addEventListener("click", () => toggle(row));
    const first = make("td", {}, name);
    if (row.problems?.length) first.append(make("span", { class: "mark", title: row.problems.join("; ") }, " ‡"));
    if (row.mark) first.append(make("span", { class: "mark", title: "not converged: its best step is its last" }, " " + row.mark));
    if (row.note) first.append(make("span", { class: "mark", title: row.note }, " ⚠"));
    const line = make("tr", { class: row.kind, "data-row": key }, first);
    for (const column of shown.slice(1)) line.append(make("td", { class: column.kind || false }, column.cell(row)));
    made.set(key, { line, name, detail: null });
  }
  return made.get(key);
}
let shown = [];

function visible() {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  return category().rows.filter(
    (row) => !state.hidden.has(row.kind === "reported" ? "reported" : row.group)
      && row.metrics[state.protocol] && words.every((word) => row.search.includes(word)),
  );
}

function sorted(rows) {
  const column = shown.find((c) => c.key === state.sort) || shown.find((c) => c.key === "NDCG@10") || shown[0];
  const sign = state.down ? -1 : 1;
  return rows.map((row) => [column.value(row), row]).sort(([a, x], [b, y]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -sign : a > b ? sign : 0) || x.order - y.order;
  }).map(([, row]) => row);
}

// All rows are sorted; the table holds as many as were scrolled to (a browser lays out a thousand in half a second).
const STEP = 60;
let order = [];
let drawn = 0;

function drawRows() {
  order = sorted(visible());
  drawn = 0;
  $("rows").replaceChildren();
  more();
}

function more(count = STEP) {
  const fragment = document.createDocumentFragment();
  for (const row of order.slice(drawn, drawn + count)) {
    const nodes = rowNodes(row);
    fragment.append(nodes.line);
    if (state.open.has(row.id)) fragment.append(detail(row));
  }
  $("rows").append(fragment);
  drawn = Math.min(order.length, drawn + count);
  const left = order.length - drawn;
  $("more").hidden = left === 0;
  $("more").textContent = `Show all (${left} more)`;
  $("count").textContent = `${order.length} of ${category().rows.length} rows, ${PROTOCOLS[state.protocol]} protocol`;
}

function drawHead() {
  $("head").replaceChildren(...shown.map((column) => {
    const button = make("button", { type: "button" }, column.key);
    button.addEventListener("click", () => {
      state.down = state.sort === column.key ? !state.down : !column.text;
      state.sort = column.key;
      for (const [index, th] of [...$("head").children].entries()) th.setAttribute("aria-sort", direction(shown[index]));
      drawRows();
      remember();
    });
    return make("th", { scope: "col", "aria-sort": direction(column), class: column.kind || false }, button);
  }));
}
const direction = (column) => (column.key !== state.sort ? "none" : state.down ? "descending" : "ascending");

function toggle(row) {
  const nodes = rowNodes(row);
  const open = !state.open.has(row.id);
  if (open) { state.open.add(row.id); nodes.line.after(detail(row)); }
  else { state.open.delete(row.id); nodes.detail?.remove(); }
  nodes.name.setAttribute("aria-expanded", String(open));
}

function detail(row) {
  const nodes = rowNodes(row);
  if (!nodes.detail) {
    const inside = make("div", { class: "inside" }, ...(row.kind === "reported" ? reportedDetail(row) : measuredDetail(row)));
    nodes.detail = make("tr", { class: "detail", id: "d-" + row.id }, make("td", { colspan: shown.length }, inside));
  }
  return nodes.detail;
}

function reportedDetail(row) {
  return [
    make("p", {}, `Reported by ${row.source}: ${row.what || "no further source"}. Not measured here.`),
    ...row.problems.map((problem) => make("p", { class: "mark" }, "‡ Cannot be true as printed: " + problem + ".")),
  ];
}

function measuredDetail(row) {
  const parts = [make("p", {}, row.summary), make("p", { class: "tag" }, row.ground)];
  if (row.note) parts.push(make("p", { class: "mark" }, "⚠ " + row.note + "; it does not compare with the other rows."));
  const blocks = make("div", { class: "parts" });
  const block = (title, ...content) => blocks.append(make("div", {}, make("h3", {}, title), ...content));
  parts.push(make("h3", {}, "Runs"), grid(
    ["Seed", "HR@10", "95 %", "NDCG@10", "95 %", "Train", "Decode", "Users / s", "Memory", "Device memory"],
    row.runs.map((run) => {
      const metrics = run.metrics[state.protocol] || {};
      const bounds = (name) => { const b = run.intervals[state.protocol]?.[name]; return b ? `${number(b[0])}–${number(b[1])}` : "—"; };
      return [run.seed, number(metrics["HR@10"]), bounds("HR@10"), number(metrics["NDCG@10"]), bounds("NDCG@10"),
        duration(run.cost["train seconds"]), duration(run.cost["decode seconds"]), number(run.cost["users per second"], 0), gib(run.cost["peak memory GiB"]), gib(run.cost["device memory GiB"])];
    })));
  for (const stage of row.stages) {
    for (const [kind, title] of [["cumulative", "Cumulative level accuracy"], ["independent", "Independent hit rate"]]) {
      const names = Object.keys(Object.values(stage.levels[kind])[0]);
      const rows = Object.entries(stage.levels[kind]).map(([k, values]) => [k, ...names.map((c) => percent(values[c]))]);
      const steps = Object.entries(stage.levels["drop-off"]).map(([step, value]) => `${step} ${percent(value)}`).join("; ");
      block(`${title}, ${stage.name}`, grid(["K", ...names], rows), kind === "cumulative" ? make("p", { class: "tag" }, "Top 1: " + steps) : null);
    }
  }
  block("Effort", grid(["What", "Value"], row.effort.map(([name, value]) => [name, value ?? "—"])));
  if (row.beyond.length) block("Beyond accuracy, first ten items", grid(["Measure", "Value"], row.beyond.map(([name, value]) => [name, value ?? "—"])));
  const parted = Object.entries(row.segments || {}).flatMap(([name, labels]) => Object.entries(labels).map(([label, part]) => [name, label, part]));
  if (parted.length) block(`Segments, ${PROTOCOLS[state.protocol]} protocol`, grid(["Segment", "", "n", "HR@10", "NDCG@10"],
    parted.map(([name, label, part]) => [name, label, Math.round(part.n), number(part[state.protocol]?.["HR@10"]), number(part[state.protocol]?.["NDCG@10"])])));
  const sections = new Map();
  for (const [key, value] of row.settings) {
    const dot = key.indexOf(".");
    const section = dot > 0 ? key.slice(0, dot) : "run";
    if (!sections.has(section)) sections.set(section, []);
    sections.get(section).push([key.slice(dot + 1), value]);
  }
  for (const [section, pairs] of sections) blocks.append(make("div", { class: "settings" }, make("h3", {}, `Settings: ${section}`), grid(["Setting", "Value"], pairs)));
  return [...parts, blocks];
}

function grid(headers, rows) {
  return make("table", {}, make("thead", {}, make("tr", {}, ...headers.map((h) => make("th", { scope: "col" }, h)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value) => make("td", {}, String(value)))))));
}

function drawTools() {
  $("protocol").replaceChildren(make("legend", {}, "Protocol"), ...Object.keys(category().tables).map((protocol) => {
    const input = make("input", { type: "radio", name: "protocol", value: protocol });
    input.checked = protocol === state.protocol;
    input.addEventListener("change", () => { state.protocol = protocol; draw(); });
    return make("label", {}, input, PROTOCOLS[protocol]);
  }));
  const groups = new Map(category().rows.map((row) => (row.kind === "reported" ? ["reported", "Reported elsewhere"] : [row.group, row.groupTitle])));
  drawChips("groups", "Show", groups, (group) => !state.hidden.has(group), (group, on) => {
    on ? state.hidden.delete(group) : state.hidden.add(group);
    drawRows();
  });
  drawChips("columns", "Columns", Object.entries(MORE), (set) => state.more.has(set), (set, on) => {
    on ? state.more.add(set) : state.more.delete(set);
    drawTable(); remember();
  });
}
function drawChips(place, legend, choices, isOn, change) {
  $(place).replaceChildren(make("legend", {}, legend), ...[...choices].map(([value, title]) => {
    const input = make("input", { type: "checkbox", value });
    input.checked = isOn(value);
    input.addEventListener("change", () => change(value, input.checked));
    return make("label", {}, input, title);
  }));
}

function drawTabs() {
  const tabs = DATA.categories.map((found, index) => {
    const tab = make("button", { type: "button", role: "tab", id: "t-" + index, "aria-controls": "panel", "aria-selected": String(index === state.category), tabindex: index === state.category ? 0 : -1 }, found.name);
    tab.addEventListener("click", () => select(index));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) { select((index + step + DATA.categories.length) % DATA.categories.length); $("t-" + state.category).focus(); event.preventDefault(); }
    });
    return tab;
  });
  $("tabs").replaceChildren(...tabs);
  $("panel").setAttribute("aria-labelledby", "t-" + state.category);
}
function select(index) { state.category = index; state.open.clear(); draw(); }

function drawBelow() {
  $("notes").replaceChildren(make("p", {}, table().caption), make("p", {}, "A row unfolds to its settings, seeds and per-level tables. Best in bold, second underlined, among measured rows."));
  const figures = category().figures.filter((figure) => !figure.protocol || figure.protocol === state.protocol);
  $("figures").replaceChildren(...figures.map((figure) => make("figure", {},
    make("img", { src: "data:image/svg+xml;base64," + figure.svg, alt: figure.title, loading: "lazy" }), make("figcaption", {}, figure.title))));
  const wrong = category().rows.filter((row) => row.problems?.length);
  $("wrong").replaceChildren(...(wrong.length ? [make("h2", {}, "Reported numbers that cannot be true"), ...wrong.flatMap((row) => row.problems.map((problem) => make("p", {}, `${row.name} (${row.source}): ${problem}.`)))] : []));
}

// Two rows side by side, paired by test sample: metrics, what is chance, and where they differ.
function comparable() {
  const value = (row) => metric(row, "NDCG@10") ?? -1;
  return category().rows.filter((row) => row.kind === "measured" && row.metrics[state.protocol]).sort((a, b) => value(b) - value(a));
}
function drawCompare() {
  const rows = comparable();
  $("compare").hidden = rows.length < 2;
  if (rows.length < 2) return;
  state.pair = [0, 1].map((place) => (rows.includes(state.pair?.[place]) ? state.pair[place] : rows[place]));
  $("pair").replaceChildren(...["A", "B"].map((name, place) => {
    const pick = make("select", { id: "pick-" + name }, ...rows.map((row, index) => {
      const option = make("option", { value: String(index) }, row.name);
      option.selected = row === state.pair[place];
      return option;
    }));
    pick.addEventListener("change", () => { state.pair[place] = rows[Number(pick.value)]; drawCompared(); });
    return make("label", {}, name + " ", pick);
  }));
  drawCompared();
}
function pairOf(a, b, name) {
  const known = category().pairs[state.protocol] || {};
  const found = known[a.name]?.[b.name]?.[name];
  if (found) return found;
  const other = known[b.name]?.[a.name]?.[name];
  return other ? [-other[0], -other[2], -other[1], other[3]] : null;
}
function drawCompared() {
  const [a, b] = state.pair;
  const between = (first, second) => (first === null || first === undefined || second === null || second === undefined ? "—" : signed(first - second));
  const bounds = (name) => {
    const found = a === b ? null : pairOf(a, b, name);
    return found ? `${signed(found[1])} to ${signed(found[2])}, ${found[3]}` : "";
  };
  const metrics = ["HR@1", "HR@5", "HR@10", "HR@50", "NDCG@10"].map((name) => [name, number(metric(a, name)), number(metric(b, name)), between(metric(a, name), metric(b, name)), bounds(name)]);
  const cost = ["Train", duration(a.cost["train seconds"]), duration(b.cost["train seconds"]), "", ""];
  const parted = Object.entries(a.segments || {}).flatMap(([name, labels]) => Object.entries(labels).map(([label, part]) => {
    const [one, other] = [part, b.segments?.[name]?.[label]].map((found) => found?.[state.protocol]?.["NDCG@10"]);
    return [name, label, Math.round(part.n), number(one), number(other), between(one, other)];
  }));
  $("compared").replaceChildren(
    grid(["", "A", "B", "A − B", "95 % of the difference, paired by sample"], [...metrics, cost]),
    make("p", { class: "tag" }, "The bounds are of these two rows: whoever picks the best of many pairs finds differences by chance."),
    ...(parted.length ? [make("details", {}, make("summary", {}, "By segment, NDCG@10"), grid(["Segment", "", "n", "A", "B", "A − B"], parted))] : []));
}

function draw() {
  if (!category().tables[state.protocol]) state.protocol = Object.keys(category().tables)[0];
  drawTabs(); drawTools(); drawTable(); drawCompare(); drawBelow();
  remember();
}
// The table anew: its columns, its rows, and those that are unfolded.
function drawTable() {
  made = new Map();
  shown = columns();
  drawHead(); drawRows();
  for (const id of state.open) made.get(id)?.name.setAttribute("aria-expanded", "true");
}

function remember() {
  const told = new URLSearchParams({ category: category().name, protocol: state.protocol, sort: (state.down ? "-" : "") + state.sort });
  if (state.more.size) told.set("columns", [...state.more].join(" "));
  try { history.replaceState(null, "", "#" + told); } catch { /* a page without an address of its own */ }
}
function recall() {
  const told = new URLSearchParams(location.hash.slice(1));
  const index = DATA.categories.findIndex((found) => found.name === told.get("category"));
  if (index >= 0) state.category = index;
  if (PROTOCOLS[told.get("protocol")]) state.protocol = told.get("protocol");
  for (const set of (told.get("columns") || "").split(" ")) if (Object.hasOwn(MORE, set)) state.more.add(set);
  const sort = told.get("sort");
  if (sort) { state.down = sort.startsWith("-"); state.sort = sort.replace(/^-/, ""); }
}

for (const found of DATA.categories) found.rows.forEach((row, index) => {
  row.id = String(index);
  row.order = index;
  row.search = [row.name, row.groupTitle, row.source, row.summary, ...(row.settings || []).flat()].filter(Boolean).join(" ").toLowerCase();
});
$("filter").addEventListener("input", (event) => { state.text = event.target.value; drawRows(); });
$("more").addEventListener("click", () => more(order.length));
window.addEventListener("beforeprint", () => more(order.length));
new IntersectionObserver((seen) => { if (seen.some((entry) => entry.isIntersecting) && drawn < order.length) more(); }, { rootMargin: "600px" })
  .observe($("more"));
recall();
draw();
