"""Where the arrays of a state lie: as their parameters, or as what is left of them."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from cases import CASES, WRAPPED
from flax import nnx
from jax import ShapeDtypeStruct as Shape
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from meshes import AUTO, EXPLICIT, axes, bytes_on_a_device, make_mesh, on
from streams import is_shape

import adamx
from adamx._sharding import states

GRID = ("data", "model")
SPECS = {"w": P("data", "model"), "b": P("model"), "x": P()}
SHAPES = {
    "w": Shape((64, 256), jnp.float32),
    "b": Shape((256,), jnp.float32),
    "x": Shape((), jnp.float32),
}


def grid(kind=AUTO):
    return make_mesh(kind, (4, 2), GRID)


def layouts(shardings, shapes):
    """What splits each axis, by path."""
    rows = jax.tree_util.tree_leaves_with_path(shapes)
    return {
        jax.tree_util.keystr(path): axes(sharding, x.ndim)
        for (path, x), sharding in zip(rows, jax.tree.leaves(shardings), strict=True)
    }


def found(tx, shapes=SHAPES, specs=SPECS, **kwargs):
    """The layout of each array of a state."""
    shardings = adamx.state_shardings(tx, shapes, grid(), specs=specs, **kwargs)
    state = jax.eval_shape(tx.init, shapes)
    assert jax.tree.structure(shardings) == jax.tree.structure(state)
    return layouts(shardings, state)


# ---- what lies where


def test_moments_lie_as_their_parameters_and_counters_are_whole():
    got = found(adamx.adamw(adamx.linear_schedule(0.1, 0.0, 10)))
    w, b = ["data", "model"], ["model"]
    assert got == {
        "[0].count": [],
        "[0].mu['b']": b,
        "[0].mu['w']": w,
        "[0].mu['x']": [],
        "[0].nu['b']": b,
        "[0].nu['w']": w,
        "[0].nu['x']": [],
        "[2].count": [],
    }


@pytest.mark.parametrize(
    ("shape", "row", "column"),
    [
        ((64, 256), ["data"], ["model"]),
        ((256, 64), ["model"], ["data"]),  # a row lacks the larger axis
        ((64, 64), ["data"], ["model"]),
    ],
)
def test_factored_statistics_lie_as_the_axes_that_they_have(shape, row, column):
    shapes, specs = {"w": Shape(shape, jnp.float32)}, {"w": P("data", "model")}
    for tx in (
        adamx.scale_by_factored_rms(min_dim_size_to_factor=2),
        optax.scale_by_factored_rms(min_dim_size_to_factor=2),
    ):
        got = found(tx, shapes, specs)
        assert got[".v_row['w']"] == row
        assert got[".v_col['w']"] == column
        assert got[".v['w']"] == [None]


def test_statistics_of_a_stack_of_matrices():
    """With the axes that a sum over shapes cannot tell apart."""
    shapes = {"w": Shape((8, 64, 64), jnp.float32)}
    got = found(
        adamx.scale_by_factored_rms(min_dim_size_to_factor=2),
        shapes,
        {"w": P(None, "data", "model")},
    )
    assert got[".v_row['w']"] == [None, "data"]
    assert got[".v_col['w']"] == [None, "model"]


def test_vectors_of_sm3_and_blocks_of_adam_mini():
    got = found(adamx.scale_by_sm3())
    assert got[".mu['w'][0]"] == ["data"]
    assert got[".mu['w'][1]"] == ["model"]
    assert got[".nu['w']"] == ["data", "model"]
    axes_of = {"w": (0,), "b": (), "x": ()}
    got = found(adamx.scale_by_adam_mini(axes_of))
    assert got[".nu['w']"] == [None, "model"]


def test_codes_their_scales_and_residuals():
    got = found(adamx.compress_state(adamx.scale_by_adam()))
    codes = {path: x for path, x in got.items() if "codes" in path and "'w'" in path}
    scales = {path: x for path, x in got.items() if "scales" in path and "'w'" in path}
    assert list(codes.values()) == [["data", "model"]] * 2
    assert len(scales) == 2
    for path, x in scales.items():
        assert x[0] == "data", path
    half = jax.tree.map(lambda x: Shape(x.shape, jnp.bfloat16), SHAPES)
    got = found(adamx.master_weights(adamx.adam(0.1)), half)
    assert got[".residual16['w']"] == ["data", "model"]


def test_scales_whose_groups_cross_devices_are_whole_and_listed():
    shapes = {"w": Shape((64, 192), jnp.float32)}
    tx = adamx.compress_state(adamx.sgd(0.1, 0.9), adamx.companded_codec(64))
    state = jax.eval_shape(tx.init, shapes)
    assert adamx.tree_get(state, "scales")["w"].shape == (64, 3)
    kwargs = {"specs": {"w": P(None, "model")}}
    (row,) = adamx.sharding_report(tx, shapes, grid(), **kwargs).whole
    assert row.path.endswith("['scales']['w']")
    assert row[1:] == ((64, 3), "axis 1 of 3 is no multiple of 2")
    # ZeRO-1 takes an axis along which the groups stay together.
    for n, want in [(64, ["data", None]), (63, [None, None])]:
        shapes = {"w": Shape((n, 192), jnp.float32)}
        got = found(tx, shapes, {"w": P()}, zero1="data")
        encoded = [x for path, x in got.items() if "encoded" in path]
        assert encoded == [want] * 2


def test_masks_groups_windows_and_boxes():
    groups = {"body": adamx.adam(0.1), "head": adamx.sgd(0.1, momentum=0.9)}
    labels = {"w": "body", "b": "head", "x": "head"}
    got = found(adamx.partition(groups, labels))
    assert got[".inner_states['body'].inner_state[0].mu['w']"] == ["data", "model"]
    assert got[".inner_states['head'].inner_state[0].trace['b']"] == ["model"]
    got = found(adamx.MultiSteps(adamx.adam(0.1), 4))
    assert got[".acc_grads['w']"] == ["data", "model"]
    params = nnx.state(nnx.Linear(64, 256, rngs=nnx.Rngs(0)), nnx.Param)
    rule = adamx.by_path({"kernel": P("data", "model"), "": P("model")})
    got = found(adamx.adam(0.1), params, rule)
    assert ["data", "model"] in got.values()
    assert got["[0].count"] == []


def test_of_every_transformation():
    """What has the shape of its parameter lies as it, and everything can lie so."""
    mesh = grid()
    for case in CASES + WRAPPED:
        shardings = adamx.state_shardings(case.tx, SHAPES, mesh, specs=SPECS)
        state = jax.eval_shape(case.tx.init, SHAPES)
        for x, sharding in zip(*map(jax.tree.leaves, (state, shardings)), strict=True):
            sharding.shard_shape(x.shape)
            assert x.ndim or sharding.spec == P(), case.id
            if x.shape == (64, 256):
                assert sharding.spec == P("data", "model"), case.id


# ---- where shardings come from


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["Auto", "Explicit"])
def test_they_come_from_arrays_from_shapes_or_from_specs(kind):
    mesh = grid(kind)
    places = {name: NamedSharding(mesh, spec) for name, spec in SPECS.items()}
    shapes = {
        name: Shape(x.shape, x.dtype, sharding=places[name])
        for name, x in SHAPES.items()
    }
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), SHAPES)
    arrays = jax.device_put(zeros, places)
    tx = adamx.adam(0.1)
    want = adamx.state_shardings(tx, SHAPES, mesh, specs=SPECS)
    for params in (arrays, shapes):
        assert adamx.state_shardings(tx, params) == want
        assert adamx.state_shardings(tx, params, mesh) == want
    rules = adamx.by_path({"w": SPECS["w"], "b": SPECS["b"], "": P()})
    assert adamx.state_shardings(tx, zeros, mesh, specs=rules) == want
    alone = adamx.state_shardings(tx, zeros, mesh)
    assert all(x.spec == P() for x in jax.tree.leaves(alone))
    state = jax.jit(tx.init, out_shardings=want)(arrays)
    for x, sharding in zip(*map(jax.tree.leaves, (state, want)), strict=True):
        assert x.sharding == sharding


# ---- how much it saves


def gpt2():
    """The parameters of GPT-2 small, 124 million, as shapes."""
    n, layers = 768, 12
    norm = {"scale": (n,), "bias": (n,)}

    def dense(inputs, outputs):
        return {"kernel": (inputs, outputs), "bias": (outputs,)}

    block = {
        "ln_1": norm,
        "attn": {"c_attn": dense(n, 3 * n), "c_proj": dense(n, n)},
        "ln_2": norm,
        "mlp": {"c_fc": dense(n, 4 * n), "c_proj": dense(4 * n, n)},
    }
    tree = {"wte": (50257, n), "wpe": (1024, n), "ln_f": norm}
    tree |= {f"h_{i}": block for i in range(layers)}
    return jax.tree.map(
        lambda shape: Shape(shape, jnp.float32),
        tree,
        is_leaf=is_shape,
    )


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (lambda: adamx.adamw(1e-3), 7.99),
        (lambda: adamx.amsgrad(1e-3), 7.99),
        (lambda: adamx.lion(1e-4), 7.99),
        (lambda: adamx.compress_state(adamx.adamw(1e-3)), 2.5),
        (
            lambda: adamx.compress_state(adamx.adamw(1e-3), adamx.companded_codec(96)),
            7.99,
        ),
    ],
    ids=["adamw", "amsgrad", "lion", "8 bits", "8 bits, groups of 96"],
)
def test_zero1_on_gpt2(make, least):
    params, mesh = gpt2(), make_mesh()
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == 124_439_808
    tx = make()
    shardings = adamx.state_shardings(tx, params, mesh, zero1="data")
    state = jax.eval_shape(tx.init, params)
    whole = each = 0
    for x, sharding in zip(*map(jax.tree.leaves, (state, shardings)), strict=True):
        whole += math.prod(x.shape) * x.dtype.itemsize
        each += math.prod(sharding.shard_shape(x.shape)) * x.dtype.itemsize
    report = adamx.sharding_report(tx, params, mesh, zero1="data")
    assert (report.nbytes, report.nbytes_per_device) == (whole, each)
    assert whole / each >= least
    # Of the words: 50257 is odd, and of 6 groups along 768 entries some would be cut.
    want = [(50257, 768), (50257, 6)] * 2 if least == 2.5 else []
    assert [row.shape for row in report.whole] == want
    assert {row.reason for row in report.whole} <= {
        "groups that share a scale would cross devices"
    }


def test_a_report_names_what_stays_whole_and_why():
    params = {"w": jnp.ones((16, 4)), "odd": jnp.ones((3, 5)), "x": jnp.ones(())}
    tx = adamx.chain(
        adamx.sgd(0.1, momentum=0.9), adamx.scale_by_factored_rms(True, 0.8, 0, 2)
    )
    report = adamx.sharding_report(tx, params, make_mesh(), zero1="data")
    got = {row.path: (row.shape, row.reason) for row in report.whole}
    free = "no free axis is a multiple of 8"
    assert got == {
        "[0][0].trace['odd']": ((3, 5), free),
        "[1].v_row['odd']": ((3,), free),
        "[1].v_col['odd']": ((5,), free),
        "[1].v_row['w']": ((4,), "has not the axis that 'data' splits"),
    }


# ---- checkpoints


def test_a_state_is_restored_onto_fewer_devices(tmp_path):
    """8, 4 and 1: the shardings are the targets."""
    tx = adamx.compress_state(adamx.adamw(0.1), min_size=0)
    params = {"w": np.linspace(-1, 1, 1024, dtype="f4").reshape(16, 64)}

    def target(n):
        mesh = jax.make_mesh((n,), ("data",), devices=jax.devices()[:n])
        shardings = adamx.state_shardings(tx, params, mesh, zero1="data")
        return jax.tree.map(
            lambda x, s: Shape(x.shape, x.dtype, sharding=s),
            jax.eval_shape(tx.init, params),
            shardings,
        )

    shardings = jax.tree.map(lambda x: x.sharding, target(8))
    state = jax.jit(tx.init, out_shardings=shardings)(params)
    _, state = jax.jit(tx.update, out_shardings=(None, shardings))(
        params, state, params
    )
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", state)
        checkpointer.wait_until_finished()
        for n in (8, 4, 1):
            new = checkpointer.restore(tmp_path / "state", target(n))
            for x, y in zip(*map(jax.tree.leaves, (new, state)), strict=True):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)
            codes = adamx.tree_get(new, "codes", None, lambda p, x: "mu" in str(p))
            assert len(codes["w"].sharding.device_set) == n
            assert bytes_on_a_device(codes) == 1024 // n


# ---- errors


def on_another(mesh):
    return {"w": jax.device_put(np.ones((8, 4), "f4"), on(mesh, "data"))}


BARE = {"w": np.ones((8, 4), "f4")}
ADAM = adamx.adam(0.1)


def test_devices_without_the_memory_of_a_host(monkeypatch):
    monkeypatch.setattr(states, "memory_kinds", lambda mesh: ["device"])
    text = (
        "state_shardings: expected devices with pinned_host memory, got devices with "
        "device; leave out memory_kind."
    )
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        adamx.state_shardings(ADAM, BARE, make_mesh(), memory_kind="pinned_host")


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda: adamx.state_shardings(ADAM, BARE),
            ValueError,
            "state_shardings: expected a mesh, got parameters without NamedShardings; "
            "give mesh, or place them with jax.device_put.",
        ),
        (
            lambda: adamx.sharding_report(ADAM, BARE, "data"),
            TypeError,
            "sharding_report: expected mesh as a jax.sharding.Mesh, got 'data'; make "
            "it with jax.make_mesh.",
        ),
        (
            lambda: adamx.state_shardings(ADAM, BARE, make_mesh(), zero1="model"),
            ValueError,
            "state_shardings: expected an axis of the mesh, got 'model'; have 'data'.",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), specs={"w": P("model")}
            ),
            ValueError,
            "state_shardings: expected an axis of the mesh, got 'model'; have 'data'.",
        ),
        (
            lambda: adamx.state_shardings(ADAM, on_another(make_mesh()), grid()),
            ValueError,
            "state_shardings: expected parameters on one mesh, (data=4, model=2: Auto "
            "on devices 0 to 7), got (data=8: Auto on devices 0 to 7) at ['w']; place "
            "them with jax.device_put, or give their shapes and specs.",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), specs={"v": P("data")}
            ),
            ValueError,
            "state_shardings: expected specs to cover the parameters, got nothing at "
            "['w']; have v.",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), specs={"w": P(), "v": P()}
            ),
            ValueError,
            "state_shardings: expected specs like the parameters, got an answer for "
            "'v', which they do not have.",
        ),
        (
            lambda: adamx.state_shardings(ADAM, BARE, make_mesh(), specs={"w": "data"}),
            TypeError,
            "state_shardings: expected specs as jax.sharding.PartitionSpec, got 'data' "
            "at ['w'].",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), specs=P(None, None, "data")
            ),
            ValueError,
            "state_shardings: expected a spec for 2 axes, got P(None, None, 'data') at "
            "['w'].",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), specs=P(None, "data")
            ),
            ValueError,
            "state_shardings: expected axes that their mesh axes divide, got "
            "P(None, 'data') for [8, 4] at ['w']: 4 is no multiple of 8.",
        ),
        (
            lambda: adamx.state_shardings(
                ADAM, BARE, make_mesh(), memory_kind="unpinned_host"
            ),
            ValueError,
            "state_shardings: expected memory_kind in ('device', 'pinned_host'), got "
            "'unpinned_host'.",
        ),
        (
            lambda: adamx.state_shardings(abs, BARE, make_mesh()),
            TypeError,
            "state_shardings: expected a gradient transformation as tx, got the "
            "function abs; call it: abs(...).",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match="^" + re.escape(text)):
        call()
