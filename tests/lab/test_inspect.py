"""What is in a checkpoint: real ones of every kind, and every sickness."""

import json
import pickle
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from flax.training.train_state import TrainState
from matplotlib.figure import Figure

import adamx
from adamx import lab
from adamx.lab.cli import main
from adamx.lab.inspection.fields import codec_of
from adamx.lab.inspection.measure import measure

PARAMS = {
    "dense": {
        "bias": np.zeros(32, np.float32),
        "kernel": np.ones((16, 32), np.float32),
    },
    "out": {"kernel": np.ones((32, 4), np.float32)},
}
SIZE = 32 + 16 * 32 + 32 * 4
LABELS = {"dense": "mu", "out": "params"}  # names that fields have, too
NARROW = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)


def trained(tx, params=PARAMS, steps=2, grad=0.1):
    """The state after some steps with the same gradient everywhere."""
    params = jax.tree.map(jnp.asarray, params)
    grads = jax.tree.map(lambda p: jnp.full_like(p, grad), params)
    state = tx.init(params)
    for _ in range(steps):
        _, state = tx.update(grads, state, params)
    return state


def nnx_state():
    """The state of an optimizer of nnx, and the parameters of its model."""
    model = nnx.Linear(8, 16, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adamx.adamw(1e-3), wrt=nnx.Param)
    return {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}


def train_state():
    """A whole state of Flax."""
    tx = optax.chain(optax.clip(1.0), optax.adamw(optax.linear_schedule(1e-3, 0.0, 9)))
    return TrainState.create(apply_fn=None, params=PARAMS, tx=tx)


def optax_state():
    """One of another library, which promotes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        return trained(optax.adamw(1e-3))


# The state; the places of its fields; bytes of state per parameter.
STATES = {
    "adamw": (lambda: trained(adamx.adamw(1e-3)), ["0/mu", "0/nu"], 8),
    "amsgrad": (
        lambda: trained(adamx.amsgrad(1e-3)),
        ["0/mu", "0/nu", "0/nu_max"],
        12,
    ),
    "adan": (
        lambda: trained(adamx.adan(1e-3)),
        ["0/g", "0/m", "0/n", "0/v"],
        16,
    ),
    "partition": (
        lambda: trained(
            adamx.partition(
                {"mu": adamx.adamw(1e-3), "params": adamx.sgd(0.1, momentum=0.9)},
                LABELS,
            )
        ),
        [
            "inner_states/mu/inner_state/0/mu",
            "inner_states/mu/inner_state/0/nu",
            "inner_states/params/inner_state/0/trace",
        ],
        4 * (2 * 544 + 128) / SIZE,
    ),
    "MultiSteps": (
        lambda: trained(adamx.MultiSteps(adamx.adamw(1e-3), 2)),
        ["acc_grads", "inner_opt_state/0/mu", "inner_opt_state/0/nu"],
        12,
    ),
    "compress_state": (
        lambda: trained(adamx.compress_state(adamx.adamw(1e-3), min_size=512)),
        ["inner_state/0/mu", "inner_state/0/nu"],
        # A scale of 4 bytes for each row of 32; what is smaller stays as it is.
        2 * (512 + 16 * 4 + 4 * (32 + 128)) / SIZE,
    ),
    "master_weights": (
        lambda: trained(adamx.master_weights(adamx.adamw(1e-3)), NARROW),
        ["inner_state/0/mu", "inner_state/0/nu", "residual16"],
        10,
    ),
    "optax": (optax_state, ["0/mu", "0/nu"], 8),
    "TrainState": (train_state, ["opt_state/1/0/mu", "opt_state/1/0/nu", "params"], 8),
    "nnx": (
        nnx_state,
        ["model", "optimizer/opt_state/0/mu", "optimizer/opt_state/0/nu"],
        8,
    ),
}


def to_orbax(state, folder):
    """Saves as most do."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "orbax", state)
    return folder / "orbax"


def to_flax(state, folder):
    """Saves as a file of Flax."""
    (folder / "state.msgpack").write_bytes(serialization.to_bytes(state))
    return folder / "state.msgpack"


