"""States read, set, mapped, started anew and grown."""

import dataclasses
import re

import chex
import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES, WRAPPED
from flax import nnx
from flax.training.train_state import TrainState
from jax.sharding import PartitionSpec

import adamx

PARAMS = {"body": {"w": jnp.ones((3, 4)), "b": jnp.ones(4)}, "head": jnp.ones((4, 2))}
SCHEDULE = adamx.linear_schedule(0.1, 0.0, 100)
FLOAT = "f64" if jnp.ones(()).dtype == jnp.float64 else "f32"
HEAD = adamx.by_path({r"head": "head", r"": "body"})


def raises(kind, text):
    """Expects a text, in which f32 stands for the dtype of jnp.ones."""
    return pytest.raises(kind, match="^['\"]?" + re.escape(text.replace("f32", FLOAT)))


def trained(tx, params=PARAMS, steps=3):
    """A state after some steps with gradients like the parameters."""
    state, update = tx.init(params), jax.jit(tx.update)
    for i in range(steps):
        grads = jax.tree.map(lambda p, i=i: p * (0.5 + i), params)
        updates, state = update(grads, state, params)
        params = adamx.apply_updates(params, updates)
    return state


def types(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


@flax.struct.dataclass
class Loop:
    """A state of a training loop in Flax's dataclass."""

    opt_state: object
    best: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Plain:
    """The same in Python's."""

    opt_state: object
    best: object


# ---- tree_get


@pytest.mark.parametrize(
    "tx",
    [
        adamx.adamw(0.1),
        adamx.chain(
            adamx.clip(1.0),
            adamx.adamw(0.1, mask=adamx.by_path({r"head": False, r"": True})),
        ),
        adamx.named_chain(("clip", adamx.clip(1.0)), ("adam", adamx.adam(0.1))),
        adamx.partition({"body": adamx.adam(0.1), "head": adamx.sgd(0.1)}, HEAD),
        optax.MultiSteps(adamx.adam(0.1), 2).gradient_transformation(),
    ],
    ids=["recipe", "masked", "named", "partition", "MultiSteps"],
)
def test_a_field_is_found_wherever_it_is_as_optax_finds_it(tx):
    state = tx.init(PARAMS)
    for name in ("mu", "count", "ScaleByAdamState"):
        found = adamx.tree_get(state, name)
        assert found is not None
        chex.assert_trees_all_equal(found, optax.tree.get(state, name))
    assert adamx.tree_get(state, "nothing") is None
    assert adamx.tree_get(state, "nothing", 3) == 3


def test_fields_are_found_in_dataclasses_and_in_states_of_flax():
    tx = adamx.adam(0.1)
    for cls in (Loop, Plain):
        loop = cls(tx.init(PARAMS), jnp.float32(7.0))
        assert float(adamx.tree_get(loop, "best")) == 7.0
        assert int(adamx.tree_get(loop, "count")) == 0
        assert adamx.tree_get(loop, cls.__name__) is loop
        assert int(adamx.tree_get(adamx.tree_set(loop, count=4), "count")) == 4
    train = TrainState.create(apply_fn=abs, params={"p": jnp.ones(2)}, tx=tx)
    assert int(adamx.tree_get(train, "count")) == 0
    train = adamx.tree_set(train, count=5, step=6)
    assert int(train.opt_state[0].count) == 5
    assert train.step == 6
    assert train.tx is tx


def test_fields_of_an_nnx_optimizer():
    """Whose leaves are boxed, and stay so."""
    net = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(net, adamx.adam(0.1), wrt=nnx.Param)
    params = nnx.state(net, nnx.Param)
    optimizer.update(net, jax.tree.map(jnp.ones_like, params))
    state = optimizer.opt_state
    assert int(adamx.tree_get(state, "count")[...]) == 1
    assert adamx.tree_get(state, "value") is None
    new = adamx.tree_set(state, count=7)
    assert int(new[0].count[...]) == 7
    assert types(new) == types(state)
    reset = adamx.reset_state(optimizer.tx, state, params, r"bias")
    assert types(reset) == types(state)
    np.testing.assert_array_equal(reset[0].mu["bias"][...], 0)
    np.testing.assert_array_equal(
        reset[0].mu["kernel"][...], state[0].mu["kernel"][...]
    )
    specs = jax.tree.map(lambda x: x.ndim, params)
    mapped = adamx.tree_map_params(optimizer.tx, lambda x, n: n, state, specs)
    assert jax.tree.leaves(mapped[0].mu) == [1, 2]
    wide = nnx.state(nnx.Linear(2, 5, rngs=nnx.Rngs(0)), nnx.Param)
    grown = adamx.grow_state(optimizer.tx, state, wide)
    assert jax.tree.structure(grown) == jax.tree.structure(state)
    assert [x.shape for x in jax.tree.leaves(grown[0].nu)] == [(5,), (2, 5)]


def test_paths_name_the_class_of_a_field():
    state = adamx.adamw(SCHEDULE).init(PARAMS)
    found = adamx.tree_get_all_with_path(state, "count")
    assert [path[-1] for path, _ in found] == [
        adamx.NamedTupleKey("ScaleByAdamState", "count"),
        adamx.NamedTupleKey("ScaleByScheduleState", "count"),
    ]
    keys = [jax.tree_util.keystr(path) for path, _ in found]
    assert keys == ["[0].count", "[2].count"]

    def of_adam(path, value):
        return path[-1].tuple_name == "ScaleByAdamState" and value.ndim == 0

    assert len(adamx.tree_get_all_with_path(state, "count", of_adam)) == 1
    assert adamx.tree_get(state, "count", None, of_adam) is state[0].count
    theirs = optax.tree.get(state, "count", filtering=of_adam)
    assert theirs is state[0].count  # the same function serves both


def test_several_fields_are_named_by_their_paths():
    state = adamx.adamw(SCHEDULE).init(PARAMS)
    with raises(
        KeyError,
        "tree_get: expected one 'count', got 2: [0].count of ScaleByAdamState, "
        "[2].count of ScaleByScheduleState; choose with filtering.",
    ):
        adamx.tree_get(state, "count")


# ---- tree_set


def test_a_number_takes_the_type_of_the_field():
    """Optax puts in a Python number, and the next step is traced again."""
    tx = adamx.adam(0.1)
    state = trained(tx)
    traces = []

    @jax.jit
    def count(state):
        traces.append(state)
        return state[0].count + 1

    assert int(count(state)) == 4
    for number in (7, 7.0, np.int64(7), np.float32(7), np.array(7, np.int32)):
        new = adamx.tree_set(state, count=number)
        assert types(new) == types(state)
        assert int(count(new)) == 8
    assert len(traces) == 1
    assert int(state[0].count) == 3


def test_all_fields_of_a_name_are_set_or_those_that_filtering_leaves():
    state = adamx.adamw(SCHEDULE).init(PARAMS)
    both = adamx.tree_set(state, count=3)
    assert [int(both[i].count) for i in (0, 2)] == [3, 3]
    one = adamx.tree_set(state, lambda path, _: "Adam" in path[-1].tuple_name, count=3)
    assert [int(one[i].count) for i in (0, 2)] == [3, 0]
    assert one[2] is state[2]


def test_trees_and_whole_states_are_set():
    state = adamx.adam(0.1).init(PARAMS)
    new = adamx.tree_set(state, mu=jax.tree.map(lambda x: x + 2, state[0].mu), count=1)
    chex.assert_trees_all_equal(new[0].mu, jax.tree.map(lambda x: 2 * x, PARAMS))
    chex.assert_trees_all_equal(new[0].nu, state[0].nu)
    assert adamx.tree_set(state, ScaleByAdamState=new[0])[0].mu is not state[0].mu


def test_it_works_on_tracers():
    state = adamx.adam(0.1).init(PARAMS)

    @jax.jit
    def set_count(state, count):
        return adamx.tree_set(state, count=count)

    assert int(set_count(state, jnp.int32(9))[0].count) == 9
    assert types(set_count(state, jnp.int32(9))) == types(state)


def test_a_weak_type_does_not_enter():
    state = {"rate": jnp.ones([])}
    weak = jnp.sin(jax.jit(lambda: 1.0)())
    assert weak.weak_type
    for value in (1.5, weak):
        assert types(adamx.tree_set(state, rate=value)) == types(state)


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (
            {"counter": 1},
            KeyError,
            "tree_set: no field 'counter'; have count, mu, body, b, w, head, nu.",
        ),
        (
            {"count": 1.5},
            ValueError,
            "tree_set: expected i32[], got 1.5 at [0].count.",
        ),
        ({"count": 2**31}, ValueError, "tree_set: expected i32[], got 2147483648 at"),
        ({"count": True}, ValueError, "tree_set: expected i32[], got True at [0]"),
        ({"count": None}, ValueError, "tree_set: expected i32[], got nothing at"),
        (
            {"count": jnp.zeros(3, jnp.int32)},
            ValueError,
            "tree_set: expected i32[], got i32[3] at [0].count.",
        ),
        (
            {"count": jnp.zeros([], jnp.float16)},
            ValueError,
            "tree_set: expected i32[], got f16[] at [0].count.",
        ),
        ({"b": 0.0}, ValueError, "tree_set: expected f32[4], got 0.0 at [0].mu['body"),
        (
            {"mu": PARAMS | {"head": jnp.ones((2, 2))}},
            ValueError,
            "tree_set: expected f32[4,2], got f32[2,2] at [0].mu['head'].",
        ),
        (
            {"mu": {"body": PARAMS["body"]}},
            ValueError,
            "tree_set: expected f32[4,2], got nothing at [0].mu['head'].",
        ),
    ],
)
def test_what_does_not_fit_is_not_set(values, kind, text):
    with raises(kind, text):
        adamx.tree_set(adamx.adam(0.1).init(PARAMS), **values)


