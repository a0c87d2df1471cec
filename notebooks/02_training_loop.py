# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What goes around the optimizer in a real training loop?
# One Flax run on scikit-learn's handwritten digits, with what long runs need:
# a schedule, knobs to turn while it runs, large batches from small ones, protection
# from bad batches, averages, diagnostics, and a restart that changes no bit.

# %%
import functools
import tempfile
from collections import Counter
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import orbax.checkpoint as ocp
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import adamx

EPOCHS, BATCH, WINDOW = 20, 64, 4

# %%
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images = np.asarray(images[order] / 16, np.float32)
labels = np.asarray(labels[order], np.int32)
train_rows, test_rows = np.arange(1408), np.arange(1408, len(images))

# The whole run as a list of (images, labels, is the epoch over?).
stream = []
for epoch in range(EPOCHS):
    rows = np.random.default_rng(epoch).permutation(train_rows).reshape(-1, BATCH)
    stream += [(images[r], labels[r], i == len(rows)) for i, r in enumerate(rows, 1)]


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for i in range(2):
            x = nn.relu(nn.Dense(128, name=f"layers_{i}")(x))
        return nn.Dense(10, name="head")(x)


model = MLP()


def new_state(tx, seed=0):
    params = model.init(jax.random.key(seed), images[:1])["params"]
    return TrainState.create(apply_fn=model.apply, params=params, tx=tx)


def cross_entropy(params, x, y):
    logits = nn.log_softmax(model.apply({"params": params}, x))
    return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()


@jax.jit
def accuracy(params):
    logits = model.apply({"params": params}, images[test_rows])
    return (logits.argmax(-1) == labels[test_rows]).mean()


def same(a, b):
    """Whether two trees are equal, bit for bit."""
    alike = jax.tree.map(lambda x, y: x.dtype == y.dtype and bool((x == y).all()), a, b)
    return all(jax.tree.leaves(alike))


# %% [markdown]
# ## 1. The recipe
# A warm-up keeps the first steps small while Adam's moments are young; the decay lets
# the run settle. Clipping comes first, so that one large gradient cannot fill the
# moments. Biases do not decay. Regular expressions on paths give parameters learning
# rates of their own, here half of it to the first layer; the first that is found
# counts. `layerwise_decay(0.8)` in its place makes such numbers for a deep stack.

# %%
by_layer = adamx.by_path({r"^layers_0/": 0.5, r"": 1.0})
STEPS = EPOCHS * 6  # of the optimizer: 5 windows of 4 batches in an epoch, and a rest


def recipe(peak_value=1e-2, max_norm=1.0, weight_decay=1e-2):
    schedule = adamx.warmup_cosine_decay_schedule(
        peak_value / 10, peak_value, STEPS // 10, STEPS
    )
    return adamx.chain(
        adamx.clip_by_global_norm(max_norm),
        adamx.adamw(schedule, weight_decay=weight_decay, mask=adamx.decay_mask()),
        adamx.scale_by_path(by_layer),
        adamx.ema_params(0.9),
    )


plain = new_state(recipe())
decays, rates = adamx.decay_mask()(plain.params), by_layer(plain.params)
for layer in plain.params:
    print(f"{layer:9} rate x {rates[layer]['kernel']}, decay: {decays[layer]}")
assert decays["head"] == {"bias": False, "kernel": True}
assert rates["layers_0"]["kernel"] == 0.5

# %% [markdown]
# ## 2. Knobs in the state
# What is written into a program cannot be changed without compiling it again.
# `inject_hyperparams` calls the recipe with values from the state instead, and
# `tree_set` sets them. The schedule is built inside, so its peak is such a value, too:
# setting it scales the rest of the schedule.

# %%
traces = Counter()


@jax.jit
def train_step(state, x, y):
    traces["train_step"] += 1  # Python runs when JAX traces, not in each step
    loss, grads = jax.value_and_grad(cross_entropy)(state.params, x, y)
    return state.apply_gradients(grads=grads), loss


knobs = adamx.inject_hyperparams(recipe)
state = new_state(knobs())
for x, y, _ in stream[:20]:
    state, _ = train_step(state, x, y)
lower = state.replace(opt_state=adamx.tree_set(state.opt_state, peak_value=5e-3))
before, _ = train_step(state, *stream[20][:2])
after, _ = train_step(lower, *stream[20][:2])


def moved(new):
    return adamx.global_norm(jax.tree.map(jnp.subtract, new.params, state.params))


