"""Ways to keep weights and states: adamx's and those of others, for two benchmarks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import peers

import adamx

BF16 = jnp.bfloat16
NARROW = {"mu_dtype": BF16, "nu_dtype": BF16}
DECAY = 0.1  # of weights


class Recipe(NamedTuple):
    """An AdamW, and the dtype of the weights and gradients that it is given."""

    name: str
    make: Callable[[Any], Any]  # learning rate or schedule -> transformation
    dtype: Any = jnp.float32
    ours: bool = True

    def masters(self, params: Any, state: Any) -> Any:
        """The weights in float32, with all digits that there are."""
        if isinstance(state, peers.MasterCopyState):
            return state.master
        return adamx.to_float32(params, state)


def adamw(rate, **dtypes):
    return adamx.adamw(rate, weight_decay=DECAY, **dtypes)


def bf16_states(rate):
    return adamw(rate, **NARROW)


def mixed_states(rate):
    """8 bits for mu and bfloat16 for nu: what is not float32 is not encoded."""
    return adamx.compress_state(adamw(rate, nu_dtype=BF16))


def byte_states(rate):
    return adamx.compress_state(adamw(rate))


def mastered(states, bits):
    return lambda rate: adamx.master_weights(states(rate), bits)


def optax_adamw(rate):
    return optax.adamw(rate, weight_decay=DECAY)


def peer(states):
    return lambda rate: peers.rounded_adamw(states, rate, DECAY)


FLOAT32 = Recipe("float32", adamw)
BF16_STATES = Recipe("states bf16", bf16_states)
MIXED_STATES = Recipe("states 8-bit mu, bf16 nu", mixed_states)
BYTE_STATES = Recipe("states 8-bit", byte_states)
WEIGHTS_32 = Recipe("weights bf16 + 16 bits", mastered(adamw, 32), BF16)
WEIGHTS_24 = Recipe("weights bf16 + 8 bits", mastered(adamw, 24), BF16)
WEIGHTS_32_BF16 = Recipe(
    "weights bf16 + 16 bits, states bf16", mastered(bf16_states, 32), BF16
)
WEIGHTS_24_BF16 = Recipe(
    "weights bf16 + 8 bits, states bf16", mastered(bf16_states, 24), BF16
)
SAFE = Recipe("safe: + 8 bits, 8-bit mu, bf16 nu", mastered(mixed_states, 24), BF16)
SMALL = Recipe("small: + 8 bits, states 8-bit", mastered(byte_states, 24), BF16)

OPTAX = Recipe("Optax float32", optax_adamw, ours=False)
COPY = Recipe(
    "float32 master, bf16 copy",
    lambda rate: peers.master_copy(optax_adamw(rate)),
    BF16,
    ours=False,
)
BF16_WEIGHTS = Recipe("weights bf16, states float32", adamw, BF16, ours=False)
ALL_BF16 = Recipe("Optax, all bf16", optax_adamw, BF16, ours=False)
NEAREST = [
    Recipe("states bf16, nearest", peer("bfloat16"), ours=False),
    *(
        Recipe(f"states 8-bit {name}, nearest", peer(name), ours=False)
        for name in ("quartic", "dynamic", "root", "linear")
    ),
]


class States(NamedTuple):
    """Adam's direction with states kept in some way."""

    tx: Any  # scale_by_adam, or around it
    nu: Callable[[Any], Any]  # state -> nu in float32
    ours: bool = True  # of what has limits


def directions():
    """What `shadow.py` measures: by name, ways to keep Adam's moments."""
    bf16 = adamx.scale_by_adam(**NARROW)
    others = {
        f"{name.replace('bfloat16', 'bf16')}, nearest": States(
            peers.rounded_adam(name), lambda state: state.nu, ours=False
        )
        for name in peers.STATES
    }
    return {
        "float32": States(adamx.scale_by_adam(), lambda state: state.nu),
        "bf16": States(bf16, lambda state: wide(state.nu)),
        "8-bit mu, bf16 nu": compressed(adamx.scale_by_adam(nu_dtype=BF16)),
        "8-bit": compressed(adamx.scale_by_adam()),
        "4-bit": compressed(adamx.scale_by_adam(), adamx.int4_codec(), ours=False),
        **others,
    }


def compressed(adam, codec=None, ours=True):
    """The direction of `compress_state`, and nu as it decodes it."""

    # compress_state hands the decoded state to whatever it is around.
    def look(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> Any:
        return state.nu, state

    seen = adamx.GradientTransformation(adam.init, look)
    reader = adamx.compress_state(seen, codec)
    tx = adamx.compress_state(adam, codec)
    return States(tx, lambda state: wide(reader.update(None, state)[0]), ours)


def wide(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)
