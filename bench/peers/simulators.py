"""The link simulator beside others: the plain oracle of its tests, a port to SimPy, cocotbext-pcie.

Rules: who is compared does the same work, which is checked before anything is timed: the oracle and SimPy
have the same latency for every request, to the picosecond; cocotbext-pcie, whose DLLPs go by a timer, the
same throughput within 2 %. In NVMe reads, credits, DLLPs, errors and translation are off for everybody.
What is timed is the CPU time of the simulation on one CPU, a run of each by
turns; programs and draws are made before. TLPs count, no DLLPs.
"""

import gc
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import thread_time
from typing import Any, Final, NamedTuple

import link_cocotbext
import numpy as np

from sevpcie_core import spec
from sevpcie_core.experiment.fingerprint import versions
from sevpcie_core.experiment.runner import Task
from sevpcie_core.experiment.scenario import load_scheme
from sevpcie_core.link.run import Outcome
from sevpcie_core.measure.simulator import reads
from sevpcie_core.measure.timing import Slice, Timing
from sevpcie_core.stats.draw import draw_u64, quantile
from sevpcie_core.validate import cocotbext
from sevpcie_core.workload import program as steps_of

OURS: Final = "sevpcie"
ORACLE: Final = "heapq oracle"
SIMPY: Final = "SimPy port"
COCOTBEXT: Final = "cocotbext-pcie"

NVME: Final = "nvme 4 KiB reads"
DMA: Final = {"read": "DMA reads of 4 KiB", "write": "DMA writes of 4 KiB"}

DEPTH: Final = 32
GENERATION, LANES, MPS, MRRS = 5, 4, 256, 512
_DMA_BYTES: Final = 4096
# What the port to SimPy does not have is off in every contender's run.
_NO_TIME: Final = "0ns"
BARE_LINK: Final = {
    "base": "gen5x4",
    "data_link": dict.fromkeys(
        ("ack_every", "update_every", "skip_every", "replay_bytes", "bit_error_rate"), 0
    )
    | {"credit": _NO_TIME, "nak": _NO_TIME},
}
BARE_HOST: Final = {
    "base": "server",
    "root_port": {"drain_tlp": _NO_TIME, "drain_line": _NO_TIME, "ordered": False},
    "credits": {"posted_headers": 0, "posted_data": 0, "non_posted_headers": 0},
    "iommu": {"entries": 0},
}
BARE_DEVICE: Final = {"base": "nvme-dram", "credits": {"posted_headers": 0, "posted_data": 0}}
# TLPs per second that a port to SimPy must reach to be worth comparing with.
SIMPY_LEAST: Final = 5000.0
# How far the throughput of cocotbext-pcie may lie from ours, per cent.
TOLERANCE_PCT: Final = 2.0
_SEED: Final = 1
# The root complex's draws (docs/model.md).
_HOST_STREAM: Final = 0x484F5354
_STEPS: Final = 8
_OURS: Final = "sevpcie " + versions().get("sevpcie_core", "")
_TESTS: Final = Path(__file__).resolve().parents[2] / "tests"


class Run(NamedTuple):
    """TLPs of one run and the seconds that it took."""

    tlps: int
    seconds: float


@dataclass(frozen=True)
class Sizes:
    """How much each simulates at a time: requests, or transfers, of a tenth of a second or so."""

    ours: int = 20_000
    oracle: int = 96
    simpy: int = 600
    dma: int = 64


QUICK: Final = Sizes(ours=4000, oracle=48, simpy=200, dma=16)


@dataclass
class Contender:
    """Somebody with a workload: a run's TLPs per second by turns; or why not."""

    who: str
    workload: str
    version: str
    run: Callable[[], Run] | None
    missing: str | None = None
    agrees: str = ""
    timing: Timing = field(default_factory=lambda: Timing(1))
    tlps: int = 0

    def slice(self) -> None:
        """Run once more."""
        if self.run is not None:
            found = self.run()
            # It waits while we are timed; what one run leaves is not the next one's.
            gc.collect()
            self.tlps = found.tlps
            ns = 1e9 * found.seconds / found.tlps
            self.timing.slices.append(Slice(ns, ns, 1))

    def to_dict(self, ours: "Contender") -> dict[str, Any]:
        """Return plain data; the ratio is how many times as fast ours is, by the best and by the median."""
        measured = bool(self.timing.slices)
        mine, theirs = ours.timing, self.timing
        return {
            "contender": self.who,
            "workload": self.workload,
            "version": self.version,
            "missing": self.missing,
            "agrees": self.agrees or None,
            "tlps": self.tlps if measured else None,
            "tlps_per_s": 1e9 / theirs.best_ns if measured else None,
            "tlps_per_s_median": 1e9 / theirs.median_ns if measured else None,
            "spread_pct": theirs.spread_pct if measured else None,
            "ratio": theirs.best_ns / mine.best_ns if measured else None,
            "ratio_median": theirs.median_ns / mine.median_ns if measured else None,
        }


