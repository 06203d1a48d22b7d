"""How many TLPs the link simulator takes in a second here.

Rule: what is timed is the event loop with the loading of its steps, on one CPU; programs are built before,
and every run is the same one.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..experiment.fingerprint import host_facts, versions
from ..experiment.resolved import Resolved
from ..experiment.runner import Task
from ..experiment.scenario import Scenario, load_scheme
from ..experiment.traffic import Reference
from .timing import Slice, Timing, needs_compiled_kernels, pinned, within

Progress = Callable[[str, int, int], object]

SCHEMA_VERSION: Final = 1
DEPTHS: Final = (32, 256)
SCHEMES: Final = ("none", "pcie-ide")
MAX_DEPTH: Final = 4096
MAX_REQUESTS: Final = 1_000_000
# What every run goes through; a sealed one through the others as well.
MECHANISMS: Final = (
    "serialisation",
    "request_splitting",
    "completion_splitting",
    "tags",
    "port_arbitration",
    "host_latency_distribution",
)
SEALED_MECHANISMS: Final = ("ide_bytes", "cipher_engines", "ide_sync")


def mechanisms_of(scenario: Resolved, sealed: bool) -> tuple[str, ...]:
    """Return the names of what is on in a scenario of one device."""
    host = scenario.host
    device = scenario.workloads[0].devices[0]
    link = device.link.data_link
    asked = {
        "host_read_interval": host.read_interval_ps,
        "flow_control_credits_up": host.credits.posted_headers and host.credits.non_posted_headers,
        "flow_control_credits_down": device.device.credits.posted_headers,
        "ack_dllps": link.ack_every,
        "update_fc_dllps": link.update_every,
        "skip_ordered_sets": link.skip_every and link.skip_bytes,
        "replay_buffer": link.replay_bytes,
        "bit_errors": link.bit_error_rate,
        "posted_write_drain": host.root_port.drain_tlp_ps or host.root_port.drain_line_ps,
        "reads_behind_posted_writes": host.root_port.ordered,
        "iommu": host.iommu.entries,
    }
    return (*MECHANISMS, *(n for n, on in asked.items() if on), *(SEALED_MECHANISMS if sealed else ()))


@dataclass(frozen=True)
class Plan:
    """What to measure: 4 KiB random reads on Gen5 x4 at each depth, plain and sealed.

    Attributes: requests: of one run. rounds: runs of each, by turns.
    """

    depths: Sequence[int] = DEPTHS
    requests: int = 20_000
    rounds: int = 7

    def check(self) -> None:
        """Raise MisuseError for a number outside its range, ConfigError where nothing can be measured."""
        within("depth", self.depths, 1, MAX_DEPTH)
        within("requests", [self.requests], 1, MAX_REQUESTS)
        within("rounds", [self.rounds], 1, 1000)
        needs_compiled_kernels()


@dataclass(frozen=True)
class Row:
    """One scenario at one depth; the best of all rounds, and how far the rounds lie apart."""

    scenario: str
    scheme: str
    queue_depth: int
    tlps: int
    tlps_per_s: float
    tlps_per_s_median: float
    spread_pct: float
    simulated_over_wall: float
    """Simulated time over the time that it took."""
    mechanisms: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What `measure` found."""

    plan: Plan
    cpu: int
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie measure simulator --json` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "measure simulator",
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {"cpu": self.cpu, "requests": self.plan.requests, "rounds": self.plan.rounds},
            "simulator": [asdict(row) for row in self.rows],
        }


def reads(
    depth: int,
    requests: int,
    *,
    link: Reference = "gen5x4",
    host: Reference = "server",
    device: Reference = "nvme-dram",
) -> Task:
    """Return 4 KiB random reads of a DRAM-like NVMe device on Gen5 x4, so many at a time."""
    traffic = {"kind": "nvme", "queue_depth": depth, "block": "4KiB", "read_share": 1.0}
    entry = {"preset": device, "link": link, "traffic": traffic}
    workload = {"name": "randread4k", "device": {"nvme": entry}}
    scenario = Scenario.from_dict(
        {"name": "nvme", "requests": requests, "host": host, "workload": [workload]}
    ).resolve()
    return Task.prepare(scenario, scenario.workloads[0], seed=1)


class _Case:
    """One scenario, while it is measured."""

    def __init__(self, depth: int, scheme: str, requests: int):
        self.depth, self.scheme = depth, scheme
        self._task = reads(depth, requests)
        self._mechanisms = mechanisms_of(self._task.scenario, scheme != "none")
        self._loaded = load_scheme(scheme)
        # Compiles, or reads the cache; and is the same every time.
        outcome = self._task.simulate(self._loaded, "all")
        self.tlps, self.job_ps = outcome.tlps, outcome.job_ps[0]
        self.timing = Timing(1)

    def run(self) -> None:
        seconds = self._task.simulate(self._loaded, "all").seconds
        self.timing.slices.append(Slice(1e9 * seconds, 1e9 * seconds, 1))

    def row(self) -> Row:
        best, median = self.timing.best_ns, self.timing.median_ns
        return Row(
            "nvme/randread4k",
            self.scheme,
            self.depth,
            self.tlps,
            1e9 * self.tlps / best,
            1e9 * self.tlps / median,
            self.timing.spread_pct,
            self.job_ps / 1e3 / best,
            self._mechanisms,
        )


def measure(plan: Plan, progress: Progress = lambda stage, done, total: None) -> Result:
    """Measure every depth, plain and sealed, by turns, on one CPU.

    Raises MisuseError and ConfigError for a plan that cannot be measured.
    """
    plan.check()
    with pinned() as cpu:
        progress("compiling", 0, 0)
        cases = [_Case(depth, scheme, plan.requests) for depth in plan.depths for scheme in SCHEMES]
        for turn in range(plan.rounds):
            for at, case in enumerate(cases):
                progress("measuring", turn * len(cases) + at, plan.rounds * len(cases))
                case.run()
    return Result(plan, cpu, [case.row() for case in cases])
