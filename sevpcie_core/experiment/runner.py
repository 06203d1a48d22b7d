"""Run one workload under every arm with common random numbers, and keep what the comparison needs.

Rule: one task is one workload and one seed; tasks share nothing and may run in any order on any thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from ..link.params import NO_ENGINE
from ..link.run import Marker, Outcome, simulate
from ..policy import decide, draw_map
from ..spec import BUFFER_NAMES
from ..stats.draw import quantile_table
from ..stats.hist import Histogram
from ..workload.program import Program, remembered
from . import overhead
from .hardware import contexts_of, engine_of, host_work_of, peers_of, rows_of
from .programs import build
from .resolved import Arm, Regions, Resolved, Scheme, WorkloadRun
from .staged import hook_all, stage_all

# Where the unknown parameters stand: "typical", all at an end ("favourable", "unfavourable"), or one
# of them alone ("unfavourable:mac_cycles").
Variant: TypeAlias = str

# Of a link: from the device, and to it.
DIRECTIONS = ("upstream", "downstream")

# Programs of up to this many requests per device are kept between the runs of a task.
_KEPT_REQUESTS = 20_000
# Requests per device that tell whether latencies grow.
_WATCHED = 20_000
_SHORTER = 8
_FEW_REQUESTS = 500


@dataclass(frozen=True)
class Group:
    """A row of the results: the request classes of one or more devices, pooled.

    members : (device, class name) pairs; job_device : whose job time is its own.
    """

    name: str
    members: tuple[tuple[int, str], ...]
    job_device: int | None


@dataclass(frozen=True)
class Sample:
    """What one group did in one run. Bytes, ps.

    busy : per device of the group, shares of its time, see `link.run.Outcome`; wires : the same of each
    direction of each link of its way, by name.
    open_loop : arrivals are given to one of them, paced : to all.
    courses : of each device whose arrivals are given, mean latencies along the run, and its length, ps.
    ledger_ps : where the time of its requests went, by place; empty if nobody kept it.
    """

    requests: int
    latency: Histogram
    io_path: Histogram
    application_bytes: int
    payload_bytes: int
    wire_bytes: int
    tlps: int
    link_bytes: int
    ide_bytes: int
    span_ps: int
    job_ps: int | None
    busy: tuple[Mapping[str, float], ...]
    wires: tuple[Mapping[str, float], ...]
    open_loop: bool
    paced: bool
    courses: tuple[tuple[tuple[float, ...], float], ...]
    ledger_ps: Mapping[str, int]


def groups_of(workload: WorkloadRun, programs: Sequence[Program], duration_ps: int = 0) -> tuple[Group, ...]:
    """Return the rows of a workload: `all`, then its devices, then what kinds of requests they have.

    Those of a single device have their own names, `read`; those of several stand behind it, `ssd/read`.
    A job that others end (the duration of the run, or who is in front of it) has no time of its own.
    """
    pooled = [(d, name) for d, p in enumerate(programs) for name in p.stats[: p.pooled]]
    jobs = [
        d
        for d, run in enumerate(workload.devices)
        if run.device.kind == "gpu" and not run.background and not duration_ps
    ]
    rows = [Group("all", tuple(pooled), jobs[0] if len(workload.devices) == 1 and jobs else None)]
    if len(programs) > 1:
        for d, run in enumerate(workload.devices):
            if not programs[d].stats:
                continue
            mine = tuple(pair for pair in pooled if pair[0] == d)
            rows.append(Group(run.name, mine, d if d in jobs else None))
            if len(programs[d].stats) > 1:
                rows.extend(Group(f"{run.name}/{name}", ((d, name),), None) for name in programs[d].stats)
    elif len(programs[0].stats) > 1:
        rows.extend(Group(name, ((0, name),), None) for name in programs[0].stats)
    return tuple(rows)


def _wires(outcome: Outcome, workload: WorkloadRun, d: int) -> Mapping[str, float]:
    """Return the share of a device's time in which the wires of its way were in use, by name."""
    run = workload.devices[d]
    ways = [("link", d)]
    ways += [(f"link of {run.peer}", n) for n, other in enumerate(workload.devices) if other.name == run.peer]
    ends = {other.switch for other in workload.devices if other.name in (run.name, run.peer)}
    for s, switch in enumerate(workload.switches):
        if switch.name in ends:
            ways.append((f"uplink {switch.name}", len(workload.devices) + s))
    shared = any(other.peer == run.name for other in workload.devices)
    return {
        f"{name} {direction}": time / (outcome.job_ps[d] if row == d and not shared else outcome.span_ps)
        for name, row in ways
        for direction, time in zip(DIRECTIONS, outcome.wire_ps[row], strict=True)
    }


