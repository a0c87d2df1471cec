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
# # Is this run healthy?
# A loss that does not fall says that something is wrong, and not what. `adamx.record`
# measures each step: how long the gradient was, how long the update, how long the
# weights, and the angle between the first two. Here is one healthy run, and beside it
# nine illnesses, each of which shows in other curves. At the end stands a table of
# symptoms, causes and remedies, each line of it checked on the runs.

# %%
from itertools import pairwise

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, display
from jax import lax
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from sklearn.datasets import load_digits

import adamx
from adamx import lab
from adamx.lab.notebook import setting

STEPS, EVENT, BATCH = 400, 200, 64
SEEDS = setting(short=3, full=5)
RATE = 3e-3
HEALTHY, SICK, CURED = "#999999", "#D55E00", "#0072B2"

# %% [markdown]
# ## The patient
# The 1,797 digits of scikit-learn, and a perceptron of three layers under Adam at 3e-3.
# `record` wraps the optimizer and changes nothing of what it does; `groups` asks for
# the same numbers layer by layer. `get_metrics` reads those of the last step out of the
# state, for a log; `summary` prints them.

# %%
images, labels = load_digits(return_X_y=True)
images = jnp.asarray(images / 16, jnp.float32)
labels = jnp.asarray(labels, jnp.int32)


def init(key, widths=(64, 64, 64, 10)):
    params = {}
    for i, shape in enumerate(pairwise(widths)):
        normal = jax.random.normal(jax.random.fold_in(key, i), shape)
        kernel = normal * (2 / shape[0]) ** 0.5
        params[f"layer_{i:02}"] = {"kernel": kernel, "bias": jnp.zeros(shape[1])}
    return params


def loss_of(params, x, y):
    *hidden, last = jax.tree.map(lambda p: p.astype(jnp.float32), params).values()
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    logits = jax.nn.log_softmax(x @ last["kernel"] + last["bias"])
    return -jnp.take_along_axis(logits, y[:, None], axis=1).mean()


def moved(new, old):
    """The share of weights that a step has changed."""
    pairs = zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    changed = [(a != b).sum() for a, b in pairs]
    return sum(changed) / sum(p.size for p in jax.tree.leaves(old))


layers = adamx.by_path(lambda path: path.split("/")[0])


def train(tx, params, seed, weights):
    """Trains, step t with weights[t] times the loss; returns what each step did."""

    def step(carry, t):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(seed), t)
        rows = jax.random.randint(key, [BATCH], 0, len(labels))
        loss, grads = jax.value_and_grad(loss_of)(params, images[rows], labels[rows])
        grads = jax.tree.map(lambda g: g * weights[t].astype(g.dtype), grads)
        updates, state = tx.update(grads, state, params)
        new = adamx.apply_updates(params, updates)
        metrics = adamx.get_metrics(state)
        seen = {"loss": loss, "moved": moved(new, params), **metrics}
        return (new, state), seen

    return lax.scan(step, (params, tx.init(params)), jnp.arange(STEPS))


start = jax.vmap(init)(jax.random.split(jax.random.key(0), SEEDS))
always = jnp.ones(STEPS)


@jax.jit
def runs(learning_rate, b2, eps, weight_decay, params, weights):
    """A run for each seed; whatever may be sick about it is an argument."""

    def one(params, seed):
        tx = adamx.adamw(learning_rate, b2=b2, eps=eps, weight_decay=weight_decay)
        tx = adamx.record(tx, groups=layers, eps=eps, b2=b2)
        (_, state), seen = train(tx, params, seed, weights)
        return state, seen

    return jax.vmap(one)(params, jnp.arange(SEEDS))


def run(rate=RATE, b2=0.999, eps=1e-8, decay=0.0, params=start, weights=always):
    numbers = [jnp.float32(x) for x in (rate, b2, eps, decay)]
    state, seen = runs(*numbers, params, weights)
    return state, jax.tree.map(np.asarray, seen)


state, healthy = run()
print(adamx.summary(jax.tree.map(lambda x: x[0], state), init(jax.random.key(0))))

