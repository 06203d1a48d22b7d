"""NICs of the analytic model of pcie-bench: the generator's steps, counted by that model's arithmetic.

Rule: what an adapter does per frame comes from the steps of a program of a shipped device; the published
arithmetic (`link.analytic.pcie_model_bytes`) says what each step puts on the wire, and the fuller direction
sets the pace. The published model forgets the request of the receive descriptor read (a sum that is
overwritten), though not its completion. `compare` leaves it out as well; `gbps` has both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from ..experiment import presets
from ..experiment.problems import Origin
from ..experiment.programs import adapter
from ..experiment.resolved import NicDevice
from ..link.analytic import pcie_model_bytes, pcie_model_rate
from ..spec import BUFFER_DATA
from ..workload import nic
from ..workload.nic_steps import STATUS, STATUS_END
from ..workload.program import DELAY, READ_UP, WRITE_DOWN, WRITE_UP
from ..workload.traces.table import Table
from .pcie_model import FOLDER
from .points import DataSet, Point
from .rows import Row

FILE: Final = "nic_bw.csv"
# Equal to 1e-6.
BAR_PCT: Final = 1e-4
# The published curves have MPS 256 and MRRS 512, the defaults of the arithmetic.
MPS: Final = 256
# Published name: shipped device.
DEVICES: Final = {"simple": "nic-simple", "kernel": "nic-niantic-kernel", "dpdk": "nic-niantic-dpdk"}
WAYS: Final = {"tx": (nic.TX,), "rx": (nic.RX,), "bidir": (nic.RX, nic.TX)}
# Doorbells, fetches, write-backs and interrupts of all three devices come out even.
_FRAMES: Final = 160


@dataclass(frozen=True)
class Transfers:
    """What one direction of an adapter puts on the wire for some frames, bytes.

    Attributes
    ----------
    up, down : of all but the frames themselves, from the device and to it. requests : of `up`, those of
        descriptor reads. frames : how many. receives : they go to the host.
    """

    up: int
    down: int
    requests: int
    frames: int
    receives: bool

    def both(self, size: int, corrected: bool) -> tuple[int, int]:
        """Return bytes from the device and to it, with frames of `size` bytes."""
        frame = pcie_model_bytes(size)
        forgotten = 0 if corrected or not self.receives else self.requests
        up = self.up - forgotten + self.frames * (frame.writes if self.receives else frame.requests)
        return up, self.down + (0 if self.receives else self.frames * frame.completions)


def transfers(steps: np.ndarray) -> Transfers:
    """Return what the steps of one direction put on the wire."""
    up = down = requests = frames = received = 0
    for step in steps[steps["kind"] != DELAY]:
        kind = int(step["kind"])
        found = pcie_model_bytes(int(step["bytes"]))
        if step["buffer"] == BUFFER_DATA:
            frames += 1
            received += kind == WRITE_UP
        elif STATUS <= step["address"] < STATUS_END:
            # Request and answer of a register read are two steps.
            up += found.completions if kind == WRITE_UP else 0
            down += found.requests if kind == WRITE_DOWN else 0
        elif kind == READ_UP:
            requests += found.requests
            up += found.requests
            down += found.completions
        else:
            up += found.writes if kind == WRITE_UP else 0
            down += found.writes if kind == WRITE_DOWN else 0
    assert received in (0, frames)
    return Transfers(up, down, requests, frames, received > 0)


@lru_cache(maxsize=16)
def of_device(name: str, direction: int) -> Transfers:
    """Return what a shipped device moves for frames of one direction."""
    table, _ = presets.device(name, Origin(name, ""), ())
    device = table.build(name)
    assert isinstance(device, NicDevice)
    load = nic.Load({direction: ((1, 60),)}, device.line_rate_bps, device.line_rate_bps)
    program = nic.open_loop(adapter(device), load, requests=_FRAMES, seed=1, stream=0)
    return transfers(np.concatenate([chunk.steps for chunk in program.chunks()]))


def gbps(name: str, way: str, size: int, generation: int, lanes: int, corrected: bool) -> float:
    """Return what a device comes to, Gb/s of frames in each direction.

    Parameters
    ----------
    name, way : as in DEVICES and WAYS. size : bytes of a frame without FCS.
    corrected : with the request of the receive descriptor read.
    """
    parts = [of_device(DEVICES[name], direction) for direction in WAYS[way]]
    ups, downs = zip(*(part.both(size, corrected) for part in parts), strict=True)
    most: int = max(sum(ups), sum(downs))
    return 8e-9 * size * _FRAMES * pcie_model_rate(generation, lanes, MPS) / most


def compare(data: Path) -> DataSet:
    """Compare the published curves in a folder of reference data.

    Raises FormatError for a table that cannot be read.
    """
    path = data / FOLDER / FILE
    return DataSet(
        "pcie_model_nic",
        "pcie-model's NICs, from the steps of the generator's devices",
        "Gb/s",
        "bytes",
        BAR_PCT,
        BAR_PCT,
        points=list(_points(path)) if path.is_file() else [],
    )


def _points(path: Path) -> Iterator[Point]:
    columns = [f"{name}_{way}_gbps" for name in DEVICES for way in WAYS]
    table = Table(path, ("gen", "lanes", "pcie_payload_B", *columns))
    for line, row in table:
        cell = Row(path, line, table, row)
        generation, lanes = cell.number("gen", "gen"), cell.number("lanes", "x")
        size = cell.size("pcie_payload_B")
        for name in DEVICES:
            for way in WAYS:
                yield Point(
                    f"{name} {way} {size} B",
                    f"{name} {way}",
                    size,
                    cell.value(f"{name}_{way}_gbps"),
                    gbps(name, way, size, generation, lanes, corrected=False),
                )
