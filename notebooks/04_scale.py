# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How does a run grow from one device to eight?
# AdamW keeps twice as much as the model itself. Here eight devices keep an eighth of
# that each (ZeRO-1), then the memory of the host keeps all of it, and a run that is
# saved on eight devices goes on on four, on one, and on eight again. The devices are
# virtual ones of this processor, which makes nothing faster; on eight GPUs or TPUs the
# program is the same.

# %%
import os

# Read when jax is imported.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import functools
import math
import re
import sysconfig
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import adamx
from adamx.interop.orbax import restore, save_args
from adamx.lab.notebook import setting

STEPS = setting(short=24, full=320)
BATCH, CONTEXT = 32, 32


def mesh_of(n):
    """A mesh of the first n devices."""
    return jax.make_mesh((n,), ("data",), (AxisType.Auto,), devices=jax.devices()[:n])


# %% [markdown]
# ## 1. How much there is to split
# A transformer, once of the size of GPT-2 and once of a size for this processor. Of the
# large one there are only shapes: `sharding_report` allocates nothing.


# %%
class Transformer(nn.Module):
    """The next token from those before it (Radford et al., 2019)."""

    vocabulary: int
    context: int
    width: int
    heads: int
    layers: int

    @nn.compact
    def __call__(self, ids):
        words = nn.Embed(self.vocabulary, self.width, name="wte")
        places = nn.Embed(self.context, self.width, name="wpe")
        x = words(ids) + places(jnp.arange(ids.shape[1]))
        for i in range(self.layers):
            x = x + nn.SelfAttention(self.heads, name=f"attention_{i}")(
                nn.LayerNorm()(x), nn.make_causal_mask(ids)
            )
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width)(h)
        return words.attend(nn.LayerNorm()(x))


def shapes_of(model):
    ids = jax.ShapeDtypeStruct((1, model.context), jnp.int32)
    return jax.eval_shape(model.init, jax.random.key(0), ids)["params"]


gpt2 = shapes_of(Transformer(50_257, 1024, 768, 12, 12))
size = sum(p.size for p in jax.tree.leaves(gpt2))
print(f"{size:,} parameters, {4 * size / 1e6:.0f} MB")
assert size == 124_439_808

adamw = adamx.adamw(1e-3)
RECIPES = {
    "amsgrad": adamx.amsgrad(1e-3),
    "adamw": adamw,
    "adamw, bfloat16 states": adamx.adamw(
        1e-3, mu_dtype="bfloat16", nu_dtype="bfloat16"
    ),
    "adamw, 8 bits": adamx.compress_state(adamw),
    "adamw, 8 bits, groups of 96": adamx.compress_state(
        adamw, adamx.companded_codec(96)
    ),
    "adafactor": adamx.adafactor(1e-3),
}
reports = {
    name: adamx.sharding_report(tx, gpt2, mesh_of(8), zero1="data")
    for name, tx in RECIPES.items()
}
figure, axes = plt.subplots(figsize=(8, 2.6), layout="constrained")
whole, each = (
    [getattr(r, field) / 1e6 for r in reports.values()]
    for field in ("nbytes", "nbytes_per_device")
)
axes.barh(list(reports), whole, color="C0", alpha=0.3, label="the whole state")
axes.barh(list(reports), each, color="C0", label="on each of 8 devices")
for i, (a, b) in enumerate(zip(whole, each, strict=True)):
    axes.text(a + 10, i, f"{a:.1f} → {b:.1f}: {a / b:.2f} times less", va="center")
axes.set(xlabel="megabytes", xlim=(0, 2150))
axes.invert_yaxis()
axes.legend(loc="lower right")
plt.show()
assert reports["adamw"].nbytes > 7.99 * reports["adamw"].nbytes_per_device

