"""Runs that change between PyTorch and adamx in the middle."""

import copy
import re
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import CASES
from flax import nnx

import adamx

torch = pytest.importorskip("torch")

from test_parity_torch import COMPOSED  # noqa: E402  # the same

from adamx.interop.torch import (  # noqa: E402  # the same
    match,
    params_from_torch,
    params_to_torch,
    state_from_torch,
    state_to_torch,
    transformation_from_torch,
)
from adamx.interop.torch.optimizers import KINDS  # noqa: E402  # the same
from interop.runs import (  # noqa: E402  # after the line that skips
    TorchNet,
    flax_params,
    flax_steps,
    torch_optimizer,
    torch_steps,
)

FIRST, THEN, LAST = range(10), range(10, 20), range(20, 30)
# Every row of the table with a twin there, and every option that is a composition here.
KNOWN = {*KINDS, "AdamW"}
TWINS = {case.id: case.torch for case in CASES if case.torch}
TWINS |= {name: twin for name, (twin, _) in COMPOSED.items()}
TWINS = {name: twin for name, twin in TWINS.items() if twin[0] in KNOWN}
# What neither of them has.
TWINS |= {
    "Adagrad, falling": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    "SGD, dampening without momentum": ("SGD", {"lr": 0.1, "dampening": 0.5}),
    "AdamW, uphill": ("AdamW", {"lr": 0.01, "maximize": True}),
}


def says(text):
    """Expects an error that begins so."""
    return pytest.raises(ValueError, match="^" + re.escape(text))


@pytest.fixture(scope="module")
def layout():
    return match(TorchNet().state_dict(), flax_params())


def started(name, kwargs):
    """A network after ten steps, and its optimizer."""
    net = TorchNet()
    tx = torch_optimizer(net, name, kwargs)
    torch_steps(net, tx, FIRST)
    return net, tx


def saved(net, tx):
    """What a run would have saved now."""
    return copy.deepcopy((net.state_dict(), tx.state_dict()))


def test_every_optimizer_is_in_the_table():
    assert {name for name, _ in TWINS.values()} == KNOWN
    assert len(TWINS) > 20


@pytest.mark.parametrize("name", TWINS)
def test_a_run_that_begins_in_torch_goes_on_here_and_back(name, layout):
    """With the losses that it would have had."""
    net, theirs = started(*TWINS[name])
    tensors, state_dict = saved(net, theirs)
    want = torch_steps(net, theirs, THEN)

    params = params_from_torch(tensors, layout)
    tx = transformation_from_torch(state_dict, layout)
    state = state_from_torch(tx, state_dict, layout)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, tx.init(params))
    params, state, got = flax_steps(params, tx, state, THEN)
    np.testing.assert_allclose(got, want, rtol=1e-6)

    fresh = TorchNet()
    fresh.load_state_dict(params_to_torch(params, layout))
    back = torch_optimizer(fresh, *TWINS[name])
    # RMSprop counts its steps, and nothing depends on it.
    told = state_to_torch(tx, state, back.state_dict(), layout, count=20)
    chex.assert_trees_all_equal(state_from_torch(tx, told, layout), state)
    back.load_state_dict(told)
    want = torch_steps(net, theirs, LAST)
    np.testing.assert_allclose(torch_steps(fresh, back, LAST), want, rtol=1e-6)
    kept, ours = theirs.state_dict()["state"], back.state_dict()["state"]
    assert kept.keys() == ours.keys()
    for key, entry in kept.items():
        assert entry.keys() == ours[key].keys()
        assert entry.get("step") == ours[key].get("step")


