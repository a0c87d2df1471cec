"""The table of transformations: one row gives a transformation all its tests.

A row names a factory of adamx and its arguments. The oracle is the function of the same
name in `tests/oracle.py` and the Optax twin the factory of the same name in Optax, both
with the same arguments unless the row says otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
from streams import SHAPES

import adamx

STORAGE = {"mu_dtype", "nu_dtype", "accumulator_dtype"}  # unknown to the oracle


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A transformation and what the tests need to know about it."""

    name: str  # adamx.NAME, and unless said otherwise oracle.NAME and optax.NAME
    kwargs: dict[str, Any]
    label: str = ""  # tells apart rows with the same name
    # Optax's twin: its arguments, None for the same ones, or why there is none.
    optax: dict[str, Any] | str | None = None
    # PyTorch's twin: a class of torch.optim and its arguments.
    torch: tuple[str, dict[str, Any]] | None = None
    # Tolerances of test_oracle in units in the last place: of the mean, of the worst.
    mean_ulps: float = 2.0
    max_ulps: float = 16.0
    stored: Any = None  # a dtype narrower than float32 in which a moment is kept
    needs_params: bool = False
    elementwise: bool = True
    whole_tree: bool = False  # the oracle takes a list of all arrays
    odd: bool = True  # u(-g) = -u(g)
    complex: bool = True
    magnitude: Callable[..., Any] | None = None  # see tests/compare.py
    without: tuple[str, ...] = ()  # streams for which it is ill-conditioned
    wrap: Callable[..., Any] | None = None  # what is put around it

    @property
    def id(self) -> str:
        """The name of the row in a report."""
        return f"{self.name}-{self.label}" if self.label else self.name

    @property
    def shapes(self) -> Any:
        """The shapes of its parameters; one array compiles faster where it suffices."""
        return {"w": (23,)} if self.elementwise else SHAPES

    @functools.cached_property
    def tx(self) -> adamx.GradientTransformation:
        """The transformation, one for all tests, which then share what is compiled."""
        return self.make()

    @functools.cached_property
    def blocks(self) -> int:
        """The number of blocks that the transformation is a chain of."""
        state = self.tx.init(())
        return len(state) if type(state) is tuple else 1

    @functools.cached_property
    def first_state(self) -> set[str]:
        """The parts of the state that see gradients as they came."""
        state = self.tx.init(())
        return set(getattr(state[0] if type(state) is tuple else state, "_fields", ()))

    @property
    def takes_rate(self) -> bool:
        """Whether the learning rate is a number, so that it can be varied."""
        return isinstance(self.kwargs.get("learning_rate"), float)

    def make(self, **changes: Any) -> adamx.GradientTransformation:
        """The transformation."""
        tx = getattr(adamx, self.name)(**(self.kwargs | changes))
        return self.wrap(tx) if self.wrap else tx

    def step(self, *args: Any, **changes: Any) -> Any:
        """One step of the oracle."""
        kwargs = {k: v for k, v in self.kwargs.items() if k not in STORAGE}
        for k, v in kwargs.items():
            if callable(v):
                kwargs[k] = lambda count, v=v: float(v(count))
        return getattr(oracle, self.name)(*args, **(kwargs | changes))

    def make_optax(self) -> Any:
        """Optax's twin, where there is one."""
        kwargs = self.kwargs if self.optax is None else self.optax
        return getattr(optax, self.name)(**kwargs)


def case(name: str, label: str = "", **fields: Any) -> Case:
    """A row; whatever is no field of it is an argument of the transformation."""
    known = {f.name for f in dataclasses.fields(Case)}
    kwargs = {k: v for k, v in fields.items() if k not in known}
    return Case(name, kwargs, label, **{k: v for k, v in fields.items() if k in known})


def decline(count: Any) -> jax.Array:
    """A schedule."""
    return 0.05 / (1 + jnp.asarray(count, jnp.float32))


