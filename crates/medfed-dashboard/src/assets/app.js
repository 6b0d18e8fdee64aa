// Exchanges the parts of a page that have changed, sends what buttons and forms ask for, and makes charts
// answer to mouse and keyboard. Without it everything can be read; with it everything is live.

const announcer = document.getElementById("announcer");
const say = (text) => { announcer.textContent = text; };

// --- Live parts: the page is fetched anew, and what differs is put in place. -------------------------------

let refreshing = false;
let again = false;
let timer = 0;

async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  try {
    // What was asked for once, such as verifying, is not asked for again.
    const here = new URL(location.href);
    here.searchParams.delete("verify");
    const answer = await fetch(here, { headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const other = fresh.getElementById(part.id);
      if (other && !part.isEqualNode(other)) exchange(part, other);
    }
    for (const other of fresh.querySelectorAll("[data-live][id]")) {
      // A part that is new decides about the whole page.
      if (!document.getElementById(other.id)) { replaceContent(fresh); break; }
    }
    await loadAll();
  } catch {
    // The server is away; the stream of events says when it is back.
  } finally {
    refreshing = false;
    if (again) { again = false; soon(); }
  }
}

const sources = new Map();

// Large parts come after the page.
async function load(place) {
  const answer = await fetch(place.dataset.load);
  if (!answer.ok) return;
  const loaded = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("loaded");
  if (!loaded || sources.get(place.id) === loaded.innerHTML) return;
  sources.set(place.id, loaded.innerHTML);
  loaded.removeAttribute("data-live");
  loaded.querySelectorAll("[data-live]").forEach((part) => part.removeAttribute("data-live"));
  place.replaceChildren(loaded);
  prepare(loaded);
}

const loadAll = () => Promise.all([...document.querySelectorAll("[data-load]")].map(load)).catch(() => {});

function replaceContent(fresh) {
  const now = document.getElementById("content");
  const next = fresh.getElementById("content");
  if (now && next) { now.replaceWith(next); prepare(next); }
}

// What people have opened, scrolled or focused stays so.
function exchange(part, other) {
  const open = [...part.querySelectorAll("details")].map((details) => details.open);
  const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
  const log = part.querySelector(".log");
  const atEnd = log && log.scrollTop + log.clientHeight >= log.scrollHeight - 8;
  const top = log ? log.scrollTop : 0;
  part.replaceWith(other);
  other.querySelectorAll("details").forEach((details, at) => { if (open[at] !== undefined) details.open = open[at]; });
  if (focus) document.getElementById(focus)?.focus();
  const newLog = other.querySelector(".log");
  if (newLog) newLog.scrollTop = atEnd ? newLog.scrollHeight : top;
  prepare(other);
}

function soon(delay = 150) {
  clearTimeout(timer);
  timer = setTimeout(refresh, delay);
}

function listen() {
  const events = new EventSource("/api/events");
  for (const kind of ["state", "round", "notice", "resync"]) events.addEventListener(kind, () => soon());
  // A log that was being checked has been.
  events.addEventListener("audit", () => { if (document.body.dataset.page === "/audit") soon(); });
  // The session has ended: the page asks to log in.
  events.addEventListener("end", () => location.reload());
  events.addEventListener("round", (event) => {
    const { round } = JSON.parse(event.data);
    say(`Round ${round.round_num} is done`);
  });
  events.addEventListener("progress", (event) => {
    const progress = JSON.parse(event.data);
    if (!progress) { soon(); return; }
    for (const bar of document.querySelectorAll("progress[data-round]")) bar.value = progress.round_progress;
    for (const bar of document.querySelectorAll("progress[data-hospital]")) {
      const steps = progress.hospitals.find((other) => other.hospital === bar.dataset.hospital);
      if (steps) { bar.max = Math.max(steps.of, 1); bar.value = steps.done; }
    }
    if (document.querySelector(".log")) soon(1000);
  });
  // A browser opens six connections to a server at the most; a page that was left needs none.
  addEventListener("pagehide", () => events.close(), { once: true });
}

// Coming back from sleep or from another page, something may have been missed that is no longer kept.
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
addEventListener("pageshow", (event) => { if (event.persisted) { listen(); soon(); } });

// --- Buttons and forms. -------------------------------------------------------------------------------------

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body === undefined ? "" : JSON.stringify(body),
  });
  const result = await answer.json().catch(() => ({ message: answer.statusText }));
  return { ok: answer.ok, ...result };
}

function show(place, result) {
  if (place) {
    place.textContent = result.message;
    place.className = result.ok ? "notice" : "notice bad";
    place.hidden = false;
  }
  say(result.message);
}

