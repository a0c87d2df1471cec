"""Every message by its text: who, what was expected, what came, where, what to do."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adamx

PARAMS = {"dense": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
RANGES = {
    "b1": "[0, 1)",
    "b2": "[0, 1)",
    "eps": "[0, inf)",
    "eps_root": "[0, inf)",
    "initial_scale": "[0, inf)",
    "initial_accumulator_value": "[0, inf)",
}


KEY = jax.random.key(0)
FLOAT = "f64" if jnp.ones(()).dtype == jnp.float64 else "f32"


def raises(kind, text):
    """Expects the text, in which f32 stands for the dtype that jnp.ones gives."""
    return pytest.raises(kind, match="^" + re.escape(text.replace("f32", FLOAT)))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (adamx.scale_by_adam, ["b1", "b2", "eps", "eps_root"]),
        (adamx.scale_by_amsgrad, ["b1", "b2", "eps", "eps_root"]),
        (adamx.bias_correction, ["b1", "b2"]),
        (adamx.scale_by_rms, ["decay", "eps", "initial_scale"]),
        (adamx.scale_by_stddev, ["decay", "eps", "initial_scale"]),
        (adamx.scale_by_rss, ["initial_accumulator_value", "eps"]),
        (adamx.ema, ["decay"]),
    ],
)
@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), np.float32(-1)])
def test_a_number_out_of_its_range(make, names, value):
    for name in names:
        interval = RANGES.get(name, "[0, 1)")
        if interval == "[0, inf)" and value > 0:
            value = float("inf")
        text = f"{make.__name__}: expected {name} in {interval}, got {value}."
        with raises(ValueError, text):
            make(**{name: value})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: adamx.trace(1.5), "trace: expected decay in [0, 1], got 1.5."),
        (lambda: adamx.clip(0.0), "clip: expected max_delta in (0, inf), got 0.0."),
        (
            lambda: adamx.clip_by_global_norm(-1),
            "clip_by_global_norm: expected max_norm in (0, inf), got -1.",
        ),
        (
            lambda: adamx.clip_by_block_rms(0),
            "clip_by_block_rms: expected threshold in (0, inf), got 0.",
        ),
        (
            lambda: adamx.adaptive_grad_clip(0.1, eps=0.0),
            "adaptive_grad_clip: expected eps in (0, inf), got 0.0.",
        ),
        (
            lambda: adamx.scale(float("inf")),
            "scale: expected step_size in (-inf, inf), got inf.",
        ),
        (
            lambda: adamx.adam(-1.0),
            "scale_by_learning_rate: expected learning_rate in [0, inf), got -1.0.",
        ),
        (
            lambda: adamx.adamw(1.0, weight_decay=-1.0),
            "add_decayed_weights: expected weight_decay in [0, inf), got -1.0.",
        ),
        (
            lambda: adamx.amsgrad(1.0, variant="keras"),
            "scale_by_amsgrad: expected variant in ('optax', 'torch', 'paper'), "
            "got 'keras'.",
        ),
        (
            lambda: adamx.amsgrad(1.0, bias_correction_nu=False, variant="torch"),
            "scale_by_amsgrad: expected no bias_correction flags with variant 'torch', "
            "which fixes them; leave them out.",
        ),
        (
            lambda: adamx.amsgrad(1.0, mask={"w": True}),
            "amsgrad: expected no mask without weight_decay; give weight_decay too.",
        ),
        (
            lambda: adamx.chain(),
            "chain: expected at least one transformation, got none; adamx.identity() "
            "does nothing.",
        ),
        (
            lambda: adamx.named_chain(("a", adamx.scale(1)), ("a", adamx.scale(1))),
            "named_chain: expected names that differ, got ['a', 'a'].",
        ),
        (
            lambda: adamx.partition({"a": adamx.scale(1.0)}, {"w": "a", "b": "c"}),
            "partition: no transformation for label 'c' (at ['b']); have 'a'.",
        ),
    ],
)
def test_wrong_values_at_construction(make, text):
    with raises(ValueError, text):
        make()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: adamx.adam("0.1"),
            "scale_by_learning_rate: expected learning_rate as a number in [0, inf) or "
            "a scalar array, got '0.1'.",
        ),
        (
            lambda: adamx.adam(jnp.ones(3)),
            "scale_by_learning_rate: expected learning_rate as a number in [0, inf) or "
            "a scalar array, got f32[3].",
        ),
        (
            lambda: adamx.scale_by_adam(b1=True),
            "scale_by_adam: expected b1 as a number in [0, 1) or a scalar array, got "
            "True.",
        ),
        (
            lambda: adamx.scale_by_adam(nesterov="yes"),
            "scale_by_adam: expected nesterov as True or False, got 'yes'.",
        ),
        (
            lambda: adamx.adam(adamx.EmptyState),
            "scale_by_learning_rate: expected learning_rate as a schedule, got the "
            "class",
        ),
        (
            lambda: adamx.scale_by_schedule(0.1),
            "scale_by_schedule: expected step_size_fn as a function of the count, got "
            "0.1.",
        ),
        (
            lambda: adamx.stateless(3),
            "stateless: expected f as a function, got 3.",
        ),
        (
            lambda: adamx.chain(adamx.clip(1.0), adamx.adam),
            "chain: expected a gradient transformation as argument 2, got the function "
            "adam; call it: adam(...).",
        ),
        (
            lambda: adamx.chain(optax.MultiSteps),
            "chain: expected a gradient transformation as argument 1, got the class "
            "MultiSteps; call it: MultiSteps(...).",
        ),
        (
            lambda: adamx.chain((adamx.clip(1.0).init, adamx.clip(1.0).update)),
            "chain: expected a gradient transformation as argument 1, got a tuple; "
            "make it with adamx or Optax.",
        ),
        (
            lambda: adamx.masked(None, True),
            "masked: expected a gradient transformation as inner, got a NoneType; "
            "make it with adamx or Optax.",
        ),
        (
            lambda: adamx.named_chain(adamx.clip(1.0)),
            "named_chain: expected pairs (name, transformation), got ",
        ),
        (
            lambda: adamx.masked(adamx.scale(1.0), {"w": "yes"}),
            "masked: expected True or False in the mask, got 'yes' at ['w'].",
        ),
        (
            lambda: adamx.masked(adamx.scale(1.0), {"w": jnp.ones(2, bool)}),
            "masked: expected True or False in the mask, got bool[2] at ['w'].",
        ),
        (
            lambda: adamx.adamw(0.1, mask={"w": 1.0}),
            "add_decayed_weights: expected True or False in the mask, got 1.0 at "
            "['w'].",
        ),
        (
            lambda: adamx.freeze({"w": 1.0}),
            "freeze: expected True or False in the mask, got 1.0 at ['w'].",
        ),
        (
            lambda: adamx.selective_transform(adamx.adam, freeze_mask=True),
            "selective_transform: expected a gradient transformation as optimizer, got "
            "the function adam; call it: adam(...).",
        ),
        (
            lambda: adamx.partition([adamx.scale(1.0)], True),
            "partition: expected transforms as a dictionary from labels to "
            "transformations, got [",
        ),
        (
            lambda: adamx.partition({"a": adamx.scale}, "a"),
            "partition: expected a gradient transformation as transforms['a'], got the "
            "function scale; call it: scale(...).",
        ),
        (
            lambda: adamx.by_path("bias"),
            "by_path: expected rule as a function or a dictionary from regular "
            "expressions, got 'bias'.",
        ),
    ],
)
def test_wrong_kinds_at_construction(make, text):
    with raises(TypeError, text):
        make()


MOMENTS = [
    adamx.scale_by_adam(),
    adamx.scale_by_amsgrad(),
    adamx.scale_by_rms(),
    adamx.scale_by_stddev(),
    adamx.scale_by_rss(),
    adamx.trace(0.9),
    adamx.ema(0.9),
]
WHO = [
    "scale_by_adam",
    "scale_by_amsgrad",
    "scale_by_rms",
    "scale_by_stddev",
    "scale_by_rss",
    "trace",
    "ema",
]
FLOAT0 = jax.grad(lambda p: p["x"], allow_int=True)({"x": 1.0, "w": jnp.arange(2)})["w"]


@pytest.mark.parametrize(("tx", "who"), [*zip(MOMENTS, WHO, strict=True)], ids=WHO)
def test_parameters_that_have_no_gradient(tx, who):
    for leaf, shown in [
        (jnp.arange(3), "i32[3]" if jnp.arange(3).dtype == jnp.int32 else "i64[3]"),
        (np.ones(2, bool), "bool[2]"),
        ("text", "'text'"),
        (KEY, "key[]"),
    ]:
        text = (
            f"{who}: expected params of a floating or complex dtype, got {shown} at "
            "['dense']['ids']; leave it out with adamx.masked or adamx.partition."
        )
        with raises(TypeError, text):
            tx.init({"dense": {"ids": leaf, "kernel": jnp.ones(2)}})


@pytest.mark.parametrize(("tx", "who"), [*zip(MOMENTS, WHO, strict=True)], ids=WHO)
@pytest.mark.parametrize(
    ("leaf", "shown"),
    [(np.arange(3, dtype=np.int32), "i32[3]"), ("x", "'x'"), (FLOAT0, "float0[2]")],
)
def test_gradients_that_are_no_numbers(tx, who, leaf, shown):
    state = tx.init({"w": jnp.ones(3)})
    text = (
        f"{who}: expected updates of a floating or complex dtype, got {shown} at ['w']"
    )
    with raises(TypeError, text):
        tx.update({"w": leaf}, state)


@pytest.mark.parametrize(("tx", "who"), [*zip(MOMENTS, WHO, strict=True)], ids=WHO)
def test_trees_that_do_not_match(tx, who):
    state = tx.init(PARAMS)
    kernel, bias = PARAMS["dense"]["kernel"], PARAMS["dense"]["bias"]
    start = f"{who}: updates do not match the state"
    end = "were both made from the same params?"
    for dense, text in [
        ({"kernel": kernel.T, "bias": bias}, "['kernel']: f32[4,3] against f32[3,4]"),
        ({"kernel": kernel}, "['bias']: nothing against f32[4]"),
        ({"kernel": None, "bias": bias}, "['kernel']: None against f32[3,4]"),
        (
            {"kernel": kernel, "bias": bias, "new": bias},
            "['new']: f32[4] against nothing",
        ),
    ]:
        with raises(ValueError, f"{start} at ['dense']{text}; {end}"):
            tx.update({"dense": dense}, state)
    with raises(ValueError, f"{start}: PyTreeDef((*, *)) against PyTreeDef([*, *]); "):
        tx.update((bias, bias), tx.init([bias, bias]))


def test_a_failed_update_leaves_the_state_as_it_was():
    tx = adamx.adamw(0.1)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="do not match"):
        tx.update({"dense": {"kernel": jnp.ones(2)}}, state, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, state, tx.init(PARAMS))


@pytest.mark.parametrize(
    ("tx", "who"),
    [
        (adamx.add_decayed_weights(0.1), "add_decayed_weights"),
        (adamx.adamw(0.1), "add_decayed_weights"),
        (adamx.adamw(0.1, weight_decay=lambda count: 0.1), "add_decayed_weights"),
        (adamx.adaptive_grad_clip(0.1), "adaptive_grad_clip"),
    ],
)
def test_missing_parameters(tx, who):
    text = f"{who}: needs the parameters; call tx.update(grads, state, params)."
    with raises(ValueError, text):
        tx.update(PARAMS, tx.init(PARAMS))


def test_parameters_that_do_not_match():
    tx = adamx.add_decayed_weights(0.1)
    text = (
        "add_decayed_weights: updates do not match the params at ['w']: f32[2] against "
    )
    with raises(ValueError, text + "f32[3]; were both made from the same params?"):
        tx.update({"w": jnp.ones(2)}, tx.init(None), {"w": jnp.ones(3)})
    with raises(ValueError, text + "None; were both made from the same params?"):
        tx.update({"w": jnp.ones(2)}, tx.init(None), {"w": None})
    text = (
        "apply_updates: updates do not match the params at ['w']: f32[2] against f32[]"
    )
    with raises(ValueError, text):
        adamx.apply_updates({"w": jnp.ones(())}, {"w": jnp.ones(2)})
    text = (
        "apply_updates: expected params of a floating or complex dtype, got i32[2] at"
    )
    with raises(TypeError, text):
        adamx.apply_updates({"w": jnp.arange(2, dtype=jnp.int32)}, {"w": jnp.ones(2)})


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (adamx.scale_by_schedule, "scale_by_schedule"),
        (adamx.scale_by_learning_rate, "scale_by_learning_rate"),
        (adamx.add_decayed_weights, "add_decayed_weights"),
    ],
)
@pytest.mark.parametrize(
    ("value", "shown"),
    [(jnp.ones(3), "f32[3]"), (None, "None"), ("x", "'x'"), (True, "True")],
)
def test_schedules_that_give_no_scalar(make, who, value, shown):
    tx = make(lambda count: value)
    text = f"{who}: expected a scalar from the schedule, got {shown}."
    with raises(ValueError, text):
        tx.init(PARAMS)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (
            {"dense": {"kernel": True}},
            "masked: expected mask to cover the parameters, got nothing at "
            "['dense']['bias']; have dense/kernel.",
        ),
        (
            {"dense": True, "head": False},
            "masked: expected mask like the parameters, got an answer for 'head', "
            "which they do not have.",
        ),
    ],
)
def test_masks_that_do_not_fit(mask, text):
    for given in (mask, lambda params: mask):
        with raises(ValueError, text):
            adamx.masked(adamx.scale(1.0), given).init(PARAMS)


def test_labels_that_do_not_fit():
    groups = {"body": adamx.scale(1.0), "norm": adamx.scale(1.0)}
    tx = adamx.partition(groups, adamx.by_path(lambda path: "head"))
    text = (
        "partition: no transformation for label 'head' (at ['dense']['bias']); have "
        "'body', 'norm'."
    )
    with raises(ValueError, text):
        tx.init(PARAMS)


def test_states_of_another_chain():
    tx = adamx.chain(adamx.clip(1.0), adamx.scale(1.0))
    text = "chain: expected a state of 2 parts, got 3; make it with this "
    with raises(ValueError, text):
        tx.update(PARAMS, adamx.chain(*[adamx.clip(1.0)] * 3).init(PARAMS))
    named = adamx.named_chain(("clip", adamx.clip(1.0)))
    text = "named_chain: expected a state with the names ['clip'], got ['other']; make "
    with raises(ValueError, text):
        named.update(PARAMS, {"other": adamx.EmptyState()})


def test_real_and_complex_do_not_mix():
    real, imaginary = {"w": jnp.ones(2)}, {"w": jnp.ones(2, jnp.complex64)}
    tx = adamx.trace(0.9)
    text = "trace: expected a complex array, got f32[2] at ['w']; updates, params and "
    with raises(TypeError, text):
        tx.update(imaginary, tx.init(real))
    text = "apply_updates: expected a complex parameter for c64[2], got f32[2] at ['w']"
    with raises(TypeError, text):
        adamx.apply_updates(real, imaginary)
    text = (
        "scale_by_adam: expected a complex dtype for the moments of c64[2] at ['w'], "
        "got bfloat16; leave it out."
    )
    with raises(TypeError, text):
        adamx.adam(0.1, mu_dtype=jnp.bfloat16).init(imaginary)
    text = "clip: expected real updates, got c64[2]; clip_by_global_norm and "
    with raises(TypeError, text):
        adamx.clip(1.0).update(imaginary, adamx.EmptyState())


def test_states_of_another_transformation():
    params = {"w": jnp.ones(2)}
    momentum = adamx.trace(0.9).init(params)
    end = "make it with this transformation's init and call tx.update(grads, state, "
    for tx, state, text in [
        (adamx.scale_by_adam(), momentum, "scale_by_adam: expected a ScaleByAdamState"),
        (adamx.scale_by_adam(), params, "scale_by_adam: expected a ScaleByAdamState"),
        (adamx.scale_by_rms(), momentum, "scale_by_rms: expected a ScaleByRmsState"),
        (adamx.ema(0.9), momentum, "ema: expected a EmaState"),
        (adamx.masked(adamx.scale(1.0), True), momentum, "masked: expected a MaskedS"),
        (adamx.zero_nans(), momentum, "zero_nans: expected a ZeroNansState"),
    ]:
        with raises(ValueError, text) as error:
            tx.update(params, state, params)
        assert f"got a {type(state).__name__}; {end}" in str(error.value)


@pytest.mark.parametrize("dtype", [jnp.int32, bool, "nonsense"])
def test_dtypes_that_cannot_hold_a_moment(dtype):
    for make, name in [
        (adamx.adam, "mu_dtype"),
        (adamx.amsgrad, "nu_dtype"),
        (adamx.sgd, "accumulator_dtype"),
    ]:
        momentum = {"momentum": 0.9} if make is adamx.sgd else {}
        with pytest.raises(
            TypeError, match=f": expected {name} as a floating.* dtype, got"
        ):
            make(0.1, **momentum, **{name: dtype})


@pytest.mark.parametrize("value", [np.complex64(1j), KEY, np.str_("a"), np.array(True)])
def test_scalars_that_are_no_real_numbers(value):
    with raises(
        TypeError, "scale: expected step_size as a number in (-inf, inf) or a "
    ):
        adamx.scale(value)


def test_units_of_too_many_axes():
    params = jnp.ones((2,) * 6)
    tx = adamx.adaptive_grad_clip(0.1)
    text = "adaptive_grad_clip: expected at most five axes, got f32[2,2,2,2,2,2]; give "
    with raises(ValueError, text):
        tx.update(params, tx.init(params), params)
    adamx.adaptive_grad_clip(0.1, axis=0).update(params, tx.init(params), params)


def test_traced_hyperparameters_pass():
    @jax.jit
    def step(learning_rate, b2, grads):
        tx = adamx.adam(learning_rate, b2=b2)
        return tx.update(grads, tx.init(grads))[0]

    got = step(jnp.float32(0.1), jnp.float32(2.0), jnp.ones(2))
    assert got.shape == (2,)
