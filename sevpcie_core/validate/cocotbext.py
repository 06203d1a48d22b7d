"""DMA in simulated time by cocotbext-pcie, packet by packet: another simulator under known conditions.

Rule: nothing is found with these data, and nothing that came out of a run goes in. Everything is what the run
was set up with (README of the data) or a constant of that simulator (0.2.16, core/port.py), its DLLPs too.
"""

from pathlib import Path
from typing import Final

import numpy as np

from .. import spec
from ..link.params import Credits, DataLink, link_row
from ..link.run import Outcome, simulate
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
    "payload_gbps",
)
# Of that simulator, in symbols on one lane: a timer starts when a TLP comes in and none runs; when it ends an
# Ack goes out, and by another timer alike an UpdateFC. The largest payload in it stays at what a port begins
# with, whatever the device is set to.
_TIMER_PAYLOAD: Final = 128
_TIMER_HEADER: Final = 28
_TIMER_DELAY: Final = {1: 19, 2: 70}
_TIMER_DELAY_ELSE: Final = 115
# The run's set-up: 32 outstanding reads, 5 ns per port, the host answers at once, headers of 3 DW.
_OUTSTANDING: Final = 32
_PORT_PS: Final = 5_000
_MOST_TLPS: Final = 10_000_000
# Default credits of its endpoint and root complex.
_POSTED: Final = (64, 1024)
_NON_POSTED: Final = 64


def _timer_ps(generation: int, lanes: int) -> float:
    """Return that timer's time: the latency of UpdateFC by PCIe Base r3.0, section 2.6.1.2."""
    factor = 1.4 if lanes <= 4 else 2.5 if lanes == 8 else 3.0
    symbols = (_TIMER_PAYLOAD + _TIMER_HEADER) * factor / lanes
    symbols += _TIMER_DELAY.get(generation, _TIMER_DELAY_ELSE)
    return symbols * float(spec.byte_time_ps(generation, 1))


def tlps_per_dllp(generation: int, lanes: int, mps: int, mrrs: int, kind: Kind, size: int) -> int:
    """Return how many TLPs one Ack, and one UpdateFC, stands for: those that come in while a timer runs.

    The link is full: writes follow one another, and so do the answers to read requests.
    """
    piece = min(size, mps if kind == "write" else mrrs)
    wire = piece + -(-piece // mps) * (spec.HEADER_3DW_BYTES + spec.DATA_LINK_BYTES)
    return int(_timer_ps(generation, lanes) // (wire * float(spec.byte_time_ps(generation, lanes)))) + 1


def dma(generation: int, lanes: int, mps: int, mrrs: int, kind: Kind, size: int, count: int) -> Outcome:
    """Run transfers, one after the other in a window, on a link that is set up like that simulator's."""
    every = tlps_per_dllp(generation, lanes, mps, mrrs, kind, size)
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
        data_link=DataLink(ack_every=every, update_every=every),
    )
    transfers = Dma(
        kind,
        size,
        count,
        outstanding=_OUTSTANDING,
        pattern="sequential",
        window=max(1 << 20, -(-size // 64) * 64),
        base=LOW_MEMORY,
    )
    return simulate(
        [transfers.program()],
        link[None],
        host_table=quantile_table(((0.0, 0), (1.0, 0))),
        read_interval_ps=0,
        seed=1,
        markers=[lambda steps: np.zeros(len(steps), np.bool_)],
    )


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
        measured = row.value("payload_gbps")
        what = "" if op in _KINDS else f"op {op}"
        if not what and -(-size // mps) * ops > _MOST_TLPS:
            what = "runs of more than 10^7 TLPs"
        if what:
            what = f"{path.stem} {what}"
            skipped[what] = skipped.get(what, 0) + 1
            continue
        outcome = dma(generation, lanes, mps, mrrs, _KINDS[op], size, ops)
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
