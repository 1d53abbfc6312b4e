// Numbers and times as people read them. What is null is said, never shown as 0.
export const NONE = "–";

export function count(value) {
  return value == null ? NONE : Math.round(value).toLocaleString("en-US");
}

export function short(value) {
  if (value == null) return NONE;
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (value >= size) {
      const scaled = value / (unit === "k" ? 1e3 : size);
      return scaled.toFixed(scaled < 100 ? 1 : 0) + " " + unit;
    }
  }
  return value >= 100 || Number.isInteger(value) ? count(value) : value.toFixed(1);
}

export function duration(seconds) {
  if (seconds == null) return NONE;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return s < 600 ? `${Math.floor(s / 60)} m ${s % 60} s` : `${Math.round(s / 60)} m`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} m`;
  return `${(s / 86400).toFixed(1)} d`;
}

export function dollars(value) {
  if (value == null) return "unknown";
  return "$" + value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: value < 1 ? 4 : 2 });
}

export function percent(part, whole) {
  if (!whole) return NONE;
  const share = (100 * part) / whole;
  return (part < whole ? Math.min(99.9, share).toFixed(1) : "100") + " %"; // 100 only when it is
}

// Texts of others become text nodes, never markup.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value != null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export function say(id, text) {
  const node = document.getElementById(id);
  if (node.textContent !== text) node.textContent = text;
}
