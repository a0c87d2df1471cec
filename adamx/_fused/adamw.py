"""Adam and AdamW whose step includes the parameters, in one pass over memory."""

from typing import Any

from adamx._base import MaskOrFn, Scalar, ScalarOrSchedule
from adamx._fused.coded import Compression
from adamx._fused.step import FusedOptimizer, Hyperparameters, fused
from adamx._optimizers.adam import adam
from adamx._optimizers.adamw import adamw
from adamx._precision.codec import Codec


def fused_adam(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    max_norm: Scalar | None = None,
    codec: Codec | None = None,
    min_size: int = 4096,
    rounding: str | None = None,
    seed: int = 0,
) -> FusedOptimizer:
    """Makes the fused form of `adam`; all that `fused_adamw` says holds for it.

    Args:
      learning_rate: As in `adam`, like all that follow.
      b1: In [0, 1).
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      nesterov: Whether to look ahead.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      max_norm: Of the gradients, in (0, ∞), to which `clip_by_global_norm` scales them
        down; None leaves them as they are.
      codec: Keeps mu and nu in codes, as `compress_state` does; None does not.
      min_size: As in `compress_state`, like all that follow.
      rounding: "nearest" or "stochastic"; None is the latter for nu alone.
      seed: Of the random bits.

    Returns:
      A `FusedOptimizer`. State: that of `adam`, with a codec `CompressedState`.

    Raises:
      ValueError: As in `adam`; with a codec as in `compress_state`.
      TypeError: As in `adam`; a `codec` that is not one `Codec`.

    Example:
      >>> tx = adamx.fused_adam(1e-3)
      >>> params = jnp.array([1.0])
      >>> params, state = tx.step(params, jnp.array([0.3]), tx.init(params))
      >>> print(params)
      [0.999]
    """
    moments = (b1, b2, eps, eps_root, mu_dtype)
    tx = adam(learning_rate, *moments, nesterov=nesterov, nu_dtype=nu_dtype)
    given = Hyperparameters(learning_rate, b1, b2, eps, eps_root, None, max_norm)
    codes = None if codec is None else Compression(codec, min_size, rounding, seed)
    return fused("fused_adam", tx, given, mu_dtype, nu_dtype, None, nesterov, codes)


def fused_adamw(
    learning_rate: ScalarOrSchedule,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    mu_dtype: Any = None,
    weight_decay: ScalarOrSchedule = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = False,
    nu_dtype: Any = None,
    max_norm: Scalar | None = None,
    codec: Codec | None = None,
    min_size: int = 4096,
    rounding: str | None = None,
    seed: int = 0,
) -> FusedOptimizer:
    """Makes the fused form of `adamw`: a step that includes the parameters.

        params, state = tx.step(params, grads, state)

    The same numbers and the same state as `updates, state = adamw(...).update(...)` and
    `apply_updates`: a run can change between the two at any step. On GPU and TPU it is
    these two, of which XLA makes one kernel per leaf. On CPU, where XLA goes over
    memory three times, it is one pass in C++ over all leaves, vectorized and with the
    threads of XLA. Jit it and donate parameters and state, which are then updated in
    place: `jax.jit(tx.step, donate_argnums=(0, 2))`.

    Where `grads` has `SparseRows` for a table, as `sum_rows` makes them, the step is
    that of `on_rows(adamw(...))`: of the table and its moments only these rows are read
    and written. The mask sees the rows as the table.

    The kernel takes parameters, gradients and moments of float32 and bfloat16; other
    leaves, derivatives, and arrays that are split over a mesh, go the way of GPUs. Of a
    mesh the kernel knows nothing but under `shard_map`. `tx.on_cpu` says whether it is
    there: it is compiled when adamx is installed, if there is a C++ compiler.

    With `codec=companded_codec()` state and numbers are those of
    `compress_state(adamw(...), codec)`, 2.06 bytes of state a parameter, and this is
    still one pass on CPU: decoding, the step and encoding. Groups of more than 512
    entries, and other codecs, go the way of GPUs, too.

    Args:
      learning_rate: As in `adamw`, like all that follow.
      b1: In [0, 1).
      b2: In [0, 1).
      eps: In [0, ∞).
      eps_root: In [0, ∞).
      mu_dtype: Dtype in which mu is kept, or a `Storage`; None is float32 or wider.
      weight_decay: As in `add_decayed_weights`.
      mask: Where to decay, as in `masked`; None is everywhere.
      nesterov: Whether to look ahead.
      nu_dtype: Dtype in which nu is kept, or a `Storage`; None is float32 or wider.
      max_norm: Of the gradients, in (0, ∞), to which `clip_by_global_norm` scales them
        down, without writing them; None leaves them as they are.
      codec: Keeps mu and nu in codes, as `compress_state` does; None does not.
      min_size: As in `compress_state`, like all that follow.
      rounding: "nearest" or "stochastic"; None is the latter for nu alone.
      seed: Of the random bits.

    Returns:
      A `FusedOptimizer`. State: that of `adamw`, with a codec `CompressedState`.

    Raises:
      ValueError: As in `adamw` and `compress_state`; a `max_norm` out of its range; at
        step, trees that do not match, a state of another codec.
      TypeError: As in `adamw`; a `codec` that is not one `Codec`.

    Differs from `adamw`: gradients of 16 bits are widened first, so that updates are
      not rounded to 16 bits on their way to the parameters.

    `jax.export` for CPU refuses the kernel, which another process may lack; export
    `adamw` instead, or with ADAMX_NO_KERNEL=1 in the environment.

    Example:
      >>> tx = adamx.fused_adamw(0.1, weight_decay=0.5)
      >>> params = jnp.array([1.0])
      >>> params, state = tx.step(params, jnp.array([0.3]), tx.init(params))
      >>> print(params)
      [0.85]
    """
    moments = (b1, b2, eps, eps_root, mu_dtype)
    decay = (weight_decay, mask)
    tx = adamw(learning_rate, *moments, *decay, nesterov=nesterov, nu_dtype=nu_dtype)
    numbers = (learning_rate, b1, b2, eps, eps_root, weight_decay, max_norm)
    given = Hyperparameters(*numbers)
    codes = None if codec is None else Compression(codec, min_size, rounding, seed)
    return fused("fused_adamw", tx, given, mu_dtype, nu_dtype, mask, nesterov, codes)
