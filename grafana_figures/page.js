// SPDX-License-Identifier: Apache-2.0
"use strict";

const given = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const CELL = 30;
const GAP = 8;
const address = new URLSearchParams(location.search);
const seen = new Map(); // key → {box, plot, text} of each panel on the page
const closed = new Map(); // row → whether the reader closed it
let drawing = null;
let timer = 0;

function option(value, text, chosen) {
  return make("option", { value, textContent: text, selected: value === chosen });
}

// -- the bar

function bar() {
  element("version").textContent = given.version;
  const menu = element("dashboards");
  menu.append(option("", "Dashboards", given.uid || ""));
  for (const one of given.dashboards) menu.append(option(one.url, one.title, given.dashboards.find((d) => d.uid === given.uid)?.url));
  menu.onchange = () => { location.href = given.base + menu.value.replace(/^\//, ""); };
  if (given.page === "home") return;
  const from = element("from");
  const asked = address.get("from") || given.from;
  const ranges = { "now-1m": "1 minute", "now-5m": "5 minutes", "now-15m": "15 minutes", "now-30m": "30 minutes",
    "now-1h": "hour", "now-3h": "3 hours", "now-6h": "6 hours", "now-24h": "day" };
  for (const [value, text] of Object.entries(ranges)) from.append(option(value, text, asked));
  if (!(asked in ranges)) from.append(option(asked, address.get("to") ? "as in the address" : asked.replace("now-", ""), asked));
  from.onchange = () => { address.delete("to"); remember("from", from.value); draw(); };
  const every = element("refresh");
  const wanted = address.has("refresh") ? address.get("refresh") : given.refresh;
  const paces = ["", "1s", "5s", "10s", "15s", "30s", "1m", "5m"];
  for (const pace of paces.includes(wanted) ? paces : [...paces, wanted]) every.append(option(pace, pace || "off", wanted));
  every.onchange = () => { remember("refresh", every.value); schedule(); };
  element("again").onclick = () => draw();
  for (const id of ["time", "every", "again"]) element(id).hidden = given.page === "solo";
  if (given.page === "explore") ask();
}

function ask() {
  const text = element("expression");
  text.value = given.expr || "";
  for (const name of ["left", "panes", "schemaVersion", "orgId"]) address.delete(name);
  for (const name of ["expr", "from", "to"]) if (given[name]) address.set(name, given[name]);
  element("ask").hidden = false;
  element("ask").onsubmit = (event) => { event.preventDefault(); remember("expr", text.value.trim()); draw(); };
  text.onkeydown = (event) => {
    if (event.key === "Enter" && (event.shiftKey || event.ctrlKey)) { event.preventDefault(); element("ask").requestSubmit(); }
  };
  text.focus();
}

function remember(name, value) {
  address.delete(name);
  for (const one of [value].flat()) address.append(name, one);
  history.replaceState(null, "", `${location.pathname}?${address}`);
}

function home() {
  const list = make("ul", { className: "home" });
  for (const one of given.dashboards) {
    list.append(make("li", {}, make("a", { href: given.base + one.url.slice(1) }, one.title, make("small", { textContent: "istio" }))));
  }
  if (!given.dashboards.length) list.append(make("li", { textContent: "No dashboard is mounted into this pod." }));
  element("main").append(list);
}

// -- variables

function variables(found) {
  const place = element("variables");
  if (place.querySelector("details[open]")) return; // the reader is choosing
  const boxes = found.map((one) => make("div", { className: "variable" }, make("span", { textContent: one.label }), chooser(one)));
  place.replaceChildren(...boxes);
}

function chooser(one) {
  const options = one.options.slice();
  if (one.all) options.unshift({ value: "$__all", text: "All" });
  for (const value of one.chosen) if (!options.some((o) => o.value === value)) options.push({ value, text: value });
  const choose = (values) => { remember(`var-${one.name}`, values); draw(); };
  if (!one.multi) {
    const menu = make("select", { title: one.reason });
    menu.setAttribute("aria-label", one.label);
    for (const o of options) menu.append(option(o.value, o.text, one.chosen[0]));
    if (!options.length) menu.append(option("", "None", ""));
    menu.onchange = () => choose([menu.value]);
    return menu;
  }
  const text = options.filter((o) => one.chosen.includes(o.value)).map((o) => o.text).join(" + ") || "None";
  const list = make("div", { className: "choices" });
  const details = make("details", {}, make("summary", { textContent: text, title: one.reason || text }), list);
  for (const o of options) {
    const box = make("input", { type: "checkbox", value: o.value, checked: one.chosen.includes(o.value) });
    box.onchange = () => {
      // "All" and single values exclude each other.
      for (const other of list.querySelectorAll("input")) {
        if (other !== box && box.checked && (o.value === "$__all" || other.value === "$__all")) other.checked = false;
      }
    };
    list.append(make("label", {}, box, ` ${o.text}`));
  }
  details.ontoggle = () => {
    if (details.open) return;
    const values = [...list.querySelectorAll("input:checked")].map((box) => box.value);
    if (values.join() !== one.chosen.join()) choose(values.length ? values : one.all ? ["$__all"] : one.chosen);
  };
  return details;
}

// -- panels

function place(panels) {
  const width = element("main").clientWidth;
  const column = (width + GAP) / 24;
  let base = 0;
  let ground = new Array(24).fill(0);
  let hidden = false;
  for (const one of panels) {
    const box = seen.get(one.key).box;
    if (one.kind === "row") {
      base = Math.max(...ground);
      ground = new Array(24).fill(base + 1);
      hidden = closed.get(one.key) ?? one.collapsed;
      box.style.top = `${base * (CELL + GAP)}px`;
      box.firstChild.data = `${hidden ? "›" : "⌄"} ${one.title}`;
      continue;
    }
    box.hidden = hidden;
    box.style.display = hidden ? "none" : "";
    if (hidden) continue;
    const x = Math.min(one.grid.x, 23);
    const w = Math.min(one.grid.w, 24 - x);
    // As low as what is above allows, whatever gaps the JSON leaves.
    const y = Math.max(...ground.slice(x, x + w));
    // A table is as high as its rows, and no higher than the JSON says.
    const h = one.kind === "table" && !one.reason ? Math.min(one.grid.h, Math.ceil((one.figure.layout.height + 20) / (CELL + GAP))) : one.grid.h;
    ground.fill(y + h, x, x + w);
    Object.assign(box.style, { left: `${x * column}px`, top: `${y * (CELL + GAP)}px`, width: `${w * column - GAP}px`,
      height: `${h * (CELL + GAP) - GAP}px` });
  }
  element("main").style.height = `${Math.max(...ground) * (CELL + GAP)}px`;
}

function frame(one) {
  if (one.kind === "row") {
    const box = make("button", { className: "row", type: "button" }, one.title);
    box.onclick = () => { closed.set(one.key, !(closed.get(one.key) ?? one.collapsed)); draw(); };
    return { box };
  }
  const box = make("article", { className: one.html && !one.title ? "panel transparent" : "panel" });
  box.dataset.kind = one.kind || "unknown";
  box.dataset.title = one.title;
  if (one.title) {
    const title = make("h2", { textContent: one.title, title: one.title });
    if (one.queries.length && given.page !== "explore") {
      title.append(make("a", { textContent: "explore", title: "Its PromQL in Explore" }));
    }
    if (one.description) title.append(make("span", { className: "info", textContent: "i", title: one.description }));
    box.append(title);
  }
  const plot = make("div", { className: one.html ? "words" : "plot" });
  box.append(plot);
  if (one.kind === "timeseries") box.append(make("div", { className: "legend" }));
  return { box, plot };
}

async function show(one) {
  const mine = seen.get(one.key);
  const text = JSON.stringify(one);
  if (one.kind === "row" || mine.box.hidden || mine.text === text) return;
  mine.text = text;
  mine.box.title = one.reason;
  const link = mine.box.querySelector("h2 a");
  if (link) link.href = `${given.base}explore?${new URLSearchParams({ expr: one.queries[0], from: address.get("from") || given.from })}`;
  if (one.html) { mine.plot.innerHTML = one.html; return; } // cleaned by the server
  const figure = JSON.parse(JSON.stringify(one.figure).replaceAll('href=\\"/', `href=\\"${given.base}`));
  const layout = figure.layout;
  delete layout.height;
  delete layout.title;
  layout.autosize = true;
  layout.margin = { ...layout.margin, t: 4, b: one.kind === "timeseries" ? 24 : 10, l: 10, r: 12 };
  if (one.kind === "timeseries") { legend(mine, figure); layout.showlegend = false; }
  await Plotly.react(mine.plot, figure.data, layout, { responsive: true, displayModeBar: false });
}

function legend(mine, figure) {
  const place = mine.box.querySelector(".legend");
  mine.off ??= new Set();
  place.replaceChildren(...(figure.layout.showlegend ? figure.data : []).filter((trace) => trace.showlegend !== false).map((trace) => {
    const mark = make("i");
    mark.style.background = trace.line?.color || trace.marker.color;
    const numbers = Object.entries(trace.meta || {}).map(([name, value]) => `${name}: ${value}`).join("  ");
    const entry = make("button", { type: "button", className: mine.off.has(trace.name) ? "off" : "" }, mark,
      make("span", { textContent: trace.name }), make("small", { textContent: numbers }));
    entry.onclick = () => {
      if (!mine.off.delete(trace.name)) mine.off.add(trace.name);
      mine.text = "";
      draw();
    };
    return entry;
  }));
  for (const trace of figure.data) if (mine.off.has(trace.name)) trace.visible = false;
}

async function draw() {
  clearTimeout(timer);
  if (given.page === "explore" && !address.get("expr")) return; // nothing is asked yet
  drawing?.abort();
  drawing = new AbortController();
  const own = drawing;
  const query = new URLSearchParams(address);
  if (!query.has("from")) query.set("from", given.from);
  if (given.page === "solo") query.append("panel", address.get("panelId") || address.get("viewPanel") || "");
  let problem = "";
  try {
    const where = given.page === "explore" ? "explore" : `draw/${encodeURIComponent(given.uid)}`;
    const response = await fetch(`${given.base}api/labkit/${where}?${query}`, { signal: own.signal });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.message || response.statusText);
    variables(answer.variables);
    await panels(answer.panels);
    problem = answer.problem || "";
  } catch (error) {
    if (error.name === "AbortError") return;
    problem = `${error.message}`;
  }
  element("problem").textContent = problem;
  element("problem").hidden = !problem;
  if (own === drawing) { document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1); schedule(); }
}

