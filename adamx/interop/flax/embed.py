"""Gradients of the rows that `Embed` has looked up, without one for the whole table.

What a lookup gives is taken for a constant plus zeros: the gradient of these zeros is
that of the rows. Works for `flax.linen.Embed` and `flax.nnx.Embed`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax import lax

from adamx._align import at
from adamx._base import Array, check_flag
from adamx._dtypes import compute_dtypes, convert
from adamx._rows import sum_rows
from adamx._rules import as_bool, rule_for

# Told of a lookup: the table, the ids, and what it gave, which may be replaced.
Tap = Callable[[Any, Any, Any], Any]


def value_and_row_grad(
    loss_fn: Callable[..., Any], *, tables: Any = None, has_aux: bool = False
) -> Callable[..., Any]:
    """Makes the function for a loss and its gradient, with rows for tables.

    As `jax.value_and_grad` for parameters of Flax's linen, and as `nnx.value_and_grad`
    for an `nnx.Module`, but for the tables of `Embed`: their gradients are
    `SparseRows`, and none of the size of a table is ever formed. To be called in a
    jitted function; the optimizer is an `adamx.on_rows`.

    A table may be looked up several times, and by several modules. Its gradient is that
    of the dense one: ids below 0 count from the end, as they do in `Embed`.

    Args:
      loss_fn: From parameters, or an `nnx.Module`, and further arguments to a scalar,
        or to a pair of one and something else.
      tables: Which parameters are such tables: a mask as in `adamx.masked`. None: all
        that `Embed` looks up, but not subclasses of it, nor inside `remat` and `scan`
        of Flax: those keep their dense gradients.
      has_aux: Whether `loss_fn` returns a pair.

    Returns:
      A function with the arguments of `loss_fn` that returns the loss, or the pair, and
      the gradients: a tree like the parameters, or an `nnx.State`.

    Raises:
      ValueError: When called, a table that is used otherwise than by lookups, as one
        that is tied to the output, whose gradient is dense; a parameter that `tables`
        has and that is not looked up.
      TypeError: No flag, no mask; `loss_fn` is no function.

    Example:
      >>> from adamx.interop.flax import value_and_row_grad
      >>> model = linen.Embed(4, 2, param_dtype=jnp.float32)
      >>> params = model.init(jax.random.key(0), jnp.array([0]))
      >>> loss = lambda params, ids: model.apply(params, ids).sum()
      >>> value, grads = value_and_row_grad(loss)(params, jnp.array([1, 3, 3]))
      >>> rows = grads["params"]["embedding"]
      >>> print(rows.ids[:2], rows.values[:2])
      [1 3] [[1. 1.]
       [2. 2.]]
    """
    who = "value_and_row_grad"
    if not callable(loss_fn):
        raise TypeError(f"{who}: expected loss_fn as a function, got {loss_fn!r}.")
    check_flag(who, "has_aux", has_aux)
    mask = None if tables is None else rule_for(who, "tables", tables, as_bool)

    @functools.wraps(loss_fn)
    def of_module(model: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        graph, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(params: Any, tap: Tap) -> Any:
            copy = nnx.merge(graph, params, rest, copy=True)
            for _, module in nnx.iter_modules(copy):
                if type(module) is nnx.Embed:
                    module.__class__ = Tapped
                    object.__setattr__(module, "tap", tap)
            value, aux = pair(loss_fn(copy, *args, **kwargs))
            return value, (aux, nnx.state(copy, nnx.Not(nnx.Param)))

        value, (aux, rest), grads = differentiated(who, loss, params, mask)
        nnx.update(model, rest)
        return (value, aux) if has_aux else value, grads

    @functools.wraps(loss_fn)
    def of_params(params: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(params, nnx.Module):
            return of_module(params, *args, **kwargs)

        def loss(params: Any, tap: Tap) -> Any:
            with linen.intercept_methods(functools.partial(intercept, tap)):
                return pair(loss_fn(params, *args, **kwargs))

        value, aux, grads = differentiated(who, loss, params, mask)
        return (value, aux) if has_aux else value, grads

    def pair(result: Any) -> Any:
        return result if has_aux else (result, None)

    return of_params


def intercept(tap: Tap, next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor of linen that tells of lookups."""
    out = next_fun(*args, **kwargs)
    module = context.module
    if type(module) is not linen.Embed or context.method_name != "__call__":
        return out
    (ids,) = (*args, *kwargs.values())
    return tap(module.embedding, ids, out)


