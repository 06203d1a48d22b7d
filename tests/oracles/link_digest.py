"""Print one digest of what the simulator does with a fixed set of programs: `python -m oracles.link_digest`.

The same on every machine, with and without JIT. Small enough to run without.
"""

import hashlib
import json
from dataclasses import asdict, replace

from sevpcie_core.link.params import Credits, DataLink, EngineTiming, Iommu, RootPort, Switch

from .link_cases import Case, Port, run_package
from .link_programs import closed_loop, packets

FAST = EngineTiming(1000, 6000, 7000, 1000, 1, 128, 1000, 10_000, 3)
SLOW = EngineTiming(20_000, 15_000, 35_000, 1250, 2, 16, 5000, 25_000, 1, pcrc=True)
TIGHT = Credits(9, 96, 3, 12, 260)
KEPT_GOING = DataLink(2, 1, 60_000, 1500, 16, replay_bytes=9000, bit_error_rate=3e-6, nak_ps=50_000)
BUSY = RootPort(drain_tlp_ps=3000, drain_line_ps=1100, write_latency_ps=150_000, rmp_check_ps=4000)
WALKED = Iommu(entries=8, ways=2, walkers=2, walk=((0.0, 200_000), (0.9, 230_000), (1.0, 500_000)))
HOST = ((0.0, 300_000), (0.5, 350_000), (0.99, 450_000), (1.0, 900_000))


def sample_cases() -> list[Case]:
    """Return cases over all generations: one device or three, all or part of it protected, or nothing."""
    cases = []
    for generation, lanes, engine, part in (
        (1, 4, FAST, "all"),
        (2, 8, SLOW, "all"),
        (3, 4, None, "none"),
        (4, 4, FAST, "data"),
        (5, 4, SLOW, "data"),
        (5, 16, FAST, "all"),
        (6, 16, SLOW, "all"),
        (7, 2, None, "none"),
    ):
        programs = [
            closed_loop(12, 4, 4096, read_pct=60, media_ps=2_000_000, dies=3, seed=generation, offset=20),
            packets(20, 100_000, seed=lanes),
            closed_loop(6, 2, 9000, read_pct=30, media_ps=0, seed=3),
        ]
        ports = [
            Port(generation, lanes, 150_000, 256, 512, 64, 256, 32),
            Port(generation, lanes, 120_000, 512, 4096, 128, 384, 2),
            Port(generation, 1, 0, 128, 256, 64, 64, 8),
        ]
        count = 3 if generation != 5 else 1
        marks = [[part == "all" or (part == "data" and s.buffer == 0) for s in p] for p in programs]
        cases.append(
            Case(ports[:count], programs[:count], marks[:count], engine, HOST, 3000, seed=generation)
        )
    # Everything at once: short buffers, DLLPs, a slow drain, address translation.
    for number in (2, 4, 5, 6):
        case = cases[number]
        ports = [
            replace(p, up=TIGHT, down=TIGHT, data_link=KEPT_GOING, root_port=BUSY, mrrs=512)
            for p in case.ports
        ]
        cases.append(replace(case, ports=ports, iommu=WALKED))
    # The first of these with RO; and two of its devices with IDO, behind a switch.
    walked = cases[8]
    cases.append(replace(walked, ports=[replace(p, relaxed=True) for p in walked.ports]))
    port = replace(walked.ports[0], ido=True)
    cases.append(
        replace(
            walked,
            ports=[port] * 2,
            programs=walked.programs[:2],
            protected=walked.protected[:2],
            uplinks=[(port, Switch(110_000))],
            below=[0, 0],
        )
    )
    return cases


def digest() -> str:
    """Return sha256 over every request's latency and every counter."""
    results = []
    for case in sample_cases():
        result = asdict(run_package(case))
        result["counters"] = {f"{device}.{stat}": c for (device, stat), c in result["counters"].items()}
        results.append(result)
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    print(digest())