for name, new in [("before", before), ("after", after)]:
    values = adamx.get_hyperparams(new.opt_state)
    knob = ", ".join(f"{key} {float(value):.3g}" for key, value in values.items())
    print(f"{name:7} {knob}; the step moves by {moved(new):.4f}")
assert traces["train_step"] == 1
assert abs(moved(before) / moved(after) - 2) < 1e-4

# %% [markdown]
# ## 3. A large batch in the memory of a small one
# `MultiSteps` averages four gradients and runs the optimizer on the mean; in between
# the updates are zeros. The schedule counts steps of the optimizer, not batches.
# An epoch has 22 batches, so 2 are left: `flush` makes a step of them. It finds its
# part of the state, whatever is wrapped around it.

# %%
window = adamx.MultiSteps(knobs(), WINDOW)


@functools.partial(jax.jit, static_argnums=0)
def flush(window, state):
    updates, opt_state = window.flush(state.opt_state, state.params)
    params = adamx.apply_updates(state.params, updates)
    return state.replace(params=params, opt_state=opt_state)


small, large = new_state(window), new_state(knobs())
for x, y, _ in stream[:WINDOW]:
    small, _ = train_step(small, x, y)
x, y = (np.concatenate([row[i] for row in stream[:WINDOW]]) for i in (0, 1))
large, _ = train_step(large, x, y)
gaps = jax.tree.map(lambda a, b: abs(a - b).max(), small.params, large.params)
print(f"4 batches of 64 against one of 256: within {max(jax.tree.leaves(gaps)):.0e}")
assert max(jax.tree.leaves(gaps)) < 1e-5

# The rest of an epoch, here one batch, is a step like any other.
x, y, _ = stream[WINDOW]
rest, _ = train_step(small, x, y)
rest = flush(window, rest)
alone = large.replace(params=small.params, opt_state=small.opt_state.inner_opt_state)
alone, _ = train_step(alone, x, y)
gaps = jax.tree.map(lambda a, b: abs(a - b).max(), rest.params, alone.params)
assert max(jax.tree.leaves(gaps)) < 1e-6
assert adamx.tree_get(rest.opt_state, "gradient_step") == 2

# %% [markdown]
# ## 4. A bad batch
# One NaN in one of 90,000 pixels, from a broken file, say, and the run is lost.


# %%
def train(state, window, batches, watch=lambda state: None):
    for x, y, epoch_is_over in batches:
        state, _ = train_step(state, x, y)
        if epoch_is_over:
            state = flush(window, state)
        watch(state)
    return state


BAD = 75  # in the fourth epoch, in the middle of a window
broken = images[:BATCH].copy()
broken[0, 0] = np.nan
bad = broken, labels[:BATCH], False
spoiled = [*stream[:BAD], bad, *stream[BAD:]]

lost = train(new_state(window), window, spoiled[: BAD + WINDOW])
nans = sum(int(jnp.isnan(p).sum()) for p in jax.tree.leaves(lost.params))
size = sum(p.size for p in jax.tree.leaves(lost.params))
print(f"{nans:,} of {size:,} parameters are NaN; accuracy {accuracy(lost.params):.3f}")
assert nans > size / 2
assert accuracy(lost.params) < 0.2

# %% [markdown]
# `apply_if_finite` leaves out that batch whole: moments, counters and the half-filled
# window stay as they were, so the run is the one without the batch. After five in a row
# it lets them through, since that is no accident.
#
# The order of the wrappers, from the outside: `apply_if_finite`, since inside of
# `MultiSteps` it would see the mean, and lose three good batches with the bad one;
# `MultiSteps`; `record`, which would see the zeros in between if it were outside; the
# knobs; and in the chain clipping first and `ema_params` last, which must see the
# whole of the step. (`should_skip_update_fn=adamx.skip_not_finite` in `MultiSteps` does
# the same without a wrapper of its own.)

# %%
by_name = adamx.by_path(lambda path: path.split("/")[0])


def optimizer():
    recorded = adamx.record(knobs(), groups=by_name, max_norm=1.0)
    window = adamx.MultiSteps(recorded, WINDOW)
    return window, adamx.apply_if_finite(window, max_consecutive_errors=5)


history = []


def watch(state):
    if adamx.tree_get(state.opt_state, "gradient_step") > len(history):
        average = adamx.eval_params(state.opt_state, state.params)
        scores = accuracy(state.params), accuracy(average)
        history.append((scores, adamx.get_metrics(state.opt_state)))


window, tx = optimizer()
final = train(new_state(tx), window, stream, watch)
protected = train(new_state(tx), window, spoiled)
left_out = adamx.tree_get(protected.opt_state, "total_notfinite")
print(f"{left_out} batch left out; accuracy {accuracy(protected.params):.3f}")
assert left_out == 1
assert same(protected.params, final.params)
assert same(protected.opt_state.inner_state, final.opt_state.inner_state)

