"""Which field of a state here is which of PyTorch's, and the arrays in them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import GradientTransformation
from adamx._fields import tree_get_all_with_path
from adamx._parts import Part, parts_of
from adamx.interop._states import Path, field_of, leaves_of, where
from adamx.interop.torch.layout import Layout, Place

FIELDS = {
    ("ScaleByAdamState", "mu"): ("exp_avg",),
    ("ScaleByAdamState", "nu"): ("exp_avg_sq", "exp_inf"),
    ("ScaleByAmsgradState", "mu"): ("exp_avg",),
    ("ScaleByAmsgradState", "nu"): ("exp_avg_sq",),
    ("ScaleByAmsgradState", "nu_max"): ("max_exp_avg_sq",),
    ("ScaleByRssState", "sum_of_squares"): ("sum",),
    ("ScaleByAdaDeltaState", "e_g"): ("square_avg",),
    ("ScaleByAdaDeltaState", "e_x"): ("acc_delta",),
    ("ScaleByRmsState", "nu"): ("square_avg",),
    ("ScaleByRStdDevState", "mu"): ("grad_avg",),
    ("ScaleByRStdDevState", "nu"): ("square_avg",),
    ("TraceState", "trace"): ("momentum_buffer",),
}
# The axis over which a factor is a mean; PyTorch keeps it, with length 1.
OVER = {"v_row": -1, "v_col": -2, "row_var": -1, "col_var": -2}


class Slot(NamedTuple):
    """An array of a state here: what it is, and what it belongs to."""

    path: Path
    want: Any  # its shape and dtype
    part: Part

    @property
    def field(self) -> tuple[str, str]:
        """The class of the state that it is in, and the name of the field."""
        return field_of(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """What PyTorch may call it; where it has no name for it, the path."""
        return FIELDS.get(self.field, (where(self.path),))


def slots_of(who: str, tx: GradientTransformation, layout: Layout) -> list[Slot]:
    """The arrays in the state of a transformation, in JAX's order."""
    target = jax.eval_shape(tx.init, layout.params)
    parts = parts_of(who, tx.init, jax.tree.structure(target), layout.params)
    return [
        Slot(path, want, part)
        for (path, want), part in zip(leaves_of(target), parts, strict=True)
    ]


def shape_in_torch(name: str, place: Place) -> tuple[int, ...]:
    """The shape of what PyTorch keeps for a parameter."""
    if name in ("step", "mu_product"):
        return ()
    shape = list(place.torch_shape)
    if name in OVER and len(shape) > 1:
        shape[OVER[name]] = 1
    return tuple(shape)


def array_for(slot: Slot, entry: dict[str, np.ndarray], place: Place) -> Any:
    """The name and the array that go to a slot; no array where there is none."""
    if slot.field[0] == "FactoredState":
        return factor_for(slot, entry, place)
    name = next((n for n in slot.names if n in entry), slot.names[0])
    return name, place.there(entry[name]) if name in entry else None


def factor_for(slot: Slot, entry: dict[str, np.ndarray], place: Place) -> Any:
    """The same for Adafactor, whose factors belong to the last two axes."""
    field, rank = slot.field[1], len(place.axes)
    unused = np.zeros(1, slot.want.dtype)
    if rank < 2:
        return ("variance", entry.get("variance")) if field == "v" else ("", unused)
    if field == "v":
        return ("", unused) if slot.want.shape == (1,) else ("variance", None)
    over = place.axes[OVER[field]]  # the axis in PyTorch
    for name in ("row_var", "col_var"):
        if name in entry and over == rank + OVER[name] and len(place.shape) == rank:
            x = np.transpose(entry[name], place.axes)
            return name, np.squeeze(x, OVER[field])
    return f"a mean of squares over axis {over}", None


def arrays_from(
    kept: list[tuple[Slot, np.ndarray]], place: Place, wanted: list[str]
) -> dict[str, np.ndarray]:
    """What PyTorch keeps for a parameter, from the arrays of its slots."""
    entry = {}
    for slot, x in kept:
        name = next((n for n in slot.names if n in wanted), slot.names[0])
        if slot.field[0] == "FactoredState":
            entry |= factor_from(slot, x, place)
        else:
            entry[name] = place.back(x)
    return entry


def factor_from(slot: Slot, x: np.ndarray, place: Place) -> dict[str, np.ndarray]:
    """The same for Adafactor; nothing for what a parameter does not use."""
    field, rank = slot.field[1], len(place.axes)
    if field == "v":
        unused = rank > 1 and x.shape == (1,)
        return {} if unused else {"variance": place.back(x)}
    if rank < 2:
        return {}
    over = place.axes[OVER[field]]
    for name in ("row_var", "col_var"):
        if over == rank + OVER[name] and len(place.shape) == rank == x.ndim + 1:
            x = np.expand_dims(x, OVER[field])
            return {name: np.transpose(x, np.argsort(place.axes))}
    return {f"a mean of squares over axis {over}": x}


def check_meaning(
    who: str, tx: GradientTransformation, layout: Layout, names: set[str]
) -> None:
    """Raises where a field of `tx` means something else than its name in PyTorch.

    A step from zero with small gradients, on arrays of one entry, tells: what is like
    |g| and not like |g|², what is bias-corrected, what is a step and not a gradient.
    """

    def one(p: Any) -> jax.Array:
        return jnp.zeros((1,) * len(p.shape), p.dtype)

    params = jax.tree.map(one, layout.params)
    grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-3), params)
    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        updates, state = tx.update(grads, tx.init(params), params)
    steps = {where(path): u for path, u in leaves_of(updates)}

    def nodes(kind: str) -> list[Any]:
        return [node for _, node in tree_get_all_with_path(state, kind)]

    def pairs(tree: Any, other: Any) -> list[tuple[Any, Any]]:
        return list(zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))

    wrong, norm = "", "exp_inf" in names
    for node in nodes("ScaleByAdamState"):
        if any((nu >= jnp.abs(mu)).all() != norm for mu, nu in pairs(node.mu, node.nu)):
            wrong = "the nu of AdaMax, exp_inf" if norm else "the nu of Adam"
    for node in nodes("ScaleByAmsgradState"):
        if any((nu != top).any() for nu, top in pairs(node.nu, node.nu_max)):
            wrong = "a nu_max that is not bias-corrected, as of variant='torch'"
    for node in nodes("TraceState"):
        if any((x * steps[where(path)] > 0).any() for path, x in leaves_of(node.trace)):
            wrong = "a trace in front of scale_by_learning_rate"
    if wrong:
        raise ValueError(
            f"{who}: expected a tx with {wrong}, got another; make it with "
            "transformation_from_torch."
        )