# %% [markdown]
# What cannot be split stays whole, and the report says what and why. Entries that share
# a scale in 8 bits stay together: 50,257 words are odd, and of the 6 groups in the 768
# entries of a word eight devices have none whole. Groups of 96 are eight to a word.

# %%
for name in ("adamw", "adamw, 8 bits", "adamw, 8 bits, groups of 96"):
    print(f"{name}: {len(reports[name].whole)} arrays are whole")
    for path, shape, reason in reports[name].whole[:2]:
        print(f"    {path} {list(shape)}: {reason}")
assert not reports["adamw"].whole
assert {r.shape for r in reports["adamw, 8 bits"].whole} >= {(50_257, 768)}

# %% [markdown]
# ## 2. A run on one device
# Characters of Python's own source, a warm-up and a cosine, gradients clipped by their
# norm over all parameters: the loop that everyone has.

# %%
files = sorted(Path(sysconfig.get_path("stdlib"), "asyncio").glob("*.py"))
text = "\n".join(file.read_text(encoding="utf-8") for file in files)
alphabet, ids = np.unique(list(text), return_inverse=True)
ids = np.int32(ids)
# The 63 most common, and one for all others: eight devices share 64 evenly.
common = np.sort(np.argsort(-np.bincount(ids), kind="stable")[:63])
ids = np.int32(np.searchsorted(common, ids) * np.isin(ids, common))

