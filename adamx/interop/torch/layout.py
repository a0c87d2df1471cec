"""Where the parameters of PyTorch are in a tree of Flax, and which way around."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from adamx._base import Params, describe
from adamx._parts import beside
from adamx._rules import is_hole, places
from adamx.interop._states import fitted, refuse, unlike
from adamx.interop.torch.tensors import to_numpy, to_torch

Names = Mapping[str, Any] | Callable[[str], Any] | None

# Flax's names of what PyTorch calls so; the first that is in the tree.
LAST = {
    "weight": ("kernel", "embedding", "scale", "weight"),
    "running_mean": ("mean",),
    "running_var": ("var",),
}
# Of DistributedDataParallel and torch.compile.
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
COLLECTIONS = re.compile(r"^(params|batch_stats)/")
BUFFERS = {"running_mean", "running_var", "num_batches_tracked"}  # no parameters


class Place(NamedTuple):
    """Where a parameter of PyTorch is in the tree."""

    path: str  # such as "dense/kernel"
    index: int  # among the leaves of the tree
    axes: tuple[int, ...]  # PyTorch's axes in the order in which they are there
    torch_shape: tuple[int, ...]
    shape: tuple[int, ...]  # there

    def there(self, x: np.ndarray) -> np.ndarray:
        """An array of PyTorch as it is in the tree."""
        return np.transpose(x, self.axes).reshape(self.shape)

    def back(self, x: np.ndarray) -> np.ndarray:
        """An array of the tree as it is in PyTorch."""
        moved = [self.torch_shape[axis] for axis in self.axes]
        return np.transpose(x.reshape(moved), np.argsort(self.axes))


@dataclass(frozen=True)
class Layout:
    """Which parameter of PyTorch is which of the tree; `match` makes it.

    Args:
      places: From PyTorch's names, without `module.`, to places in the tree.
      params: The shapes and dtypes of the tree.
      left_out: PyTorch's names that have no place.
    """

    places: dict[str, Place]
    params: Params
    left_out: frozenset[str]


def match(tensors: Mapping[str, Any], params: Params, names: Names = None) -> Layout:
    """Finds the place of each parameter of PyTorch in a tree of Flax.

        a.b.weight   a/b/kernel, transposed: (out, in) to (in, out) in a linear layer,
                     (out, in, height, width) to (height, width, in, out) in a
                     convolution; or a/b/embedding, a/b/scale, a/b/weight as it is
        a.b.bias     a/b/bias;   a.0.bias   a/0/bias or a_0/bias
        running_mean, running_var           mean, var, where the tree has them

    A collection at the root, `params` or `batch_stats`, and PyTorch's `module.` and
    `_orig_mod.` do not count. A linear layer behind a flattened convolution sees its
    inputs in another order there, (height, width, channels): permute it yourself, as
    what only the network knows.

    Args:
      tensors: The `state_dict()` of the network, or anything with shapes by name.
      params: The parameters in Flax, or their shapes; with `batch_stats` or without.
      names: What to do with names that the rules do not find: a dictionary from names
        of PyTorch, or a function that answers for all of them. An answer is a name for
        which the rules find it, such as "encoder.Dense_0.weight"; a path such as
        "encoder/Dense_0/kernel"; a pair of a path and the order of PyTorch's axes
        there, such as ("attention/query/kernel", (1, 0)), after which the array takes
        the shape that the tree has, (in, heads, features); or None to leave it out.

    Returns:
      A `Layout`.

    Raises:
      ValueError: Names or paths without a counterpart, two names for one path, shapes
        that differ, all of them in one message.
      TypeError: `names`, or what it answers, is none of these.

    Example:
      >>> from adamx.interop.torch import match
      >>> params = {"dense": {"kernel": jnp.zeros((2, 3))}}
      >>> layout = match({"dense.weight": torch.zeros(3, 2)}, params)
      >>> layout.places["dense.weight"].path, layout.places["dense.weight"].axes
      ('dense/kernel', (1, 0))
    """
    who = "match"
    leaves = [place for place in places(params) if not is_hole(place[2])]
    shapes = {"/".join(path): np.shape(leaf) for _, path, leaf in leaves}
    order = {"/".join(path): i for i, (_, path, _) in enumerate(leaves)}
    by_key: dict[str, list[str]] = {}
    for path in shapes:
        by_key.setdefault(key_of(COLLECTIONS.sub("", path)), []).append(path)
    wrapper = wrapper_of(tensors)
    tensors = {name.removeprefix(wrapper): x for name, x in tensors.items()}
    answers = answers_for(who, tensors, names, wrapper)
    found: dict[str, Place] = {}
    taken: dict[str, str] = {}
    problems = []
    for name in sorted(answers.keys() - tensors.keys()):
        problems.append(f"expected a tensor {name!r}, which names has, got none")
    for name, tensor in tensors.items():
        path, axes = answers[name]
        if path is not None and path not in shapes:
            path = by_rule(path, by_key)
        if path is None:
            continue
        if path not in shapes:
            got = "none" if path == name else f"{path!r}, which is not in the tree"
            problems.append(f"expected a place for {name!r}, got {got}")
        elif path in taken:
            problems.append(
                f"expected one name for {path!r}, got {taken[path]!r} and {name!r}"
            )
        else:
            taken[path] = name
            shape = tuple(np.shape(tensor))
            turned = usual_axes(path, len(shape)) if axes is None else tuple(axes)
            place = Place(path, order[path], turned, shape, shapes[path])
            if fits(place, exactly=axes is None):
                found[name] = place
            else:
                got = f"{list(shape)} of {name!r} by axes {turned}"
                problems.append(unlike(str(list(place.shape)), got, repr(path)))
    problems += [
        f"expected a tensor for {path!r}, got none"
        for path in shapes
        if path not in taken
    ]
    refuse(who, problems, "say with names what is where, or None to leave it out")
    left_out = frozenset(tensors.keys() - found.keys())
    return Layout(found, jax.eval_shape(lambda tree: tree, params), left_out)


def wrapper_of(names: Iterable[str]) -> str:
    """What a wrapper has put before all names, such as "module."; "" is nothing."""
    names = list(names)
    found = WRAPPERS.match(names[0]) if names else None
    wrapper = found.group() if found else ""
    return wrapper if all(name.startswith(wrapper) for name in names) else ""


def answers_for(
    who: str, tensors: Iterable[str], names: Names, wrapper: str
) -> dict[str, tuple[str | None, Any]]:
    """For each name a path, or a name to go by the rules with, and axes or None."""
    if not (names is None or callable(names) or isinstance(names, Mapping)):
        raise TypeError(
            f"{who}: expected names as a dictionary, a function or None, got {names!r}."
        )
    answers = {name: name for name in tensors}
    if callable(names):
        answers = {name: names(name) for name in tensors}
    elif names:
        answers |= {name.removeprefix(wrapper): x for name, x in names.items()}
    found = {}
    for name, answer in answers.items():
        pair = answer if isinstance(answer, tuple) else (answer, None)
        if len(pair) != 2 or not isinstance(pair[0], str | None):
            raise TypeError(
                f"{who}: expected a path, a pair of a path and axes, or None for "
                f"{name!r}, got {answer!r}."
            )
        found[name] = pair
    return found


def by_rule(name: str, by_key: dict[str, list[str]]) -> str | None:
    """The path of a name; the name where there is none, None where none is needed."""
    module, _, last = name.rpartition(".")
    for candidate in LAST.get(last, (last,)):
        paths = by_key.get(key_of(f"{module}/{candidate}".lstrip("/")), [])
        if len(paths) == 1:
            return paths[0]
    return None if last in BUFFERS else name


def key_of(path: str) -> str:
    """A path or name in a form in which layers_0, layers/0 and layers.0 are one."""
    return re.sub(r"_(\d+)(?=/|$)", r"/\1", path.replace(".", "/"))


def usual_axes(path: str, rank: int) -> tuple[int, ...]:
    """PyTorch's axes in the order of Flax: that of kernels ends with (in, out)."""
    kernel = path.rpartition("/")[2] == "kernel" and rank >= 2
    return (*range(2, rank), 1, 0) if kernel else tuple(range(rank))