class Tapped(nnx.Embed):
    """An `Embed` that tells of lookups."""

    tap: Tap

    def __call__(self, inputs: Array, *args: Any, **kwargs: Any) -> Array:
        """Looks up, and tells."""
        out = super().__call__(inputs, *args, **kwargs)
        return self.tap(self.embedding.get_value(), inputs, out)


def differentiated(
    who: str, loss: Callable[[Any, Tap], Any], params: Any, mask: Any
) -> tuple[Any, Any, Any]:
    """The value, what comes with it, and the gradients, of `loss(params, tap)`."""
    leaves, treedef = jax.tree.flatten(params)
    chosen = [True] * len(leaves) if mask is None else mask(params)
    lookups = lookups_of(loss, leaves, treedef, chosen)
    tables = {i for i, _ in lookups}
    for i, x in enumerate(chosen):
        if mask is not None and x and i not in tables:
            raise ValueError(
                f"{who}: expected tables that Embed looks up, got one that it does not"
                f"{at(params, i)}; leave it out of tables."
            )
    dense = [None if i in tables else x for i, x in enumerate(leaves)]

    def split(dense: Any, zeros: Any, mark: Array) -> Any:
        full = [
            x
            if i not in tables
            else only_looked_up(who, at(params, i), leaves[i], mark)
            for i, x in enumerate(dense)
        ]
        found = []

        def tap(table: Any, ids: Any, out: Any) -> Any:
            if place_of(full, table) not in tables:
                return out
            found.append(ids)
            return lax.stop_gradient(out) + zeros[len(found) - 1]

        value, aux = loss(treedef.unflatten(full), tap)
        return value, (aux, found)

    zeros = [jnp.zeros(x.shape, x.dtype) for _, x in lookups]
    differentiate = jax.value_and_grad(split, (0, 1, 2), has_aux=True)
    (value, (aux, found)), (grads, rows, _) = differentiate(dense, zeros, jnp.zeros(()))
    for i in tables:
        mine = [j for j, (place, _) in enumerate(lookups) if place == i]
        num_rows, *shape = leaves[i].shape
        ids = [from_the_start(found[j].ravel(), num_rows) for j in mine]
        values = [rows[j].reshape(-1, *shape) for j in mine]
        values = [convert(v, *compute_dtypes(v.dtype)) for v in values]
        grads[i] = sum_rows(
            jnp.concatenate(ids),
            jnp.concatenate(values),
            num_rows,
        )
    return value, aux, treedef.unflatten(grads)


def lookups_of(
    loss: Callable[[Any, Tap], Any], leaves: list[Any], treedef: Any, chosen: list[bool]
) -> list[tuple[int, Any]]:
    """The place of the table and the shape of each lookup, in order."""
    lookups = []

    def run(leaves: list[Any]) -> None:
        def tap(table: Any, ids: Any, out: Any) -> Any:
            i = place_of(leaves, table)
            if i is not None and chosen[i]:
                lookups.append((i, jax.typeof(out)))
            return out

        loss(treedef.unflatten(leaves), tap)

    jax.eval_shape(run, leaves)
    return lookups


def place_of(leaves: list[Any], table: Any) -> int | None:
    """Where a table stands among the parameters, if it is one of them."""
    return next((i for i, x in enumerate(leaves) if x is table), None)


def only_looked_up(who: str, where: str, table: Any, mark: Array) -> Any:
    """The table, of which nobody may ask the gradient."""

    @jax.custom_vjp
    def watched(table: Any, mark: Array) -> Any:
        return table

    def forward(table: Any, mark: Array) -> Any:
        return table, None

    def backward(_: None, gradient: Any) -> Any:
        raise ValueError(
            f"{who}: expected a table that Embed alone looks up, got one that is used "
            f"otherwise{where}: tied to the output, or in a penalty; its gradient is "
            "dense, so leave it out with tables."
        )

    watched.defvjp(forward, backward)
    return watched(table, mark)


def from_the_start(ids: Array, num_rows: int) -> Array:
    """Which rows `Embed` takes: ids below 0 from the end, and the only one always."""
    ids = ids.astype(jnp.int32)
    if num_rows == 1:
        return jnp.zeros_like(ids)
    return jnp.where(ids < 0, ids + num_rows, ids)
