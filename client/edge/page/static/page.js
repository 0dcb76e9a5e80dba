"use strict";
/* The plant's page: asks its own server every two seconds, draws by hand, sends orders. No library, no other host. */

const EVERY_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";
const token = document.querySelector("meta[name=token]").content;
const $ = (id) => document.getElementById(id);
let points = [], most = 600, latest = null, failing = 0;

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}
function draw(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
const fill = (id, children, empty) => {
  const fresh = children.length ? children : [el("li", { class: "quiet" }, empty)];
  const key = fresh.map((child) => child.outerHTML).join("");
  const place = $(id);
  if (place.dataset.key !== key) { // Untouched while nothing changed: focus and screen readers stay where they are.
    const id_ = document.activeElement && place.contains(document.activeElement) ? document.activeElement.id : "";
    place.replaceChildren(...fresh);
    place.dataset.key = key;
    if (id_ && $(id_)) $(id_).focus();
  }
};
const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const figure = (value) => finite(value) ? Number(value.toPrecision(3)).toString().replace("-", "\u2212") : value === "inf" ? "\u221e" : "\u2013";
const clock = (time) => finite(time) && time > 0 ? new Date(time * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }) : "\u2013";
const when = (time) => {
  if (!finite(time) || time <= 0) return "\u2013";
  const date = new Date(time * 1000);
  const day = date.toDateString() === new Date().toDateString() ? "" : date.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" }) + " ";
  return day + clock(time);
};
const span = (seconds) => seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
const arrow = (direction) => direction > 0 ? "\u25b2 too high" : direction < 0 ? "\u25bc too low" : "";

/* ---- the server ------------------------------------------------------------------------------------------------ */

async function ask(path) {
  const answer = await fetch(path, { headers: { "Accept": "application/json" } });
  if (!answer.ok) throw new Error((await answer.json()).error || answer.statusText);
  return answer.json();
}
async function order(path, body) {
  try {
    const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", "X-Token": token }, body: JSON.stringify(body) });
    const told = await answer.json();
    toast(answer.ok ? `Done: ${told.done}` : `Refused: ${told.error}`);
  } catch (error) { toast(`The page's server does not answer: ${error.message}`); }
  setTimeout(look, 600);
}
let toasting = 0;
function toast(text) {
  say("toast", text);
  clearTimeout(toasting);
  toasting = setTimeout(() => say("toast", ""), 6000);
}
async function look() {
  try {
    const last = points.length ? points[points.length - 1][0] : 0;
    const [state, fresh] = await Promise.all([ask("/api/state"), ask(`/api/scores?most=${most}&since=${last}`)]);
    points = points.concat(fresh).slice(-most);
    failing = 0;
    show(state);
  } catch (error) {
    failing += 1;
    if (failing > 1) banner("unknown", "?", "The page has lost its server", error.message);
  }
}

/* ---- what is shown --------------------------------------------------------------------------------------------- */

