"""Compiles the C++ kernels beside their sources: `python adamx/_kernels/build.py`.

It imports nothing of adamx, so that it runs before adamx is installed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = sorted(map(str, FOLDER.glob("*.cc")))
LIBRARY = FOLDER / "libkernels.so"
# What is fused is written out, the same for every processor; the rest lets compilers
# vectorize roots and choices, and changes no result.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno"]
FLAGS += ["-fno-trapping-math"]


def unwanted() -> bool:
    """Whether the environment asks to do without kernels, in builds or in processes."""
    return os.environ.get("ADAMX_NO_KERNEL", "0") not in ("", "0")


def compiler() -> list[str]:
    """The command of a C++ compiler, or nothing."""
    if unwanted() or sys.platform == "win32":
        return []
    for command in [os.environ.get("CXX", ""), "c++", "g++", "clang++"]:
        words = shlex.split(command)
        if words and shutil.which(words[0]):
            return words
    return []


NO_COMPILER = "no C++ compiler, or ADAMX_NO_KERNEL is set"


def run_compiler(flags: Sequence[str]) -> str:
    """Runs it; returns what is in the way, if anything is."""
    command = compiler()
    if not command:
        return NO_COMPILER
    done = subprocess.run(
        [*command, *FLAGS, *flags], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stderr.strip() or "it does not compile"


def build(target: Path = LIBRARY) -> str:
    """Compiles the library; returns what is in the way, if anything is."""
    if not compiler():
        return NO_COMPILER
    try:
        import jaxlib
    except ImportError:
        return "no jaxlib, which has the headers of XLA"
    headers = Path(jaxlib.__file__).with_name("include")
    options = ["-fPIC", "-shared", "-isystem", str(headers)]
    return run_compiler([*options, *SOURCES, "-o", str(target)])


if __name__ == "__main__":
    sys.exit(build() or None)
