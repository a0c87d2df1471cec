"""Compiles the C++ kernel with sanitizers and runs its driver.

    python tests/kernel/sanitize.py

Ends with 1 if a sanitizer finds something; needs a compiler with sanitizers.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from adamx._kernels import build

DRIVER = Path(__file__).with_name("driver.cc")
FLAGS = ["-g", "-pthread", "-fno-sanitize-recover=all", f"-I{build.FOLDER}"]


def main():
    """Builds and runs it once for each set of sanitizers."""
    with tempfile.TemporaryDirectory() as folder:
        for sanitizers in ("address,undefined", "thread"):
            program = Path(folder, sanitizers)
            flags = [
                *FLAGS,
                f"-fsanitize={sanitizers}",
                str(DRIVER),
                "-o",
                str(program),
            ]
            why_not = build.run_compiler(flags)
            if why_not:
                sys.exit(why_not)
            print(f"{sanitizers}: ", end="", flush=True)
            subprocess.run([program], check=True)


if __name__ == "__main__":
    main()