document.addEventListener("click", async (event) => {
  if (event.target.closest("[data-print]")) { window.print(); return; }
  const button = event.target.closest("button[data-post]");
  if (!button || button.disabled) return;
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
  button.disabled = true;
  try {
    const body = button.dataset.body ? JSON.parse(button.dataset.body) : undefined;
    show(document.getElementById(button.dataset.answer), await post(button.dataset.post, body));
  } catch {
    show(document.getElementById(button.dataset.answer), { ok: false, message: "The dashboard does not answer" });
  } finally {
    button.disabled = false;
    soon(50);
  }
});

// The form of the parameters sends what was changed, and shows a refusal at its key.

function entered(field) {
  const { kind } = field.dataset;
  if (kind === "switch") return field.checked;
  if (field.value === "" && "optional" in field.dataset) return null;
  if (kind === "number") return Number.isFinite(field.valueAsNumber) ? field.valueAsNumber : field.value;
  if (kind === "json") { try { return JSON.parse(field.value); } catch { return field.value; } }
  return field.value;
}

function changed(field) {
  if (field.dataset.kind === "switch") return field.checked !== field.defaultChecked;
  if (field.options) return [...field.options].some((option) => option.selected !== option.defaultSelected);
  return field.value !== field.defaultValue;
}

function settle(field) {
  if (field.dataset.kind === "switch") field.defaultChecked = field.checked;
  else if (field.options) for (const option of field.options) option.defaultSelected = option.selected;
  else field.defaultValue = field.value;
}

function mark(field, message) {
  const [help, error] = [`${field.id}-help`, `${field.id}-error`];
  document.getElementById(error)?.remove();
  field.removeAttribute("aria-invalid");
  field.setAttribute("aria-describedby", message ? `${error} ${help}` : help);
  if (!message) return;
  field.setAttribute("aria-invalid", "true");
  const place = document.createElement("p");
  [place.id, place.className, place.textContent] = [error, "error", message];
  place.setAttribute("role", "alert");
  field.after(place);
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-config]");
  if (!form) return;
  event.preventDefault();
  const fields = [...form.elements].filter((field) => field.name);
  fields.forEach((field) => mark(field, ""));
  const wanted = {};
  const sent = fields.filter(changed);
  for (const field of sent) {
    const path = field.name.split(".");
    const last = path.pop();
    const section = path.reduce((object, key) => (object[key] ??= {}), wanted);
    section[last] = entered(field);
  }
  const place = document.getElementById(form.dataset.answer);
  try {
    const result = await post(form.dataset.config, wanted);
    show(place, result);
    if (result.ok) sent.forEach(settle);
    const culprit = result.key && form.elements.namedItem(result.key);
    if (culprit) {
      mark(culprit, result.message);
      culprit.closest("details").open = true;
      culprit.focus();
    }
  } catch {
    show(place, { ok: false, message: "The dashboard does not answer" });
  }
});

// --- Charts: values by mouse and arrow keys, series on and off, picture and numbers to take along. ----------

const NS = "http://www.w3.org/2000/svg";
const hiddenSeries = new Map();

// An axis as the picture tells it: scale, two values, and their pixels.
function axis(text) {
  if (!text) return null;
  const [scale, ...numbers] = text.split(" ");
  const [low, high, from, to] = numbers.map(Number);
  const place = scale === "log" ? Math.log : (value) => value;
  return (value) => from + ((place(value) - place(low)) / (place(high) - place(low))) * (to - from);
}

function rowsOf(figure) {
  return [...figure.querySelectorAll("table.numbers tbody tr")].map((row) => [...row.cells].map((cell) => cell.textContent));
}

function columnsOf(figure) {
  return [...figure.querySelectorAll("table.numbers thead th")].map((cell) => cell.textContent);
}

const value = (cell) => Number(cell.replace("−", "-").replaceAll("\u202f", ""));

// Reads row `at` aloud and draws the line that shows where it is.
function point(figure, at) {
  const [rows, columns, svg] = [rowsOf(figure), columnsOf(figure), figure.querySelector("svg")];
  if (!rows.length) return;
  const row = rows[Math.max(0, Math.min(rows.length - 1, at))];
  figure.dataset.at = String(rows.indexOf(row));
  const hidden = hiddenSeries.get(figure.id) ?? new Set();
  const named = row.slice(1).map((cell, index) => [cell, index]).filter(([cell, index]) => cell && !hidden.has(index));
  figure.querySelector(".reading").textContent =
    `${columns[0]} ${row[0]}: ${named.map(([cell, index]) => `${columns[index + 1]} ${cell}`).join(", ")}`;
  const [x, y] = [axis(svg.dataset.x), svg.dataset.y?.split(" ")];
  svg.querySelector(".crosshair")?.remove();
  const across = x && x(value(row[0]));
  if (!Number.isFinite(across)) return;
  const line = document.createElementNS(NS, "line");
  const ends = { x1: across, x2: across, y1: y[3], y2: y[4], class: "crosshair" };
  for (const [name, end] of Object.entries(ends)) line.setAttribute(name, end);
  svg.append(line);
}