def rows(contenders: list[Contender]) -> list[dict[str, Any]]:
    """Return every contender as plain data, each beside ours on the same workload."""
    ours = {c.workload: c for c in contenders if c.who == OURS}
    return [c.to_dict(ours[c.workload]) for c in contenders]


def missed(rows: list[dict[str, Any]]) -> list[str]:
    """Return what would make the comparison unfair: a port to SimPy that is needlessly slow."""
    return [
        f"{row['contender']}: {row['tlps_per_s']:.0f} TLPs/s, expected at least {SIMPY_LEAST:.0f}"
        for row in rows
        if row["contender"] == SIMPY and row["tlps_per_s"] is not None and row["tlps_per_s"] < SIMPY_LEAST
    ]


def contenders(sizes: Sizes) -> list[Contender]:
    """Return everybody, checked against ours. Raises RuntimeError for one that does other work."""
    return [*_nvme(sizes), *_dma(sizes)]


# --- NVMe reads: ours, the oracle, SimPy -------------------------------------------------------------------


def task(requests: int) -> Task:
    """Return 4 KiB random reads of a DRAM-like drive at depth 32, on a bare Gen5 x4 link."""
    return reads(DEPTH, requests, link=BARE_LINK, host=BARE_HOST, device=BARE_DEVICE)


def outcome(of: Task, keep: int = 0) -> Outcome:
    """Return what ours says of it, in plaintext."""
    return of.simulate(load_scheme("none"), "off", keep=keep)


def _nvme(sizes: Sizes) -> Iterator[Contender]:
    prepared = task(sizes.ours)
    # Compiles, or reads the cache.
    outcome(prepared)

    def run() -> Run:
        found = outcome(prepared)
        return Run(found.tlps, found.seconds)

    yield Contender(OURS, NVME, _OURS, run)
    yield _oracle(sizes.oracle)
    yield _simpy(sizes.simpy)


def _same(who: str, of: Task, requests: int, latency_ps: list[int | None], tlps: int) -> str:
    """Return that another simulator says the same of every request. Raises RuntimeError if it does not."""
    found = outcome(of, keep=requests)
    ours = found.kept_ps[0].tolist()
    far = [abs(a - (b or 0)) for a, b in zip(ours, latency_ps, strict=True) if a != b]
    if far or found.tlps != tlps:
        raise RuntimeError(
            f"{who}: {len(far)} of {requests} latencies differ, by up to {max(far, default=0)} ps; "
            f"{tlps} TLPs, ours {found.tlps}"
        )
    return f"{requests} latencies equal"


def _oracle(requests: int) -> Contender:
    if not (_TESTS / "oracles" / "link_heapq.py").is_file():
        return Contender(ORACLE, NVME, "", None, missing=f"{_TESTS}/oracles is not there")
    sys.path.insert(0, str(_TESTS))
    try:
        from oracles import link_cases
        from oracles.link_heapq import Step
    finally:
        sys.path.remove(str(_TESTS))
    of = task(requests)
    device = of.workload.devices[0]
    steps = [
        Step(
            **{name: int(row[name]) for name in ("kind", "address", "bytes", "not_before_ps", "delay_ps")},
            **{name: int(row[name]) for name in ("occupy_ps", "request", "after", "after2", "server")},
            stat=int(row["stat"]),
            buffer=int(row["buffer"]),
            early1=bool(row["flags"] & steps_of.EARLY1),
            early2=bool(row["flags"] & steps_of.EARLY2),
            begin=bool(row["flags"] & steps_of.BEGIN),
            end=bool(row["flags"] & steps_of.END),
            media=bool(row["flags"] & steps_of.MEDIA),
        )
        for row in _rows(of)
    ]
    link = device.link
    case = link_cases.Case(
        [
            link_cases.Port(
                link.gen,
                link.lanes,
                link.propagation_ps,
                link.mps,
                link.mrrs,
                link.rcb,
                link.completion_bytes,
                device.device.tags,
            )
        ],
        [steps],
        [[False] * len(steps)],
        host_points=of.scenario.host.read_latency,
        read_interval_ps=of.scenario.host.read_interval_ps,
        seed=_SEED,
    )

    def tlps_of(found: Any) -> int:
        return sum(c["tlps"] for c in found.counters.values())

    found = link_cases.oracle_outcome(case)
    latency = [found.latency_ps[0][request] for request in range(requests)]
    agrees = _same(ORACLE, of, requests, latency, tlps_of(found))

    def run() -> Run:
        begin = thread_time()
        found = link_cases.oracle_outcome(case)
        return Run(tlps_of(found), thread_time() - begin)

    return Contender(ORACLE, NVME, "tests/oracles", run, agrees=agrees)


