"""A case for the link simulator, run by the package and by the oracle, with results in one comparable form.

`Case` speaks the oracle's plain language; `run_package` translates it. The rates are computed here once more,
from the standard's figures, so that both sides do not share a table.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from sevpcie_core import spec
from sevpcie_core.link.params import (
    BARE,
    CACHED,
    INFINITE,
    NO_ENGINE,
    NO_IOMMU,
    SINK,
    Credits,
    DataLink,
    EngineTiming,
    Iommu,
    Memory,
    Peer,
    RootPort,
    Switch,
    behind_switches,
    link_row,
    with_peers,
)
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.stats.draw import draw_u64, exponential_table, quantile, quantile_table
from sevpcie_core.workload.phase import Phase
from sevpcie_core.workload.program import (
    BEGIN,
    EARLY1,
    EARLY2,
    END,
    FOREVER,
    MEDIA,
    STAGE,
    STEP,
    Chunk,
    Program,
)

from . import link_heapq
from .link_heapq import DELAY, DOWN, UP, Step

# Where the time of a request can go.
PLACES = (
    *("device", "media", "tags", "arbitration", "credits", "serialisation", "engine", "wire", "hold"),
    *("ordering", "host", "iommu", "staging", "replay"),
)
# Stream of the root complex's read latency; the device is added to it.
HOST_STREAM = 0x484F5354
# The same of the walks through the page tables.
WALK_STREAM = 0x57414C4B
# The same of the errors on the wire, two to a device.
ERROR_STREAM = 0x4552524F
# And what is not in the cache.
MISS_STREAM = 0x4D495353
# And when memory refreshes.
REFRESH_STREAM = 0x52454652

# Transfers per second and lane, and the share of transferred bits that are bytes of TLPs: 8b/10b, 128b/130b,
# and 236 of 256 bytes of a flit.
TRANSFERS = {g: 2_500_000_000 * 2 ** (g - 1) if g < 3 else 8_000_000_000 * 2 ** (g - 3) for g in range(1, 8)}
CODING = {1: (8, 10), 2: (8, 10), 3: (128, 130), 4: (128, 130), 5: (128, 130), 6: (236, 256), 7: (236, 256)}


def ps_per_byte(generation: int, lanes: int) -> Fraction:
    """Return the time of one TLP byte on a link, ps."""
    used, of = CODING[generation]
    bits_per_second = Fraction(TRANSFERS[generation] * lanes * used, of)
    return Fraction(8 * 10**12) / bits_per_second


@functools.lru_cache(maxsize=256)
def host_table(points: tuple[tuple[float, int], ...]) -> np.ndarray:
    """Return the inverse distribution that the package reads."""
    return quantile_table(points)


@dataclass(frozen=True)
class Port:
    """A device's link. Sizes in bytes."""

    generation: int = 5
    lanes: int = 4
    propagation_ps: int = 100_000
    mps: int = 256
    mrrs: int = 512
    rcb: int = 64
    completion_bytes: int = 256
    tags: int = 32
    up: Credits = INFINITE
    down: Credits = INFINITE
    data_link: DataLink = BARE
    root_port: RootPort = SINK
    relaxed: bool = False
    ido: bool = False
    flit_check_ps: int = 0
    peer: Peer = field(default_factory=Peer)
    """What it is to other devices."""


@dataclass(frozen=True)
class Case:
    """Programs over links, all that a run needs. host_points: (probability, read latency in ps)."""

    ports: Sequence[Port]
    programs: Sequence[Sequence[Step]]
    protected: Sequence[Sequence[bool]]
    engine: EngineTiming | None = None
    host_points: tuple[tuple[float, int], ...] = ((0.0, 300_000), (1.0, 300_000))
    read_interval_ps: int = 0
    seed: int = 1
    stop_ps: int = 0
    iommu: Iommu = NO_IOMMU
    memory: Memory = CACHED
    uplinks: Sequence[tuple[Port, Switch]] = ()
    """Switches, each with its link to a root port."""
    below: Sequence[int | None] = ()
    """The switch of each device; empty: there is none."""
    phases: Sequence[Phase] = ()
    """When requests of each device begin; empty: always."""
    background: Sequence[bool] = ()
    """Of each device, whether it runs in the background; empty: none does."""
    turn_ps: int = 0
    """In the root complex, from one root port to another one."""

    def whole(self) -> "Case":
        """Return the same with every request run, whenever it is due."""
        return replace(self, stop_ps=0, phases=(), background=())