const STANDING = {
  normal: ["\u2713", "Normal"], pending: ["\u2026", "Above the threshold, not yet an alarm"], active: ["!", "Alarm"],
  acknowledged: ["!", "Alarm, acknowledged"], cleared: ["\u21a9", "Back to normal, not acknowledged"], unknown: ["?", "State unknown"],
};
function banner(state, mark, title, told) {
  $("banner").dataset.state = state;
  if ($("mark").textContent !== mark) $("mark").replaceChildren(el("b", {}, mark));
  say("standing", title);
  say("told", told);
}
function show(state) {
  latest = state;
  const { alarms, models } = state, now = state.latest;
  const current = alarms.listed[0];
  const standing = alarms.known || alarms.standing !== "normal" ? alarms.standing : "unknown";
  const [mark, title] = STANDING[standing] || STANDING.unknown;
  const named = current ? current.sensors.slice(0, 3).map((part) => part.tag).join(", ") : "";
  const told = current && standing !== "normal" ? `since ${when(current.raised)}, raised by ${models_of(current.by)}${standing === "active" ? "; nobody has acknowledged it" : ` \u00b7 ${named}`}` : !alarms.known ? "No readings arrive." : now ? "Scores are below the threshold." : "No scores yet.";
  banner(standing, mark, standing === "active" ? `Alarm: ${named}` : title, told);
  document.title = `${standing === "active" ? "\u26a0 " : ""}${title} \u2013 Crossplant`;
  say("site", models.current && models.current.site ? models.current.site : "");
  const guard = now && finite(now.guard) && finite(now.guard_threshold) && now.guard_threshold > 0 ? now.guard / now.guard_threshold : null;
  fill("now", now ? [fact("Score", figure(now.score)), fact("Threshold", figure(now.threshold)), fact("Local guard", guard === null ? "\u2013" : `${figure(guard)}\u00d7 its threshold`)] : [], "");
  const age = now ? state.now - now.time : null;
  say("age", now ? `newest reading ${when(now.time)}` : "no readings");
  $("age").title = age === null ? "" : `${span(Math.max(0, age))} ago by this machine's clock`;
  link(state.link, state.now);
  sensors(now);
  alarmList(alarms);
  faultList(state);
  modelList(models);
  fill("events", events(state), "Nothing yet.");
  chart();
}
const models_of = (by) => by.map((who) => who === "guard" ? "the local guard" : "the federated model").join(" and ");
const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
function link(found, now) {
  const state = found ? found.state : "unknown", well = state === "connected";
  const since = found && found.since ? ` since ${when(found.since)} (${span(Math.max(0, now - found.since))})` : "";
  const words = { connected: "\u25cf Linked to the coordinator", unknown: "\u25cb Link to the coordinator not known", silent: "\u26a0 Relay silent" };
  say("link", `${words[state] || "\u26a0 Coordinator unreachable"}${well ? "" : since}`);
  $("link").dataset.state = well || state === "unknown" ? "" : "warn";
  $("link").title = `${found && found.told ? found.told + " " : ""}Scoring does not need the link.`;
}
function sensors(now) {
  const parts = now ? now.sensors : [];
  $("sensors").classList.toggle("hot", Boolean(now && now.anomalous.length));
  say("mode", now ? `Operating mode ${now.mode === null ? "\u2013" : now.mode}${now.anomalous.length ? ` \u00b7 anomalous by ${models_of(now.anomalous)}` : ""}` : "");
  fill("sensors", parts.map((part) => el("li", {},
    el("div", { class: "line" }, el("b", {}, part.tag), el("span", { class: "what" }, `${part.direction > 0 ? "\u25b2" : part.direction < 0 ? "\u25bc" : ""} reads ${figure(part.reading)}, expected ${figure(part.expected)}`)),
    el("progress", { max: 1, value: part.share, "aria-label": `${part.tag}: ${Math.round(part.share * 100)} % of the score` }))), "No scores yet.");
}
function alarmList(alarms) {
  fill("alarm-list", alarms.listed.map((alarm) => {
    const live = alarm.state === "active" && alarm.kind === "alarm", first = alarm.sensors[0];
    const parts = alarm.sensors.slice(0, 3).map((part) => `${part.tag} ${arrow(part.direction)}`.trim()).join(" \u00b7 ");
    const sub = `since ${when(alarm.raised)}${alarm.cleared ? ", back to normal " + when(alarm.cleared) : ""} \u00b7 score ${figure(alarm.score)} against ${figure(alarm.threshold)}${alarm.mode === null ? "" : ` \u00b7 mode ${alarm.mode}`} \u00b7 by ${models_of(alarm.by)}${alarm.acked_by ? ` \u00b7 seen by ${alarm.acked_by}` : ""}`;
    const word = alarm.kind === "alarm" ? alarm.state : `${alarm.kind}, ${alarm.state}`;
    return el("li", {}, el("span", { class: `tag ${live ? "active" : "warn"}` }, `${live ? "\u25c6 " : ""}${word}`),
      el("div", { class: "main" }, el("div", {}, el("b", {}, parts)), el("div", { class: "sub" }, sub)),
      el("div", { class: "actions" },
        alarm.acked === null ? el("button", { type: "button", class: live ? "primary" : "", id: `ack-${alarm.id}`, "data-do": "ack", "data-id": alarm.id, "aria-label": `Acknowledge ${alarm.id}` }, "Acknowledge") : null,
        first ? el("button", { type: "button", id: `shelve-${alarm.id}`, "data-do": "shelve", "data-tag": first.tag, "aria-label": `Shelve ${first.tag}` }, "Shelve") : null));
  }), alarms.trouble || "No alarm stands, and none waits to be acknowledged.");
  $("shelves-head").hidden = !alarms.shelves.length;
  fill("shelves", alarms.shelves.map((shelf) => el("li", {}, el("span", { class: "tag warn" }, shelf.until === null ? "out of service" : "shelved"),
    el("div", { class: "main" }, el("b", {}, shelf.tag), el("div", { class: "sub" }, `${shelf.until === null ? "" : `until ${when(shelf.until)}, `}by ${shelf.by}: ${shelf.note} \u00b7 ${shelf.held} alarms held back`)),
    el("button", { type: "button", id: `un-${shelf.tag}`, "data-do": "unshelve", "data-tag": shelf.tag }, "End"))), "");
  $("shelves").hidden = !alarms.shelves.length;
}
function faultList(state) {
  const rows = state.faults.map((fault) => row(fault.kind || fault.state || "fault", fault.tag, `${fault.text || ""} since ${when(fault.since || fault.time)}`))
    .concat(state.drift.map((drift) => row(`drift: ${drift.state}`, drift.tag, `${finite(drift.shift) ? `${figure(drift.shift)} spreads from calibration, ` : ""}since ${when(drift.time)}`)));
  fill("faults", rows, "All sensors read as they should; nothing drifts.");
}
const row = (word, name, sub) => el("li", {}, el("span", { class: "tag warn" }, word), el("div", { class: "main" }, el("b", {}, name), el("div", { class: "sub" }, sub)));
function modelList(models) {
  if (models.trouble) { $("models").replaceChildren(el("p", { class: "quiet" }, models.trouble)); return; }
  const cards = [["In force", models.current, [models.probation ? "on probation" : "", models.uncalibrated ? "uncalibrated" : ""].filter(Boolean).join(", ")], ["In shadow", models.shadow, ""], ["The one before", models.previous, ""]];
  const made = cards.map(([name, model, sub]) => el("div", { class: "model" }, el("div", { class: "sub quiet" }, `${name}${sub ? ", " + sub : ""}`),
    el("div", { class: "big" }, model ? (model.round === undefined ? model.digest.slice(0, 12) : `Round ${model.round}`) : "none"),
    model ? el("div", {}, el("span", { class: "quiet" }, model.number ? `bundle ${model.number} ` : ""), el("code", {}, model.digest.slice(0, 12))) : null,
    model && model === models.current && models.uncalibrated ? el("div", { class: "sub" }, `Its false alarm rate is not known: ${short(models.uncalibrated)}`) : null,
    model && model === models.previous ? el("button", { type: "button", id: "rollback", "data-do": "rollback", "data-to": model.digest }, "Go back to it") : null));
  const key = made.map((card) => card.outerHTML).join("");
  if ($("models").dataset.key !== key) { $("models").replaceChildren(...made); $("models").dataset.key = key; }
  const trial = models.trial;
  if (!trial) { $("trial").replaceChildren(); return; }
  const head = trial.role === "shadow" ? "Gates of the model in shadow" : "Gates of the model on probation";
  $("trial").replaceChildren(el("h3", {}, `${head}: ${trial.windows} of ${trial.wanted} windows${trial.passed ? ", passed" : ""}`),
    el("ul", {}, ...trial.checks.map((check) => el("li", {}, el("span", { class: check.passed ? "" : "no" }, !check.passed ? "\u2717 fails" : check.weak ? "\u2013 cannot tell" : "\u2713 passes"), el("b", {}, check.name), el("span", { class: "quiet" }, check.told)))));
}
const short = (told) => (told.length > 150 ? told.slice(0, 149) + "\u2026" : told);
function events(state) {
  const models = (state.models.events || []).map((event) => [event.time, `Model ${event.digest.slice(0, 12)}: ${event.what}`, event.told]);
  const notices = state.notices.map((notice) => [notice.time, notice.kind, notice.text]);
  return models.concat(notices).sort((a, b) => b[0] - a[0]).slice(0, 8).map(([time, head, told]) => el("li", {}, el("div", { class: "main" },
    el("div", {}, head), told ? el("div", { class: "sub" }, short(told)) : null), el("span", { class: "sub" }, when(time))));
}

