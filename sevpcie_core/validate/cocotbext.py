"""DMA in simulated time by cocotbext-pcie, packet by packet: another simulator under known conditions.

Rule: nothing is found with these data. Each row's own counts of TLPs and DLLPs say how many TLPs an Ack or
UpdateFC stands for; everything else is what the run was set up with (README of the data).
"""

from pathlib import Path
from typing import Final

import numpy as np

from .. import spec
from ..link.params import Credits, DataLink, link_row
from ..link.run import simulate
from ..stats.draw import quantile_table
from ..workload.dma import LOW_MEMORY, Dma, Kind
from .points import DataSet, Point
from .rows import rows

FOLDER: Final = "cocotbext"
_KINDS: Final[dict[str, Kind]] = {"wr": "write", "rd": "read"}
_COLUMNS: Final = (
    "gen",
    "lanes",
    "mps",
    "mrrs",
    "op",
    "size_B",
    "ops",
    "tlps_on_link",
    "dllps_on_link",
    "payload_gbps",
)
# The run's set-up: 32 outstanding reads, 5 ns per port, the host answers at once, headers of 3 DW.
_OUTSTANDING: Final = 32
_PORT_PS: Final = 5_000
# Default credits of its endpoint and root complex.
_POSTED: Final = (64, 1024)
_NON_POSTED: Final = 64


def compare(data: Path) -> DataSet:
    """Compare `sim_dma.csv`. Raises FormatError."""
    path = data / FOLDER / "sim_dma.csv"
    points = []
    skipped: dict[str, int] = {}
    for row in rows(path, _COLUMNS) if path.is_file() else ():
        generation, lanes, mps, mrrs = (row.number(name) for name in ("gen", "lanes", "mps", "mrrs"))
        row.known("gen", generation, spec.GIGATRANSFERS)
        row.known("lanes", lanes, spec.LANES)
        row.known("mps", mps, spec.PAYLOAD_SIZES)
        row.known("mrrs", mrrs, spec.PAYLOAD_SIZES)
        op, size, ops = row.text("op"), row.size("size_B"), row.size("ops")
        tlps, dllps = row.size("tlps_on_link", 0), row.size("dllps_on_link", 0)
        measured = row.value("payload_gbps")
        if op not in _KINDS:
            skipped[f"op {op}"] = skipped.get(f"op {op}", 0) + 1
            continue
        link = link_row(
            generation=generation,
            lanes=lanes,
            mps=mps,
            mrrs=mrrs,
            rcb=64,
            completion_bytes=mps,
            propagation_ps=2 * _PORT_PS,
            tags=_OUTSTANDING,
            up=Credits(posted_headers=_POSTED[0], posted_data=_POSTED[1], non_posted_headers=_NON_POSTED),
            # One of either for so many TLPs.
            data_link=DataLink(ack_every=max(round(tlps / dllps), 1) if dllps else 0),
        )
        dma = Dma(
            _KINDS[op],
            size,
            ops,
            outstanding=_OUTSTANDING,
            pattern="sequential",
            window=max(1 << 20, -(-size // 64) * 64),
            base=LOW_MEMORY,
        )
        outcome = simulate(
            [dma.program()],
            link[None],
            host_table=quantile_table(((0.0, 0), (1.0, 0))),
            read_interval_ps=0,
            seed=1,
            markers=[lambda steps: np.zeros(len(steps), np.bool_)],
        )
        took = max(one.last_end_ps for one in outcome.classes)
        where = f"gen{generation} x{lanes}"
        points.append(
            Point(
                f"{where} {op} {size} B, {ops} times",
                f"{where} {_KINDS[op]}",
                size,
                measured,
                8e3 * size * ops / took,
            )
        )
    return DataSet(
        "cocotbext",
        "cocotbext-pcie: DMA in simulated time by size",
        "Gb/s",
        "bytes",
        2,
        4,
        points=points,
        not_modelled=skipped,
    )