@dataclass
class Result:
    """What both sides must agree on.

    latency_ps, io_ps: per device, by request, None when not run. counters: (device, stat) -> name -> value.
    """

    latency_ps: list[list[int | None]]
    io_ps: list[list[int | None]]
    counters: dict[tuple[int, int], dict[str, int]]
    first_start_ps: int | None
    last_end_ps: int | None
    job_ps: list[int] = field(default_factory=list)
    maintenance: list[tuple[int, int]] = field(default_factory=list)
    iotlb: tuple[int, int] = (0, 0)
    errors: list[tuple[int, int]] = field(default_factory=list)


def peers_of(steps: Sequence[Step]) -> frozenset[int]:
    """Return the devices that transfers are with."""
    return frozenset(step.server for step in steps if step.kind != DELAY and step.server >= 0)


def as_array(steps: Sequence[Step]) -> np.ndarray:
    """Return STEP[n]."""
    array = np.zeros(len(steps), STEP)
    for row, step in zip(array, steps, strict=True):
        for name in ("kind", "address", "bytes", "not_before_ps", "delay_ps", "occupy_ps", "request"):
            row[name] = getattr(step, name)
        for name in ("after", "after2", "server", "stat", "buffer"):
            row[name] = getattr(step, name)
        row["flags"] = (
            EARLY1 * step.early1
            | EARLY2 * step.early2
            | BEGIN * step.begin
            | END * step.end
            | MEDIA * step.media
            | STAGE * step.stage
        )
    return array


def as_program(steps: Sequence[Step], cuts: Sequence[int] = ()) -> Program:
    """Return a program whose chunks end before the steps that `cuts` names."""
    array = as_array(steps)
    roots = [
        max(step.not_before_ps, 0 if step.kind == DELAY else step.delay_ps)
        if not (step.after or step.after2)
        else FOREVER
        for step in steps
    ]
    edges = [0, *sorted({c for c in cuts if 0 < c < len(steps)}), len(steps)]

    def chunks() -> Iterator[Chunk]:
        for low, high in itertools.pairwise(edges):
            yield Chunk(array[low:high], min(roots[high:], default=FOREVER))

    stats = 1 + max(step.stat for step in steps)
    return Program(
        stats=tuple(f"class{i}" for i in range(stats)),
        pooled=stats,
        chunks=chunks,
        regions=np.zeros(0, spec.REGION),
        reach=max(max(step.after, step.after2) for step in steps),
        servers=1 + max((step.server for step in steps if step.kind == DELAY), default=-1),
        peers=peers_of(steps),
        open_loop=True,
    )


def link_table(case: Case) -> np.ndarray:
    """Return int64[D + switches, LINK_COLUMNS]."""

    def row_of(port: Port) -> np.ndarray:
        return link_row(
            generation=port.generation,
            lanes=port.lanes,
            mps=port.mps,
            mrrs=port.mrrs,
            rcb=port.rcb,
            completion_bytes=port.completion_bytes,
            propagation_ps=port.propagation_ps,
            tags=port.tags,
            engine=case.engine or NO_ENGINE,
            up=port.up,
            down=port.down,
            data_link=port.data_link,
            root_port=port.root_port,
            relaxed=port.relaxed,
            ido=port.ido,
            flit_check_ps=port.flit_check_ps,
        )

    links = np.stack([row_of(port) for port in case.ports])
    if case.uplinks:
        uplinks = [(row_of(port), switch) for port, switch in case.uplinks]
        links = behind_switches(links, uplinks, case.below)
    pairs = {(d, peer) for d, steps in enumerate(case.programs) for peer in peers_of(steps)}
    return with_peers(links, pairs, [port.peer for port in case.ports], case.turn_ps) if pairs else links


def requests_of(steps: Sequence[Step]) -> int:
    """Return how many requests a program has; they are numbered from 0."""
    return 1 + max((step.request for step in steps if step.begin), default=-1)


class _Marker:
    """Hand out the protection of consecutive chunks."""

    def __init__(self, protected: Sequence[bool]) -> None:
        self.protected = np.array(protected, np.bool_)
        self.at = 0

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        part = self.protected[self.at : self.at + len(steps)]
        self.at += len(steps)
        return part


def outcome_of_package(
    case: Case, cuts: Sequence[Sequence[int]] | None = None, ledger: bool = True
) -> Outcome:
    """Run the package's simulator; `cuts` says per device where its chunks end."""
    cuts = cuts or [()] * len(case.ports)
    programs = [as_program(steps, where) for steps, where in zip(case.programs, cuts, strict=True)]
    if case.phases:
        programs = [replace(p, phase=phase) for p, phase in zip(programs, case.phases, strict=True)]
    if case.background:
        programs = [
            replace(p, background=behind) for p, behind in zip(programs, case.background, strict=True)
        ]
    return simulate(
        programs,
        link_table(case),
        host_table=host_table(case.host_points),
        read_interval_ps=case.read_interval_ps,
        seed=case.seed,
        markers=[_Marker(marks) for marks in case.protected],
        iommu=case.iommu,
        memory=case.memory,
        stop_ps=case.stop_ps,
        keep=max(requests_of(steps) for steps in case.programs),
        ledger=ledger,
    )


