"""Tensors as NumPy arrays, and the 8-bit ones of bitsandbytes and torchao decoded."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from adamx._base import describe

# Under which newer versions of bitsandbytes keep what they add to a state.
NESTED = "__bnb_optimizer_quant_state__"
BLOCKS = (256, 2048)  # codes to a scale in bitsandbytes, now and in its older versions


def to_numpy(x: Any) -> np.ndarray:
    """A tensor, or an array, as one of NumPy, with its dtype; bfloat16 is JAX's."""
    if not isinstance(x, torch.Tensor):
        return np.asarray(x)
    x = x.detach().cpu()
    if x.dtype == torch.bfloat16:
        return x.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)
    return x.numpy()


def to_torch(x: Any) -> torch.Tensor:
    """An array as a tensor with memory of its own."""
    x = np.array(x)
    if x.dtype == jnp.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def part_of(x: Any, name: str) -> Any:
    """An attribute, or an entry of a dictionary; None where there is neither."""
    return x.get(name) if isinstance(x, Mapping) else getattr(x, name, None)


def plain(entry: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What PyTorch keeps for one parameter, with everything in it decoded.

    Raises `ValueError` with what is expected and what is there, for a message.
    """
    found = {k: v for k, v in entry.items() if v is not None}
    found |= found.pop(NESTED, {})
    if "state1" in found:
        found = from_bitsandbytes(found)
    return {
        name: from_torchao(x) if part_of(x, "codes") is not None else to_numpy(x)
        for name, x in found.items()
    }


def from_bitsandbytes(entry: dict[str, Any]) -> dict[str, Any]:
    """The moments of Adam under PyTorch's names."""
    if "state2" not in entry:
        raise ValueError("state1 and state2, as of Adam, got state1 alone")
    for i, name in ((1, "exp_avg"), (2, "exp_avg_sq")):
        codes = to_numpy(entry.pop(f"state{i}"))
        scales, values = (entry.pop(f"{k}{i}", None) for k in ("absmax", "qmap"))
        if codes.dtype == np.uint8:
            if scales is None or values is None:
                raise ValueError(
                    f"absmax{i} and qmap{i} beside codes, got one or none of them"
                )
            codes = decoded(codes, scales, values, BLOCKS)
        entry[name] = codes
    return entry


def from_torchao(x: Any) -> np.ndarray:
    """A moment of torchao, of which codes have the shape and blocks are equal."""
    codes, scales, values = (
        to_numpy(part_of(x, k)) for k in ("codes", "scale", "qmap")
    )
    if scales.size == 0 or codes.size % scales.size:
        got = f"{scales.size} scales for {codes.size} codes"
        raise ValueError(f"equal blocks, got {got}")
    return decoded(codes, scales, values, (codes.size // scales.size,))


def decoded(codes: np.ndarray, scales: Any, values: Any, blocks: Any) -> np.ndarray:
    """scales[i // block]·values[codes[i]] over the entries in a row, in float32."""
    scales, values = to_numpy(scales), to_numpy(values)
    if values.shape != (256,) or values.dtype != np.float32:
        raise ValueError(f"float32 values of 256 codes, got {describe(values)}")
    if scales.dtype != np.float32:
        raise ValueError(f"float32 scales, got {describe(scales)}")
    sizes = [n for n in blocks if -(-codes.size // n) == scales.size]
    if codes.dtype != np.uint8 or not sizes:
        got = f"{scales.size} scales for {codes.size} codes"
        raise ValueError(
            f"a scale for {' or '.join(map(str, blocks))} codes, got {got}"
        )
    each = np.repeat(scales.reshape(-1), sizes[0])[: codes.size]
    return (values[codes.reshape(-1)] * each).reshape(codes.shape)
