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
# # Does the Adam paper hold?
# [Kingma & Ba (2015)](https://arxiv.org/abs/1412.6980) show what Adam does in four
# figures, without seeds and almost without numbers. Here their experiments are run
# again, smaller, every optimizer at its best learning rate and from several seeds, and
# each sentence that they draw from a figure is measured. So is one that they did not
# write and that is repeated all the same: Adam converges 5 to 10 times faster than SGD.
# The table at the end says what holds.

# %%
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.lib.stride_tricks import sliding_window_view

import adamx
from adamx import lab
from adamx.lab.notebook import setting

# %% [markdown]
# ## The data
# The paper's are MNIST, reviews of films from IMDB, and CIFAR-10. Instead of CIFAR-10
# the convolutional network sees pictures of clothes, Fashion-MNIST: ten classes as
# well, but gray; 10,240 of them, so that an epoch is 80 batches of 128.

# %%
MISSING = []


def load(name, instead):
    """Makes the task of that name, or another where there is no network."""
    try:
        return lab.TASKS[name]()
    except lab.DataUnavailable:
        MISSING.append(name)
        print(f"{name} cannot be had without network: {instead} instead")
        return lab.TASKS[instead]()


def first(count, arrays):
    return jax.tree.map(lambda x: x[:count], arrays)


mnist = first(setting(short=5_120, full=55_000), load("mnist", "digits").data)
clothes = first(setting(short=5_120, full=10_240), load("fashion", "photographs").data)
reviews = load("imdb", "digits")
for name, (images, _) in [("digits", mnist), ("clothes", clothes)]:
    print(f"{name}: {' × '.join(map(str, images.shape))}")
print(f"reviews: {reviews.description}")

# %% [markdown]
# ## The networks
# One class is enough for logistic regression, for a multilayer perceptron with dropout,
# and for convolutions. A convolution is written as a dense layer on neighborhoods of
# pixels, because all runs of an optimizer are one program: each has kernels of its own,
# and a product of matrices is what runs fast then.


# %%
def neighborhoods(x, size, stride):
    """The square around every so many pixels of f32[n,h,w,c], in one axis."""
    margin = size // 2
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = x.shape[1] - 2 * margin, x.shape[2] - 2 * margin
    shifted = [
        x[:, i : i + height : stride, j : j + width : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)


class Network(nn.Module):
    """Convolutions (features, size, stride), then dense layers; ten logits."""

    convolutions: tuple = ()
    hidden: tuple = ()
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, train):
        x = images.reshape(*images.shape[:3], -1).astype(jnp.float32) / 255
        for features, size, stride in self.convolutions:
            x = nn.relu(nn.Dense(features)(neighborhoods(x, size, stride)))
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(10)(x)


def classification(name, data, network):
    """The task of lowering the cross-entropy of labels, dropout included."""

    def init(key):
        return network.init(key, data[0][:1], False)["params"]

    def loss(params, batch):
        images, labels, *key = batch
        rngs = {"dropout": key[0]} if key else {}
        logits = network.apply({"params": params}, images, bool(key), rngs=rngs)
        log_p = nn.log_softmax(logits)
        return -jnp.take_along_axis(log_p, labels[:, None], axis=1).mean()

    return lab.Task(name, init, loss, data, augment=lambda key, batch: (*batch, key))


# %% [markdown]
# ## How fast is fast?
# The paper reports every optimizer at the best of "a dense grid" of learning rate and
# momentum. Here the rates are half decades, and momentum is 0.9. A run's *cost* is its
# mean training loss over a twentieth of the steps, noise included, as in the paper's
# figures; the best rate has the lowest mean cost at the end over the seeds.
#
# Speed is compared at equal cost. Take the higher of two optimizers' final costs, and
# count the steps that each of them needs to get there, at the rate that gets there
# first. The ratio of the counts is the *speedup*, one for each seed, which fixes start
# and batches for both. Three words are used for it. *Similar* is a median between 2/3
# and 3/2; *faster* is 1.1 or more with every seed; *much faster* is also a median of 2
# or more.

