// The table of workers: sorted by any column, rows reused by attempt.
import { count, dollars, duration, el, NONE, percent, short } from "./text.js";

const COLUMNS = [
  { name: "partition", of: (w) => w.partition },
  { name: "state", of: (w) => (w.straggler ? "straggler" : w.state), tag: true },
  { name: "region", of: (w) => w.zone ?? w.region ?? "unknown" },
  { name: "host", of: (w) => w.host ?? NONE },
  { name: "accelerator", of: (w) => w.accelerator ?? NONE },
  { name: "spot", of: (w) => (w.spot == null ? "unknown" : w.spot ? "spot" : "on demand") },
  { name: "$/h", of: (w) => w.price_per_hour, text: dollars, n: true },
  { name: "done", of: (w) => (w.rows ? w.rows_done / w.rows : 0), text: (_, w) => percent(w.rows_done, w.rows), n: true },
  { name: "rows/s", of: (w) => w.rows_per_second, text: short, n: true },
  { name: "tokens/s", of: (w) => w.tokens_per_second, text: short, n: true },
  { name: "heartbeat", of: (w) => w.age_seconds, text: (v) => `${duration(v)} ago`, n: true },
  { name: "recoveries", of: (w) => w.recoveries, text: count, n: true },
  { name: "attempt", of: (w) => w.attempt, text: (v, w) => `${w.number}: ${v}` + (w.lane ? ` (engine ${w.lane})` : "") },
];
// What needs a look comes first.
const URGENCY = { silent: 0, straggler: 1, loading: 2, working: 3 };

export class Workers {
  constructor(table) {
    this.body = table.tBodies[0];
    this.rows = new Map();
    this.sort = { column: "state", down: false };
    this.data = [];
    const head = el("tr");
    for (const column of COLUMNS) {
      const button = el("button", { type: "button" }, column.name);
      const cell = el("th", { scope: "col", class: column.n ? "n" : null }, button);
      button.addEventListener("click", () => {
        this.sort = { column: column.name, down: this.sort.column === column.name && !this.sort.down };
        this.update(this.data);
      });
      column.head = cell;
      head.append(cell);
    }
    table.tHead.append(head);
  }

  update(workers) {
    this.data = workers;
    const by = COLUMNS.find((column) => column.name === this.sort.column);
    for (const column of COLUMNS) {
      if (column === by) column.head.setAttribute("aria-sort", this.sort.down ? "descending" : "ascending");
      else column.head.removeAttribute("aria-sort");
    }
    const rank = (w) => (by.tag ? URGENCY[by.of(w)] ?? 9 : by.of(w));
    const sorted = [...workers].sort((a, b) => compare(rank(a), rank(b)) * (this.sort.down ? -1 : 1) || compare(a.partition, b.partition));
    const kept = new Set(sorted.map((w) => w.attempt));
    for (const [attempt, row] of this.rows) {
      if (!kept.has(attempt)) { row.remove(); this.rows.delete(attempt); }
    }
    sorted.forEach((worker, at) => {
      let row = this.rows.get(worker.attempt);
      if (!row) {
        row = el("tr", {}, ...COLUMNS.map((c) => el("td", { class: c.n ? "n" : null }, ...(c.tag ? [el("span")] : []))));
        this.rows.set(worker.attempt, row);
      }
      COLUMNS.forEach((column, i) => {
        const value = column.of(worker);
        const text = column.text ? column.text(value, worker) : String(value);
        const target = column.tag ? row.cells[i].firstChild : row.cells[i];
        if (column.tag) target.className = `tag ${value}`;
        if (target.textContent !== text) target.textContent = text;
      });
      if (this.body.rows[at] !== row) this.body.insertBefore(row, this.body.rows[at] ?? null);
    });
    const empty = this.body.querySelector(".empty");
    if (!workers.length && !empty) this.body.append(el("tr", { class: "empty" }, el("td", { colspan: COLUMNS.length }, "No worker is at work.")));
    else if (workers.length && empty) empty.remove();
  }
}

function compare(a, b) {
  if (a == null || b == null) return a == null ? (b == null ? 0 : 1) : -1;
  return typeof a === "number" ? a - b : String(a).localeCompare(String(b));
}
