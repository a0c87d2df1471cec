"""Measures the errors of one update, and of many in a row, in float32 ulps.

    python benchmarks/accuracy.py [--quick] [--json PATH]

Every library gets the same float32 gradient, parameters and state, as they stand in a
noisy run before step t. The reference is the formula itself in NumPy's longdouble (80
bits on x86), its hyperparameters taken from their exact decimals, so that the rounding
of `learning_rate = 1e-3` counts as an error of the library. One ulp is the spacing of
float32 numbers at the reference. Where b1·mu and (1 - b1)·g cancel, nobody can be
exact: the *conditioned* error divides the cancellation out.

Exits with 1 if adamx breaks one of `LIMITS`. PyTorch is measured where installed.
"""

import argparse
import functools
import importlib.util
import itertools
import json
import platform
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adamx

FOUND = importlib.util.find_spec("torch")
torch: Any = importlib.import_module("torch") if FOUND else None

LIMITS = [  # the table and column of a figure, its rows, the largest allowed to adamx
    ("updates", "median", {}, 1.0),
    ("updates", "conditioned", {}, 6.0),
    ("updates", "parameters", {}, 0.75),
    ("drift", "median", {"b2": 0.999}, 5.0),
    ("drift", "median", {"b2": 0.99999}, 100.0),
    ("decay", "update, at rest", {}, 1e-6),
    ("decay", "update, in a run", {}, 1e-6),
    ("float64", "relative", {}, 1e-14),
]
# AMSGrad divides by the largest nu / c2 (Optax) or the largest nu, over c2 (PyTorch).
RULES = {
    "adam": ["adamx", "optax", "torch"],
    "adamw": ["adamx", "optax", "torch"],
    "amsgrad": ["adamx", "optax"],
    "amsgrad of torch": ["adamx", "torch"],
}
MODULES = {"adamx": adamx, "optax": optax} | ({"torch": torch} if FOUND else {})
LEARNING_RATE, B1, EPS, WEIGHT_DECAY = 1e-3, 0.9, 1e-8, 0.1
CHUNK = 1_000  # steps of a run at a time


def exact(digits):
    """The number that the decimal digits say, in longdouble."""
    number = Fraction(str(digits))
    return np.longdouble(number.numerator) / np.longdouble(number.denominator)


def complement(b):
    """1 - b."""
    return exact(1 - Fraction(str(b)))


def one_minus_power(b, t):
    """1 - b**t."""
    return -np.expm1(t * np.log1p(-complement(b)))


def weights(b, length):
    """What a running mean gives to each of the last `length` values, newest first."""
    return complement(b) * np.exp(np.arange(length) * np.log1p(-complement(b)))


def reference(rule, x, t, b2):
    """The update, and what its size would be if nothing cancelled."""
    g, p, mu, nu, nu_max = (x[k].astype(np.longdouble) for k in x)
    c1, c2 = one_minus_power(B1, t), one_minus_power(b2, t)
    old, new = exact(B1) * mu / c1, complement(B1) * g / c1
    nu_hat = (exact(b2) * nu + complement(b2) * g * g) / c2
    if "amsgrad" in rule:
        nu_hat = np.maximum(nu_hat, nu_max / c2 if "torch" in rule else nu_max)
    root = np.sqrt(nu_hat) + exact(EPS)
    decay = exact(WEIGHT_DECAY) * p if rule == "adamw" else 0 * p
    update = -exact(LEARNING_RATE) * ((old + new) / root + decay)
    return update, exact(LEARNING_RATE) * ((abs(old) + abs(new)) / root + abs(decay))


@functools.cache
def draw_noise(size, period):
    """Gradients of many scales, a last one, parameters in [1, 2), factors around 1."""
    rng = np.random.default_rng(0)
    scale = 10 ** rng.uniform(-3, 1, size)
    history = rng.normal(size=(period, size)) * scale
    return history, rng.normal(size=size) * scale, *rng.uniform(0.5, 1, (2, size)) * 2


def draw(rule, t, b2, dtype: Any = np.float32, size=16_384, period=256):
    """A gradient, parameters and the state of a noisy run before step t.

    Its noise repeats itself, so that a state at t = 1e6 costs no more than others.
    """
    history, g, p, factor = draw_noise(size, period)
    x = {"g": g, "p": p}
    for name, b, values in [("mu", B1, history), ("nu", b2, history**2)]:
        shares = weights(b, t - 1).astype(float)
        turns = (np.arange(t - 1) + t) % period
        x[name] = np.bincount(turns, shares, period) @ values
    c2 = 1.0 if "torch" in rule or t == 1 else float(one_minus_power(b2, t - 1))
    x["nu_max"] = x["nu"] / c2 * (factor - 0.5)
    return {k: v.astype(dtype) for k, v in x.items()}


