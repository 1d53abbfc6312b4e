// Asks for what has changed, and draws it. The server looks at the lake; this page only at the server.
import { Chart } from "./chart.js";
import { Grid, MARKS, STATES } from "./grid.js";
import { count, dollars, duration, el, NONE, percent, say, short } from "./text.js";
import { Workers } from "./workers.js";

const EVERY = 2000;
const tags = new Map();
const grid = new Grid(document.getElementById("grid"), document.getElementById("detail"));
const workers = new Workers(document.getElementById("workers"));
const charts = [
  new Chart(document.getElementById("chart-rows"), "rows_per_second", "Rows a second", "--running"),
  new Chart(document.getElementById("chart-tokens"), "tokens_per_second", "Tokens a second", "--committed"),
];
let run = "";
let last = null;
let lastAnswer = 0;
let scriptMs = 0;

// null where nothing has changed since the last answer.
async function ask(path) {
  const known = tags.get(path);
  const answer = await fetch(path, { headers: known ? { "If-None-Match": known } : {}, cache: "no-store" });
  lastAnswer = Date.now();
  if (answer.status === 304) return null;
  if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed: open /?token=…" : `the server answers ${answer.status}`);
  tags.set(path, answer.headers.get("ETag"));
  return answer.json();
}

async function poll() {
  if (!document.hidden) {
    try {
      const progress = await ask("/api/progress");
      if (progress || !last) {
        const where = run ? `/api/partitions?run=${encodeURIComponent(run)}` : "/api/partitions";
        const [partitions, table, history] = await Promise.all([ask(where), ask("/api/workers"), ask("/api/history")]);
        const begun = performance.now();
        if (progress) draw(progress);
        if (partitions) grid.update(partitions.partitions);
        if (table) workers.update(table.workers);
        if (history) for (const chart of charts) chart.update(history.samples);
        scriptMs = performance.now() - begun;
        document.documentElement.dataset.renderMs ??= scriptMs.toFixed(1);
        document.documentElement.dataset.revision = last?.revision ?? "";
      }
      live(null);
    } catch (error) {
      live(error instanceof TypeError ? "the server does not answer" : error.message);
    }
  }
  setTimeout(poll, EVERY);
}

function live(problem) {
  const node = document.getElementById("live");
  let text, bad = true;
  if (problem) text = `not live: ${problem}`;
  else if (last?.error) text = `the lake cannot be read: ${last.error}; shown as of ${duration(Date.now() / 1000 - last.at)} ago`;
  else if (!last?.at) text = "reading the lake …";
  else { text = "live"; bad = false; }
  node.classList.toggle("bad", bad);
  if (node.textContent !== text) node.textContent = text;
  node.title = last?.at ? `lake read ${new Date(last.at * 1000).toLocaleTimeString()} in ${duration(last.scan_seconds)}, every ${last.interval_seconds} s` : "";
}

function draw(p) {
  last = p;
  const shown = run ? p.runs.find((one) => one.run === run) : null;
  const scope = shown ?? p;
  say("lake", p.lake);
  document.title = `${percent(scope.rows_done, scope.rows)} · embed-assets`;
  say("done", percent(scope.rows_done, scope.rows));
  say("done-sub", `${count(scope.rows_done)} of ${count(scope.rows)}`);
  const over = p.partitions > 0 && p.counts.committed === p.partitions;
  say("eta", over ? "done" : p.eta_seconds == null ? "unknown" : duration(p.eta_seconds));
  say("eta-sub", over ? "" : p.eta_seconds == null ? (p.workers ? "no worker has a rate yet" : "no worker is at work") : `${duration(p.eta_low_seconds)} to ${duration(p.eta_high_seconds)}`);
  say("rps", short(p.rows_per_second));
  say("rps-sub", p.workers && p.rows_per_second != null ? `${short(p.rows_per_second / p.workers)} a worker` : "");
  say("tps", short(p.tokens_per_second));
  say("tps-sub", `${short(p.tokens_done)} so far`);
  say("workers-n", count(p.workers));
  say("workers-sub", [p.silent_workers && `${p.silent_workers} silent`, p.stragglers && `${p.stragglers} straggler${p.stragglers > 1 ? "s" : ""}`].filter(Boolean).join(", "));
  say("recoveries", count(p.recoveries));
  say("recoveries-sub", p.counts.recovering ? `${p.counts.recovering} under way` : "");
  money(p.spend);
  bar(scope);
  legend(scope.counts);
  damages(p.damages);
  runs(p.runs);
  regions(p.regions);
}

