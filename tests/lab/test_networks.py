"""The networks of the tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adamx.lab.tasks import classify, networks


@pytest.mark.exhaustive
def test_a_convolution_is_that_of_xla():
    x, kernel = (
        jax.random.normal(key, shape)
        for key, shape in zip(
            jax.random.split(jax.random.key(0)),
            [(2, 9, 8, 3), (3, 3, 3, 5)],
            strict=True,
        )
    )
    for stride in (1, 2):

        @jax.jit
        def both(x, kernel, strides=(stride, stride)):
            layout = "NHWC", "HWIO", "NHWC"
            ours = networks.convolve(x, kernel, strides)
            return ours, jax.lax.conv_general_dilated(
                x, kernel, strides, [(1, 1), (1, 1)], dimension_numbers=layout
            )

        np.testing.assert_allclose(*both(x, kernel), atol=1e-5)


@pytest.mark.parametrize("count", [3, 4, 7, 8])
def test_blocks_are_the_whole(count):
    x = jnp.arange(count * 2.0).reshape(count, 2)
    whole = classify.in_blocks(lambda x: x.sum(1), x, size=4)
    np.testing.assert_array_equal(whole, x.sum(1))


def test_the_networks_name_their_parts():
    """Names decide the random start, and with it the published figures."""
    model = networks.Transformer(5, 3, 8, 1)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros([1, 3], jnp.int32))
    assert set(params["params"]) == {
        "Embed_0",
        "positions",
        "LayerNorm_0",
        "MultiHeadDotProductAttention_0",
        "LayerNorm_1",
        "Dense_0",
        "Dense_1",
        "LayerNorm_2",
        "Dense_2",
    }