def to_safetensors(arrays, path, header=None):
    """Writes the published layout."""
    names = {"float32": "F32", "bfloat16": "BF16", "int32": "I32", "bool": "BOOL"}
    names |= {"float8_e4m3fn": "F8_E4M3"}
    entries, data = {"__metadata__": {"format": "np"}}, b""
    for name, x in arrays.items():
        end = len(data) + x.nbytes
        entries[name] = {
            "dtype": names[str(x.dtype)],
            "shape": list(x.shape),
            "data_offsets": [len(data), end],
        }
        data += x.tobytes()
    text = json.dumps(entries).encode() if header is None else header
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def seen(inspection):
    """What must be the same wherever a state is kept."""
    fields = [
        (f.place, f.name, sorted(f.dtypes), dict(sorted(f.sizes.items())), f.nbytes)
        for f in inspection.fields
    ]
    findings = sorted(map(str, inspection.findings))
    return sorted(fields), dict(sorted(inspection.scalars.items())), findings


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_the_same_in_memory_and_in_checkpoints(name, tmp_path):
    make, places, nbytes = STATES[name]
    state = make()
    inspection = lab.inspect(state)
    assert sorted(field.place for field in inspection.fields) == places
    assert inspection.state_bytes_per_parameter == pytest.approx(nbytes)
    saves = [to_orbax] if name == "nnx" else [to_orbax, to_flax]
    for save in saves:
        assert seen(lab.inspect(save(state, tmp_path))) == seen(inspection), save


@pytest.mark.parametrize("name", ["TrainState", "nnx"])
def test_parameters_are_known(name):
    inspection = lab.inspect(STATES[name][0]())
    fields = {field.place: field for field in inspection.fields}
    params = fields["params" if name == "TrainState" else "model"]
    assert params.name == "params"
    assert params.entries == inspection.parameters


def test_a_step_of_a_manager(tmp_path):
    state = train_state()
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (3, 12):
            manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.PyTreeSave(state.params),
                    opt=ocp.args.StandardSave(state.opt_state),
                    extra=ocp.args.JsonSave({"epoch": 1}),
                ),
            )
        manager.wait_until_finished()
    places = [field.place for field in lab.inspect(tmp_path / "run" / "12").fields]
    assert places == ["opt/1/0/mu", "opt/1/0/nu", "params"]
    assert error(tmp_path / "run") == (
        f"expected one step, got {tmp_path}/run, a folder of 2; give one of them, such "
        f"as {tmp_path}/run/12."
    )


def test_a_state_that_was_sharded(tmp_path):
    mesh = jax.make_mesh((4,), ("x",))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    params = {"w": jax.device_put(jnp.arange(64.0).reshape(8, 8), rows)}
    path = to_orbax({"mu": params}, tmp_path)
    assert lab.inspect(path).fields[0].numbers.largest == 63


def test_safetensors_of_every_dtype(tmp_path):
    arrays = {
        "0.mu.w": np.full((2, 3), 0.5, np.float32),
        "0.nu.w": np.full((2, 3), 0.25, jnp.bfloat16),
        "0/trace/w": np.full((2, 3), 2, jnp.float8_e4m3fn),
        "0.count": np.int32(7),
    }
    path = to_safetensors(
        {n: np.asarray(x) for n, x in arrays.items()}, tmp_path / "a.safetensors"
    )
    inspection = lab.inspect(path)
    assert [f.place for f in inspection.fields] == ["0/mu", "0/nu", "0/trace"]
    assert [f.numbers.median for f in inspection.fields] == [0.5, 0.25, 2]
    assert inspection.scalars == {"0/count": 7}


def test_arrays_are_loaded_a_few_at_a_time(monkeypatch):
    from adamx.lab.inspection import fields, stored

    source = stored.from_tree("x", {"mu": PARAMS, "nu": PARAMS, "count": np.int32(1)})
    loads = []

    def load(names):
        loads.append(sum(source.shapes[n].size for n in names))
        return source.load(names)

    monkeypatch.setattr(fields, "BATCH_BYTES", 4 * 600)
    found, scalars = fields.read(source._replace(load=load))
    assert max(loads) <= 600
    assert [field.entries for field in found] == [SIZE, SIZE]
    assert scalars == {"count": 1}


def test_keys_strings_and_nothing(tmp_path):
    tree = {"mu": {"w": jnp.ones(3)}, "key": jax.random.key(0), "name": "x", "no": None}
    inspection = lab.inspect(tree)
    assert [(f.place, f.dtypes) for f in inspection.fields] == [
        ("", ("uint32",)),
        ("mu", ("float32",)),
    ]