def test_a_filter_that_leaves_nothing_is_named():
    state = adamx.adam(0.1).init(PARAMS)
    with raises(KeyError, "tree_set: no field 'count' that filtering leaves; have cou"):
        adamx.tree_set(state, lambda path, value: False, count=1)


# ---- tree_map_params

UNLIKE = {"w": (130, 7), "b": {"x": (5,), "y": (), "z": (3, 2, 4)}}


def like_parameters(state, params):
    """The leaves whose path ends in that of a parameter of the same shape."""
    shapes = {
        path: np.shape(x) for path, x in jax.tree_util.tree_leaves_with_path(params)
    }
    return [
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
        if any(path[-len(p) :] == p and leaf.shape == s for p, s in shapes.items())
    ]


@pytest.mark.parametrize("case", CASES + WRAPPED, ids=lambda case: case.id)
def test_a_function_sees_what_is_like_a_parameter_and_nothing_else(case):
    """And with it the parameter itself; everything else goes the other way."""
    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        UNLIKE,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    state = jax.eval_shape(case.tx.init, params)
    seen, others = [], []

    def see(x, p):
        assert x.shape == p.shape
        seen.append(x.shape)
        return x

    def other(x):
        others.append(x)
        return x

    result = adamx.tree_map_params(
        case.tx, see, state, params, params=params, transform_non_params=other
    )
    assert result == state
    assert sorted(seen) == sorted(like_parameters(state, params))
    assert len(seen) + len(others) == len(jax.tree.leaves(state))


