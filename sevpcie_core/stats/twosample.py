"""How far two samples are from each other, as distributions.

Rule: distances from 0 (the same shares) to 1 (nothing in common), of counts alone.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ..errors import MisuseError


def ks_distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the largest distance of two empirical cumulative distributions (Kolmogorov and Smirnov).

    Parameters: int64[n] and int64[m], in any order, of one unit. Raises MisuseError for an empty one.
    """
    _check(one, other)
    first, second = np.sort(one), np.sort(other)
    at = np.concatenate([first, second])
    shares = [np.searchsorted(s, at, side="right") / len(s) for s in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def ks_limit(n: int, m: int) -> float:
    """Return what the distance of two samples of one distribution exceeds once in a hundred times.

    Source: the asymptotic distribution, sqrt(-ln(0.01 / 2) / 2) = 1.6276 (Smirnov 1948).
    """
    return 1.6276 * math.sqrt((n + m) / (n * m))


def total_variation(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Return the share of one sample that would have to change its value to become the other.

    Parameters: int64[n] and int64[m] of few different values. Raises MisuseError for an empty one.
    """
    _check(one, other)
    values, place = np.unique(np.concatenate([one, other]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(place, [len(one)])]
    return float(np.abs(counts[0] / len(one) - counts[1] / len(other)).sum() / 2)


def _check(one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    if len(one) == 0 or len(other) == 0:
        raise MisuseError(f"{len(one)} and {len(other)} values; expected some of each")
