"""A log-linear latency histogram: 1024 buckets per octave, so no bucket is wider than 0.1 % of its value.

Rule: counts are exact integers and merge by addition; only a percentile interpolates.
"""

import math
from dataclasses import dataclass

import numpy as np

from .._jit import kernel

SUB_BITS = 10
SUB_BUCKETS = 1 << SUB_BITS
# Values up to 2**50 ps (18 minutes); larger ones land in the last bucket.
MAX_BITS = 50
BUCKETS = (MAX_BITS - SUB_BITS + 1) * SUB_BUCKETS
# Fewer samples than this above a percentile, and it is not reported.
MIN_SAMPLES_ABOVE = 10


@kernel
def bucket(value: int) -> int:
    """Return the bucket of a value >= 0: exact below 2048, then 1024 per octave."""
    shift = 0
    rest = value >> (SUB_BITS + 1)
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> (step - 1) > 0:
            rest >>= step
            shift += step
    return min(shift * SUB_BUCKETS + (value >> shift), BUCKETS - 1)


def bucket_bounds(index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest value and the width of buckets.  index : int64[n] -> (int64[n], int64[n])."""
    shift = np.maximum(index // SUB_BUCKETS - 1, 0)
    low = (index - shift * SUB_BUCKETS) << shift
    return low, np.int64(1) << shift


@dataclass(frozen=True)
class Histogram:
    """Counts by bucket, sparse, and the exact sum.

    index : int64[n], ascending buckets with a count; count : int64[n]; total_ps : exact sum of all values.
    """

    index: np.ndarray
    count: np.ndarray
    total_ps: int

    @classmethod
    def from_dense(cls, counts: np.ndarray, total_ps: int) -> "Histogram":
        """Make one from int64[BUCKETS]."""
        index = np.flatnonzero(counts)
        return cls(index, counts[index], int(total_ps))

    @property
    def samples(self) -> int:
        """Return the number of values."""
        return int(self.count.sum())

    @property
    def mean_ps(self) -> float:
        """Return the exact mean, in ps."""
        return self.total_ps / self.samples

    def merge(self, *others: "Histogram") -> "Histogram":
        """Add histograms."""
        parts = (self, *others)
        index, inverse = np.unique(np.concatenate([h.index for h in parts]), return_inverse=True)
        count = np.zeros(len(index), np.int64)
        np.add.at(count, inverse, np.concatenate([h.count for h in parts]))
        return Histogram(index, count, sum(h.total_ps for h in parts))

    def percentile_ps(self, percent: float, least_above: int = MIN_SAMPLES_ABOVE) -> float | None:
        """Return a percentile in ps, linear inside its bucket; None with fewer samples above than asked."""
        n = self.samples
        if n == 0 or n * (100 - percent) < least_above * 100 - 1e-6:
            return None
        # Nearest rank; the product is rounded first, for 99.9 % of 50,000 is 49,950 and not the next one.
        rank = max(math.ceil(round(n * percent / 100, 6)), 1)
        cumulative = np.cumsum(self.count)
        k = int(np.searchsorted(cumulative, rank, side="left"))
        low, width = bucket_bounds(self.index[k : k + 1])
        inside = (rank - (cumulative[k] - self.count[k])) / self.count[k]
        # A bucket holds the integers low .. low + width - 1.
        return float(low[0] + inside * (width[0] - 1))

    def cdf(self, points: int = 160) -> tuple[np.ndarray, np.ndarray]:
        """Return (value in ps, fraction at or below) thinned to about `points` rows for drawing."""
        fraction = np.cumsum(self.count) / max(self.samples, 1)
        low, width = bucket_bounds(self.index)
        high = low + width - 1
        if len(high) <= points:
            return high, fraction
        # Half of the points even in probability, half even in the logarithm of the tail.
        grid = np.concatenate([np.linspace(0, 1, points // 2), 1 - np.logspace(-0.3, -5, points // 2)])
        keep = np.unique(np.clip(np.searchsorted(fraction, np.sort(grid)), 0, len(high) - 1))
        keep = np.unique(np.concatenate([[0], keep, [len(high) - 1]]))
        return high[keep], fraction[keep]
