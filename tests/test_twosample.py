"""Distances of two samples."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import MisuseError
from sevpcie_core.stats.hist import BUCKETS, Histogram, bucket
from sevpcie_core.stats.twosample import Sample, ks_distance, ks_limit, total_variation, wasserstein

samples = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


def naive_below(sample: list[int], x: float) -> float:
    return sum(a <= x for a in sample) / len(sample)


def naive_ks(one: list[int], other: list[int]) -> float:
    return max(abs(naive_below(one, x) - naive_below(other, x)) for x in {*one, *other})


def naive_variation(one: list[int], other: list[int]) -> float:
    p, q = Counter(one), Counter(other)
    return sum(abs(p[x] / len(one) - q[x] / len(other)) for x in {*one, *other}) / 2


def naive_wasserstein(one: list[int], other: list[int]) -> float:
    """Return the mean distance of the two where each is repeated until both are as long, in order."""
    long, wide = sorted(one * len(other)), sorted(other * len(one))
    return sum(abs(a - b) for a, b in zip(long, wide, strict=True)) / len(long)


@given(samples, samples)
def test_distances_are_the_obvious_ones(one: list[int], other: list[int]) -> None:
    a, b = Sample.of(one), Sample.of(other)
    found = ks_distance(a, b)
    assert found.distance == pytest.approx(naive_ks(one, other))
    assert total_variation(a, b) == pytest.approx(naive_variation(one, other))
    assert wasserstein(a, b) == pytest.approx(naive_wasserstein(one, other))
    # It is told where they are farthest from each other.
    assert (found.one, found.other) == (naive_below(one, found.at), naive_below(other, found.at))
    assert abs(found.one - found.other) == pytest.approx(found.distance)
    # Distances: symmetric, nothing to itself; and a cumulative one is never larger.
    assert found.distance == ks_distance(b, a).distance
    assert total_variation(a, a) == ks_distance(a, a).distance == wasserstein(a, a) == 0
    assert found.distance <= total_variation(a, b) + 1e-12


@given(
    st.lists(st.integers(1, 1 << 40), min_size=1, max_size=30),
    st.lists(st.integers(1, 1 << 40), min_size=1, max_size=30),
)
def test_of_histograms_they_are_those_of_their_values(one: list[int], other: list[int]) -> None:
    """Values in one bucket are one; the area between the curves is as near as the buckets are."""

    def counted(values: list[int]) -> tuple[Sample, Sample]:
        dense = np.zeros(BUCKETS, np.int64)
        for value in values:
            dense[bucket(value)] += 1
        return Sample.counted(Histogram.from_dense(dense, sum(values))), Sample.of(values)

    (a, exact_a), (b, exact_b) = counted(one), counted(other)
    assert a.n == len(one)
    assert ks_distance(a, b).distance <= ks_distance(exact_a, exact_b).distance + 1e-12
    assert total_variation(a, b) <= total_variation(exact_a, exact_b) + 1e-12
    near = 1e-3 * (np.mean(one) + np.mean(other))
    assert wasserstein(a, b) == pytest.approx(wasserstein(exact_a, exact_b), abs=near)
    if max(one + other) < 2048:
        assert ks_distance(a, b) == ks_distance(exact_a, exact_b)


@given(samples, samples)
def test_slack_only_brings_nearer(one: list[int], other: list[int]) -> None:
    a, b = Sample.of([x + 10 for x in one]), Sample.of([x + 10 for x in other])
    found = [ks_distance(a, b, slack).distance for slack in (0.0, 0.05, 0.5, 10.0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0


def test_values_within_the_slack_are_equal() -> None:
    one, other = Sample.of([1000, 2000, 4000]), Sample.of([1001, 1999, 4003])
    assert ks_distance(one, other).distance == pytest.approx(1 / 3)
    assert ks_distance(one, other, 0.002).distance == 0
    # What is farther apart stays so, however small the slack makes it.
    assert ks_distance(Sample.of([1000]), Sample.of([1100]), 0.002).distance == 1


def test_a_scale_moves_what_has_a_unit_only() -> None:
    one, other = Sample.of([1, 5, 9]), Sample.of([2, 5, 20])
    assert wasserstein(one.scaled(10), other.scaled(10)) == pytest.approx(10 * wasserstein(one, other))
    assert ks_distance(one.scaled(10), other.scaled(10)).distance == ks_distance(one, other).distance


def test_nothing_in_common() -> None:
    assert ks_distance(Sample.of([1, 2]), Sample.of([3])).distance == 1
    assert total_variation(Sample.of([1, 3]), Sample.of([2, 4])) == 1
    assert wasserstein(Sample.of([1, 3]), Sample.of([2, 4])) == 1


def test_samples_of_one_distribution_stay_below_the_limit() -> None:
    draws = np.random.default_rng(1).integers(0, 1 << 40, (200, 2, 500))
    above = sum(ks_distance(Sample.of(a), Sample.of(b)).distance > ks_limit(500, 500) for a, b in draws)
    assert above <= 6


def test_of_a_few_values_there_is_no_limit() -> None:
    assert ks_limit(4, 4) == 1
    assert ks_limit(100, 100) < 0.24


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(MisuseError, match="0 values"):
        Sample.of([])
