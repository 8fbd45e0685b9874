"use strict";
const part = (id) => document.getElementById(id);
const history_ = [];
let asked = 0, searched = 0, found = [], chosen = -1;

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function say(text, bad) {
  part("said").textContent = text;
  part("said").className = bad ? "bad" : "";
}

async function call(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try { answer = await fetch(path, options); } catch { throw new Error("the server does not answer; is bench serve still running?"); }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function named(item) { return item.title || "item " + item.id; }

function drawHistory() {
  const list = part("history");
  list.replaceChildren(...history_.map((item, place) => {
    const line = element("li", named(item));
    line.append(" ", element("span", item.id, "id"));
    const remove = element("button", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", "remove " + named(item));
    remove.addEventListener("click", () => { history_.splice(place, 1); drawHistory(); recommend(); });
    line.append(remove);
    return line;
  }));
}

async function recommend() {
  const mine = ++asked;
  const k = Math.min(100, Math.max(1, Number(part("k").value) || 10));
  try {
    const body = { history: history_.map((item) => item.id), k: Math.round(k), seen: part("drop").checked ? "drop" : "keep" };
    const answer = await call("/api/recommend", body);
    if (mine !== asked) return;
    drawItems(answer);
    drawBeams(answer);
    say("", false);
  } catch (error) { if (mine === asked) say(error.message, true); }
}

function drawItems(answer) {
  const withSids = answer.items.some((item) => item.sid);
  document.querySelector("th.sid").hidden = !withSids;
  part("items").tBodies[0].replaceChildren(...answer.items.map((item) => {
    const row = element("tr");
    const name = element("td", named(item));
    name.append(element("br"), element("span", item.id, "id"));
    row.append(element("td", item.rank, "number"), name);
    if (withSids) row.append(element("td", item.sid, "sid"));
    row.append(element("td", item.score === null ? "" : item.score.toFixed(3), "number"));
    return row;
  }));
  part("note").textContent = answer.note || "";
}

function drawBeams(answer) {
  part("beams-part").hidden = !answer.beams.length;
  const shown = answer.beams.slice(0, 25);
  const weight = shown.map((beam) => Math.exp(beam.score - shown[0].score));
  const all = weight.reduce((sum, value) => sum + value, 0);
  let before = [];
  part("beams").replaceChildren(...shown.map((beam, place) => {
    const line = element("div", undefined, "beam");
    const code = element("code");
    const levels = beam.sid.match(/<[^>]*>/g) || [beam.sid];
    let same = true;
    levels.forEach((level, number) => {
      same = same && before[number] === level;
      code.append(element("span", level, same ? "repeated" : ""));
    });
    before = levels;
    const bar = element("span", beam.items.map(named).join(" · "), "bar");
    bar.style.backgroundSize = (100 * weight[place] / all).toFixed(1) + "% 100%";
    line.append(code, bar, element("span", beam.score === null ? "" : beam.score.toFixed(2), "number"));
    return line;
  }));
}

function add(item) {
  history_.push(item);
  part("query").value = "";
  close();
  drawHistory();
  recommend();
}

function close() {
  found = []; chosen = -1; ++searched;
  part("found").hidden = true;
  part("query").setAttribute("aria-expanded", "false");
  part("query").removeAttribute("aria-activedescendant");
}

function drawFound() {
  const list = part("found");
  list.replaceChildren(...found.map((item, place) => {
    const line = element("li", named(item));
    line.id = "found-" + place;
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", String(place === chosen));
    line.append(" ", element("span", item.id, "id"));
    line.addEventListener("mousedown", (event) => { event.preventDefault(); add(item); });
    return line;
  }));
  list.hidden = !found.length;
  part("query").setAttribute("aria-expanded", String(found.length > 0));
  if (chosen >= 0) {
    part("query").setAttribute("aria-activedescendant", "found-" + chosen);
    part("found-" + chosen).scrollIntoView({ block: "nearest" });
  }
}

part("query").addEventListener("input", async () => {
  const mine = ++searched, text = part("query").value.trim();
  if (!text) { close(); return; }
  try {
    const answer = await call("/api/items?q=" + encodeURIComponent(text));
    if (mine !== searched) return;
    found = answer.items; chosen = -1;
    drawFound();
  } catch (error) { say(error.message, true); }
});

part("query").addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  if (!found.length || (event.key !== "ArrowDown" && event.key !== "ArrowUp")) return;
  event.preventDefault();
  chosen = (chosen + (event.key === "ArrowDown" ? 1 : -1) + found.length) % found.length;
  drawFound();
});

part("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = part("query").value.trim();
  if (chosen >= 0) { add(found[chosen]); return; }
  if (!text) return;
  try {
    const answer = await call("/api/recommend", { history: [text], k: 1 });
    add(answer.history[0]);
  } catch (error) { say(error.message, true); }
});

part("clear").addEventListener("click", () => { history_.length = 0; drawHistory(); recommend(); });
part("k").addEventListener("change", recommend);
part("drop").addEventListener("change", recommend);
call("/api/model").then((facts) => {
  part("model").textContent = facts.model + ", " + facts.items.toLocaleString("en") + " items";
  part("drop").checked = facts.seen === "drop";
  recommend();
}, (error) => say(error.message, true));
