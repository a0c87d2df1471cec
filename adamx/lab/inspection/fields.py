"""The fields of a state, by the names that checkpoints keep."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adamx
from adamx.lab.inspection.measure import Numbers, measure
from adamx.lab.inspection.stored import Stored

BATCH_BYTES = 1 << 26  # of arrays that are loaded together

SIGNED = {"mu", "mu_hat", "trace", "exp_avg", "m", "m1", "m2"}
POSITIVE = {"nu", "nu_max", "exp_avg_sq", "n", "v_row", "v_col", "sum_of_squares"}
OTHERS = {
    *("params", "batch_stats", "hyperparams", "acc_grads", "ema", "mean", "slow"),
    *("residual16", "residual8", "kahan", "nu_root", "e_g", "e_x", "prev_updates"),
    *("grad_sum", "params0", "step_sizes", "v", "g", "z", "x", "last"),
}
# Parameters may have these names, too: they are fields beside one of COUNTERS, or
# where `compress_state` has put them.
SHORT = {"m", "m1", "m2", "n", "v", "g", "z", "x", "ema", "mean", "slow", "last"}
COUNTERS = {"count", "t", "step_count", "num_averaged", "steps_since_sync"}
# What is not of the optimizer.
MODEL = ("params", "batch_stats", "")


class Place(NamedTuple):
    """Where an array is: "opt_state/0/mu", of the parameter "dense/kernel"."""

    field: str
    name: str  # of the field: "mu"; "" where none is known
    param: str
    codec: str = ""
    part: str = ""  # "codes", "scales" or "values" of a codec


@dataclass(eq=False)
class Field:
    """What a state has under a name.

    Attributes:
      place: Where: "opt_state/0/mu".
      name: "mu"; "" where it is of no known kind.
      dtypes: Its dtypes; where it is encoded, its codecs.
      sizes: Entries by parameter.
      nbytes: Bytes of all its arrays.
      numbers: What its floating or complex numbers are like, decoded; None: it has
        none, or a codec that is not adamx's.
      not_finite: How many entries are NaN or infinite, by parameter, where some are.
      codes: The shares of `adamx.code_metrics`, largest of all arrays; empty where
        nothing is encoded.
    """

    place: str
    name: str
    dtypes: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    nbytes: int = 0
    numbers: Numbers | None = None
    not_finite: dict[str, int] = field(default_factory=dict)
    codes: dict[str, float] = field(default_factory=dict)

    @property
    def entries(self) -> int:
        """Returns how many numbers it stands for."""
        return sum(self.sizes.values())


def places_of(shapes: dict[str, jax.ShapeDtypeStruct]) -> dict[str, Place]:
    """Finds the field of each array."""
    siblings: dict[str, set[str]] = {}
    for name in shapes:
        parts = name.split("/")
        for i, part in enumerate(parts):
            siblings.setdefault("/".join(parts[:i]), set()).add(part)
    places = {name: place_of(name.split("/"), siblings) for name in shapes}
    params = {
        (place.param, shapes[name].shape)
        for name, place in places.items()
        if place.name in SIGNED | POSITIVE
    }
    return {
        name: as_parameter(name, place, params, shapes[name].shape)
        for name, place in places.items()
    }


def place_of(parts: list[str], siblings: dict[str, set[str]]) -> Place:
    """The first name on the way that is one of a field."""
    for i, part in enumerate(parts):
        before, encoded = "/".join(parts[:i]), "encoded" in parts[:i]
        after_label = i > 0 and parts[i - 1] == "inner_states"  # of `partition`
        if part not in SIGNED | POSITIVE | OTHERS or after_label:
            continue
        if part in SHORT and not (encoded or siblings[before] & COUNTERS):
            continue
        place = "/".join(parts[: i + 1])
        for j, kind in enumerate(parts[i + 1 :], i + 1):
            if encoded and kind in ("codes", "scales", "values"):
                place = "/".join(parts[: j - 1]).replace("encoded", "inner_state", 1)
                param = "/".join(parts[j + 1 :])
                return Place(place, part, param, parts[j - 1], kind)
        return Place(place, part, "/".join(parts[i + 1 :]))
    return Place(parts[0] if len(parts) > 1 else "", "", "/".join(parts[1:] or parts))


def as_parameter(name: str, place: Place, params: set, shape: tuple) -> Place:
    """Takes for a parameter what has the name and the shape of a moment's array."""
    if place.name:
        return place
    parts = name.split("/")
    for i in range(len(parts)):
        param = "/".join(parts[i:])
        if (param, shape) in params:
            return Place("/".join(parts[:i]) or "params", "params", param)
    return place