def _rows(of: Task) -> np.ndarray:
    return np.concatenate([chunk.steps for chunk in of.programs[0].chunks()])


def _simpy(requests: int) -> Contender:
    if importlib.util.find_spec("simpy") is None:
        return Contender(SIMPY, NVME, "", None, missing="simpy is not installed (pip install '.[peers]')")
    import link_simpy

    of = task(requests)
    link, work = simpy_work(of)
    found = link_simpy.simulate(link, work, DEPTH)
    agrees = _same(SIMPY, of, requests, list(found.latency_ps), found.tlps)

    def run() -> Run:
        begin = thread_time()
        found = link_simpy.simulate(link, work, DEPTH)
        return Run(found.tlps, thread_time() - begin)

    version = f"simpy {importlib.metadata.version('simpy')}"
    return Contender(SIMPY, NVME, version, run, agrees=agrees)


def simpy_work(of: Task) -> tuple[Any, list[Any]]:
    """Return the link and the requests of a task, as the port to SimPy takes them."""
    import link_simpy

    device = of.workload.devices[0]
    link = link_simpy.Link(
        ps_per_byte=spec.byte_time_ps(device.link.gen, device.link.lanes),
        propagation_ps=device.link.propagation_ps,
        mps=device.link.mps,
        mrrs=device.link.mrrs,
        rcb=device.link.rcb,
        completion_bytes=device.link.completion_bytes,
        tags=device.device.tags,
        read_interval_ps=of.scenario.host.read_interval_ps,
    )
    rows = _rows(of).reshape(-1, _STEPS)
    return link, [_request(row, number, of.host_table) for number, row in enumerate(rows)]


def _request(row: np.ndarray, number: int, host_table: np.ndarray) -> Any:
    """Return what the port to SimPy is told of a request: its steps, and the host's latency for its fetch."""
    import link_simpy

    doorbell, fetch, decode, media, data, entry, interrupt, done = row
    # A program has six transfers per request; the fetch, which fits one read request, is the second.
    bits = np.uint64(draw_u64(_SEED, _HOST_STREAM, (6 * number + 1) * 2**24))
    return link_simpy.Request(
        doorbell=int(doorbell["address"]),
        command=int(fetch["address"]),
        command_bytes=int(fetch["bytes"]),
        controller_ps=int(decode["delay_ps"]),
        media_ps=int(media["delay_ps"]),
        data=int(data["address"]),
        data_bytes=int(data["bytes"]),
        entry=int(entry["address"]),
        entry_bytes=int(entry["bytes"]),
        interrupt=int(interrupt["address"]),
        done=int(done["address"]),
        word_bytes=int(doorbell["bytes"]),
        not_before_ps=int(doorbell["not_before_ps"]),
        host_ps=(int(quantile(host_table, bits)),),
    )


# --- DMA: ours, cocotbext-pcie ------------------------------------------------------------------------------


def _dma(sizes: Sizes) -> Iterator[Contender]:
    missing = link_cocotbext.missing()
    for kind, workload in DMA.items():
        few, many = sizes.dma, sizes.ours

        def ours(count: int = many, kind: Any = kind) -> Run:
            found = cocotbext.dma(GENERATION, LANES, MPS, MRRS, kind, _DMA_BYTES, count)
            return Run(found.tlps, found.seconds)

        ours(few)
        yield Contender(OURS, workload, _OURS, ours)
        if missing:
            yield Contender(COCOTBEXT, workload, "", None, missing=missing)
            continue

        def theirs(kind: str = kind, count: int = few) -> Run:
            found = link_cocotbext.dma(GENERATION, LANES, kind, _DMA_BYTES, count)
            return Run(found.tlps, found.seconds)

        yield Contender(COCOTBEXT, workload, link_cocotbext.version(), theirs, agrees=_near(kind, few))


def _near(kind: Any, count: int) -> str:
    """Return how far the throughputs lie apart. Raises RuntimeError if that is too far."""
    found = cocotbext.dma(GENERATION, LANES, MPS, MRRS, kind, _DMA_BYTES, count)
    ours = max(one.last_end_ps for one in found.classes)
    theirs = link_cocotbext.dma(GENERATION, LANES, kind, _DMA_BYTES, count).ps
    off = 100 * (theirs / ours - 1)
    if abs(off) > TOLERANCE_PCT:
        raise RuntimeError(f"{COCOTBEXT}: {kind}s off by {off:+.2f} %; expected {TOLERANCE_PCT:g} % at most")
    return f"throughput {off:+.2f} %"