def test_groups_of_torch_are_a_partition(layout):
    """Two groups, and parameters in neither."""

    net = TorchNet()
    hidden, out = (
        [*getattr(net, name).named_parameters(name)] for name in ("hidden", "out")
    )
    groups = [{"params": hidden, "lr": 0.02}, {"params": out, "weight_decay": 0.3}]
    theirs = torch.optim.AdamW(groups, lr=0.01)
    torch_steps(net, theirs, FIRST)
    tensors, state_dict = saved(net, theirs)
    want = torch_steps(net, theirs, THEN)
    tx = transformation_from_torch(state_dict, layout)
    state = state_from_torch(tx, state_dict, layout)
    assert list(state.inner_states) == ["frozen", "group 0", "group 1"]
    params = params_from_torch(tensors, layout)
    after, end, got = flax_steps(params, tx, state, THEN)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    chex.assert_trees_all_equal(after["embed"], params["embed"])
    back = state_to_torch(tx, end, state_dict, layout)
    assert back["state"].keys() == state_dict["state"].keys()
    chex.assert_trees_all_equal(state_from_torch(tx, back, layout), end)
    with says(
        "transformation_from_torch: expected groups with the same hyperparameters, got "
        "2 that differ; give layout.",
    ):
        transformation_from_torch(state_dict)


def test_state_in_wrappers_and_schedules(layout):
    """Every count is set; what PyTorch does not keep is named."""
    net, theirs = started("AdamW", {"lr": 0.01})
    _, state_dict = saved(net, theirs)
    schedule = adamx.linear_schedule(0.1, 0.0, 100)
    tx = adamx.chain(adamx.clip(1.0), adamx.adamw(schedule, weight_decay=schedule))
    state = state_from_torch(tx, state_dict, layout)
    counts = adamx.tree_get_all_with_path(state, "count")
    assert [int(count) for _, count in counts] == [10, 10, 10]
    accumulated = adamx.MultiSteps(adamx.adamw(0.01), 2)
    with says(
        "state_from_torch: expected i32[], got nothing at .mini_step; expected i32[], "
        "got nothing at .gradient_step; expected .acc_grads['embed']['embedding'] of "
        "'embed.weight', got nothing; expected .acc_grads"
    ):
        state_from_torch(accumulated, state_dict, layout)


def test_a_count_that_torch_does_not_keep(layout):
    net, theirs = started("SGD", {"lr": 0.1, "momentum": 0.9})
    _, state_dict = saved(net, theirs)
    tx = adamx.sgd(adamx.linear_schedule(0.1, 0.0, 100), 0.9)
    with says(
        "state_from_torch: expected count, as PyTorch has none, got None at [1].count;",
    ):
        state_from_torch(tx, state_dict, layout)
    state = state_from_torch(tx, state_dict, layout, count=10)
    assert state[1].count == 10
    for wrong in (-1, 2.5, True, 2**31):
        with says(
            "state_from_torch: expected count as a number of steps or None, got "
            f"{wrong!r}."
        ):
            state_from_torch(tx, state_dict, layout, count=wrong)
    plain = adamx.rmsprop(0.1, 0.99, eps_in_sqrt=False)
    fresh = torch_optimizer(TorchNet(), "RMSprop", {}).state_dict()
    with says(
        "state_to_torch: expected one count for 'embed.weight', got none; give count;",
    ):
        params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), flax_params())
        state_to_torch(plain, plain.init(params), fresh, layout)


def test_what_torch_goes_on_writing_is_not_ours(layout):
    """A state and parameters are copies, in both directions."""
    net, theirs = started("AdamW", {"lr": 0.01})
    tx = adamx.adamw(0.01)

    def moved():
        tensors, state_dict = net.state_dict(), theirs.state_dict()
        state = state_from_torch(tx, state_dict, layout)
        return params_from_torch(tensors, layout), state

    first = moved()
    bits = jax.tree.map(np.array, first)
    torch_steps(net, theirs, THEN)
    chex.assert_trees_all_equal(first, bits)
    assert not np.array_equal(
        moved()[1][0].mu["out"]["bias"], bits[1][0].mu["out"]["bias"]
    )
    back = state_to_torch(tx, first[1], theirs.state_dict(), layout)
    back["state"][0]["exp_avg"].fill_(5)
    chex.assert_trees_all_equal(first, bits)


