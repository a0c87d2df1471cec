"""The compiled program: one optimizer at all settings and seeds at once."""

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adamx
from adamx.lab.problem import Problem

CHUNK_SECONDS = 0.1  # between looks at the progress bar and at Ctrl-C

# One number of each hyperparameter: (learning_rate,) or (learning_rate, weight_decay).
Setting = tuple[Any, ...]
Make = Callable[..., adamx.GradientTransformation]  # make(*setting)


class Sweep(NamedTuple):
    """What the runs of one optimizer gave."""

    losses: np.ndarray  # f32[settings,seeds,steps done]; of each batch, before the step
    ratios: np.ndarray  # f32[settings,seeds,steps done]; ‖update‖ / ‖parameters‖
    final: dict[str, np.ndarray]  # f32[settings,seeds]; NaN where a run diverged
    evaluation_steps: np.ndarray  # i32[evaluations]
    evaluations: dict[str, np.ndarray]  # f32[settings,seeds,evaluations]
    seconds: float  # training without compiling and evaluating
    compile_seconds: float
    state_bytes_per_parameter: float


class Program(NamedTuple):
    """The runs of one optimizer, lowered and not yet compiled."""

    start: jax.stages.Lowered  # params f32[seeds,...] -> the carry
    advance: jax.stages.Lowered  # (carry, ..., first step, last step) -> the carry
    carry: Any  # shapes: params f32[seeds,settings,...], states, losses and ratios


def make_step(problem: Problem, make: Make):
    """Makes the step of one run.

    An optimizer gets the loss of the batch as the extra argument `obj_fn`, for those
    that look at its curvature.
    """

    def step(params, state, setting: Setting, batch, frozen):
        def loss_of(params):
            return problem.loss(params, frozen, batch)

        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = make(*setting).update(grads, state, params, obj_fn=loss_of)
        ratio = jnp.sqrt(squares(updates) / squares(params))
        measured = loss.astype(jnp.float32), ratio
        return adamx.apply_updates(params, updates), state, measured

    return step


def lower(problem: Problem, make: Make, settings: Sequence[Setting]) -> Program:
    """Traces all runs of an optimizer as one program."""
    axes = tuple(jnp.asarray(axis, jnp.float32) for axis in zip(*settings, strict=True))
    step = make_step(problem, make)
    # A batch has no axis of settings: the first layer is one product for all of them.
    step_all = jax.vmap(jax.vmap(step, (0, 0, 0, None, None)), (0, 0, None, 0, None))

    def start(params):
        begin = jax.vmap(lambda setting, p: (p, make(*setting).init(p)), (0, None))
        runs = jax.vmap(lambda p: begin(axes, p))(params)
        unknown = jnp.zeros((problem.seeds, len(settings), problem.steps), jnp.float32)
        return *runs, (unknown, unknown)

    # A loop with traced bounds, so that a chunk of any length is the same program.
    def advance(carry, data, source, frozen, first, last):
        def body(i, carry):
            params, state, curves = carry
            batch = jax.vmap(lambda source: problem.draw(data, source, i))(source)
            params, state, measured = step_all(params, state, axes, batch, frozen)
            curves = jax.tree.map(lambda x, at: x.at[:, :, i].set(at), curves, measured)
            return params, state, curves

        return jax.lax.fori_loop(first, last, body, carry)

    carry = jax.eval_shape(start, problem.params)
    inputs = problem.data, problem.source, problem.frozen, np.int32(0), np.int32(0)
    lowered = (
        jax.jit(start).lower(problem.params),
        jax.jit(advance, donate_argnums=0).lower(carry, *inputs),
    )
    return Program(*lowered, carry)


def fingerprint(problem: Problem, program: Program) -> str:
    """Returns a SHA-256 of everything that decides about the numbers of a trial."""
    params = program.carry[0], problem.frozen
    inputs = problem.data, problem.task.validation, problem.source
    measure = problem.evaluate.lower(*params, *inputs)
    total = hashlib.sha256(problem.digest())
    for part in (program.start, program.advance, measure):
        total.update(part.as_text().encode())
    device = jax.devices()[0]
    total.update(f"{jax.__version__} {device.platform} {device.device_kind}".encode())
    return total.hexdigest()


def train(
    problem: Problem,
    program: Program,
    evaluate_every: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int], None] = lambda done: None,
) -> Sweep:
    """Trains at every setting from every seed; `stop` ends it early.

    What is evaluated is the average of the parameters for optimizers that keep one.
    """
    frozen, validation = problem.frozen, problem.task.validation
    arguments = problem.data, problem.source, frozen
    average = jax.vmap(jax.vmap(adamx.eval_params))
    every = evaluate_every or problem.steps

    began = time.perf_counter()
    start, advance = program.start.compile(), program.advance.compile()
    compiled = time.perf_counter()

    carry = start(problem.params)
    seconds, done, chunk = 0.0, 0, 1
    evaluations: list[tuple[int, dict[str, jax.Array]]] = []
    while done < problem.steps and not stop():
        tick = time.perf_counter()
        last = min(done + chunk, problem.steps, (done // every + 1) * every)
        carry = advance(carry, *arguments, np.int32(done), np.int32(last))
        jax.block_until_ready(carry)
        passed = time.perf_counter() - tick
        chunk = max(1, min(4 * chunk, int((last - done) / passed * CHUNK_SECONDS)))
        seconds, done = seconds + passed, last
        if evaluate_every and done % every == 0:
            averaged = average(carry[1], carry[0])
            evaluations.append((done, problem.validate(averaged, frozen, validation)))
        report(done)

    params, state, (losses, ratios) = carry
    averaged = average(state, params)
    final = problem.evaluate(averaged, frozen, problem.data, validation, problem.source)
    steps, measured = zip(*evaluations, strict=True) if evaluations else ((), ())
    return Sweep(
        losses=np.asarray(losses[:, :, :done]).swapaxes(0, 1),
        ratios=np.asarray(ratios[:, :, :done]).swapaxes(0, 1),
        final={what: np.asarray(value).T for what, value in final.items()},
        evaluation_steps=np.asarray(steps, np.int32),
        evaluations={
            what: np.stack([np.asarray(values[what]).T for values in measured], -1)
            for what in (measured[0] if measured else ())
        },
        seconds=seconds,
        compile_seconds=compiled - began,
        state_bytes_per_parameter=state_bytes(program.carry),
    )


def squares(tree) -> jax.Array:
    """Sums the squares of all entries, f32[]."""
    parts = [x.astype(jnp.float32).ravel() for x in jax.tree.leaves(tree)]
    return jnp.sum(jnp.stack([x @ x for x in parts]))


def state_bytes(carry) -> float:
    """Counts the bytes of optimizer state per trained parameter."""
    params, state, _ = carry
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / count