/* ---- the chart ------------------------------------------------------------------------------------------------- */

function limits() {
  const values = points.flatMap((p) => [p[1], p[2]]).filter(finite).sort((a, b) => a - b);
  if (!values.length) return [0, 1];
  const threshold = points.map((p) => p[2]).filter(finite).pop();
  const low = values[Math.floor(values.length * 0.005)];
  let high = values[Math.ceil((values.length - 1) * 0.998)];
  if (finite(threshold)) high = Math.max(high, threshold + 0.15 * Math.abs(threshold - low));
  const room = (high - low || 1) * 0.06;
  return [low - room, high + room];
}
function ticks(low, high, about) {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}
function chart() {
  const svg = $("chart"), width = svg.clientWidth, height = svg.clientHeight;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  if (points.length < 2 || width < 50) return;
  const left = 44, right = 8, top = 12, bottom = 20, [low, high] = limits();
  const first = points[0][0], last = points[points.length - 1][0];
  const x = (time) => left + (width - left - right) * (time - first) / (last - first || 1);
  const y = (value) => { const v = value === "inf" ? high : finite(value) ? value : low; return top + (height - top - bottom) * (1 - (Math.min(high, Math.max(low, v)) - low) / (high - low)); };
  for (const value of ticks(low, high, 5)) {
    svg.append(draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }), draw("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, figure(value)));
  }
  const columns = Math.max(2, Math.floor(width / 190));
  for (let i = 0; i <= columns; i += 1) {
    const time = first + (last - first) * i / columns, anchor = i === 0 ? "start" : i === columns ? "end" : "middle";
    svg.append(draw("text", { x: x(time), y: height - 4, "text-anchor": anchor }, clock(time)));
  }
  let from = null;
  const gap = 4 * (last - first) / points.length;
  points.forEach((p, i) => {
    if (p[5] && from === null) from = x(p[0]);
    const next = points[i + 1];
    if (from !== null && (!p[5] || !next || next[0] - p[0] > gap)) {
      svg.append(draw("rect", { x: from, y: top, width: Math.max(2, x(p[0]) - from), height: height - top - bottom, class: "band" }));
      from = null;
    }
  });
  const path = (of) => points.map((p, i) => [i === 0 || p[0] - points[i - 1][0] > gap ? "M" : "L", x(p[0]).toFixed(1), " ", y(of(p)).toFixed(1)].join("")).join("");
  const shadowed = points.some((p) => finite(p[3]));
  $("shadow-key").hidden = !shadowed;
  if (shadowed) svg.append(draw("path", { d: path((p) => finite(p[3]) && finite(p[2]) ? p[3] * p[2] : p[1]), class: "shadow" }));
  svg.append(draw("path", { d: path((p) => p[1]), class: "score" }), draw("path", { d: path((p) => p[2]), class: "threshold" }));
  for (const p of points.filter((q) => q[5])) {
    const [cx, cy] = [x(p[0]), y(p[1])];
    svg.append(draw("path", { d: `M${cx - 3} ${cy}L${cx} ${cy - 3}L${cx + 3} ${cy}L${cx} ${cy + 3}Z`, class: "hit" }));
  }
  const end = points[points.length - 1], hits = points.filter((p) => p[5]).length;
  svg.append(draw("text", { x: width - right, y: y(end[2]) - 6, "text-anchor": "end", class: "name" }, `threshold ${figure(end[2])}`));
  svg.setAttribute("aria-label", `Scores from ${clock(first)} to ${clock(last)}: newest ${figure(end[1])}, threshold ${figure(end[2])}; ${hits} of ${points.length} above it.`);
}