# ---- where parameters are


@pytest.mark.parametrize(
    ("axes", "torch_shape", "shape"),
    [
        ((1, 0), (3, 2), (2, 3)),
        ((2, 1, 0), (5, 4, 3), (3, 4, 5)),
        ((2, 3, 1, 0), (6, 5, 3, 4), (3, 4, 5, 6)),
        ((2, 3, 4, 1, 0), (6, 5, 2, 3, 4), (2, 3, 4, 5, 6)),
    ],
)
def test_kernels_of_torch_are_turned_around(axes, torch_shape, shape, rng):
    x = torch.tensor(rng.normal(size=torch_shape).astype(np.float32))
    like = {"a": {"kernel": jnp.zeros(shape, jnp.float32)}}
    layout = match({"a.weight": x}, like)
    assert layout.places["a.weight"].axes == axes
    params = params_from_torch({"a.weight": x}, layout)
    chex.assert_trees_all_equal(
        np.asarray(params["a"]["kernel"]), np.transpose(x.numpy(), axes)
    )
    assert torch.equal(params_to_torch(params, layout)["a.weight"], x)


class TorchConv(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(
            [torch.nn.Conv2d(2, 4, 3), torch.nn.Conv2d(4, 3, (2, 1), groups=1)]
        )
        self.norm = torch.nn.BatchNorm2d(4)
        self.out = torch.nn.Linear(3, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.layers[0](x)))
        return self.out(self.layers[1](x).mean((2, 3)))


class FlaxConv(nnx.Module):
    def __init__(self, rngs):
        conv = lambda *sizes: nnx.Conv(*sizes, padding="VALID", rngs=rngs)  # noqa: E731
        self.layers = nnx.List([conv(2, 4, (3, 3)), conv(4, 3, (2, 1))])
        self.norm = nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.out = nnx.Linear(3, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.layers[0](x)))
        return self.out(self.layers[1](x).mean((1, 2)))


def test_a_run_with_convolutions_of_torch_goes_on_in_nnx(rng):
    x = rng.normal(size=(8, 6, 7, 2)).astype(np.float32)
    y = rng.normal(size=(8, 5)).astype(np.float32)
    net = TorchConv()
    theirs = torch.optim.AdamW(net.named_parameters(), lr=0.01)

    def torch_step():
        theirs.zero_grad()
        out = net(torch.tensor(x.transpose(0, 3, 1, 2)))
        loss = torch.mean((out - torch.tensor(y)) ** 2)
        loss.backward()
        theirs.step()
        return loss.item()

    for _ in range(5):
        torch_step()
    tensors, state_dict = saved(net, theirs)
    want = [torch_step() for _ in range(10)]

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = FlaxConv(nnx.Rngs(0))
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        params = jax.tree.map(lambda p: p.astype(jnp.float32), params)
        layout = match(tensors, params)
        assert layout.left_out == {
            f"norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")
        }
        params = params_from_torch(tensors, layout)
        tx = transformation_from_torch(state_dict, layout)
        state = state_from_torch(tx, state_dict, layout)

        @jax.jit
        def step(params, state):
            def loss(params):
                out = nnx.merge(graph, params, rest, copy=True)(jnp.asarray(x))
                return jnp.mean((out - y) ** 2)

            value, grads = jax.value_and_grad(loss)(params)
            updates, state = tx.update(grads, state, params)
            return adamx.apply_updates(params, updates), state, value

        got = []
        for _ in range(10):
            params, state, value = step(params, state)
            got.append(float(value))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_names_of_torch_and_flax_that_differ():
    """Lists, wrappers, collections, running statistics; attention by hand."""
    tensors = {
        "module.layers.0.weight": torch.zeros(3, 2),
        "module.norm.weight": torch.zeros(3),
        "module.norm.running_mean": torch.ones(3),
        "module.norm.num_batches_tracked": torch.tensor(4),
        "module.q.weight": torch.arange(24.0).reshape(6, 4),
        "module.head.weight": torch.zeros(3, 2),
        "module.scale": torch.tensor(2.0),
    }
    params = {
        "params": {
            "layers_0": {"kernel": jnp.zeros((2, 3))},
            "norm": {"scale": jnp.zeros(3)},
            "query": {"kernel": jnp.zeros((4, 2, 3))},
            "scale": jnp.zeros(()),
        },
        "batch_stats": {"norm": {"mean": jnp.zeros(3)}},
    }
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    names = {"q.weight": ("params/query/kernel", (1, 0)), "head.weight": None}
    layout = match(tensors, params, names)
    paths = {name: place.path for name, place in layout.places.items()}
    assert paths == {
        "layers.0.weight": "params/layers_0/kernel",
        "norm.weight": "params/norm/scale",
        "norm.running_mean": "batch_stats/norm/mean",
        "q.weight": "params/query/kernel",
        "scale": "params/scale",
    }
    assert layout.left_out == {"head.weight", "norm.num_batches_tracked"}
    moved = params_from_torch(tensors, layout)
    query = tensors["module.q.weight"].numpy()
    chex.assert_trees_all_equal(
        np.asarray(moved["params"]["query"]["kernel"]), query.T.reshape(4, 2, 3)
    )
    back = params_to_torch(moved, layout)
    assert torch.equal(back["q.weight"], tensors["module.q.weight"])
    # A function answers for all names; as it does, the rules may go on.
    same = match(tensors, params, (paths | names).get)
    assert {n: p.path for n, p in same.places.items()} == paths


