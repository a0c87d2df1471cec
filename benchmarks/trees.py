"""Shapes of parameters, of networks and of what lies between them."""


def gpt2(words=50_257, context=1_024, n=768, layers=12):
    """GPT-2's shapes (Radford et al., 2019), by default of 124 million parameters."""
    attention = [(n, 3 * n), (3 * n,), (n, n), (n,)]
    dense = [(n, 4 * n), (4 * n,), (4 * n, n), (n,)]
    layer = [(n,)] * 4 + attention + dense
    return [(words, n), (context, n), (n,), (n,)] + layers * layer


def scanned_gpt2(layers=12):
    """The same with each weight of all layers in one leaf, as `nn.scan` has it."""
    outside, layer = gpt2(layers=0), gpt2(layers=1)[4:]
    return outside + [(layers, *shape) for shape in layer]


def resnet50():
    """ResNet-50's shapes (He et al., 2016), 25.6 million parameters."""

    def convolution(size, inputs, outputs):
        return [(size, size, inputs, outputs), (outputs,), (outputs,)]

    shapes, inputs = convolution(7, 3, 64), 64
    for width, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for i in range(blocks):
            shapes += convolution(1, inputs, width) + convolution(3, width, width)
            shapes += convolution(1, width, 4 * width)
            if i == 0:
                shapes += convolution(1, inputs, 4 * width)
            inputs = 4 * width
    return [*shapes, (2_048, 1_000), (1_000,)]


TREES = {
    "50M": [(50_000_000,)],
    "gpt2": gpt2(),
    "gpt2 scanned": scanned_gpt2(),
    "resnet50": resnet50(),
    "100x100k": [(100_000,)] * 100,
    "gpt2 tiny": gpt2(1_024, 128, 128, 6),
    "mlp 6x256x256": [(256, 256), (256,)] * 6,
    "1000x1k": [(1_000,)] * 1_000,
}