# ---- numbers


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_numbers_are_counted(dtype):
    tiny = float(jnp.finfo(dtype).tiny)
    values = [0, -0.0, tiny / 2, tiny, -1.5, 8, 8, np.inf, -np.inf, np.nan]
    numbers = measure(np.array(values, np.float64).astype(dtype).reshape(2, 5))
    assert (numbers.entries, numbers.zeros, numbers.subnormals) == (10, 2, 1)
    assert (numbers.infinities, numbers.nans, numbers.negatives) == (2, 1, 2)
    assert (numbers.smallest, numbers.largest) == (tiny / 2, 8)
    assert numbers.median == pytest.approx(1.5, rel=0.01)
    assert numbers.decades[0] == 3
    assert sum(numbers.decades.values()) == 5


def test_numbers_add_up(rng, monkeypatch):
    x = rng.standard_normal(10_000).astype(np.float32) * 10.0 ** rng.integers(
        -9, 9, 10_000
    )
    monkeypatch.setattr("adamx.lab.inspection.measure.CHUNK", 999)
    whole, parts = measure(x), measure(x[:3000]) + measure(x[3000:])
    np.testing.assert_array_equal(whole.bins, parts.bins)
    assert whole.median == pytest.approx(np.median(np.abs(x)), rel=0.01)
    assert whole.below(1e-8) == (np.abs(x) < 1e-8).sum()
    decades = np.floor(np.log10(np.abs(x))).astype(int)
    assert whole.decades == {
        d: (decades == d).sum() for d in range(decades.min(), decades.max() + 1)
    }


def test_an_array_of_nothing():
    numbers = measure(np.zeros((0, 3), np.float32))
    assert (numbers.entries, numbers.median, numbers.decades) == (0, None, {})
    lab.inspect({"mu": {"w": np.zeros((0, 3), np.float32)}}).table()


# ---- health


def adam_state(mu=(1e-3,), nu=(1e-6,), count=100, dtype=np.float32, **others):
    """A state of Adam with these numbers at its start, usual ones after them."""
    moments = {"mu": np.full(100, 1e-3, np.float32), "nu": np.full(100, 1e-6, dtype)}
    for name, values in {"mu": mu, "nu": nu}.items():
        moments[name][: len(values)] = values
    fields = {name: {"w": x} for name, x in moments.items()}
    return {"0": fields | {"count": np.int32(count)}} | others


def coarse():
    """Codes of 4 bits, which cannot hold numbers that are far apart."""
    params = {"w": jnp.ones((4, 32), jnp.float32)}
    tx = adamx.compress_state(adamx.adam(1.0), adamx.int4_codec(), min_size=1)
    state = tx.init(params)
    grads = {"w": jnp.tile(10.0 ** -jnp.arange(32, dtype=jnp.float32), (4, 1))}
    return tx.update(grads, state, params)[1]