LIKE = {
    "a": {"kernel": jnp.zeros((2, 3), jnp.float32), "bias": jnp.zeros(3, jnp.float32)}
}
DO = "say with names what is where, or None to leave it out."


@pytest.mark.parametrize(
    ("tensors", "names", "text"),
    [
        (
            {"a.weight": torch.zeros(3, 2)},
            None,
            "expected a tensor for 'a/bias', got none",
        ),
        (
            {"a.weight": torch.zeros(3, 2), "b.bias": torch.zeros(3)},
            None,
            "expected a place for 'b.bias', got none; expected a tensor for 'a/bias', "
            "got none",
        ),
        (
            {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(3)},
            None,
            "expected [2, 3], got [2, 3] of 'a.weight' by axes (1, 0) at 'a/kernel'",
        ),
        (
            {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)},
            {"a.weight": ("a/kernel", (0, 0))},
            "expected [2, 3], got [3, 2] of 'a.weight' by axes (0, 0) at 'a/kernel'",
        ),
        (
            {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)},
            {"a.bais": "a/bias"},
            "expected a tensor 'a.bais', which names has, got none",
        ),
        (
            {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)},
            {"a.bias": "a/kernel"},
            "expected one name for 'a/kernel', got 'a.weight' and 'a.bias'; expected a "
            "tensor for 'a/bias', got none",
        ),
        (
            {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)},
            {"a.bias": "b/bias"},
            "expected a place for 'a.bias', got 'b/bias', which is not in the tree; "
            "expected a tensor for 'a/bias', got none",
        ),
    ],
)
def test_names_and_shapes_of_torch_that_do_not_match(tensors, names, text):
    with says(f"match: {text}; {DO}"):
        match(tensors, LIKE, names)