# %%
ADAPTIVE = setting(short=(1e-3, 1e-2, 3e-2), full=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1))
PLAIN = setting(short=(0.03, 0.1, 1.0), full=(1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0))
OPTIMIZERS = {
    "SGD": adamx.sgd,
    "SGD Nesterov": partial(adamx.sgd, momentum=0.9, nesterov=True),
    "AdaGrad": partial(adamx.adagrad, initial_accumulator_value=0.0),
    "RMSProp": adamx.rmsprop,
    "AdaDelta": partial(adamx.adadelta, rho=0.95),
    "Adam": adamx.adam,
}
COLORS = {
    "SGD": "#999999",
    "SGD Nesterov": "#000000",
    "AdaGrad": "#E69F00",
    "AdaGrad, twice falling": "#8C6D31",
    "RMSProp": "#009E73",
    "AdaDelta": "#CC79A7",
    "Adam": "#0072B2",
}


def tune(task, grids, **options):
    """Trains each optimizer over its grid; {name: its trial}."""
    trials = {}
    for rates in dict.fromkeys(grids.values()):
        chosen = {name: OPTIMIZERS[name] for name in grids if grids[name] == rates}
        results = lab.compare(task, chosen, rates, batch_size=128, **options)
        trials |= results.trials
    return {name: trials[name] for name in grids}


def smooth(trial):
    """The mean loss of the twentieth around each point, f32[rates,seeds,points - 4]."""
    means = sliding_window_view(trial.curves, 5, axis=-1).mean(axis=-1)
    return np.where(np.isnan(means), np.inf, means)


def cost(trial, part=1.0):
    """The mean loss of the twentieth before `part` of the run, f32[rates,seeds]."""
    return smooth(trial)[..., round(part * trial.curves.shape[-1]) - 5]


def best(trial, part=1.0):
    return int(cost(trial, part).mean(axis=1).argmin())


def speedup(fast, slow, part=1.0):
    """Steps of `slow` over steps of `fast` to a cost that both reach, f32[seeds]."""
    target = max(cost(trial, part)[best(trial, part)].max() for trial in (fast, slow))

    def fewest(trial):
        reached = smooth(trial) <= target
        steps = trial.curve_steps[2:-2][reached.argmax(axis=-1)]
        steps = np.where(reached.any(axis=-1), steps, np.inf)
        return steps[np.median(steps, axis=1).argmin()]

    return fewest(slow) / fewest(fast)


def spread(ratios):
    low, middle, high = ratios.min(), np.median(ratios), ratios.max()
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


# %% [markdown]
# Every sentence that is tested goes on a list, with the numbers that decide.

# %%
WORDS = {
    "similar to": lambda ratios: 2 / 3 <= np.median(ratios) <= 3 / 2,
    "faster than": lambda ratios: ratios.min() >= 1.1,
    "much faster than": lambda ratios: ratios.min() >= 1.1 and np.median(ratios) >= 2,
}
CLAIMS = []


def claim(figure, sentence, holds, evidence):
    CLAIMS.append((figure, sentence, bool(holds), evidence))
    print(f"{'holds' if holds else 'DOES NOT HOLD'}: {sentence}; {evidence}")


def claim_speed(figure, trials, fast, word, slow, part=1.0):
    ratios = speedup(trials[fast], trials[slow], part)
    sentence, evidence = f"{fast} is {word} {slow}", f"speedup {spread(ratios)}"
    claim(figure, sentence, WORDS[word](ratios), evidence)


