"""Counter-based integer draws: the same (seed, stream, index) gives the same number on every machine.

Rule: no float and no libm on the way to a picosecond. Distributions are tables of integers.
"""

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np

from .._jit import kernel

# Bins of an inverse cumulative distribution, and bits of the position inside a bin.
TABLE_BINS = 4096
TABLE_POINTS = TABLE_BINS + 1
_BIN_SHIFT = np.uint64(52)
_FRACTION_SHIFT = np.uint64(32)
_FRACTION_BITS = 20
_FRACTION_MASK = np.uint64((1 << _FRACTION_BITS) - 1)

# SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@kernel
def mix64(z: np.uint64) -> np.uint64:
    """Scramble 64 bits (the finaliser of SplitMix64, a bijection)."""
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return z ^ (z >> _S31)


@kernel
def draw_u64(seed: int, stream: int, index: int) -> np.uint64:
    """Return 64 uniform bits for one use, named by three integers."""
    key = mix64(np.uint64(seed) * _GOLDEN + _MIX_2) ^ mix64(np.uint64(stream) * _GOLDEN + _MIX_1)
    return mix64(key + (np.uint64(index) + np.uint64(1)) * _GOLDEN)


@kernel
def below(bits: np.uint64, bound: int) -> int:
    """Scale 64 uniform bits to an integer in [0, bound), bound < 2**31 (bias below 2**-32)."""
    return np.int64(((bits >> _FRACTION_SHIFT) * np.uint64(bound)) >> _FRACTION_SHIFT)  # type: ignore[return-value]


@kernel
def quantile(table: np.ndarray, bits: np.uint64) -> int:
    """Invert a distribution.

    Parameters
    ----------
    table : int64[4097], any unit; values at probabilities k/4096, ascending, steps below 2**43.
    bits : 64 uniform bits.
    """
    k = np.int64(bits >> _BIN_SHIFT)
    low = table[k]
    position = np.int64((bits >> _FRACTION_SHIFT) & _FRACTION_MASK)
    return low + (((table[k + 1] - low) * position) >> _FRACTION_BITS)  # type: ignore[no-any-return]


@lru_cache(maxsize=64)
def _expand(points: tuple[tuple[float, int], ...]) -> np.ndarray:
    exact = [(Fraction(str(p)), int(v)) for p, v in points]
    scale = math.lcm(*[p.denominator for p, _ in exact])
    # Probabilities in units of 1 / (scale * bins): whole numbers.
    knots = [(int(p * scale) * TABLE_BINS, v) for p, v in exact]
    table = np.empty(TABLE_POINTS, np.int64)
    segment = 0
    for k in range(TABLE_BINS + 1):
        x = k * scale
        while segment + 2 < len(knots) and knots[segment + 1][0] < x:
            segment += 1
        (x0, v0), (x1, v1) = knots[segment], knots[segment + 1]
        table[k] = v0 + (v1 - v0) * (x - x0) // (x1 - x0)
    table.flags.writeable = False
    return table


def quantile_table(points: Sequence[tuple[float, int]]) -> np.ndarray:
    """Expand (probability, value) points, linear in between, to the table that `quantile` reads.

    The points must run from probability 0 to 1, both ascending. Inside the last bin (above 4095/4096) the
    table is linear to the maximum. Read-only: equal points share one table.
    """
    return _expand(tuple((float(p), int(v)) for p, v in points))


@lru_cache(maxsize=1)
def _unit_exponential() -> tuple[int, ...]:
    """Return quantiles of the exponential distribution with mean 2**40, the same on every machine."""
    with localcontext() as context:
        context.prec = 30
        unit = Decimal(2**40)
        inner = [int(-(1 - Decimal(k) / TABLE_BINS).ln() * unit) for k in range(TABLE_BINS)]
        return (*inner, int(Decimal(2**16).ln() * unit))


@lru_cache(maxsize=64)
def exponential_table(mean: int) -> np.ndarray:
    """Return the table of an exponential distribution with an integer mean.

    The last bin ends at the value for 1 - 2**-16 (11.1 means), so the mean is low by less than 0.1 %.
    """
    table = np.array([(q * mean) >> 40 for q in _unit_exponential()], np.int64)
    table.flags.writeable = False
    return table