/* ---- orders ---------------------------------------------------------------------------------------------------- */

const FORMS = {
  ack: { head: "Acknowledge the alarm", told: "Says that somebody has seen it. It stays until the plant is back to normal.", ok: "Acknowledge", note: "Note (not needed)", path: "/api/ack" },
  shelve: { head: "Shelve", told: "Raises no alarm because of this sensor for a while. All others go on.", ok: "Shelve", note: "Why", path: "/api/shelve", needs: true },
  unshelve: { head: "End the shelf", told: "Alarms because of this sensor are raised again.", ok: "End it", note: "Note (not needed)", path: "/api/unshelve" },
  rollback: { head: "Go back to the model before", told: "The scorer goes over with one of its next samples, without asking any gate; the model in force now is not tried again.", ok: "Go back", path: "/api/rollback" },
};
let open = null;
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) {
    const form = FORMS[button.dataset.do];
    open = { form, data: { ...button.dataset } };
    say("ask-head", button.dataset.tag ? `${form.head}: ${button.dataset.tag}` : form.head);
    say("ask-told", form.told);
    say("ask-ok", form.ok);
    say("note-label", form.note || "");
    $("for-row").hidden = button.dataset.do !== "shelve";
    $("note-row").hidden = $("by-row").hidden = button.dataset.do === "rollback";
    if (button.dataset.do !== "rollback") $("note-row").hidden = false;
    $("ask-note").required = Boolean(form.needs);
    $("ask-by").required = button.dataset.do !== "rollback";
    $("ask-note").value = "";
    $("ask-by").value = localStorage.getItem("by") || "";
    $("ask").showModal();
  }
  const zoom = event.target.closest("button[data-most]");
  if (zoom) {
    most = Number(zoom.dataset.most);
    points = [];
    for (const one of document.querySelectorAll("button[data-most]")) one.setAttribute("aria-pressed", String(one === zoom));
    look();
  }
});
$("ask").addEventListener("close", () => {
  if ($("ask").returnValue !== "ok" || !open) return;
  const { form, data } = open, by = $("ask-by").value.trim(), note = $("ask-note").value.trim();
  if (by) localStorage.setItem("by", by);
  order(form.path, { id: data.id, tag: data.tag, to: data.to, by, note, seconds: Number($("ask-for").value) });
  $("ask").returnValue = "";
});
window.addEventListener("resize", chart);
look();
setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
