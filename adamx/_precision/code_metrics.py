"""What the codes of a state look like during a run."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adamx._base import Array, OptState, describe
from adamx._precision.codec import LARGEST, SHORTEST, Codec
from adamx._precision.companded import companded_codec
from adamx._precision.compress_state import CompressedState
from adamx._precision.fields import POSITIVE, fields_of, moment_kind

PARTS = ("codes", "scales")
NAMES = ("top", "bottom", "zero_scales", "bad_scales")


def code_metrics(
    state: OptState, codec: Codec | Mapping[str, Any] | None = None
) -> dict[str, dict[str, Array]]:
    """Measures how the codes of `compress_state` are used: pure, for any jitted step.

        top           share of the codes of the largest number
        bottom        share of the codes of the smallest: 0, or in a second moment the
                      smallest above it, which stands for all that are smaller
        zero_scales   share of the groups of zeros
        bad_scales    share of the groups whose scale is not finite, or at its limit

    Healthy: top near 1 / 128, one in each group; more is a group of equal numbers.
    bottom near 0 where parameters have gradients: from a few percent on the numbers of
    a group are further apart than codes can be, and a smaller `group_size` is due.
    Groups of zeros have had no gradient. bad_scales is 0, or gradients were infinite,
    NaN or above 1e18. The codes of groups that are zero or infinite do not count.

    With Gaussian gradients whose sizes differ by 10 from entry to entry, after 100
    steps of `adamw`, top is 0.008 and bottom 0 for both moments; with `int4_codec`
    bottom is 0.02 for mu and 0.47 for nu.

    Args:
      state: Any state with those of `compress_state` in it, wherever they are.
      codec: What `compress_state` was given. Codecs count whose parts are "codes", of
        8 bits or fewer, and "scales".

    Returns:
      Dictionary: field, codec -> dictionary: name -> f32[]; such as
      metrics["0/nu companded8_128"]["bottom"]. Always of the same structure.

    Raises:
      ValueError: A codec that is in the state and not in `codec`.

    Example:
      >>> params = jnp.ones((64, 128), jnp.float32)
      >>> tx = adamx.compress_state(adamx.adam(1e-3))
      >>> _, state = tx.update(params, tx.init(params))
      >>> metrics = jax.jit(adamx.code_metrics)(state)
      >>> for field in metrics:
      ...     print(field, metrics[field]["top"], metrics[field]["zero_scales"])
      0/mu companded8_128 1.0 0.0
      0/nu companded8_128 1.0 0.0
    """
    codecs = {one.name: one for one in given(codec)}
    metrics = {}
    for place, part in compressed_parts(state):
        for field in fields_of(part.inner_state):
            for name, arrays in part.encoded.get(field.place, {}).items():
                if name not in codecs:
                    raise ValueError(
                        f"code_metrics: expected codec as compress_state was given it, "
                        f"got {', '.join(codecs) or 'none'}, and the state has {name}."
                    )
                if codecs[name].parts == PARTS and jax.tree.leaves(arrays):
                    label = "/".join(filter(None, (place, field.place)))
                    metrics[f"{label} {name}"] = measured(
                        codecs[name], moment_kind(field) is POSITIVE, arrays
                    )
    return metrics


def given(codec: Any) -> Iterator[Codec]:
    """The codecs in an argument of `compress_state`."""
    if codec is None:
        yield companded_codec()
    elif isinstance(codec, Codec):
        yield codec
    elif isinstance(codec, Mapping):
        for one in codec.values():
            yield from given(one) if one is not None else ()
    else:
        raise TypeError(
            "code_metrics: expected codec as compress_state takes it, got "
            f"{describe(codec)}."
        )


def compressed_parts(state: OptState) -> Iterator[tuple[str, CompressedState]]:
    """The states of `compress_state` in a state, each with the names on the way."""

    def is_part(x: Any) -> bool:
        return getattr(type(x), "_fields", None) == CompressedState._fields

    for path, part in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_part):
        if is_part(part):
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            yield place, part
            for inner, found in compressed_parts(part.inner_state):
                yield "/".join(filter(None, (place, "inner_state", inner))), found


def measured(codec: Codec, positive: bool, arrays: Any) -> dict[str, Array]:
    """The metrics of a field."""
    codes, scales = (jax.tree.leaves(arrays[part]) for part in codec.parts)
    full, high, low = ends(codec, positive)
    sums = jnp.zeros(4, jnp.float32)
    for code, scale in zip(codes, scales, strict=True):
        ones = jnp.ones_like(scale)
        r = jnp.abs(codec.decode({"codes": code, "scales": ones}, positive))
        # Of a group of zeros, or with infinity in it, the codes say nothing.
        largest = jnp.full_like(code, full)
        told = (scale > 0) & (scale < jnp.inf)
        some = {"codes": largest, "scales": told.astype(scale.dtype)}
        live = codec.decode(some, positive) != 0
        bottom = (r > 0) & (r <= low) if positive else r == 0
        sums += jnp.stack(
            list(map(number, (live, live & (r >= high), live & bottom, scale == 0)))
        )
    entries, tops, bottoms, zeros = sums
    groups = sum(scale.size for scale in scales)
    bad = sum(number(~(scale < LARGEST)) for scale in scales)
    shares = tops, bottoms, zeros, bad
    totals = entries, entries, groups, groups
    return {
        name: share / jnp.maximum(jnp.float32(total), 1)
        for name, share, total in zip(NAMES, shares, totals, strict=True)
    }


def ends(codec: Codec, positive: bool) -> tuple[Any, float, float]:
    """The code of 1; the least that 1 and -1 are decoded to; the smallest number."""
    with jax.ensure_compile_time_eval():
        x = np.zeros((2, SHORTEST), np.float32)
        x[:, 0] = 1, 1 if positive else -1
        x[:, 1] = np.finfo(np.float32).tiny
        encoded = codec.encode(jnp.asarray(x), None, positive)
        r = np.abs(np.asarray(codec.decode(encoded, positive)))
        return encoded["codes"][0, 0], float(r[:, 0].min()), float(r[0, 1])


def number(x: Array) -> Array:
    """How many are true, f32[]; no sum of ones stops at 2^24."""
    return x.sum(axis=-1, dtype=jnp.int32).astype(jnp.float32).sum()
