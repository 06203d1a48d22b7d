"""Policies: which requests a region map protects, against a byte-by-byte oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core.errors import ConfigError
from sevpcie_core.policy import decide, draw_map
from sevpcie_core.spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE, REGION
from sevpcie_core.workload.program import STEP

ALL_PROTECTED = {"data": 1.0, "queue": 1.0, "mmio": 1.0, "msi": 1.0}


def steps(*spans: tuple[int, int]) -> np.ndarray:
    out = np.zeros(len(spans), STEP)
    for row, (address, size) in zip(out, spans, strict=True):
        row["address"], row["bytes"] = address, size
    return out


def regions(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array([(a, b, c, False) for a, b, c in rows], REGION)


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    cuts = sorted(draw(st.sets(st.integers(0, 60), min_size=2, max_size=12)))
    pairs = list(zip(cuts[::2], cuts[1::2], strict=False))
    out = regions(*[(a, b, draw(st.integers(0, 3))) for a, b in pairs])
    out["protected"] = [draw(st.booleans()) for _ in pairs]
    return out


@pytest.mark.nojit
@given(maps(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=20))
def test_selective_protects_what_touches_a_protected_byte(
    region_map: np.ndarray, spans: list[tuple[int, int]]
) -> None:
    secret = {x for r in region_map if r["protected"] for x in range(int(r["start"]), int(r["end"]))}
    expected = [any(x in secret for x in range(a, a + n)) for a, n in spans]
    assert decide("selective", steps(*spans), region_map).tolist() == expected


@pytest.mark.nojit
def test_off_and_all() -> None:
    some = steps((0, 4), (100, 4))
    assert decide("off", some, regions()).tolist() == [False, False]
    assert decide("all", some, regions()).tolist() == [True, True]


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy: 'some'; expected one of off, selective, all"):
        decide("some", steps((0, 4)), regions())


@pytest.mark.nojit
def test_a_request_over_two_buffers_is_protected_by_either() -> None:
    region_map = regions((0, 4096, BUFFER_DATA), (4096, 8192, BUFFER_DATA))
    for protected in ((True, False), (False, True)):
        region_map["protected"] = protected
        assert decide("selective", steps((4000, 200)), region_map).tolist() == [True]


@pytest.mark.nojit
def test_shares_are_drawn_per_buffer_and_class() -> None:
    n = 4000
    rows = regions(
        *[(i * 10, i * 10 + 10, (BUFFER_DATA, BUFFER_QUEUE, BUFFER_MMIO)[i % 3]) for i in range(n)]
    )
    drawn = draw_map(rows, {"data": 0.25, "queue": 1.0, "mmio": 0.0, "msi": 0.0}, seed=3)
    share = {
        b: float(drawn["protected"][drawn["buffer"] == b].mean())
        for b in (BUFFER_DATA, BUFFER_QUEUE, BUFFER_MMIO)
    }
    assert share[BUFFER_QUEUE] == 1.0
    assert share[BUFFER_MMIO] == 0.0
    assert share[BUFFER_DATA] == pytest.approx(0.25, abs=0.04)
    again = draw_map(rows, {"data": 0.25, "queue": 1.0, "mmio": 0.0, "msi": 0.0}, seed=3)
    assert (again["protected"] == drawn["protected"]).all()
    assert not rows["protected"].any()


@pytest.mark.parametrize(
    "rows",
    [((0, 10, 0), (5, 20, 0)), ((10, 20, 0), (0, 5, 0)), ((4, 4, 0),)],
    ids=["overlap", "order", "empty"],
)
def test_a_map_must_be_ordered_and_disjoint(rows: tuple[tuple[int, int, int], ...]) -> None:
    with pytest.raises(ConfigError, match="ascending"):
        draw_map(regions(*rows), ALL_PROTECTED, seed=1)


@pytest.mark.parametrize("shares", [{"data": 1.5}, {"data": -0.1}, {"dada": 0.5}])
def test_shares_are_checked(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected a share"):
        draw_map(regions((0, 1, 0)), shares, seed=1)
