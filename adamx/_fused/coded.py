"""The states of `compress_state` in a fused step: moments that are kept in codes."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._base import Array, GradientTransformation, Updates, check_state, describe
from adamx._kernels import kernel
from adamx._masking import MaskedNode
from adamx._numerics import increment
from adamx._optimizers.adam import ScaleByAdamState
from adamx._precision.codec import Codec, length
from adamx._precision.compress_state import (
    CompressedState,
    check_encoded,
    compress_state,
    rule_for_leaves,
)
from adamx._rounding import CODES, keys_of
from adamx._rules import is_hole

MOMENTS = {"mu": "nearest", "nu": "stochastic"}  # and how they are rounded
PARTS = ("codes", "scales")
LONGEST = 512  # of the groups that the kernel takes: `kBlock` in adamw.h


@dataclasses.dataclass(frozen=True)
class Coded:
    """A moment in codes: a leaf, as the array is for which it stands."""

    codes: Array
    scales: Array
    group: int  # the length of a group

    @property
    def dtype(self) -> Any:
        """That of the array."""
        return jnp.dtype(jnp.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the array."""
        return self.codes.shape


class Compression(NamedTuple):
    """The arguments of `compress_state`."""

    codec: Codec
    min_size: Any
    rounding: str | None
    seed: int

    def check_codec(self, who: str) -> None:
        """Raises unless there is one codec for all."""
        if not isinstance(self.codec, Codec):
            raise TypeError(
                f"{who}: expected codec as one Codec, such as companded_codec(), got "
                f"{describe(self.codec)}; for codecs by field and path put "
                "compress_state around the optimizer of the same name."
            )

    def around(self, tx: GradientTransformation) -> GradientTransformation:
        """A transformation with its state in codes."""
        settings = self._asdict()
        return compress_state(tx, settings.pop("codec"), **settings)

    def check(self, who: str, state: CompressedState) -> None:
        """Raises unless it is a state with moments encoded by this codec."""
        check_state(who, state, CompressedState)
        rule = rule_for_leaves(who, self.codec)
        for name in MOMENTS:
            check_encoded(who, f"0/{name}", rule, state.encoded)

    @property
    def group_size(self) -> int:
        """That of `companded_codec`; 0 of others, which the kernel does not know."""
        found = re.fullmatch(r"companded8_(\d+)", self.codec.name)
        return int(found[1]) if found else 0

    def roundings(self) -> list[str]:
        """Those of mu and nu."""
        return [self.rounding or usual for usual in MOMENTS.values()]

    def keys(self, grads: Updates, state: CompressedState) -> list[Any]:
        """Those of mu and nu in the step from `state` on, u32[leaves]."""
        tree = (ScaleByAdamState(state.count, grads, grads),)
        keys = keys_of(tree, increment(state.count), self.seed, CODES)
        n = (len(keys) - 1) // len(MOMENTS)
        return [keys[1 : 1 + n], keys[1 + n :]]

    def opened(self, state: CompressedState) -> ScaleByAdamState:
        """Adam's state, with `Coded` where a moment is in codes."""
        (adam,) = state.inner_state

        def moment(name: str) -> Updates:
            kept, treedef = jax.tree.flatten(getattr(adam, name), is_leaf=is_hole)
            trees = state.encoded[f"0/{name}"][self.codec.name]
            columns = [jax.tree.leaves(trees[x], is_leaf=is_hole) for x in PARTS]
            rows = zip(kept, *columns, strict=True)
            return treedef.unflatten(
                [
                    x if is_hole(codes) else self.coded(codes, scales)
                    for x, codes, scales in rows
                ]
            )

        return adam._replace(**{name: moment(name) for name in MOMENTS})

    def coded(self, codes: Array, scales: Array) -> Coded:
        """A moment of which these are the parts."""
        return Coded(codes, scales, length(codes.shape[-1], self.group_size))

    def closed(self, adam: ScaleByAdamState, count: Array) -> CompressedState:
        """The state of which `opened` makes this one."""
        moments, encoded = {}, {}
        for name in MOMENTS:
            leaves, treedef = jax.tree.flatten(getattr(adam, name), is_leaf=is_hole)
            hidden = [MaskedNode() if isinstance(x, Coded) else x for x in leaves]
            moments[name] = treedef.unflatten(hidden)
            parts = {}
            for part in PARTS:
                column = [getattr(x, part, MaskedNode()) for x in leaves]
                parts[part] = treedef.unflatten(column)
            encoded[f"0/{name}"] = {self.codec.name: parts}
        return CompressedState(count, (adam._replace(**moments),), encoded)


def parts_of(leaves: Iterable[Any]) -> list[Array]:
    """The arrays among leaves, of moments in codes their parts."""
    nested = [(x.codes, x.scales) if isinstance(x, Coded) else (x,) for x in leaves]
    return [x for parts in nested for x in parts]


def call_coded(rows: list[tuple[Any, ...]], *args: Any, **settings: Any) -> Any:
    """As `kernel.call`, for rows with moments in codes."""
    groups = [row[1].group for row in rows]
    leaves = [tuple(parts_of(row)) for row in rows]
    new = kernel.call(leaves, *args, groups=groups, **settings)
    return [
        (Coded(x[0], x[1], group), Coded(x[2], x[3], group), x[4])
        for x, group in zip(new, groups, strict=True)
    ]
