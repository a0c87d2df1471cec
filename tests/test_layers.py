"""The layers: imports go down, and `import adamx` brings jax and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import adamx

PACKAGE = Path(adamx.__file__).parent

# From the bottom up; a module may import from the layers below it, and from its own
# where there is no cycle.
LAYERS = [
    ["_base", "_numerics", "_dtypes"],
    ["_kernels"],
    [
        "_rows",
        "_align",
        "_touched",
        "_rounding",
        "_tree",
        "_stateful",
        "_chain",
        "_rules",
        "_masking",
        "_average",
        "_choose",
        "_compiled",
    ],
    ["_fields", "_parts", "_surgery"],
    ["_transforms", "_schedules"],
    ["_wrappers", "_diagnostics", "_precision", "_sharding"],
    ["_optimizers"],
    ["_fused"],
    ["__init__"],
    ["interop"],
    ["lab", "__main__"],
]
LEVEL = {name: i for i, names in enumerate(LAYERS) for name in names}
FOREIGN = ["optax", "flax", "torch", "safetensors", "matplotlib", "sklearn"]
FOREIGN += ["chex", "orbax", "tqdm"]
# What a layer, or a part of one, may import beside JAX; None is anything.
BESIDE = {"lab": None, "__main__": None, "interop.optax": {"optax"}}
BESIDE |= {"interop.torch": {"torch", "safetensors"}}
BESIDE |= {"interop.orbax": {"orbax"}, "interop.flax": {"flax"}}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path):
    """The modules that a file imports when it is imported itself."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module)
    return names


FILES = {module_name(path): imports(path) for path in sorted(PACKAGE.rglob("*.py"))}


def layer(module):
    """adamx itself, or a module in it, as a layer's name."""
    return module.removeprefix("adamx").strip(".").partition(".")[0] or "__init__"


def upward(files):
    """The imports that do not go down."""
    return [
        (name, target)
        for name, targets in files.items()
        for target in targets
        if target.partition(".")[0] == "adamx"
        and LEVEL[layer(target)] > LEVEL[layer(name)]
    ]


def test_every_module_has_a_layer():
    assert {layer(name) for name in FILES} <= set(LEVEL)


def test_imports_go_down():
    assert upward(FILES) == []


def test_an_upward_import_is_found():
    planted = {"_tree": ["jax", "adamx._optimizers.adam"]}
    assert upward(planted) == [("_tree", "adamx._optimizers.adam")]


def test_there_is_no_cycle():
    below = {
        name: {t.removeprefix("adamx.") for t in targets if t.startswith("adamx.")}
        for name, targets in FILES.items()
    }
    done = set()
    while remaining := {n: b - done for n, b in below.items() if n not in done}:
        free = {n for n, b in remaining.items() if not b & remaining.keys()}
        assert free, f"a cycle among {sorted(remaining)}"
        done |= free


def beside(name):
    """The foreign libraries that a module may import."""
    own = [part for part in BESIDE if f"{name}.".startswith(f"{part}.")]
    return BESIDE[own[0]] if own else set()


def test_only_the_lab_and_interop_import_other_libraries():
    for name, targets in FILES.items():
        found = {t.partition(".")[0] for t in targets} & set(FOREIGN)
        assert beside(name) is None or found <= beside(name), name
    assert beside("interop._states") == beside("_tree") == set()


def loaded(code):
    """Which foreign libraries a fresh process holds after running some code."""
    report = f"import sys; print([m for m in {FOREIGN} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {report}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return ast.literal_eval(done.stdout)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import adamx", []),
        ("import adamx.interop", []),
        ("import adamx.interop.optax", ["optax"]),
        ("import adamx, chex", ["chex"]),
    ],
)
def test_the_import_is_light(code, expected):
    assert loaded(code) == expected
