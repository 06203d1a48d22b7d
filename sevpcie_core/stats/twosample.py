"""How far two samples are from each other, as distributions.

Rule: a sample is counted, value by value, so that its length does not matter. Distances are of counts alone;
KS and total variation go from 0 (the same shares) to 1 (nothing in common).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MisuseError
from .hist import Histogram, bucket_bounds


@dataclass(frozen=True)
class Sample:
    """Values, ascending, and how often each occurs: float64[n] and int64[n]. Raises MisuseError if empty."""

    values: NDArray[np.float64]
    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise MisuseError("0 values; expected some")

    @classmethod
    def of(cls, values: ArrayLike) -> "Sample":
        """Count single values, in any order."""
        found, counts = np.unique(np.asarray(values), return_counts=True)
        return cls(found.astype(np.float64), counts.astype(np.int64))

    @classmethod
    def counted(cls, histogram: Histogram) -> "Sample":
        """Return a histogram's values, each by the lower end of its bucket: at most 0.1 % too low."""
        low, _ = bucket_bounds(histogram.index)
        return cls(low.astype(np.float64), histogram.count)

    @property
    def n(self) -> int:
        """Return how many values there are."""
        return int(self.counts.sum())

    def scaled(self, factor: float) -> "Sample":
        """Return the sample with its values multiplied by a factor above 0."""
        return Sample(self.values * factor, self.counts)

    def below(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of values at or below some: the cumulative distribution."""
        sums = np.concatenate([[0], np.cumsum(self.counts)])
        found: NDArray[np.float64] = sums[np.searchsorted(self.values, at, side="right")] / self.n
        return found


@dataclass(frozen=True)
class Largest:
    """Where two cumulative distributions are farthest from each other, and both shares at or below it."""

    distance: float
    at: float
    one: float
    other: float


def ks_distance(one: Sample, other: Sample, slack: float = 0.0) -> Largest:
    """Return the largest distance of two cumulative distributions (Kolmogorov and Smirnov).

    Parameters: slack: values of which one is larger by this share at most count as equal; for values that are
    known no better.
    """
    at = np.concatenate([one.values, other.values])
    # A share with slack may be reached a little later: what is left is apart even so.
    shares = one.below(at), other.below(at)
    late = at * (1 + slack)
    apart = shares[0] - other.below(late), shares[1] - one.below(late)
    most = np.maximum(*apart)
    k = int(most.argmax())
    return Largest(max(float(most[k]), 0.0), float(at[k]), float(shares[0][k]), float(shares[1][k]))


def ks_limit(n: int, m: int) -> float:
    """Return what the distance of two samples of one distribution exceeds once in a hundred times.

    True of values that do not depend on each other. Of a few values it is 1, which no distance exceeds.
    Source: the asymptotic distribution, sqrt(-ln(0.01 / 2) / 2) = 1.6276 (Smirnov 1948).
    """
    return min(1.6276 * math.sqrt((n + m) / (n * m)), 1.0)


def total_variation(one: Sample, other: Sample) -> float:
    """Return the share of one sample that would have to change its value to become the other."""
    values = np.union1d(one.values, other.values)
    shares = [np.zeros(len(values)), np.zeros(len(values))]
    for share, sample in zip(shares, (one, other), strict=True):
        share[np.searchsorted(values, sample.values)] = sample.counts / sample.n
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def wasserstein(one: Sample, other: Sample) -> float:
    """Return by how much the values of one sample would have to change in the mean to become the other.

    In the unit of the values: the area between the cumulative distributions (Wasserstein's first distance).
    """
    values = np.union1d(one.values, other.values)
    apart = np.abs(one.below(values) - other.below(values))
    return float((apart[:-1] * np.diff(values)).sum())
