"""Tables split over eight devices: the same numbers, and no table on the wire."""

import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from meshes import AUTO, COLLECTIVES, EXPLICIT, make_mesh, on

import adamx

ROWS, WIDTH, IDS = 4000, 16, 32
RNG = np.random.default_rng(0)
LOOKED_UP = RNG.integers(-2, ROWS + 3, IDS).astype(np.int32)
VALUES = RNG.normal(size=(IDS, WIDTH)).astype(np.float32)
TABLE = RNG.normal(size=(ROWS, WIDTH)).astype(np.float32)
TX = adamx.on_rows(adamx.adamw(0.1), unseen={"mu": 0.9, "params": 0.9})


def step(table, state, ids, values):
    rows = adamx.sum_rows(ids, values, ROWS)
    updates, state = TX.update(rows, state, table)
    return adamx.apply_updates(table, updates), state


def entries_sent(compiled):
    """How many entries the largest result of a collective has."""
    largest = 0
    for line in compiled.as_text().splitlines():
        found = re.search(rf"= (.*?) (?:{COLLECTIVES})(?:-start)?\(", line)
        for shape in re.findall(r"\[([\d,]*)\]", found.group(1)) if found else ():
            largest = max(largest, math.prod(map(int, filter(None, shape.split(",")))))
    return largest


@pytest.mark.parametrize("kind", [AUTO, EXPLICIT], ids=["Auto", "Explicit"])
@pytest.mark.parametrize("spec", [("data",), (None, "data")], ids=["rows", "columns"])
@pytest.mark.parametrize("batch", [(), ("data",)], ids=["whole", "split"])
def test_a_split_table_is_the_whole_one(kind, spec, batch):
    """Of which rows alone are sent, also where each device has its part of a batch."""
    want = jax.jit(step)(TABLE, TX.init(TABLE), LOOKED_UP, VALUES)
    mesh = make_mesh(kind)
    with jax.set_mesh(mesh):
        table = jax.device_put(TABLE, on(mesh, *spec))
        lookups = jax.device_put((LOOKED_UP, VALUES), on(mesh, *batch))
        shardings = adamx.state_shardings(TX, table)
        out = (table.sharding, shardings)
        run = step
        if kind is EXPLICIT:
            specs = jax.tree.map(lambda x: x.spec, out)
            run = jax.sharding.auto_axes(step, out_sharding=specs)
        run = jax.jit(run, donate_argnums=(0, 1), out_shardings=out)
        state = jax.jit(TX.init, out_shardings=shardings)(table)
        compiled = run.lower(table, state, *lookups).compile()
        got = compiled(table, state, *lookups)
    assert got[0].sharding.is_equivalent_to(on(mesh, *spec), 2)
    chex.assert_trees_all_close(*jax.tree.map(np.asarray, (got, want)), rtol=1e-6)
    part = ROWS * WIDTH // 8
    assert entries_sent(compiled) <= IDS * WIDTH < part / 10
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 4 * part
    assert memory.alias_size_in_bytes >= 3 * 4 * part


def test_a_collective_is_counted():
    mesh = make_mesh()
    table = jax.device_put(TABLE, on(mesh, "data"))
    gathered = jax.jit(lambda x: x + jnp.ones_like(x), out_shardings=on(mesh))
    assert entries_sent(gathered.lower(table).compile()) == ROWS * WIDTH