# %% [markdown]
# ## The dashboard
# Six curves of a run, the mean of blocks of eight steps, with the range of the seeds.
#
# - **loss**, of the batch.
# - **gradient norm** and **update norm**: the input and the output of the optimizer.
# - **update / weights**: how far a step moves the weights, as a part of them. About
#   1e-2 at first and 1e-3 later are usual.
# - **cosine** between the update and the way downhill. Momentum and noise keep it well
#   below 1 in a healthy run.
# - **share of tiny nu**, in which `eps` is larger than the root of Adam's second
#   moment. Here a tenth belongs to pixels at the edges, which are always black.

# %%
BLOCK = 8
PANELS = {
    "loss": "loss",
    "grad_norm": "gradient norm",
    "update_norm": "update norm",
    "update_ratio": "update / weights",
    "cosine": "cosine with downhill",
    "small_nu": "share of tiny nu",
}


def curve(result, name, group="all"):
    """A series in blocks of steps, f32[seeds,blocks]."""
    values = result[name] if name in result else result[group][name]
    return values.reshape(len(values), -1, BLOCK).mean(axis=2)


def band(axes, values, color, label=None, style="-"):
    places = (np.arange(values.shape[1]) + 0.5) * BLOCK
    axes.plot(places, values.mean(axis=0), style, color=color, label=label)
    axes.fill_between(
        places, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0
    )


def plain_numbers(axes):
    """Marks 1, 3, 10, ... on a logarithmic axis."""
    low, high = axes.get_ylim()
    steps = (1.0, 3.0) if high < 300 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def dashboard(title, sick, cured=None, group="all", names=("sick", "cured")):
    """Six curves of a run beside those of the healthy one."""
    figure, panels = plt.subplots(2, 3, figsize=(10, 4.2), layout="constrained")
    for axes, (name, label) in zip(panels.flat, PANELS.items(), strict=True):
        band(axes, curve(healthy, name, group), HEALTHY, "healthy")
        if sick is not None:
            band(axes, curve(sick, name, group), SICK, names[0])
        if cured is not None:
            band(axes, curve(cured, name, group), CURED, names[1])
        axes.set_title(label, fontsize=10)
        if name not in ("cosine", "small_nu"):
            axes.set_yscale("log")
            plain_numbers(axes)
        axes.set_xlim(0, STEPS)
    legend = panels[0, 0].get_legend_handles_labels()
    figure.legend(*legend, loc="upper right", ncols=3, frameon=False, fontsize=9)
    for axes in panels[1]:
        axes.set_xlabel("step")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    plt.show()


dashboard("Healthy", None)

# %% [markdown]
# ## 1. The learning rate is too low
# The loss is flat and every curve is calm. Two say why: a step moves the weights by a
# hundred-thousandth of their length, so all 400 of them by less than half a percent;
# and the updates keep going the same way, downhill, where those of a healthy run soon
# have to look for it. Raise the rate until the ratio is about 1e-3.

# %%
_, too_low = run(rate=3e-6)
dashboard("Learning rate 3e-6", too_low)

# %% [markdown]
# ## 2. The learning rate is too high
# The first update is longer than the weights: what the initialization was good for is
# gone after one step. The loss jumps, then stays near that of guessing. The later calm
# of the ratio is no recovery. The weights are ten times as long now, and second moments
# remember the gradients of the jump.

# %%
_, too_high = run(rate=0.3)
dashboard("Learning rate 0.3", too_high)

# %% [markdown]
# ## 3. eps is too large
# Then `nu` does not matter, and Adam is momentum with the learning rate
# $\alpha / \mathrm{eps}$. The share of tiny `nu` is 1 from the first step to the last,
# and update and gradient norms have the same shape: their quotient is constant.

# %%
_, large_eps = run(eps=1.0)
dashboard("eps = 1", large_eps)

# %% [markdown]
# ## 4. b2 does not fit a change of the gradients
# After 200 steps the loss of this run counts a thousand times, or a thousandth; that
# happens with weights of loss terms, curricula and new data. Adam does not mind the
# scale of gradients, but `nu` learns about a new one in $1/(1-b_2)$ steps. Until then
# updates are too long after a rise, and nearly zero after a fall. How long they can
# get is bounded, whatever the gradients do:
#
# $$K = \frac{1 - b_1}{\sqrt{(1 - b_2)(1 - b_1^2/b_2)}}$$
#
# times the learning rate for each weight, which is 7.3 at $b_2 = 0.999$ and 1.2 at
# 0.95. Where $b_2 < b_1^2$ there is no such bound: `nu` forgets large gradients before
# `mu` does, and the run below destroys itself without any change of scale.


