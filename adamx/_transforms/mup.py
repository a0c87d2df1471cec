"""Learning rates for any width: Yang et al., 2022, https://arxiv.org/abs/2203.03466."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod
from typing import Any

import jax
import numpy as np

from adamx._base import Params, check_choice, describe
from adamx._rules import first_match, is_hole, overlap, places
from adamx._transforms.decay import BIAS_OR_NORM

Shape = tuple[int, ...]


def mup_multipliers(
    base: Any,
    *,
    optimizer: str = "adam",
    fan_in: Mapping[str, Shape] | None = None,
) -> Callable[[Params], Any]:
    """Makes multipliers with which a learning rate suits models of any width.

        r_in, r_out: the widths on the input and output side over those of base
                       input weights, biases, norms   hidden weights   output weights
        "adam"  1/r_in           1                        1/r_in           1/r_in
        "sgd"   r_out/r_in       r_out                    r_out/r_in       1/r_in

    Tune the learning rate on the model of base, then train wider ones with
    `chain(scale_by_adam(), scale_by_path(mup_multipliers(base)), ...)`. Only axes whose
    sizes differ from those of base are widths, so that the kind of a weight shows in
    its shape. This is half of μP; the other half is the model's: output weights start
    at 0 or with a standard deviation in 1/r_in (not 1/√r_in), attention logits are
    divided by the size of a head (not its root). eps of Adam must stay small beside
    gradients, which fall with the width.

    Args:
      base: The parameters of the same model at its base width, or their shapes, as
        `jax.eval_shape` gives them.
      optimizer: "adam" for all that normalize each entry of a gradient, "sgd" for SGD
        with or without momentum.
      fan_in: Dictionary from regular expressions, as in `by_path`, to the axes on the
        input side, where these are not what Flax's Dense, Conv and Embed have: axis -2
        of 2 or more, none of biases and norms, known by their names, and of vectors.
        For attention {r"(query|key|value)/kernel": (-3,), r"out/kernel": (-3, -2)}.

    Returns:
      A function from parameters to a tree of multipliers like them.

    Raises:
      ValueError: An unknown optimizer; when called, a tree or a rank that is not that
        of base, or widths among the axes before the last two without fan_in.
      TypeError: A base that holds no arrays; axes that are no tuple of integers.

    Differs from Microsoft's mup: output weights follow Table 3, with no multiplier in
      the model, where mup's `MuReadout` divides outputs (Table 8).

    Example:
      >>> base = {"hidden": jnp.ones((64, 64)), "head": jnp.ones((64, 10))}
      >>> wide = {"hidden": jnp.ones((256, 256)), "head": jnp.ones((256, 10))}
      >>> adamx.mup_multipliers(base)(wide)
      {'head': 0.25, 'hidden': 0.25}
      >>> adamx.mup_multipliers(base, optimizer="sgd")(wide)
      {'head': 0.25, 'hidden': 1.0}

    Reference: Yang et al., 2022, Table 3 and appendix B,
      https://arxiv.org/abs/2203.03466
    """
    who = "mup_multipliers"
    check_choice(who, "optimizer", optimizer, ("adam", "sgd"))
    shapes = {}
    for _, names, leaf in places(base):
        if not is_hole(leaf):
            if not hasattr(leaf, "shape"):
                raise TypeError(
                    f"{who}: expected base as a tree of arrays or shapes, got "
                    f"{describe(leaf)} at {'/'.join(names)!r}."
                )
            shapes[names] = np.shape(leaf)
    for axes in (fan_in or {}).values():
        if type(axes) is not tuple or not all(type(axis) is int for axis in axes):
            raise TypeError(
                f"{who}: expected fan_in as tuples of integers, got {axes!r}."
            )
    axes_of = first_match(who, {**(fan_in or {}), "": None})

    def multipliers(params: Params) -> Any:
        everything = places(params)
        given = [names for _, names, _ in everything]
        for names in shapes:
            if given and not any(overlap(names, other) for other in given):
                raise ValueError(
                    f"{who}: expected the parameters of base, got nothing for "
                    f"{'/'.join(names)!r}."
                )
        leaves = [(names, x) for _, names, x in everything if not is_hole(x)]
        found = []
        for (names, x), axes in zip(leaves, axes_of(params), strict=True):
            r_in, r_out = ratios(who, names, np.shape(x), shapes.get(names), axes)
            found.append(float((1 if optimizer == "adam" else r_out) / r_in))
        return jax.tree.structure(params).unflatten(found)

    return multipliers


def ratios(
    who: str, names: tuple[str, ...], shape: Shape, base: Shape | None, axes: Any
) -> tuple[Fraction, Fraction]:
    """How much wider the input and the output side of a parameter is than in base."""
    path = "/".join(names)
    if base is None or len(base) != len(shape) or (0 in base and base != shape):
        got = "nothing" if base is None else list(base)
        raise ValueError(
            f"{who}: expected base like the parameters, got {got} against "
            f"{list(shape)} at {path!r}."
        )
    rank = len(shape)
    pairs = zip(shape, base, strict=True)
    wider = [Fraction(n, m) if n != m else Fraction(1) for n, m in pairs]
    if axes is None:
        plain = rank < 2 or any(map(BIAS_OR_NORM.search, names))
        axes = () if plain else (-2,)
        if not plain and any(ratio != 1 for ratio in wider[:-2]):
            raise ValueError(
                f"{who}: expected the widths of {path!r} in its last two axes, got "
                f"{list(shape)} against {list(base)} in base; say with fan_in which "
                f"axes are its inputs, such as {{{path + '$'!r}: (0,)}}."
            )
    if not all(-rank <= axis < rank for axis in axes):
        raise ValueError(
            f"{who}: expected fan_in as axes of {list(shape)}, got {axes} at {path!r}."
        )
    inputs = {axis % rank for axis in axes}
    r_in = prod((wider[i] for i in inputs), start=Fraction(1))
    return r_in, prod(wider, start=Fraction(1)) / r_in
