"""What a person sees while it trains."""

import sys

from tqdm import tqdm


class Progress:
    """Shows how far `compare` is: pass an instance of it as `progress`.

    A bar for each optimizer on a terminal; elsewhere a line when one is done.
    """

    def __init__(self):
        self.bar: tqdm | None = None

    def __call__(self, name: str, done: int, steps: int) -> None:
        """Shows that `name` has done so many of its steps."""
        if not sys.stderr.isatty():
            if done == steps:
                print(f"{name}: done", file=sys.stderr, flush=True)
            return
        if self.bar is None:
            self.bar = tqdm(desc=name.ljust(8), total=steps, unit=" steps")
        self.bar.update(done - self.bar.n)
        if done == steps:
            self.close()

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None
