// The heat grid: a cell a partition, touched only when its partition has changed. One tab stop; arrows move in it.
import { count, dollars, duration, el, NONE, percent, short } from "./text.js";

export const STATES = ["committed", "running", "recovering", "stale", "failed", "waiting", "damaged"];
export const MARKS = { recovering: "↻", stale: "?", failed: "×", damaged: "≠" };
const ENDINGS = { preempted: "preempted", failed: "failed attempt, may be retried", bad_job: "no attempt can succeed" };

export class Grid {
  constructor(root, detail) {
    this.root = root;
    this.detail = detail;
    this.cells = new Map();
    this.groups = new Map();
    this.chosen = null;
    this.only = null;
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("focusin", (event) => this.choose(event.target.dataset.id));
    root.addEventListener("click", (event) => this.choose(event.target.dataset.id));
    root.addEventListener("mouseover", (event) => this.show(event.target.dataset.id));
    root.addEventListener("mouseleave", () => this.show(this.chosen));
  }

  update(partitions) {
    const many = partitions.length;
    const size = many <= 150 ? "l" : many <= 1500 ? "m" : "s";
    if (this.root.dataset.size !== size) this.root.dataset.size = size;
    const kept = new Set();
    for (const partition of partitions) {
      const id = `${partition.run}/${partition.stride}`;
      kept.add(id);
      let cell = this.cells.get(id);
      if (!cell) {
        cell = { node: el("div", { role: "option", tabindex: "-1", "data-id": id, "data-key": partition.key }), drawn: "" };
        this.group(partition).append(cell.node);
        this.cells.set(id, cell);
      }
      cell.partition = partition;
      this.draw(cell);
    }
    for (const [id, cell] of this.cells) {
      if (!kept.has(id)) { cell.node.remove(); this.cells.delete(id); }
    }
    for (const [run, group] of this.groups) {
      if (!group.box.childElementCount) { group.outer.remove(); this.groups.delete(run); }
    }
    if (!this.cells.has(this.chosen)) this.chosen = this.cells.keys().next().value ?? null;
    const focusable = this.cells.get(this.chosen);
    if (focusable && focusable.node.tabIndex !== 0) focusable.node.tabIndex = 0;
    this.show(this.hovered ?? this.chosen);
  }

  group(partition) {
    let group = this.groups.get(partition.run);
    if (!group) {
      const name = el("h3", {}, partition.dataset, el("span", {}, partition.run.split("/").slice(1).join(" · ")));
      const box = el("div", { class: "cells", role: "listbox", "aria-label": `Partitions of ${partition.dataset}`, "aria-orientation": "horizontal" });
      group = { box, outer: el("div", { class: "group" }, name, box) };
      this.groups.set(partition.run, group);
      this.root.append(group.outer);
    }
    return group.box;
  }

  draw(cell) {
    const p = cell.partition;
    const step = p.state === "committed" ? 10 : p.rows ? Math.floor((10 * p.rows_done) / p.rows) : 0;
    const dim = this.only !== null && this.only !== p.state;
    const drawn = `${p.state} ${step} ${p.recoveries} ${p.straggler} ${dim}`;
    const label = this.label(p);
    if (cell.label !== label) { cell.label = label; cell.node.setAttribute("aria-label", label); }
    if (cell.drawn === drawn) return;
    cell.drawn = drawn;
    cell.node.className = `cell ${p.state} f${step}${p.recoveries ? " again" : ""}${p.straggler ? " slow" : ""}${dim ? " dim" : ""}`;
    cell.node.textContent = MARKS[p.state] ?? (p.straggler ? "!" : "");
  }

  label(p) {
    let text = `${p.key}: ${p.state}`;
    if (p.state !== "committed" && p.rows_done) text += `, ${Math.floor((100 * p.rows_done) / p.rows)} %`;
    if (p.recoveries) text += `, recovered ${p.recoveries}×`;
    if (p.straggler) text += ", straggler";
    return text;
  }

  filter(state) {
    this.only = state;
    for (const cell of this.cells.values()) this.draw(cell);
  }

  choose(id) {
    if (!id || !this.cells.has(id)) return;
    const before = this.cells.get(this.chosen);
    if (before) { before.node.tabIndex = -1; before.node.removeAttribute("aria-selected"); }
    this.chosen = id;
    const { node } = this.cells.get(id);
    node.tabIndex = 0;
    node.setAttribute("aria-selected", "true");
    this.show(id);
  }

  key(event) {
    const nodes = [...this.cells.values()].map((cell) => cell.node);
    const at = nodes.findIndex((node) => node.dataset.id === this.chosen);
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    let to = null;
    if (event.key === "ArrowRight") to = at + 1;
    else if (event.key === "ArrowLeft") to = at - 1;
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = nodes.length - 1;
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") to = this.vertical(nodes, at, event.key === "ArrowDown" ? 1 : -1);
    else return;
    event.preventDefault();
    if (to !== null && nodes[to]) nodes[to].focus();
  }

  // The cell nearest in the next line, also of the next dataset.
  vertical(nodes, at, way) {
    const { offsetLeft, offsetTop } = nodes[at];
    let line = null, best = null;
    for (let i = at + way; i >= 0 && i < nodes.length; i += way) {
      const top = nodes[i].offsetTop;
      if (top === offsetTop) continue;
      if (line === null) line = top;
      if (top !== line) break;
      const far = Math.abs(nodes[i].offsetLeft - offsetLeft);
      if (best === null || far < best.far) best = { i, far };
    }
    return best && best.i;
  }

  show(id) {
    this.hovered = id === this.chosen ? null : id;
    const cell = this.cells.get(id);
    if (!cell) { if (!this.cells.size) this.detail.replaceChildren(); return; }
    const p = cell.partition;
    const facts = [
      ["rows", `${count(p.rows_done)} of ${count(p.rows)}${p.rejected ? `, ${count(p.rejected)} rejected` : ""}`],
      ["done", percent(p.rows_done, p.rows)],
      ["tokens", short(p.tokens)],
      ["rows/s", short(p.rows_per_second)],
      p.state === "committed" ? ["took", duration(p.seconds)] : ["time left", duration(p.eta_seconds)],
      ["starts", p.attempts || NONE],
      ["phase", (p.state !== "failed" && ENDINGS[p.ending]) || p.phase || (p.state === "waiting" && p.submitted ? "submitted" : NONE)],
      ["heard of", p.age_seconds == null ? NONE : `${duration(p.age_seconds)} ago`],
      ["on", [p.accelerator, p.region].filter(Boolean).join(", ") || NONE],
      ["cost", dollars(p.cost_usd)],
    ];
    const title = el("strong", {}, p.key);
    const state = el("span", { class: `tag ${p.state}` }, p.state + (p.straggler ? ", straggler" : "") + (p.recoveries ? `, recovered ${p.recoveries}×` : ""));
    const list = el("dl", {}, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
    this.detail.replaceChildren(el("p", {}, title, " ", state), list, ...(p.error ? [el("p", { class: "error" }, p.error)] : []));
  }
}
