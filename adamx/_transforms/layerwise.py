"""Layer-wise decay of learning rates: Clark et al., 2020, and Bao et al., 2022."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adamx._base import Params, Scalar, check_in, describe, is_number
from adamx._rules import is_hole, places

# Layers with a number, as layers_3, h/3, blocks.3, EncoderBlock_3; not LayerNorm_3.
LAYER = re.compile(
    r"((?:.*?[/.])??(?:h|\w*?(?:layer|block)s?))[/._]?(\d+)(?=[/.]|$)", re.IGNORECASE
)
# What stands below the layers; an unembedding stands above.
BELOW = re.compile(
    r"(?<!un)emb(ed|s?$|_)|^w[tp]e$|^stem$|^pos(ition)?(_|$)|"
    r"^(cls|class|mask|dist|reg|register)(_?tokens?)?$",
    re.IGNORECASE,
)


def layerwise_decay(
    decay: Scalar,
    *,
    num_layers: int | None = None,
    depth: Callable[[str], int | None] | None = None,
) -> Callable[[Params], Any]:
    """Makes multipliers of the learning rate that fall from the head to the embeddings.

        m(path) = decay^(number of layers above)

    The head has 1, the last of n layers decay, the first decay^n, embeddings
    decay^(n + 1). To fine-tune, for `scale_by_path` at the end of an optimizer.

    Args:
      decay: In (0, 1], per layer; 0.65 to 0.9 is usual.
      num_layers: The number of layers. None takes it, and whether anything is above
        them, from the paths, those of parameters left out by `masked` or `partition`
        included; give it where the head or upper layers are no parameters at all.
      depth: From a path such as "encoder/layers_3/mlp/kernel" to 0 for what is below
        the layers, i + 1 for layer i, counted from 0, and None for what is above.
        Without it the layer is the first number after a name that ends in layer,
        layers, block or blocks or is h; embeddings, tokens and positions elsewhere are
        below the layers, all else is above.

    Returns:
      A function from parameters to a tree of multipliers like them.

    Raises:
      ValueError: A number out of its range; when called, paths without layers or with
        several stacks of them, or more layers than num_layers.
      TypeError: A wrong kind of argument; when called, a depth that is no integer.

    Differs from the code of ELECTRA: the last layer has decay, as in BEiT, not decay².

    Example:
      >>> params = {"embed": jnp.ones(3), "layers_0": jnp.ones(3), "head": jnp.ones(3)}
      >>> adamx.layerwise_decay(0.5)(params)
      {'embed': 0.25, 'head': 1.0, 'layers_0': 0.5}

    Reference: Clark et al., 2020, appendix B, https://arxiv.org/abs/2003.10555; Bao et
      al., 2022, appendix, https://arxiv.org/abs/2106.08254
    """
    who = "layerwise_decay"
    check_in(who, "decay", decay, "(0, 1]")
    if num_layers is not None and (type(num_layers) is not int or num_layers < 1):
        raise ValueError(
            f"{who}: expected num_layers as an integer from 1, got {num_layers!r}."
        )
    if depth is not None and not callable(depth):
        raise TypeError(
            f"{who}: expected depth as a function of a path, got {describe(depth)}."
        )
    base = decay if is_number(decay) else jnp.asarray(decay, jnp.result_type(float))

    def multipliers(params: Params) -> Any:
        everything = [("/".join(names), leaf) for _, names, leaf in places(params)]
        paths = [path for path, _ in everything]
        depths = named_depths(who, paths) if depth is None else list(map(depth, paths))
        for path, found in zip(paths, depths, strict=True):
            check_depth(who, path, found, num_layers)
        numbers = [found for found in depths if found is not None]
        top = max(numbers, default=0) + (None in depths)
        if num_layers is not None:
            top = num_layers + 1
        found = [
            base ** (0 if found is None else top - found)
            for found, (_, leaf) in zip(depths, everything, strict=True)
            if not is_hole(leaf)
        ]
        return jax.tree.structure(params).unflatten(found)

    return multipliers


def named_depths(who: str, paths: list[str]) -> list[int | None]:
    """The depth of each path, from its names."""
    depths, stacks = [], []
    for path in paths:
        layer = LAYER.match(path)
        if layer:
            stacks.append(layer[1])
            depths.append(int(layer[2]) + 1)
        else:
            depths.append(0 if any(map(BELOW.search, re.split("[/.]", path))) else None)
    several = list(dict.fromkeys(stacks))
    if paths and len(several) != 1:
        got = ", ".join(map(repr, several)) or "none in " + ", ".join(map(repr, paths))
        raise ValueError(
            f"{who}: expected one stack of layers with numbers in the paths, such as "
            f"'layers_0', got {got}; say with depth what is where."
        )
    return depths


def check_depth(who: str, path: str, depth: Any, num_layers: int | None) -> None:
    """Raises unless a depth is None or a number that there can be."""
    if depth is None:
        return
    if type(depth) is not int or depth < 0:
        raise TypeError(
            f"{who}: expected depth as an integer from 0 or None, got {depth!r} at "
            f"{path!r}."
        )
    if num_layers is not None and depth > num_layers + 1:
        raise ValueError(
            f"{who}: expected num_layers = {num_layers} layers, got layer {depth - 1} "
            f"at {path!r}."
        )
