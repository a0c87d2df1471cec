"""Files of PyTorch, which may hold code, and the 8-bit moments of other libraries."""

import io
import pickle
import re
import types
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

import adamx
from adamx._precision.dynamic import dynamic_map

torch = pytest.importorskip("torch")

from adamx.interop.torch import (  # noqa: E402  # after the line that skips
    load_torch,
    match,
    state_from_torch,
)


def says(text):
    """Expects an error that begins so, on one line."""
    return pytest.raises(ValueError, match="^" + re.escape(text) + r"[^\n]*$")


# ---- files


def model():
    torch.manual_seed(0)
    return torch.nn.Linear(300, 7)


def test_a_file_of_torch_comes_back(tmp_path):
    net = model()
    tx = torch.optim.AdamW(net.named_parameters(), lr=torch.tensor(0.1))
    net(torch.ones(300)).sum().backward()
    tx.step()
    torch.save(
        {"model": net.state_dict(), "optimizer": tx.state_dict()}, tmp_path / "x"
    )
    saved = load_torch(tmp_path / "x")
    assert torch.equal(saved["model"]["weight"], net.weight)
    entry = saved["optimizer"]["state"][0]
    assert torch.equal(entry["exp_avg"], tx.state[net.weight]["exp_avg"])
    assert saved["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_a_file_of_safetensors_comes_back_in_torch(tmp_path):
    pytest.importorskip("safetensors")
    from safetensors.torch import save_file

    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).bfloat16()}
    save_file(tensors, tmp_path / "x.safetensors")
    loaded = load_torch(str(tmp_path / "x.safetensors"))
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], tensors[k]) for k in tensors)
    whole = (tmp_path / "x.safetensors").read_bytes()
    for n in (0, 5, 40, len(whole) - 1):
        cut = tmp_path / "cut.safetensors"
        cut.write_bytes(whole[:n])
        with says("load_torch: expected a file of torch.save with tensors and numbers"):
            load_torch(cut)