# %%
def bound(b2, b1=0.9):
    return (1 - b1) / ((1 - b2) * (1 - b1**2 / b2)) ** 0.5 if b2 > b1**2 else np.inf


def rms_update(result):
    """The root mean square of the updates, in learning rates, f32[seeds,steps]."""
    count = sum(p[0].size for p in jax.tree.leaves(start))
    return result["all"]["update_norm"] / (RATE * count**0.5)


SCALES = {
    "a thousand times": always.at[EVENT:].set(1e3),
    "a thousandth": always.at[EVENT:].set(1e-3),
}
B2S = {0.999: SICK, 0.95: CURED, 0.7: "#CC79A7"}
scaled = {
    (b2, name): run(b2=b2, weights=weights)[1]
    for b2 in B2S
    for name, weights in SCALES.items()
}
figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
for axes, name in zip(panels, SCALES, strict=True):
    for b2, color in B2S.items():
        values = rms_update(scaled[b2, name])
        axes.plot(values.mean(axis=0), color=color, label=f"b2 = {b2}", linewidth=1)
        if np.isfinite(bound(b2)):
            axes.axhline(bound(b2), color=color, linestyle=":", linewidth=1)
    axes.axvline(EVENT, color="gray", linewidth=0.8)
    axes.set(yscale="log", title=f"the loss counts {name} from step {EVENT}")
    axes.set_xlabel("step")
panels[0].set_ylabel("update in learning rates, rms\n(dotted: bound of one weight)")
panels[0].legend(fontsize=8)
plt.show()
dashboard(
    f"The loss counts a thousandth from step {EVENT}: b2 = 0.999 and 0.95",
    scaled[0.999, "a thousandth"],
    scaled[0.95, "a thousandth"],
    names=("0.999", "0.95"),
)

# %% [markdown]
# ## 5. A layer is dead
# The biases of the second layer stand at -10, as after one step that was far too long.
# No unit of it is ever above zero, so nothing in front of it has a gradient: not a
# small one, but 0. In the curves of all weights that is easy to overlook; layer by
# layer it is not. A share of tiny `nu` of 1 in one group, with a gradient norm of
# exactly 0, is a dead layer. Adam cannot revive it: start it anew (`reset_state` for
# its moments), with a lower rate or a warm-up.

# %%
dead_start = start | {
    "layer_01": start["layer_01"] | {"bias": start["layer_01"]["bias"] - 10}
}
_, dead = run(params=dead_start)
figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
SHADES = {"layer_00": "#56B4E9", "layer_01": SICK, "layer_02": "#009E73"}
for name, color in SHADES.items():
    style = "--" if name == "layer_01" else "-"  # two of them are the same
    shown = np.maximum(curve(dead, "grad_norm", name), 1e-6)
    band(panels[0], curve(healthy, "grad_norm", name), color, name, style)
    band(panels[1], shown, color, name, style)
    band(panels[2], curve(dead, "small_nu", name), color, name, style)
panels[0].set(title="gradient norm, healthy")
panels[1].set(title="gradient norm")
panels[2].set(title="share of tiny nu", ylim=(0, 1.05))
for axes in panels[:2]:
    axes.set(yscale="log", ylim=(3e-7, 10))
    axes.set_yticks([1e-6, 1e-4, 1e-2, 1], ["0", "$10^{-4}$", "$10^{-2}$", "1"])
for axes in panels:
    axes.set_xlabel("step")
panels[2].legend(fontsize=8, loc="lower right")
plt.show()

# %% [markdown]
# ## 6. The weights are too coarse
# In bfloat16 a weight has eight bits, and an update of less than half the last of them
# is lost. All curves are those of the same run in float32, the ratio too: the updates
# are there, the weights do not take them. Only the share of weights that a step moves
# gives it away. `check_numerics` says so before the run; `master_weights` keeps what
# rounding takes: few weights move in one step with it, too, but nothing is lost.

# %%
SLOW = 1e-4


def precise(tx, dtype):
    def one(params, seed):
        params = jax.tree.map(lambda p: p.astype(dtype), params)
        return train(adamx.record(tx, groups=layers), params, seed, always)[1]

    each = jax.jit(jax.vmap(one))
    return jax.tree.map(np.asarray, each(start, jnp.arange(SEEDS)))


