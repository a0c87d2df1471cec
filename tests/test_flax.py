"""Real Flax models train with adamx; loops for Optax need only another import."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from sklearn.datasets import load_digits

import adamx

STEPS, BATCH = 60, 64


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return np.asarray(x[order] / 16, np.float32), np.asarray(y[order], np.int32)


@pytest.fixture(autouse=True)
def standard_promotion():
    """Flax and Optax themselves do not run under strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.LayerNorm()(nn.relu(nn.Dense(32)(x))))


class NnxMLP(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.norm = nnx.LayerNorm(32, rngs=rngs)
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(nnx.relu(self.hidden(x))))


def cross_entropy(logits, labels):
    return -jnp.take_along_axis(nn.log_softmax(logits), labels[:, None], 1).mean()


def optimizer(library):
    """The loop's own lines, in which only the library changes."""
    schedule = library.warmup_cosine_decay_schedule(0.0, 1e-2, 10, STEPS)
    return library.chain(
        library.clip_by_global_norm(1.0),
        library.adamw(
            schedule,
            weight_decay=1e-2,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )


def batches(digits):
    x, y = digits
    for i in range(STEPS):
        rows = slice(i * BATCH % 1600, i * BATCH % 1600 + BATCH)
        yield x[rows], y[rows]


def train_linen(tx, digits):
    model = LinenMLP()
    params = model.init(jax.random.key(0), digits[0][:1])["params"]
    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    @jax.jit
    def step(state, x, y):
        def loss_fn(params):
            return cross_entropy(state.apply_fn({"params": params}, x), y)

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        return state.apply_gradients(grads=grads), loss

    losses = []
    for x, y in batches(digits):
        state, loss = step(state, x, y)
        losses.append(float(loss))
    return losses, state


def train_nnx(tx, digits):
    model = NnxMLP(nnx.Rngs(0))
    opt = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, opt, x, y):
        loss, grads = nnx.value_and_grad(lambda m: cross_entropy(m(x), y))(model)
        opt.update(model, grads)
        return loss

    losses = [float(step(model, opt, x, y)) for x, y in batches(digits)]
    return losses, opt


@pytest.mark.parametrize("train", [train_linen, train_nnx])
def test_a_loop_for_optax_gives_the_same_losses_after_changing_the_import(
    train, digits
):
    ours, _ = train(optimizer(adamx), digits)
    theirs, _ = train(optimizer(optax), digits)
    # Optax's own first steps are off by 1e-5, and a trajectory amplifies that.
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert ours[-1] < 0.5 * ours[0]


def test_the_learned_model_is_right_on_digits_it_has_not_seen(digits):
    _, state = train_linen(optimizer(adamx), digits)
    x, y = digits[0][1664:], digits[1][1664:]
    right = state.apply_fn({"params": state.params}, x).argmax(-1) == y
    assert right.mean() > 0.9


def test_the_states_of_train_state_have_the_names_of_optax(digits):
    _, ours = train_linen(adamx.adamw(1e-3), digits)
    assert type(ours.opt_state[0]) is adamx.ScaleByAdamState
    assert int(optax.tree.get(ours.opt_state, "count")) == STEPS
    _, theirs = train_linen(optax.adamw(1e-3), digits)
    chex.assert_trees_all_close(
        optax.tree.get(ours.opt_state, "nu"),
        optax.tree.get(theirs.opt_state, "nu"),
        rtol=1e-3,
        atol=1e-9,
    )


def test_the_learning_rate_can_be_an_argument_of_a_compiled_step(digits):
    x, y = digits[0][:BATCH], digits[1][:BATCH]
    model = LinenMLP()
    params = model.init(jax.random.key(0), x)["params"]

    def loss_fn(params):
        return cross_entropy(model.apply({"params": params}, x), y)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss_after(learning_rate):
        tx = adamx.adam(learning_rate)
        updates, _ = tx.update(jax.grad(loss_fn)(params), tx.init(params), params)
        return loss_fn(adamx.apply_updates(params, updates))

    rates = [1e-5, 1e-4, 1e-3]
    alone = [float(loss_after(rate)) for rate in rates]
    assert alone[0] > alone[1] > alone[2]
    together = jax.vmap(loss_after.__wrapped__.__wrapped__)(jnp.array(rates))
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_extra_arguments_reach_the_transformation_through_flax(digits):
    seen = []

    def update(updates, state, params=None, *, value, **extra_args):
        seen.append(value)
        return updates, state

    watch = adamx.GradientTransformation(lambda params: adamx.EmptyState(), update)
    model = NnxMLP(nnx.Rngs(0))
    tx = optax.chain(watch, adamx.chain(optax.clip(1.0), watch, adamx.sgd(0.1)))
    opt = nnx.Optimizer(model, tx, wrt=nnx.Param)
    opt.update(model, nnx.state(model, nnx.Param), value=jnp.float32(3.0))
    assert [float(v) for v in seen] == [3.0, 3.0]