def read(source: Stored) -> tuple[list[Field], dict[str, int | float]]:
    """Measures the fields, a few arrays at a time; and what stands alone, by name."""
    places = places_of(source.shapes)
    groups: dict[tuple, dict[str, str]] = {}
    alone = []
    for name, place in places.items():
        if source.shapes[name].shape == () and place.name in ("", "hyperparams"):
            alone.append(name)
            continue
        # The codes of an array and their scales are read together.
        groups.setdefault((place.field, place.param, place.codec), {})[place.part] = (
            name
        )
    fields: dict[str, Field] = {}
    for names, loaded in batches(source, list(groups.values())):
        place = places[next(iter(names.values()))]
        one = fields.setdefault(place.field, Field(place.field, place.name))
        add(one, place, {part: loaded[name] for part, name in names.items()})
    scalars = {n: x.item() for n, x in source.load(alone).items()} if alone else {}
    return list(fields.values()), dict(sorted(scalars.items()))


def batches(
    source: Stored, groups: list[dict[str, str]]
) -> Iterator[tuple[dict[str, str], dict[str, np.ndarray]]]:
    """Loads groups of arrays, as many at once as are small."""

    def nbytes(names: Iterable[str]) -> int:
        shapes = [source.shapes[name] for name in names]
        return sum(shape.size * shape.dtype.itemsize for shape in shapes)

    while groups:
        total, count = 0, 0
        while count < len(groups):
            total += nbytes(groups[count].values())
            if count and total > BATCH_BYTES:
                break
            count += 1
        batch, groups = groups[:count], groups[count:]
        loaded = source.load([name for group in batch for name in group.values()])
        for group in batch:
            yield group, {name: loaded[name] for name in group.values()}


def add(one: Field, place: Place, parts: dict[str, np.ndarray]) -> None:
    """Adds an array to a field."""
    first = parts.get("codes", next(iter(parts.values())))
    one.sizes[place.param] = first.size
    one.nbytes += sum(x.nbytes for x in parts.values())
    kind = f"{place.codec} codec" if place.codec else str(first.dtype)
    one.dtypes = tuple(dict.fromkeys((*one.dtypes, kind)))
    array = first
    if place.codec:
        array, metrics = decoded(place, parts)
        for what, share in metrics.items():
            one.codes[what] = max(one.codes.get(what, 0.0), share)
    if array is None or not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    numbers = measure(array)
    one.numbers = numbers if one.numbers is None else one.numbers + numbers
    if bad := numbers.nans + numbers.infinities:
        one.not_finite[place.param] = bad


def decoded(place: Place, parts: dict[str, np.ndarray]):
    """The numbers that codes stand for, and how the codes are used."""
    if "values" in parts:
        return parts["values"], {}
    codec = codec_of(place.codec)
    if codec is None or set(parts) != set(codec.parts):
        return None, {}
    array, metrics = decode(codec, place.name in POSITIVE, parts)
    return np.asarray(array), {what: float(x) for what, x in metrics.items()}


@partial(jax.jit, static_argnums=(0, 1))
def decode(codec: adamx.Codec, positive: bool, encoded: dict[str, jax.Array]):
    """One program for each shape: by single operations there would be dozens."""
    hole = adamx.MaskedNode()
    inner = adamx.ScaleByAdamState(jnp.int32(0), hole, hole)
    field = {"nu" if positive else "mu": {codec.name: encoded}}
    state = adamx.CompressedState(inner.count, inner, field)
    (metrics,) = adamx.code_metrics(state, codec).values()
    return codec.decode(encoded, positive), metrics


def codec_of(name: str) -> adamx.Codec | None:
    """One of adamx's codecs by its name in a state; None for others."""
    kind, _, group = name.rpartition("_")
    if not group.isdigit():
        return None
    makers = {
        "companded8": adamx.companded_codec,
        "dynamic256": adamx.dynamic256_codec,
        "int4": adamx.int4_codec,
    }
    if kind in makers:
        return makers[kind](int(group))
    if kind in ("float8_e4m3fn", "float8_e5m2"):
        return adamx.float8_codec(jnp.dtype(kind), int(group))
    return None