_, slow = run(rate=SLOW)
coarse = precise(adamx.adamw(SLOW), jnp.bfloat16)
kept = precise(adamx.master_weights(adamx.adamw(SLOW), bits=24), jnp.bfloat16)
figure, panels = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for axes, name, title in zip(
    panels,
    ["update_ratio", "moved", "loss"],
    ["update / weights", "share of weights that move", "loss"],
    strict=True,
):
    band(axes, curve(slow, name), HEALTHY, "float32")
    band(axes, curve(coarse, name), SICK, "bfloat16")
    if name != "update_ratio":
        band(axes, curve(kept, name), CURED, "bfloat16, master_weights")
    axes.set(title=title, xlabel="step")
panels[0].set(yscale="log", ylim=(1e-5, 1e-2))
panels[1].set(ylim=(0, 1))
panels[2].legend(fontsize=8)
plt.show()
half = jax.tree.map(lambda p: p[0].astype(jnp.bfloat16), start)
findings = adamx.check_numerics(adamx.adamw(SLOW), half, steps=STEPS)
for finding in findings:
    print(finding)
safe = adamx.check_numerics(adamx.master_weights(adamx.adamw(SLOW), bits=24), half)
print("with master_weights:", safe)

# %% [markdown]
# ## 7. A batch is broken
# One gradient is NaN, and from the next step on everything is. Or one gradient is ten
# thousand times too long: Adam caps that step, but `nu` remembers it for a thousand
# steps. The wrappers leave such a step out, moments and counters included, and count
# it.


# %%
def guarded(wrap, weights):
    """Runs inside a wrapper, and its state at the end."""

    def one(params, seed):
        tx = adamx.record(wrap(adamx.adamw(RATE, weight_decay=0.0)), groups=layers)
        (_, state), seen = train(tx, params, seed, weights)
        return state.inner_state, seen

    each = jax.jit(jax.vmap(one))
    state, seen = each(start, jnp.arange(SEEDS))
    return state, jax.tree.map(np.asarray, seen)


nan_batch, long_batch = (always.at[EVENT].set(x) for x in (jnp.nan, 1e4))
_, poisoned = run(weights=nan_batch)
_, spiked = run(weights=long_batch)
finite_state, finite = guarded(lambda tx: adamx.apply_if_finite(tx, 5), nan_batch)
spikes_state, calm = guarded(adamx.skip_spikes, long_batch)
dashboard(
    f"A gradient ten thousand times too long at step {EVENT}",
    spiked,
    calm,
    names=("adamw", "skip_spikes(adamw)"),
)
lost = np.isnan(poisoned["loss"][:, EVENT + 1 :]).mean()
print(f"after the NaN {lost:.0%} of the losses are NaN")
lost, skipped = np.isnan(finite["loss"]).mean(), finite_state.total_notfinite
print(f"with apply_if_finite {lost:.0%}; steps left out: {skipped.tolist()}")
print(f"with skip_spikes, steps left out: {spikes_state.total_skipped.tolist()}")

# %% [markdown]
# ## 8. The start is wrong
# Weights five times as large as they should be. The loss of the first batch knows: a
# classifier that knows nothing yet should say $\log 10 = 2.3$, and this one says a
# hundred. The ratio is a fifth of the healthy one, since the same steps stand against
# longer weights. Adam gets out of it, and loses most of the run.

# %%
wide_start = jax.tree.map(lambda p: 5 * p, start)
_, badly_started = run(params=wide_start)
dashboard("First weights five times too large", badly_started)

# %% [markdown]
# ## 9. There is too much decay
# The weights shrink to a tenth of their length, and the loss stays near that of
# guessing. The ratio is ten times the healthy one, and the cosine near 0: what a step
# does is to replace what decay took, or to take it.

# %%
_, decayed = run(decay=30.0)
dashboard("Weight decay 30", decayed)
figure, axes = plt.subplots(figsize=(4.5, 2.5), layout="constrained")
band(axes, curve(healthy, "param_norm"), HEALTHY, "healthy")
band(axes, curve(decayed, "param_norm"), SICK, "sick")
axes.set(xlabel="step", title="norm of the weights", ylim=(0, None))
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## A state of few bits
# `compress_state` keeps moments as codes, and `code_metrics` says how they are used.
# The codes of the largest number should be one in each group of 128, a share of 0.008,
# and next to none should be those of the smallest: such numbers are too small to be
# told apart. Eight bits are enough for these gradients. Four are not for `nu`.