def draw(trials, title):
    """Training at the best rates, and what the rate does to the final cost."""
    _, (left, right) = plt.subplots(
        1, 2, figsize=(10, 3.8), sharey=True, layout="constrained"
    )
    tops, bottoms = [], []
    for name, trial in trials.items():
        rates, costs = trial.learning_rates, cost(trial)
        runs = smooth(trial)[best(trial)]
        look = {"color": COLORS[name], "linewidth": 1.8 if name == "Adam" else 1.2}
        label, steps = f"{name}, {rates[best(trial)]:g}", trial.curve_steps[2:-2]
        left.plot(steps, runs.mean(axis=0), **look, label=label)
        left.fill_between(
            steps, runs.min(0), runs.max(0), color=COLORS[name], alpha=0.2, linewidth=0
        )
        finite = np.isfinite(costs).all(axis=1)
        right.plot(rates[finite], costs[finite].mean(1), "o-", **look, markersize=4)
        tops.append(runs.mean(axis=0)[0])
        bottoms.append(runs.min())
    left.set(yscale="log", ylim=(0.95 * min(bottoms), 1.1 * max(tops)))
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set(xlabel="steps", ylabel="training cost, nats")
    left.set_title(f"{title}: each at its best rate", loc="left", fontsize=10)
    left.legend(frameon=False, fontsize=8, title="optimizer, rate", title_fontsize=8)
    right.set(xscale="log", xlabel="learning rate")
    right.set_title("the cost at the end, at each rate", loc="left", fontsize=10)
    plt.show()


# %% [markdown]
# ## Figure 1, left: logistic regression on MNIST
# Convex and smooth. The learning rate falls as $\alpha_t = \alpha/\sqrt t$, as in the
# paper's proof. The paper adds an L2 penalty of a weight that it does not name; here
# there is none.
#
# > Adam yields similar convergence as SGD with momentum and both converge faster than
# > AdaGrad.
#
# AdaGrad divides by the root of a *sum* of squares: its steps fall as $1/\sqrt t$ by
# themselves. Whether the paper's fell once more is not said, so both are run.

# %%
SEEDS = setting(short=2, full=3)
FALLING = setting(short=(0.03, 0.1, 0.3), full=(1e-2, 3e-2, 0.1, 0.3, 1.0))
FALLING_PLAIN = setting(short=(1.0, 3.0, 10.0), full=(0.1, 0.3, 1.0, 3.0, 10.0, 30.0))


def tune_falling(task, grids, **options):
    """As `tune`, with rates that fall, and AdaGrad with its own fall only as well."""
    trials = tune(task, grids, schedule="inverse-sqrt", **options)
    trials["AdaGrad, twice falling"] = trials["AdaGrad"]
    return trials | tune(task, {"AdaGrad": FALLING}, **options)


logistic = tune_falling(
    classification("digits", mnist, Network()),
    {
        "SGD": FALLING_PLAIN,
        "SGD Nesterov": FALLING_PLAIN,
        "AdaGrad": FALLING,
        "Adam": FALLING,
    },
    steps=setting(short=300, full=3000),
    seeds=SEEDS,
)
draw(logistic, "MNIST, logistic regression")

# %%
claim_speed("1 left", logistic, "Adam", "similar to", "SGD Nesterov")
for adagrad in ("AdaGrad", "AdaGrad, twice falling"):
    claim_speed("1 left", logistic, "Adam", "faster than", adagrad)
    claim_speed("1 left", logistic, "SGD Nesterov", "faster than", adagrad)

# %% [markdown]
# ## Figure 1, right: sparse words
# Logistic regression on which of 10,000 words a review has, half of the words dropped
# at random in every step. Rare words have a gradient once in many batches.
#
# > AdaGrad outperforms SGD with Nesterov momentum by a large margin both with and
# > without dropout noise. Adam converges as fast as AdaGrad.
#
# AdaGrad's sum starts at 0 here, as in its paper. Libraries start it at 0.1, and so
# does `adamx.adagrad` unless told otherwise: far above the squared gradients of these
# words, so that all of them would be divided by nearly the same number.

# %%
if "imdb" in MISSING:
    reviews = classification("digits", mnist, Network((), (64,), 0.5))
words = tune_falling(
    reviews._replace(validation=None, accuracy=None),
    {
        "SGD": FALLING_PLAIN,
        "SGD Nesterov": FALLING_PLAIN,
        "AdaGrad": FALLING,
        "RMSProp": FALLING,
        "Adam": FALLING,
    },
    steps=setting(short=300, full=1500),
    seeds=SEEDS,
)
draw(words, "IMDB, bag of words, dropout")

