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
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const other = fresh.getElementById(part.id);
      if (other && !part.isEqualNode(other)) exchange(part, other);
    }
    for (const other of fresh.querySelectorAll("[data-live][id]")) {
      // A part that is new decides about the whole page.
      if (!document.getElementById(other.id)) { replaceContent(fresh); break; }
    }
  } catch {
    // The server is away; the stream of events says when it is back.
  } finally {
    refreshing = false;
    if (again) { again = false; soon(); }
  }
}

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
  // Coming back from sleep, something may have been missed that is no longer kept.
  document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
}

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
  const error = document.getElementById(`${field.id}-error`);
  field.toggleAttribute("aria-invalid", false);
  if (message) field.setAttribute("aria-invalid", "true");
  if (error) { error.textContent = message; error.hidden = !message; }
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
    if (culprit) { mark(culprit, result.message); culprit.focus(); }
  } catch {
    show(place, { ok: false, message: "The dashboard does not answer" });
  }
});

// A part of the page, new or exchanged, gets what the script adds to it.
function prepare(part) {
  part.querySelectorAll("[hidden][data-script]").forEach((element) => { element.hidden = false; });
}

prepare(document);
listen();