model = Transformer(64, CONTEXT, 64, 4, 2)
start = jax.device_get(jax.jit(model.init)(jax.random.key(0), ids[None, :CONTEXT]))[
    "params"
]
schedule = adamx.warmup_cosine_decay_schedule(0.0, 3e-3, STEPS // 10, STEPS)
tx = adamx.chain(adamx.clip_by_global_norm(1.0), adamx.adamw(schedule))
starts = np.random.default_rng(0).integers(len(ids) - CONTEXT, size=(STEPS, BATCH))
batches = ids[starts[..., None] + np.arange(CONTEXT + 1)]


def loss_of(params, batch):
    logits = nn.log_softmax(model.apply({"params": params}, batch[:, :-1]))
    return -jnp.take_along_axis(logits, batch[:, 1:, None], axis=2).mean()


def train_step(params, state, batch):
    loss, grads = jax.value_and_grad(loss_of)(params, batch)
    updates, state = tx.update(grads, state, params)
    return adamx.apply_updates(params, updates), state, loss


def run(step, params, state, batches, put=lambda batch: batch):
    losses = []
    for batch in batches:
        params, state, loss = step(params, state, put(batch))
        losses.append(float(loss))
    return params, state, losses


one = run(jax.jit(train_step), start, tx.init(start), batches)
losses = one[2]
print(f"loss of the first batch {losses[0]:.2f}, of the last {losses[-1]:.2f}")
assert losses[-1] < setting(short=3.5, full=2.0)

# %% [markdown]
# ## 3. The same run on eight
# Three lines are new: where the state lies, its start there, and a step that leaves all
# as it lies. Each device has the parameters and an eighth of the batch, of mu and of
# nu; `train_step` is untouched.


# %%
def split(mesh):
    """What gives each device its rows of a batch."""
    return lambda batch: jax.device_put(batch, NamedSharding(mesh, P("data")))


def on_all_of(mesh):
    """The start, whole on each device."""
    return jax.device_put(start, NamedSharding(mesh, P()))


mesh = mesh_of(8)
params = on_all_of(mesh)
shardings = adamx.state_shardings(tx, params, zero1="data")
state = jax.jit(tx.init, out_shardings=shardings)(params)
step = adamx.jit_step(train_step, params, shardings)


batch = split(mesh)(batches[0])
program = step.lower(params, state, batch).compile()
eight = run(program, params, state, batches, split(mesh))


def bytes_on_a_device(tree):
    held = Counter()
    for x in jax.tree.leaves(tree):
        for shard in x.addressable_shards:
            held[shard.device.id] += shard.data.nbytes
    return max(held.values())


for name, a, b in zip(("parameters", "state"), one, eight, strict=False):
    a, b = bytes_on_a_device(a), bytes_on_a_device(b)
    print(f"{name}: {a:,} bytes on one device, {b:,} on each of eight")
assert 7.9 * bytes_on_a_device(eight[1]) < bytes_on_a_device(one[1])
worst = max(abs(a - b) for a, b in zip(losses, eight[2], strict=True))
assert worst < setting(short=2e-5, full=1e-3)
print(f"The losses agree to {setting(short=2e-5, full=1e-3)} at all {STEPS} steps.")

# %% [markdown]
# What lies where: a color for each device, gray for what all of them have.

# %%
kernel = eight[0]["Dense_0"]["kernel"]
moment = adamx.tree_get(eight[1], "mu")["Dense_0"]["kernel"]
arrays = {
    "a batch": batch,
    "a kernel": kernel,
    "its mu": moment,
}
figure, panels = plt.subplots(1, 3, figsize=(9, 2.4), layout="constrained")
for axes, (name, x) in zip(panels, arrays.items(), strict=True):
    owner = np.full(x.shape, -1)
    if not x.is_fully_replicated:
        for shard in x.addressable_shards:
            owner[shard.index] = shard.device.id
    axes.imshow(
        np.ma.masked_less(owner, 0), cmap="tab10", vmin=0, vmax=9, aspect="auto"
    )
    axes.set(title=f"{name}, {x.shape[0]} × {x.shape[1]}", facecolor="0.7")
plt.show()
assert kernel.is_fully_replicated
assert len({str(shard.index) for shard in moment.addressable_shards}) == 8

# %% [markdown]
# What is sent: gradients are summed as in any training on several devices; then each
# new parameter is gathered once from those who computed its parts.

# %%
KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


def sent(program):
    """The bytes of what comes out of each kind of collective."""
    total = Counter()
    for shapes, kind in re.findall(
        rf"= (.*) ({KINDS})(?:-start)?\(", program.as_text()
    ):
        for sizes in re.findall(r"f32\[([\d,]*)\]", shapes):
            total[kind] += 4 * math.prod(int(n) for n in sizes.split(",") if n)
    return dict(total)


whole_state = jax.jit(tx.init, out_shardings=NamedSharding(mesh, P()))(eight[0])
plain = jax.jit(train_step).lower(eight[0], whole_state, batch).compile()
print("whole state:", sent(plain))
print("an eighth:  ", sent(program))
parameters = bytes_on_a_device(eight[0])
assert "all-gather" not in sent(plain)
assert sent(program)["all-gather"] <= parameters
assert set(sent(program)) <= {"all-reduce", "reduce-scatter", "all-gather"}

# %% [markdown]
# `adamx.zero1(tx, mesh)` is the same for a loop that is to stay as it is, such as that
# of Flax's `TrainState`: a transformation that splits its own work and state.

# %%
wrapped = adamx.zero1(tx, mesh)


def wrapped_step(params, state, batch):
    loss, grads = jax.value_and_grad(loss_of)(params, batch)
    updates, state = wrapped.update(grads, state, params)
    return adamx.apply_updates(params, updates), state, loss


params = on_all_of(mesh)
state = wrapped.init(params)
again = run(jax.jit(wrapped_step), params, state, batches[:10], split(mesh))
worst = max(abs(a - b) for a, b in zip(losses, again[2], strict=False))
assert worst < 2e-5
assert bytes_on_a_device(again[1]) == bytes_on_a_device(eight[1])
print("The same losses, and as many bytes.")

# %% [markdown]
# ## 4. The state in the memory of the host
# Between two steps a device need not have the state at all. `pinned_host` is the memory
# that it can fetch from by itself; `jit_step` brings the state in and out again. On
# this processor both are the same memory: what is shown is that no bit changes.

# %%
host = adamx.state_shardings(tx, params, zero1="data", memory_kind="pinned_host")
params = on_all_of(mesh)
state = jax.jit(tx.init, out_shardings=host)(params)
away = run(
    adamx.jit_step(train_step, params, host), params, state, batches, split(mesh)
)


def bytes_by_memory(tree):
    held = Counter()
    for x in jax.tree.leaves(tree):
        held[x.sharding.memory_kind] += x.addressable_shards[0].data.nbytes
    return dict(held)


def same(a, b):
    """Whether two trees are equal, bit for bit."""
    pairs = zip(*map(jax.tree.leaves, (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


print("state, bytes of each device:", bytes_by_memory(away[1]))
assert away[2] == eight[2]
assert same(away, eight)
assert bytes_by_memory(away[1])["device"] < 100

# %% [markdown]
# ## 5. Saved on eight, and on with four, one, eight
# `save_args` and `restore` go through a `CheckpointManager` of Orbax. A checkpoint does
# not know of devices: `shardings` says where to put it. Here a run stops three times.
# Each part starts from nothing but the folder, and its step is compiled once for each
# number of devices.


# %%
@functools.cache
def trainer(n):
    params = on_all_of(mesh_of(n))
    shardings = adamx.state_shardings(tx, params, zero1="data")
    return shardings, adamx.jit_step(train_step, params, shardings)


folder = tempfile.TemporaryDirectory()
ends = [STEPS // 4 * i for i in range(1, 5)]
parts, first, saved = [], 0, None
for n, last in zip([8, 4, 1, 8], ends, strict=True):
    params, (shardings, step) = on_all_of(mesh_of(n)), trainer(n)
    with ocp.CheckpointManager(folder.name) as manager:
        if first == 0:
            state = jax.jit(tx.init, out_shardings=shardings)(params)
        else:
            params, state = restore(manager, tx, params, shardings=shardings)
            assert same((params, state), saved)
        some = batches[first:last]
        params, state, part = run(step, params, state, some, split(mesh_of(n)))
        manager.save(last, args=save_args(params, state))
    saved = jax.device_get((params, state))
    each = bytes_on_a_device(state)
    print(f"steps {first} to {last} on {n}: {each:,} bytes of state on each")
    parts.append((n, first, part))
    first = last

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
axes.plot(losses, color="0.8", lw=6, label="never stopped, on one")
for i, (n, first, part) in enumerate(parts):
    axes.plot(range(first, first + len(part)), part, color=f"C{i}", label=f"on {n}")
axes.set(xlabel="step", ylabel="loss of the batch, nats")
axes.legend()
plt.show()
joined = [loss for _, _, part in parts for loss in part]
worst = max(abs(a - b) for a, b in zip(losses, joined, strict=True))
assert worst < setting(short=2e-5, full=1e-3)

# %% [markdown]
# What is restored was saved, bit for bit: that was asserted. What does not fit is said
# before an array is read, all of it in one message: the state of another optimizer,
# other parameters.

# %%
clipped_amsgrad = adamx.chain(adamx.clip_by_global_norm(1.0), adamx.amsgrad(schedule))
wider = dict(start, Dense_9={"kernel": jnp.zeros((8, 8))})
with ocp.CheckpointManager(folder.name) as manager:
    for other, like in ((clipped_amsgrad, start), (tx, wider)):
        try:
            restore(manager, other, like)
        except ValueError as error:
            message = str(error).replace(folder.name, "FOLDER")
            print(textwrap.shorten(message, 400, placeholder=" ..."), end="\n\n")
        else:
            raise AssertionError("something else was restored")
folder.cleanup()

# %% [markdown]
# Several processes, each with its own devices, do the same: `jax.distributed` first,
# then this program, with batches from `jax.make_array_from_process_local_data`
# (`tests/processes.py` is one such run). Settings such as `b1` are not in a state, nor
# in a checkpoint of it: they are the program's.