SICK = {
    "healthy": (adam_state(), []),
    "NaN": (
        {"mu": {"w": np.array([1, np.nan, np.inf, 1]), "v": np.array([np.nan])}},
        [
            "not finite, mu at w and 1 more: 2 of 4 entries are NaN or infinite, and "
            "stay so; go back to an earlier checkpoint, and wrap the optimizer in "
            "apply_if_finite."
        ],
    ),
    "negative squares": (
        adam_state(nu=[-1e-6, -1e-6]),
        [
            "negative squares, 0/nu: 2 % of the entries of a mean of squares are below "
            "0, and their root is NaN; go back to an earlier checkpoint, this one is "
            "damaged."
        ],
    ),
    "nothing was trained": (
        adam_state(mu=np.zeros(100), nu=np.zeros(100), count=0, step=np.int32(0)),
        [
            "never updated, 0/count and step: no update has been counted; keep the "
            "state that update returns."
        ],
    ),
    "the last step": (
        adam_state(count=2**31 - 1),
        [
            "counter at its end, 0/count: it stays at 2³¹ - 1, and no schedule sees a "
            "later step; go on with a constant schedule."
        ],
    ),
    "steps left out": (
        adam_state(total_notfinite=np.int32(12), notfinite_count=np.int32(5)),
        [
            "steps left out, total_notfinite: 12 steps were not finite, the last 5 in "
            "a row; lower the learning rate, or clip gradients by their norm."
        ],
    ),
    "spikes": (
        adam_state(total_skipped=np.int32(3)),
        [
            "steps left out, total_skipped: 3 steps were spikes; lower the learning "
            "rate, or clip gradients by their norm."
        ],
    ),
    "no gradient": (
        adam_state(nu=np.zeros(3)),
        [
            "no gradient, 0/nu: 3 % of the entries are 0 after 100 steps: their "
            "parameters have had no gradient, or one whose square is 0 in float32; "
            "freeze them, or look for rows that are not used and units that are dead."
        ],
    ),
    "no gradient at all": (
        {"trace": {"w": np.zeros(4)}},
        [
            "no gradient, trace: 100 % of the entries are 0: their parameters have had "
            "no gradient, or one whose square is 0 in float64; freeze them, or look "
            "for rows that are not used and units that are dead."
        ],
    ),
    "below eps": (
        adam_state(nu=[9e-17, 1e-20, 1.1e-16]),
        [
            "below eps, 0/nu: 2 % of the entries are below eps² = 1e-16: their "
            "parameters take steps of g / eps, which are smaller than the learning "
            "rate; take a smaller eps, or adam_atan2, which has none."
        ],
    ),
    "below an eps of its own": (
        adam_state(hyperparams={"eps": np.float32(1e-2)}),
        [
            "below eps, 0/nu: 100 % of the entries are below eps² = 0.0001: their "
            "parameters take steps of g / eps, which are smaller than the learning "
            "rate; take a smaller eps, or adam_atan2, which has none."
        ],
    ),
    "bfloat16": (
        adam_state(dtype=jnp.bfloat16),
        [
            "narrow squares, 0/nu: a mean in bfloat16 that moves by less than 1 / 512 "
            "a step stands still where it is rounded to the nearest, as in Optax, and "
            "never decays; keep it in float32, or round it by chance, as adamx does "
            "with nu_dtype=jnp.bfloat16."
        ],
    ),
    "float16": (
        adam_state(dtype=np.float16),
        [
            "narrow squares, 0/nu: float16 ends at 6e-8: the squares of gradients "
            "below 1.7e-4 become 0; keep it in float32 or bfloat16."
        ],
    ),
}


@pytest.mark.parametrize("name", SICK)
def test_every_sickness_is_found_and_no_other(name):
    tree, expected = SICK[name]
    assert list(map(str, lab.inspect(tree).findings)) == expected


def test_a_mean_in_bfloat16_never_decays_by_so_little():
    for nu in np.linspace(1, 2, 128, endpoint=False).astype(jnp.bfloat16):
        below = np.float32(nu) * np.float32(1 - 1 / 513)
        assert below.astype(jnp.bfloat16) == nu


def test_codes_that_are_too_few():
    inspection = lab.inspect(coarse())
    _, nu = inspection.fields
    assert nu.codes["bottom"] > 0.5
    found = {(f.what, f.where): f for f in inspection.findings}
    assert str(found["coarse codes", nu.place]) == (
        f"coarse codes, inner_state/0/nu: {nu.codes['bottom']:.1%} of the codes of an "
        "array stand for the smallest number: the numbers of a group are further apart "
        "than codes can be; take a codec with a smaller group_size."
    )
    assert "inner_state/0/nu, codes: " in inspection.table()


@pytest.mark.parametrize(
    "codec",
    [
        adamx.float8_codec(group_size=16),
        adamx.plain_codec(jnp.bfloat16),
    ],
    ids=lambda codec: codec.name,
)
def test_codes_are_decoded(codec):
    params = {"w": np.ones((4, 32), np.float32)}
    tx = adamx.compress_state(adamx.adam(1.0), codec, min_size=1)
    inspection = lab.inspect(trained(tx, params, steps=1))
    mu, nu = inspection.fields
    assert mu.dtypes == (f"{codec.name} codec",)
    assert mu.numbers.median == pytest.approx(0.01, rel=0.02)
    assert nu.numbers.median == pytest.approx(1e-5, rel=0.02)
    assert inspection.findings == []