def centralized(case, state, g, p, t):
    """The magnitude of g - mean, which cancels, as the mean itself does."""
    if g.ndim < 2:
        return np.abs(g), state
    axes = tuple(range(1, g.ndim))
    return np.abs(g) + np.mean(np.abs(g), axis=axes, keepdims=True), state


def centered(case, state, g, p, t):
    """The magnitude of g/√(nu - |mu|²): an error of nu weighs nu over what is left."""
    outer = {"momentum": None} if case.name == "rmsprop" else {}
    u, true = case.step(state.get("true", {}), g, p, t, **outer)
    _, size = case.step(state.get("size", {}), np.abs(g), np.abs(p), t, **outer)
    decay = case.kwargs.get("decay", 0.9)
    c = 1.0
    if case.kwargs.get("bias_correction"):
        c = oracle.one_minus_power(decay, t)
    nu, left = true["nu"] / c, true["nu"] / c - oracle.abs_sq(true["mu"] / c)
    u = np.abs(u) * (1 + nu / (np.maximum(left, 0) + 1e-8))
    new = {"true": true, "size": size, **size}
    if "momentum" in case.kwargs:
        u, velocity = oracle.trace(state, u, p, t, case.kwargs["momentum"])
        new |= velocity
    return u, new


NEW = "Optax has no such thing"