# %%
def codes(codec):
    """How codes are used after a run: field -> metrics."""
    tx = adamx.compress_state(adamx.adam(RATE), codec)
    first = jax.tree.map(lambda p: p[0], start)
    run_one = jax.jit(lambda: train(adamx.record(tx), first, 0, always))
    (_, state), seen = run_one()
    assert seen["loss"][-40:].mean() < 0.2
    return adamx.code_metrics(state.inner_state, codec)


used = codes(adamx.companded_codec()) | codes(adamx.int4_codec())
for field, numbers in used.items():
    top, bottom = float(numbers["top"]), float(numbers["bottom"])
    print(f"{field:22} largest {top:6.1%}   smallest {bottom:6.1%}")

# %% [markdown]
# ## Before the run
# `lab.compare` keeps the ratio of update to weights of every run. Over thirteen
# learning rates it is the ratio that tells where a rate stands, and it does so after a
# few steps, when the loss cannot yet.

# %%
sweep = lab.compare(lab.digits(), ["adam"], seeds=2).trials["adam"]
early = sweep.ratios[:, :, :5].mean(axis=(1, 2))  # of the first 5 % of the steps
late = sweep.criterion.mean(axis=1)
figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
axes.loglog(early, late, "o-", color=CURED)
for i in range(0, len(early), 3):
    rate = f"{sweep.learning_rates[i]:g}"
    axes.annotate(rate, (early[i], late[i]), (5, 5), textcoords="offset points")
axes.set(
    xlabel="update / weights in the first 5 % of the steps",
    ylabel="validation loss at the end",
)
plt.show()
good = late < 1.1 * late.min()
print(f"within 10 % of the best loss: ratios {early[good].min():.4f} to "
      f"{early[good].max():.4f}")  # fmt: skip

# %% [markdown]
# ## The answer, checked
# Yes, if the loss starts where guessing is, the ratio is about 1e-2 and falls, the
# cosine is well between 0 and 1, no group has a gradient of 0, and few entries of `nu`
# are below `eps`. If not, the table says what to do. Each line of it is asserted on all
# seeds of the runs above.


# %%
def first(result, name):
    return result[name][:, 0] if name in result else result["all"][name][:, 0]


def end(result, name):
    """The mean of the last 40 steps."""
    values = result[name] if name in result else result["all"][name]
    return values[:, -40:].mean(axis=1)


before = slice(EVENT - 20, EVENT)
shortly = slice(EVENT, EVENT + 10)
risen, fallen = (scaled[0.999, name] for name in SCALES)
norm = {
    "before": fallen["all"]["update_norm"][:, before].mean(axis=1),
    "0.999": end(fallen, "update_norm"),
    "0.95": end(scaled[0.95, "a thousandth"], "update_norm"),
}
jump = rms_update(risen)[:, shortly].max(1) / rms_update(risen)[:, before].mean(1)
inner_layers = [dead[f"layer_{i:02}"] for i in (0, 1)]
length = spiked["all"]["grad_norm"]

