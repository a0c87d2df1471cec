"""Measures what low precision costs: the loss, the steps, the moments.

    python benchmarks/fidelity.py [--quick] [--problems NAME ...] [--json PATH]

- Losses: three real problems, each recipe from the same starts with the same batches;
  the loss on held-out data of the weights in float32, less that of float32 in percent,
  with its standard error over seeds; and less that of the twin: float32, or for 16-bit
  weights a float32 master, which has the same gradients. How far runs part by nothing
  but last bits is told by "Optax float32".
- Steps: Adam's direction beside the exact one on the gradients of the transformer.
- Moments: nu after a tenfold drop of half the gradients; the largest step on streams of
  gradients that are hard on codes, over the largest that Adam itself can make.

The recipes of others are in `peers.py`. Exits with 1 if one of adamx breaks a limit.
With --quick a tenth of the steps; their losses are not held against limits.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import recipes as r
from jax import lax
from problems import PROBLEMS
from report import begin, finish, show
from shadow import after_a_drop, in_training, under_stress

import adamx

ERRORS, PERCENT = 2.0, 0.3  # a difference of losses within one of these is none
DIVERGED = 100.0  # percent
SHADOW = {"bf16": 0.03, "8-bit mu, bf16 nu": 0.05, "8-bit": 0.10}  # rms(du) / rms(u)
NU = 0.75, 1.3  # of the exact one, in training, 5 % and 95 %
LARGEST = 1.2  # |u| in training, over the exact run's
DROP = {"bf16": 1.3, "8-bit mu, bf16 nu": 1.3, "8-bit": 2.0}  # 99 % of nu / exact
MEAN = {"bf16": 0.02, "8-bit mu, bf16 nu": 0.02, "8-bit": 0.1}  # |mean nu / exact - 1|
BOUND = 1.01  # |u| under stress, over the bound of Cauchy and Schwarz
LIMITS = {"of the limit": 1.0}

RECIPES = [
    r.FLOAT32,
    r.BF16_STATES,
    r.MIXED_STATES,
    r.BYTE_STATES,
    r.WEIGHTS_24,
    r.SAFE,
    r.SMALL,
    r.OPTAX,
    r.COPY,
    r.BF16_WEIGHTS,
    r.ALL_BF16,
    *r.NEAREST,
]


def compile_run(problem, recipe, steps, data):
    """The program that trains from a seed and returns the loss on held-out data."""
    rate = adamx.warmup_cosine_decay_schedule(
        0.0, problem.learning_rate, steps // 20, steps
    )
    tx = recipe.make(rate)

    def loss(params, batch):
        return problem.loss(r.wide(params), batch)

    def run(key, data, held_out):
        def step(carry, i):
            params, state = carry
            batch = problem.batch(data, jax.random.fold_in(key, i))
            grads = jax.grad(loss)(params, batch)
            updates, state = tx.update(grads, state, params)
            return (adamx.apply_updates(params, updates), state), None

        params = problem.init(key)
        params = jax.tree.map(lambda p: p.astype(recipe.dtype), params)
        carry = params, tx.init(params)
        (params, state), _ = lax.scan(step, carry, jnp.arange(steps))
        return loss(recipe.masters(params, state), held_out), loss(params, held_out)

    return jax.jit(run).lower(jax.random.key(0), *data).compile()


def losses(problem, recipes, steps, seeds):
    """For each recipe the losses of the weights in float32 and as they are."""
    data = jax.device_put((problem.data, problem.held_out))

    def measure(recipe):
        run = compile_run(problem, recipe, steps, data)
        return [[float(x) for x in run(jax.random.key(s), *data)] for s in range(seeds)]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(measure, recipes)))


def compare(problem, recipes, found):
    """Rows of a table: the mean loss of each recipe, and paired with others.

    With float32 first. Recipes with 16-bit weights are judged beside a float32 master,
    which has the same gradients of the same rounded weights.
    """
    rows, wide = [], dict(zip(recipes, found[:, :, 0], strict=True))
    for recipe, visible in zip(recipes, found[:, :, 1].mean(1), strict=True):
        twin = r.COPY if recipe.dtype == r.BF16 and recipe != r.COPY else r.FLOAT32
        mean, error = paired(wide[recipe], wide[r.FLOAT32])
        twins, twins_error = paired(wide[recipe], wide[twin])
        within = min(
            abs(twins) / PERCENT,
            abs(twins) / (ERRORS * twins_error) if twins_error else np.inf,
        )
        verdict = (
            "as " + twin.name if within <= 1 else "worse" if twins > 0 else "other"
        )
        if not mean <= DIVERGED:
            verdict = "diverges"
        rows.append(
            {
                "recipe": recipe.name,
                "ours": recipe.ours,
                "loss": float(wide[recipe].mean()),
                "to float32, %": mean,
                "± s.e.": error,
                "to its twin, %": twins,
                "± s.e. ": twins_error,
                "verdict": verdict,
                "of the limit": within,
                "as stored": float(visible),
            }
        )
    return rows


def paired(losses, others):
    """The mean difference over seeds in percent of the others, and its error."""
    differences = 100 * (losses - others) / others.mean()
    return float(differences.mean()), float(
        differences.std(ddof=1) / len(others) ** 0.5
    )


def print_rows(title, rows, hidden=("ours", "of the limit")):
    show(
        title,
        [{k: v for k, v in row.items() if k not in hidden} for row in rows],
    )


def without_nan(result):
    """Tables with null for what is not finite, since JSON has no word for it."""
    return {
        name: [{k: None if is_lost(x) else x for k, x in row.items()} for row in rows]
        for name, rows in result.items()
    }


def is_lost(x):
    return isinstance(x, float) and not np.isfinite(x)


def judge_steps(row):
    """The largest part of a limit that a row of `in_training` has used."""
    return max(
        row["rms(du) / rms(u)"] / SHADOW[row["states"]],
        NU[0] / row["nu / exact, 5 %"],
        row["95 %"] / NU[1],
        row["max |u|"] / row["exact"] / LARGEST,
    )


def main():
    """Measures, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Measures low precision.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument(
        "--problems", nargs="*", choices=PROBLEMS, default=list(PROBLEMS)
    )
    parser.add_argument("--recipes", default="", help="those whose name contains this")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    part = 10 if args.quick else 1
    head, result, judged = begin(), {}, {}
    start = time.perf_counter()
    twins = r.FLOAT32, r.COPY
    chosen = [x for x in RECIPES if args.recipes in x.name or x in twins]
    for name in args.problems:
        problem = PROBLEMS[name]()
        seeds = 3 if args.quick else problem.seeds
        found = losses(problem, chosen, problem.steps // part, seeds)
        rows = result[name] = compare(problem, chosen, found)
        title = f"{problem.name}: loss in {problem.unit}, {seeds} seeds"
        print_rows(title, rows)
        if not args.quick:
            judged |= {f"{name}, {row['recipe']}": row for row in rows if row["ours"]}
    problem = PROBLEMS["plays"]()
    rows = result["steps"] = in_training(problem, problem.steps * 2 // part)
    print_rows("Steps beside the exact ones, the same gradients", rows)
    for row in rows:
        if row["ours"]:
            judged[f"steps, {row['states']}"] = {"of the limit": judge_steps(row)}
    rows = result["drop"] = after_a_drop(4000, 2000)
    print_rows("nu over the exact one after a tenfold drop of gradients", rows)
    for row in rows:
        if row["ours"]:
            used = max(
                row["99 %"] / DROP[row["states"]],
                abs(row["mean nu / exact"] - 1) / MEAN[row["states"]],
            )
            judged[f"drop, {row['states']}"] = {"of the limit": used}
    rows = result["stress"] = under_stress(300)
    print_rows("Largest step over the largest that Adam can make", rows)
    for row in rows:
        if row["ours"]:
            used = max(x for x in row.values() if isinstance(x, float)) / BOUND
            judged[f"stress, {row['states']}"] = {"of the limit": used}
    print(f"\n{time.perf_counter() - start:.0f} s")
    return finish(LIMITS, judged, head | without_nan(result), args.json)


if __name__ == "__main__":
    sys.exit(main())
