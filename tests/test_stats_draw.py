"""Draws: fixed for ever by (seed, stream, index), integer, and distributed as their tables say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.stats.draw import (
    TABLE_BINS,
    below,
    draw_u64,
    exponential_table,
    mix64,
    quantile,
    quantile_table,
)
from sevpcie_core.stats.interval import paired_interval

MASK = (1 << 64) - 1


def python_mix(z: int) -> int:
    """SplitMix64's finaliser in unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


@pytest.mark.nojit
@given(st.integers(0, MASK))
def test_mix_is_splitmix64(z: int) -> None:
    assert int(mix64(np.uint64(z))) == python_mix(z)


@pytest.mark.nojit
def test_draws_never_change() -> None:
    # Written down once: a change of these numbers changes every published result.
    assert [int(draw_u64(1, 2, i)) for i in range(3)] == [
        0xCB60780E44338DBD,
        0x4978CAEA44A946DD,
        0xF5F26F74667F78B0,
    ]
    golden = 0x9E3779B97F4A7C15
    key = python_mix((golden + 0x94D049BB133111EB) & MASK) ^ python_mix(
        (2 * golden + 0xBF58476D1CE4E5B9) & MASK
    )
    assert int(draw_u64(1, 2, 0)) == python_mix((key + golden) & MASK)


def test_neighbouring_keys_are_uncorrelated() -> None:
    bits = np.array(
        [[int(draw_u64(s, t, i)) for i in range(200)] for s in range(3) for t in range(3)], np.uint64
    )
    uniform = bits.astype(np.float64) / 2**64
    assert abs(uniform.mean() - 0.5) < 0.02
    correlation = np.corrcoef(uniform)
    assert (np.abs(correlation[~np.eye(9, dtype=bool)]) < 0.3).all()
    assert len(np.unique(bits)) == bits.size


@given(st.integers(0, MASK), st.integers(1, 1 << 30))
def test_below_is_below(bits: int, bound: int) -> None:
    assert below(np.uint64(bits), bound) == ((bits >> 32) * bound) >> 32 < bound


@pytest.mark.nojit
@given(st.integers(0, MASK))
def test_quantile_inverts_a_straight_line(bits: int) -> None:
    table = quantile_table(((0.0, 0), (1.0, 1 << 32)))
    assert abs(int(quantile(table, np.uint64(bits))) - (bits >> 32)) <= 1 << 12


def test_a_table_passes_through_its_points() -> None:
    table = quantile_table(((0.0, 100), (0.25, 200), (0.5, 1000), (1.0, 3000)))
    assert [int(table[k * TABLE_BINS // 4]) for k in range(5)] == [100, 200, 1000, 2000, 3000]
    assert (np.diff(table) >= 0).all()


def test_a_constant_is_constant() -> None:
    table = quantile_table(((0.0, 7), (1.0, 7)))
    assert {int(quantile(table, np.uint64(b))) for b in (0, 1 << 63, MASK)} == {7}


def test_exponential_has_its_mean() -> None:
    mean = 10**9
    table = exponential_table(mean)
    assert float((table[1:] + table[:-1]).mean() / 2) == pytest.approx(mean, rel=1e-3)
    assert int(table[TABLE_BINS // 2]) == pytest.approx(0.6931471805599453 * mean, rel=1e-9)


def test_interval_is_students() -> None:
    from scipy import stats

    values = [1.0, 2.0, 4.0, 4.5, 3.0, 2.5]
    found = paired_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((np.mean(values), low, high))


def test_no_interval_below_five_seeds() -> None:
    assert paired_interval([1.0, 2.0, 3.0, 4.0]) is None
    assert paired_interval([2.0] * 5) == (2.0, 2.0, 2.0)
