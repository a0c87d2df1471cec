// The race of optimizers: a map with level lines and paths, values against steps.
const VIEWS = {
  ravine: {x: [-3, 3], y: [-3, 3], start: [-2, -0.2], minimum: [1, 1]},
  rosenbrock: {x: [-2, 2], y: [-1, 3], start: [-1.2, 1], minimum: [1, 1]},
  beale: {x: [-2.5, 4.5], y: [-3.5, 3.5], start: [-1, -1.5], minimum: [3, 0.5]},
};
const LEVELS = Array.from({length: 13}, (_, i) => 0.02 * 3 ** i);
const RATES = Array.from({length: 41}, (_, i) => 10 ** (i / 8 - 4));
const LONGEST = 400;

// Level lines by marching squares, straight within a cell, in pixels.
function levelLines(surface, plot, {x, y}) {
  const n = 160, at = ([low, high], i) => low + (high - low) * i / n;
  const grid = Array.from({length: n + 1}, (_, j) => Array.from({length: n + 1},
    (_, i) => Math.sqrt(surface.value([at(x, i), at(y, j)]))));
  return LEVELS.map(level => {
    const root = Math.sqrt(level), pieces = [];
    for (let j = 0; j < n; j++) for (let i = 0; i < n; i++) {
      const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      const heights = corners.map(([a, b]) => grid[b][a] - root);
      const cuts = [];
      heights.forEach((h, k) => {
        const next = (k + 1) % 4, other = heights[next];
        if (h < 0 === other < 0) return;
        const part = h / (h - other), [a, b] = corners[k], [c, d] = corners[next];
        cuts.push(`${plot.toX(at(x, a + part * (c - a))).toFixed(1)},`
          + plot.toY(at(y, b + part * (d - b))).toFixed(1));
      });
      for (let k = 0; k + 1 < cuts.length; k += 2) {
        pieces.push(`M${cuts[k]}L${cuts[k + 1]}`);
      }
    }
    return pieces.join("");
  }).map(d => `<path class="level" d="${d}"/>`).join("");
}

// The space between the lines, darker with height: a picture in the plot's pixels.
function shade(surface, {w, h}, {x, y}) {
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  [canvas.width, canvas.height] = [w, h];
  const image = pen.createImageData(w, h);
  for (let j = 0; j < h; j++) for (let i = 0; i < w; i++) {
    const height = surface.value([
      x[0] + (x[1] - x[0]) * (i + 0.5) / w, y[1] - (y[1] - y[0]) * (j + 0.5) / h]);
    const above = LEVELS.filter(level => level < height).length;
    image.data.set([0, 114, 178, 8 * above], 4 * (j * w + i));
  }
  pen.putImageData(image, 0, 0);
  return `<image width="${w}" height="${h}" href="${canvas.toDataURL()}"/>`;
}