# %%
for adagrad in ("AdaGrad", "AdaGrad, twice falling"):
    claim_speed("1 right", words, adagrad, "much faster than", "SGD Nesterov")
    claim_speed("1 right", words, "Adam", "similar to", adagrad)
claim_speed("1 right", words, "Adam", "faster than", "SGD Nesterov")

# %% [markdown]
# ## Figure 2: a multilayer perceptron with dropout
# The paper's has two hidden layers of 1,000 and runs for 200 epochs. Here they have
# 100, for almost three. Panel (b) is a race against SFO, a quasi-Newton method for sums
# of functions, which has left the field; it is not run again.
#
# > Adam shows better convergence than other methods.

# %%
perceptron = tune(
    classification("digits", mnist, Network((), (100, 100), 0.5)),
    {
        "SGD": PLAIN,
        "SGD Nesterov": PLAIN,
        "AdaGrad": ADAPTIVE,
        "RMSProp": ADAPTIVE,
        "AdaDelta": PLAIN,
        "Adam": ADAPTIVE,
    },
    steps=setting(short=120, full=1200),
    seeds=SEEDS,
)
draw(perceptron, "MNIST, perceptron 100-100, dropout")

# %%
for name in ("AdaGrad", "RMSProp", "SGD Nesterov", "AdaDelta"):
    claim_speed("2", perceptron, "Adam", "faster than", name)

# %% [markdown]
# ## Figure 3: a convolutional network
# The paper's is c64-c64-c128-1000 on CIFAR-10, for 45 epochs. This one is c8-c8-c16-64
# on clothes, with strides in place of pooling and without dropout, for 15.
#
# > Although both Adam and AdaGrad make rapid progress lowering the cost in the initial
# > stage of the training, [...] Adam and SGD eventually converge considerably faster
# > than AdaGrad for CNNs. [...] Adam shows marginal improvement over SGD with momentum.

# %%
LAYERS = setting(short=[(8, 5, 4), (16, 3, 2)], full=[(8, 5, 4), (8, 3, 2), (16, 3, 2)])
pictures = classification("clothes", clothes, Network(tuple(LAYERS), (64,)))
convnet = tune(
    pictures,
    {"SGD": PLAIN, "SGD Nesterov": PLAIN, "AdaGrad": PLAIN, "Adam": ADAPTIVE},
    steps=setting(short=120, full=1200),
    seeds=SEEDS,
)
draw(convnet, "clothes, convnet c8-c8-c16-64")

# %%
for name in ("Adam", "AdaGrad"):
    claim_speed("3 left", convnet, name, "faster than", "SGD Nesterov", part=0.2)
for name in ("Adam", "SGD Nesterov"):
    claim_speed("3 right", convnet, name, "much faster than", "AdaGrad")
claim_speed("3 right", convnet, "Adam", "faster than", "SGD Nesterov")

# %% [markdown]
# The paper has an explanation:
#
# > We notice the second moment estimate $\hat v_t$ vanishes to zeros after a few epochs
# > and is dominated by the $\epsilon$ in algorithm 1.
#
# That can be looked up in the state. Adam trains once more at its best rate, in a loop
# of our own, and $\sqrt{\hat v}$ of each weight is held against $\epsilon = 10^{-8}$.

# %%
RATE = float(convnet["Adam"].learning_rates[best(convnet["Adam"])])
EPOCHS = setting(short=(1, 3), full=(3, 15))


@partial(jax.jit, static_argnames="steps")
def go_on(params, state, steps):
    def step(carry, _):
        params, state = carry
        key = jax.random.fold_in(jax.random.key(0), state[0].count)
        rows = jax.random.randint(key, [128], 0, len(clothes[0]))
        batch = jax.tree.map(lambda x: jnp.asarray(x)[rows], clothes)
        grads = jax.grad(pictures.loss)(params, batch)
        updates, state = adamx.adam(RATE).update(grads, state, params)
        return (adamx.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), length=steps)[0]


