"""The oracle: every transformation in float64 NumPy, written from its paper.

Each function is one step of one algorithm on one array (a few, which see the whole
tree, on a list of arrays) and imports nothing of what it judges:

    update, state = step(state, g, p, t, **hyperparameters)

`state` is a dict of arrays, empty at first; `p` is the parameter before the step; `t`
counts from 1. Names of functions, hyperparameters and state entries are adamx's own;
`oracle.NAME` finds them in whatever file of this folder they are.
"""

import importlib
import inspect
import pkgutil

for found in pkgutil.iter_modules(__path__):
    module = importlib.import_module(f"oracle.{found.name}")
    functions = dict(inspect.getmembers(module, inspect.isfunction))
    for name, function in functions.items():
        other = globals().get(name)
        different = inspect.isfunction(other) and other is not function
        assert not different, f"two oracles are called {name}"
    globals().update(functions)