TABLE = [
    (
        "Ratio below 1e-4 from the first step, cosine stays high",
        "the learning rate is too low",
        "raise it until the ratio starts near 1e-2",
        (first(too_low, "update_ratio") < 1e-4).all()
        and (end(too_low, "cosine") > 1.5 * end(healthy, "cosine")).all()
        and (end(too_low, "loss") > 2).all(),
    ),
    (
        "Ratio of 1 or more in the first step, the loss jumps",
        "the learning rate is too high",
        "lower it, or warm up",
        (first(too_high, "update_ratio") > 1).all()
        and (too_high["loss"][:, 1:10].max(1) > 2 * first(too_high, "loss")).all()
        and (end(too_high, "loss") > 1).all(),
    ),
    (
        "Share of tiny nu is 1 everywhere, update and gradient norm have one shape",
        "eps is too large for these gradients",
        "lower eps; 1e-8 and less are fine in float32",
        (large_eps["all"]["small_nu"] == 1).all()
        and (abs(end(large_eps, "effective_learning_rate") / RATE - 0.75) < 0.25).all()
        and (end(large_eps, "loss") > 10 * end(healthy, "loss")).all(),
    ),
    (
        "Update norm jumps with the gradient norm, at most 7.3 learning rates a weight",
        "gradients grew, and nu has not noticed",
        "lower b2 (0.95), or clip by norm",
        (jump > 3).all() and (rms_update(risen) <= bound(0.999)).all(),
    ),
    (
        "Update norm falls with the gradient norm, and stays down",
        "gradients shrank, and nu has not noticed",
        "lower b2 (0.95); <code>reset_state</code> after a change that is planned",
        (norm["0.999"] < norm["before"] / 10).all()
        and (norm["0.95"] > 4 * norm["0.999"]).all(),
    ),
    (
        "Updates of more than ten learning rates a weight, from calm gradients",
        "b2 is below b1 squared",
        "raise b2",
        (rms_update(scaled[0.7, "a thousandth"]).max(axis=1) > bound(0.999)).all(),
    ),
    (
        "Gradient norm exactly 0 and share of tiny nu 1 in a group",
        "a dead layer",
        "start it anew, <code>reset_state</code> for it, a lower rate or a warm-up",
        all((layer["grad_norm"] == 0).all() for layer in inner_layers)
        and all((layer["small_nu"] == 1).all() for layer in inner_layers)
        and (abs(end(dead, "loss") - np.log(10)) < 0.05).all(),
    ),
    (
        "All curves fine, the loss flat, few weights move",
        "updates are lost in rounding",
        "<code>master_weights</code>; ask <code>check_numerics</code> before",
        (abs(end(coarse, "update_ratio") / end(slow, "update_ratio") - 1) < 0.25).all()
        and (end(coarse, "moved") < 0.2).all()
        and (end(coarse, "loss") > end(slow, "loss") + 0.5).all()
        and (abs(end(kept, "loss") - end(slow, "loss")) < 0.01).all()
        and {finding.what for finding in findings} == {"lost updates"}
        and not safe,
    ),
    (
        "Everything is NaN from one step on",
        "a batch with a NaN",
        "<code>apply_if_finite</code>; watch <code>total_notfinite</code>",
        np.isfinite(poisoned["loss"][:, : EVENT + 1]).all()
        and np.isnan(poisoned["loss"][:, EVENT + 1 :]).all()
        and (abs(end(finite, "loss") - end(healthy, "loss")) < 0.03).all()
        and (finite_state.total_notfinite == 1).all(),
    ),
    (
        "One gradient far above the others, ratio too low long after",
        "an outlier is in nu",
        "<code>skip_spikes</code>; watch <code>total_skipped</code>",
        (length[:, EVENT] > 1e3 * length[:, before].max(axis=1)).all()
        and (end(spiked, "update_ratio") < 0.8 * end(healthy, "update_ratio")).all()
        and (end(spiked, "loss") > 2 * end(healthy, "loss")).all()
        and (abs(end(calm, "loss") - end(healthy, "loss")) < 0.03).all()
        and (spikes_state.total_skipped == 1).all(),
    ),
    (
        "First loss far above log(classes), ratio low",
        "first weights are too large",
        "scale them by 1 / √fan-in",
        (first(badly_started, "loss") > 10 * np.log(10)).all()
        and (first(healthy, "loss") < 2 * np.log(10)).all()
        and (
            first(badly_started, "update_ratio") < 0.3 * first(healthy, "update_ratio")
        ).all(),
    ),
    (
        "Weights shrink, ratio high, cosine near 0, the loss stays up",
        "too much weight decay",
        "lower it, and spare biases and norms",
        (end(decayed, "param_norm") < end(healthy, "param_norm") / 4).all()
        and (end(decayed, "update_ratio") > 4 * end(healthy, "update_ratio")).all()
        and (end(decayed, "cosine") < 0.5 * end(healthy, "cosine")).all()
        and (end(decayed, "loss") > 1).all(),
    ),
]
rows = [("symptom", "cause", "what to do"), *(row[:3] for row in TABLE)]
cells = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
display(HTML("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"))

# %%
for symptom, *_, holds in TABLE:
    assert holds, symptom
assert (end(healthy, "loss") < 0.15).all()
assert (
    (first(healthy, "update_ratio") > 5e-3) & (first(healthy, "update_ratio") < 0.03)
).all()
assert (end(healthy, "small_nu") < 0.2).all()
shares = {field: float(numbers["bottom"]) for field, numbers in used.items()}
assert shares["0/nu int4_128"] > 0.2 > 0.02 > shares["0/nu companded8_128"]
assert 3e-3 < early[late.argmin()] < 0.1
