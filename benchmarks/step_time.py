"""Measures steps of AdamW, what they cost before the first, and their memory.

One step is `params, state = step(params, grads, state)`, jitted, parameters and state
donated; PyTorch's fused AdamW writes in place. All run in this process in turn, A B C
C B A, those of the same state on the same buffers; the quotients are medians over
pairs, and on a shared machine only they mean something. PyTorch comes last, in turn
with adamx alone: its threads wait for work, and take from whose turn is next. A float32
step has to move 28 bytes a parameter (it reads g, p, mu, nu and writes p, mu, nu): the
bandwidth is held against that of `a = a + 3·b` on as much memory, taken in between.
Dispatch is the time of a step when each leaf has one element. Without PyTorch its
columns are missing.

    python benchmarks/step_time.py [--quick] [--trees NAME ...] [--json PATH]

Exits with 1 if adamx breaks one of `LIMITS`.
"""

import argparse
import importlib.util
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from report import begin, finish, show
from timing import CPU, interleave, ratio, seconds
from trees import TREES

import adamx

SETTINGS: dict[str, Any] = {"learning_rate": 1e-3, "weight_decay": 0.1}
LIMITS = {
    "chain / optax": 1.03,
    "fused / its limit": 1.0,
    "compilation": 1.05,  # of the chain, less the fixed part, over Optax's
    "temporary": 0.01,  # bytes beyond the arguments, over those of the parameters
}
FIXED = 0.02  # seconds a program, whatever its size, for scalars in float64
FUSED = {  # over Optax's chain; on few cores dispatch is most of what small leaves take
    "50M": 0.8,
    "gpt2": 0.8,
    "gpt2 scanned": 0.8,
    "resnet50": 0.8,
    "100x100k": 0.9,
    "gpt2 tiny": 0.95,
    "mlp 6x256x256": 0.9,
    "1000x1k": 1.15,
}
QUICK = ["100x100k", "mlp 6x256x256"]
GROWTH = [10**6, 10**7, 10**8, 2 * 10**8]  # parameters, in one leaf
LEAVES = [10, 100, 1_000]


def chained(library, tx):
    """The step of a transformation and the `init` of its state."""

    def step(params, grads, state):
        updates, state = tx.update(grads, state, params)
        return library.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 2)), tx.init


def fused(**more):
    """That of `fused_adamw` with these settings, too."""
    tx = adamx.fused_adamw(**SETTINGS, **more)
    return jax.jit(tx.step, donate_argnums=(0, 2)), tx.init


MAKERS = {
    "chain": lambda: chained(adamx, adamx.adamw(**SETTINGS)),
    "fused": fused,
    "fused, 8 bits": lambda: fused(codec=adamx.companded_codec()),
    "8 bits": lambda: chained(adamx, adamx.compress_state(adamx.adamw(**SETTINGS))),
    "optax": lambda: chained(optax, optax.adamw(**SETTINGS)),
}
PLAIN = ("chain", "fused", "optax")  # of the same state


