"""The latency histogram: bucket width, merging, percentiles, and what it refuses to report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.stats.hist import BUCKETS, Histogram, bucket, bucket_bounds

values = st.integers(0, (1 << 50) - 1)


def histogram(samples: list[int]) -> Histogram:
    counts = np.zeros(BUCKETS, np.int64)
    for value in samples:
        counts[bucket(value)] += 1
    return Histogram.from_dense(counts, sum(samples))


@pytest.mark.nojit
@given(values)
def test_a_value_lies_in_its_bucket_and_the_bucket_is_narrow(value: int) -> None:
    low, width = (int(a[0]) for a in bucket_bounds(np.array([bucket(value)])))
    assert low <= value < low + width
    assert width == 1 or width / low <= 1 / 1024


@pytest.mark.nojit
def test_buckets_cover_the_range_without_gap_or_overlap() -> None:
    low, width = bucket_bounds(np.arange(BUCKETS))
    assert (low[1:] == low[:-1] + width[:-1]).all()
    assert bucket((1 << 62) - 1) == BUCKETS - 1


@given(st.lists(values, min_size=1, max_size=50), st.lists(values, min_size=1, max_size=50))
def test_merging_is_counting_together(a: list[int], b: list[int]) -> None:
    merged = histogram(a).merge(histogram(b))
    together = histogram(a + b)
    assert (merged.index == together.index).all()
    assert (merged.count == together.count).all()
    assert merged.total_ps == sum(a) + sum(b)


@given(st.lists(st.integers(0, 10**12), min_size=200, max_size=400), st.sampled_from([1, 10, 50, 90]))
def test_percentiles_agree_with_the_sorted_samples_to_a_tenth_of_a_per_cent(
    samples: list[int], p: int
) -> None:
    found = histogram(samples).percentile_ps(p)
    ordered = np.sort(samples)
    rank = p / 100 * len(samples)
    low = ordered[max(int(np.ceil(rank)) - 1, 0)]
    assert found is not None
    # Inside the bucket of the sample at that rank.
    assert abs(found - low) <= max(1.0, 0.001 * low)


def test_a_percentile_needs_ten_samples_above_it() -> None:
    assert histogram(list(range(1000))).percentile_ps(99) is not None
    assert histogram(list(range(999))).percentile_ps(99) is None
    assert histogram(list(range(19))).percentile_ps(50) is None
    assert histogram(list(range(20))).percentile_ps(50) is not None
    assert histogram([]).percentile_ps(50) is None
    assert histogram([5]).percentile_ps(50, least_above=0) == 5


def test_the_mean_is_exact() -> None:
    samples = [1, 10**13, 10**13 + 1]
    assert histogram(samples).mean_ps == sum(samples) / 3


def test_a_cdf_rises_to_one_and_keeps_the_extremes() -> None:
    rng = np.random.default_rng(1)
    samples = [int(v) for v in rng.lognormal(15, 1, 20_000)]
    value, fraction = histogram(samples).cdf(100)
    assert (np.diff(value) > 0).all()
    assert (np.diff(fraction) > 0).all()
    assert fraction[-1] == 1.0
    assert len(value) <= 110
    assert abs(value[-1] - max(samples)) <= 0.001 * max(samples)


def test_percentiles_agree_with_hdrhistogram() -> None:
    hdrh = pytest.importorskip("hdrh.histogram")
    rng = np.random.default_rng(2)
    samples = [int(v) for v in rng.lognormal(18, 0.7, 50_000)]
    other = hdrh.HdrHistogram(1, 1 << 50, 3)
    for value in samples:
        other.record_value(value)
    for percent in (50, 90, 99, 99.9):
        ours = histogram(samples).percentile_ps(percent)
        assert ours == pytest.approx(other.get_value_at_percentile(percent), rel=0.002)