def test_parameters_of_torch_that_do_not_fit():
    tensors = {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)}
    layout = match(tensors, LIKE)
    wrong = {"a.weight": torch.zeros(3, 2).double(), "b": torch.zeros(1)}
    with says(
        "params_from_torch: expected no 'b', got f32[1]; expected f32[3,2], got "
        "f64[3,2] at 'a.weight'; expected f32[3], got nothing at 'a.bias'; match these "
        "tensors, or cast them first."
    ):
        params_from_torch(wrong, layout)
    half = {"a.weight": torch.full((3, 2), 0.1).bfloat16(), "a.bias": torch.zeros(3)}
    kernel = params_from_torch(half, layout)["a"]["kernel"]
    assert kernel.dtype == jnp.float32
    chex.assert_trees_all_equal(kernel, jnp.full((2, 3), jnp.bfloat16(0.1), "float32"))
    with says(
        "params_to_torch: expected f32[3], got f32[4] at ['a']['bias']; match th"
    ):
        params_to_torch({"a": {**LIKE["a"], "bias": jnp.zeros(4, "float32")}}, layout)


def test_bfloat16_parameters_go_to_torch_and_back(rng):
    x = torch.tensor(rng.normal(size=(3, 2)).astype(np.float32)).bfloat16()
    layout = match({"weight": x}, {"kernel": jnp.zeros((2, 3), jnp.bfloat16)})
    params = params_from_torch({"weight": x}, layout)
    assert params["kernel"].dtype == jnp.bfloat16
    back = params_to_torch(params, layout)["weight"]
    assert back.dtype == torch.bfloat16
    assert torch.equal(back, x)


def test_a_state_of_torch_goes_on_in_optax(layout):
    """Whose states have the same names."""
    _, state_dict = saved(*started("AdamW", {"lr": 0.01, "weight_decay": 0.1}))
    tx = optax.chain(optax.clip(1.0), optax.adamw(0.01, weight_decay=0.1))
    state = state_from_torch(tx, state_dict, layout)
    ours = transformation_from_torch(state_dict, layout)
    want = state_from_torch(ours, state_dict, layout)
    chex.assert_trees_all_equal(tuple(state[1][0]), tuple(want[0]))


# ---- states that do not fit


def entry_of(state_dict, name):
    (group,) = state_dict["param_groups"]
    return state_dict["state"][group["param_names"].index(name)]


def spoil_step(state_dict):
    entry_of(state_dict, "out.bias")["step"] = torch.tensor(3.0)


def spoil_fraction(state_dict):
    entry_of(state_dict, "out.bias")["step"] = torch.tensor(2.5)


def spoil_name(state_dict):
    state_dict["param_groups"][0]["param_names"][-1] = "out.b"


def spoil_field(state_dict):
    entry = entry_of(state_dict, "out.bias")
    entry["exp_average"] = entry.pop("exp_avg")


def spoil_shape(state_dict):
    entry_of(state_dict, "out.bias")["exp_avg"] = torch.zeros(4)


def spoil_square(state_dict):
    """A turned array that would fit what the tree has."""
    entry = entry_of(state_dict, "out.weight")
    entry["exp_avg"] = entry["exp_avg"].T


def spoil_dtype(state_dict):
    entry = entry_of(state_dict, "out.bias")
    entry["exp_avg"] = entry["exp_avg"].double()


def spoil_missing(state_dict):
    del state_dict["state"][6]


def spoil_extra(state_dict):
    state_dict["state"][9] = {}


STATE_DO = "give the tx, the layout and the param_names of this state."


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            spoil_step,
            "expected one number of steps, got 10 for 'out.weight' and 3 for "
            "'out.bias' at [0].count",
        ),
        (spoil_fraction, "expected a number of steps of 'out.bias', got 2.5"),
        (spoil_name, "expected a name of the layout, got 'out.b'"),
        (spoil_shape, "expected [3], got [4] at exp_avg of 'out.bias'"),
        (spoil_square, "expected [3, 5], got [5, 3] at exp_avg of 'out.weight'"),
        (spoil_dtype, "expected f32[3], got f64[3] at exp_avg of 'out.bias'"),
        (
            spoil_field,
            "expected exp_avg of 'out.bias', got nothing; expected no exp_average of "
            "'out.bias', got f32[3]",
        ),
        (spoil_missing, "expected a state of 'out.bias', got none"),
        (spoil_extra, "expected no state of parameter 9, got it in no group"),
    ],
)
def test_a_state_of_torch_that_was_spoiled(spoil, text, layout):
    _, state_dict = saved(*started("AdamW", {"lr": 0.01}))
    spoil(state_dict)
    with says(f"state_from_torch: {text}; {STATE_DO}"):
        state_from_torch(adamx.adamw(0.01), state_dict, layout)