def test_specs_take_the_places_of_moments():
    tx = adamx.chain(adamx.clip(1.0), adamx.adafactor(0.1, 3, momentum=0.9))
    state = tx.init(PARAMS)
    specs = {"body": {"w": PartitionSpec("x"), "b": None}, "head": PartitionSpec()}
    new = adamx.tree_map_params(
        tx,
        lambda x, spec: spec,
        state,
        specs,
        params=PARAMS,
        transform_non_params=lambda x: "whole",
    )
    factored, momentum = new[1][0], adamx.tree_get(new, "ema")
    assert momentum == specs
    assert factored.v_row == {"body": {"w": "whole", "b": "whole"}, "head": "whole"}
    assert factored.v["body"] == {"w": "whole", "b": None}
    assert factored.count == "whole"


def test_without_parameters_it_maps_what_stands_where_they_do():
    tx = adamx.adamw(0.1, mask={"body": True, "head": False})
    state = tx.init(PARAMS)
    ours = adamx.tree_map_params(tx, lambda x: x + 1, state)
    theirs = optax.tree.map_params(tx, lambda x: x + 1, state)
    chex.assert_trees_all_equal(ours, theirs)
    with_specs = adamx.tree_map_params(tx.init, lambda x, n: x + n, state, PARAMS)
    chex.assert_trees_all_equal(with_specs, ours)


