"""Compare optimizers on a real problem: which one, and at which learning rate?

A `Task` is a plain record: how the parameters start, the loss, the data. `compare`
trains it with several optimizers over a grid of learning rates and seeds; all the runs
of one optimizer are one compiled program. `Results` prints, plots, saves and loads.

Example:
  >>> x = jnp.linspace(-1, 1, 64)
  >>> def loss(params, batch):
  ...     x, y = batch
  ...     return jnp.mean((params["slope"] * x + params["offset"] - y) ** 2)
  >>> def init(key):
  ...     slope, offset = jax.random.normal(key, 2)
  ...     return {"slope": slope, "offset": offset}
  >>> task = adamx.lab.Task("line", init, loss, data=(x, 3 * x - 1), batch_size=16)
  >>> choices = {"adam": adamx.adam, "mine": lambda rate: adamx.sgd(rate, momentum=0.5)}
  >>> results = adamx.lab.compare(task, choices, learning_rates=[0.01, 0.1], steps=100)
  >>> results.trials["mine"].best_rate
  0.1

`print(results.table())` shows the comparison, `results.plot_curves(ax)` draws it. The
command line, `adamx compare`, does the same with the tasks in `TASKS`.

`playground()`, `moments` and `FrameSlider` are views with sliders for notebooks, which
need no kernel and no network.
"""

try:
    from adamx.lab import notebook as notebook
    from adamx.lab.archives import DataUnavailable as DataUnavailable
    from adamx.lab.comparison import compare as compare
    from adamx.lab.gradients import moments as moments
    from adamx.lab.inspection import Inspection as Inspection
    from adamx.lab.inspection import inspect as inspect
    from adamx.lab.lr_range import lr_range as lr_range
    from adamx.lab.lr_result import LrRange as LrRange
    from adamx.lab.optimizers import OPTIMIZERS as OPTIMIZERS
    from adamx.lab.optimizers import SCHEDULES as SCHEDULES
    from adamx.lab.plan import LEARNING_RATES as LEARNING_RATES
    from adamx.lab.progress import Progress as Progress
    from adamx.lab.race import playground as playground
    from adamx.lab.results import Results as Results
    from adamx.lab.task import Task as Task
    from adamx.lab.tasks import TASKS as TASKS
    from adamx.lab.tasks import counterexample as counterexample
    from adamx.lab.tasks import digits as digits
    from adamx.lab.tasks import fashion as fashion
    from adamx.lab.tasks import grokking as grokking
    from adamx.lab.tasks import imdb as imdb
    from adamx.lab.tasks import minilm as minilm
    from adamx.lab.tasks import mnist as mnist
    from adamx.lab.tasks import photographs as photographs
    from adamx.lab.tasks import quadratic as quadratic
    from adamx.lab.tasks import ratings as ratings
    from adamx.lab.tasks import rosenbrock as rosenbrock
    from adamx.lab.tasks import shakespeare as shakespeare
    from adamx.lab.trial import Trial as Trial
    from adamx.lab.widgets import FrameSlider as FrameSlider
    from adamx.lab.widgets import Widget as Widget
except ModuleNotFoundError as error:
    package = (error.name or "").partition(".")[0].replace("sklearn", "scikit-learn")
    if package == "adamx":
        raise
    raise ImportError(f"adamx.lab needs {package}; install adamx[lab].") from error