def arrays_of(shapes, seed):
    """Random arrays."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


class Steps:
    """Makes steps of JAX; those whose states have the same leaves share them."""

    def __init__(self, shapes, names):
        self.grads = [jnp.asarray(g) for g in arrays_of(shapes, 0)]
        self.steps, self.trees, self.kinds, self.leaves = {}, {}, {}, {}
        for name in names:
            self.steps[name], init = MAKERS[name]()
            params = [jnp.ones_like(g) for g in self.grads]
            leaves, self.trees[name] = jax.tree.flatten((params, init(params)))
            kind = tuple((x.shape, x.dtype) for x in leaves)
            self.kinds[name], self.leaves[kind] = kind, leaves

    def run(self, name, n):
        """The seconds of a step, of n in a row."""
        kind = self.kinds[name]
        params, state = jax.tree.unflatten(self.trees[name], self.leaves.pop(kind))

        def some(params, state):
            for _ in range(n):
                params, state = self.steps[name](params, self.grads, state)
            return params, state

        result, time = seconds(some, params, state)
        self.leaves[kind] = jax.tree.leaves(result)
        return time / n


class TorchSteps:
    """Makes steps of PyTorch."""

    def __init__(self, shapes):
        import torch

        torch.set_num_threads(os.cpu_count() or 1)
        device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None
        params = [torch.ones(x, device=device, requires_grad=True) for x in shapes]
        for p, g in zip(params, arrays_of(shapes, 0), strict=True):
            p.grad = torch.from_numpy(g).to(device)
        self.tx = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.1, fused=True)

    def run(self, n):
        """The seconds of a step, of n in a row."""

        def some():
            for _ in range(n):
                self.tx.step()
            self.wait()

        return seconds(some)[1] / n


class Copies:
    """Measures the bandwidth of memory."""

    def __init__(self, size):
        self.a, self.b = jnp.zeros(size), jnp.ones(size)
        self.triad = jax.jit(lambda a, b: a + 3 * b, donate_argnums=0)

    def run(self):
        """Bytes a second; an element is read twice and written once."""
        self.a, time = seconds(self.triad, self.a, self.b)
        return 12 * self.a.size / time


def measure_steps(shapes, names, rounds):
    """Milliseconds of steps, quotients, and shares of the bandwidth."""
    size = sum(map(math.prod, shapes))
    steps, copies, bandwidths = Steps(shapes, names), Copies(2 * size), []
    n = max(1, min(50, 10**7 // size))

    def measure(name):
        bandwidths.append(copies.run())
        return steps.run(name, n)

    def measure_with_torch(name):
        return torch.run(n) if name == "torch" else measure(name)

    interleave(1, measure, names)
    bandwidths.clear()
    taken = interleave(rounds, measure, names)
    row: dict[str, Any] = {"parameters": size, "leaves": len(shapes)}
    row |= {f"{name}, ms": 1e3 * statistics.median(taken[name]) for name in names}
    bandwidth = statistics.median(bandwidths)
    row["limit, ms"] = 1e3 * 28 * size / bandwidth
    ours = [name for name in names if name != "optax"]
    row |= {f"{name} / optax": ratio(taken, name) for name in ours}
    if importlib.util.find_spec("torch"):
        torch = TorchSteps(shapes)
        interleave(1, measure_with_torch, (*ours, "torch"))
        taken = interleave(rounds, measure_with_torch, (*ours, "torch"))
        row["torch, ms"] = 1e3 * statistics.median(taken["torch"])
        row |= {f"{name} / torch": ratio(taken, name, "torch") for name in ours}
    return row


def measure_dispatch(shapes, names, rounds):
    """Microseconds of a step with one element a leaf."""
    steps = Steps([(1,)] * len(shapes), names)
    interleave(1, lambda name: steps.run(name, 20), names)
    taken = interleave(rounds, lambda name: steps.run(name, 20), names)
    row = {f"{name}, µs": 1e6 * statistics.median(taken[name]) for name in names}
    return row | {f"{x} / optax": ratio(taken, x) for x in names if x != "optax"}


def measure_compilation(shapes, names, rounds):
    """CPU seconds of tracing and compiling with empty caches, and XLA's plans."""
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    size = sum(4 * math.prod(shape) for shape in shapes)
    traces: dict[str, list[float]] = {name: [] for name in names}
    plans: dict[str, Any] = {}

    def measure(name):
        step, init = MAKERS[name]()
        state = jax.eval_shape(init, params)
        jax.clear_caches()
        lowered, trace = seconds(step.lower, params, params, state, clock=CPU)
        compiled, compilation = seconds(lowered.compile, clock=CPU)
        plans[name] = compiled.memory_analysis()
        traces[name].append(trace)
        return trace + compilation

    measure(names[0])  # what is made once in a process
    taken = interleave(rounds, measure, names)
    row: dict[str, float] = {}
    for name in names:
        row[f"{name} trace, ms"] = 1e3 * statistics.median(traces[name])
        row[f"{name}, ms"] = 1e3 * statistics.median(taken[name])
    row |= {f"{x} / optax": ratio(taken, x) for x in names if x != "optax"}
    less = {"chain": [time - FIXED for time in taken["chain"]], "optax": taken["optax"]}
    row["chain, less the fixed part / optax"] = ratio(less, "chain")
    for name, plan in plans.items():
        row[f"{name} temporary"] = plan.temp_size_in_bytes / size
    return row


def measure_growth(rounds):
    """Nanoseconds a parameter of one leaf, milliseconds of compilation a leaf."""
    rows = []
    for size in GROWTH:
        row = measure_steps([(size,)], PLAIN, rounds)
        times = {name: 1e6 * row[f"{name}, ms"] / size for name in PLAIN}
        rows.append({"parameters": size} | {f"{k}, ns": v for k, v in times.items()})
    compilations = []
    for leaves in LEAVES:
        row = measure_compilation([(1_000,)] * leaves, PLAIN, 1)
        times = {f"{name}, ms a leaf": row[f"{name}, ms"] / leaves for name in PLAIN}
        compilations.append({"leaves": leaves} | times)
    return rows, compilations


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures steps of AdamW.")
    parser.add_argument("--quick", action="store_true", help="small trees alone")
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    parser.add_argument("--growth", action="store_true", help="with size and leaves")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    head = begin()
    print(f"fused_adamw on CPU: {adamx.fused_adamw(1e-3).on_cpu}")
    steps, compilations, dispatches, figures = [], [], [], {}
    for tree in QUICK if args.quick else args.trees:
        shapes, first = TREES[tree], {"tree": tree}
        few = args.quick or len(shapes) > 500
        steps.append(first | measure_steps(shapes, tuple(MAKERS), 5 if few else 10))
        compilations.append(first | measure_compilation(shapes, PLAIN, 1 if few else 3))
        dispatches.append(first | measure_dispatch(shapes, PLAIN, 3 if few else 10))
        compiled = compilations[-1]
        figures[tree] = {
            "chain / optax": steps[-1]["chain / optax"],
            "fused / its limit": steps[-1]["fused / optax"] / FUSED[tree],
            "compilation": compiled["chain, less the fixed part / optax"],
            "temporary": max(compiled[f"{x} temporary"] for x in ("chain", "fused")),
        }
    show("Step of AdamW", steps)
    show(
        "Tracing and compiling, CPU time; temporary memory over parameters",
        compilations,
    )
    show("Dispatch, one element a leaf", dispatches)
    result = {"steps": steps, "compilations": compilations, "dispatch": dispatches}
    if args.growth:
        growth, leaves = measure_growth(3 if args.quick else 5)
        show("Growth of a step with the parameters of one leaf", growth)
        show("Growth of compilation with leaves of 1,000", leaves)
        result |= {"growth": growth, "leaves": leaves}
    return finish(LIMITS, figures, head | result, args.json)


if __name__ == "__main__":
    sys.exit(main())
