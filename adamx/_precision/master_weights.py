"""Parameters of 16 bits, trained as if they had 32 or 24."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._average import eval_params, put
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_state,
)
from adamx._chain import as_transformation
from adamx._numerics import is_narrow
from adamx._precision.landing import lead_to, rows_of, zeros_of_16_bit
from adamx._precision.residual import join, nearest, rest
from adamx._tree import copy_of


class MasterWeightsState(NamedTuple):
    """State of `master_weights`."""

    inner_state: OptState  # that of the inner transformation
    residual16: Any  # like params; i16, the lower half of each master, or a hole

    def eval_params(self, params: Params) -> Params:
        """Returns the averages of the inner state, which are of masters, if any."""
        return inner_averages(self, params)


class MasterWeights24State(NamedTuple):
    """State of `master_weights` with 24 bits."""

    inner_state: OptState  # that of the inner transformation
    residual8: Any  # like params; i8, the next bits of each master, or a hole

    def eval_params(self, params: Params) -> Params:
        """Returns the averages of the inner state, which are of masters, if any."""
        return inner_averages(self, params)


KINDS = {32: (MasterWeightsState, jnp.int16), 24: (MasterWeights24State, jnp.int8)}


def master_weights(
    inner: GradientTransformation, bits: int = 32
) -> GradientTransformation:
    """Trains bfloat16 or float16 parameters as if they were float32.

        x    = the number of which p has the first 16 bits and residual the others
        y    = x + inner(g, x)
        h    = y, rounded to the dtype of p
        u    = h - p, in float32
        residual = the bits of y beyond what p + u is, rounded to the dtype of p

    The last element, around everything else: `master_weights(adamw(1e-3))`. Decay,
    trust ratios and averages in `inner` see the masters x, and g in float32. With 32
    bits the masters are those of a run with float32 parameters and the same gradients,
    bit for bit; the model sees them rounded. `to_float32` gives them, `from_float32`
    puts in others.

    Args:
      inner: A whole optimizer, of adamx or Optax.
      bits: 32, for 2 bytes more per parameter; or 24, for 1 byte. These are right to
        1/512 of a unit in the last place of p, and with steps far below that they
        stand still: in `benchmarks/weights.py` they miss 0.03 % of the distance moved
        at a learning rate of 1e-3, 0.2 % at 1e-6. With bfloat16 alone 80 and 99 % of
        it are missed.

    Returns:
      A transformation. State: `MasterWeightsState`, i16 for each parameter of 16 bits,
      or with 24 `MasterWeights24State`, i8; there is nothing for parameters in float32
      or wider and for complex ones, whose updates are those of `inner`. The updates of
      the others are float32, whatever the dtype of their gradients: in 16 bits they
      would not lead to h.

    Raises:
      ValueError: Bits that are neither; at update, no parameters, or trees that do not
        match.
      TypeError: `inner` is no transformation; a parameter not floating or complex, or
        narrower than 16 bits.

    A parameter that is changed between two updates takes its master along: that is then
    at most half a unit in the last place away from it. So what changes updates belongs
    in `inner`, not behind.

    A float16 has the dtype's range: what is beyond 65504 becomes infinite. Its masters
    are exact in steps of 2^-40 with 32 bits, which is below 2^-17 coarser than float32.

    Differs from Optax: there the training loop keeps float32 parameters, 4 bytes each,
      and a 16-bit copy.

    Example:
      >>> tx = adamx.master_weights(adamx.sgd(1.0))
      >>> params = jnp.ones(1, jnp.bfloat16)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jnp.full(1, 2**-10), state, params)
      ...     params = adamx.apply_updates(params, updates)
      ...     print(params, adamx.to_float32(params, state))
      [1] [0.99902344]
      [1] [0.9980469]
      [0.996094] [0.9970703]

    Reference: the 16-bit remainders of NVIDIA's Apex; 24 bits: Gonzalez Ortiz et al.,
      2026, https://arxiv.org/abs/2602.23349
    """
    who = "master_weights"
    inner = as_transformation(who, "inner", inner)
    if isinstance(bits, bool) or bits not in KINDS:
        raise ValueError(f"{who}: expected bits as 32 or 24, got {bits!r}.")
    kind, low = KINDS[bits]

    def init(params: Params) -> OptState:
        residual = zeros_of_16_bit(who, params, low)
        return kind(inner.init(copy_of(who, params)), residual)

    def update(
        updates: Updates, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        check_state(who, state, kind)
        rows, treedef = rows_of(who, updates, params, state[1])
        wide, masters = [], []
        for g, p, residual in rows:
            whole = residual is None
            wide.append(g if whole or not is_narrow(g.dtype) else to_f32(g))
            masters.append(p if whole else joined(p, residual))
        moves, inner_state = inner.update(
            treedef.unflatten(wide),
            state.inner_state,
            treedef.unflatten(masters),
            **extra_args,
        )
        new, residuals = jax.tree.leaves(moves), []
        for i, (_, p, residual) in enumerate(rows):
            if residual is not None:
                new[i], residual = settled(masters[i], new[i], p, low)
                residuals.append(residual)
        residual = jax.tree.structure(state[1]).unflatten(residuals)
        return treedef.unflatten(new), kind(inner_state, residual)

    return GradientTransformation(init, update)


joined = jax.jit(join)


def to_f32(x: Any) -> Array:
    """An array in float32."""
    return x.astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=3)
def settled(x: Array, u: Array, p: Array, low: Any) -> tuple[Array, Array]:
    """The update that brings p near x + u, and what is left to that."""
    y = x + to_f32(u)
    d, reached = lead_to(nearest(y, p.dtype, low), p)
    return d, rest(y, reached, low)


def master(residual: Array, p: Array) -> Array:
    """The master of p, which p is itself where it is float32 already."""
    return joined(p, residual) if is_narrow(p.dtype) else p


@functools.partial(jax.jit, static_argnums=(1, 2))
def split(x: Array, dtype: Any, low: Any) -> tuple[Array, Array]:
    """A float32 as a 16-bit number and the rest."""
    p = nearest(to_f32(x), dtype, low)
    return p, rest(to_f32(x), p, low)


def inner_averages(state: Any, params: Params) -> Params:
    """The averages in the inner state, in the dtypes of the parameters."""
    masters = put("eval_params", master, state[1], params)
    averages = eval_params(state.inner_state, masters)
    return jax.tree.map(
        lambda x, own, p: p if x is own else x.astype(p.dtype),
        averages,
        masters,
        params,
    )
