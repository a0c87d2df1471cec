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
# # How do I train a Flax model with adamx?
# Ten minutes: a loop in Linen, the same in nnx, an optimizer of your own from blocks,
# and what its state says. The data are scikit-learn's 1,797 handwritten digits.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import adamx

EPOCHS, BATCH = 15, 64

# %%
images, labels = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(images))
images = np.asarray(images[order] / 16, np.float32)
labels = np.asarray(labels[order], np.int32)
train, test = slice(0, 1408), slice(1408, None)


def batches():
    """Every epoch visits the training images once, in an order of its own."""
    for epoch in range(EPOCHS):
        rows = np.random.default_rng(epoch).permutation(1408).reshape(-1, BATCH)
        for row in rows:
            yield images[row], labels[row]


def cross_entropy(logits, labels):
    chosen = jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()


# %% [markdown]
# ## Linen
# `adamx.adamw` goes where `optax.adamw` went. The schedule warms up over 50 steps and
# falls to zero along a cosine; kernels decay, biases do not.


# %%
class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(64)(x)))


STEPS = EPOCHS * (1408 // BATCH)
schedule = adamx.warmup_cosine_decay_schedule(0.0, 1e-2, 50, STEPS)
kernels = adamx.by_path(lambda path: path.endswith("kernel"))
tx = adamx.chain(
    adamx.clip_by_global_norm(1.0),
    adamx.adamw(schedule, weight_decay=1e-2, mask=kernels),
)

model = MLP()
params = model.init(jax.random.key(0), images[:1])["params"]
state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)


@jax.jit
def train_step(state, x, y):
    def loss_fn(params):
        return cross_entropy(state.apply_fn({"params": params}, x), y)

    loss, grads = jax.value_and_grad(loss_fn)(state.params)
    return state.apply_gradients(grads=grads), loss


linen_losses = []
for x, y in batches():
    state, loss = train_step(state, x, y)
    linen_losses.append(float(loss))


def accuracy(predict):
    return float((predict(images[test]).argmax(-1) == labels[test]).mean())


linen_accuracy = accuracy(lambda x: state.apply_fn({"params": state.params}, x))
print(f"Linen: test accuracy {linen_accuracy:.3f}")

# %% [markdown]
# ## nnx
# The same transformation in `nnx.Optimizer`. Rules on paths work unchanged.


# %%
class NnxMLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


net = NnxMLP(nnx.Rngs(0))
optimizer = nnx.Optimizer(net, tx, wrt=nnx.Param)


@nnx.jit
def nnx_step(net, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda net: cross_entropy(net(x), y))(net)
    optimizer.update(net, grads)
    return loss


nnx_losses = [float(nnx_step(net, optimizer, x, y)) for x, y in batches()]
nnx_accuracy = accuracy(net)
print(f"nnx: test accuracy {nnx_accuracy:.3f}")

# %% [markdown]
# ## Compose your own
# An optimizer is a chain of blocks, and the place of a block is its meaning. Here is
# AdamW as in its paper, whose decay does not depend on the learning rate: only the
# multiplier of the schedule, which falls from 1 to 0, scales it.

# %%
own = adamx.chain(
    adamx.scale_by_adam(b2=0.99),
    adamx.scale(1e-2),
    adamx.add_decayed_weights(1e-4, mask=kernels),
    adamx.scale_by_learning_rate(adamx.cosine_decay_schedule(1.0, STEPS)),
)

# %% [markdown]
# A learning rate may be a traced array, so a sweep is a `vmap`: eleven runs of 330
# steps in one compiled program.

# %%
stacked = [np.stack(part) for part in zip(*batches(), strict=True)]


def final_loss(learning_rate):
    tx = adamx.adam(learning_rate)

    def step(carry, batch):
        params, state = carry
        x, y = batch
        loss, grads = jax.value_and_grad(
            lambda params: cross_entropy(model.apply({"params": params}, x), y)
        )(params)
        updates, state = tx.update(grads, state, params)
        return (adamx.apply_updates(params, updates), state), loss

    _, losses = jax.lax.scan(step, (params, tx.init(params)), stacked)
    return losses[-22:].mean()


rates = jnp.logspace(-5, 0, 11)
sweep = jax.jit(jax.vmap(final_loss))(rates)
best = int(sweep.argmin())
print(f"best learning rate {rates[best]:.2g}: loss {sweep[best]:.4f}")

# %%
figure, (curves, sizes) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for name, losses in [("Linen", linen_losses), ("nnx", nnx_losses)]:
    smooth = np.convolve(losses, np.ones(22) / 22, mode="valid")
    curves.plot(np.arange(len(smooth)) + 22, smooth, label=name)
curves.set(xlabel="step", ylabel="training loss, mean of 22 steps", yscale="log")
curves.legend()
sizes.loglog(rates, sweep, "o-")
sizes.set(xlabel="learning rate of Adam", ylabel="training loss, last epoch")
plt.show()

# %% [markdown]
# ## Read the state
# States are named tuples of arrays with Optax's names. After 330 steps the root of `nu`
# says how large each gradient has been lately.

# %%
_, (adam_state, *_) = state.opt_state
lines = [f"updates applied: {int(adam_state.count)}"]
for path, nu in jax.tree_util.tree_leaves_with_path(adam_state.nu):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    lines.append(f"{name:15} typical gradient {float(jnp.sqrt(nu).mean()):.1e}")
print("\n".join(lines))

# %% [markdown]
# The answer, checked: both loops learn to read digits, and a sweep over five decades
# finds a learning rate within the band that people use.

# %%
assert int(adam_state.count) == STEPS
assert linen_accuracy > 0.95
assert nnx_accuracy > 0.95
assert 1e-3 < rates[best] < 1e-1
updates, _ = own.update(state.params, own.init(state.params), state.params)
moved = adamx.apply_updates(state.params, updates)
assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(moved))
