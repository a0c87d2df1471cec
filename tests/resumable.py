"""A training program that may be killed at any moment.

    python tests/resumable.py FOLDER

Trains on the digits, a step for each line of its input, saves all that it needs every
few steps with Orbax, and goes on from the last checkpoint in FOLDER if there is one.
"""

import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from sklearn.datasets import load_digits

import adamx
from adamx.interop.orbax import restore, save_args

STEPS, EVERY, BATCH = 24, 3, 32
BROKEN, OUTLIER = {5, 13}, {10, 17}  # steps whose data are not to be learned from

IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES, LABELS = np.float32(IMAGES / 16), np.int32(LABELS)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(16)(x)))


def optimizer():
    schedule = adamx.warmup_cosine_decay_schedule(0.0, 1e-2, 5, STEPS)
    tx = adamx.chain(adamx.clip_by_global_norm(1.0), adamx.adamw(schedule))
    tx = adamx.skip_spikes(tx, window=8)
    tx = adamx.dynamic_loss_scale(tx, 2.0**8, growth_interval=4)
    return adamx.apply_if_finite(tx, 3)


def batch(step):
    """The data of a step, from its number alone, so that a new start knows them too."""
    rows = np.random.default_rng(step).choice(len(LABELS), BATCH, replace=False)
    factor = np.nan if step in BROKEN else 1e3 if step in OUTLIER else 1.0
    return IMAGES[rows] * np.float32(factor), LABELS[rows]


def main(folder):
    model, tx = MLP(), optimizer()

    @jax.jit
    def start():
        params = model.init(jax.random.key(0), IMAGES[:1])
        return {"params": params, "opt_state": tx.init(params)}

    @jax.jit
    def train(run, x, y):
        params, opt_state = run["params"], run["opt_state"]

        def scaled(params):
            logits = nn.log_softmax(model.apply(params, x))
            loss = -jnp.take_along_axis(logits, y[:, None], 1).mean()
            return loss * adamx.loss_scale(opt_state)

        updates, opt_state = tx.update(jax.grad(scaled)(params), opt_state, params)
        return {"params": adamx.apply_updates(params, updates), "opt_state": opt_state}

    run = start()
    with ocp.CheckpointManager(folder / "checkpoints") as manager:
        begin = manager.latest_step() or 0
        if begin:
            params, opt_state = restore(manager, tx, run["params"])
            run = {"params": params, "opt_state": opt_state}
        print("from", begin, flush=True)
        for step in range(begin, STEPS):
            sys.stdin.readline()
            run = train(run, *batch(step))
            print("step", step + 1, flush=True)
            if (step + 1) % EVERY == 0:
                args = save_args(run["params"], run["opt_state"])
                print("saving", step + 1, flush=True)
                manager.save(step + 1, args=args)
                manager.wait_until_finished()
                print("saved", step + 1, flush=True)
    np.savez(folder / "final.npz", *jax.tree.leaves(run))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
