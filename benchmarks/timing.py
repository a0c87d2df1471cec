"""How benchmarks measure time: in turn, and as quotients of pairs."""

import statistics
import time

import jax
import optax

import adamx

CPU = time.process_time  # of all threads, whatever else the machine is doing
LIBRARIES = {"adamx": adamx, "optax": optax}


def seconds(function, *args, clock=time.perf_counter):
    """The result of a call and its time, until every array is there."""
    start = clock()
    result = jax.block_until_ready(function(*args))
    return result, clock() - start


def interleave(rounds, measure, names=tuple(LIBRARIES)):
    """What `measure` gives for each name, `rounds` times in the order A B B A."""
    taken = {name: [] for name in names}
    for _ in range(rounds):
        for name in [*names, *reversed(names)]:
            taken[name].append(measure(name))
    return taken


def ratio(taken, ours="adamx", theirs="optax"):
    """The median over pairs of one time divided by another."""
    pairs = zip(taken[ours], taken[theirs], strict=True)
    return statistics.median(a / b for a, b in pairs)