async function panels(found) {
  found.sort((a, b) => a.grid.y - b.grid.y || (a.kind === "row") - (b.kind === "row") || a.grid.x - b.grid.x);
  const counts = {};
  for (const one of found) {
    const name = `${one.id}/${one.title}`;
    counts[name] = (counts[name] || 0) + 1;
    one.key = `${name}/${counts[name]}`;
    if (given.page === "solo") Object.assign(one.grid, { x: 0, y: 0, w: 24, h: Math.max(6, Math.floor((innerHeight - 90) / (CELL + GAP))) });
  }
  const keys = new Set(found.map((one) => one.key));
  for (const [key, mine] of seen) if (!keys.has(key)) { if (mine.plot) Plotly.purge(mine.plot); mine.box.remove(); seen.delete(key); }
  for (const one of found) {
    if (seen.has(one.key)) continue;
    seen.set(one.key, frame(one));
    element("main").append(seen.get(one.key).box);
  }
  last = found;
  place(found);
  for (const one of found) await show(one);
}

let last = [];

function schedule() {
  clearTimeout(timer);
  const pace = element("refresh").value;
  const seconds = parseFloat(pace) * ({ s: 1, m: 60, h: 3600 }[pace.slice(-1)] || 1);
  if (!seconds) return;
  timer = setTimeout(() => (document.hidden ? schedule() : draw()), seconds * 1000);
}

bar();
if (given.page === "home") home();
else {
  draw();
  addEventListener("resize", () => last.length && place(last));
  document.addEventListener("visibilitychange", () => document.hidden || draw());
}
