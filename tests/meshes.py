"""Meshes of eight CPU devices, and what a compiled program sends between them."""

import collections
import re

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit
COLLECTIVES = (
    "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|"
    "collective-broadcast"
)


def make_mesh(kind=AUTO, sizes=(8,), names=("data",)):
    """A mesh whose axes are all of one kind."""
    return jax.make_mesh(sizes, names, axis_types=(kind,) * len(sizes))


def on(mesh, *spec):
    """A sharding."""
    return NamedSharding(mesh, PartitionSpec(*spec))


def collectives(compiled):
    """How many collectives of each kind are in a program."""
    found = re.findall(rf"= .*? ({COLLECTIVES})(?:-start)?\(", compiled.as_text())
    return dict(collections.Counter(found))


def axes(sharding, ndim):
    """For each axis of an array what splits it, or None."""
    entries = list(sharding.spec)
    return entries + [None] * (ndim - len(entries))


def bytes_on_a_device(tree):
    """The bytes that a tree takes on the device that has most of them."""
    held = collections.Counter()
    for x in jax.tree.leaves(tree):
        for shard in x.addressable_shards:
            held[shard.device.id] += shard.data.nbytes
    return max(held.values())
