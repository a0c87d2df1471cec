// What the views share: axes and lines as SVG in the colors of the page, and sliders.
const STYLE = `
.adamx { font: 14px/1.4 system-ui, sans-serif; max-width: 60em; }
.adamx svg { display: block; width: 100%; height: auto; overflow: visible; }
.adamx svg.key { display: inline-block; width: 26px; }
.adamx svg text { fill: currentColor; font-size: 12px; }
.adamx svg svg { overflow: hidden; }
.adamx .grid { stroke: currentColor; stroke-opacity: .14; fill: none; }
.adamx .frame { stroke: currentColor; stroke-opacity: .45; fill: none; }
.adamx .level { stroke: currentColor; stroke-opacity: .3; stroke-width: .7; fill: none; }
.adamx .line { stroke: currentColor; stroke-width: 2; fill: none;
  stroke-linejoin: round; stroke-linecap: round; }
.adamx .ink { color: var(--ink); }
.adamx.dark .ink { color: color-mix(in srgb, var(--ink) 62%, white); }
.adamx .columns { display: flex; flex-wrap: wrap; gap: 1em 2em; align-items: start; }
.adamx .columns > * { flex: 1 1 20em; min-width: 0; }
.adamx .controls { display: grid; gap: .3em 2em; margin: .8em 0;
  grid-template-columns: repeat(auto-fit, minmax(19em, 1fr)); }
.adamx .controls label { display: grid; align-items: center; gap: .7em;
  grid-template-columns: 9em 1fr 4em; }
.adamx input[type=range] { width: 100%; min-width: 0; margin: 0; }
.adamx table { border-collapse: collapse; width: 100%; white-space: nowrap; }
.adamx th { text-align: left; font-weight: normal; }
.adamx td { text-align: right; }
.adamx thead th { opacity: .7; }
.adamx thead th + th { text-align: right; }
.adamx output, .adamx td { font-variant-numeric: tabular-nums; }
.adamx img { max-width: 100%; height: auto; background: white; border-radius: 6px; }
`;

// Whether the page writes light on dark, whoever decided that.
function followTheme(root) {
  const color = getComputedStyle(root.parentElement).color.match(/[\d.]+/g).map(Number);
  const dark = 0.3 * color[0] + 0.6 * color[1] + 0.1 * color[2] > 128;
  root.classList.toggle("dark", dark);
  root.style.colorScheme = dark ? "dark" : "light";
}

// Fills the root, and draws now, after every input and when the theme changes.
function build(root, html, draw) {
  root.classList.add("adamx");
  root.innerHTML = `<style>${STYLE}</style>${html}`;
  const redraw = () => { followTheme(root); draw(); };
  root.addEventListener("input", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  redraw();
}

function slider(name, label, min, max, step, value) {
  return `<label><span>${label}</span><input type="range" name="${name}" min="${min}"
    max="${max}" step="${step}" value="${value}"><output></output></label>`;
}

// Reads a slider and writes beside it what it stands for.
function read(root, name, value = Number, write = String) {
  const input = root.querySelector(`[name=${name}]`), found = value(input.value);
  input.nextElementSibling.textContent = write(found);
  input.setAttribute("aria-valuetext", write(found));
  return found;
}

// A number in three digits.
function short(x) {
  if (!Number.isFinite(x)) return "∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size < 1e-3 || size >= 1e4 ? x.toExponential(1) : x.toPrecision(3);
  return text.replace("e+", "e").replaceAll("-", "−");
}

function ticks([low, high], count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(factor => factor * power >= raw);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({length: last - first + 1}, (_, i) => (first + i) * step);
}

// Axes for numbers within x and y; with `log`, y is given and labeled by powers of ten.
function axes({width, height, x, y, log = false, xlabel = "", ylabel = ""}) {
  const left = 56, top = 10, w = width - left - 10, h = height - top - 40;
  const level = log ? v => Math.log10(v) : v => v;
  const limits = log ? y.map(Math.log10) : y;
  const place = (v, [low, high], size) =>
    Math.max(-1e5, Math.min(1e5, (v - low) / (high - low) * size));
  const toX = v => place(v, x, w), toY = v => h - place(level(v), limits, h);
  const label = v => String(+v.toPrecision(6)).replace("-", "−");
  const superscript = v => label(v).replace(/./g, c => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["−0123456789".indexOf(c)]);
  const across = ticks(x, 6), up = ticks(limits, 5).filter(v => !log || v % 1 === 0);
  const atX = across.map(toX), atY = up.map(v => h - place(v, limits, h));
  const round = v => v.toFixed(1);
  const outside = `<g transform="translate(${left},${top})">`
    + `<path class="grid" d="${atX.map(a => `M${round(a)},0V${h}`).join("")}`
    + `${atY.map(a => `M0,${round(a)}H${w}`).join("")}"/>`
    + `<rect class="frame" width="${w}" height="${h}"/>`
    + across.map((v, i) => `<text x="${round(atX[i])}" y="${h + 16}"
        text-anchor="middle">${label(v)}</text>`).join("")
    + up.map((v, i) => `<text x="-6" y="${round(atY[i] + 4)}" text-anchor="end">`
        + `${log ? "10" + superscript(v) : label(v)}</text>`).join("")
    + `<text x="${w / 2}" y="${h + 34}" text-anchor="middle">${xlabel}</text>`
    + `<text transform="translate(-42,${h / 2}) rotate(-90)" text-anchor="middle">`
    + `${ylabel}</text></g>`;
  return {
    toX, toY, w, h,
    picture: inside => `${outside}<svg x="${left}" y="${top}" width="${w}" height="${h}">`
      + `${inside}</svg>`,
    // A line through the points, broken where a number is not finite.
    line(points, ink = "currentColor", more = "") {
      let pen = "M";
      const d = points.map(([a, b]) => {
        if (!Number.isFinite(a + level(b))) { pen = "M"; return ""; }
        const piece = `${pen}${round(toX(a))},${round(toY(b))}`;
        pen = "L";
        return piece;
      });
      return `<path class="line ink" style="--ink:${ink}" d="${d.join("")}" ${more}/>`;
    },
    dot: ([a, b], ink, r = 4) => Number.isFinite(a + level(b)) ? `<circle class="ink"
      style="--ink:${ink}" fill="currentColor" r="${r}" cx="${round(toX(a))}"
      cy="${round(toY(b))}"/>` : "",
  };
}
