"""Compiles the AdamW step for TPUs that are not there, and reads XLA's plan.

    python benchmarks/tpu.py [--topology NAME] [--json PATH]

Needs libtpu (0.7 GB: `pip install "jax[tpu]"`), and no TPU: nothing is run. For a mesh
of all chips of the topology, over which parameters, gradients and states are split:
bytes that a step, `update` and `apply_updates`, reads and writes for each parameter, in
float32 at best 28, and the temporary memory beside the largest array of a chip. Several
small leaves are fetched into the memory of the chip while others are computed, and
XLA counts these bytes twice: of a network the figures stand beside Optax's. Exits with
1 if adamx breaks a limit, and says so and exits with 0 where libtpu is missing.
"""

import argparse
import functools
import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any

# The topology alone is asked for, not the machine.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from report import begin, finish, show

import adamx

TREES = {
    "one leaf": [(262_144, 2_048)],
    "a network": [(32_768, 2_048), (2_048, 8_192), (8_192, 2_048), (8_192,)],
}
BYTES = 28  # reads p, g, mu, nu; writes p, mu, nu
LIMITS = {"bytes / 28": 1.02, "temporary / largest": 0.01}


def measure(library: Any, shapes: list[Any], devices: list[Any]) -> dict[str, Any]:
    """The plan of a step for these devices."""
    mesh = Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec("data"))
    params = [jax.ShapeDtypeStruct(x, jnp.float32, sharding=split) for x in shapes]
    tx = library.adamw(1e-3)
    shardings = adamx.state_shardings(tx, params)
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        jax.eval_shape(tx.init, params),
        shardings,
    )

    @functools.partial(
        jax.jit,
        donate_argnums=(0, 1),
        out_shardings=([split] * len(params), shardings),
    )
    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return library.apply_updates(params, updates), state

    compiled = step.lower(params, state, params).compile()
    cost: Any = compiled.cost_analysis()
    plan: Any = compiled.memory_analysis()
    sizes = [math.prod(shape) / mesh.size for shape in shapes]
    return {
        "chips": mesh.size,
        "parameters a chip": sum(sizes),
        "bytes a parameter": cost["bytes accessed"] / sum(sizes),
        "bytes / 28": cost["bytes accessed"] / sum(sizes) / BYTES,
        "arguments, MiB": plan.argument_size_in_bytes / 2**20,
        "in place, MiB": plan.alias_size_in_bytes / 2**20,
        "temporary, MiB": plan.temp_size_in_bytes / 2**20,
        "temporary / largest": plan.temp_size_in_bytes / (4 * max(sizes)),
    }


def main() -> int:
    """Compiles, prints, and compares adamx with its limits."""
    parser = argparse.ArgumentParser(description="Compiles for TPUs.")
    parser.add_argument("--topology", default="v5e:2x4", help="of the chips")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    args = parser.parse_args()
    if importlib.util.find_spec("libtpu") is None:
        print('not compiled for TPUs: needs libtpu (0.7 GB); pip install "jax[tpu]".')
        return 0
    from jax.experimental import topologies

    head = begin()
    found = topologies.get_topology_desc(platform="tpu", topology_name=args.topology)
    rows = [
        {"tree": tree, "library": name} | measure(library, shapes, list(found.devices))
        for tree, shapes in TREES.items()
        for name, library in {"adamx": adamx, "Optax": optax}.items()
    ]
    show(f"AdamW in float32 for {args.topology}", rows)
    own = {"one leaf": rows[0]}
    return finish(LIMITS, own, head | {"tpu": rows}, args.json)


if __name__ == "__main__":
    sys.exit(main())
