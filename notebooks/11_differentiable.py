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
# # Can I learn the learning rate by gradient?
# A training run is a function: from the learning rate, the other numbers of the
# optimizer and the first weights to the validation loss at the end. adamx is
# differentiable in all of them, so JAX gives the slope of a whole run. This notebook
# checks these slopes, learns a rate, rates of layers and a schedule with them, says
# what they cost in memory, and shows where they are of no use.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax import lax
from sklearn.datasets import load_digits

import adamx
from adamx.lab.notebook import setting

STEPS, BATCH, HIDDEN = 100, 64, 32
RUNS = setting(short=4, full=8)  # of which a slope is the mean
LESSONS = setting(short=40, full=200)  # steps of learning
FRESH = setting(short=8, full=32)  # runs that nothing was learned from
ONE_LESSONS = setting(short=30, full=60)
LENGTHS = setting(short=(64, 256), full=(64, 256, 1024, 4096))
SCAN = setting(short=101, full=601)  # learning rates in a picture

# %% [markdown]
# The run: 100 steps of batches of 64 on scikit-learn's digits, a network with 32 hidden
# units. A seed gives the first weights and the batches.

# %%
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images = (images[order] / 16).astype(np.float32)
labels = labels[order].astype(np.int32)
VALIDATION, TEST = slice(1000, 1400), slice(1400, None)


def begin(seed, steps=STEPS):
    """The first weights, and the rows of all batches."""
    first, second, batches = jax.random.split(jax.random.key(seed), 3)
    params = {
        "hidden": {
            "kernel": jax.random.normal(first, (64, HIDDEN), jnp.float32) / 8,
            "bias": jnp.zeros(HIDDEN, jnp.float32),
        },
        "out": jax.random.normal(second, (HIDDEN, 10), jnp.float32) / HIDDEN**0.5,
    }
    return params, jax.random.randint(batches, [steps, BATCH], 0, 1000, jnp.int32)


