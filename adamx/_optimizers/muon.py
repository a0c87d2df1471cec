"""Muon: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adamx._align import at
from adamx._base import (
    Array,
    GradientTransformation,
    MaskOrFn,
    Params,
    Scalar,
    ScalarOrSchedule,
    Updates,
    check_choice,
    check_flags,
    check_in,
    check_state,
    describe,
    storage_dtype,
)
from adamx._chain import chain
from adamx._dtypes import is_complex
from adamx._masking import partition
from adamx._numerics import (
    complement,
    float64,
    hyperparameter,
    increment,
    lerp,
    one_minus_power,
    product,
    split,
    times,
)
from adamx._optimizers.adamw import adamw
from adamx._rounding import storage_of
from adamx._transforms.decay import descent
from adamx._transforms.orthogonalize import (
    MATRIX,
    PRECONDITIONINGS,
    STANDARD,
    Matrices,
    from_matrices,
    matrices_by,
    named_coefficients,
    orthogonalize,
    scale_by_shape,
    to_matrices,
)
from adamx._tree import map_leaves, zero_count, zeros_like


class MuonState(NamedTuple):
    """State of `scale_by_muon`."""

    count: Array  # i32[]; updates applied so far
    mu: Updates  # like params; running mean of g
    ns_coeffs: Array  # f32[3] or f32[n,3]; coefficients of the iteration


def scale_by_muon(
    ns_coeffs: Any = STANDARD,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Any = None,
    debias: bool = True,
    ns_dtype: Any = None,
) -> GradientTransformation:
    """Replaces matrices by nearly orthogonal ones: their momentum without its sizes.

        mu = mu + (1 - beta)·(g - mu)
        x = beta·mu / (1 - beta^(t + 1)) + (1 - beta)·g / (1 - beta^t),   t = count + 1
        x = x / (‖x‖ + eps),   ‖x‖ = √(Σ |x|²)
        ns_steps times:  x = a·x + b·(x·xᴴ)·x + c·(x·xᴴ)²·x
        u = x

    An update U·S·Vᴴ becomes U·S'·Vᴴ with S' in about [0.7, 1.2]; singular values below
    about 1/500 of ‖x‖ stay smaller. Where rows outnumber columns, the smaller product
    xᴴ·x takes the place of x·xᴴ.

    Args:
      ns_coeffs: (a, b, c); or rows of these, one for each iteration; or the name of
        such, "standard" or "dion".
      ns_steps: The number of iterations, at least 1; where ns_coeffs has rows, they
        are the iterations.
      beta: Decay of mu per step, in [0, 1).
      eps: Added to the norm, in units of the gradient; in [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead; without it x = mu / (1 - beta^t).
      adaptive: Whether to multiply each matrix by its dual norm, Σ x·u, about the sum
        of the singular values of x.
      preconditioning: How x is scaled before the iteration: "frobenius", as above;
        "spectral", by its largest singular value, which costs much; "schatten", by
        (Σ |x·xᴴ|²)^(1/4), and "aol", each row i by √(Σⱼ |x·xᴴ|ᵢⱼ), which cost nothing;
        the last three leave less to the iteration. eps is the least norm, for the
        last two the least square of it.
      weight_dimension_numbers: The axes that are the matrix of a leaf: a tree of
        `MuonDimensionNumbers` like the parameters, a prefix of one, a function from a
        tree of shapes to such a tree, or `by_path(rule)`; None expects matrices.
      debias: Whether to correct for the start at zero; without it x = beta·mu +
        (1 - beta)·g, as PyTorch has it, which other x only near eps or if adaptive.
      ns_dtype: Dtype of the factors of its products; None is float32 or wider,
        jnp.bfloat16, as in PyTorch, is faster on accelerators and off by 1 %;
        jnp.float16 by 0.2 %.

    Returns:
      A transformation. State: `MuonState`, one array for each parameter.

    Raises:
      ValueError: A number out of its range, an unknown name, coefficients of another
        shape; at init, a leaf that is no matrix; at update, trees that do not match.
      TypeError: A wrong kind of argument; a parameter not floating or complex.

    Differs from Optax: ns_coeffs may have more rows than ns_steps; adaptive goes by
      matrix, where Optax sums over all that a leaf stacks; "schatten" is right for
      complex parameters; 16-bit parameters get a float32 mu.

    Example:
      >>> tx = adamx.scale_by_muon()
      >>> g = jnp.array([[3.0, 0.0], [0.0, -0.1]])
      >>> print(jnp.diag(tx.update(g, tx.init(g))[0]).round(2))
      [ 0.7  -1.13]

    Reference: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon; adaptive:
      Bernstein & Newhouse, 2024, https://arxiv.org/abs/2409.20325; "aol": Boissin et
      al., 2025, https://arxiv.org/abs/2512.04632; "schatten": Grishina et al., 2025,
      https://arxiv.org/abs/2506.10935; "dion": Ahn et al., 2025,
      https://arxiv.org/abs/2504.05295
    """
    who = "scale_by_muon"
    check_in(who, "beta", beta, "[0, 1)")
    check_in(who, "eps", eps, "[0, inf)")
    check_flags(who, nesterov=nesterov, adaptive=adaptive, debias=debias)
    check_choice(who, "preconditioning", preconditioning, PRECONDITIONINGS)
    if not isinstance(ns_steps, int) or ns_steps < 1:
        raise ValueError(
            f"{who}: expected ns_steps as an integer from 1, got {ns_steps}."
        )
    ns_coeffs = named_coefficients(who, ns_coeffs)
    ns_dtype = storage_dtype(who, "ns_dtype", ns_dtype, real=True)
    b, w = hyperparameter(beta), complement(beta)
    storage = storage_of(who, "mu_dtype", mu_dtype, w)
    plans_of = matrices_by(who, "weight_dimension_numbers", weight_dimension_numbers)

    def plans(tree: Any) -> list[Matrices]:
        found = plans_of(tree)
        for i, plan in enumerate(found):
            if plan is None:
                got = describe(jax.tree.leaves(tree)[i])
                raise ValueError(
                    f"{who}: expected a matrix, got {got}{at(tree, i)}; give its "
                    "weight_dimension_numbers, or leave it to Adam with adamx.muon."
                )
        return found

    def init(params: Params) -> MuonState:
        plans(params)
        mu = zeros_like(who, params, storage)
        coefficients = jnp.asarray(ns_coeffs, jnp.result_type(float))
        return MuonState(zero_count(), mu, coefficients)

    @jax.jit
    def corrections(count: Array) -> tuple[Any, ...]:
        with float64():
            c, c_next = jnp.ones([], jnp.float64), jnp.ones([], jnp.float64)
            if debias:
                c, c_next = (one_minus_power(w, t) for t in (count, increment(count)))
            return split(b / c_next, w / c) if nesterov else split(1.0 / c, 0.0)

    def leaf(
        g: Array, mu: Array, ahead: Any, now: Any, coefficients: Array, plan: Matrices
    ) -> tuple[Array, Array]:
        if ns_dtype is not None and is_complex(g.dtype):
            raise TypeError(
                f"{who}: expected no ns_dtype for complex updates, got {ns_dtype}; "
                "leave it out."
            )
        mu = lerp(mu, g, w)
        m = times(mu, ahead) + times(g, now) if nesterov else times(mu, ahead)
        x = to_matrices(m, plan)
        u = orthogonalize(x, coefficients, ns_steps, eps, preconditioning, ns_dtype)
        if adaptive:
            dual = x.real * u.real + x.imag * u.imag if is_complex(x.dtype) else x * u
            u = product(u, jnp.sum(dual, MATRIX, keepdims=True))
        return from_matrices(u, plan, g.shape), mu

    def update(
        updates: Updates, state: MuonState, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, MuonState]:
        del params, extra_args
        check_state(who, state, MuonState)
        count = increment(state.count)
        updates, mu = map_leaves(
            who,
            leaf,
            updates,
            state.mu,
            scalars=(*corrections(count), state.ns_coeffs),
            plans=plans(updates),
            storages=(storage,),
            count=count,
        )
        return updates, MuonState(count, mu, state.ns_coeffs)

    return GradientTransformation(init, update)


def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = STANDARD,
    ns_steps: int = 5,
    beta: Scalar = 0.95,
    eps: Scalar = 1e-8,
    weight_decay: ScalarOrSchedule = 0.0,
    weight_decay_mask: MaskOrFn | None = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Scalar = 0.9,
    adam_b2: Scalar = 0.999,
    adam_eps_root: Scalar = 0.0,
    adam_weight_decay: ScalarOrSchedule = 0.0,
    adam_learning_rate: ScalarOrSchedule | None = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: Scalar | None = None,
    adam_eps: Scalar | None = None,
    adam_nu_dtype: Any = None,
    debias: bool = True,
    ns_dtype: Any = None,
) -> GradientTransformation:
    """Makes Muon for matrices, with AdamW for all other parameters.

        matrices:  u = -learning_rate·(scale·orthogonal(x) + weight_decay·p)
                   scale = √max(1, fan_out / fan_in)
        others:    u = -adam_learning_rate·(Adam's ratio + adam_weight_decay·p)

    Embeddings and the head are best left to Adam, as its authors do:
    `muon_weight_dimension_numbers=by_path(lambda path: "embed" not in path)`.

    Args:
      learning_rate: As in `scale_by_learning_rate`; about the spectral norm of a step.
      ns_coeffs: As in `scale_by_muon`, like all up to `eps`.
      ns_steps: The number of iterations.
      beta: In [0, 1).
      eps: In [0, ∞); for Adam, too.
      weight_decay: Of matrices, as in `add_decayed_weights`.
      weight_decay_mask: Which matrices decay, as in `masked`; None is all.
      mu_dtype: Dtype in which mu is kept, for Adam, too, or a `Storage`; None is
        float32 or wider.
      nesterov: Whether to look ahead, for Adam, too.
      adaptive: As in `scale_by_muon`.
      preconditioning: As in `scale_by_muon`.
      adam_b1: As in `scale_by_adam`.
      adam_b2: As in `scale_by_adam`.
      adam_eps_root: As in `scale_by_adam`.
      adam_weight_decay: Of all other parameters, as in `adamw`.
      adam_learning_rate: Of all other parameters; None is `learning_rate`.
      muon_weight_dimension_numbers: Which leaves are matrices: a tree like the
        parameters of True (if of rank 2), False or None (never) and
        `MuonDimensionNumbers`; a prefix of one, a function from a tree of shapes to
        such a tree, or `by_path(rule)`. None is True for all.
      consistent_rms: None, or the scale is consistent_rms·√max(fan_in, fan_out), with
        which 0.2 gives steps of the size of Adam's.
      adam_eps: As in `scale_by_adam`; None is `eps`.
      adam_nu_dtype: Dtype in which Adam's nu is kept, or a `Storage`; None is float32
        or wider.
      debias: As in `scale_by_muon`.
      ns_dtype: As in `scale_by_muon`.

    Returns:
      A transformation. State: `PartitionState` with the labels "muon", whose states
      are `(MuonState, EmptyState, EmptyState, EmptyState)`, and "adam", as of `adamw`.

    Raises:
      ValueError: As in `scale_by_muon`, `adamw` and `scale_by_learning_rate`.
      TypeError: As in these.

    Differs from Optax: as `scale_by_muon` and `adamw`.
    Differs from PyTorch: its matrices are [out, in], `MuonDimensionNumbers(1, 0)` here;
      it has debias=False, ns_dtype=jnp.bfloat16, weight_decay=0.1 and no Adam.

    Example:
      >>> tx = adamx.muon(0.1, adam_learning_rate=0.01)
      >>> params = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
      >>> grads = {"kernel": jnp.diag(jnp.array([3.0, -1.0])), "bias": jnp.ones(2)}
      >>> updates, state = tx.update(grads, tx.init(params), params)
      >>> print(jnp.diag(updates["kernel"]).round(4), updates["bias"].round(4))
      [-0.0753  0.1134] [-0.0147 -0.0147]

    Reference: Jordan et al., 2024, https://kellerjordan.github.io/posts/muon;
      consistent_rms: Liu et al., 2025, section 2.2, https://arxiv.org/abs/2502.16982
    """
    who, rule = "muon", muon_weight_dimension_numbers
    plans_of = matrices_by(who, "muon_weight_dimension_numbers", rule)

    def labels(shapes: Any) -> Any:
        names = ["adam" if plan is None else "muon" for plan in plans_of(shapes)]
        return jax.tree.structure(shapes).unflatten(names)

    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
            weight_dimension_numbers=rule,
            debias=debias,
            ns_dtype=ns_dtype,
        ),
        scale_by_shape(who, rule, consistent_rms),
        *descent(who, learning_rate, weight_decay, weight_decay_mask),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps if adam_eps is None else adam_eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
        nu_dtype=adam_nu_dtype,
    )
    return partition({"muon": matrices, "adam": others}, labels)
