"use strict";

const element = (id) => document.getElementById(id);
const [form, text, status, button] = [element("form"), element("text"), element("status"), document.querySelector("button")];
let labels = [];

const percent = (value) => value === undefined || value === null ? "" : `${(100 * value).toFixed(value > 0.995 && value < 1 ? 1 : 0)} %`;
const color = (label) => `label-${Math.max(labels.indexOf(label), 0) % 8}`;

function add(parent, tag, content, className) {
  const child = document.createElement(tag);
  if (content !== undefined) child.textContent = content;
  if (className) child.className = className;
  parent.append(child);
  return child;
}

function showStatus(message, isError = false) {
  status.textContent = message;
  status.className = isError ? "error" : "";
}

function show(source, spans) {
  const characters = Array.from(source); // the API counts code points, JavaScript UTF-16 units
  const slice = (start, end) => characters.slice(start, end).join("");
  const [tagged, rows, legend] = [element("tagged"), element("rows"), element("legend")];
  for (const part of [tagged, rows, legend]) part.replaceChildren();
  let position = 0;
  for (const span of spans) {
    tagged.append(slice(position, span.start_char));
    const mark = add(tagged, "mark", slice(span.start_char, span.end_char), color(span.label));
    mark.title = `${span.label}, confidence ${percent(span.confidence)}`;
    add(mark, "small", span.label);
    position = span.end_char;
    const row = add(rows, "tr");
    add(row, "td", slice(span.start_char, span.end_char));
    add(row, "td", span.label);
    add(row, "td", percent(span.confidence));
    const second = span.runner_up;
    add(row, "td", second ? `${second.label ?? "no entity"} (${percent(second.probability)})` : "");
  }
  tagged.append(slice(position));
  for (const label of [...new Set(spans.map((span) => span.label))].sort()) add(legend, "li", label, color(label));
  element("result").hidden = false;
  showStatus(spans.length === 1 ? "1 entity" : `${spans.length} entities`);
}

async function tag(event) {
  event.preventDefault();
  const source = text.value;
  if (!source.trim()) return showStatus("Paste a text first.", true);
  button.disabled = true;
  showStatus("Tagging ...");
  try {
    const response = await fetch("api/tag", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text: source, runner_up: true }),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    show(source, answer.spans);
  } catch (error) {
    showStatus(error.message || "The server did not answer.", true);
  } finally {
    button.disabled = false;
  }
}

form.addEventListener("submit", tag);
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
fetch("api/info").then((response) => response.json()).then((info) => {
  labels = info.labels;
  element("model").textContent = `${info.name} · ${labels.join(", ")}`;
}).catch(() => showStatus("The server did not answer.", true));
