"""Saves step 1, and is killed while it saves step 2.

python tests/interop/killed.py FOLDER
"""

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

import adamx
from adamx.interop.orbax import save_args

TX = adamx.adamw(0.1)


def run(step):
    """Parameters and state of a step, the same in every process; 24 MB."""
    rng = np.random.default_rng(step)
    params = {"w": rng.normal(size=(1000, 2000)).astype("f4")}
    state = TX.init(params)
    return params, (state[0]._replace(mu=params, nu=params), *state[1:])


def kill(folder):
    """Waits until something of step 2 is there."""
    while not any(folder.glob("2.*/*")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def main(folder):
    with ocp.CheckpointManager(folder) as manager:
        manager.save(1, args=save_args(*run(1)))
        manager.wait_until_finished()
        args = save_args(*run(2))
        threading.Thread(target=kill, args=[folder], daemon=True).start()
        manager.save(2, args=args)
        manager.wait_until_finished()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