def run_package(case: Case, cuts: Sequence[Sequence[int]] | None = None) -> Result:
    """Run the package's simulator."""
    outcome = outcome_of_package(case, cuts)
    counters = {}
    row = 0
    for device, steps in enumerate(case.programs):
        for stat in range(1 + max(step.stat for step in steps)):
            c = outcome.classes[row]
            row += 1
            counters[device, stat] = {
                "payload": c.payload_bytes,
                "wire": c.wire_bytes,
                "tlps": c.tlps,
                "link": c.link_bytes,
                "ide": c.ide_bytes,
                "application": c.application_bytes,
                "requests": c.requests,
                "latency": c.latency.total_ps,
                "io": c.io_path.total_ps,
                "samples": c.latency.samples,
            } | {f"at {place}": time for place, time in c.ledger_ps.items()}
    latency = []
    io = []
    for device, steps in enumerate(case.programs):
        count = requests_of(steps)
        taken = outcome.kept_ps[device, :count].tolist()
        without_media = outcome.kept_io_ps[device, :count].tolist()
        latency.append([t if t >= 0 else None for t in taken])
        io.append([w if t >= 0 else None for t, w in zip(taken, without_media, strict=True)])
    begun = [c.first_start_ps for c in outcome.classes if c.first_start_ps < FOREVER]
    ended = [c.last_end_ps for c in outcome.classes if c.requests]
    return Result(
        latency_ps=latency,
        io_ps=io,
        counters=counters,
        first_start_ps=min(begun, default=None),
        last_end_ps=max(ended, default=None),
        job_ps=list(outcome.job_ps),
        maintenance=list(outcome.maintenance_bytes),
        iotlb=outcome.iotlb,
        errors=list(outcome.errors),
    )


