// The distribution of a gradient g and M(t) = E e^(tg), with what touches M at t.

// M, its slope and its curvature at t, as means over the samples.
function momentsAt(samples, t) {
  let value = 0, slope = 0, curvature = 0;
  for (const g of samples) {
    const weight = Math.exp(t * g) / samples.length;
    value += weight;
    slope += weight * g;
    curvature += weight * g * g;
  }
  return {value, slope, curvature};
}

// The density of the samples, each weighed by eᵗᵍ, in bins between -end and end.
function density(samples, t, end, count) {
  const width = 2 * end / count, heights = Array(count).fill(0);
  const {value} = momentsAt(samples, t);
  for (const g of samples) {
    const bin = Math.floor((g + end) / width);
    heights[bin] += Math.exp(t * g) / (value * samples.length * width);
  }
  return heights;
}

function mount(root, {labels, samples, title, end, farthest}) {
  const bins = 48, size = {width: 456, height: 300};
  const plain = "#0072B2", tilted = "#D55E00", parabola = "#CC79A7";
  const peak = Math.max(...samples.flatMap(s => density(s, 0, end, bins)));
  const shape = axes({...size, x: [-end, end], y: [0, 1.05 * peak],
    xlabel: "gradient g of one weight", ylabel: "density"});
  const curve = axes({...size, x: [-farthest, farthest], y: [0, 5],
    xlabel: "t", ylabel: "M(t) = E eᵗᵍ"});
  const places = Array.from({length: 121}, (_, i) => farthest * (i / 60 - 1));
  const key = (ink, text) => `<span style="white-space:nowrap"><span class="ink"
    style="--ink:${ink}">■</span> ${text}</span> &emsp;`;
  const html = `
<div class="columns">
  <div><svg class="shape" viewBox="0 0 456 300" role="img"></svg>
    ${key(plain, "as it is")}${key(tilted, "weighed by eᵗᵍ")}</div>
  <div><svg class="curve" viewBox="0 0 456 300" role="img"></svg>
    ${key(plain, "M")}${key(tilted, "tangent at t")}${key(parabola, "parabola, with the curvature")}</div>
</div>
<div class="controls">
  ${slider("sample", "", 0, labels.length - 1, 1, 0)}
  ${slider("t", "t", -60, 60, 1, 0)}
</div>
<table style="max-width:40em"><thead><tr><th scope="col"></th>
  <th scope="col">at t = 0</th><th scope="col" class="here"></th></tr></thead><tbody>
  <tr><th scope="row">slope M′: at 0 the mean of g, which mu follows</th></tr>
  <tr><th scope="row">curvature M″: at 0 the mean of g², which nu follows</th></tr>
  <tr><th scope="row">M′ / √M″: at 0 Adam's step down, in learning rates</th></tr>
</tbody></table>`;

  function bars(heights, ink) {
    const width = shape.w / bins;
    return heights.map((height, i) => {
      const top = shape.toY(height);
      return `<rect class="ink" style="--ink:${ink}" fill="currentColor" opacity=".55"
        x="${(i * width).toFixed(1)}" y="${top.toFixed(1)}" width="${width.toFixed(1)}"
        height="${(shape.h - top).toFixed(1)}"/>`;
    }).join("");
  }

  build(root, html, () => {
    root.querySelector("[name=sample]").previousElementSibling.textContent = title;
    const chosen = read(root, "sample", Number, i => labels[i]), g = samples[chosen];
    const t = read(root, "t", i => farthest * i / 60, short);
    const zero = momentsAt(g, 0), here = momentsAt(g, t);
    const touching = order => places.map(s => [s, here.value + (s - t) * here.slope
      + (order > 1 ? (s - t) ** 2 / 2 * here.curvature : 0)]);
    const pictures = {
      shape: shape.picture(bars(density(g, 0, end, bins), plain)
        + (t === 0 ? "" : bars(density(g, t, end, bins), tilted))),
      curve: curve.picture(curve.line(touching(2), parabola, 'stroke-dasharray="6 4"')
        + curve.line(touching(1), tilted)
        + curve.line(places.map(s => [s, momentsAt(g, s).value]), plain)
        + curve.dot([t, here.value], tilted, 5)),
    };
    const rows = [zero, here].map(m =>
      [m.slope, m.curvature, m.slope / Math.sqrt(m.curvature)]);
    root.querySelector(".here").textContent = `at t = ${short(t)}`;
    root.querySelectorAll("tbody tr").forEach((row, i) => {
      row.querySelectorAll("td").forEach(cell => cell.remove());
      for (const column of rows) row.insertCell().textContent = short(column[i]);
    });
    for (const [name, picture] of Object.entries(pictures)) {
      root.querySelector(`svg.${name}`).innerHTML = picture;
    }
    const where = `${title} ${labels[chosen]}`;
    root.querySelector("svg.shape").setAttribute("aria-label",
      `Distribution of the gradient, ${where}: mean ${short(zero.slope)}, `
      + `mean square ${short(zero.curvature)}.`);
    root.querySelector("svg.curve").setAttribute("aria-label",
      `Moment generating function, ${where}: ${short(here.value)} at t = ${short(t)}.`);
  });
}
