"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const layers = ["image", "mask", "map", "overlay", "errors"];
const legends = {
  image: "image", mask: "mask", map: "map of",
  overlay: "image, lit by the map of",
  errors: "missed (blue) and wrongly found (orange) by",
};
const state = { set: 0, kind: "", place: 0, method: 0, layer: "overlay" };

// Tables: a click on a heading sorts, another one turns the order; empty cells stay at the end.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const first = head.dataset.first || "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const each of heads) each.setAttribute("aria-sort", each === head ? order : "none");
    sort(table.tBodies[0], column, order === "ascending" ? 1 : -1);
  }));
}

function sort(body, column, sign) {
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  };
  body.append(...[...body.rows].sort((a, b) => compare(value(a), value(b))));
}

// Curves: pointing at a method's row picks out its lines.
for (const row of document.querySelectorAll("tr[data-method]")) {
  const figure = row.closest("section").querySelector("figure.curves");
  const lines = figure.querySelectorAll(`.method-${row.dataset.method}`);
  const light = (on) => {
    figure.classList.toggle("dimmed", on);
    for (const line of lines) line.classList.toggle("lit", on);
  };
  row.addEventListener("pointerenter", () => light(true));
  row.addEventListener("pointerleave", () => light(false));
}

byId("measure")?.addEventListener("change", (event) => {
  for (const row of document.querySelectorAll("tr[data-key]")) {
    row.hidden = event.target.value !== "" && row.dataset.key !== event.target.value;
  }
});

// Viewer.
const set = () => data.dataSets[state.set];
const shown = () => set().images.filter((image) => !state.kind || image.kinds.includes(state.kind));
const printed = (value) => value.toFixed(3).replace(/^0/, "");

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, String(value) === String(chosen))));
}

function radios(fieldset, entries, chosen, change) {
  const labels = entries.map((text, index) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: fieldset.id, value: index });
    input.checked = index === chosen;
    input.addEventListener("change", () => change(index));
    label.append(input, text);
    return label;
  });
  fieldset.replaceChildren(fieldset.firstElementChild, ...labels);
}

function loaded(uri) {
  return new Promise((resolve) => {
    const image = new Image();
    image.addEventListener("load", () => resolve(image));
    image.src = uri;
  });
}

function pixels(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// One pixel of the overlay: its colours as far as the map goes, dim grey for the rest.
function lit(out, i, map) {
  const share = map[i] / 255;
  const grey = 0.35 * (0.299 * out[i] + 0.587 * out[i + 1] + 0.114 * out[i + 2]);
  for (let c = 0; c < 3; c++) out[i + c] = share * out[i + c] + (1 - share) * grey;
}

// One pixel of the errors: grey where map and mask agree, blue where the map is too dark, orange where too bright.
function wrong(out, i, map, mask) {
  const error = (map[i] - mask[i]) / 255;
  const colour = error > 0 ? [230, 159, 0] : [0, 114, 178];
  const grey = 0.299 * out[i] + 0.587 * out[i + 1] + 0.114 * out[i + 2];
  for (let c = 0; c < 3; c++) out[i + c] = Math.abs(error) * colour[c] + (1 - Math.abs(error)) * grey;
}

let drawing = 0;
async function draw(image) {
  const turn = ++drawing;
  const uris = [image.image, image.mask, image.maps[state.method]];
  const [plain, mask, map] = (await Promise.all(uris.map(loaded))).map(pixels);
  if (turn !== drawing) return;
  const out = { image: plain, mask, map, overlay: plain, errors: plain }[state.layer];
  if (state.layer === "overlay") for (let i = 0; i < out.data.length; i += 4) lit(out.data, i, map.data);
  if (state.layer === "errors") for (let i = 0; i < out.data.length; i += 4) wrong(out.data, i, map.data, mask.data);
  const canvas = byId("canvas");
  Object.assign(canvas, { width: out.width, height: out.height });
  canvas.getContext("2d").putImageData(out, 0, 0);
  canvas.dataset.drawn = [set().name, image.name, set().methods[state.method], state.layer].join(" / ");
}

function table(image) {
  const cell = (tag, text, best) => Object.assign(document.createElement(tag), { textContent: text, className: best ? "best" : "" });
  const line = (...cells) => { const row = document.createElement("tr"); row.append(...cells); return row; };
  const head = document.createElement("thead");
  const body = document.createElement("tbody");
  head.append(line(cell("th", ""), ...set().methods.map((name) => cell("th", name))));
  data.keys.forEach((key, column) => {
    const values = image.scores.map((scores) => scores[column]);
    const best = data.lower.includes(key) ? Math.min(...values) : Math.max(...values);
    const cells = values.map((value) => cell("td", printed(value), values.length > 1 && value === best));
    body.append(line(cell("th", data.labels[key]), ...cells));
  });
  byId("scores").replaceChildren(head, body);
}

function strip(image) {
  const entries = [["image", image.image, "image"], ["mask", image.mask, "mask"],
    ...set().methods.map((name, index) => [name, image.maps[index], "map", index])];
  byId("strip").replaceChildren(...entries.map(([name, uri, layer, method]) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(Object.assign(new Image(), { src: uri, alt: "" }), name);
    const current = method === undefined ? state.layer === layer : state.method === method && !["image", "mask"].includes(state.layer);
    button.setAttribute("aria-pressed", current);
    button.addEventListener("click", () => go({ layer, ...(method === undefined ? {} : { method }) }));
    return button;
  }));
}