def test_every_codec_is_known_by_its_name():
    for codec in (
        adamx.companded_codec(64),
        adamx.dynamic256_codec(32),
        adamx.int4_codec(16),
        adamx.float8_codec(jnp.float8_e5m2),
    ):
        found = codec_of(codec.name)
        assert (found.name, found.parts) == (codec.name, codec.parts)


def test_what_is_encoded_and_what_is_not_are_one_field():
    values = {"bfloat16": {"values": {"w": np.full(16, 0.5, jnp.bfloat16)}}}
    inner = {"0": {"m": {"b": np.full(4, 0.25, np.float32)}, "t": np.int32(3)}}
    (field,) = lab.inspect({"inner_state": inner, "encoded": {"0/m": values}}).fields
    assert (field.place, field.name, field.entries) == ("inner_state/0/m", "m", 20)
    assert set(field.dtypes) == {"bfloat16 codec", "float32"}
    assert field.numbers.decades == {-1: 20}


def test_codes_of_others_are_not_guessed():
    encoded = {"0/mu": {"mine_16": {"codes": {"w": np.ones((4, 32), np.int8)}}}}
    (field,) = lab.inspect({"encoded": encoded}).fields
    assert (field.numbers, field.nbytes) == (None, 128)


def test_sm3_and_sophia_have_signs():
    inspection = lab.inspect(trained(adamx.sm3(1e-3), grad=-0.1))
    nu = next(field for field in inspection.fields if field.place == "0/nu")
    assert nu.numbers.negatives
    assert [f.what for f in inspection.findings] == []


# ---- text and pictures


def test_table():
    state = adam_state([0, 0.5], np.full(100, 2e-6), params={"w": np.ones(100)})
    lines = lab.inspect(state).table()
    assert lines.splitlines() == [
        "the tree: 1,600 bytes in arrays",
        "100 parameters; 8.00 bytes of optimizer state for each",
        "0/count = 100",
        "",
        "field   dtype    entries  bytes  min |x|  median  max |x|  zero  subnormal  "
        "infinite  NaN",
        "-" * 89,
        "0/mu    float32  100      400    0.001    0.001   0.5      1 %   0          "
        "0         0",
        "0/nu    float32  100      400    2e-06    2e-06   2e-06    0     0          "
        "0         0",
        "params  float64  100      800    1        1       1        0     0          "
        "0         0",
        "",
        "0/mu, |x| from",
        f"  1e-03  {'█' * 40}  98 %",
        f"  1e-02  {' ' * 40}  0",
        f"  1e-01  {'▍'.ljust(40)}  1 %",
        "",
        "0/nu, |x| from",
        f"  1e-06  {'█' * 40}  100 %",
        "",
        "Health: nothing was found that is not as it should be.",
    ]


def test_what_is_not_known_is_listed_all_the_same():
    text = lab.inspect({"a": {"b": np.full(3, 2.0)}, "c": np.arange(4)}).table()
    assert "no field of an optimizer that is known here" in text
    assert [line.split()[0] for line in text.splitlines()[5:7]] == ["a", "(no"]


def test_plot():
    ax = lab.inspect(adam_state(mu=[0, 0.5])).plot(Figure().subplots())
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["0/mu", "0/nu"]
    values, edges, _ = ax.patches[0].get_data()
    np.testing.assert_allclose(values, [0.98, 0, 0.01])
    np.testing.assert_allclose(edges, [1e-3, 1e-2, 1e-1, 1])


# ---- errors


class Trap:
    """Bites whoever unpickles it."""

    def __reduce__(self):
        return (pytest.fail, ("it was unpickled",))