def fits(place: Place, exactly: bool) -> bool:
    """Whether the axes give the shape in the tree, or at least its size."""
    if sorted(place.axes) != [*range(len(place.torch_shape))]:
        return False
    moved = tuple(place.torch_shape[axis] for axis in place.axes)
    return moved == place.shape or (
        not exactly and math.prod(moved) == math.prod(place.shape)
    )


def params_from_torch(tensors: Mapping[str, Any], layout: Layout) -> Params:
    """Makes the parameters of Flax from those of PyTorch.

    Args:
      tensors: The `state_dict()` of the network.
      layout: As from `match`.

    Returns:
      A tree with the structure, shapes and dtypes of the one that `match` was given; a
      narrower float becomes a wider one.

    Raises:
      ValueError: Names, shapes or dtypes that differ, all of them in one message.

    Example:
      >>> from adamx.interop.torch import match, params_from_torch
      >>> tensors = {"weight": torch.tensor([[1.0, 2.0]])}
      >>> layout = match(tensors, {"kernel": jnp.zeros((2, 1))})
      >>> print(params_from_torch(tensors, layout)["kernel"].T)
      [[1. 2.]]
    """
    wrapper = wrapper_of(tensors)
    tensors = {name.removeprefix(wrapper): x for name, x in tensors.items()}
    wants = jax.tree.leaves(layout.params)
    leaves, problems = list(wants), []
    for name in sorted(tensors.keys() - layout.places.keys() - layout.left_out):
        problems.append(
            f"expected no {name!r}, got {describe(to_numpy(tensors[name]))}"
        )
    for name, place in layout.places.items():
        want = jax.ShapeDtypeStruct(place.torch_shape, wants[place.index].dtype)
        x = to_numpy(tensors[name]) if name in tensors else None
        if x is None or x.shape != want.shape:
            problems.append(unlike(want, "nothing" if x is None else x, repr(name)))
            continue
        leaves[place.index] = fitted(wants[place.index], place.there(x))
        if leaves[place.index] is None:
            problems.append(unlike(want, x, repr(name)))
    refuse("params_from_torch", problems, "match these tensors, or cast them first")
    return jax.tree.structure(layout.params).unflatten(leaves)


def params_to_torch(params: Params, layout: Layout) -> dict[str, torch.Tensor]:
    """Makes the parameters of PyTorch from those of Flax.

    Args:
      params: A tree like the one that `match` was given.
      layout: As from `match`.

    Returns:
      A dictionary from PyTorch's names to tensors, each a copy, in the dtypes that
      they have in `params`; what was left out is not in it.

    Raises:
      ValueError: A tree of another structure or of other shapes.

    Example:
      >>> from adamx.interop.torch import match, params_to_torch
      >>> params = {"kernel": jnp.array([[1.0], [2.0]], jnp.float32)}
      >>> params_to_torch(params, match({"weight": torch.zeros(1, 2)}, params))
      {'weight': tensor([[1., 2.]])}
    """
    who = "params_to_torch"
    rows = beside(who, params, layout.params)
    problems = [
        unlike(want, x, jax.tree_util.keystr(path))
        for path, x, want in rows
        if np.shape(x) != want.shape
    ]
    refuse(who, problems, "match these parameters first")
    return {
        name: to_torch(place.back(np.asarray(rows[place.index][1])))
        for name, place in layout.places.items()
    }
