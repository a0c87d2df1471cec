"""The networks of the tasks, in Flax."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn


class MLP(nn.Module):
    """A multilayer perceptron on flattened images; ReLU between the layers."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, images):
        """Maps images u8[n,...] to logits f32[n,classes]."""
        x = images.reshape(len(images), -1).astype(jnp.float32) / 255
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


def convolve(x, kernel, strides, *_, **__):
    """A convolution with zeros around, as a product of matrices.

    XLA's own, with its derivatives, takes ten times as long on a CPU.
    """
    high, wide, channels, features = kernel.shape
    (_, height, width, _), step = x.shape, strides[0]
    x = jnp.pad(x, ((0, 0), (high // 2,) * 2, (wide // 2,) * 2, (0, 0)))
    shifted = [
        x[:, i : i + height : step, j : j + width : step]
        for i in range(high)
        for j in range(wide)
    ]
    x = jnp.concatenate(shifted, axis=-1)
    return x @ kernel.reshape(high * wide * channels, features)


class ConvNet(nn.Module):
    """Convolutions of 3 by 3, each at half the resolution, then two dense layers."""

    features: Sequence[int]
    hidden: int
    classes: int

    @nn.compact
    def __call__(self, images):
        """Maps images u8[n,height,width] or u8[n,height,width,colors] to logits."""
        x = images.reshape(*images.shape[:3], -1).astype(jnp.float32) / 255
        for features in self.features:
            conv = nn.Conv(features, (3, 3), 2, conv_general_dilated=convolve)
            x = nn.relu(conv(x))
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(x)


class Transformer(nn.Module):
    """Layers of attention and a perceptron, with the norm first."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int = 4
    causal: bool = True

    @nn.compact
    def __call__(self, ids):
        """Maps tokens i32[n,context] to logits f32[n,context,vocabulary]."""
        x = nn.Embed(self.vocabulary, self.width)(ids)
        shape = self.context, self.width
        small = nn.initializers.normal(0.02)
        x += self.param("positions", small, shape, jnp.float32)[None]
        past = nn.make_causal_mask(ids) if self.causal else None
        for _ in range(self.layers):
            y = nn.LayerNorm()(x)
            x += nn.MultiHeadDotProductAttention(num_heads=self.heads)(y, mask=past)
            y = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x += nn.Dense(self.width)(y)
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))
