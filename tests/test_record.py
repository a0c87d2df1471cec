"""What `record` measures, that it changes nothing, and how a state is summarized."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from flax import nnx
from flax.training.train_state import TrainState
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from streams import at_step, make_params, make_stream

import adamx

SHAPES = {"w": (8, 300), "b": {"x": (7,), "y": ()}}
PARAMS = make_params(shapes=SHAPES)
GRADS = make_stream("normal", shapes=SHAPES, steps=3)
LABELS = {"w": "body", "b": "head"}
BODY, HEAD = ["w"], ["b/x", "b/y"]


def flat(tree):
    """The arrays of a tree like PARAMS by path, in float64."""
    if tree is None:
        return {}
    w, b = tree["w"], tree["b"]
    b = b if isinstance(b, dict) else {"x": None, "y": None}
    arrays = {"w": w, "b/x": b["x"], "b/y": b["y"]}
    return {
        k: np.asarray(x, np.float64)
        for k, x in arrays.items()
        if x is not None and not isinstance(x, adamx.MaskedNode)
    }


def walk(tx, params=PARAMS, grads=GRADS, steps=3, **extra_args):
    """The updates of each step, and the last state."""
    update, state, updates = jax.jit(tx.update), tx.init(params), []
    for i in range(steps):
        u, state = update(at_step(grads, i), state, params, **extra_args)
        updates.append(u)
    return updates, state


def by_numpy(leaves, updates, mu=None, nu=None, *, count=3, **kwargs):
    """The metrics of some leaves after the last step."""
    g, u, p = flat(at_step(GRADS, 2)), flat(updates[2]), flat(PARAMS)
    mu, nu = flat(mu), flat(nu)
    c1, c2 = (1.0, 1.0) if count is None else (1 - 0.9**count, 1 - 0.999**count)
    nus = []
    for k in leaves:
        if k in nu:
            m = mu.get(k)
            alike = m is not None and m.shape == nu[k].shape
            nus.append((m / c1 if alike else None, nu[k] / c2))
    return oracle.metrics(*([x[k] for k in leaves] for x in (g, u, p)), nus, **kwargs)


def assert_same(got, want):
    assert set(got) == set(want)
    for name, x in want.items():
        np.testing.assert_allclose(got[name], x, rtol=3e-6, err_msg=name)


def no_moments(state):
    return {}


def moments_of_first(state):
    return {"mu": state[0].mu, "nu": state[0].nu}


OPTIMIZERS = {
    "adamw": (adamx.adamw(0.1), moments_of_first),
    "adamw, every second": (adamx.adamw(0.1), moments_of_first),
    "optax": (optax.adam(0.1), moments_of_first),
    "rmsprop": (adamx.scale_by_rms(), lambda state: {"nu": state.nu, "count": None}),
    "adam_mini": (
        adamx.adam_mini(0.1, {"w": (1,), "b": {"x": (0,), "y": ()}}),
        moments_of_first,
    ),
    "sgd": (adamx.sgd(0.1, momentum=0.9), no_moments),
    "lion, every second": (adamx.lion(0.1), no_moments),
    "adafactor": (adamx.scale_by_factored_rms(), no_moments),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_metrics_are_those_of_numpy_and_nothing_else_changes(name):
    """Of every second step, the third is measured, from updates computed once more."""
    inner, moments = OPTIMIZERS[name]
    every = 2 if "second" in name else 1
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        want, inner_state = walk(inner)
        tx = adamx.record(inner, groups=LABELS, max_norm=5.0, every=every)
        updates, state = walk(tx)
    got, want_all = (updates, state.inner_state), (want, inner_state)
    if name == "optax":  # of which XLA contracts a product otherwise
        chex.assert_trees_all_close(got, want_all, rtol=5e-7)
    else:
        chex.assert_trees_all_equal(got, want_all)
    metrics = adamx.get_metrics(state)
    assert set(metrics) == {"all", "body", "head"}
    found = moments(inner_state)
    assert_same(metrics["all"], by_numpy(BODY + HEAD, want, **found, max_norm=5.0))
    assert_same(metrics["body"], by_numpy(BODY, want, **found))
    assert_same(metrics["head"], by_numpy(HEAD, want, **found))


def test_wrong_metrics_are_told_apart():
    """No correction of moments, that of the step before, the wrong leaves."""
    updates, state = walk(adamx.record(adamx.scale_by_adam()))
    got = adamx.get_metrics(state)["all"]
    found = {"mu": state.inner_state.mu, "nu": state.inner_state.nu}
    assert_same(got, by_numpy(BODY + HEAD, updates, **found))
    wrong = [
        by_numpy(BODY + HEAD, updates, **found, count=None),
        by_numpy(BODY + HEAD, updates, **found, count=2),
        by_numpy(BODY, updates, **found),
        got | {"cosine": -got["cosine"]},
        got | {"small_nu": 1 - got["small_nu"]},
    ]
    for metrics in wrong:
        with pytest.raises(AssertionError):
            assert_same(got, metrics)


def test_moments_are_found_in_the_groups_of_a_partition():
    inner = adamx.partition({"body": adamx.adam(0.1), "head": adamx.sgd(0.1)}, LABELS)
    updates, state = walk(adamx.record(inner, groups=LABELS))
    adam = state.inner_state.inner_states["body"].inner_state[0]
    metrics = adamx.get_metrics(state)
    found = {"mu": adam.mu, "nu": adam.nu}
    assert_same(metrics["all"], by_numpy(BODY + HEAD, updates, **found))
    assert_same(metrics["body"], by_numpy(BODY, updates, **found))
    assert_same(metrics["head"], by_numpy(HEAD, updates))
    assert "small_nu" not in metrics["head"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.MultiSteps(tx, 1),
        lambda tx: adamx.named_chain(("tx", optax.masked(tx, True))),
    ],
)
def test_moments_are_found_inside_other_wrappers(wrap):
    params, tx = jnp.ones(3), adamx.scale_by_adam()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        recorded = adamx.record(wrap(tx))
        _, state = recorded.update(params, recorded.init(params), params)
    recorded = adamx.record(tx)
    _, plain = recorded.update(params, recorded.init(params), params)
    chex.assert_trees_all_close(state.metrics, plain.metrics, rtol=1e-6)


def test_second_moments_of_several_transformations_count_together():
    tx = adamx.chain(adamx.scale_by_adam(), adamx.scale_by_rms())
    params, g = jnp.ones(4), jnp.array([0.0, 1e-9, 1.0, 1.0])
    recorded = adamx.record(tx)
    _, state = jax.jit(recorded.update)(g, recorded.init(params), params)
    # nu / c2 of Adam is 0 and 1e-18 in two entries; nu of scale_by_rms, of the updates
    # of Adam, 0 in one, and it has no mu beside it.
    metrics = adamx.get_metrics(state)["all"]
    assert float(metrics["small_nu"]) == pytest.approx(3 / 8)
    assert float(metrics["signal_to_noise"]) == pytest.approx(1.0, rel=1e-5)


# ---- numbers at the ends of their range


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("g", "rate"), [(1e-30, 1.0), (1e30, 1e-3), (1e25, 1e10)])
def test_norms_neither_overflow_nor_underflow(g, rate, every):
    tx = adamx.record(adamx.scale(-rate), every=every)
    params = {"a": jnp.full((2, 2), g), "b": jnp.zeros(0)}
    _, state = jax.jit(tx.update)(params, tx.init(params), params)
    metrics = adamx.get_metrics(state)["all"]
    want = {"grad_norm": 2 * g, "update_norm": 2 * g * rate, "param_norm": 2 * g}
    want |= {"update_ratio": rate, "effective_learning_rate": rate, "cosine": 1.0}
    assert_same(metrics, want)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.complex64])
def test_every_dtype_is_summed_in_float32(dtype):
    """In bfloat16 the sum of 300 ones is 256."""
    params = {"a": jnp.ones(300, dtype), "b": jnp.ones((3, 100), dtype)}
    tx = adamx.record(adamx.scale_by_adam())
    state = tx.init(params)
    _, new = jax.jit(tx.update)(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    metrics = adamx.get_metrics(new)["all"]
    assert {x.dtype for x in metrics.values()} == {jnp.dtype("float32")}
    assert float(metrics["grad_norm"]) == pytest.approx(600**0.5, rel=1e-6)
    assert float(metrics["update_norm"]) == pytest.approx(600**0.5, rel=1e-2)
    assert float(metrics["cosine"]) == pytest.approx(-1.0, rel=1e-5)


def test_the_cosine_of_complex_gradients_is_that_of_their_real_parts():
    params = {"a": jnp.array([1.0 + 1.0j, 2.0])}
    tx = adamx.record(adamx.stateless(lambda updates, _: {"a": 1j * updates["a"]}))
    _, state = tx.update(params, tx.init(params), params)
    assert float(state.metrics["all"]["cosine"]) == pytest.approx(0.0, abs=1e-7)


def test_many_entries_lose_nothing():
    """One after another, float32 ends at 2**24."""
    params = jnp.ones(2**25)
    tx = adamx.record(adamx.scale(-1.0))
    _, state = jax.jit(tx.update)(params, tx.init(params), params)
    assert float(state.metrics["all"]["grad_norm"]) == pytest.approx(2**12.5, rel=1e-6)


def test_nothing_over_nothing_is_0():
    tx = adamx.record(adamx.adam(0.1), groups={"a": "a", "b": "b"}, max_norm=1.0)
    params = {"a": jnp.zeros(3), "b": jnp.ones((0, 2))}
    _, state = tx.update(params, tx.init(params), params)
    metrics = adamx.get_metrics(state)
    for group in ("a", "b"):
        assert float(metrics[group].pop("small_nu")) == (group == "a")
        assert {float(x) for x in metrics[group].values()} == {0.0}
    assert float(metrics["all"]["clip_ratio"]) == 1.0
    empty = adamx.record(adamx.adam(0.1))
    assert empty.update({}, empty.init({}), {})[1].metrics["all"]["grad_norm"] == 0


def test_a_nan_shows_in_its_group_and_stays_out_of_the_state():
    inner = optax.apply_if_finite(adamx.adam(0.1), 5)
    tx = adamx.record(inner, groups=LABELS)
    bad = jax.tree.map(np.copy, at_step(GRADS, 0))
    bad["w"][0, 0] = np.nan
    with jax.numpy_dtype_promotion("standard"):
        updates, state = jax.jit(tx.update)(bad, tx.init(PARAMS), PARAMS)
        want = jax.jit(inner.update)(bad, inner.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal((updates, state.inner_state), want)
    norms = {k: float(v["grad_norm"]) for k, v in state.metrics.items()}
    assert np.isnan([norms["all"], norms["body"]]).all()
    assert norms["head"] == pytest.approx(
        oracle.norm_of_lists(flat(bad)[k] for k in HEAD)
    )


def test_nan_moments_show():
    tx = adamx.record(adamx.adam(0.1))
    bad = jnp.array([1.0, np.nan])
    _, state = tx.update(bad, tx.init(bad), jnp.ones(2))
    assert np.isnan(float(state.metrics["all"]["signal_to_noise"]))
    assert np.isnan(float(state.metrics["all"]["cosine"]))


# ---- when it measures


def test_metrics_stay_from_one_measured_step_to_the_next():
    tx = adamx.record(adamx.sgd(0.1), every=3)
    params = jnp.ones(1)

    def body(state, g):
        _, state = tx.update(g, state, params)
        return state, state.metrics["all"]["grad_norm"]

    state, norms = jax.jit(lambda s, g: lax.scan(body, s, g))(
        tx.init(params), jnp.arange(1.0, 8.0).reshape(7, 1)
    )
    np.testing.assert_array_equal(norms, [1, 1, 1, 4, 4, 4, 7])
    assert int(state.count) == 7


def test_the_structure_is_that_of_init():
    tx = adamx.record(adamx.adam(0.1), groups=LABELS, max_norm=1.0)
    state = tx.init(PARAMS)
    _, new = tx.update(at_step(GRADS, 0), state, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert not any(jnp.any(x) for x in jax.tree.leaves(state.metrics))


@pytest.mark.parametrize("every", [1, 2])
def test_extra_arguments_reach_the_inner_transformation(every):
    def update(updates, state, params=None, *, factor, **extra_args):
        return jax.tree.map(lambda x: x * factor, updates), state

    inner = adamx.GradientTransformation(adamx.identity().init, update)
    tx = adamx.record(inner, every=every)
    params = jnp.array([3.0, 4.0])
    u, state = tx.update(
        params, tx.init(params), params, factor=jnp.asarray(2.0), other=abs
    )
    np.testing.assert_array_equal(u, 2 * params)
    assert float(state.metrics["all"]["update_norm"]) == 10


@pytest.mark.parametrize("every", [1, 2])
def test_donated_arrays_are_updated_in_place(every):
    """Without a copy, and without the updates in memory."""
    tx = adamx.record(adamx.adamw(0.1), every=every)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return adamx.apply_updates(params, updates), state

    params = [jax.ShapeDtypeStruct((512, 512), jnp.float32)] * 3
    state = jax.eval_shape(tx.init, params)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, params)
    plan = compiled.compile().memory_analysis()
    size = 4 * 3 * 512**2
    assert plan.alias_size_in_bytes >= 3 * size
    assert plan.temp_size_in_bytes < 0.1 * size


def test_an_integer_is_in_no_norm():
    tx = adamx.record(adamx.masked(adamx.sgd(0.1), {"w": True, "n": False}))
    params = {"w": jnp.array([3.0, 4.0]), "n": jnp.array(7)}
    grads = params | {"n": np.zeros((), jax.dtypes.float0)}
    u, state = tx.update(grads, tx.init(params), params)
    assert u["n"].dtype == jax.dtypes.float0
    assert float(state.metrics["all"]["param_norm"]) == 5


# ---- where it runs


def test_on_eight_devices_the_numbers_are_the_same():
    shapes = {"w": (16, 24), "b": (16,)}
    params = make_params(shapes=shapes)
    grads = make_stream("normal", shapes=shapes, steps=3)
    mesh = jax.make_mesh(
        (4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    specs = {"w": PartitionSpec("x", "y"), "b": PartitionSpec("x")}
    placed = {k: NamedSharding(mesh, spec) for k, spec in specs.items()}
    tx = adamx.record(adamx.scale_by_adam(), groups={"w": "w", "b": "b"}, every=2)
    update, state, other = jax.jit(tx.update), tx.init(params), tx.init(params)
    for i in range(3):
        _, state = update(at_step(grads, i), state, params)
        g, p = jax.device_put((at_step(grads, i), params), (placed, placed))
        _, other = update(g, other, p)
    assert len(other.metrics["w"]["cosine"].sharding.device_set) == 8
    chex.assert_trees_all_close(other.metrics, state.metrics, rtol=3e-6)


class Model(nnx.Module):
    def __init__(self):
        self.w = nnx.Param(jnp.array([3.0, 4.0]))


def test_it_trains_with_flax_and_the_metrics_are_found():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        tx = adamx.chain(adamx.record(adamx.sgd(0.5)), adamx.identity())
        model = Model()
        opt = nnx.Optimizer(model, tx, wrt=nnx.Param)
        opt.update(model, nnx.grad(lambda m: (m.w[...] ** 2).sum() / 2)(model))
        params = {"w": jnp.array([3.0, 4.0])}
        state = TrainState.create(apply_fn=None, params=params, tx=tx)
        state = state.apply_gradients(grads=params)
    for opt_state in (opt.opt_state, state.opt_state):
        metrics = adamx.get_metrics(opt_state)["all"]
        assert isinstance(metrics["update_norm"], jax.Array)
        assert float(metrics["update_norm"]) == 2.5
        assert "0.5" in adamx.summary(opt_state)


# ---- what is shown


def test_the_summary_of_a_recorded_step():
    params = {"a": jnp.array([3, 4], jnp.float32), "b": jnp.zeros((2, 3), jnp.float32)}
    tx = adamx.record(adamx.adam(0.5), groups={"a": "vec", "b": "mat"}, max_norm=1.0)
    grads = params | {"a": jnp.array([3, -4], jnp.float32)}
    _, state = tx.update(grads, tx.init(params), params)
    assert adamx.summary(state, params).splitlines() == [
        "group  grad_norm  update_norm  param_norm  update_ratio  "
        "effective_learning_rate  cosine  clip_ratio  small_nu  signal_to_noise",
        "all            5        0.707           5         0.141  "
        "                  0.141    0.99         0.2      0.75                1",
        "mat            0            0           0             0  "
        "                      0       0           -         1                0",
        "vec            5        0.707           5         0.141  "
        "                  0.141    0.99           -         0                1",
        "",
        "field      dtype  entries  bytes  per parameter",
        "count      int32        2      8           1.00",
        "metrics  float32       25    100          12.50",
        "mu       float32        8     32           4.00",
        "nu       float32        8     32           4.00",
        "total                  43    172          21.50",
    ]


def test_the_summary_of_shapes_reads_no_value():
    params = jax.ShapeDtypeStruct((1000, 50), jnp.bfloat16)
    tx = adamx.chain(adamx.trace(0.9), adamx.scale_by_adam(mu_dtype=jnp.bfloat16))
    assert adamx.summary(jax.eval_shape(tx.init, params)).splitlines() == [
        "field     dtype  entries    bytes",
        "trace   float32   50,000  200,000",
        "count     int32        1        4",
        "mu     bfloat16   50,000  100,000",
        "nu      float32   50,000  200,000",
        "total           150,001  500,004".replace("total ", "total  "),
    ]
    recorded = jax.eval_shape(adamx.record(adamx.sgd(0.1)).init, params)
    assert adamx.summary(recorded).splitlines()[1].split() == ["all", *"------"]
    assert adamx.summary(()).splitlines()[1].split() == ["total", "0", "0"]


# ---- errors


def test_get_metrics_says_what_it_needs():
    state = adamx.adam(0.1).init(PARAMS)
    with pytest.raises(
        ValueError,
        match=r"get_metrics: expected a state with metrics, got none; wrap the "
        r"transformation: adamx.record\(tx\).",
    ):
        adamx.get_metrics(state)
    tx = adamx.record(adamx.sgd(0.1))
    two = adamx.named_chain(("a", tx), ("b", tx)).init(PARAMS)
    with pytest.raises(
        ValueError,
        match=r"get_metrics: expected one state of record, got 2, at \['a'\] and "
        r"\['b'\]; give it one of these.",
    ):
        adamx.get_metrics(two)
    nested = adamx.record(adamx.record(adamx.sgd(0.1)), max_norm=1.0).init(PARAMS)
    assert "clip_ratio" in adamx.get_metrics(nested)["all"]


@pytest.mark.parametrize(
    ("error", "kwargs", "message"),
    [
        (ValueError, {"every": 0}, r"record: expected every in \[1, inf\), got 0."),
        (TypeError, {"every": 1.5}, "record: expected every as an integer, got 1.5."),
        (TypeError, {"every": True}, "record: expected every as an integer, got True."),
        (ValueError, {"eps": -1}, r"record: expected eps in \[0, inf\), got -1."),
        (ValueError, {"b1": 1}, r"record: expected b1 in \[0, 1\), got 1."),
        (ValueError, {"max_norm": 0}, r"record: expected max_norm in \(0, inf\), got"),
        (
            TypeError,
            {"groups": {"w": 1, "b": "b"}},
            r"record: expected the names of groups as text, got 1 at \['w'\]; 'head', "
            r"for example\.",
        ),
        (
            ValueError,
            {"groups": {"w": "all", "b": "b"}},
            r"record: expected another name than 'all', the group of every leaf at "
            r"\['w'\]\.",
        ),
    ],
)
def test_arguments_are_checked(error, kwargs, message):
    with pytest.raises(error, match=message):
        adamx.record(adamx.sgd(0.1), **kwargs)


def test_what_only_a_call_can_show_is_checked():
    with pytest.raises(TypeError, match="record: expected a gradient transformation"):
        adamx.record(adamx.sgd)
    with pytest.raises(
        ValueError,
        match="record: expected groups like the parameters, got an answer for 'head'",
    ):
        adamx.record(adamx.sgd(0.1), groups={**LABELS, "head": "x"}).init(PARAMS)
    with pytest.raises(
        ValueError, match=r"record: expected groups to cover the parameters, .*\['b'\]"
    ):
        adamx.record(adamx.sgd(0.1), groups={"w": "x"}).init(PARAMS)
    tx = adamx.record(adamx.sgd(0.1))
    with pytest.raises(
        ValueError,
        match=r"record: needs the parameters; call tx.update\(grads, state, params\).",
    ):
        tx.update(PARAMS, tx.init(PARAMS))
    with pytest.raises(ValueError, match="record: expected a RecordState, got a tuple"):
        tx.update(PARAMS, (), PARAMS)
    with pytest.raises(
        ValueError, match=r"record: updates do not match the params at \['w'\]: f..\[2"
    ):
        tx.update({"w": jnp.ones(2)}, tx.init(PARAMS), {"w": jnp.ones(3)})