def error(source):
    """The text of the error, without its beginning."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        lab.inspect(source)
    text = str(caught.value)
    assert text.startswith("inspect: ")
    assert "\n" not in text
    return text.removeprefix("inspect: ")


def damaged(what, path, why):
    """The error for a file that cannot be read."""
    return (
        f"expected {what}, got {path}, which is damaged or something else ({why}); "
        "write it again."
    )


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_is_refused(tmp_path, protocol):
    path = tmp_path / "state.pkl"
    path.write_bytes(pickle.dumps(Trap(), protocol))
    refused = (
        f"{path} is a pickle, as PyTorch's files are, and reading it runs whatever "
        "code is in it; save the state with Orbax, flax.serialization or safetensors."
    )
    assert error(path) == refused
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap(), protocol))
    assert error(path) == refused


def test_nothing_there(tmp_path):
    assert error(tmp_path / "x") == f"no file or folder {tmp_path}/x."
    assert error(tmp_path) == (
        f"expected a checkpoint of Orbax, got {tmp_path}, which is empty; give the "
        "folder that was saved to."
    )
    (tmp_path / "notes.txt").write_text("hello")
    assert error(tmp_path) == (
        f"expected a checkpoint of Orbax, got {tmp_path}, which is a folder without a "
        "file _METADATA; give the folder that was saved to."
    )
    assert error({"a": None}) == "expected arrays, got none in the tree."


def test_no_file_of_flax(tmp_path):
    what, path = "a file of flax.serialization", tmp_path / "notes.txt"
    path.write_text("hello")
    assert error(path) == damaged(what, path, "unpack(b) received extra data.")
    path.write_bytes(b"\x07")
    assert error(path) == damaged(what, path, "its content is of type int")
    whole = to_flax(adam_state(), tmp_path)
    whole.write_bytes(whole.read_bytes()[:-100])
    assert error(whole) == damaged(what, whole, "Unpack failed: incomplete input")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (None, "cannot reshape array of size 50 into shape (100,)"),
        (b"x" * 9, "Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_a_truncated_file_of_safetensors(tmp_path, header, why):
    path = tmp_path / "x.safetensors"
    to_safetensors({"mu": np.ones(100, np.float32)}, path, header)
    path.write_bytes(path.read_bytes()[:-200])
    assert error(path) == damaged("a file of safetensors", path, why)


def test_a_header_that_is_longer_than_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 20)
    why = "20 bytes, its header is longer"
    assert error(path) == damaged("a file of safetensors", path, why)


def test_a_checkpoint_without_its_data(tmp_path, capfd):
    path = to_orbax(adam_state(), tmp_path)
    for file in path.rglob("d/*"):
        file.unlink()
    text = error(path)
    assert text.startswith(
        f"expected a checkpoint of Orbax, got {path}, which is damag"
    )
    assert text.endswith("; write it again.")
    assert capfd.readouterr().err == ""
    (path / "_METADATA").write_text("{")
    assert error(path).startswith(f"expected a checkpoint of Orbax, got {path}, which")


def test_bad_eps():
    assert error_of_eps(0) == "inspect: expected eps > 0, got 0."


def error_of_eps(eps):
    """The text of the error."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the text is compared
        lab.inspect(adam_state(), eps=eps)
    return str(caught.value)


def test_orbax_is_needed_for_its_checkpoints_alone(tmp_path, monkeypatch):
    path = to_orbax(adam_state(), tmp_path)
    monkeypatch.setitem(sys.modules, "orbax.checkpoint", None)
    lab.inspect(to_flax(adam_state(), tmp_path))
    with pytest.raises(
        ImportError, match=r"needs orbax.*; install orbax-checkpoint\.$"
    ):
        lab.inspect(path)


# ---- the command


def test_the_command_prints_and_draws(tmp_path, capsys):
    path, picture = to_orbax(adam_state(nu=[1e-20]), tmp_path), tmp_path / "state.png"
    assert main(["inspect", str(path), "--eps", "1e-5", "--out", str(picture)]) == 0
    table = lab.inspect(path, eps=1e-5).table()
    assert "below eps² = 1e-10" in table
    assert capsys.readouterr() == (f"{table}\n\nWrote {picture}.\n", "")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_command_says_what_is_wrong_in_a_line(tmp_path, capsys):
    path = to_flax(adam_state(), tmp_path)
    for options, message in [
        ([str(tmp_path / "x")], f"no file or folder {tmp_path}/x."),
        ([str(path), "--eps", "-1"], "expected eps > 0, got -1.0."),
        ([], "the following arguments are required: CHECKPOINT"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(["inspect", *options])
        assert caught.value.code == 2
        assert capsys.readouterr() == ("", f"adamx inspect: {message}\n")
    picture = tmp_path / "no" / "x.png"
    with pytest.raises(SystemExit) as caught:
        main(["inspect", str(path), "--out", str(picture)])
    assert caught.value.code == 2
    why = f"cannot write {picture} (No such file or directory)"
    assert capsys.readouterr().err == f"adamx inspect: --out: {why}\n"