def make_step(
    library, rule, b2, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY
):
    """A function (x, t) -> (update or None, new parameters)."""
    hyperparameters = learning_rate, B1, b2, EPS
    if library == "torch":
        return functools.partial(step_torch, rule, *hyperparameters, weight_decay)
    options: dict[str, Any] = {}
    if rule == "adamw":
        options["weight_decay"] = weight_decay
    if library == "adamx" and "torch" in rule:
        options["variant"] = "torch"
    tx = getattr(MODULES[library], rule.split()[0])(*hyperparameters, **options)

    @jax.jit
    def step(x, count):
        first, *rest = tx.init(x["p"])
        moments = {k: x[k] for k in first._fields if k in x}
        state = (first._replace(count=count, **moments), *rest)
        updates, _ = tx.update(x["g"], state, x["p"])
        return updates, MODULES[library].apply_updates(x["p"], updates)

    return lambda x, t: [np.asarray(y) for y in step(x, jnp.int32(t - 1))]


def step_torch(rule, learning_rate, b1, b2, eps, weight_decay, x, t):
    """One step of PyTorch, which shows an update only as the new value of a zero."""
    x = {k: torch.tensor(v) for k, v in x.items()}
    decoupled = rule == "adamw"
    p = x["p"] if decoupled else torch.zeros_like(x["p"])
    make, decay = (
        (torch.optim.AdamW, weight_decay) if decoupled else (torch.optim.Adam, 0)
    )
    tx = make([p], learning_rate, (b1, b2), eps, decay, "amsgrad" in rule)
    moments = {"exp_avg": x["mu"], "exp_avg_sq": x["nu"], "max_exp_avg_sq": x["nu_max"]}
    tx.state[p] = {"step": torch.tensor(float(t - 1)), **moments}
    p.grad = x["g"]
    tx.step()
    return None if decoupled else p.numpy(), p.numpy()


def ulps(value, truth):
    """The error of `value` in units of the spacing of its dtype at `truth`."""
    spacing = np.spacing(abs(truth).astype(value.dtype)).astype(np.longdouble)
    return ((value - truth) / spacing).astype(float)


def measure_updates(libraries, decays, steps, dtype: Any = np.float32):
    """Yields the errors of one update, and those of the parameters after adamw."""
    for rule, b2 in itertools.product(RULES, decays):
        names = [name for name in RULES[rule] if name in libraries]
        functions = {name: make_step(name, rule, b2) for name in names}
        for t, name in itertools.product(steps, names):
            x = draw(rule, t, b2, dtype)
            truth, size = reference(rule, x, t, b2)
            update, p = functions[name](x, t)
            row = {"rule": rule, "library": name, "b2": b2, "t": t}
            if update is not None:
                error = abs(ulps(update, truth))
                row["median"] = np.median(error)
                row["conditioned"] = np.max(error * abs(truth / size).astype(float))
                row["relative"] = np.max(abs(update - truth) / size)
            if rule == "adamw":
                error = ulps(p, x["p"] + truth)
                row |= {"parameters": np.max(abs(error)), "bias": np.mean(error)}
            yield row


def make_run(library, b2, size):
    """A function of gradients f32[k,size]: takes k steps, returns the last update."""
    if library == "torch":
        p = torch.zeros(size)
        tx = torch.optim.Adam([p], LEARNING_RATE, (B1, b2), EPS)

        def run_torch(gradients):
            for g in torch.tensor(gradients):
                p.grad = g
                p.zero_()
                tx.step()
            return p.numpy()

        return run_torch
    tx = MODULES[library].adam(LEARNING_RATE, B1, b2, EPS)
    carry = tx.init(jnp.zeros(size)), jnp.zeros(size)

    @jax.jit
    def take(carry, gradients):
        def step(carry, g):
            updates, state = tx.update(g, carry[0])
            return (state, updates), None

        return jax.lax.scan(step, carry, gradients)[0]

    def run(gradients):
        nonlocal carry
        carry = take(carry, gradients)
        return np.asarray(carry[1])

    return run


def measure_drift(library, b2, marks, size=512):
    """Yields the errors of the update at each of `marks` in a run from zero."""
    rng = np.random.default_rng(1)
    scale = 10 ** rng.uniform(-3, 1, size)
    run, mu, nu, t = make_run(library, b2, size), 0, 0, 0
    for stop in sorted({*marks, *range(CHUNK, marks[-1], CHUNK)}):
        g = (rng.normal(size=(stop - t, size)) * scale).astype(np.float32)
        update, g, t = run(g), g.astype(np.longdouble), stop
        mu = exact(B1) ** len(g) * mu + weights(B1, len(g))[::-1] @ g
        nu = exact(b2) ** len(g) * nu + weights(b2, len(g))[::-1] @ g**2
        if t in marks:
            root = np.sqrt(nu / one_minus_power(b2, t)) + exact(EPS)
            truth = -exact(LEARNING_RATE) * mu / one_minus_power(B1, t) / root
            error = ulps(update, truth) * np.sign(truth).astype(float)
            row = {"library": library, "b2": b2, "t": t, "signed": np.median(error)}
            yield row | {"median": np.median(abs(error))}