def oracle_outcome(case: Case) -> link_heapq.Outcome:
    """Run the oracle."""

    def misses(seed: int, device: int, step: int, split: int) -> bool:
        bits = draw_u64(seed, MISS_STREAM + device, step * 2**24 + split)
        return int(bits) // 4 < round(case.memory.miss_share * 2**62)

    def refresh_at(seed: int, number: int) -> int:
        """Return when the refresh of an interval begins, which ends in it."""
        share = Fraction(int(draw_u64(seed, REFRESH_STREAM, number)) // 2**32, 2**32)
        slack = case.memory.refresh_interval_ps - case.memory.refresh_ps
        return number * case.memory.refresh_interval_ps + math.floor(share * slack)

    def drawn(points: tuple[tuple[float, int], ...], stream: int) -> Callable[[int, int, int, int], int]:
        table = host_table(points)

        def draw(seed: int, device: int, step: int, split: int) -> int:
            bits = np.uint64(draw_u64(seed, stream + device, step * 2**24 + split))
            return int(quantile(table, bits))

        return draw

    def error_distances(mean: int) -> Callable[[int, int, int, int], int]:
        table = exponential_table(max(mean, 1))

        def draw(seed: int, device: int, way: int, number: int) -> int:
            bits = np.uint64(draw_u64(seed, ERROR_STREAM + 2 * device + way, number))
            return int(quantile(table, bits))

        return draw

    def credits_of(port: Port) -> dict[tuple[int, bool], tuple[int, int]]:
        found = {
            (UP, True): (port.up.posted_headers, port.up.posted_data),
            (UP, False): (port.up.non_posted_headers, 0),
            (DOWN, True): (port.down.posted_headers, port.down.posted_data),
            (DOWN, False): (port.down.completion_headers, port.down.completion_data),
        }
        return {name: value for name, value in found.items() if value[0]}

    def link_of(port: Port) -> link_heapq.Link:
        return link_heapq.Link(
            ps_per_byte=ps_per_byte(port.generation, port.lanes),
            prop_ps=port.propagation_ps,
            mps=port.mps,
            mrrs=port.mrrs,
            rcb=port.rcb,
            cpl_max=port.completion_bytes,
            tags=port.tags,
            flit=port.generation >= 6,
            check_ps=port.flit_check_ps,
            # In flit mode a flit has bytes of its own for DLLPs.
            ack_every=0 if port.generation >= 6 else port.data_link.ack_every,
            update_every=0 if port.generation >= 6 else port.data_link.update_every,
            skip_every=0 if port.generation >= 6 else port.data_link.skip_every,
            skip_bytes=port.data_link.skip_bytes,
            replay_bytes=port.data_link.replay_bytes,
            error_every=port.data_link.error_every,
            nak_ps=port.data_link.nak_ps,
            error_distance=error_distances(port.data_link.error_every),
            credit_ps=port.data_link.credit_ps,
            credits=credits_of(port),
            drain_tlp_ps=port.root_port.drain_tlp_ps,
            drain_line_ps=port.root_port.drain_line_ps,
            write_latency_ps=port.root_port.write_latency_ps,
            ordered=port.root_port.ordered,
            rmp_check_ps=port.root_port.rmp_check_ps,
            relaxed=port.relaxed,
            ido=port.ido,
            peer_read_ps=port.peer.read_ps,
            peer_every_ps=port.peer.every_ps,
        )

    engine = (
        None
        if case.engine is None
        else link_heapq.EngineSpec(
            period_ps=case.engine.period_ps,
            bytes_per_clock=case.engine.bytes_per_clock,
            initiation_cycles=case.engine.initiation_cycles,
            pipe_ps=case.engine.pipe_ps,
            mac_ps=case.engine.mac_ps,
            check_ps=case.engine.check_ps,
            switch_ps=case.engine.switch_ps,
            miss_ps=case.engine.key_miss_ps,
            key_entries=case.engine.key_entries,
            pcrc=case.engine.pcrc,
            hold_ps=case.engine.hold_ps,
            link_stream=case.engine.link_stream,
            shared=case.engine.shared,
            fabric_ps=case.engine.fabric_ps,
            unit_tlps=case.engine.unit_tlps,
            skid=case.engine.skid,
        )
    )
    host = link_heapq.Host(
        drawn(case.host_points, HOST_STREAM),
        case.read_interval_ps,
        iotlb_entries=case.iommu.entries,
        iotlb_ways=case.iommu.ways,
        page_bytes=1 << case.iommu.page_shift,
        walkers=case.iommu.walkers,
        walk=drawn(case.iommu.walk, WALK_STREAM),
        misses=misses,
        cold_ps=case.memory.cold_ps,
        refresh_ps=case.memory.refresh_ps,
        refresh_interval_ps=case.memory.refresh_interval_ps,
        refresh_at=refresh_at,
        turn_ps=case.turn_ps,
    )
    return link_heapq.simulate(
        [link_of(port) for port in case.ports],
        host,
        engine,
        case.programs,
        case.protected,
        case.seed,
        case.stop_ps,
        [link_of(port) for port, _ in case.uplinks],
        [link_heapq.Switch(s.latency_ps, s.cut_through, s.redirects) for _, s in case.uplinks],
        case.below,
        [(p.from_ps, None if p.on_ps == FOREVER else p.on_ps, p.every_ps) for p in case.phases],
        case.background,
    )


def run_oracle(case: Case) -> Result:
    """Run the oracle."""
    out = oracle_outcome(case)
    counters: dict[tuple[int, int], dict[str, int]] = {}
    starts = []
    jobs = []
    for device, steps in enumerate(case.programs):
        for stat in range(1 + max(step.stat for step in steps)):
            c: Mapping[str, int] = out.counters.get((device, stat), {})
            counters[device, stat] = {
                name: c.get(name, 0) for name in ("payload", "wire", "tlps", "link", "ide", "application")
            } | {"requests": 0, "latency": 0, "io": 0, "samples": 0}
            spent: Mapping[str, int] = out.spent.get((device, stat), {})
            counters[device, stat] |= {f"at {place}": spent.get(place, 0) for place in PLACES}
        for step in steps:
            if step.end:
                taken = out.latency_ps[device].get(step.request)
                media = out.io_ps[device].get(step.request)
                if taken is not None and media is not None:
                    for name, value in (("requests", 1), ("samples", 1), ("latency", taken), ("io", media)):
                        counters[device, step.stat][name] += value
        moments = [m for m in out.moments[device] if m.ready is not None]
        starts += [
            m.ready
            for m, step in zip(out.moments[device], steps, strict=True)
            if step.begin and m.ready is not None
        ]
        first = min((m.ready for m in moments if m.ready is not None), default=0)
        last = max((m.end for m in moments if m.end is not None), default=0)
        jobs.append(max(last - min(first, last), 1))
    return Result(
        latency_ps=[
            [out.latency_ps[d].get(r) for r in range(requests_of(steps))]
            for d, steps in enumerate(case.programs)
        ],
        io_ps=[
            [out.io_ps[d].get(r) for r in range(requests_of(steps))] for d, steps in enumerate(case.programs)
        ],
        counters=counters,
        first_start_ps=min(starts, default=None),
        last_end_ps=None if out.last_end_ps < 0 else out.last_end_ps,
        job_ps=jobs,
        maintenance=out.maintenance,
        iotlb=out.iotlb,
        errors=out.errors,
    )
