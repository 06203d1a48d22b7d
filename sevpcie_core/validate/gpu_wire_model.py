"""What one counted operation of a GPU puts on its link by the steps of programs: bytes and TLPs each way.

Rule: one device and one link for all, `gpu-gen5` on `gen5x16`. Copies, launches and accesses are the programs
that a scenario runs; other commands are launches of other lengths, with what they do beside. Steps become
TLPs by the cuts and sizes that the simulator has, too; there are no DLLPs here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from ..experiment.model import Scenario
from ..experiment.programs import build
from ..experiment.resolved import DeviceRun, GpuDevice
from ..spec import BUFFER_QUEUE
from ..workload import gpu
from ..workload.buffers import HOST_MEMORY
from ..workload.gpu_commands import Engine
from ..workload.look import look
from ..workload.program import FOREVER, READ_UP, STEP, WRITE_UP, Chunk, Program

DEVICE: Final = "gpu-gen5"
LINK: Final = "gen5x16"

# A warp's access goes line by line.
_LINE: Final = 128
_WINDOW: Final = 256 << 20
# Offsets of commands to where reads are cut repeat after so many; of longer copies they do not matter.
_OPERATIONS: Final = 64
_LONG: Final = 1 << 22


@dataclass(frozen=True)
class Row:
    """A load that was counted: medians by metric."""

    experiment: str
    direction: str
    size: int
    parallel: int
    values: Mapping[str, float]


class Bytes(NamedTuple):
    """What goes each way per operation: bytes on the wire, and TLPs."""

    rx: float
    tx: float
    rx_tlps: float
    tx_tlps: float


@dataclass(frozen=True)
class Kind:
    """What a kind of command has that the device's presets do not say.

    commands : bytes of them, by the device and the size of the row. fences : whether it has a kernel's.
    reads, writes : bytes of each that it does beside.
    found : size of the row that told them; None: others did. by : its directions that did.
    """

    commands: Callable[[Engine, int], int]
    fences: bool = False
    reads: Sequence[int] = ()
    writes: Sequence[int] = ()
    found: int | None = None
    by: Sequence[str] = ("rx",)


# Beside its n bytes a kernel with arguments has so much more than one without.
_ARGUMENTS: Final = 48
# Where the host waits for each piece of work, the device reads a word more; a kernel's commands are shorter.
_AWAITED_READS: Final = (4,)
_AWAITED_LESS: Final = 24
_BOTH: Final = ("rx", "tx")
KINDS: Final[Mapping[tuple[str, str], Kind]] = {
    ("launch", "launch"): Kind(lambda e, n: e.launch_command_bytes, True, found=0, by=_BOTH),
    ("launch_arguments", "launch"): Kind(lambda e, n: e.launch_command_bytes + _ARGUMENTS + n, True, found=8),
    ("launch_sync", "launch"): Kind(
        lambda e, n: e.launch_command_bytes - _AWAITED_LESS, True, _AWAITED_READS, found=0, by=_BOTH
    ),
    ("launch_graph", "launch"): Kind(lambda e, n: 100, True, found=0),
    ("semaphore_device", "write"): Kind(lambda e, n: 100, found=4),
    ("semaphore_host", "write"): Kind(lambda e, n: 100, writes=(4,)),
    ("semaphore_wait_host", "read"): Kind(lambda e, n: 92, reads=(32,), found=4, by=_BOTH),
    ("event_record", "write"): Kind(lambda e, n: 36, writes=(8, 8), found=16, by=_BOTH),
    ("memset", "launch"): Kind(lambda e, n: e.copy_command_bytes),
}


@lru_cache(maxsize=256)
def _device_run(traffic: tuple[tuple[str, Any], ...], requests: int) -> DeviceRun:
    entry = {"preset": DEVICE, "traffic": {"kind": "gpu", **dict(traffic)}}
    scenario = Scenario.from_dict(
        {
            "name": "counted",
            "link": LINK,
            "requests": requests,
            "workload": [{"name": "counted", "device": {"gpu": entry}}],
        }
    )
    return scenario.resolve().workloads[0].devices[0]


def _counted(run: DeviceRun, program: Program, operations: int) -> Bytes:
    """Return what a program puts on the link of a device, per operation."""
    found = look(program, run.sizes, timed=False).tlps
    down, up = ([t for t in found if t.direction == way] for way in ("down", "up"))
    return Bytes(
        sum(t.wire_bytes for t in down) / operations,
        sum(t.wire_bytes for t in up) / operations,
        sum(t.count for t in down) / operations,
        sum(t.count for t in up) / operations,
    )


def _traffic(requests: int, per: float = 1, **traffic: Any) -> Bytes:
    """Return what generated traffic puts on the link per operation of `per` requests."""
    run = _device_run(tuple(traffic.items()), requests)
    return _counted(run, build(run, 0, 1, 0), round(requests / per))


def access(row: Row) -> Bytes:
    """Return what a load or store of a thread, or of a warp, puts on the link."""
    lines = max(1, row.size // _LINE)
    kind = "load" if row.direction == "read" else "store"
    size = row.size // lines
    return _traffic(
        256 * lines, lines, job="zero-copy", access=kind, size=size, pattern="random", window=_WINDOW
    )


def copy(row: Row) -> Bytes:
    """Return what a copy puts on the link; of both directions, one each way."""
    operations = _OPERATIONS if row.size < _LONG else 2
    ways = 2 if row.direction == "both" else 1
    return _traffic(operations * ways, ways, job="copies", direction=row.direction, size=row.size)


def command(row: Row) -> Bytes:
    """Return what a launch or another of KINDS puts on the link."""
    run = _device_run((("job", "copies"), ("direction", "h2d")), 1)
    assert isinstance(run.device, GpuDevice)
    kind = KINDS[row.experiment, row.direction]
    engine = run.device.engine
    commands = kind.commands(engine, row.size)
    mine = replace(
        engine, launch_command_bytes=commands, launch_fences=engine.launch_fences if kind.fences else 0
    )
    zeros = np.zeros(_OPERATIONS, np.int64)
    program = gpu.job(
        times_ps=zeros,
        durations_ps=zeros,
        kinds=np.full(_OPERATIONS, gpu.WORK, np.uint8),
        sizes=zeros,
        streams=zeros,
        engine=mine,
    )
    found = _counted(run, program, _OPERATIONS)
    return _sum(found, _beside(run, program, kind.reads, kind.writes))


def awaited_copy(row: Row) -> Bytes:
    """Return the same of a copy that the host waits for."""
    run = _device_run((("job", "copies"), ("direction", row.direction)), 1)
    return _sum(copy(row), _beside(run, build(run, 0, 1, 0), _AWAITED_READS, ()))


def _beside(run: DeviceRun, program: Program, reads: Sequence[int], writes: Sequence[int]) -> Bytes:
    """Return what reads and writes of the device put on its link; program : any of it, for its classes."""
    steps = np.zeros(len(reads) + len(writes), STEP)
    steps["kind"] = [READ_UP] * len(reads) + [WRITE_UP] * len(writes)
    steps["bytes"] = [*reads, *writes]
    steps["address"] = HOST_MEMORY
    steps["buffer"] = BUFFER_QUEUE
    steps["request"] = -1
    return _counted(run, replace(program, chunks=lambda: iter([Chunk(steps, FOREVER)])), 1)


def _sum(one: Bytes, other: Bytes) -> Bytes:
    return Bytes(*(a + b for a, b in zip(one, other, strict=True)))