# In the other order three good batches are lost with the bad one.
swapped = adamx.MultiSteps(adamx.apply_if_finite(knobs(), 5), WINDOW)
start = new_state(swapped)
assert same(train(start, swapped, [*stream[:3], bad]).params, start.params)

# %% [markdown]
# A loss that jumps without a NaN is the business of `skip_spikes(tx)`, which leaves out
# steps whose gradient norm is far above the recent ones. Training in float16 takes
# `dynamic_loss_scale(tx)` in the place of `apply_if_finite`: it also multiplies the
# loss so that small gradients do not vanish, and lowers the factor after an overflow.

# %% [markdown]
# ## 5. Averages
# The parameters of one step are those of a noisy path. `ema_params(0.9)` keeps their
# mean over about ten steps, and `eval_params` finds it in the state; without an average
# it gives the parameters themselves, so the line of evaluation can stay for good.

# %%
raw, averaged = np.array([scores for scores, _ in history]).T
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.plot(raw, label="parameters")
axes.plot(averaged, label="their average")
axes.set(xlabel="step of the optimizer", ylabel="test accuracy", ylim=(0.85, 1))
axes.legend()
plt.show()

print(f"steps 20 to 60: mean accuracy {raw[20:60].mean():.3f}", end=", ")
print(f"of the average {averaged[20:60].mean():.3f}")
print(f"at the end: {raw[-1]:.3f}, of the average {averaged[-1]:.3f}")

# %% [markdown]
# ## 6. What a step did
# `record` measures each step and puts it into the state, for all parameters and for
# groups of them. A ratio of update to parameter around 1e-3 is usual, more is fast.
# A signal-to-noise ratio of 1 says that gradients agree; noise alone gives about
# (1 - b1) / (1 + b1) = 0.05. Less, as here, says that gradients have become smaller,
# and nu, which remembers 1000 steps, those before.

# %%
names = {
    "grad_norm": "gradient norm",
    "update_ratio": "update / parameter",
    "signal_to_noise": "signal to noise",
}
figure, panels = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
for axes, (name, label) in zip(panels, names.items(), strict=True):
    for group in history[0][1]:
        curve = [metrics[group][name] for _, metrics in history]
        axes.semilogy(curve, label=group, linewidth=1)
    axes.set(xlabel="step of the optimizer", title=label)
panels[0].legend(fontsize=8)
plt.show()

# %%
print(adamx.summary(final.opt_state, final.params))

# %% [markdown]
# ## 7. Stop and go on
# A run is its parameters, its state and the place in the data: the half-filled window,
# the counters, the average and the knobs are all arrays of the state. Orbax, which
# comes with Flax, writes them; a new process makes everything anew and needs only the
# shapes to read them. Here the stop is in the middle of a window.

# %%
STOP = 230


def saved(state):
    return {"params": state.params, "opt_state": state.opt_state, "step": state.step}


with tempfile.TemporaryDirectory() as folder, ocp.StandardCheckpointer() as files:
    stopped = train(new_state(tx), window, stream[:STOP])
    files.save(Path(folder, "run"), saved(stopped))
    files.wait_until_finished()

    window, tx = optimizer()
    fresh = new_state(tx, seed=1)
    read = files.restore(Path(folder, "run"), jax.eval_shape(saved, fresh))

resumed = train(fresh.replace(**read), window, stream[STOP:])
print("gradients in the window:", adamx.tree_get(stopped.opt_state, "mini_step"))
print("bit for bit the run that was not stopped:", same(saved(resumed), saved(final)))
assert adamx.tree_get(stopped.opt_state, "mini_step") == 2
assert same(saved(resumed), saved(final))

# %% [markdown]
# The answer, checked: four wrappers around four blocks, of which neither the model nor
# the step knows. The run learns to read digits, its average reads them better on the
# way, and neither a bad batch nor a stop changes a bit of it.

# %%
first, last = history[0][1], history[-1][1]
assert len(history) == STEPS
assert raw[-1] > 0.95
assert averaged[-1] > 0.95
assert averaged[20:60].mean() > raw[20:60].mean()
assert all(last[group]["update_ratio"] < 1e-3 for group in last)
norms = np.array([metrics["all"]["grad_norm"] for _, metrics in history])
assert norms[-20:].mean() < norms[:20].mean() / 2
assert all(last[g]["signal_to_noise"] < 0.1 * first[g]["signal_to_noise"] for g in last)