def measure_decay(library, learning_rate, weight_decay):
    """The relative errors of the mean decay, in the update and in the parameters.

    At rest there has never been a gradient. In a run the rounding of an update is
    larger than its decay; it averages out over 4 million elements.
    """
    x = draw("adamw", 1_000, 0.999, size=2**22, period=4)
    rest = x | {k: np.zeros_like(x[k]) for k in ("g", "mu", "nu")}
    row = {"library": library, "learning_rate": learning_rate, "decay": weight_decay}
    unit = exact(learning_rate) * exact(weight_decay) * x["p"].mean(dtype=float)
    for case, y in [("at rest", rest), ("in a run", x)]:
        decayed, plain = (
            make_step(library, "adamw", 0.999, learning_rate, w)(y, 1_000)
            for w in (weight_decay, 0.0)
        )
        for where, a, b in zip(["update", "parameters"], decayed, plain, strict=True):
            if a is not None and b is not None:
                row[f"{where}, {case}"] = np.mean(b.astype(float) - a) / unit - 1
    return row


def measure(quick):
    """All rows, by the table that they belong to."""
    decays, steps = [0.9, 0.999, 0.99999], [1, 10, 1_000, 1_000_000]
    marks, rates = [1, 100, 1_000, 10_000], [(1e-4, 1e-4)]
    if not quick:
        decays, steps = [*decays, 0.95, 0.99, 0.9999], [*steps, 2, 100, 10_000]
        marks, rates = [*marks, 100_000], [*rates, (1e-6, 1e-2)]
    drifts = itertools.product(MODULES, (0.999, 0.99999))
    result = {
        "updates": [*measure_updates(MODULES, decays, steps)],
        "drift": [row for run in drifts for row in measure_drift(*run, marks)],
        "decay": [measure_decay(name, *pair) for pair in rates for name in MODULES],
    }
    with jax.enable_x64(True):
        rows = measure_updates(("adamx", "optax"), decays, steps, np.float64)
        return result | {"float64": [*rows]}


def worst(rows, column, where):
    """The largest magnitude in a column of the rows that agree with `where`."""
    found = [row.get(column) for row in rows if where.items() <= row.items()]
    found = [abs(x) for x in found if x is not None]
    return np.max(found) if found else None


def show(title, rows):
    """Prints rows with the keys of the first as a Markdown table."""
    print(f"\n### {title}\n\n| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        cells = [row.get(key) for key in rows[0]]
        cells = [
            f"{x:.3g}" if isinstance(x, np.floating) else str(x or "") for x in cells
        ]
        print("|", " | ".join(cells), "|")


def show_by_t(title, rows, other):
    """Prints the medians in a column for each t, with another figure in parentheses."""
    lines = {}
    for row in sorted(rows, key=lambda row: (row["b2"], row["t"])):
        head = {"b2": row["b2"], "library": row["library"]}
        line = lines.setdefault(tuple(head.values()), head)
        line[f"t = {row['t']:,}"] = f"{row['median']:.3g} ({row[other]:.3g})"
    show(title, [*lines.values()])


def report(result):
    """Prints every table; returns whether adamx keeps its limits."""
    updates = [row for row in result["updates"] if "median" in row]
    for rule in RULES:
        title = f"{rule}: median error of an update (conditioned maximum), ulp"
        show_by_t(title, [r for r in updates if r["rule"] == rule], "conditioned")
    title = "adam: median error of the update after t steps (signed), ulp"
    show_by_t(title, result["drift"], "signed")
    show("adamw: relative error of the mean decay", result["decay"])
    lines, kept = [], True
    for table, column, where, limit in LIMITS:
        line = {"table": table, "figure": column, "b2": where.get("b2")}
        for name in MODULES:
            line[name] = worst(result[table], column, {"library": name, **where})
        kept &= bool(line["adamx"] <= limit)
        lines.append(line | {"limit of adamx": limit})
    show("Largest figures of all cells", lines)
    return kept


def as_json(tables):
    """The tables with a line for each row and figures in four digits."""
    texts = []
    for name, rows in tables.items():
        short = [
            {
                k: float(f"{x:.4g}") if isinstance(x, np.floating) else x
                for k, x in r.items()
            }
            for r in rows
        ]
        lines = ",\n  ".join(map(json.dumps, short))
        texts.append(f'"{name}": [\n  {lines}\n]')
    return "{" + ",\n".join(texts) + "}\n"


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures the errors of Adam updates.")
    parser.add_argument("--quick", action="store_true", help="fewer cells, short runs")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    versions = {module.__name__: module.__version__ for module in (jax, np)}
    versions |= {name: module.__version__ for name, module in MODULES.items()}
    print(f"{platform.machine()}, {jax.default_backend()}, {versions}")
    result = measure(args.quick)
    if args.json:
        args.json.write_text(as_json({"versions": [versions], **result}))
    return 0 if report(result) else 1


if __name__ == "__main__":
    sys.exit(main())
