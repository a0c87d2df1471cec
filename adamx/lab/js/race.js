// Optimizers on functions of two numbers, as adamx computes them in float64. Nothing
// here knows of a page: the tests run this file under node.
const surfaces = {
  // Curvatures 25 along the ravine's wall and 1/4 along its floor, turned by an angle.
  ravine(degrees) {
    const c = Math.cos(degrees * Math.PI / 180), s = Math.sin(degrees * Math.PI / 180);
    const axes = (x, y) => [c * (x - 1) + s * (y - 1), c * (y - 1) - s * (x - 1)];
    return {
      value([x, y]) {
        const [u, v] = axes(x, y);
        return u * u / 8 + 12.5 * v * v;
      },
      gradient([x, y]) {
        const [u, v] = axes(x, y);
        return [c * u / 4 - 25 * s * v, s * u / 4 + 25 * c * v];
      },
    };
  },
  rosenbrock: () => ({
    value: ([x, y]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
    gradient: ([x, y]) =>
      [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)],
  }),
  beale() {
    const residuals = ([x, y]) =>
      [1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y];
    return {
      value: p => residuals(p).reduce((sum, r) => sum + r * r, 0),
      gradient(p) {
        const [x, y] = p, [a, b, c] = residuals(p);
        return [
          2 * (a * (y - 1) + b * (y * y - 1) + c * (y * y * y - 1)),
          2 * x * (a + 2 * b * y + 3 * c * y * y),
        ];
      },
    };
  },
};

// A rule maps the gradient g of one parameter p, in step t, to the update before the
// learning rate; what it remembers is in s, which starts as zeros.
const rules = {
  sgd: (s, g) => g,
  momentum: (s, g, t, o) => s.mu = g + o.b1 * s.mu,
  adagrad: (s, g) => g / Math.sqrt((s.nu += g * g) + 0.1 + 1e-7),
  rmsprop(s, g, t, o) {
    average(s, g, o);
    return g / Math.sqrt(s.nu + 1e-8);
  },
  uncorrected(s, g, t, o) {
    average(s, g, o);
    return s.mu / (Math.sqrt(s.nu) + 1e-8);
  },
  adam(s, g, t, o) {
    average(s, g, o);
    return s.mu / correction(o.b1, t) / (Math.sqrt(s.nu / correction(o.b2, t)) + 1e-8);
  },
  amsgrad(s, g, t, o) {
    average(s, g, o);
    s.max = Math.max(s.max, s.nu / correction(o.b2, t));
    return s.mu / correction(o.b1, t) / (Math.sqrt(s.max) + 1e-8);
  },
  adamw: (s, g, t, o, p) => rules.adam(s, g, t, o) + o.decay * p,
};

function average(s, g, o) {
  s.mu += (1 - o.b1) * (g - s.mu);
  s.nu += (1 - o.b2) * (g * g - s.nu);
}

// 1 - b^t without cancellation where b is near 1.
function correction(b, t) {
  return -Math.expm1(t * Math.log1p(b - 1));
}

// The points that an optimizer visits, the start among them.
function race(rule, surface, start, options) {
  let p = start.slice();
  const path = [p], states = p.map(() => ({mu: 0, nu: 0, max: 0}));
  for (let t = 1; t <= options.steps; t++) {
    const g = surface.gradient(p);
    p = p.map((x, i) =>
      x - options.rate * rules[rule](states[i], g[i], t, options, x));
    path.push(p);
  }
  return path;
}

// The rate out of `rates` with the lowest value after all steps.
function bestRate(rule, surface, start, options, rates) {
  const value = rate => {
    const end = surface.value(race(rule, surface, start, {...options, rate}).at(-1));
    return Number.isFinite(end) ? end : Infinity;
  };
  const values = rates.map(value);
  return rates[values.indexOf(Math.min(...values))];
}
