"""Confidence intervals of paired differences: one value per seed, few seeds.

Rule: below five seeds there is no interval, so no verdict can rest on one.
"""

import math
from collections.abc import Sequence

MIN_SEEDS = 5


def paired_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Return (mean, low, high): Student's 95 % interval of the mean of paired differences, or None.

    Equal values give an interval of no width: what does not depend on the seed is known exactly.
    """
    n = len(values)
    if n < MIN_SEEDS:
        return None
    # scipy.special loads in a quarter of a second: only where an interval is asked for.
    from scipy.special import stdtrit

    mean = math.fsum(values) / n
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return mean, mean - half, mean + half