class Harmful:
    """What runs when it is unpickled: it makes a file."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return open, (str(self.made), "w")


def in_archive(x):
    file = io.BytesIO()
    torch.save({"state": {}, "x": x}, file)
    return file.getvalue()


def in_old_archive(x):
    file = io.BytesIO()
    torch.save({"x": x}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def put_into_archive(x):
    """An honest file in which somebody has replaced the pickle."""
    old, new = zipfile.ZipFile(io.BytesIO(in_archive(torch.ones(2)))), io.BytesIO()
    with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
        for name in old.namelist():
            pickled = pickle.dumps(x, protocol=2)
            data = pickled if name.endswith("data.pkl") else old.read(name)
            archive.writestr(name, data)
    return new.getvalue()


@pytest.mark.parametrize(
    "write", [in_archive, in_old_archive, put_into_archive, pickle.dumps]
)
def test_code_in_a_file_for_torch_does_not_run(write, tmp_path):
    made, path = tmp_path / "made", tmp_path / "harmful.pt"
    pickle.loads(pickle.dumps(Harmful(made))).close()
    assert made.exists()  # so it is harmful
    made.unlink()
    path.write_bytes(write(Harmful(made)))
    with says("load_torch: expected a file of torch.save with tensors and numbers alo"):
        load_torch(path)
    assert not made.exists()


def test_a_file_of_torch_that_is_damaged(tmp_path):
    path = tmp_path / "x.pt"
    for whole in (in_archive(torch.ones(3000)), in_old_archive(torch.ones(3000))):
        for n in (0, 10, len(whole) // 2, len(whole) - 30):
            path.write_bytes(whole[:n])
            with says("load_torch: expected a file of torch.save with tensors and"):
                load_torch(path)
    path.write_text("something else")
    with says("load_torch: expected a file of torch.save with tensors and numbers alo"):
        load_torch(path)
    with pytest.raises(FileNotFoundError):
        load_torch(tmp_path / "not there")


# ---- 8-bit moments

SIGNED = dynamic_map(7, positive=False)
POSITIVE = dynamic_map(7, positive=True)
SHAPE = (72, 65)  # 4680 entries, so that the last block is not full
LIKE = {
    "kernel": jnp.zeros(SHAPE[::-1], jnp.float32),
    "bias": jnp.zeros(72, jnp.float32),
}


def encode(x, values, block):
    """Codes and scales entry by entry, as the paper has it: the nearest value."""
    flat = x.reshape(-1)
    scales = [np.max(np.abs(flat[i : i + block])) for i in range(0, flat.size, block)]
    scales = np.array(scales, np.float32)
    parts = flat / np.repeat(scales, block)[: flat.size]
    codes = np.argmin(np.abs(parts[:, None] - values), 1).astype(np.uint8)
    return codes.reshape(x.shape), scales


def decode(codes, scales, values, block):
    """The definition, entry by entry in float32."""
    out = np.empty(codes.size, np.float32)
    for i, code in enumerate(codes.reshape(-1)):
        out[i] = np.float32(values[code]) * scales[i // block]
    return out.reshape(codes.shape)


def encoded(rng):
    """Two moments, each with what its codes stand for."""
    mu, root = (rng.normal(size=SHAPE).astype(np.float32) for _ in range(2))
    return [(mu, SIGNED), ((1e-3 * root) ** 2, POSITIVE)]


def bitsandbytes(rng, block, nested):
    """A state as AdamW8bit has it: small arrays are float32; and what it stands for."""
    entry, want, state = {}, [], {}
    for i, (x, values) in enumerate(encoded(rng), 1):
        codes, scales = encode(x, values, block)
        want.append(decode(codes, scales, values, block))
        entry |= {
            f"state{i}": torch.tensor(codes),
            f"qmap{i}": torch.tensor(values),
            f"absmax{i}": torch.tensor(scales),
        }
        assert np.max(np.abs(want[-1] - x)) < 0.03 * np.max(np.abs(x))
    small = {"state1": torch.full((72,), 0.25), "state2": torch.full((72,), 0.5)}
    state = {0: {"step": 12, **entry}, 1: {"step": 12, **small}}
    if nested:
        state = {
            i: {
                "step": x.pop("step"),
                "__bnb_optimizer_quant_state__": x,
            }
            for i, x in state.items()
        }
    return state, want


def torchao(rng, block, kind):
    """The same of AdamW8bit there, with objects or dictionaries in the state."""
    entry, want = {"step": torch.tensor(12.0)}, []
    for name, (x, values) in zip(("exp_avg", "exp_avg_sq"), encoded(rng), strict=True):
        codes, scales = encode(x, values, block)
        want.append(decode(codes, scales, values, block))
        parts = {"codes": codes, "scale": scales, "qmap": values}
        entry[name] = kind(**{k: torch.tensor(v) for k, v in parts.items()})
    small = {"exp_avg": torch.full((72,), 0.25), "exp_avg_sq": torch.full((72,), 0.5)}
    return {0: entry, 1: {"step": torch.tensor(12.0), **small}}, want


FORMS = {
    "bitsandbytes": lambda rng: bitsandbytes(rng, 256, nested=False),
    "bitsandbytes, nested": lambda rng: bitsandbytes(rng, 256, nested=True),
    "bitsandbytes, older": lambda rng: bitsandbytes(rng, 2048, nested=False),
    "torchao": lambda rng: torchao(rng, 234, types.SimpleNamespace),
    "torchao, plain": lambda rng: torchao(rng, 234, dict),
}
GROUPS = [{"params": [0, 1], "param_names": ["weight", "bias"]}]


@pytest.mark.parametrize("form", FORMS)
def test_8_bit_moments_of_torch_are_decoded(form, rng):
    state, want = FORMS[form](rng)
    tensors = {"weight": torch.zeros(SHAPE), "bias": torch.zeros(72)}
    layout = match(tensors, LIKE)
    state = {"state": state, "param_groups": GROUPS}
    adam, *_ = state_from_torch(adamx.adamw(1e-3), state, layout)
    assert adam.count == 12
    for got, x in zip((adam.mu, adam.nu), want, strict=True):
        np.testing.assert_array_equal(got["kernel"], x.T)
    np.testing.assert_array_equal(adam.mu["bias"], np.full(72, 0.25, np.float32))
    np.testing.assert_array_equal(adam.nu["bias"], np.full(72, 0.5, np.float32))


def spoil(**changes):
    def f(entry):
        for name, x in changes.items():
            entry.pop(name) if x is None else entry.update({name: x})

    return f


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (spoil(state2=None), "state1 and state2, as of Adam, got state1 alone"),
        (
            spoil(absmax1=None),
            "absmax1 and qmap1 beside codes, got one or none of them",
        ),
        (
            spoil(absmax2=torch.ones(7)),
            "a scale for 256 or 2048 codes, got 7 scales for 4680 codes",
        ),
        (spoil(qmap1=torch.ones(16)), "float32 values of 256 codes, got f32[16]"),
        (spoil(qmap1=torch.ones(256).double()), "float32 values of 256 codes, got f64"),
        (spoil(absmax1=torch.ones(19).half()), "float32 scales, got f16[19]"),
    ],
)
def test_8_bit_moments_of_torch_that_are_spoiled(change, text, rng):
    state, _ = FORMS["bitsandbytes"](rng)
    change(state[0])
    layout = match({"weight": torch.zeros(SHAPE), "bias": torch.zeros(72)}, LIKE)
    with says(f"state_from_torch: expected {text}"):
        state_from_torch(
            adamx.adamw(1e-3), {"state": state, "param_groups": GROUPS}, layout
        )


def test_blocks_of_torchao_that_are_not_equal(rng):
    state, _ = FORMS["torchao, plain"](rng)
    state[0]["exp_avg"]["scale"] = torch.ones(7)
    layout = match({"weight": torch.zeros(SHAPE), "bias": torch.zeros(72)}, LIKE)
    with says(
        "state_from_torch: expected equal blocks, got 7 scales for 4680 codes for"
    ):
        state_from_torch(
            adamx.adamw(1e-3), {"state": state, "param_groups": GROUPS}, layout
        )
