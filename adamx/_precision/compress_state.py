"""States in less memory: encoded between steps, in float32 during one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._base import (
    Array,
    GradientTransformation,
    OptState,
    Params,
    Updates,
    check_choice,
    check_in,
    check_state,
    describe,
)
from adamx._chain import as_transformation
from adamx._compiled import compiled
from adamx._masking import MaskedNode
from adamx._numerics import increment
from adamx._precision.codec import SHORTEST, Codec
from adamx._precision.companded import companded_codec
from adamx._precision.fields import (
    POSITIVE,
    SIGNED,
    Field,
    fields_of,
    moment_kind,
)
from adamx._rounding import CODES, ROUNDINGS, check_seed, keys_of, random_bits
from adamx._rules import first_match, is_hole
from adamx._tree import zero_count


class CompressedState(NamedTuple):
    """State of `compress_state`."""

    count: Array  # i32[]; updates applied so far
    inner_state: OptState  # the inner state, with MaskedNode() for what is encoded
    encoded: Any  # dict: field -> codec -> part -> tree like the field


class Rule(NamedTuple):
    """Which codec the arrays of a field have."""

    codecs: tuple[Codec, ...]  # that there may be
    answers: Callable[[Any], list[Codec | None]]  # for each array of a tree


def compress_state(
    inner: GradientTransformation,
    codec: Codec | Mapping[str, Any] | None = None,
    *,
    min_size: int = 4096,
    rounding: str | None = None,
    seed: int = 0,
) -> GradientTransformation:
    """Keeps the moments of a transformation in less memory, with 8 bits as it is.

        state = decode(encoded)
        u, state = inner.update(g, state)
        encoded = encode(state, random bits of step t),       t = count + 1

    The step uses the moments before they are rounded; those that it starts from are
    rounded to the nearest if they have signs, and up or down by chance if they are
    second moments: means as slow as these stand still where each step is rounded to
    the nearest.

    Around any transformation, of Optax too: `compress_state(adamw(1e-3))` has 2.06
    bytes a parameter in place of 8. Around `scale_by_adam`, `scale_by_nadam`,
    `scale_by_radam` and what is made of them no step can explode, since they bound the
    root that divides it. No derivative passes through codes from step to step.

    Args:
      inner: The transformation.
      codec: How to encode moments of the usual names: mu, trace, and nu, of which no
        entry is negative, and those of `adan`, `prodigy`, `ademamix` and `adafactor`.
        None is `companded_codec()`. Or a dictionary from the names of fields to codecs,
        to None, or to a dictionary from regular expressions on the paths of parameters
        to codecs or None, r"" last. What no name has stays as it is.
      min_size: The least number of entries, over all devices, of an array that is
        encoded; it must be float32 and have 16 of them along its last axis, too.
      rounding: "nearest" or "stochastic" for all; None is the latter for second moments
        and for fields of other names. A first moment that is slower than 0.95, as that
        of `lion`, asks for "stochastic".
      seed: Of the random bits, as in `Storage`.

    Returns:
      A transformation. State: `CompressedState`.

    Raises:
      ValueError: Two codecs of one name in a field; at init, a field that no part of
        the state has, or a regular expression that matches nothing; at update, a state
        of other codecs.
      TypeError: `inner` is no transformation; something else than codecs.

    Example:
      >>> tx = adamx.compress_state(adamx.adamw(1e-3))
      >>> params = {"w": jnp.ones((64, 128), jnp.float32)}
      >>> state = tx.init(params)
      >>> updates, state = tx.update(params, state, params)
      >>> sum(x.nbytes for x in jax.tree.leaves(state)) / params["w"].size
      2.0634765625

    Reference: Dettmers et al., 2021, https://arxiv.org/abs/2110.02861; Zamirai et al.,
      2020, https://arxiv.org/abs/2010.06192 (stochastic rounding)
    """
    who = "compress_state"
    inner = as_transformation(who, "inner", inner)
    check_in(who, "min_size", min_size, "[0, inf)")
    if rounding is not None:
        check_choice(who, "rounding", rounding, ROUNDINGS)
    check_seed(who, seed)
    rule_of = rules(who, companded_codec() if codec is None else codec)

    def encode(state: OptState, count: Array, first: bool = False) -> CompressedState:
        """The state with its moments encoded; the first one to the nearest."""
        keys = None if first else keys_of(state, count, seed, CODES)
        kept, encoded, start = [], {}, 0
        for field in fields_of(state):
            rule, leaves = rule_of(field), field.leaves
            end = start + sum(not is_hole(x) for x in leaves)
            if rule:
                usual = "nearest" if moment_kind(field) is SIGNED else "stochastic"
                by_chance = (rounding or usual) == "stochastic"
                draws = keys[start:end] if keys is not None and by_chance else None
                leaves, encoded[field.place] = encode_field(
                    field, rule, min_size, draws
                )
            kept, start = kept + leaves, end
        return CompressedState(count, refilled(state, kept), encoded)

    def decode(state: CompressedState) -> OptState:
        """The inner state."""
        kept = []
        for field in fields_of(state.inner_state):
            rule = rule_of(field)
            if rule:
                check_encoded(who, field.place, rule, state.encoded)
            kept += decode_field(field, rule, state.encoded) if rule else field.leaves
        return refilled(state.inner_state, kept)

    def init(params: Params) -> CompressedState:
        state = inner.init(params)
        check_names(who, codec, fields_of(state))
        return encode(state, zero_count(), first=True)

    @compiled
    def step(
        updates: Updates, state: OptState, params: Params, extra_args: dict[str, Any]
    ) -> tuple[Updates, CompressedState]:
        old = CompressedState(*state)
        updates, new = inner.update(updates, decode(old), params, **extra_args)
        return updates, encode(new, increment(old.count))

    def update(
        updates: Updates,
        state: CompressedState,
        params: Params = None,
        **extra_args: Any,
    ) -> tuple[Updates, CompressedState]:
        check_state(who, state, CompressedState)
        return step(updates, state, params, extra_args)

    return GradientTransformation(init, update)


def encode_field(
    field: Field, rule: Rule, min_size: Any, keys: Array | None
) -> tuple[list[Any], dict[str, Any]]:
    """What stays of a field, and the rest encoded; without keys, to the nearest.

    A tree like the field for each part of each codec, with holes where it has nothing.
    """
    positive = moment_kind(field) is POSITIVE
    answers = iter(rule.answers(field.treedef.unflatten(field.leaves)))
    kept, rows, i = [], [], 0
    for x in field.leaves:
        codec = None if is_hole(x) else next(answers)
        if codec is None or not is_eligible(x, min_size):
            kept.append(x)
            rows.append({})
        else:
            bits = None if keys is None else random_bits(keys[i], x)
            kept.append(MaskedNode())
            rows.append({codec.name: codec.encode(x, bits, positive)})
        i += not is_hole(x)
    return kept, {
        codec.name: {
            part: field.treedef.unflatten(
                [
                    row[codec.name][part] if codec.name in row else MaskedNode()
                    for row in rows
                ]
            )
            for part in codec.parts
        }
        for codec in rule.codecs
    }


def decode_field(field: Field, rule: Rule, encoded: Any) -> list[Any]:
    """The arrays of a field, of which what is encoded are holes."""
    leaves = list(field.leaves)
    for codec in rule.codecs:
        parts = encoded[field.place][codec.name]
        columns = [
            jax.tree.leaves(parts[part], is_leaf=is_hole) for part in codec.parts
        ]
        for i, row in enumerate(zip(*columns, strict=True)):
            if not is_hole(row[0]):
                row = dict(zip(codec.parts, row, strict=True))
                leaves[i] = codec.decode(row, moment_kind(field) is POSITIVE)
    return leaves


def check_encoded(who: str, place: str, rule: Rule, encoded: Any) -> None:
    """Raises unless a field has been encoded by the codecs of its rule."""
    want, got = [codec.name for codec in rule.codecs], list(encoded.get(place, ()))
    if sorted(want) != sorted(got):
        raise ValueError(
            f"{who}: expected {place!r} encoded by {', '.join(want) or 'nothing'}, got "
            f"{', '.join(got) or 'nothing'}; was the state made by this "
            "transformation?"
        )


def refilled(state: OptState, leaves: list[Any]) -> OptState:
    """The state with other arrays and holes in the place of its own, in a row."""
    return jax.tree.structure(state, is_leaf=is_hole).unflatten(leaves)


def is_eligible(x: Any, min_size: Any) -> bool:
    """Whether an array is worth it, by its whole shape: no mesh makes a difference."""
    return x.dtype == jnp.float32 and x.size >= min_size and x.shape[-1:] >= (SHORTEST,)


def rules(who: str, codec: Any) -> Callable[[Field], Rule | None]:
    """The function from a field to its rule, or None."""
    if isinstance(codec, Codec):
        usual = rule_for_leaves(who, codec)
        return lambda field: None if moment_kind(field) is None else usual
    if not isinstance(codec, Mapping):
        raise TypeError(
            f"{who}: expected codec as a Codec, such as companded_codec(), or a "
            f"dictionary from fields to codecs, got {describe(codec)}."
        )
    by_name = {name: rule_for_leaves(who, rule) for name, rule in codec.items()}
    return lambda field: by_name.get(field.of[1])


def rule_for_leaves(who: str, rule: Any) -> Rule:
    """A rule from a codec, None, or a dictionary from regular expressions to these."""
    by_path = rule if isinstance(rule, Mapping) else {"": rule}
    codecs: dict[str, Codec] = {}
    for answer in by_path.values():
        if not isinstance(answer, Codec | None):
            raise TypeError(
                f"{who}: expected a Codec or None for each field or path, got "
                f"{describe(answer)}."
            )
        if answer and codecs.setdefault(answer.name, answer) != answer:
            raise ValueError(f"{who}: expected one codec {answer.name!r}, got two.")
    return Rule(tuple(codecs.values()), first_match(who, by_path))


def check_names(who: str, codec: Any, fields: list[Field]) -> None:
    """Raises unless a state has all fields that a dictionary has."""
    names = dict.fromkeys(field.of[1] for field in fields if field.of[1] is not None)
    for name in codec if isinstance(codec, Mapping) else ():
        if name not in names:
            raise ValueError(
                f"{who}: no field {name!r} in the state; have {', '.join(names)}."
            )
