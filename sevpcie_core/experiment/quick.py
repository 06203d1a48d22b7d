"""What `--quick` runs of a scenario: as much as a first look needs, and never more than the scenario.

Rule: a device that generates has at most QUICK_REQUESTS, and of large ones as many as move QUICK_BYTES, so
that a run costs about the same whatever it moves. What ends by duration stays as it is, and so do recordings.
"""

from typing import Any, Final

from .model import Scenario
from .programs import trace_of
from .resolved import GpuCopiesTraffic, GpuJobTraffic, NvmeTraffic, Traffic

QUICK_REQUESTS: Final = 1000
# 64 copies of 2 MiB, or five layers of 25 MB.
QUICK_BYTES: Final = 128 << 20
# With five seeds the 20 samples of a median.
QUICK_FEWEST: Final = 4


def first_look(scenario: Scenario) -> Scenario:
    """Return the scenario with fewer requests. Raises ConfigError: a trace of it cannot be found."""
    if scenario.duration:
        return scenario
    data = scenario.to_dict()
    every = min(scenario.requests, QUICK_REQUESTS)
    data["requests"] = every
    for entry, workload in zip(data["workload"], scenario.resolve().workloads, strict=True):
        for run in workload.devices:
            device: dict[str, Any] = entry["device"][run.name]
            own = device.pop("requests", scenario.requests)
            if trace_of(run.traffic) is None and not run.background:
                large = -(-QUICK_BYTES // max(_mean_bytes(run.traffic), 1))
                count = min(own, QUICK_REQUESTS, max(large, QUICK_FEWEST))
                if count != every:
                    device["requests"] = count
    return Scenario.from_dict(data, name=scenario.origin_name)


def _mean_bytes(traffic: Traffic) -> int:
    """Return the mean data of a generated request, in bytes; 0 where it is a frame or an access."""
    if isinstance(traffic, NvmeTraffic):
        return int(traffic.mix().mean_bytes())
    if isinstance(traffic, GpuJobTraffic):
        return int(traffic.job.cycle().records["bytes"].mean())
    if isinstance(traffic, GpuCopiesTraffic):
        return sum(traffic.copies.sizes) // len(traffic.copies.sizes)
    return 0