def swapped():
    """The learning rate in front of the momentum, as rmsprop has it."""
    return adamx.rmsprop(0.1, 0.99, eps_in_sqrt=False, momentum=0.9)


@pytest.mark.parametrize(
    ("name", "kwargs", "tx", "text"),
    [
        (
            "SGD",
            {"lr": 0.1, "momentum": 0.9},
            adamx.adam(0.1),
            "expected count, as PyTorch has none, got None at [0].count; expected "
            "exp_avg of 'embed.weight', got nothing; expected",
        ),
        (
            "AdamW",
            {"lr": 0.1, "amsgrad": True},
            adamx.adamw(0.1),
            "expected no max_exp_avg_sq of 'embed.weight', got f32[7,6]; expected",
        ),
        (
            "AdamW",
            {"lr": 0.1},
            adamx.sgd(0.1, 0.9),
            "expected momentum_buffer of 'embed.weight', got nothing; expected",
        ),
        (
            "Adamax",
            {"lr": 0.1},
            adamx.adam(0.1),
            "expected a tx with the nu of AdaMax, exp_inf, got another; make it with "
            "transformation_from_torch.",
        ),
        (
            "Adam",
            {"lr": 0.1},
            adamx.adamax(0.1),
            "expected a tx with the nu of Adam, got another; make it",
        ),
        (
            "Adam",
            {"lr": 0.1, "amsgrad": True},
            adamx.amsgrad(0.1),
            "expected a tx with a nu_max that is not bias-corrected, as of "
            "variant='torch', got another; make it",
        ),
        (
            "RMSprop",
            {"lr": 0.1, "momentum": 0.9},
            swapped(),
            "expected a tx with a trace in front of scale_by_learning_rate, got ano",
        ),
    ],
)
def test_a_state_of_torch_of_another_optimizer(name, kwargs, tx, text, layout):
    """Also where only the numbers, not the names, mean something else."""
    net, theirs = started(name, kwargs)
    with says(f"state_from_torch: {text}"):
        state_from_torch(tx, theirs.state_dict(), layout)
    params = params_from_torch(net.state_dict(), layout)
    with pytest.raises(ValueError, match=r"^state_to_torch: expected "):
        state_to_torch(tx, tx.init(params), theirs.state_dict(), layout, count=1)


def test_factors_of_convolutions_are_of_other_axes_in_torch():
    net = torch.nn.Conv2d(2, 3, 4)
    theirs = torch.optim.Adafactor(net.named_parameters(), lr=0.01)
    net(torch.ones(1, 2, 4, 4)).sum().backward()
    theirs.step()
    like = {"kernel": jnp.zeros((4, 4, 2, 3)), "bias": jnp.zeros(3)}
    layout = match(net.state_dict(), jax.tree.map(lambda x: x.astype("float32"), like))
    tx = transformation_from_torch(theirs.state_dict())
    with says(
        "state_from_torch: expected a mean of squares over axis 0 of 'weight', got "
        "nothing; expected a mean of squares over axis 1 of 'weight', got nothing; "
        "expected no col_var of 'weight', got f32[3,2,1,4]; expected no row_var of "
        "'weight', got f32[3,2,4,1]; "
    ):
        state_from_torch(tx, theirs.state_dict(), layout)


def without_names(state_dict):
    (group,) = state_dict["param_groups"]
    groups = [{k: v for k, v in group.items() if k != "param_names"}]
    return {**state_dict, "param_groups": groups}


