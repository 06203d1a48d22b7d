"""`--quick`: fewer requests than a scenario has, and fewer still of large ones."""

from typing import Any

import pytest

from sevpcie_core.experiment import presets
from sevpcie_core.experiment.quick import QUICK_BYTES, QUICK_FEWEST, QUICK_REQUESTS, first_look
from sevpcie_core.experiment.scenario import Scenario, load_scenario

NVME = {"kind": "nvme", "queue_depth": 4}
COPIES = {"kind": "gpu", "job": "copies", "direction": "h2d"}


def counts(scenario: Scenario) -> dict[str, int]:
    """Return the requests of every device that generates and ends by itself."""
    return {
        f"{workload.name}/{run.name}": run.requests
        for workload in scenario.resolve().workloads
        for run in workload.devices
        if run.requests and not run.background
    }


def made(traffic: dict[str, Any], **other: Any) -> Scenario:
    device = {"preset": "nvme-dram" if traffic["kind"] == "nvme" else "gpu-gen5", "traffic": traffic} | other
    data = {"name": "s", "link": "gen5x16", "workload": [{"name": "w", "device": {"d": device}}]}
    return Scenario.from_dict(data)


@pytest.mark.parametrize(
    ("traffic", "own", "expected"),
    [
        (NVME, None, QUICK_REQUESTS),
        (NVME, 300, 300),
        (NVME, 30_000, QUICK_REQUESTS),
        (NVME | {"block": "1MiB"}, None, 128),
        (NVME | {"block": [[1, "1MiB"], [1, "3MiB"]]}, None, 64),
        (NVME | {"block": "1MiB"}, 100, 100),
        (NVME | {"block": "1MiB", "write_block": "3MiB", "read_share": 0.5}, None, 64),
        (COPIES | {"size": "1MiB"}, None, 128),
        (COPIES | {"size": "1GiB"}, None, QUICK_FEWEST),
        (COPIES | {"size": "1GiB"}, 2, 2),
        ({"kind": "gpu", "job": "kv-swap", "blocks": 32, "block": "2MiB"}, 384, 64),
        # Its copies are large, and most of its records are kernels.
        ({"kind": "gpu", "job": "training"}, 2512, QUICK_REQUESTS),
        ({"kind": "gpu", "job": "zero-copy"}, None, QUICK_REQUESTS),
    ],
)
def test_a_first_look_is_short_whatever_it_moves(
    traffic: dict[str, Any], own: int | None, expected: int
) -> None:
    other = {} if own is None else {"requests": own}
    assert counts(first_look(made(traffic, **other))) == {"w/d": expected}


@pytest.mark.parametrize("name", presets.scenario_names())
def test_it_is_never_longer_than_what_is_shipped(name: str) -> None:
    scenario = load_scenario(name)
    before, after = counts(scenario), counts(first_look(scenario))
    assert before.keys() == after.keys()
    assert all(after[device] <= min(before[device], QUICK_REQUESTS) for device in before)
    if scenario.duration:
        assert first_look(scenario) is scenario


@pytest.mark.parametrize("name", ["nvme", "nic"])
def test_where_all_requests_are_small_it_is_their_number(name: str) -> None:
    scenario = load_scenario(name)
    assert first_look(scenario).to_dict() == scenario.with_options(requests=QUICK_REQUESTS).to_dict()


def test_a_scenario_of_few_requests_keeps_them() -> None:
    scenario = load_scenario("nvme").with_options(requests=200)
    assert first_look(scenario).to_dict() == scenario.to_dict()


def test_its_bytes_bound_what_a_mix_moves() -> None:
    (gpu,) = (n for d, n in counts(first_look(load_scenario("kv-offload"))).items() if d.endswith("/gpu"))
    assert gpu * (2 << 20) == QUICK_BYTES
