"""Parameters and optimizer states from PyTorch, and to it, in the middle of a run.

    saved = load_torch("run.pt")            # {"model": ..., "optimizer": ...}
    layout = match(saved["model"], params)  # which is where, and which way around
    params = params_from_torch(saved["model"], layout)
    tx = transformation_from_torch(saved["optimizer"], layout)
    state = state_from_torch(tx, saved["optimizer"], layout)

`params_to_torch` and `state_to_torch` lead back. Of the optimizers of `torch.optim`:
Adam, AdamW, NAdam, Adamax, RAdam, Adagrad, Adadelta, RMSprop, SGD, Adafactor; Adam of
bitsandbytes and torchao with its 8-bit moments, which need neither of them.
"""

try:
    from adamx.interop.torch.files import load_torch as load_torch
    from adamx.interop.torch.layout import Layout as Layout
    from adamx.interop.torch.layout import Place as Place
    from adamx.interop.torch.layout import match as match
    from adamx.interop.torch.layout import params_from_torch as params_from_torch
    from adamx.interop.torch.layout import params_to_torch as params_to_torch
    from adamx.interop.torch.states import state_from_torch as state_from_torch
    from adamx.interop.torch.states import state_to_torch as state_to_torch
    from adamx.interop.torch.transformation import (
        transformation_from_torch as transformation_from_torch,
    )
except ModuleNotFoundError as error:
    if error.name != "torch":
        raise
    raise ImportError("adamx.interop.torch needs torch; install torch.") from error
