"""What cannot work in the dtypes that are chosen, before a run is wasted on it."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from adamx._base import GradientTransformation, Params, check_in
from adamx._chain import as_transformation
from adamx._precision.following import BEFORE, averages, slow
from adamx._precision.symptoms import Sign, extremes, lost
from adamx._precision.trial import (
    gradients,
    paths_of,
    program,
    stand_ins,
    started,
    started_in_float64,
    typical,
    without_last_bits,
)


class Finding(NamedTuple):
    """Something that cannot work, as `check_numerics` reports it.

    What it is, in two words; where, by field and path; the figure that was measured and
    what it means; what to do.
    """

    what: str
    where: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}, {self.where}: {self.reason}; {self.remedy}."


def check_numerics(
    tx: GradientTransformation,
    params: Params,
    *,
    steps: int = 10_000,
    grad_size: float = 1e-3,
    max_entries: int = 4096,
    **extra_args: Any,
) -> list[Finding]:
    """Looks for what cannot work in the dtypes of a transformation, by trying it.

        lost updates      p + u = p for more than 25 % of the u that are not 0
        stalled moment    gradients fall 10 times, and nu does not follow
        stalled average   parameters move by 10 %, and a narrow mean of them does not
        underflow         more than 1 % of nu are 0 where g is not
        overflow          a state is infinite after a gradient of 1000·grad_size
        not finite        updates at gradients of 0, 1e-30, grad_size or 1e30
        exploding step    three times the exact one: usual g, or one in 64 large, then 0
        coarse state      updates 50 % off those of exact moments

    Some 500 random gradients go through `tx` itself and, beside it, through `tx` in
    float64, where no moment is narrow or encoded. So it may be of Optax, or anyone's.
    Nothing of the caller's is changed; twice the same call finds the same. Except for
    lost updates and averages, 16-bit parameters start at 0, where no update is lost.

    Args:
      tx: The transformation.
      params: The parameters, or their shapes: then normal random numbers of the size
        1 / √(fan-in) stand for them, fan-in being the product of all axes but the last.
      steps: The length of the run. Schedules are read at 16 counts up to it, and the
        largest updates there are those that must not be lost.
      grad_size: The size of a large gradient of an entry; others are up to 10 times
        smaller.
      max_entries: How many entries of a parameter are tried, from its first corner.
        `compress_state` encodes nothing smaller than its `min_size`.
      **extra_args: For `tx.update`, such as `value`.

    Returns:
      A list of `Finding`, empty if there is nothing. Each names the worst array.

    Raises:
      ValueError: A number out of its range.
      TypeError: `tx` is no transformation; a parameter not floating or complex.

    Example:
      >>> params = {"w": jnp.full((16, 16), 0.25, jnp.bfloat16)}
      >>> for finding in adamx.check_numerics(adamx.adamw(1e-5), params):
      ...     print(finding.what, finding.where)
      lost updates ['w']
      >>> adamx.check_numerics(adamx.adamw(1e-2), params)
      []

    Reference: Zamirai et al., 2020, https://arxiv.org/abs/2010.06192 (lost updates);
      Li, Chen & Zhu, 2023, https://arxiv.org/abs/2309.01507 (codes of zero)
    """
    who = "check_numerics"
    tx = as_transformation(who, "tx", tx)
    check_in(who, "steps", steps, "[1, inf)")
    check_in(who, "grad_size", grad_size, "(0, inf)")
    check_in(who, "max_entries", max_entries, "[1, inf)")
    params = stand_ins(who, params, int(max_entries))
    draw, paths = gradients(params), paths_of(params)
    step, signs = program(tx, extra_args), list[Sign]()
    bare = without_last_bits(params)
    trained = first = started(tx, step, params)
    kept = first if bare is params else started(tx, step, bare)
    try:
        exact = started_in_float64(tx, step, kept.params)
        exact.advance(draw(0, grad_size, typical))
    except (TypeError, ValueError) as error:
        exact = None
        why = f"in float64 it raises {type(error).__name__}: {error}".partition("\n")[0]
        do = "lost updates and what is not finite have been looked for, nothing else"
        signs.append(Sign("not compared", "", "", 1.0, why, do))
    # What is not finite is a finding here, and no warning.
    with np.errstate(all="ignore"):
        signs += extremes(kept, exact, draw, paths, grad_size)
        for t in range(BEFORE):
            _, trained = trained.advance(draw(t, grad_size, typical))
        signs += lost(trained, draw, paths, steps, grad_size)
        if exact is not None:
            signs += slow(kept, exact, draw, paths, grad_size)
            if bare is not params:
                exact = started_in_float64(tx, step, params)
            signs += averages(first, exact, draw, steps, grad_size)
    return gathered(signs)


def gathered(signs: Iterable[Sign]) -> list[Finding]:
    """One finding for each kind and field, with the figure of the worst array."""
    groups: dict[tuple[str, str], list[Sign]] = {}
    for sign in signs:
        groups.setdefault((sign.what, sign.field), []).append(sign)
    findings = []
    for group in groups.values():
        worst = max(group, key=lambda sign: sign.amount)
        others = len({sign.path for sign in group}) - 1
        where = " at ".join(filter(None, (worst.field, worst.path)))
        where = where or "the parameters"
        where += f" and {others} more" if others else ""
        findings.append(Finding(worst.what, where, worst.reason, worst.remedy))
    return findings
