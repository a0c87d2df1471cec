"""What is not as it should be in a state, in plain sentences."""

from collections.abc import Iterator

import numpy as np

from adamx import Finding
from adamx.lab.inspection.fields import POSITIVE, SIGNED, Field

FEW = 0.01  # of the entries: what is rarer is not spoken of
COARSE = 0.05  # of the codes at the smallest number
LAST = np.iinfo(np.int32).max
Scalars = dict[str, int | float]
# Means of squares, which are compared with eps².
SQUARES = {"nu", "nu_max", "exp_avg_sq", "n"}


def diagnose(fields: list[Field], scalars: Scalars, eps: float) -> list[Finding]:
    """Lists what is not as it should be, the worst first."""
    findings = []
    for look in (not_finite, negative, counters, skipped):
        findings += look(fields, scalars)
    for field in fields:
        if field.numbers is not None:
            findings += [*still(field, fields, scalars), *narrow(field)]
            findings += [*below_eps(field, scalars, eps), *coarse(field)]
    return findings


def not_finite(fields, scalars) -> Iterator[Finding]:
    """NaN and infinities, which stay."""
    del scalars
    for field in fields:
        if field.not_finite:
            worst = max(field.not_finite, key=field.not_finite.__getitem__)
            bad, entries = field.not_finite[worst], field.sizes[worst]
            more = len(field.not_finite) - 1
            yield Finding(
                "not finite",
                f"{field.place} at {worst}" + (f" and {more} more" if more else ""),
                f"{bad:,} of {entries:,} entries are NaN or infinite, and stay so",
                "go back to an earlier checkpoint, and wrap the optimizer in "
                "apply_if_finite",
            )


def negative(fields, scalars) -> Iterator[Finding]:
    """Means of squares that are below 0."""
    del scalars
    for field in fields:
        numbers = field.numbers
        if field.name in SQUARES and numbers is not None and numbers.negatives:
            if not has_signs(field, fields):
                yield Finding(
                    "negative squares",
                    field.place,
                    f"{share(numbers.negatives, numbers.entries)} of the entries of a "
                    "mean of squares are below 0, and their root is NaN",
                    "go back to an earlier checkpoint, this one is damaged",
                )


def has_signs(field: Field, fields: list[Field]) -> bool:
    """Whether nu is that of `sm3`, a mean of what goes out; its mu is of lists."""
    mu = [f for f in fields if f.place == beside(field.place, "mu")]
    return bool(mu) and not mu[0].sizes.keys() & field.sizes.keys()


def counters(fields, scalars) -> Iterator[Finding]:
    """Counts of steps that say something."""
    del fields
    counts = {
        name: value
        for name, value in scalars.items()
        if name.rpartition("/")[2] in ("count", "t", "step", "gradient_step")
    }
    if zeros := [name for name, value in counts.items() if value == 0]:
        yield Finding(
            "never updated",
            " and ".join(zeros),
            "no update has been counted",
            "keep the state that update returns",
        )
    if last := [name for name, value in counts.items() if value == LAST]:
        yield Finding(
            "counter at its end",
            " and ".join(last),
            "it stays at 2³¹ - 1, and no schedule sees a later step",
            "go on with a constant schedule",
        )


def skipped(fields, scalars) -> Iterator[Finding]:
    """Steps that a wrapper left out."""
    del fields
    for name, value in scalars.items():
        last = name.rpartition("/")[2]
        if last in ("total_notfinite", "total_skipped") and value:
            row = scalars.get(beside(name, "notfinite_count"), 0)
            kind = "were not finite" if last == "total_notfinite" else "were spikes"
            yield Finding(
                "steps left out",
                name,
                f"{value:,} steps {kind}"
                + (f", the last {row:,} in a row" if row else ""),
                "lower the learning rate, or clip gradients by their norm",
            )


def still(field, fields, scalars) -> Iterator[Finding]:
    """Moments of parameters that have had no gradient."""
    numbers, steps = field.numbers, steps_of(field, scalars)
    if steps == 0 or numbers.zeros < FEW * numbers.entries:
        return
    # A first moment may be 0 here and there; and a second one says the same.
    if field.name in SIGNED:
        others = {f.place.rpartition("/")[0] for f in fields if f.name in POSITIVE}
        if numbers.zeros < numbers.entries or field.place.rpartition("/")[0] in others:
            return
    elif field.name not in SQUARES:
        return
    after = "" if steps is None else f" after {steps:,} step{'s' * (steps != 1)}"
    yield Finding(
        "no gradient",
        field.place,
        f"{share(numbers.zeros, numbers.entries)} of the entries are 0{after}: their "
        "parameters have had no gradient, or one whose square is 0 in "
        f"{' and '.join(field.dtypes)}",
        "freeze them, or look for rows that are not used and units that are dead",
    )


def below_eps(field, scalars, eps: float) -> Iterator[Finding]:
    """Second moments whose root is smaller than eps."""
    if field.name not in SQUARES:
        return
    given = [x for name, x in scalars.items() if name.endswith("hyperparams/eps")]
    eps = given[0] if len(set(given)) == 1 and given[0] > 0 else eps
    small = field.numbers.below(eps**2)
    if small >= FEW * field.numbers.entries:
        yield Finding(
            "below eps",
            field.place,
            f"{share(small, field.numbers.entries)} of the entries are below eps² = "
            f"{eps**2:.3g}: their parameters take steps of g / eps, which are smaller "
            "than the learning rate",
            "take a smaller eps, or adam_atan2, which has none",
        )


def narrow(field) -> Iterator[Finding]:
    """Second moments of 16 bits."""
    if field.name not in SQUARES:
        return
    if "bfloat16" in field.dtypes:
        yield Finding(
            "narrow squares",
            field.place,
            "a mean in bfloat16 that moves by less than 1 / 512 a step stands still "
            "where it is rounded to the nearest, as in Optax, and never decays",
            "keep it in float32, or round it by chance, as adamx does with "
            "nu_dtype=jnp.bfloat16",
        )
    if "float16" in field.dtypes:
        yield Finding(
            "narrow squares",
            field.place,
            "float16 ends at 6e-8: the squares of gradients below 1.7e-4 become 0",
            "keep it in float32 or bfloat16",
        )


def coarse(field) -> Iterator[Finding]:
    """Codes that are too few for their group."""
    bottom = field.codes.get("bottom", 0.0)
    if bottom > COARSE:
        yield Finding(
            "coarse codes",
            field.place,
            f"{bottom:.1%} of the codes of an array stand for the smallest number: the "
            "numbers of a group are further apart than codes can be",
            "take a codec with a smaller group_size",
        )


def steps_of(field: Field, scalars: Scalars) -> int | None:
    """The count beside a field."""
    counts = (scalars.get(beside(field.place, name)) for name in ("count", "t"))
    count = next((count for count in counts if count is not None), None)
    return None if count is None else int(count)


def beside(place: str, name: str) -> str:
    """The place of another field of the same state."""
    above = place.rpartition("/")[0]
    return f"{above}/{name}" if above else name


def share(part: int, whole: int) -> str:
    """A share in percent; what is there is never 0."""
    return f"{100 * part / whole:.3g} %" if part else "0"
