"""How fast the simulator is; `pytest --benchmark-enable tests/test_link_bench.py` measures it.

Without that option each program runs once and only what it must do is checked. Rates stand in `extra_info`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracles.link_cases import Case, Port, as_array, host_table, link_table
from oracles.link_digest import FAST, HOST
from oracles.link_heapq import Step
from oracles.link_programs import closed_loop, packets

from sevpcie_core import spec
from sevpcie_core.link.run import Outcome, simulate
from sevpcie_core.workload.program import FOREVER, Chunk, Program

STORAGE = Port(5, 4, 150_000, 256, 512, 64, 256, 256)
NETWORK = Port(5, 16, 150_000, 256, 512, 64, 256, 256)
CHUNK = 6 * 256

PROGRAMS: dict[str, tuple[Port, Callable[[], list[Step]]]] = {
    "randread4k-qd32": (STORAGE, lambda: closed_loop(10_000, 32, 4096, media_ps=8_000_000)),
    "randread4k-qd256": (STORAGE, lambda: closed_loop(10_000, 256, 4096, media_ps=8_000_000)),
    "read128k-qd4": (STORAGE, lambda: closed_loop(1000, 4, 131_072, media_ps=8_000_000)),
    "write4k-qd32": (STORAGE, lambda: closed_loop(10_000, 32, 4096, read_pct=0, media_ps=8_000_000)),
    "packets": (NETWORK, lambda: packets(20_000, 30_000)),
}


@pytest.mark.parametrize("protected", [False, True], ids=["plain", "protected"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_simulator(benchmark: Any, name: str, protected: bool) -> None:
    port, build = PROGRAMS[name]
    steps = build()
    case = Case([port], [steps], [[protected] * len(steps)], FAST if protected else None, HOST, 1000)
    links = link_table(case)
    table = host_table(HOST)
    array = as_array(steps)
    starts = range(0, len(steps), CHUNK)
    roots = np.where((array["after"] == 0) & (array["after2"] == 0), array["not_before_ps"], FOREVER)
    horizons = [int(roots[i + CHUNK :].min(initial=FOREVER)) for i in starts]
    program = Program(
        stats=("read", "write"),
        pooled=2,
        chunks=lambda: (Chunk(array[i : i + CHUNK], h) for i, h in zip(starts, horizons, strict=True)),
        regions=np.zeros(0, spec.REGION),
        reach=int(max(array["after"].max(), array["after2"].max())),
        servers=1,
        open_loop=False,
    )

    def run() -> Outcome:
        return simulate(
            [program],
            links,
            host_table=table,
            read_interval_ps=case.read_interval_ps,
            seed=1,
            markers=[lambda part: np.full(len(part), protected)],
        )

    outcome = benchmark(run)
    requests = 1 + max(step.request for step in steps)
    assert sum(c.requests for c in outcome.classes) == requests
    assert outcome.tlps > 2 * requests
    if not benchmark.disabled:
        benchmark.extra_info["tlps"] = outcome.tlps
        benchmark.extra_info["tlps_per_s"] = outcome.tlps / benchmark.stats.stats.min