function leave(figure) {
  figure.querySelector(".crosshair")?.remove();
  figure.querySelector(".reading").textContent = "";
  delete figure.dataset.at;
}

document.addEventListener("pointermove", (event) => {
  const svg = event.target.closest?.("figure .picture svg[data-x]");
  if (!svg) return;
  const [figure, x] = [svg.closest("figure"), axis(svg.dataset.x)];
  const frame = svg.getBoundingClientRect();
  const across = ((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width;
  let [best, least] = [0, Infinity];
  rowsOf(figure).forEach((row, at) => {
    const distance = Math.abs(x(value(row[0])) - across);
    if (distance < least) [best, least] = [at, distance];
  });
  if (figure.dataset.at !== String(best)) point(figure, best);
});

document.addEventListener("pointerout", (event) => {
  const picture = event.target.closest?.("figure .picture");
  if (picture && !picture.contains(event.relatedTarget) && document.activeElement !== picture) leave(picture.closest("figure"));
});

document.addEventListener("focusout", (event) => {
  if (event.target.matches?.("figure .picture")) leave(event.target.closest("figure"));
});

document.addEventListener("keydown", (event) => {
  if (!event.target.matches?.("figure .picture")) return;
  const figure = event.target.closest("figure");
  const [now, count] = [figure.dataset.at === undefined ? -1 : Number(figure.dataset.at), rowsOf(figure).length];
  const steps = { ArrowRight: now + 1, ArrowLeft: now < 0 ? count - 1 : now - 1, Home: 0, End: count - 1 };
  if (event.key === "Escape") leave(figure);
  if (!(event.key in steps)) return;
  event.preventDefault();
  point(figure, steps[event.key]);
});

// Series that people have switched off stay so when the chart is exchanged.
function applyHidden(figure) {
  const hidden = hiddenSeries.get(figure.id) ?? new Set();
  for (const group of figure.querySelectorAll("g[data-series]"))
    group.classList.toggle("off", hidden.has(Number(group.dataset.series)));
  for (const button of figure.querySelectorAll("button[data-toggle]"))
    button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.toggle))));
}

function legend(figure) {
  const names = [...figure.querySelectorAll("g[data-series]")].filter((group) => group.querySelector("text"));
  const place = figure.querySelector(".legend");
  if (names.length < 2 || !place || place.children.length) return;
  place.append("Show:");
  for (const group of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "small";
    button.dataset.toggle = group.dataset.series;
    button.textContent = group.querySelector("text").firstChild.textContent;
    place.append(button);
  }
  applyHidden(figure);
}

function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The picture carries its colours as attributes; it needs a ground and the namespace to stand alone.
function picture(svg) {
  const copy = svg.cloneNode(true);
  copy.setAttribute("xmlns", NS);
  copy.querySelectorAll(".crosshair, g.off").forEach((element) => element.remove());
  const ground = document.createElementNS(NS, "rect");
  for (const [name, end] of [["width", "100%"], ["height", "100%"], ["fill", "#ffffff"]]) ground.setAttribute(name, end);
  copy.prepend(ground);
  return new XMLSerializer().serializeToString(copy);
}

const quoted = (cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

document.addEventListener("click", (event) => {
  const toggle = event.target.closest("button[data-toggle]");
  const wanted = event.target.closest("button[data-save]");
  const figure = event.target.closest("figure");
  if (toggle) {
    const hidden = hiddenSeries.get(figure.id) ?? new Set();
    const series = Number(toggle.dataset.toggle);
    if (!hidden.delete(series)) hidden.add(series);
    hiddenSeries.set(figure.id, hidden);
    applyHidden(figure);
  } else if (wanted?.dataset.save === "svg") {
    save(`${figure.dataset.chart}.svg`, "image/svg+xml", picture(figure.querySelector("svg")));
  } else if (wanted) {
    const lines = [columnsOf(figure), ...rowsOf(figure)].map((row) => row.map(quoted).join(","));
    save(`${figure.dataset.chart}.csv`, "text/csv", `${lines.join("\r\n")}\r\n`);
  }
});

// A part of the page, new or exchanged, gets what the script adds to it.
function prepare(part) {
  part.querySelectorAll("[hidden][data-script]").forEach((element) => { element.hidden = false; });
  part.querySelectorAll("figure[data-chart]").forEach(legend);
}

prepare(document);
// The end of a log is what people look for.
document.querySelectorAll(".log").forEach((log) => { log.scrollTop = log.scrollHeight; });
loadAll();
listen();
