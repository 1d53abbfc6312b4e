// A plain page of /api/openapi.json: what there is to ask, what comes back, and a button that asks.
import { el } from "./text.js";

const root = document.getElementById("api");
const spec = await (await fetch("/api/openapi.json")).json();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  if (schema.enum) return schema.enum.join(", ");
  if (schema.additionalProperties) return `${typeOf(schema.propertyNames) || "name"} → ${typeOf(schema.additionalProperties)}`;
  return schema.type ?? "anything";
}

root.append(el("p", {}, spec.info.description), el("p", {}, "Seconds and dollars; null is not known."));
for (const [path, { get }] of Object.entries(spec.paths)) {
  const schema = get.responses["200"].content?.["application/json"]?.schema;
  const output = el("pre", { hidden: true, tabindex: "0" });
  const button = el("button", { type: "button" }, "ask");
  button.addEventListener("click", async () => {
    const answer = await fetch(path);
    const text = await answer.text();
    output.hidden = false;
    try { output.textContent = JSON.stringify(JSON.parse(text), null, 2).slice(0, 20000); } catch { output.textContent = text.slice(0, 20000); }
  });
  root.append(el("section", {}, el("h2", {}, el("code", {}, `GET ${path}`)), el("p", {}, get.description ?? ""), ...(get.parameters ?? []).map((p) => el("p", {}, el("code", {}, `?${p.name}=`), ` ${typeOf(p.schema)}`)), el("p", {}, schema ? `answers ${typeOf(schema)} ` : "", button), output));
}
for (const [name, schema] of Object.entries(spec.components.schemas)) {
  if (!schema.properties || name.includes("Validation")) continue;
  const rows = Object.entries(schema.properties).map(([field, one]) => el("tr", {}, el("td", {}, el("code", {}, field)), el("td", {}, typeOf(one)), el("td", {}, one.description ?? "")));
  root.append(el("section", {}, el("h2", {}, name), el("p", {}, schema.description ?? ""), el("table", {}, el("tbody", {}, ...rows))));
}
