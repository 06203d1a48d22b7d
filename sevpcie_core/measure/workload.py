"""How many TLPs in a second a workload's program is expanded to here, its generation included.

Rule: what is timed is all between a resolved device and the last TLP: building the program (a trace has been
read before), making its steps and cutting them, chunk by chunk, on one CPU. Beside it, the first two alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ..experiment.fingerprint import host_facts, versions
from ..experiment.programs import build
from ..experiment.resolved import DeviceRun
from ..experiment.scenario import Scenario
from ..workload.expand import expand
from .simulator import Progress
from .timing import Timing, needs_compiled_kernels, pinned, run_slice, within

SCHEMA_VERSION: Final = 1
# TLPs per second on one core, generation included: a program must never be what a run waits for.
BAR: Final = 20e6
MAX_REQUESTS: Final = 10_000_000
_SLICE_NS: Final = 20_000_000

# Written out, so that an edit of a shipped scenario does not change what is timed: device, link, traffic.
CASES: Final[Mapping[str, tuple[str, str, dict[str, Any]]]] = {
    "nvme/randread4k": (
        "nvme-dram",
        "gen5x4",
        {"kind": "nvme", "queue_depth": 32, "block": "4KiB", "read_share": 1.0},
    ),
    "nvme/randwrite4k": (
        "nvme-dram",
        "gen5x4",
        {"kind": "nvme", "queue_depth": 32, "block": "4KiB", "read_share": 0.0},
    ),
    "nic/mtu1500_rx": (
        "nic-400g",
        "gen5x16",
        {"kind": "nic", "direction": "rx", "sizes": 1514, "rate": "200Gb/s"},
    ),
    "nic/imix_rx": (
        "nic-400g",
        "gen5x16",
        {"kind": "nic", "direction": "rx", "sizes": "imix", "rate": "200Gb/s"},
    ),
    "nic/imix_tx": (
        "nic-400g",
        "gen5x16",
        {"kind": "nic", "direction": "tx", "sizes": "imix", "rate": "200Gb/s"},
    ),
    "gpu/train_resnet50": ("gpu-gen5", "gen5x16", {"kind": "gpu", "trace": "sample:train_resnet50"}),
    "gpu/llm_decode": ("gpu-gen5", "gen5x16", {"kind": "gpu", "trace": "sample:llm_decode"}),
    "gpu/kv_swap": ("gpu-gen5", "gen5x16", {"kind": "gpu", "trace": "sample:kv_swap"}),
}


@dataclass(frozen=True)
class Plan:
    """What to measure: CASES.

    Attributes: requests: of each program that is generated. rounds: slices of each, by turns.
    """

    requests: int = 100_000
    rounds: int = 7
    cases: Sequence[str] = tuple(CASES)

    def check(self) -> None:
        """Raise MisuseError for a number outside its range, ConfigError where nothing can be measured."""
        within("requests", [self.requests], 1, MAX_REQUESTS)
        within("rounds", [self.rounds], 1, 1000)
        needs_compiled_kernels()


@dataclass(frozen=True)
class Row:
    """One workload; the best pass of all, and how far the rounds lie apart."""

    workload: str
    operations: int
    tlps: int
    tlps_per_s: float
    tlps_per_s_median: float
    spread_pct: float
    steps_pct: float
    """Part of the best time in which the steps are made."""

    @property
    def within(self) -> bool:
        """Whether it keeps the bar."""
        return self.tlps_per_s >= BAR


@dataclass(frozen=True)
class Result:
    """What `measure` found."""

    plan: Plan
    cpu: int
    rows: list[Row]

    @property
    def within(self) -> bool:
        """Whether all keep the bar."""
        return all(row.within for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie measure workload --json` prints it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "measure workload",
            "versions": versions(),
            "host": host_facts().model_dump(),
            "options": {"cpu": self.cpu, "requests": self.plan.requests, "rounds": self.plan.rounds},
            "bar_tlps_per_s": BAR,
            "within": self.within,
            "workloads": [asdict(row) for row in self.rows],
        }


def device_of(case: str, requests: int) -> DeviceRun:
    """Return the one device of a case of CASES."""
    preset, link, traffic = CASES[case]
    workload = {"name": "w", "device": {"d": {"preset": preset, "link": link, "traffic": traffic}}}
    scenario = Scenario.from_dict({"name": "s", "requests": requests, "workload": [workload]}).resolve()
    return scenario.workloads[0].devices[0]


class _Case:
    """One workload, while it is measured."""

    def __init__(self, name: str, requests: int):
        self.name = name
        self._run = device_of(name, requests)
        # Reads a trace and compiles.
        self.tlps = self._expand()
        self.operations = 1 + max(int(chunk.steps["request"].max()) for chunk in self._chunks())
        self.timing, self.steps_timing = Timing(1), Timing(1)

    def _chunks(self) -> Any:
        return build(self._run, 0, 1, 0).chunks()

    def _expand(self) -> int:
        return sum(len(tlps) for tlps in expand(self._chunks(), self._run.sizes))

    def _steps(self) -> int:
        return sum(len(chunk.steps) for chunk in self._chunks())

    def run(self) -> None:
        self.timing.slices.append(run_slice(self._expand, _SLICE_NS))
        self.steps_timing.slices.append(run_slice(self._steps, _SLICE_NS))

    def row(self) -> Row:
        best, median = self.timing.best_ns, self.timing.median_ns
        return Row(
            self.name,
            self.operations,
            self.tlps,
            1e9 * self.tlps / best,
            1e9 * self.tlps / median,
            self.timing.spread_pct,
            100 * min(self.steps_timing.best_ns / best, 1.0),
        )


def measure(plan: Plan, progress: Progress = lambda stage, done, total: None) -> Result:
    """Measure every workload, by turns, on one CPU.

    Raises MisuseError and ConfigError for a plan that cannot be measured.
    """
    plan.check()
    with pinned() as cpu:
        progress("compiling", 0, 0)
        cases = [_Case(name, plan.requests) for name in plan.cases]
        for turn in range(plan.rounds):
            for at, case in enumerate(cases):
                progress("measuring", turn * len(cases) + at, plan.rounds * len(cases))
                case.run()
    return Result(plan, cpu, [case.row() for case in cases])
