"""Bytes of Flax: the same bits, and clear words for what does not fit."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import FIRST
from flax import nnx, serialization
from meshes import make_mesh, on

import adamx
from adamx.interop.flax import from_bytes, to_bytes
from interop.checkpoints import END, MISFITS, PARAMS, TX, W, assert_same, scrambled

DATA = to_bytes(W, TX.init(W))


@pytest.mark.parametrize("case", FIRST.values(), ids=lambda case: case.id)
def test_every_state_comes_back(case):
    state = scrambled(case.tx.init(PARAMS))
    got = from_bytes(case.tx, PARAMS, to_bytes(PARAMS, state))
    assert_same(got, (PARAMS, state))


def test_narrow_states_come_back():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    for tx in (
        adamx.master_weights(adamx.compress_state(TX, min_size=0), bits=24),
        adamx.compress_state(TX, {"mu": adamx.int4_codec()}, min_size=0),
        adamx.adamw(0.1, mu_dtype=jnp.float8_e4m3fn),
    ):
        state = scrambled(tx.init(params))
        got = from_bytes(tx, params, to_bytes(params, state))
        assert_same(got, (params, state))


def test_onto_other_devices():
    params = {"w": jnp.arange(64.0, dtype=jnp.float32).reshape(16, 4)}
    split = {"w": jax.device_put(params["w"], on(make_mesh(), "data"))}
    state = scrambled(TX.init(params))
    data = to_bytes(split, state)
    assert to_bytes(params, state) == data
    got, new = from_bytes(TX, split, data)
    assert_same((got, new), (split, state))
    assert got["w"].sharding == new[0].mu["w"].sharding == split["w"].sharding
    shardings = adamx.state_shardings(TX, params, make_mesh(), zero1="data")
    _, new = from_bytes(TX, params, data, shardings=shardings)
    assert new[0].mu["w"].sharding == shardings[0].mu["w"]


def test_variables_of_flax_come_back_as_dictionaries():
    params = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Param)
    params = nnx.to_pure_dict(params)
    state = scrambled(TX.init(params))
    assert_same(from_bytes(TX, params, to_bytes(params, state)), (params, state))


def test_flax_reads_it_too():
    tree = serialization.msgpack_restore(DATA)
    params = serialization.from_state_dict(W, tree["params"])
    np.testing.assert_array_equal(params["w"], W["w"])
    state = serialization.from_state_dict(TX.init(W), tree["opt_state"])
    assert state[0].count == 0


# ---- what does not fit


@pytest.mark.parametrize("name", MISFITS)
def test_all_that_does_not_fit_is_one_error(name):
    tx, params, text = MISFITS[name]
    text = "^" + re.escape(f"from_bytes: {text}{END}") + "$"
    with pytest.raises(ValueError, match=text):
        from_bytes(tx, params, DATA)


def changed(change):
    tree = serialization.msgpack_restore(DATA)
    change(tree)
    return serialization.msgpack_serialize(tree)


def with_row(**row):
    def change(tree):
        saved = json.loads(tree["adamx"])
        saved["fields"]["params"]["arrays"]["['w']"].update(row)
        tree["adamx"] = json.dumps(saved)

    return changed(change)


ONE = np.ones(1, np.float32).tobytes()
FOREIGN = "from_bytes: expected what to_bytes makes, got {} bytes, which is damaged or "
FOREIGN += "something else ("
OTHERS = "from_bytes: expected the numbers that were saved, got others at params['w']"
OTHERS += "; the bytes are damaged: save it again."


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (DATA[:-50], FOREIGN),
        (b"", FOREIGN),
        (b"no msgpack at all", FOREIGN),
        (serialization.to_bytes(W), FOREIGN + "KeyError: 'adamx'); save it again."),
        (
            changed(lambda tree: tree.pop("params")),
            FOREIGN + "KeyError: 'params'); save it again.",
        ),
        (
            changed(lambda tree: tree["params"].pop("w")),
            FOREIGN,
        ),
        (DATA.replace(ONE, np.float32(1.5).tobytes(), 1), OTHERS),
        (
            changed(lambda tree: tree["params"].update(w=tree["params"]["w"].T)),
            OTHERS,
        ),
        (changed(lambda tree: tree["params"].update(w=3)), OTHERS),
        (with_row(checksum=3), OTHERS),
        (
            with_row(type=3),
            "from_bytes: expected a description by adamx, got something else (Attr",
        ),
    ],
)
def test_what_is_damaged_is_an_error(data, text):
    text = "^" + re.escape(text.format(len(data)))
    with pytest.raises(ValueError, match=text) as caught:
        from_bytes(TX, W, data)
    assert "\n" not in str(caught.value)


def test_what_is_no_bytes():
    text = "^from_bytes: expected what to_bytes makes, got NoneType, which is damaged"
    with pytest.raises(ValueError, match=text):
        from_bytes(TX, W, None)
