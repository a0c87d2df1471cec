"""Builds the C++ kernels of the fused steps where there is a compiler for it.

Without one, or with ADAMX_NO_KERNEL=1, the package is pure Python, and the same steps
are what XLA makes of them.
"""

import runpy
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The oldest that adamx supports: a kernel that was built for it runs with newer ones.
HEADERS = "jaxlib==0.10.2"
FOLDER = Path("adamx", "_kernels")
LIBRARY = FOLDER / "libkernels.so"


class Kernel(BuildHookInterface):
    """Compiles into the wheel, or into the source tree for an editable install."""

    def compilation(self) -> dict[str, Any]:
        """The functions of build.py, without importing adamx, which needs jax."""
        return runpy.run_path(str(Path(self.root, FOLDER, "build.py")))

    def dependencies(self) -> list[str]:
        """What the environment of the build needs: the headers, with a compiler."""
        wanted = self.target_name == "wheel" and self.compilation()["compiler"]()
        return [HEADERS] if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles, or says why not."""
        if self.target_name != "wheel":
            return
        target = Path(self.root, LIBRARY)
        if version != "editable":
            self.scratch = tempfile.TemporaryDirectory()
            target = Path(self.scratch.name, LIBRARY.name)
        target.unlink(missing_ok=True)
        why_not = self.compilation()["build"](target)
        if why_not:
            self.app.display_warning(f"adamx without its C++ kernels: {why_not}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        if version != "editable":
            build_data["force_include"][str(target)] = str(LIBRARY)

    def finalize(self, version: str, build_data: dict[str, Any], artifact: str) -> None:
        """Removes what is in the wheel by now."""
        if hasattr(self, "scratch"):
            self.scratch.cleanup()