def test_holes_are_asked_for_with_is_leaf():
    """As code for Optax does, which fails there without."""
    groups = {"body": adamx.adam(0.1), "head": adamx.sgd(0.1, 0.9)}
    tx = adamx.partition(groups, HEAD)
    state = tx.init(PARAMS)

    def is_hole(x):
        return isinstance(x, adamx.MaskedNode)

    def name(x, spec):
        return x if is_hole(x) else spec

    names = {"body": {"w": "w", "b": "b"}, "head": "h"}
    ours = adamx.tree_map_params(tx, name, state, names, is_leaf=is_hole)
    theirs = optax.tree.map_params(tx, name, state, names, is_leaf=is_hole)
    assert ours == theirs
    assert adamx.tree_map_params(tx, name, state, names) == ours
    with pytest.raises(ValueError, match="MaskedNode"):
        optax.tree.map_params(tx, name, state, names)


def test_states_of_others_are_errors():
    adam, sgd = adamx.adam(0.1), adamx.sgd(0.1, 0.9)
    text = "; was it made by this transformation for these params?"
    with raises(
        ValueError,
        "tree_map_params: the state does not match the parameters at [0].trace" + text,
    ):
        adamx.tree_map_params(sgd, jnp.sign, adam.init(PARAMS))
    with raises(
        ValueError,
        "tree_map_params: the state does not match the parameters at [0].mu['head']"
        + text,
    ):
        adamx.tree_map_params(
            adam, jnp.add, adam.init(PARAMS), {"body": PARAMS["body"]}
        )
    with raises(
        TypeError, "tree_map_params: expected a transformation or its init, got 3."
    ):
        adamx.tree_map_params(3, jnp.sign, ())


# ---- reset_state


def test_what_is_chosen_starts_anew_and_the_rest_stays():
    tx = adamx.adamw(SCHEDULE)
    state, fresh = trained(tx), tx.init(PARAMS)
    for where in (
        "head",
        r"^h",
        adamx.by_path(lambda path: path == "head"),
        adamx.by_path({r"head": True, r"": False}),
        {"body": False, "head": True},
    ):
        new = adamx.reset_state(tx, state, PARAMS, where)
        for field in ("mu", "nu"):
            got, old = getattr(new[0], field), getattr(state[0], field)
            assert got["body"] == old["body"]
            chex.assert_trees_all_equal(got["head"], getattr(fresh[0], field)["head"])
            assert np.all(old["head"] != 0)
        assert [int(new[i].count) for i in (0, 2)] == [3, 3]
    everything = adamx.reset_state(tx, state, PARAMS, True)
    chex.assert_trees_all_equal(everything, fresh)


def test_the_counters_of_a_group_start_with_all_of_the_group():
    """And those of other groups go on; see issue 1371 of Optax."""
    tx = adamx.partition(
        {"body": adamx.adam(SCHEDULE), "head": adamx.chain(adamx.adam(0.1))}, HEAD
    )
    state, fresh = trained(tx), tx.init(PARAMS)
    head = adamx.reset_state(tx, state, PARAMS, "head")
    chex.assert_trees_all_equal(head.inner_states["head"], fresh.inner_states["head"])
    chex.assert_trees_all_equal(head.inner_states["body"], state.inner_states["body"])
    some = adamx.reset_state(tx, state, PARAMS, "body/w")
    adam, schedule = some.inner_states["body"].inner_state
    assert int(adam.count) == int(schedule.count) == 3
    np.testing.assert_array_equal(adam.mu["body"]["w"], 0)
    body = adamx.reset_state(tx, state, PARAMS, "body")
    chex.assert_trees_all_equal(body.inner_states["body"], fresh.inner_states["body"])
    # The run goes on as the fresh one does.
    updates, _ = jax.jit(tx.update)(PARAMS, body, PARAMS)
    first, _ = jax.jit(tx.update)(PARAMS, fresh, PARAMS)
    chex.assert_trees_all_equal(updates["body"], first["body"])


def test_a_group_that_keeps_no_arrays_has_what_the_others_leave():
    """And one without parameters starts anew with the whole."""
    rate = adamx.scale_by_learning_rate(SCHEDULE)
    groups = {"body": adamx.adam(0.1), "head": rate}
    tx = adamx.partition(groups, HEAD)
    state = trained(tx)

    def count(where):
        new = adamx.reset_state(tx, state, PARAMS, where)
        return int(new.inner_states["head"].inner_state.count)

    assert [count("head"), count("body"), count(True)] == [0, 3, 0]
    tx = adamx.partition(groups, "body")
    state = trained(tx)
    assert [count("head"), count("body"), count(True)] == [3, 3, 0]