def loss_of(params, rows, activation=jnp.tanh):
    x = jnp.asarray(images, params["out"].dtype)[rows]
    hidden = activation(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    log_p = jax.nn.log_softmax(hidden @ params["out"])
    return -jnp.take_along_axis(log_p, jnp.asarray(labels)[rows][:, None], 1).mean()


def train(tx, params, rows, activation=jnp.tanh):
    """The parameters after all batches, and after each."""

    def step(carry, batch):
        params, state = carry
        grads = jax.grad(loss_of)(params, batch, activation)
        updates, state = tx.update(grads, state, params)
        params = adamx.apply_updates(params, updates)
        return (params, state), params

    (params, _), all_params = lax.scan(step, (params, tx.init(params)), rows)
    return params, all_params


def validation(params, activation=jnp.tanh):
    return loss_of(params, VALIDATION, activation)


# %% [markdown]
# ## The slope of a run in everything
# Numbers are in logarithms: the slope says by how much the validation loss changes if a
# number grows by a factor e. The last row is along a random direction of the 2,400
# first weights. The check is in float64, by central differences
# $(F(z + h) - F(z - h)) / 2h$ with $h = 10^{-6}$.

# %%
NUMBERS = {
    "learning_rate": 1e-2,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-4,
    "weight_decay": 1e-2,
}


def outcome(logs, way):
    """The validation loss where numbers are exp(log), and some way from the start."""
    params, rows = begin(0)
    params = jax.tree.map(
        lambda p, d: jnp.asarray(p, way.dtype) + way * jnp.asarray(d, way.dtype),
        params,
        direction,
    )
    tx = adamx.adamw(**{name: jnp.exp(log) for name, log in logs.items()})
    return validation(train(tx, params, rows)[0])


random = np.random.default_rng(0)
direction = jax.tree.map(lambda p: random.normal(size=p.shape), begin(0)[0])


loss_and_slopes = jax.jit(jax.value_and_grad(outcome, (0, 1)))


def logs_of(dtype):
    return {name: jnp.log(jnp.asarray(x, dtype)) for name, x in NUMBERS.items()}


def slopes(dtype):
    """By reverse mode: all at once."""
    _, (of_logs, of_way) = loss_and_slopes(logs_of(dtype), jnp.zeros([], dtype))
    return {name: float(x) for name, x in of_logs.items()} | {"start": float(of_way)}


def differences(h=1e-6):
    """Central ones, in each number and along the direction."""

    def loss_at(name, change):
        logs, way = logs_of(jnp.float64), jnp.zeros([])
        if name == "start":
            way = way + change
        else:
            logs[name] = logs[name] + change
        return float(loss_and_slopes(logs, way)[0])

    names = [*NUMBERS, "start"]
    return {name: (loss_at(name, h) - loss_at(name, -h)) / (2 * h) for name in names}


narrow = slopes(jnp.float32)
with jax.enable_x64(True):
    wide, checks = slopes(jnp.float64), differences()
print(f"{'':13} {'float32':>11} {'float64':>13} {'difference':>13} {'apart':>8}")
apart = {name: abs(checks[name] / wide[name] - 1) for name in wide}
for name in wide:
    print(
        f"{name:13} {narrow[name]:11.6f} {wide[name]:13.8f} {checks[name]:13.8f} "
        f"{apart[name]:8.0e}"
    )

# %% [markdown]
# ## A learning rate learns itself
# Gradient descent on the logarithm of the rate, beginning thirty times too small, down
# the mean slope of several runs. Each lesson has runs of its own, with other first
# weights and batches; what is learned is tried on runs that no lesson saw. One program
# gives the slopes in the rates of each parameter at each step; the chain rule makes of
# them those in whatever the rates come from, here one number.


# %%
def trained_by(rates, seed):
    """A run with a rate for each parameter and each step."""
    params, rows = begin(seed)
    adam = adamx.scale_by_adam()

    def step(carry, inputs):
        params, state = carry
        batch, rates = inputs
        grads = jax.grad(loss_of)(params, batch)
        updates, state = adam.update(grads, state, params)
        moved = jax.tree.map(lambda p, u, rate: p - rate * u, params, updates, rates)
        return (moved, state), None

    (params, _), _ = lax.scan(step, (params, adam.init(params)), (rows, rates))
    return params


def same_for_all(logs):
    """Rates of each step, from one log, or one for each step."""
    rates = jnp.broadcast_to(jnp.exp(logs), STEPS)
    return jax.tree.map(lambda _: rates, begin(0)[0])


def by_layer(logs):
    return jax.tree.map(lambda log: jnp.broadcast_to(jnp.exp(log), STEPS), logs)


@jax.jit
def mean_loss(rates, seeds):
    """The mean validation loss of runs, and its slopes in all rates."""

    def mean(rates):
        def one(seed):
            return loss_of(trained_by(rates, seed), VALIDATION)

        return jax.vmap(one)(seeds).mean()

    return jax.value_and_grad(mean)(rates)


def learn(logs, rates_of, rate, lessons=LESSONS, *, fresh=True):
    """The logs in the end; and before each lesson: logs, the loss and its slopes."""
    tx = adamx.adam(adamx.cosine_decay_schedule(rate, lessons))
    state, path = tx.init(logs), []
    for i in range(lessons):
        rates, pull_back = jax.vjp(rates_of, logs)
        value, slopes = mean_loss(rates, 1000 + np.arange(RUNS) + fresh * i * RUNS)
        (grads,) = pull_back(slopes)
        path.append((logs, float(value), grads))
        updates, state = tx.update(grads, state)
        logs = adamx.apply_updates(logs, updates)
    return logs, path


def log(rate):
    return jnp.log(jnp.asarray(rate, jnp.float32))


new_seeds = jnp.arange(FRESH)


@jax.jit
def on_new_runs(rates):
    """Validation and test losses of new runs, [seeds], at such rates."""

    def losses(seed):
        params = trained_by(rates, seed)
        return loss_of(params, VALIDATION), loss_of(params, TEST)

    return jax.vmap(losses)(new_seeds)


sweep_rates = np.logspace(-3.5, -0.5, setting(short=13, full=31))
sweep = np.array([on_new_runs(same_for_all(log(rate))) for rate in sweep_rates])
sweep_best = sweep_rates[sweep[:, 0].mean(1).argmin()]
one, path = learn(log(7e-4), same_for_all, 0.3, ONE_LESSONS)
ones, one_losses, _ = map(np.array, zip(*path, strict=True))
print(f"learned: {np.exp(one):.4f}; best of the sweep: {sweep_best:.4f}")

# %%
figure, (valley, way) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
valley.loglog(sweep_rates, sweep[:, 0].mean(1), color="gray", label="sweep, new runs")
valley.fill_between(
    sweep_rates, *np.quantile(sweep[:, 0], [0.1, 0.9], axis=1), color="gray", alpha=0.2
)
dots = valley.scatter(
    np.exp(ones), one_losses, c=np.arange(len(ones)), s=22, label="lessons", zorder=3
)
figure.colorbar(dots, ax=valley, label="lesson")
valley.set(xlabel="learning rate", ylabel="validation loss, nats")
valley.legend()
way.semilogy(np.exp(ones), color="#0072B2")
way.axhline(sweep_best, color="gray", linestyle=":", label="best of the sweep")
way.set(xlabel="lesson", ylabel="learning rate")
way.legend()
plt.show()

# %% [markdown]
# It stops somewhat beyond the best of the sweep: there the valley is flat, and slopes
# begin to be noise, of which more below.
#
# ## Rates of layers, and a schedule
# A hundred numbers are as cheap as one: reverse mode gives all slopes in one pass. Here
# a rate for each leaf is learned, then one for each of the 100 steps, both from 0.01
# everywhere. The schedule is learned twice: with runs of its own in every lesson, and
# with the same few runs in all lessons.

# %%
first_logs = jax.tree.map(lambda _: log(1e-2), begin(0)[0])
first_steps = jnp.broadcast_to(log(1e-2), STEPS)
layers, _ = learn(first_logs, by_layer, 0.1, ONE_LESSONS)
steps, fresh_path = learn(first_steps, same_for_all, 0.05)
by_heart, heart_path = learn(first_steps, same_for_all, 0.05, fresh=False)


def cosine(peak):
    """The usual schedule: a tenth of the run warms up, a cosine ends it."""
    schedule = adamx.warmup_cosine_decay_schedule(peak / 10, peak, STEPS // 10, STEPS)
    return same_for_all(jnp.log(jax.vmap(schedule)(jnp.arange(STEPS))))


peaks = np.array([0.02, 0.03, 0.05, 0.08, 0.12])
cosines = np.array([on_new_runs(cosine(peak)) for peak in peaks])
peak = peaks[cosines[:, 0].mean(1).argmin()]
results = {
    "one rate, swept": on_new_runs(same_for_all(log(sweep_best))),
    "one rate, learned": on_new_runs(same_for_all(one)),
    "a rate a leaf, learned": on_new_runs(by_layer(layers)),
    f"cosine to {peak}, swept": on_new_runs(cosine(peak)),
    "schedule, learned": on_new_runs(same_for_all(steps)),
    "schedule, the same runs": on_new_runs(same_for_all(by_heart)),
}
valid, test = ({name: np.asarray(x[i]) for name, x in results.items()} for i in (0, 1))
for name, losses in test.items():
    error = losses.std(ddof=1) / len(losses) ** 0.5
    print(f"{name:25} test loss of new runs {losses.mean():.4f} ± {error:.4f}")

# %%
figure, (shape, lessons) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
hues = {"schedule, learned": "#0072B2", "schedule, the same runs": "#D55E00"}
shape.plot(np.exp(by_heart), color="#D55E00", alpha=0.5, linewidth=1)
shape.plot(np.exp(steps), color="#0072B2", alpha=0.5, linewidth=1)
smooth = np.convolve(np.pad(np.exp(steps), 4, "edge"), np.ones(9) / 9, mode="valid")
shape.plot(smooth, color="#0072B2", linewidth=2.5, label="learned, mean of 9")
shape.plot([], [], color="#D55E00", label="learned on the same runs")
usual = [float(x) for x in cosine(peak)["out"]]
shape.plot(usual, "--", color="black", label=f"cosine to {peak}")
shape.set(xlabel="step of the run", ylabel="learning rate")
shape.legend()
lessons.plot(
    [loss for _, loss, _ in heart_path],
    color="#D55E00",
    label="the same runs: their loss",
)
lessons.plot(
    [loss for _, loss, _ in fresh_path], color="#0072B2", label="new runs: their loss"
)
for name, color in hues.items():
    end = valid[name].mean()
    lessons.plot(LESSONS, end, "o", color=color, clip_on=False, zorder=4)
lessons.plot([], [], "o", color="gray", label="other new runs, in the end")
lessons.set(xlabel="lesson", ylabel="validation loss, nats", yscale="log")
lessons.legend()
plt.show()

# %% [markdown]
# Nobody told it of warm-ups and decays, and it is better than any single rate. A rate
# for each leaf gains little. Learned on the same few runs, the schedule learns their
# batches by heart: on these the loss is far lower, on new ones it is higher.
#
# ## What it costs
# Reverse mode keeps what each step needs on the way back, so memory grows with the
# number of steps. `jax.checkpoint` around segments of $\sqrt n$ steps keeps the
# carries between segments and computes one segment again at a time: memory grows with
# $\sqrt n$, for one more run. Forward mode keeps nothing, but carries a copy of
# parameters and state for each number. XLA's own analysis, without a run:


# %%
def of_rate(rate, params, rows):
    """The validation loss after a run."""
    return validation(train(adamx.adam(rate), params, rows)[0])


def in_segments(rate, params, rows):
    """The same, in segments that are computed again on the way back."""
    tx = adamx.adam(rate)

    def step(carry, batch):
        params, state = carry
        updates, state = tx.update(jax.grad(loss_of)(params, batch), state, params)
        return (adamx.apply_updates(params, updates), state), None

    @jax.checkpoint
    def segment(carry, batches):
        return lax.scan(step, carry, batches)

    segments = rows.reshape(int(len(rows) ** 0.5), -1, BATCH)
    (params, _), _ = lax.scan(segment, (params, tx.init(params)), segments)
    return validation(params)


def forward(rate, params, rows):
    def end(rate):
        return of_rate(rate, params, rows)

    return jax.jvp(end, [rate], [jnp.ones_like(rate)])[1]


def of_many(logs, mode):
    """The slopes in the first rates of a run of 100 steps."""
    rest = jnp.broadcast_to(log(1e-2), STEPS - len(logs))

    def end(logs):
        rates = same_for_all(jnp.concatenate([logs, rest]))
        return loss_of(trained_by(rates, 0), VALIDATION)

    return mode(end)(logs)


def compiled(f, *args):
    """The program, and the MiB that it needs besides inputs and outputs."""
    # The analysis does not depend on how well the machine code is optimized.
    program = jax.jit(f).lower(*args).compile({"xla_backend_optimization_level": 0})
    return program, program.memory_analysis().temp_size_in_bytes / 2**20


WAYS = {
    "reverse": jax.grad(of_rate),
    "reverse, segments": jax.grad(in_segments),
    "forward": forward,
}
COUNTS = setting(short=(10, 100), full=(1, 10, 100))
RATE = jnp.asarray(0.01, jnp.float32)
memory, found = {}, {}
for name, way in WAYS.items():
    programs = [compiled(way, RATE, *begin(0, n)) for n in LENGTHS]
    memory[name] = np.array([size for _, size in programs])
    found[name] = float(programs[0][0](RATE, *begin(0, LENGTHS[0])))
    sizes = ", ".join(f"{size:.2f}" for size in memory[name])
    print(f"{name:17} MiB at {LENGTHS} steps: {sizes}")
of_many_forward = functools.partial(of_many, mode=jax.jacfwd)
of_many_reverse = functools.partial(of_many, mode=jax.grad)
many_forward = [compiled(of_many_forward, first_steps[:count]) for count in COUNTS]
all_reverse, reverse_size = compiled(of_many_reverse, first_steps)
forward_sizes = [size for _, size in many_forward]
all_slopes = all_reverse(first_steps), many_forward[-1][0](first_steps)
sizes = ", ".join(f"{size:.2f}" for size in forward_sizes)
print(f"100 steps: {reverse_size:.2f} MiB; forward, for {COUNTS} numbers: {sizes}")

# %%
figure, (length, many) = plt.subplots(
    1, 2, figsize=(9, 3.4), sharey=True, layout="constrained"
)
looks = {"reverse": "#0072B2", "reverse, segments": "#56B4E9", "forward": "#009E73"}
for name, color in looks.items():
    length.loglog(LENGTHS, memory[name], "o-", color=color, label=name)
many.loglog(COUNTS, forward_sizes, "o-", color=looks["forward"])
many.axhline(reverse_size, color=looks["reverse"])
length.set(xlabel="steps of the run", ylabel="memory, MiB", title="slope in one number")
many.set(xlabel="numbers", title="slopes in many numbers, 100 steps")
length.legend()
plt.show()

# %% [markdown]
# ## Where slopes are of no use
# Left: the loss after 100 steps at many rates, with one start and one order of batches.
# Up to 0.05 it is a smooth valley, beyond it is rock. Middle: its slope in the
# logarithm of the rate. Beyond 0.1 it grows by orders of magnitude and changes its sign
# from rate to rate. Right: why. A small change of the first weights grows from step to
# step, like weather: at a rate of 0.3 exponentially.


# %%
def loss_and_slope(log_rate, activation=jnp.tanh):
    """By forward mode: many of them fit into memory."""

    def end(log_rate):
        params, rows = begin(0)
        params = jax.tree.map(lambda p: p.astype(log_rate.dtype), params)
        tx = adamx.adam(jnp.exp(log_rate))
        return validation(train(tx, params, rows, activation)[0], activation)

    return jax.jvp(end, [log_rate], [jnp.ones_like(log_rate)])


@functools.partial(jax.jit, static_argnums=1)
def all_of(log_rates, activation):
    one = functools.partial(loss_and_slope, activation=activation)
    return lax.map(one, log_rates, batch_size=50)


def landscape(rates, activation=jnp.tanh):
    """In float64: losses and slopes."""
    with jax.enable_x64(True):
        return map(np.asarray, all_of(np.log(rates), activation))


def growth(rate):
    """How much longer a change of the first weights is after each step."""
    params, rows = begin(0)
    way = jax.tree.map(lambda d: jnp.asarray(d, jnp.float32), direction)
    _, moved = jax.jvp(
        lambda params: train(adamx.adam(rate), params, rows)[1], [params], [way]
    )
    squares = [jnp.sum(x.reshape(STEPS, -1) ** 2, 1) for x in jax.tree.leaves(moved)]
    before = sum(jnp.sum(d**2) for d in jax.tree.leaves(way))
    return jnp.sqrt(sum(squares) / before)


many_rates = np.logspace(-3, 0, SCAN)
rough, steep = landscape(many_rates)
growths = {rate: np.asarray(jax.jit(growth)(rate)) for rate in (1e-3, 1e-2, 0.1, 0.3)}

# %%
figure, (loss, slope, chaos) = plt.subplots(
    1, 3, figsize=(11, 3.5), layout="constrained"
)
loss.loglog(many_rates, rough, linewidth=0.8, color="#0072B2")
loss.set(xlabel="learning rate", ylabel="validation loss, nats")
down = steep < 0
slope.loglog(many_rates[down], -steep[down], ".", color="#0072B2", label="falls")
slope.loglog(many_rates[~down], steep[~down], ".", color="#D55E00", label="grows")
slope.set(xlabel="learning rate", ylabel="size of the slope")
slope.legend(title="the loss")
for (rate, values), color in zip(
    growths.items(), plt.get_cmap("viridis")([0.0, 0.3, 0.6, 0.9]), strict=True
):
    chaos.semilogy(1 + np.arange(STEPS), values, color=color, label=f"{rate:g}")
chaos.set(xlabel="step", ylabel="growth of a change of the weights")
chaos.legend(title="learning rate")
plt.show()

# %% [markdown]
# Three microscopes. Left and middle: near a rate of 0.1 the slope is right, and says
# nothing about rates a hundredth away. Right: a smooth valley, but with ReLU instead of
# tanh. The gradient of ReLU jumps where a unit switches on, so a run jumps, too, a
# little, at very many rates. Automatic differentiation gives the slope of the piece;
# finite differences see the jumps, and more of them the smaller h is.

# %%
VIEWS = [  # a network, a rate, how far around it to look
    ("tanh", 0.1, 0.05),
    ("tanh", 0.1, 5e-5),
    ("relu", 0.01, 1e-4),
]
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu}
figure, panels = plt.subplots(1, 3, figsize=(11, 3.5), layout="constrained")
jumps = []
for panel, (name, place, width) in zip(panels, VIEWS, strict=True):
    away = width * np.linspace(-1, 1, SCAN)
    values, tangents = landscape(place * np.exp(away), ACTIVATIONS[name])
    middle = len(values) // 2
    line = values[middle] + tangents[middle] * away
    panel.plot(100 * away, values, ".", markersize=2.5, color="#0072B2")
    panel.plot(100 * away, line, color="#D55E00", label="slope in the middle")
    low, high = values.min(), values.max()
    panel.set(
        xlabel=f"percent away from {place}",
        title=f"{name}, rate {place} ± {100 * width:g} %",
        ylim=(low - 0.1 * (high - low), high + 0.1 * (high - low)),
    )
    panel.locator_params(axis="x", nbins=5)
    jumps.append(np.median(abs(np.diff(values) / np.diff(away) / tangents[1:] - 1)))
panels[0].set(ylabel="validation loss, nats")
panels[0].legend()
plt.show()

# %% [markdown]
# So begin with rates that are too small. Here one rate is learned from three others, as
# above. From 0.3 the lessons' Adam, whose steps do not depend on the size of slopes,
# still finds back; that is luck, helped by the mean of several runs. At 1 slopes are
# beyond use, or beyond float32.

# %%
begins = {7e-4: (one, path)}
for rate in (0.3, 1.0):
    begins[rate] = learn(log(rate), same_for_all, 0.3, ONE_LESSONS)
first_slopes = {}
for rate, (end, its_path) in begins.items():
    first_slopes[rate] = float(its_path[0][2])
    print(f"from {rate:g}: first slope {first_slopes[rate]:9.2g}, to {np.exp(end):.3f}")

# %% [markdown]
# ## Gradients of zero
# Some pixels are black in all images; their weights never have a gradient. The update
# of such a weight is a constant 0, but Optax's formula goes through the root of
# `nu` = 0, whose slope is infinite, and infinity times 0 is NaN, which spreads to all
# that came before. In adamx the slope at zero is 1/eps, the right one.


# %%
def of_run(rate, params, adam):
    """The validation loss, with an Adam of some library."""
    return validation(train(adam(rate), params, begin(0)[1])[0])


def of_update(g, scale_by_adam):
    """The first update."""
    tx = scale_by_adam()
    return tx.update(g, tx.init(g))[0]


black = int((images[:1000].max(0) == 0).sum())
print(f"{black} of 64 pixels are always black")
at_zero, finite = {}, {}
for library in (adamx, optax):
    name = library.__name__
    of_g = jax.grad(functools.partial(of_update, scale_by_adam=library.scale_by_adam))
    of_all = jax.grad(functools.partial(of_run, adam=library.adam), (0, 1))
    at_zero[name] = float(of_g(jnp.zeros([])))
    of_rate_now, of_params = jax.jit(of_all)(RATE, begin(0)[0])
    of_params = np.concatenate([np.ravel(x) for x in jax.tree.leaves(of_params)])
    finite[name] = np.isfinite(of_rate_now), np.isfinite(of_params).mean()
    print(
        f"{name}: slope of an update at 0 {at_zero[name]:.3g}; of the run in the rate "
        f"{of_rate_now:.3f}, finite in {finite[name][1]:.0%} of the first weights"
    )

# %% [markdown]
# The answer, checked: yes, where the run itself is not chaotic.

# %%
# Slopes are those of float64's differences, and float32 has them, too.
assert max(apart.values()) < 1e-4
assert all(abs(narrow[name] / wide[name] - 1) < 0.01 for name in wide)

# One rate is learned: as good as the best of the sweep.
of_sweep = valid["one rate, swept"].mean()
assert valid["one rate, learned"].mean() < 1.15 * of_sweep
assert sweep_best / 3 < np.exp(one) < 3 * sweep_best
assert sweep[0, 0].mean() > 5 * of_sweep  # there was something to learn


def better(name, than):
    """The mean gain over the same new runs, in standard errors."""
    gain = test[than] - test[name]
    return gain.mean() / gain.std(ddof=1) * len(gain) ** 0.5


# A schedule beats all single rates; it warms up and decays.
assert better("schedule, learned", "one rate, swept") > 2
assert np.exp(steps)[:3].mean() < np.exp(steps)[20:60].mean()
assert np.exp(steps)[-10:].mean() < 0.6 * np.exp(steps)[20:60].mean()
assert heart_path[-1][1] < 0.95 * valid["schedule, the same runs"].mean()
assert valid["schedule, learned"].mean() < valid["schedule, the same runs"].mean()

# Memory: n, √n, constant; forward mode pays for each number.
growths_of = {name: sizes[-1] / sizes[0] for name, sizes in memory.items()}
longer = LENGTHS[-1] / LENGTHS[0]
assert 0.9 * longer < growths_of["reverse"] < 1.1 * longer
assert growths_of["reverse, segments"] < 1.2 * longer**0.5
assert growths_of["forward"] < 1.1
assert memory["reverse"][-1] > 8 * memory["reverse, segments"][-1]
assert forward_sizes[-1] > 8 * forward_sizes[-2]
assert np.ptp(list(found.values())) < 1e-3 * abs(found["forward"])
assert np.allclose(*all_slopes, rtol=1e-2, atol=1e-4)

# Chaos: slopes of a size that no landscape has; the growth of a small change.
useful = many_rates < 0.02
assert abs(steep[useful]).max() < 2
assert abs(steep[many_rates > 0.3]).max() > 1e6
assert growths[1e-2][-1] < 10
assert growths[0.3][-1] > 1e4
assert jumps[0] > 10 * jumps[1]
assert -2 < first_slopes[7e-4] < 0
assert abs(first_slopes[0.3]) > 10
assert not abs(first_slopes[1.0]) < 1e6

# Zero gradients.
assert black > 0
assert np.isclose(at_zero["adamx"], 1e8)
assert finite["adamx"] == (True, 1)
assert np.isnan(at_zero["optax"])
assert finite["optax"] == (False, 0)