function show() {
  const images = shown();
  const image = images[state.place];
  const kinds = Object.entries(data.kinds).filter(([kind]) => set().images.some((each) => each.kinds.includes(kind)));
  options(byId("set"), data.dataSets.map((each, index) => [index, each.name]), state.set);
  options(byId("kind"), [["", "all"], ...kinds], state.kind);
  options(byId("image"), images.map((each, index) => [index, `${each.name} (${each.kinds.join(", ")})`]), state.place);
  radios(byId("layer"), layers, layers.indexOf(state.layer), (index) => go({ layer: layers[index] }));
  radios(byId("method"), set().methods, state.method, (index) => go({ method: index }));
  const whose = ["image", "mask"].includes(state.layer) ? "" : ` ${set().methods[state.method]}`;
  byId("caption").textContent = `${image.name}: ${legends[state.layer]}${whose}`;
  byId("canvas").setAttribute("aria-label", byId("caption").textContent);
  table(image);
  strip(image);
  draw(image);
}

// Changes the state, keeps it in range, keeps the keyboard's place, and shows.
function go(change) {
  const active = document.activeElement;
  const at = active?.name ? `[name="${active.name}"]:checked` : null;
  const index = active?.parentElement?.id === "strip" ? [...active.parentElement.children].indexOf(active) : -1;
  Object.assign(state, change);
  const wrap = (value, count) => (value + count) % count;
  state.set = wrap(state.set, data.dataSets.length);
  state.method = wrap(state.method, set().methods.length);
  if (!shown().length) state.kind = "";
  state.place = wrap(state.place, shown().length);
  show();
  if (at) document.querySelector(at)?.focus();
  if (index >= 0) byId("strip").children[index]?.focus();
}

byId("set").addEventListener("change", (event) => go({ set: Number(event.target.value), place: 0 }));
byId("kind").addEventListener("change", (event) => go({ kind: event.target.value, place: 0 }));
byId("image").addEventListener("change", (event) => go({ place: Number(event.target.value) }));
byId("previous").addEventListener("click", () => go({ place: state.place - 1 }));
byId("next").addEventListener("click", () => go({ place: state.place + 1 }));
byId("view").addEventListener("keydown", (event) => {
  if (event.target.tagName === "SELECT" || event.ctrlKey || event.altKey || event.metaKey) return;
  const moves = { ArrowLeft: { place: state.place - 1 }, ArrowRight: { place: state.place + 1 },
    ArrowUp: { method: state.method - 1 }, ArrowDown: { method: state.method + 1 } };
  const change = moves[event.key] || (layers[event.key - 1] && { layer: layers[event.key - 1] });
  if (!change || (event.target.type === "radio" && event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  go(change);
});

if (data.dataSets.some((each) => each.images.length)) {
  state.set = data.dataSets.findIndex((each) => each.images.length);
  show();
} else {
  byId("view").hidden = true;
}
