"""More arrives than is carried: found by how latencies grow along a run, plaintext or protected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevpcie_core import Scenario, compare
from sevpcie_core.experiment.overhead import course, grows


def queue(service: float, count: int, seed: int) -> tuple[list[float], float]:
    """Return how long requests take that come at random, one per unit in the mean, and all of them."""
    draw = np.random.default_rng(seed)
    arrivals = np.cumsum(draw.exponential(1, count))
    free = 0.0
    taken = []
    for arrival in arrivals.tolist():
        free = max(free, arrival) + service
        taken.append(free - arrival)
    return taken, free - float(arrivals[0])


def found(service: float, count: int, seeds: int = 5) -> bool:
    runs = [queue(service, count, seed) for seed in range(seeds)]
    return grows([course(taken) for taken, _ in runs], [span for _, span in runs])


@pytest.mark.parametrize("service", [0.01, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("count", [300, 3000, 30000])
def test_a_queue_that_ends_is_not_found(service: float, count: int) -> None:
    assert not found(service, count)


@pytest.mark.parametrize("service", [1.05, 1.2, 2, 50])
@pytest.mark.parametrize("count", [1000, 30000])
def test_a_queue_without_end_is_found(service: float, count: int) -> None:
    assert found(service, count)


def test_what_takes_turns_is_late_from_the_first_request_on() -> None:
    """All come at once and all end together: latencies are equal, and as long as the run."""
    assert grows([course([1000.0] * 200)], [1010.0])
    assert not grows([course([1000.0] * 200)], [200_000.0])


@given(st.lists(st.floats(0, 1e12), max_size=89))
def test_few_requests_tell_nothing(latencies: list[float]) -> None:
    assert course(latencies) == ()
    assert not grows([course(latencies)], [1.0])


TEXT = {
    "name": "load",
    "link": "gen5x4",
    "requests": 2000,
    "arm": [{"scheme": "sev-pcie", "policy": "all"}],
    "workload": [
        {
            "name": name,
            "device": {
                "ssd": {
                    "preset": "nvme-dram",
                    "traffic": {"kind": "nvme", "block": "128KiB", "iops": iops},
                }
            },
        }
        for name, iops in (("light", 60_000), ("edge", 105_000), ("heavy", 150_000), ("hopeless", 5_000_000))
    ],
}


def test_loads_of_a_link() -> None:
    """Some 111,000 of these reads per second fit it in plaintext, 105,000 sealed."""
    rows = {
        row.workload: row
        for row in compare(Scenario.from_dict(TEXT)).record.results
        if row.class_ == "all" and row.scheme == "sev-pcie"
    }
    assert not rows["light"].saturated
    assert rows["light"].decided_by != "load"
    assert "typical" in rows["edge"].saturated
    for name in ("heavy", "hopeless"):
        assert set(rows[name].saturated) == {"favourable", "typical", "unfavourable"}
        assert rows[name].decided_by == "load"
        assert rows[name].verdict is not None
        assert rows[name].verdict.end_to_end == "inconclusive"
