// Two small line charts, drawn by uPlot.
import { short } from "./text.js";

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Chart {
  constructor(root, field, unit, hue) {
    Object.assign(this, { root, field, unit, hue, plot: null, data: [[], []] });
    new ResizeObserver(() => this.resize()).observe(root);
  }

  update(samples) {
    this.data = [samples.map((s) => s.at), samples.map((s) => s[this.field])];
    const latest = samples.at(-1);
    this.root.setAttribute("aria-label", latest ? `${this.unit} over time, now ${short(latest[this.field])}` : `${this.unit}: nothing yet`);
    if (this.plot) this.plot.setData(this.data);
    else this.build();
  }

  build() {
    const axis = { stroke: () => colour("--faint"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      ...this.box(),
      padding: [6, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, (high || 1) * 1.08] } },
      axes: [
        { ...axis, size: 22, values: [[86400, "{D} {MMM}"], [3600, "{H}:{mm}"], [60, "{H}:{mm}"], [1, "{H}:{mm}:{ss}"], [0.001, "{H}:{mm}:{ss}"]].map(([s, f]) => [s, f, null, null, null, null, null, null, 1]) },
        { ...axis, size: 46, values: (_, ticks) => ticks.map(short) },
      ],
      series: [{}, { stroke: () => colour(this.hue), width: 1.5, fill: () => colour(this.hue) + "22", points: { show: false } }],
    }, this.data, this.root);
  }

  box() {
    return { width: Math.max(200, this.root.clientWidth), height: Math.max(80, this.root.clientHeight) };
  }

  resize() {
    if (this.plot) this.plot.setSize(this.box());
  }

  recolour() {
    if (this.plot) this.plot.redraw(false);
  }
}