def test_names_of_parameters_of_torch(layout):
    net, theirs = started("AdamW", {"lr": 0.01})
    state_dict = theirs.state_dict()
    tx = adamx.adamw(0.01)
    want = state_from_torch(tx, state_dict, layout)
    names = [name for name, _ in net.named_parameters()]
    bare = without_names(state_dict)
    got = state_from_torch(tx, bare, layout, param_names=names)
    chex.assert_trees_all_equal(got, want)
    # As torch.distributed.checkpoint has it.
    by_name = {
        "state": {names[i]: entry for i, entry in bare["state"].items()},
        "param_groups": [{**bare["param_groups"][0], "params": names}],
    }
    chex.assert_trees_all_equal(state_from_torch(tx, by_name, layout), want)
    with says(
        "state_from_torch: expected param_names, which this state_dict() does no"
    ):
        state_from_torch(tx, bare, layout)
    with says(
        "state_from_torch: expected 7 param_names, one for each parameter of the "
        "optimizer, got 6."
    ):
        state_from_torch(tx, bare, layout, param_names=names[1:])
    with says("state_from_torch: expected param_names that differ, got 'out.bias' twi"):
        state_from_torch(tx, bare, layout, param_names=[*names[1:], names[-1]])
    with says(
        "state_from_torch: expected the state_dict() of an optimizer, with 'state' and "
        "'param_groups', got ['embed.weight', "
    ):
        state_from_torch(tx, net.state_dict(), layout)
    with pytest.raises(TypeError, match=r"^state_from_torch: expected a gradient tr"):
        state_from_torch(adamx.adamw, state_dict, layout)
    with says("state_to_torch: expected i32[], got nothing at [0].count; was the stat"):
        state_to_torch(tx, adamx.sgd(0.1).init({}), state_dict, layout)


@pytest.mark.parametrize(
    ("group", "text"),
    [
        (
            {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.0},
            "expected the hyperparameters of one of Adam, NAdam, RAdam, Adamax, Adagr",
        ),
        (
            {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.0}
            | {"nesterov": False},
            "expected dampening 0, got 0.5; make the transformation yourself.",
        ),
        (
            {"lr": 0.1, "beta2_decay": -0.8, "eps": (None, 1e-2), "d": 1.0}
            | {"weight_decay": 0.0},
            "expected the second eps 1e-3, got 0.01; make the transformation yourself.",
        ),
        (
            {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
            | {"amsgrad": False},
            "expected decoupled_weight_decay in param_groups, got none; give optimize",
        ),
        (
            {"lr": -0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0},
            "expected scale_by_learning_rate: expected learning_rate in [0, inf), go",
        ),
    ],
)
def test_hyperparameters_of_torch_without_a_counterpart(group, text):
    state_dict = {"state": {}, "param_groups": [{"params": [0], **group}]}
    with says(f"transformation_from_torch: {text}"):
        transformation_from_torch(state_dict)


def test_adam_and_adamw_of_older_torch():
    """Whose state does not tell them apart; a learning rate may be a tensor."""
    group = {"lr": torch.tensor(0.5), "betas": (0.9, 0.99), "eps": 1e-8, "params": [0]}
    group |= {"weight_decay": 0.5, "amsgrad": False}
    state_dict = {"state": {}, "param_groups": [group]}
    params, g = jnp.ones(1), jnp.zeros(1)
    for optimizer, want in (("Adam", -0.5), ("AdamW", -0.25)):
        tx = transformation_from_torch(state_dict, optimizer=optimizer)
        u, _ = tx.update(g, tx.init(params), params)
        assert u == pytest.approx(want, rel=1e-6)
    with says("transformation_from_torch: expected optimizer as None, 'Adam' or 'Adam"):
        transformation_from_torch(state_dict, optimizer="Lion")


# ---- the module


def test_without_torch_one_line_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import adamx.interop.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: adamx.interop.torch needs torch; install torch."
