"""What a step did, recorded in the state: norms, ratios, second moments."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adamx._align import at, counterparts, inexact, mismatch
from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Scalar,
    Updates,
    check_all,
    check_in,
    check_state,
    describe,
    require_params,
)
from adamx._chain import as_transformation
from adamx._choose import choose
from adamx._compiled import compiled
from adamx._diagnostics.metrics import (
    ALL,
    Moment,
    Sums,
    leaf_sums,
    members_of,
    metrics_of,
    moments,
)
from adamx._numerics import complement, float64, hyperparameter, increment
from adamx._rules import rule_for
from adamx._tree import scalar_dtype, zero_count


class RecordState(NamedTuple):
    """State of `record`."""

    count: Array  # i32[]; updates applied so far
    metrics: Any  # dict: group -> dict: name -> f32[]; of the last one measured
    inner_state: OptState  # that of the inner transformation


def record(
    inner: GradientTransformation,
    *,
    groups: Any = None,
    every: int = 1,
    max_norm: Scalar | None = None,
    eps: Scalar = 1e-8,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
) -> GradientTransformation:
    """Records what each step of a transformation does, and changes nothing.

        grad_norm = ‖g‖                     update_ratio = ‖u‖ / ‖p‖
        update_norm = ‖u‖                   effective_learning_rate = ‖u‖ / ‖g‖
        param_norm = ‖p‖                    cosine = Re⟨-u, g⟩ / (‖u‖·‖g‖)
        clip_ratio = min(1, max_norm / ‖g‖)
        small_nu = share of the entries of nu with nu / c2 <= eps²
        signal_to_noise = mean of |mu / c1|² / (nu / c2) where nu > 0

    with g and u before and after `inner`, p before the step, c = 1 - b^count. A cosine
    of 1 is straight downhill; where small_nu is near 1, eps is the denominator, and
    Adam is plain momentum; a signal_to_noise near 0 means that gradients cancel.
    `get_metrics(state)` finds the metrics, `summary(state)` prints them. Updates and
    the inner state are those of `inner`; compiled, up to how XLA contracts a product
    and a sum.

    Measuring takes one more pass over g, p and the state, in which the update is made
    once more and summed, so that no array is written. XLA's CPU backend neither fuses
    sums with the step nor vectorizes several at once: a measured step takes as long as
    six of AdamW on GPT-2's 124 million parameters; every=100 adds less than 5 %.

    Args:
      inner: The transformation, as a rule the whole chain.
      groups: Names of groups: a tree of text like the parameters, a prefix of one, a
        function from a tree of shapes to such a tree, or `by_path(rule)`. The group
        "all" of all leaves is there in any case; None is this one alone.
      every: Steps from one measurement to the next, from 1; the first step is measured,
        and in between the metrics stay.
      max_norm: That of `clip_by_global_norm` in `inner`, in (0, ∞), for clip_ratio in
        the group "all"; None leaves clip_ratio out.
      eps: That of the inner optimizer, in [0, ∞), for small_nu.
      b1: That of the inner optimizer, in [0, 1), like the next, for c1 and c2.
      b2: In [0, 1).

    Returns:
      A transformation. State: `RecordState`; the metrics are f32[], or f64[] where a
      parameter is float64, and 0 until the first update. Their names are fixed by init:
      small_nu is there if the state of `inner` has anywhere a field `nu` like the
      parameters, signal_to_noise if a `mu` of the same shape stands beside it; several
      are taken together. Without a `count` beside it c1 = c2 = 1.

    Raises:
      ValueError: A number out of its range; at init, names that do not cover the
        parameters, or "all"; at update, no parameters, or trees that do not match.
      TypeError: `inner` is no transformation; a name that is no text.

    Differs from Optax: `monitor` and `snapshot` measure what they are given functions
      for; the structure of their state changes in the first update.

    Example:
      >>> tx = adamx.record(adamx.adam(0.1), groups=adamx.by_path(lambda path: path[0]))
      >>> params = {"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(1)}
      >>> _, state = tx.update(params, tx.init(params), params)
      >>> metrics = adamx.get_metrics(state)
      >>> print(metrics["w"]["param_norm"], metrics["b"]["small_nu"])
      5.0 1.0
    """
    who = "record"
    inner = as_transformation(who, "inner", inner)
    if not isinstance(every, int | np.integer) or isinstance(every, bool):
        raise TypeError(f"{who}: expected every as an integer, got {describe(every)}.")
    check_in(who, "every", every, "[1, inf)")
    check_all(who, "[0, 1)", b1=b1, b2=b2)
    check_in(who, "eps", eps, "[0, inf)")
    if max_norm is not None:
        check_in(who, "max_norm", max_norm, "(0, inf)")
    labels_of = None if groups is None else rule_for(who, "groups", groups, as_name)
    constants = hyperparameter(eps), complement(b1), complement(b2)

    def leaves_of(grads: Updates, *trees: Any) -> tuple[list[Any], list[str]]:
        """The leaves of some trees side by side, and the group of each."""
        leaves, _ = jax.tree.flatten(grads)
        columns = [counterparts(who, grads, x, "params") for x in trees]
        rows = [tuple(map(inexact, row)) for row in zip(leaves, *columns, strict=True)]
        labels = labels_of(grads) if labels_of else [ALL] * len(rows)
        # Nobody wants a derivative of sums over them. An integer is in no norm.
        rows = lax.stop_gradient(rows)
        kept = [i for i, row in enumerate(rows) if all(x is not None for x in row)]
        for i in kept:
            g, p = rows[i][0], rows[i][-1]
            if g.shape != p.shape:
                raise mismatch(who, "params", at(grads, i), describe(g), describe(p))
        return [(i, *rows[i]) for i in kept], [labels[i] for i in kept]

    def beside_of(grads: Updates, state: OptState) -> list[list[Moment]]:
        """The second moments beside each leaf."""
        columns = list(moments(state, jax.tree.structure(grads), *constants))
        size = len(jax.tree.leaves(grads))
        rows = ([column[i] for column in columns if column] for i in range(size))
        return [[m for m in row if m is not None] for row in rows]

    def sums_of(
        grads: Updates, updates: Updates, params: Params, state: OptState
    ) -> list[Sums]:
        """The sums of each leaf."""
        beside = beside_of(grads, state)
        rows, _ = leaves_of(grads, updates, params)
        return [leaf_sums(g, u, p, beside[i]) for i, g, u, p in rows]

    def combined(
        sums: list[Sums], grads: Updates, params: Params, state: OptState, dtype: Any
    ) -> Any:
        """The metrics; of the state the shapes count."""
        rows, labels = leaves_of(grads, params)
        beside = beside_of(grads, state)
        beside = [beside[i] for i, *_ in rows]
        return metrics_of(members_of(labels), sums, beside, max_norm, dtype)

    def init(params: Params) -> RecordState:
        inner_state = inner.init(params)
        dtype = scalar_dtype(params)

        def metrics(p: Params, inner_state: OptState) -> Any:
            sums = sums_of(p, p, p, inner_state)
            return combined(sums, p, p, inner_state, dtype)

        shapes = jax.eval_shape(metrics, params, inner_state)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return RecordState(zero_count(), zeros, inner_state)

    @compiled
    def step(
        grads: Updates, state: RecordState, params: Params, extra_args: dict[str, Any]
    ) -> tuple[Updates, RecordState]:
        count, metrics, old = state

        def measured(grads: Updates, old: OptState, params: Params) -> list[Sums]:
            updates, new = inner.update(grads, old, params, **extra_args)
            return sums_of(grads, updates, params, lax.stop_gradient(new))

        def not_measured(*arrays: Any) -> list[Sums]:
            with float64():
                shapes = jax.eval_shape(measured, *arrays)
                return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        # In a branch the update is computed once more, while it is summed; outside XLA
        # would write it to memory, having two uses for it. Of every step, too: that no
        # count is negative XLA does not know.
        due = count >= 0 if every == 1 else count % every == 0
        sums = lax.cond(due, measured, not_measured, grads, old, params)
        dtype = metrics[ALL]["grad_norm"].dtype
        found = combined(sums, grads, params, old, dtype)
        metrics = choose(due, found, metrics)
        updates, new = inner.update(after(metrics, grads), old, params, **extra_args)
        return updates, RecordState(increment(count), metrics, new)

    def update(
        updates: Updates, state: RecordState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, RecordState]:
        check_state(who, state, RecordState)
        require_params(who, params)
        return step(updates, RecordState(*state), params, extra_args)

    return GradientTransformation(init, update)


def after(metrics: Any, updates: Updates) -> Updates:
    """The updates, once the metrics are there.

    What overwrites the arrays that the metrics are made of has to wait for them, or XLA
    would copy these first. That no cosine is 2 XLA does not know.
    """
    never = metrics[ALL]["cosine"] == 2

    def wait(x: Any) -> Any:
        return x if inexact(x) is None else jnp.where(never, jnp.zeros_like(x), x)

    return jax.tree.map(wait, updates)


def as_name(who: str, answer: Any, where: str) -> str:
    """The name of a group, checked."""
    if not isinstance(answer, str):
        raise TypeError(
            f"{who}: expected the names of groups as text, got {describe(answer)}"
            f"{where}; 'head', for example."
        )
    if answer == ALL:
        raise ValueError(
            f"{who}: expected another name than 'all', the group of every leaf{where}."
        )
    return answer