def test_a_schedule_for_all_does_not_start_with_some():
    mask = {"body": True, "head": False}
    inner = adamx.masked(adamx.scale_by_adam(), mask)
    tx = adamx.chain(inner, adamx.scale_by_learning_rate(SCHEDULE))
    new = adamx.reset_state(tx, trained(tx), PARAMS, "body")
    assert int(new[0].inner_state.count) == 0
    assert int(new[1].count) == 3


def test_reset_under_jit_and_of_lists_of_arrays():
    """SM3 has one array for each axis of a parameter."""
    tx = adamx.sm3(0.1)
    state = trained(tx)
    new = jax.jit(lambda s: adamx.reset_state(tx, s, PARAMS, "w"))(state)
    assert not any(map(np.any, new[0].mu["body"]["w"]))
    chex.assert_trees_all_equal(new[0].mu["head"], state[0].mu["head"])
    assert types(new) == types(state)


def test_wrong_resets_are_errors():
    tx = adamx.adam(0.1)
    state = tx.init(PARAMS)
    with raises(
        ValueError,
        "reset_state: expected where to choose some of the parameters, got n",
    ):
        adamx.reset_state(tx, state, PARAMS, "tail")
    with raises(
        ValueError,
        "reset_state: expected where to choose some of the parameters, got n",
    ):
        adamx.reset_state(tx, state, PARAMS, {"body": False, "head": False})
    with raises(ValueError, "reset_state: expected a regular expression, got '(':"):
        adamx.reset_state(tx, state, PARAMS, "(")
    with raises(
        ValueError,
        "reset_state: expected f32[5,2], got f32[4,2] at [0].mu['head']; was the state "
        "made by this transformation for these params?",
    ):
        adamx.reset_state(tx, state, PARAMS | {"head": jnp.ones((5, 2))}, "head")
    with raises(
        ValueError, "reset_state: expected nothing, got f32[4,2] at [0].mu['head']; was"
    ):
        adamx.reset_state(tx, state, {"body": PARAMS["body"]}, "body")
    with raises(
        TypeError, "reset_state: expected a gradient transformation as tx, got"
    ):
        adamx.reset_state(adamx.adam, state, PARAMS, "head")


# ---- grow_state


@pytest.mark.parametrize(
    "tx",
    [
        adamx.adamw(SCHEDULE),
        adamx.sgd(0.1, momentum=0.9),
        adamx.adagrad(0.1),
        adamx.partition({"body": adamx.adam(0.1), "head": adamx.adamw(0.1)}, HEAD),
    ],
    ids=["adamw", "momentum", "adagrad", "partition"],
)
def test_old_rows_go_on_as_if_there_were_no_new_ones(tx, rng):
    """A vocabulary of 5 grows to 8 after three steps; bit for bit, for five more."""
    update = jax.jit(tx.update)
    params = {
        "embed": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
        "head": jnp.asarray(rng.normal(size=(3, 5)), jnp.float32),
        "bias": jnp.zeros(3),
    }

    def run(params, state, steps, seed):
        draw = np.random.default_rng(seed)
        for _ in range(steps):
            # The old rows have the same gradients in both runs.
            full = {"embed": (8, 3), "head": (3, 8), "bias": (3,)}
            grads = {
                k: jnp.asarray(draw.normal(size=shape), jnp.float32)[
                    tuple(map(slice, params[k].shape))
                ]
                for k, shape in full.items()
            }
            updates, state = update(grads, state, params)
            params = adamx.apply_updates(params, updates)
        return params, state

    params, state = run(params, tx.init(params), 3, 1)
    grown = {
        "embed": jnp.concatenate([params["embed"], jnp.ones((3, 3), jnp.float32)]),
        "head": jnp.concatenate([params["head"], jnp.ones((3, 3), jnp.float32)], 1),
        "bias": params["bias"],
    }
    bigger, start = adamx.grow_state(tx, state, grown), tx.init(grown)
    assert types(bigger) == types(start)
    for new, old, fresh in zip(
        *map(jax.tree.leaves, (bigger, state, start)), strict=True
    ):
        corner = tuple(map(slice, old.shape))
        np.testing.assert_array_equal(new[corner], old)
        outside = np.ones(new.shape, bool)
        outside[corner] = False
        np.testing.assert_array_equal(new[outside], fresh[outside])
        assert new.shape != old.shape or new is old
    small, _ = run(params, state, 5, 2)
    large, _ = run(grown, bigger, 5, 2)
    for k, p in small.items():
        np.testing.assert_array_equal(large[k][tuple(map(slice, p.shape))], p)
        assert large[k].shape == p.shape or np.any(large[k] != grown[k])


