"""How many stars does a viewer give a film? MovieLens 100K, by its factors."""

import jax.numpy as jnp
from flax import linen as nn

from adamx.lab.data import load_ratings
from adamx.lab.task import Task
from adamx.lab.tasks.classify import count

VIEWERS, FILMS = 943, 1682
MEAN = 3.5  # stars
FACTORS = 8
HELD_OUT = 20_000


class Factors(nn.Module):
    """A leaning and a vector of tastes for each viewer and each film."""

    @nn.compact
    def __call__(self, viewers, films):
        """Maps viewers i32[n] and films i32[n] to stars f32[n]."""
        small = nn.initializers.normal(0.1)
        viewer = nn.Embed(VIEWERS, FACTORS + 1, embedding_init=small, name="viewers")
        film = nn.Embed(FILMS, FACTORS + 1, embedding_init=small, name="films")
        u, v = viewer(viewers), film(films)
        tastes = jnp.sum(u[:, 1:] * v[:, 1:], axis=-1)
        return MEAN + u[:, 0] + v[:, 0] + tastes


def ratings() -> Task:
    """Makes the task of guessing how viewers rate films, on MovieLens 100K.

    Matrix factorization with 8 factors. Its two tables have a row for each of 943
    viewers and 1,682 films, of which a batch of 256 meets at most 256 each: most rows
    have no gradient in most steps. 80,000 ratings to train on, 20,000 for validation.
    The first call fetches 2 MB with `pip`, out of the package recbole.

    Returns:
      A task whose runs of 1,000 steps take about a second each on two cores.

    Raises:
      DataUnavailable: The ratings are not in the cache and cannot be fetched.
    """
    stars = load_ratings()
    data = tuple(x[:-HELD_OUT] for x in stars)
    validation = tuple(x[-HELD_OUT:] for x in stars)
    model = Factors()

    def init(key):
        viewers, films, _ = data
        return model.init(key, viewers[:1], films[:1])["params"]

    def loss(params, batch):
        viewers, films, stars = batch
        guesses = model.apply({"params": params}, viewers, films)
        return jnp.mean((guesses - stars) ** 2)

    return Task(
        "ratings",
        init,
        loss,
        data,
        validation,
        batch_size=256,
        steps=1000,
        target_loss=0.9,
        loss_unit="stars²",
        description=(
            f"{len(data[0]):,} ratings of {FILMS:,} films by {VIEWERS} viewers, "
            f"{FACTORS} factors with {count(init):,} parameters"
        ),
    )
