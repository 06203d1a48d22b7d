"""Distances of two samples."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import MisuseError
from sevpcie_core.stats.twosample import ks_distance, ks_limit, total_variation

samples = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


def naive_ks(one: list[int], other: list[int]) -> float:
    return max(
        abs(sum(a <= x for a in one) / len(one) - sum(b <= x for b in other) / len(other))
        for x in {*one, *other}
    )


def naive_variation(one: list[int], other: list[int]) -> float:
    p, q = Counter(one), Counter(other)
    return sum(abs(p[x] / len(one) - q[x] / len(other)) for x in {*one, *other}) / 2


@given(samples, samples)
def test_distances_are_the_obvious_ones(one: list[int], other: list[int]) -> None:
    a, b = np.array(one), np.array(other)
    assert ks_distance(a, b) == pytest.approx(naive_ks(one, other))
    assert total_variation(a, b) == pytest.approx(naive_variation(one, other))
    # A distance: symmetric, nothing to itself; and a cumulative one is never larger.
    assert ks_distance(a, b) == ks_distance(b, a)
    assert total_variation(a, a) == ks_distance(a, a) == 0
    assert ks_distance(a, b) <= total_variation(a, b) + 1e-12


def test_nothing_in_common() -> None:
    assert ks_distance(np.array([1, 2]), np.array([3])) == 1
    assert total_variation(np.array([1, 3]), np.array([2, 4])) == 1


def test_samples_of_one_distribution_stay_below_the_limit() -> None:
    draws = np.random.default_rng(1).integers(0, 1 << 40, (200, 2, 500))
    above = sum(ks_distance(a, b) > ks_limit(500, 500) for a, b in draws)
    assert above <= 6


def test_an_empty_sample_is_refused() -> None:
    for distance in (ks_distance, total_variation):
        with pytest.raises(MisuseError, match="0 and 1 values"):
            distance(np.array([], np.int64), np.array([1]))
