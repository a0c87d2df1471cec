"""A window of gradients: what is kept of them, and what happens at its end."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_in,
    check_state,
    describe,
)
from adamx._choose import answer_to, choose, in_dtypes_of
from adamx._compiled import compiled
from adamx._dtypes import compute_dtypes, convert
from adamx._numerics import as_float64, cast, float64, increment, lerp, product
from adamx._rounding import Storage
from adamx._transforms.scale import value_at
from adamx._tree import map_leaves, scalar_dtype, zero_count, zeros_like

SkipFn = Callable[[Updates, Array, Params | None], tuple[Array, Any]]


class MultiStepsState(NamedTuple):
    """State of `MultiSteps`."""

    mini_step: Array  # i32[]; gradients in acc_grads
    gradient_step: Array  # i32[]; updates of the inner transformation so far
    inner_opt_state: OptState  # that of the inner transformation
    acc_grads: Updates  # like params; mean, or sum, of the gradients so far, 0 of none
    skip_state: Any = ()  # what should_skip_update_fn said of the last gradient


class WeightedMultiStepsState(NamedTuple):
    """State of `MultiSteps` with weights."""

    mini_step: Array  # i32[]; gradients in acc_grads
    gradient_step: Array  # i32[]; updates of the inner transformation so far
    inner_opt_state: OptState  # that of the inner transformation
    acc_grads: Updates  # like params; weighted mean, or sum, of the gradients so far
    skip_state: Any  # what should_skip_update_fn said of the last gradient
    weight_sum: Array  # f32[]; sum of the weights of the gradients so far


@dataclass(frozen=True, eq=False)
class Window:
    """What `MultiSteps` does; its arguments are checked."""

    who: str
    inner: GradientTransformation
    every_k: ScalarOrSchedule
    use_grad_mean: bool
    should_skip: Any  # a SkipFn, or None
    storage: Storage | None
    weighted: bool

    @property
    def kind(self) -> Any:
        """The class of the state."""
        return WeightedMultiStepsState if self.weighted else MultiStepsState

    def is_own(self, state: Any) -> bool:
        """Whether a state has the fields of ours."""
        return getattr(type(state), "_fields", None) == self.kind._fields

    def init(self, params: Params) -> OptState:
        """Makes the state of an empty window."""
        value_at(self.who, self.every_k, np.int32(0))
        shapes = ()
        if self.should_skip:
            _, shapes = jax.eval_shape(self.ask, params, zero_count(), params)
        weight_sum = [jnp.zeros([], scalar_dtype(params))] if self.weighted else []
        return self.kind(
            zero_count(),
            zero_count(),
            self.inner.init(params),
            zeros_like(self.who, params, self.storage),
            jax.tree.map(jnp.zeros_like, shapes),
            *weight_sum,
        )

    def update(
        self,
        updates: Updates,
        state: OptState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, OptState]:
        """Takes in a gradient; gives the updates at the end of a window, else 0."""
        check_state(self.who, state, self.kind)
        weight = 1.0
        if self.weighted:
            weight, extra_args = self.split_off_weight(extra_args)
        return self.add_and_close(updates, weight, state, params, extra_args)

    def flush(
        self, state: OptState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, OptState]:
        """Ends a window that has begun; gives the updates, else 0."""
        parts, treedef = jax.tree.flatten(state, is_leaf=self.is_own)
        own = [i for i, part in enumerate(parts) if self.is_own(part)]
        if len(own) != 1:
            raise ValueError(
                f"{self.who}: expected one {self.kind.__name__} in the state to flush, "
                f"got {len(own)}; make it with this transformation's init."
            )
        (i,) = own
        window = parts[i]
        like = window.acc_grads if params is None else params
        updates, parts[i] = self.end(
            like, window.mini_step > 0, window, params, extra_args
        )
        return updates, treedef.unflatten(parts)

    @functools.cached_property
    def add_and_close(self) -> Callable[..., tuple[Updates, OptState]]:
        """Takes in a gradient, and ends the window if it is full with it."""

        def run(
            updates: Updates,
            weight: Scalar,
            state: OptState,
            params: Params,
            extra_args: dict[str, Any],
        ) -> tuple[Updates, OptState]:
            full, state = self.add(updates, weight, state, params)
            return self.close(updates, full, state, params, extra_args)

        return compiled(run)

    @functools.cached_property
    def end(self) -> Callable[..., tuple[Updates, OptState]]:
        """The method `close`."""
        return compiled(self.close)

    def add(
        self, updates: Updates, weight: Scalar, state: OptState, params: Params
    ) -> tuple[Array, OptState]:
        """Whether the window is full with one more gradient, and the state with it."""
        skip, skip_state = jnp.zeros([], bool), state.skip_state
        if self.should_skip:
            skip, found = self.ask(updates, state.gradient_step, params)
            skip_state = in_dtypes_of(skip_state, found)
        before = state.weight_sum if self.weighted else state.mini_step
        weight_sum, *scalars = weigh(before, weight, skip)
        _, acc_grads = map_leaves(
            self.who,
            with_mean if self.use_grad_mean else with_sum,
            updates,
            state.acc_grads,
            scalars=tuple(scalars),
            storages=(self.storage,),
            # The gradients have no number of their own; this one hardly comes again.
            count=state.gradient_step * 65_537 + state.mini_step + 1,
        )
        mini_step = jnp.where(skip, state.mini_step, increment(state.mini_step))
        k = value_at(self.who, self.every_k, state.gradient_step)
        with float64():
            full = ~skip & (as_float64(mini_step) >= k)
        state = self.kind(
            mini_step,
            state.gradient_step,
            state.inner_opt_state,
            acc_grads,
            skip_state,
            *([weight_sum] if self.weighted else []),
        )
        return full, state

    def close(
        self,
        like: Any,
        full: Array,
        state: OptState,
        params: Params,
        extra_args: dict[str, Any],
    ) -> tuple[Updates, OptState]:
        """Ends the window if it is full; gives updates as `inner` would for `like`."""

        def step(mean: Updates, inner: OptState) -> tuple[Any, OptState]:
            out, new = self.inner.update(mean, inner, params, **extra_args)
            return in_dtypes_of(mean, out), in_dtypes_of(inner, new)

        def wait(mean: Updates, inner: OptState) -> tuple[Any, OptState]:
            return mean, inner

        # The updates take the place of the mean, in the same memory: if zeros came out
        # of the other branch, they would have to be written to memory of their own.
        mean = jax.tree.map(
            lambda x: convert(x, *compute_dtypes(x.dtype)), state.acc_grads
        )
        args = mean, state.inner_opt_state
        out, inner = lax.cond(full, *varying_alike(step, wait, *args), *args)
        updates = choose(full, out, jax.tree.map(jnp.zeros_like, out))
        left = choose(full, jax.tree.map(jnp.zeros_like, out), out)
        steps = state.gradient_step
        state = state._replace(
            mini_step=jnp.where(full, 0, state.mini_step),
            gradient_step=jnp.where(full, increment(steps), steps),
            inner_opt_state=inner,
            acc_grads=in_dtypes_of(state.acc_grads, left),
        )
        if self.weighted:
            state = state._replace(weight_sum=jnp.where(full, 0, state.weight_sum))
        like = answer_to(self.inner, like, args[1], params, extra_args)
        return in_dtypes_of(like, updates), state

    def ask(
        self, updates: Updates, gradient_step: Array, params: Params
    ) -> tuple[Array, Any]:
        """What should_skip_update_fn says, checked."""
        answer = self.should_skip(updates, gradient_step, params)
        pair = isinstance(answer, tuple) and len(answer) == 2
        skip = answer[0] if pair else answer
        is_bool = isinstance(skip, bool | np.bool_) or describe(skip) == "bool[]"
        if not (pair and is_bool):
            raise TypeError(
                f"{self.who}: expected a pair (skip, skip_state) from "
                f"should_skip_update_fn with skip a bool[], got {describe(skip)}."
            )
        return jnp.asarray(skip), jax.tree.map(jnp.asarray, answer[1])

    def split_off_weight(self, extra_args: dict[str, Any]) -> tuple[Any, Any]:
        """The weight of a gradient, checked, and the other extra arguments."""
        others = dict(extra_args)
        weight = others.pop("weight", None)
        if weight is None:
            raise ValueError(
                f"{self.who}: needs the weight of this gradient; call tx.update(grads, "
                "state, params, weight=number_of_tokens), or leave out weighted=True."
            )
        check_in(self.who, "weight", weight, "[0, inf)")
        return weight, others


@jax.jit
def weigh(before: Array, weight: Any, skip: Array) -> tuple[Any, ...]:
    """The sum of weights with one more, that weight, and its share in the sum.

    A gradient that is skipped has weight 0.
    """
    with float64():
        weight = jnp.where(skip, 0.0, as_float64(weight))
        total = before.astype(jnp.float64) + weight
        share = jnp.where(weight == 0, 0.0, weight / jnp.where(total == 0, 1.0, total))
        return total.astype(before.dtype), weight, share


# Where the weight is 0 a select, and not a product with 0: that of a NaN is one.


def with_mean(g: Array, mean: Array, weight: Any, share: Any) -> tuple[Array, Array]:
    """A running mean with one more gradient."""
    del weight
    share = cast(share, mean)
    return g, jnp.where(share == 0, mean, lerp(mean, g, share))


def with_sum(g: Array, total: Array, weight: Any, share: Any) -> tuple[Array, Array]:
    """A sum with one more gradient."""
    del share
    weight = cast(weight, total)
    return g, jnp.where(weight == 0, total, total + product(g, weight))


def varying_alike(
    first: Callable[..., Any], second: Callable[..., Any], *args: Any
) -> tuple[Any, Any]:
    """Both branches, with results of one type inside a `shard_map` too.

    There a type says over which axes of the mesh an array varies, and `lax.cond` wants
    to hear the same of both: zeros do not vary, where new updates may.
    """
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return first, second

    def also(x: Array, other: Array) -> Array:
        other = lax.full_like(other, 0)
        return x if jax.typeof(x) == jax.typeof(other) else jnp.where(True, x, other)

    def alike(branch: Callable[..., Any], other: Callable[..., Any]) -> Any:
        types = jax.eval_shape(other, *args)
        return lambda *args: jax.tree.map(also, branch(*args), types)

    return alike(first, second), alike(second, first)
