"""A small network in PyTorch and in Flax, and steps of both on the same batches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import adamx

torch = pytest.importorskip("torch")
torch.set_num_threads(1)  # which is faster for arrays that are small

WORDS, WIDTH, HIDDEN, OUT = 7, 6, 5, 3
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, WORDS, (30, 16)).astype(np.int32)
TARGETS = RNG.normal(size=(30, 16, OUT)).astype(np.float32)


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(WORDS, WIDTH)
        self.hidden = torch.nn.Linear(WIDTH, HIDDEN)
        self.norm = torch.nn.LayerNorm(HIDDEN)
        self.out = torch.nn.Linear(HIDDEN, OUT)

    def forward(self, tokens):
        return self.out(self.norm(torch.relu(self.hidden(self.embed(tokens)))))


class FlaxNet(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(WORDS, WIDTH, name="embed")(tokens)
        x = nn.relu(nn.Dense(HIDDEN, name="hidden")(x))
        x = nn.LayerNorm(epsilon=1e-5, name="norm")(x)  # PyTorch's
        return nn.Dense(OUT, name="out")(x)


def flax_params():
    """Parameters in Flax, to be filled."""
    shapes = jax.eval_shape(FlaxNet().init, jax.random.key(0), TOKENS[0])["params"]
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float32), shapes)


def torch_optimizer(net, name, kwargs):
    return getattr(torch.optim, name)(net.named_parameters(), **kwargs)


def torch_steps(net, tx, batches):
    """The losses of some steps."""
    losses = []
    for i in batches:
        tx.zero_grad()
        error = net(torch.tensor(TOKENS[i])) - torch.tensor(TARGETS[i])
        loss = torch.mean(error**2)
        loss.backward()
        tx.step()
        losses.append(loss.item())
    return np.array(losses)


def flax_steps(params, tx, state, batches):
    """Parameters and state after some steps, and their losses."""

    def loss(params, i):
        out = FlaxNet().apply({"params": params}, jnp.asarray(TOKENS)[i])
        return jnp.mean((out - jnp.asarray(TARGETS)[i]) ** 2)

    def step(carry, i):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, i)
        updates, state = tx.update(grads, state, params)
        return (adamx.apply_updates(params, updates), state), value

    run = jax.jit(lambda carry, batches: lax.scan(step, carry, batches))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        (params, state), losses = run((params, state), jnp.asarray(batches))
    return params, state, np.asarray(losses)
