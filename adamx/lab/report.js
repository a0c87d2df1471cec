"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const plot = by("plot");
const frame = {left: 74, right: 846, top: 12, bottom: 392};
let shown = null; // what is in the picture, for the pointer

function element(name, attributes, parent, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

function write(value) {
  const text = Number(value.toPrecision(3));
  return text !== 0 && (Math.abs(text) < 1e-3 || Math.abs(text) >= 1e5)
    ? text.toExponential()
    : String(text);
}

// The index of the chosen setting, or undefined if the optimizer has not been run there.
function settingOf(optimizer) {
  if (by("best").checked) return optimizer.best ?? undefined;
  const rate = data.rates[by("rate").value];
  const decay = data.decays?.[by("decay").value];
  const index = optimizer.rates.findIndex(
    (value, i) =>
      value === rate && (optimizer.decays === null || optimizer.decays[i] === decay),
  );
  return index < 0 ? undefined : index;
}

// What is chosen, and where each line goes.
function choose() {
  const quantity = data.quantities[by("quantity").value];
  const usable = (value) => value !== null && (!quantity.log || value > 0);
  const lines = [];
  for (const optimizer of data.optimizers.filter((one) => one.box.checked)) {
    const series = optimizer.series[quantity.key];
    const index = settingOf(optimizer);
    if (index === undefined || !series) continue;
    const [mean, low, high] = [series.mean[index], series.low[index], series.high[index]];
    const points = series.steps
      .map((step, i) => ({step, mean: mean[i], low: low[i], high: high[i]}))
      .filter((point) => usable(point.mean) && usable(point.low));
    lines.push({optimizer, index, points, diverged: optimizer.diverged[index]});
  }
  const values = lines.flatMap((line) => line.points.flatMap((p) => [p.low, p.high]));
  let low = Math.min(...values);
  let high = Math.min(Math.max(...values), quantity.cap ?? Infinity);
  if (!(low < high)) [low, high] = values.length ? [low / 2, low * 2] : [0.1, 1];
  const last = Math.max(1, ...data.optimizers.map((one) => one.steps));
  const position = quantity.log
    ? (value) => Math.log(value / low) / Math.log(high / low)
    : (value) => (value - low) / (high - low);
  return {
    quantity,
    lines,
    low,
    high,
    last,
    x: (step) => frame.left + ((frame.right - frame.left) * step) / last,
    y: (value) => frame.bottom - (frame.bottom - frame.top) * position(value),
  };
}

function linearTicks(low, high) {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({length: count}, (_, i) => (first + i) * step);
}

function logTicks(low, high) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const every = Math.ceil((last - first) / 8);
  const factors = last - first > 3 ? [1] : [1, 2, 5];
  const ticks = [];
  for (let power = first; power <= last; power += every)
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  return ticks.filter((tick) => tick >= low && tick <= high);
}