params = pictures.init(jax.random.key(0))
state, roots, done = adamx.adam(RATE).init(params), {}, 0
for epoch in EPOCHS:
    params, state = go_on(params, state, steps=80 * (epoch - done))
    v = adamx.tree_bias_correction(state[0].nu, 0.999, state[0].count)
    leaves = [np.sqrt(np.ravel(leaf)) for leaf in jax.tree.leaves(v)]
    roots[epoch], done = np.concatenate(leaves), epoch

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for (epoch, values), color in zip(roots.items(), ["#56B4E9", "#0072B2"], strict=True):
    axes.hist(
        np.log10(np.maximum(values, 1e-11)),
        np.linspace(-11, 0, 67),
        histtype="step",
        color=color,
        label=f"after {epoch} epoch" + "s" * (epoch > 1),
    )
axes.axvline(-8, color="#D55E00", linestyle="--", label="ε")
axes.set(xlabel="log₁₀ √v̂ (at the left end: 0)", ylabel="weights")
axes.legend(frameon=False)
plt.show()
below = float((roots[EPOCHS[-1]] < 1e-8).mean())
claim(
    "3 right",
    "of most weights √v̂ is below ε",
    below > 0.5,
    f"of {below:.1%} after {EPOCHS[-1]} epochs",
)

# %% [markdown]
# ## Figure 4: bias correction
# Without it Adam is RMSProp with momentum. The paper trains a variational autoencoder
# over $\beta_1$, $\beta_2$ and $\alpha$, with and without, and shows the loss after 10
# and after 100 epochs:
#
# > Values $\beta_2$ close to 1 indeed lead to instabilities in training when no bias
# > correction term was present, especially at first few epochs of the training. The
# > best results were achieved with small values of $(1-\beta_2)$ and bias correction
# > [...]. In summary, Adam performed equal or better than RMSProp, regardless of
# > hyper-parameter setting.
#
# The paper's has 500 hidden units and 50 latent ones. Here it is 64 and 8, on 2,048
# digits of 14 by 14 pixels, so that an epoch is 16 steps.


# %%
class Autoencoder(nn.Module):
    """A variational autoencoder: Gaussian latents, Bernoulli pixels."""

    hidden: int = 64
    latent: int = 8

    @nn.compact
    def __call__(self, x, key):
        """The negative evidence lower bound of pixels f32[n,d] in [0, 1], in nats."""
        h = nn.softplus(nn.Dense(self.hidden)(x))
        mean, log_var = jnp.split(nn.Dense(2 * self.latent)(h), 2, axis=-1)
        z = mean + jnp.exp(log_var / 2) * jax.random.normal(key, mean.shape)
        logits = nn.Dense(x.shape[1])(nn.softplus(nn.Dense(self.hidden)(z)))
        misfit = jnp.sum(nn.softplus(logits) - x * logits, axis=-1)
        divergence = jnp.sum(mean**2 + jnp.exp(log_var) - log_var - 1, axis=-1) / 2
        return jnp.mean(misfit + divergence)


model = Autoencoder()
images = first(2048, mnist[0])
if images.shape[1] == 28:
    images = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
pixels = images.reshape(len(images), -1).astype(np.float32) / 255


def bound(params, batch):
    x, *key = batch
    return model.apply({"params": params}, x, key[0] if key else jax.random.key(0))


vae = lab.Task(
    "autoencoder",
    lambda key: model.init(key, pixels[:1], key)["params"],
    bound,
    data=(pixels,),
    augment=lambda key, batch: (*batch, key),
)