function mount(root, {optimizers}) {
  const html = `
<div class="columns">
  <svg class="map" viewBox="0 0 456 450" role="img"></svg>
  <div>
    <table><thead><tr>
      <th scope="col">optimizer</th><th scope="col">learning rate</th>
      <th scope="col" class="after"></th>
    </tr></thead><tbody>${optimizers.map(o => `<tr>
      <th scope="row"><label>
        <input type="checkbox" name="${o.rule}" ${o.shown ? "checked" : ""}>
        <svg class="ink key" viewBox="0 0 26 8" style="--ink:${o.ink}">
          <path class="line" d="M1,4H25" stroke-dasharray="${o.dash}"/></svg>
        ${o.label}</label></th>
      <td></td><td></td>
    </tr>`).join("")}</tbody></table>
    <svg class="values" viewBox="0 0 456 230" role="img" style="margin-top:.6em"></svg>
  </div>
</div>
<p><label>surface <select name="surface">${Object.keys(VIEWS).map(name =>
    `<option>${name}</option>`).join("")}</select></label>
  &emsp;<button type="button">play</button>
  &emsp;<label><input type="checkbox" name="best"> each at its own best rate</label>
  &emsp;press on the map to start there</p>
<div class="controls">
  ${slider("rate", "learning rate", -4, 1, 0.05, -1.3)}
  ${slider("steps", "steps", 1, LONGEST, 1, 100)}
  ${slider("b1", "b1", 0, 2, 0.1, 1)}
  ${slider("b2", "b2", 0, 4, 0.1, 3)}
  ${slider("decay", "decay of AdamW", 0, 1, 0.01, 0.1)}
  ${slider("turn", "turn of the ravine", 0, 90, 1, 30)}
</div>`;
  const get = name => root.querySelector(`[name=${name}]`);
  let name, view, start, plot, ground, drawn;

  function draw() {
    const momentum = s => +(1 - 10 ** -s).toPrecision(3);
    const options = {
      rate: read(root, "rate", s => +(10 ** s).toPrecision(2)),
      steps: read(root, "steps"),
      b1: read(root, "b1", momentum),
      b2: read(root, "b2", s => +(1 - 10 ** -s).toPrecision(4)),
      decay: read(root, "decay"),
    };
    const turn = read(root, "turn", Number, degrees => `${degrees}°`);
    if (name !== get("surface").value) {
      name = get("surface").value;
      view = VIEWS[name];
      start = view.start;
      plot = axes({width: 456, height: 450, ...view});
    }
    get("rate").disabled = get("best").checked;
    get("turn").disabled = name !== "ravine";
    const surface = surfaces[name](turn);
    if (drawn !== name + turn) {
      ground = shade(surface, plot, view) + levelLines(surface, plot, view);
    }
    drawn = name + turn;
    const values = axes({
      width: 456, height: 230, x: [0, LONGEST], y: [1e-6, 1e3], log: true,
      xlabel: "step", ylabel: "value",
    });
    let onMap = ground + plot.dot(view.minimum, "#2CA02C", 6), curves = "";
    const said = [];
    optimizers.forEach((o, i) => {
      const row = root.querySelectorAll("tbody tr")[i];
      const [rateCell, valueCell] = row.querySelectorAll("td");
      rateCell.textContent = valueCell.textContent = "";
      if (!get(o.rule).checked) return;
      const rate = get("best").checked
        ? bestRate(o.rule, surface, start, options, RATES) : options.rate;
      const whole = race(o.rule, surface, start, {...options, rate, steps: LONGEST});
      const path = whole.slice(0, options.steps + 1), end = path.at(-1);
      const heights = whole.map((p, t) => [t, Math.max(surface.value(p), 1e-30)]);
      const dash = `stroke-dasharray="${o.dash}"`;
      onMap += plot.line(path, o.ink, dash) + plot.dot(end, o.ink, 5);
      curves += values.line(heights, o.ink, `${dash} opacity=".3"`)
        + values.line(heights.slice(0, options.steps + 1), o.ink, dash)
        + values.dot(heights[options.steps], o.ink);
      rateCell.textContent = short(rate);
      valueCell.textContent = short(surface.value(end));
      said.push(`${o.label} ${valueCell.textContent}`);
    });
    onMap += plot.dot(start, "currentColor", 5);
    root.querySelector(".after").textContent = `value after ${options.steps}`;
    const map = root.querySelector(".map"), side = root.querySelector(".values");
    map.innerHTML = plot.picture(onMap);
    side.innerHTML = values.picture(curves);
    map.setAttribute("aria-label", `Paths on the ${name} function. Values after `
      + `${options.steps} steps: ${said.join(", ")}.`);
    side.setAttribute("aria-label", "Values against steps, as in the table.");
  }

  build(root, html, draw);
  const map = root.querySelector(".map");
  map.addEventListener("click", event => {
    const box = map.querySelector("svg > svg").getScreenCTM().inverse();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(box);
    const {x, y} = view, a = at.x / plot.w, b = 1 - at.y / plot.h;
    if (a < 0 || a > 1 || b < 0 || b > 1) return;
    start = [x[0] + a * (x[1] - x[0]), y[0] + b * (y[1] - y[0])];
    draw();
  });
  const button = root.querySelector("button"), steps = get("steps");
  button.addEventListener("click", () => {
    steps.value = 0;
    const advance = () => {
      steps.value = +steps.value + 2;
      draw();
      if (+steps.value < LONGEST) requestAnimationFrame(advance);
    };
    advance();
  });
}