function drawAxes({quantity, low, high, last, x, y}) {
  const {left, right, top, bottom} = frame;
  for (const tick of linearTicks(0, last)) {
    element("line", {x1: x(tick), x2: x(tick), y1: top, y2: bottom, class: "rule"}, plot);
    const place = {x: x(tick), y: bottom + 18, "text-anchor": "middle"};
    element("text", place, plot, tick.toLocaleString("en"));
  }
  for (const tick of (quantity.log ? logTicks : linearTicks)(low, high)) {
    element("line", {x1: left, x2: right, y1: y(tick), y2: y(tick), class: "rule"}, plot);
    const place = {x: left - 6, y: y(tick) + 4, "text-anchor": "end"};
    element("text", place, plot, write(tick));
  }
  const middle = (top + bottom) / 2;
  const below = {x: (left + right) / 2, y: bottom + 38, "text-anchor": "middle"};
  const beside = {transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle"};
  element("text", below, plot, "steps");
  element("text", beside, plot, quantity.label);
}

function draw() {
  shown = choose();
  const {quantity, lines, x, y} = shown;
  plot.replaceChildren();
  const size = {x: frame.left, y: frame.top};
  size.width = frame.right - frame.left;
  size.height = frame.bottom - frame.top;
  element("rect", size, element("clipPath", {id: "inside"}, plot));
  drawAxes(shown);
  const inside = element("g", {"clip-path": "url(#inside)"}, plot);
  for (const line of lines) {
    const at = (key) => line.points.map((p) => `${x(p.step).toFixed(1)},${y(p[key]).toFixed(1)}`);
    const outline = [...at("low"), ...at("high").reverse()].join(" ");
    const band = element("polygon", {points: outline, class: "band"}, inside);
    const look = {points: at("mean").join(" "), class: "line"};
    look["stroke-dasharray"] = line.optimizer.dash;
    line.node = element("polyline", look, inside);
    line.node.dataset.name = line.optimizer.name;
    for (const node of [band, line.node]) node.style.setProperty("--color", line.optimizer.color);
  }
  shown.guide = element("line", {class: "guide", y1: frame.top, y2: frame.bottom}, plot);
  hideTip();
  describe(quantity, lines);
}

function describe(quantity, lines) {
  const best = by("best").checked;
  const rate = by("rate");
  rate.setAttribute("aria-valuetext", data.rates[rate.value]);
  by("rate-value").value = best ? "best" : data.rates[rate.value];
  let where = best ? "the best settings" : `learning rate ${data.rates[rate.value]}`;
  if (data.decays) {
    const decay = by("decay");
    decay.setAttribute("aria-valuetext", data.decays[decay.value]);
    by("decay-value").value = best ? "best" : data.decays[decay.value];
    if (!best) where += `, weight decay ${data.decays[decay.value]}`;
  }
  plot.setAttribute("aria-label", `${quantity.label} against steps at ${where}`);
  const diverged = lines.filter((line) => line.diverged).map((line) => line.optimizer.name);
  by("missing").textContent = diverged.length ? `Diverged: ${diverged.join(", ")}.` : "";
}

function hideTip() {
  by("tip").hidden = true;
  shown.guide.setAttribute("visibility", "hidden");
  for (const line of shown.lines) line.node.classList.remove("near");
}

// Shows the values at a step; the line nearest to a height stands out.
function showTip(step, height) {
  hideTip();
  const rows = shown.lines
    .filter((line) => line.points.length)
    .map((line) => {
      const far = (point) => Math.abs(point.step - step);
      const point = line.points.reduce((a, b) => (far(b) < far(a) ? b : a));
      return {line, point, distance: Math.abs(shown.y(point.mean) - height)};
    })
    .sort((a, b) => a.distance - b.distance)
    .slice(0, 12);
  if (!rows.length) return;
  const near = rows[0];
  near.line.node.classList.add("near");
  rows.sort((a, b) => b.point.mean - a.point.mean);
  const tip = by("tip");
  tip.replaceChildren(`step ${near.point.step.toLocaleString("en")}`);
  for (const row of rows) {
    const entry = document.createElement("div");
    entry.textContent = `${write(row.point.mean)}  ${row.line.optimizer.name}`;
    entry.classList.toggle("near", row === near);
    tip.append(entry);
  }
  tip.hidden = false;
  const part = shown.x(near.point.step) / 860;
  tip.style.left = part < 0.6 ? `${100 * part + 2}%` : "auto";
  tip.style.right = part < 0.6 ? "auto" : `${100 * (1 - part) + 2}%`;
  shown.guide.setAttribute("visibility", "visible");
  for (const end of ["x1", "x2"]) shown.guide.setAttribute(end, shown.x(near.point.step));
  shown.at = {step, height};
}

plot.addEventListener("pointermove", (event) => {
  const box = plot.getBoundingClientRect();
  const x = ((event.clientX - box.left) * 860) / box.width;
  const y = ((event.clientY - box.top) * 440) / box.height;
  const part = (x - frame.left) / (frame.right - frame.left);
  showTip(Math.min(Math.max(part, 0), 1) * shown.last, y);
});
plot.addEventListener("pointerleave", hideTip);
plot.addEventListener("blur", hideTip);
plot.addEventListener("keydown", (event) => {
  const {step, height} = shown.at ?? {step: shown.last, height: frame.bottom};
  const moves = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  if (event.key === "Escape") hideTip();
  if (!(event.key in moves)) return;
  event.preventDefault();
  const [across, down] = moves[event.key];
  const next = step + (across * shown.last) / 50;
  showTip(Math.min(Math.max(next, 0), shown.last), height + 12 * down);
});

function prepare() {
  data.quantities.forEach((quantity, i) => by("quantity").add(new Option(quantity.label, i)));
  by("rate").max = data.rates.length - 1;
  by("rate").value = Math.floor(data.rates.length / 2);
  by("decay-control").hidden = !data.decays;
  by("decay").max = (data.decays?.length ?? 1) - 1;
  by("decay").value = 0;
  for (const optimizer of data.optimizers) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = optimizer.on;
    optimizer.box = box;
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    swatch.setAttribute("class", "swatch");
    swatch.setAttribute("viewBox", "0 0 28 8");
    swatch.setAttribute("aria-hidden", "true");
    const look = {x1: 0, x2: 28, y1: 4, y2: 4, class: "line"};
    const line = element("line", {...look, "stroke-dasharray": optimizer.dash}, swatch);
    line.style.setProperty("--color", optimizer.color);
    label.append(box, swatch, optimizer.name);
    by("optimizers").append(label);
  }
  for (const id of ["rate", "decay"])
    by(id).addEventListener("input", () => {
      by("best").checked = false;
      draw();
    });
  for (const id of ["quantity", "best", "optimizers"]) by(id).addEventListener("change", draw);
  for (const id of ["all", "none"])
    by(id).addEventListener("click", () => {
      for (const optimizer of data.optimizers) optimizer.box.checked = id === "all";
      draw();
    });
  by("controls").hidden = by("optimizers").hidden = false;
  by("controls").addEventListener("submit", (event) => event.preventDefault());
}

// Numbers by their first, others by their letters, those without a value last.
function compareCells(a, b) {
  const [x, y] = [a, b].map((text) => parseFloat(text.replaceAll(",", "")));
  if (Number.isNaN(x) && Number.isNaN(y)) return a.localeCompare(b, "en");
  return Number.isNaN(x) - Number.isNaN(y) || x - y;
}

function sortBy(header) {
  const body = by("table").tBodies[0];
  const descending = header.ariaSort === "ascending";
  const text = (row) => row.cells[header.cellIndex].textContent;
  const rows = [...body.rows].sort((a, b) => compareCells(text(a), text(b)));
  if (descending) {
    const known = rows.filter((row) => text(row) !== "–");
    rows.splice(0, known.length, ...known.reverse());
  }
  for (const other of header.parentNode.cells) other.ariaSort = "none";
  header.ariaSort = descending ? "descending" : "ascending";
  body.append(...rows);
}

for (const header of by("table").tHead.rows[0].cells)
  header.firstChild.addEventListener("click", () => sortBy(header));
prepare();
draw();