def _sample(outcome: Outcome, group: Group, workload: WorkloadRun, programs: Sequence[Program]) -> Sample:
    wanted = set(group.members)
    classes = [c for c in outcome.classes if (c.device, c.name) in wanted]
    # Where the row is a device, its bytes include the classes that no row pools (kernel launches).
    devices = {d for d, _ in group.members}
    whole = all((d, n) in wanted for d in devices for n in programs[d].stats[: programs[d].pooled])
    carried = [c for c in outcome.classes if c.device in devices] if whole else classes
    done = [c for c in classes if c.requests]
    return Sample(
        requests=sum(c.requests for c in classes),
        latency=classes[0].latency.merge(*[c.latency for c in classes[1:]]),
        io_path=classes[0].io_path.merge(*[c.io_path for c in classes[1:]]),
        application_bytes=sum(c.application_bytes for c in classes),
        payload_bytes=sum(c.payload_bytes for c in carried),
        wire_bytes=sum(c.wire_bytes for c in carried),
        tlps=sum(c.tlps for c in carried),
        link_bytes=sum(c.link_bytes for c in carried),
        ide_bytes=sum(c.ide_bytes for c in carried),
        span_ps=max((c.last_end_ps for c in done), default=0)
        - min((c.first_start_ps for c in done), default=0),
        job_ps=None if group.job_device is None else outcome.job_ps[group.job_device],
        ledger_ps={
            place: sum(c.ledger_ps[place] for c in classes)
            for place in (classes[0].ledger_ps if classes else ())
        },
        busy=tuple(outcome.busy[d] for d in sorted(devices)),
        wires=tuple(_wires(outcome, workload, d) for d in sorted(devices)),
        open_loop=any(programs[d].open_loop for d in devices),
        paced=all(programs[d].open_loop for d in devices),
        courses=tuple(_course(outcome, d) for d in sorted(devices) if programs[d].open_loop),
    )


def _course(outcome: Outcome, d: int) -> tuple[tuple[float, ...], float]:
    """Return mean latencies of a device's first requests along the run, and how long they took, ps."""
    taken = outcome.kept_ps[d]
    known = taken[taken >= 0]
    done = sum(c.requests for c in outcome.classes if c.device == d)
    return overhead.course(known.tolist()), outcome.job_ps[d] * len(known) / max(done, 1)


@dataclass(frozen=True)
class Task:
    """One workload under one seed: its programs, ready to run under any arm."""

    scenario: Resolved
    workload: WorkloadRun
    seed: int
    programs: tuple[Program, ...]
    groups: tuple[Group, ...]
    host_table: np.ndarray

    @classmethod
    def prepare(cls, scenario: Resolved, workload: WorkloadRun, seed: int) -> "Task":
        """Build the programs; short ones are kept, long ones made anew for every run."""
        programs = tuple(
            build(run, d, seed, scenario.duration_ps, peer)
            for d, (run, peer) in enumerate(zip(workload.devices, peers_of(workload), strict=True))
        )
        short = all(0 < run.requests <= _KEPT_REQUESTS for run in workload.devices)
        if short and not scenario.duration_ps:
            programs = tuple(remembered(p) for p in programs)
        table = quantile_table(scenario.host.read_latency)
        return cls(
            scenario, workload, seed, programs, groups_of(workload, programs, scenario.duration_ps), table
        )

    def simulate(
        self, scheme: Scheme, policy: str, variant: Variant = "typical", keep: int = 0, ledger: bool = False
    ) -> Outcome:
        """Run under one scheme and policy; `ledger` tells where the time of the requests went."""
        if scheme.mechanism == "none":
            policy = "off"
        # An engine that has nothing to do is bypassed: `off` is plaintext under any scheme.
        contexts = contexts_of(scheme, self.workload)
        engine = NO_ENGINE if policy == "off" else engine_of(scheme, variant, contexts)
        work = host_work_of(scheme, variant)
        host = self.scenario.host
        links = rows_of(host, self.workload, engine, work.get("rmp_check", 0))
        shares = region_shares(self.scenario.regions)
        markers: list[Marker] = [
            partial(
                _mark, policy, draw_map(p.regions, shares, self.seed) if policy == "selective" else p.regions
            )
            for p in self.programs
        ]
        programs: Sequence[Program] = self.programs
        if scheme.mechanism == "bounce":
            programs, markers = stage_all(programs, self.workload.devices, scheme, variant, markers)
        elif policy != "off" and (hook_ps := work.get("hook", 0)):
            programs = hook_all(programs, hook_ps, markers)
        return simulate(
            programs,
            links,
            host_table=self.host_table,
            read_interval_ps=host.read_interval_ps,
            iommu=host.iommu,
            seed=self.seed,
            markers=markers,
            stop_ps=self.scenario.duration_ps,
            keep=keep,
            ledger=ledger,
        )

    def run(self, arm: Arm, variant: Variant = "typical") -> tuple[dict[str, Sample], int, float]:
        """Run an arm; return the samples by group, the number of TLPs, and the simulator's CPU seconds."""
        keep = _WATCHED if any(p.open_loop for p in self.programs) else 0
        outcome = self.simulate(arm.scheme, arm.policy, variant, keep, ledger=variant == "typical")
        samples = {g.name: _sample(outcome, g, self.workload, self.programs) for g in self.groups}
        return samples, outcome.tlps, outcome.seconds


def shortened(scenario: Resolved, workload: WorkloadRun) -> tuple[Resolved, WorkloadRun]:
    """Return the same with an eighth of the generated requests: enough to see which effect is larger."""
    devices = tuple(
        replace(run, requests=max(min(run.requests, _FEW_REQUESTS), run.requests // _SHORTER))
        for run in workload.devices
    )
    duration = -(-scenario.duration_ps // _SHORTER)
    return replace(scenario, duration_ps=duration), replace(workload, devices=devices)


def region_shares(regions: Regions) -> dict[str, float]:
    """Return the protected share by buffer class."""
    return {name: float(getattr(regions, name)) for name in BUFFER_NAMES}


def _mark(policy: str, region_map: np.ndarray, steps: np.ndarray) -> np.ndarray:
    return decide(policy, steps, region_map)


def ranged(scheme: Scheme) -> Mapping[str, object]:
    """Return the parameters whose ends differ: the unknowns."""
    return {name: r for name, r in scheme.parameters.items() if r.low != r.high}