CASES = [
    # Blocks without a memory of gradients.
    case("identity"),
    case("set_to_zero"),
    case("scale", step_size=-0.3),
    case("scale_by_learning_rate", learning_rate=0.01),
    case("scale_by_learning_rate", "uphill", learning_rate=0.01, flip_sign=False),
    case("scale_by_learning_rate", "none", optax="Optax forgets the sign"),
    case("scale_by_schedule", step_size_fn=decline),
    case("add_decayed_weights", weight_decay=0.1, needs_params=True),
    case("add_decayed_weights", "schedule", weight_decay=decline, needs_params=True),
    case("bias_correction", optax=NEW),
    case("bias_correction", "slow", b1=0.0, b2=0.99999, optax=NEW),
    case("clip", max_delta=1.0, complex=False),
    case("clip_by_global_norm", max_norm=1.0, elementwise=False, whole_tree=True),
    case("clip_by_block_rms", threshold=0.5, elementwise=False),
    case("adaptive_grad_clip", clipping=0.1, needs_params=True, elementwise=False),
    case("centralize", elementwise=False, magnitude=centralized),
    case("zero_nans", elementwise=False),
    # First moments.
    case("trace", decay=0.9),
    case("trace", "nesterov", decay=0.9, nesterov=True),
    case("ema", decay=0.9),
    case("ema", "raw", decay=0.999, debias=False),
    case("sgd", learning_rate=0.01, torch=("SGD", {"lr": 0.01})),
    case("sgd", "momentum", learning_rate=0.01, momentum=0.9),
    case("sgd", "nesterov", learning_rate=decline, momentum=0.9, nesterov=True),
    # Second moments.
    case("scale_by_rss", mean_ulps=6.0, max_ulps=32.0),  # a sum of 100 terms
    case("scale_by_rms"),
    case(
        "scale_by_rms", "corrected", decay=0.99, eps_in_sqrt=False, bias_correction=True
    ),
    case("scale_by_rms", "warm", initial_scale=1.0),
    case("scale_by_stddev", magnitude=centered),
    case(
        "scale_by_stddev",
        "corrected",
        eps=1e-2,
        bias_correction=True,
        magnitude=centered,
        max_ulps=64.0,
        without=("large",),  # at t = 1 nothing is left of nu but its rounding
    ),
    case("adagrad", learning_rate=0.01, mean_ulps=6.0, max_ulps=32.0),
    case(
        "adagrad",
        "torch",
        learning_rate=0.01,
        initial_accumulator_value=0.0,
        eps=1e-10,
        eps_in_sqrt=False,
        mean_ulps=6.0,
        max_ulps=32.0,
        optax=NEW,
        torch=("Adagrad", {"lr": 0.01}),
    ),
    case("rmsprop", learning_rate=0.01),
    case(
        "rmsprop",
        "torch",
        learning_rate=0.01,
        decay=0.99,
        eps_in_sqrt=False,
        torch=("RMSprop", {"lr": 0.01}),
    ),
    case("rmsprop", "momentum", learning_rate=decline, momentum=0.9, nesterov=True),
    case(
        "rmsprop",
        "centered",
        learning_rate=0.01,
        decay=0.99,
        eps_in_sqrt=False,
        centered=True,
        momentum=0.9,
        magnitude=centered,
        torch=("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.9}),
    ),
    # The Adam family.
    case("scale_by_adam"),
    case("scale_by_adam", "b1=0", b1=0.0, b2=0.9),
    case(
        "scale_by_adam",
        "short",
        b1=0.1,
        b2=0.1,
        without=("sparse",),  # after 38 zeros nu is below the least float32
    ),
    case("scale_by_adam", "slow", b1=0.99, b2=0.99999, mean_ulps=5.0, max_ulps=32.0),
    case("scale_by_adam", "nesterov", nesterov=True),
    case("scale_by_adam", "eps_root", eps=1e-4, eps_root=1e-4),
    case("scale_by_adam", "raw", debias=False, optax=NEW),
    case(
        "scale_by_adam",
        "bfloat16",
        mu_dtype=jnp.bfloat16,
        stored=jnp.bfloat16,
        complex=False,
    ),
    case("scale_by_amsgrad"),
    case("scale_by_amsgrad", "mu", bias_correction_nu=False),
    case("scale_by_amsgrad", "nu", bias_correction_mu=False, b2=0.99),
    case("scale_by_amsgrad", "torch", variant="torch", optax=NEW),
    case("scale_by_amsgrad", "paper", variant="paper", optax=NEW),
    case("adam", learning_rate=0.01, torch=("Adam", {"lr": 0.01})),
    case("adam", "schedule", learning_rate=decline, b1=0.95, b2=0.99),
    case(
        "adamw",
        learning_rate=0.01,
        weight_decay=0.1,
        needs_params=True,
        torch=("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ),
    case(
        "adamw", "schedule", learning_rate=0.01, weight_decay=decline, needs_params=True
    ),
    case("nadam", learning_rate=0.01),
    case("nadamw", learning_rate=0.01, weight_decay=0.1, needs_params=True),
    case("amsgrad", learning_rate=0.01),
    case(
        "amsgrad",
        "torch",
        learning_rate=0.01,
        variant="torch",
        optax=NEW,
        torch=("Adam", {"lr": 0.01, "amsgrad": True}),
    ),
    case(
        "amsgrad",
        "decay",
        learning_rate=0.01,
        weight_decay=0.1,
        variant="torch",
        optax=NEW,
        needs_params=True,
        torch=("AdamW", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ),
]


def wrapped(case_id: str, label: str, wrap: Callable[..., Any]) -> Case:
    """A row of the table with something around it, for which there is no oracle."""
    return dataclasses.replace(find(case_id), label=label, wrap=wrap)


def find(case_id: str) -> Case:
    """The row with that name."""
    return next(case for case in CASES if case.id == case_id)


IS_MATRIX = adamx.by_path(lambda path: path.startswith("w"))
GROUPS = adamx.by_path(lambda path: "body" if path.startswith("w") else "head")

WRAPPED = [
    wrapped("adamw", "masked", lambda tx: adamx.masked(tx, IS_MATRIX)),
    wrapped("adam", "frozen", lambda tx: adamx.chain(tx, adamx.freeze(IS_MATRIX))),
    wrapped(
        "amsgrad",
        "selective",
        lambda tx: adamx.selective_transform(tx, freeze_mask=IS_MATRIX),
    ),
    wrapped(
        "adam",
        "partition",
        lambda tx: adamx.partition({"body": tx, "head": adamx.sgd(0.1)}, GROUPS),
    ),
    wrapped(
        "nadamw",
        "clipped",
        lambda tx: adamx.named_chain(
            ("clip", adamx.clip_by_global_norm(1.0)), ("nadamw", tx)
        ),
    ),
]