# %%
FEW, MANY = setting(short=(2, 20), full=(10, 100))  # epochs
STEPS = MANY * (len(pixels) // 128)
B1S = setting(short=(0.9,), full=(0, 0.9))
B2S = setting(short=(0.99, 0.9999), full=(0.99, 0.999, 0.9999))
ALPHAS = tuple(10.0 ** np.arange(-5, -0.9, setting(short=1, full=0.5)))


def moments(learning_rate, b1, b2, debias):
    return adamx.chain(
        adamx.scale_by_adam(b1, b2, debias=debias),
        adamx.scale_by_learning_rate(learning_rate),
    )


ways = {
    f"{b1} {b2} {debias}": partial(moments, b1=b1, b2=b2, debias=debias)
    for b1 in B1S
    for b2 in B2S
    for debias in (True, False)
}
options = {"seeds": setting(1, 2), "steps": STEPS, "batch_size": 128}
by_way = lab.compare(vae, ways, ALPHAS, **options).trials


def losses(b1, b2, debias, epochs):
    """The mean loss of one epoch, f32[rates,seeds]; inf where a run diverged."""
    curves = by_way[f"{b1} {b2} {debias}"].curves
    epoch = curves[..., round(epochs / MANY * curves.shape[-1]) - 1]
    return np.where(np.isnan(epoch), np.inf, epoch)


# %%
figure = plt.figure(figsize=(12, 4.8), layout="constrained")
lowest = {
    epochs: min(losses(b1, b2, True, epochs).min() for b1 in B1S for b2 in B2S)
    for epochs in (FEW, MANY)
}
for part, epochs in zip(figure.subfigures(1, 2), (FEW, MANY), strict=True):
    part.suptitle(f"loss after {epochs} epochs, nats", fontsize=11)
    panels = part.subplots(len(B1S), len(B2S), sharex=True, sharey=True, squeeze=False)
    for i, b1 in enumerate(B1S):
        for j, b2 in enumerate(B2S):
            axes = panels[i, j]
            for debias, color in [(False, "#D55E00"), (True, "#0072B2")]:
                means = losses(b1, b2, debias, epochs).mean(axis=1)
                label = "corrected" if debias else "uncorrected"
                axes.plot(ALPHAS, means, "o-", color=color, ms=3, label=label)
            axes.set(xscale="log", ylim=(0.97 * lowest[MANY], 1.5 * lowest[FEW]))
            axes.set_title(f"$β_1={b1:g}$, $β_2={b2:g}$", fontsize=9)
            axes.label_outer()
    for axes in panels[-1]:
        axes.set_xlabel("α")
    panels[0, 0].legend(frameon=False, fontsize=8, loc="upper right")
plt.show()

# %% [markdown]
# Lines end where a run diverged. What does it cost to leave the correction out at the
# rate that is best with it? Which of all settings is best in the end? And "regardless
# of hyper-parameter setting" can be read in two ways: at every rate, or for all betas
# each at its best rate.


# %%
def price(b1, b2, epochs):
    """How much higher the loss is without, where it is lowest with correction."""
    with_it = losses(b1, b2, True, epochs).mean(axis=1)
    without = losses(b1, b2, False, epochs).mean(axis=1)
    return float(without[with_it.argmin()] / with_it.min() - 1)


def percent(part):
    return f"{part:+.1%}" if np.isfinite(part) else "diverged"


prices = {(b1, b2): [price(b1, b2, n) for n in (FEW, MANY)] for b1 in B1S for b2 in B2S}
print("uncorrected, at the rate that is best with correction: loss")
for (b1, b2), (early, late) in prices.items():
    print(
        f"β₁ = {b1:<4g}β₂ = {b2:<8g}{percent(early):>8} after {FEW} epochs, "
        f"{percent(late):>8} after {MANY}"
    )

# %%
ends = {
    (b1, b2, debias): losses(b1, b2, debias, MANY).mean(axis=1)
    for b1 in B1S
    for b2 in B2S
    for debias in (True, False)
}
early = [prices[b1, B2S[-1]][0] for b1 in B1S]
claim(
    "4",
    f"without correction β₂ = {B2S[-1]} is unstable in the first epochs (by over 10 %)",
    min(early) > 0.1,
    f"loss {' and '.join(map(percent, early))} at β₁ = {' and '.join(map(str, B1S))}",
)
lowest = {b2: min(ends[b1, b2, True].min() for b1 in B1S) for b2 in B2S}
uncorrected = min(ends[b1, b2, False].min() for b1 in B1S for b2 in B2S)
claim(
    "4",
    "the best results have β₂ close to 1 and correction",
    min(lowest.values()) < uncorrected and lowest[B2S[0]] > min(lowest.values()),
    ", ".join(f"{loss:.1f} at β₂ = {b2}" for b2, loss in lowest.items())
    + f"; {uncorrected:.1f} uncorrected",
)
pairs = [(ends[b1, b2, True], ends[b1, b2, False]) for b1 in B1S for b2 in B2S]
as_good = np.array([adam <= 1.01 * rmsprop for adam, rmsprop in pairs])
claim(
    "4",
    "Adam is as good as RMSProp with momentum at every α, β₁, β₂ (to 1 %)",
    as_good.all(),
    f"at {as_good.sum()} of {as_good.size}",
)
beside = [adam.min() / rmsprop.min() - 1 for adam, rmsprop in pairs]
claim(
    "4",
    "Adam is as good as RMSProp with momentum at every β₁, β₂, at the best α (to 1 %)",
    max(beside) <= 0.01,
    f"its loss beside the other's: {percent(min(beside))} to {percent(max(beside))}",
)

# %% [markdown]
# ## Is $\alpha = 0.001$ a good default?
# So says algorithm 1 of "the tested machine learning problems". Good is taken as a cost
# of at most a tenth more than that of the best rate, where rates do not fall.

# %%
options = {"steps": STEPS, "seeds": SEEDS}
grids = {"SGD": ADAPTIVE, "SGD Nesterov": ADAPTIVE, "Adam": ADAPTIVE}
autoencoder = tune(vae, grids, **options)
excess = []
for trials in (perceptron, convnet, autoencoder):
    costs = cost(trials["Adam"]).mean(axis=1)
    excess.append(costs[ADAPTIVE.index(1e-3)] / costs.min())
claim(
    "Algorithm 1",
    "α = 0.001 is a good default",
    max(excess) <= 1.1,
    "cost over the best, perceptron, convnet, autoencoder: "
    + ", ".join(f"{ratio:.2f}" for ratio in excess),
)

# %% [markdown]
# ## Is Adam 5 to 10 times faster than SGD?
# Section 6 of the paper has a "5-10x": it is what an iteration of SFO costs beside one
# of Adam. About SGD it says "similar" (figure 1, left), "faster" (right) and "marginal
# improvement" (figure 3). Here are the speedups of Adam over SGD with and without
# momentum on all tasks above, both sides at the rate that gets there first. The target
# is what the slower of the two has reached in the end, and once more what it has
# reached after three tenths of the run, when rates are chosen for a short run.

# %% tags=["speedups"]
TASKS = {
    "MNIST, logistic": logistic,
    "IMDB, words": words,
    "MNIST, perceptron": perceptron,
    "clothes, convnet": convnet,
    "digits, autoencoder": autoencoder,
}
SLOW = {"SGD": "without momentum", "SGD Nesterov": "with momentum"}
speedups = {
    (task, slow, part): speedup(trials["Adam"], trials[slow], part)
    for task, trials in TASKS.items()
    for slow in SLOW
    for part in (0.3, 1.0)
}
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
axes.axvspan(5, 10, color="#F0E442", alpha=0.4, label="5 to 10 times")
axes.axvline(1, color="black", linewidth=0.8)
for (task, slow, part), ratios in speedups.items():
    row = list(TASKS).index(task) + (0.12 if slow == "SGD" else -0.12)
    row += 0.05 if part == 1 else -0.05
    color = "#D55E00" if slow == "SGD" else "#0072B2"
    axes.plot([ratios.min(), ratios.max()], [row, row], color=color, linewidth=1.2)
    axes.plot(
        np.median(ratios),
        row,
        "o",
        color=color,
        markerfacecolor=color if part == 1 else "white",
        markersize=6,
        label=f"SGD {SLOW[slow]}, {'whole' if part == 1 else 'short'} run"
        if task == "IMDB, words"
        else None,
    )
axes.set(xscale="log", xlim=(0.7, 12))
axes.set(xlabel="speedup of Adam: median and range over the seeds")
axes.set_xticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
axes.xaxis.set_minor_formatter(NullFormatter())
axes.set_yticks(range(len(TASKS)), list(TASKS))
axes.invert_yaxis()
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
plt.show()

# %%
for slow, how in SLOW.items():
    medians = [np.median(speedups[task, slow, 1.0]) for task in TASKS]
    claim(
        "folklore",
        f"Adam is 5 to 10 times as fast as SGD {how}",
        min(medians) >= 5,
        f"medians of {len(TASKS)} tasks: " + ", ".join(f"{m:.1f}" for m in medians),
    )

# %% [markdown]
# ## What holds

# %%
lines = ["| figure | verdict | claim | holds | measured |", "|---|---|---|---|---|"]
VERDICTS = {}
for figure in dict.fromkeys(figure for figure, *_ in CLAIMS):
    own = [entry for entry in CLAIMS if entry[0] == figure]
    held = sum(holds for _, _, holds, _ in own)
    partly = "partly" if held else "not reproduced"
    VERDICTS[figure] = "reproduced" if held == len(own) else partly
    for i, (_, sentence, holds, evidence) in enumerate(own):
        head = f"**{figure}** | {VERDICTS[figure]}" if i == 0 else " | "
        lines.append(f"| {head} | {sentence} | {'✓' if holds else '✗'} | {evidence} |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# On all tasks Adam is as fast as the fastest of the others, or faster: that was the
# paper's case, and it holds. What does not hold is *how much* faster. Beside SGD with
# momentum, both with a rate of their own, it is a matter of two times rather than of
# five to ten. Five is seen once, on the autoencoder, without momentum.
#
# No reading of AdaGrad gives both panels of figure 1. If its rate falls once more, it
# is slow on MNIST, as in the paper, and slow on words. If not, it is fast on words, as
# in the paper, and fast on MNIST.
#
# Bias correction moves the best $\alpha$ up, by more the closer $\beta_2$ is to 1, and
# keeps large ones from diverging. It hardly changes the best loss. Below the best
# $\alpha$ its lack is even a gain: the first steps are longer then.
#
# These are small networks, minutes on two cores. The paper's are ten to a hundred times
# as large, and what it saw on CIFAR-10 was not tried.
#
# The answer, checked:

# %%
FULL = setting(short=False, full=True)
medians = {slow: [np.median(speedups[t, slow, 1.0]) for t in TASKS] for slow in SLOW}
if not MISSING:
    for trials in TASKS.values():
        for name, trial in trials.items():
            assert np.median(speedup(trials["Adam"], trial)) > 2 / 3
            if FULL and name in ("Adam", *SLOW):  # no best rate ends its grid
                assert 0 < best(trial) < len(trial.learning_rates) - 1
    assert 0.8 < min(medians["SGD Nesterov"]) < max(medians["SGD Nesterov"]) < 3
    assert 1 < min(medians["SGD"]) < max(medians["SGD"]) < 10
    assert below < 0.1
    assert -0.05 < min(beside) < max(beside) < 0.02
    for b1 in B1S:
        assert prices[b1, B2S[-1]][0] > prices[b1, B2S[0]][0]
        adam, rmsprop = ends[b1, B2S[-1], True], ends[b1, B2S[-1], False]
        assert adam.argmin() > rmsprop.argmin()
        assert adam[0] > rmsprop[0]
        assert adam[ALPHAS.index(0.01)] < rmsprop[ALPHAS.index(0.01)]
if FULL and not MISSING:
    assert [task for task, m in zip(TASKS, medians["SGD"], strict=True) if m > 5] == [
        "digits, autoencoder"
    ]
    marks = "".join("✓" if holds else "✗" for _, _, holds, _ in CLAIMS)
    assert marks == "✗✗✗✓✓✓✓✗✗✓✓✗✓✗✓✗✗✗✓✗✓✗✗✓✗✗✗", marks