def test_factored_statistics_grow_along():
    tx = adamx.adafactor(0.1, 2, multiply_by_parameter_scale=False)
    params, grown = {"e": jnp.ones((6, 3))}, {"e": jnp.ones((9, 3))}
    state = trained(tx, params)
    new = adamx.grow_state(tx, state, grown, old_params=params)
    assert types(new) == types(tx.init(grown))
    np.testing.assert_array_equal(new[0].v_row["e"], state[0].v_row["e"])
    np.testing.assert_array_equal(new[0].v_col["e"][:6], state[0].v_col["e"])
    np.testing.assert_array_equal(new[0].v_col["e"][6:], 0)
    # With momentum the state itself shows the old shape.
    with_mean = adamx.adafactor(0.1, 2, momentum=0.9)
    new = adamx.grow_state(with_mean, trained(with_mean, params), grown)
    assert new[0].v_col["e"].shape == (9,)
    sm3 = adamx.sm3(0.1)
    new = adamx.grow_state(sm3, trained(sm3, params), grown)
    assert [x.shape for x in new[0].mu["e"]] == [(9,), (3,)]
    novograd = adamx.novograd(0.1)
    state = trained(novograd, params)
    new = adamx.grow_state(novograd, state, grown)
    assert new[0].nu["e"] is state[0].nu["e"]


def test_statistics_of_another_axis_are_not_taken_over():
    """v_row lacks the larger axis: of [4,3] it has 3 entries, of [4,6] 4."""
    tx = adamx.adafactor(0.1, 2)
    params, grown = {"e": jnp.ones((4, 3))}, {"e": jnp.ones((4, 6))}
    state = tx.init(params)
    with raises(
        ValueError,
        "grow_state: expected old_params, got none; the state does not show which axis "
        "has grown of the parameter with statistics at [0].v_row['e'].",
    ):
        adamx.grow_state(tx, state, grown)
    with raises(
        ValueError,
        "grow_state: expected axes that keep their order by size, got [4, 3] to [4, 6] "
        "for the statistics at [0].v_row['e']; they may be of other axes then.",
    ):
        adamx.grow_state(tx, state, grown, old_params=params)
    # Here no shape shows it: v_row stays [4], but is of axis 0, then of axis 1.
    square = {"e": jnp.ones((4, 4))}
    with raises(ValueError, "grow_state: expected axes that keep their order by size"):
        adamx.grow_state(
            tx, tx.init(square), {"e": jnp.ones((5, 4))}, old_params=square
        )


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            PARAMS | {"head": jnp.ones((3, 2))},
            "grow_state: expected at most f32[3,2], got f32[4,2] at [0].mu['head']; "
            "was the state made by this transformation for these params?",
        ),
        (
            PARAMS | {"head": jnp.ones((4, 2, 1))},
            "grow_state: expected at most f32[4,2,1], got f32[4,2] at [0].mu['head'];",
        ),
        (
            PARAMS | {"tail": jnp.ones(2)},
            "grow_state: expected f32[2], got nothing at [0].mu['tail']; was the state",
        ),
        (
            PARAMS | {"head": jnp.ones((4, 2), jnp.complex64)},
            "grow_state: expected at most c64[4,2], got f32[4,2] at [0].mu['head'];",
        ),
    ],
)
def test_what_has_not_grown_is_an_error(params, text):
    tx = adamx.adam(0.1)
    with raises(ValueError, text):
        adamx.grow_state(tx, tx.init(PARAMS), params)


def test_what_belongs_to_no_parameter_does_not_grow():
    short = adamx.scale_by_muon(ns_coeffs=jnp.ones((2, 3)))
    long = adamx.scale_by_muon(ns_coeffs=jnp.ones((3, 3)))
    params = {"w": jnp.ones((3, 4))}
    with raises(ValueError, "grow_state: expected at most f32[3,3], got f32[2,3] at ."):
        adamx.grow_state(long, short.init(params), params)