function money(spend) {
  say("spend", dollars(spend.usd));
  const parts = [];
  if (spend.projected_usd != null) parts.push(`${dollars(spend.projected_usd)} at the end`);
  if (spend.on_demand_usd != null) parts.push(`on demand ${dollars(spend.on_demand_usd)}`);
  if (spend.usd_per_hour != null) parts.push(`${dollars(spend.usd_per_hour)}/h`);
  if (spend.usd != null && spend.unknown_jobs) parts.push(`unknown for ${spend.unknown_jobs}`);
  say("spend-sub", parts.join(" · ") || "no prices in the lake");
}

function bar(scope) {
  const root = document.getElementById("bar");
  const whole = scope.rows || 1;
  const total = Object.values(scope.counts).reduce((a, b) => a + b, 0) || 1;
  root.setAttribute("aria-valuenow", ((100 * scope.rows_done) / whole).toFixed(1));
  root.setAttribute("aria-valuetext", `${percent(scope.rows_done, scope.rows)} of the rows`);
  if (!root.firstChild) root.append(el("i", { class: "done" }), el("i", { class: "in-hand" }));
  const committed = scope.counts.committed / total;
  root.firstChild.style.width = `${(100 * Math.min(committed, scope.rows_done / whole)).toFixed(2)}%`;
  root.lastChild.style.width = `${(100 * Math.max(0, scope.rows_done / whole - committed)).toFixed(2)}%`;
}

function legend(counts) {
  const root = document.getElementById("legend");
  if (!root.firstChild) {
    for (const state of STATES) {
      const button = el("button", { type: "button", "aria-pressed": "false", "data-state": state }, el("i", { class: `cell ${state} f5`, "aria-hidden": "true" }), el("span", {}, state), el("b"));
      button.addEventListener("click", () => {
        const only = button.getAttribute("aria-pressed") === "true" ? null : state;
        for (const other of root.children) other.setAttribute("aria-pressed", String(other.dataset.state === only));
        grid.filter(only);
      });
      root.append(button);
    }
    for (const button of root.children) button.firstChild.textContent = MARKS[button.dataset.state] ?? "";
  }
  for (const button of root.children) {
    const text = count(counts[button.dataset.state] ?? 0);
    if (button.lastChild.textContent !== text) button.lastChild.textContent = text;
    button.classList.toggle("none", text === "0");
  }
}

function damages(list) {
  const root = document.getElementById("damages");
  const told = JSON.stringify(list);
  if (told === root.dataset.told) return;
  root.dataset.told = told;
  root.replaceChildren(...list.map((one) => el("p", {}, el("code", {}, one.path), ` ${one.what}`)));
}

function runs(list) {
  const select = document.getElementById("run");
  const names = list.map((one) => one.run);
  if (names.join("\n") === select.dataset.names) return;
  select.dataset.names = names.join("\n");
  select.replaceChildren(el("option", { value: "" }, "all current"), ...list.map((one) => el("option", { value: one.run, selected: one.run === run }, `${one.dataset} · ${one.spec_id} · ${one.partitioning}${one.current ? "" : " (older)"}`)));
}

function regions(list) {
  const body = document.querySelector("#regions tbody");
  const cells = (r) => [r.region, count(r.workers), r.silent ? count(r.silent) : NONE, count(r.committed), short(r.rows_per_second)];
  body.replaceChildren(...list.map((r) => el("tr", {}, ...cells(r).map((text, i) => el("td", { class: i ? "n" : null }, text)))));
}

document.getElementById("run").addEventListener("change", (event) => {
  run = event.target.value;
  tags.clear();
  last = null;
});

// System → light → dark → system.
const themeButton = document.getElementById("theme");
const THEMES = { "": ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
function theme(chosen) {
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  themeButton.textContent = THEMES[chosen][0];
  themeButton.setAttribute("aria-label", `Colours: ${THEMES[chosen][1]}`);
  themeButton.title = `Colours: ${THEMES[chosen][1]}`;
  try { chosen ? localStorage.setItem("theme", chosen) : localStorage.removeItem("theme"); } catch { /* storage is off */ }
  for (const chart of charts) chart.recolour();
}
themeButton.addEventListener("click", () => {
  const order = Object.keys(THEMES);
  theme(order[(order.indexOf(document.documentElement.dataset.theme ?? "") + 1) % order.length]);
});
theme(document.documentElement.dataset.theme ?? "");
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.recolour()));
document.addEventListener("visibilitychange", () => { if (!document.hidden && Date.now() - lastAnswer > EVERY) live(null); });
poll();
