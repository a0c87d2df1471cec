"""What the numbers of an array look like: shares, extremes, a histogram."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

PER_DECADE = 200  # bins: a median is right to 1 %
LOWEST = -330  # decade; the smallest float64 is 5e-324
BINS = 640 * PER_DECADE
CHUNK = 1 << 20  # entries that are widened at a time


@dataclass(frozen=True, eq=False)
class Numbers:
    """What is known of some floating or complex numbers; two of these add up.

    Attributes:
      entries: How many there are.
      zeros: How many are 0.
      subnormals: How many are smaller than the smallest normal number of their dtype.
      infinities: How many are infinite.
      nans: How many are NaN.
      negatives: How many are below 0.
      smallest: The least |x| of those that are finite and not 0; infinite if none is.
      largest: The largest of them; 0 if there is none.
      bins: i64[bins]; how many of them are in each 200th of a decade of |x|.
    """

    entries: int
    zeros: int
    subnormals: int
    infinities: int
    nans: int
    negatives: int
    smallest: float
    largest: float
    bins: np.ndarray

    def __add__(self, other: "Numbers") -> "Numbers":
        """Joins two groups of numbers."""
        return Numbers(
            self.entries + other.entries,
            self.zeros + other.zeros,
            self.subnormals + other.subnormals,
            self.infinities + other.infinities,
            self.nans + other.nans,
            self.negatives + other.negatives,
            min(self.smallest, other.smallest),
            max(self.largest, other.largest),
            self.bins + other.bins,
        )

    @property
    def median(self) -> float | None:
        """Returns the median of |x| where it is finite and not 0, to 1 %."""
        if not (count := self.bins.sum()):
            return None
        middle = np.searchsorted(np.cumsum(self.bins), (count + 1) // 2)
        median = 10.0 ** ((middle + 0.5) / PER_DECADE + LOWEST)
        return float(np.clip(median, self.smallest, self.largest))

    @property
    def decades(self) -> dict[int, int]:
        """Counts |x| from 10^d to 10^(d+1), by d, from the first to the last."""
        counts = self.bins.reshape(-1, PER_DECADE).sum(axis=1)
        (there,) = np.nonzero(counts)
        if not there.size:
            return {}
        span = range(there[0], there[-1] + 1)
        return {i + LOWEST: int(counts[i]) for i in span}

    def below(self, bound: float) -> int:
        """Counts 0 < |x| < bound, of which log10 is a multiple of 1 / 200."""
        return int(self.bins[: bin_of(np.float64(bound))].sum())


def measure(x: np.ndarray) -> Numbers:
    """Measures a floating or complex array, a piece at a time."""
    dtype, flat = x.dtype, x.reshape(-1)
    tiny = float(jnp.finfo(dtype).tiny)
    total = Numbers(0, 0, 0, 0, 0, 0, np.inf, 0.0, np.zeros(BINS, np.int64))
    for start in range(0, flat.size, CHUNK):
        part = flat[start : start + CHUNK]
        if not np.iscomplexobj(part):
            part = part.astype(np.float64)
        size = np.abs(part).astype(np.float64)
        finite = size[np.isfinite(size) & (size > 0)]
        nans = int(np.isnan(size).sum())
        total += Numbers(
            entries=size.size,
            zeros=int((size == 0).sum()),
            subnormals=int((finite < tiny).sum()),
            infinities=int(np.isinf(size).sum()),
            nans=nans,
            negatives=0 if np.iscomplexobj(part) else int((part < 0).sum()),
            smallest=float(finite.min(initial=np.inf)),
            largest=float(finite.max(initial=0.0)),
            bins=np.bincount(bin_of(finite), minlength=BINS),
        )
    return total


def bin_of(size: np.ndarray | np.float64):
    """The bin of |x| > 0."""
    return np.floor(PER_DECADE * (np.log10(size) - LOWEST)).astype(np.int64)
