"""A row of the table of transformations.

A row names a factory of adamx and its arguments. The oracle is the function of the same
name in `tests/oracle` and the Optax twin the factory of the same name in Optax or in
its contrib, both with the same arguments unless the row says otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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
    optax_tolerance: float | None = None  # where it is off by more than most
    optax_float32: float | None = None  # the same, but in float64 it is not
    # Twins on PyTorch: a class of torch.optim, or "package.Class", and its arguments.
    torch: tuple[str, dict[str, Any]] | None = None
    torch_tolerance: float | None = None  # where the twin computes in less than float64
    aside: tuple[str, ...] = ()  # arguments that the oracle does not take
    # Tolerances of test_oracle in units in the last place: of the mean, of the worst.
    mean_ulps: float = 2.0
    max_ulps: float = 16.0
    roundings: int | None = None  # to a 16-bit dtype on the way; None: one a block
    stored: Any = None  # a dtype narrower than float32 in which a moment is kept
    random: bool = False  # rounds by bits that depend on the place in an array
    needs_params: bool = False
    elementwise: bool = True
    whole_tree: bool = False  # the oracle takes lists of all arrays
    moves: bool = False  # sees how parameters change: the oracle tests move them
    copies: bool = False  # its state starts as a copy of the parameters
    odd: bool = True  # u(-g) = -u(g)
    proportional: bool = True  # to the learning rate
    complex: bool = True  # False: complex parameters are an error
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
    def chains(self) -> list[tuple[Any, ...]]:
        """The states of the blocks of each chain that a leaf may go through."""
        states, chains = [self.tx.init(())], []
        for state in states:
            if isinstance(state, adamx.PartitionState):
                states += state.inner_states.values()
            elif isinstance(state, adamx.MaskedState):
                states.append(state.inner_state)
            else:
                chains.append(state if type(state) is tuple else (state,))
        return chains

    @functools.cached_property
    def blocks(self) -> int:
        """The number of roundings of an update: one a block of the longest chain."""
        if self.roundings is not None:
            return self.roundings
        return max(map(len, self.chains))

    @functools.cached_property
    def first_state(self) -> set[str]:
        """The parts of the state that see gradients as they came."""
        return {
            name for chain in self.chains for name in getattr(chain[0], "_fields", ())
        }

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
        unknown = STORAGE.union(self.aside)
        kwargs = {k: v for k, v in self.kwargs.items() if k not in unknown}
        for k, v in kwargs.items():
            if callable(v):
                kwargs[k] = lambda count, v=v: float(v(count))
        return getattr(oracle, self.name)(*args, **(kwargs | changes))

    def make_optax(self) -> Any:
        """Optax's twin, where there is one."""
        kwargs = self.kwargs if self.optax is None else self.optax
        library = optax if hasattr(optax, self.name) else optax.contrib
        tx = getattr(library, self.name)(**kwargs)
        return self.wrap(tx) if self.wrap else tx


def case(name: str, label: str = "", **fields: Any) -> Case:
    """A row; whatever is no field of it is an argument of the transformation."""
    known = {f.name for f in dataclasses.fields(Case)}
    kwargs = {k: v for k, v in fields.items() if k not in known}
    return Case(name, kwargs, label, **{k: v for k, v in fields.items() if k in known})


def decline(count: Any) -> jax.Array:
    """A schedule."""
    return 0.05 / (1 + jnp.asarray(count, jnp.float32))


NEW = "Optax has no such thing"
