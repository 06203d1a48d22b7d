"""Recordings of a real Linux NVMe driver against the generator's steps: what a driver and a device exchange.

Rule: the inputs of a phase are its commands (operation, bytes, offset of the first one in its page) and how
many of them each doorbell submitted; everything else must come out exactly. Counts and bytes have no time in
them, so it does not matter that the driver ran on an emulated CPU. With shadow doorbells and SGLs (run C)
submit batches and segments are unknown, so that only what the commands move is compared.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from ..errors import FormatError
from ..spec import BUFFER_DATA, BUFFER_MMIO, BUFFER_QUEUE
from ..workload import nvme
from ..workload.buffers import HOST_MEMORY, PAGE
from ..workload.nvme_steps import COMMAND_BYTES, COMPLETION_BYTES, TRIM_BYTES
from ..workload.program import END, READ_UP, WRITE_DOWN, WRITE_UP
from ..workload.traces import doorbells
from .points import DataSet, Point
from .rows import Row, rows

FOLDER: Final = Path("traces", "nvme")
PATTERN: Final = "nvme_*.csv.gz"
COLUMNS: Final = ("seq", "time_us", "phase", "event", "address", "length", "qid", "cid", "arg")
# Phases with fewer commands say little.
LEAST_COMMANDS: Final = 100
# Equal but for rounding.
BAR_PCT: Final = 1e-9

_OPERATIONS: Final = {
    "read": nvme.READ,
    "write": nvme.WRITE,
    "flush": nvme.FLUSH,
    "dsm_trim": nvme.TRIM,
    "write_zeroes": nvme.ZEROES,
}
# Before the driver's own I/O, between its phases, and after it.
_LEFT_OUT: Final = ("linux_init", "marker", "end")


@dataclass
class Phase:
    """What was recorded of one phase.

    Attributes
    ----------
    operations, sizes, offsets : of the commands, in the order in which they were fetched; offsets of the
        first byte in its page. batches : (commands, queue) of each submission doorbell.
    counts : what must come out. shadow : doorbells or lists that are recorded are not all that there were.
    """

    operations: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    batches: list[tuple[int, int]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shadow: bool = False


def phases(path: Path) -> dict[str, Phase]:
    """Read a recording.

    Raises: FormatError: naming file, line and column.
    """
    found: dict[str, Phase] = defaultdict(Phase)
    tails: dict[int, int] = {}
    pages = 0
    shadow = False
    for row in rows(path, COLUMNS):
        name, event = row.text("phase"), row.text("event")
        queue = row.number("qid") if row.text("qid") else 0
        if event == "mmio_write_sq_doorbell":
            queue = doorbells.queue_of(_hexadecimal(row, "address"))
            tail = row.number("arg")
            count = doorbells.submitted(tails.get(queue, 0), tail)
            tails[queue] = tail
            if queue and name not in _LEFT_OUT:
                found[name].batches.append((count, queue - 1))
            continue
        if name in _LEFT_OUT or not queue:
            shadow |= event == "admin_cmd" and row.text("arg") == _DOORBELL_BUFFER_CONFIG
            continue
        phase = found[name]
        counts = phase.counts
        if event in _OPERATIONS:
            operation = _OPERATIONS[event]
            moves = operation <= nvme.WRITE
            phase.operations.append(operation)
            phase.sizes.append(row.number("length") if moves else 0)
            phase.offsets.append(0)
            pages = 0
            counts["data bytes"] += phase.sizes[-1]
            counts[f"{nvme.KINDS[operation]} commands"] += 1
        elif event == "dma_map":
            if pages == 0 and phase.operations:
                phase.offsets[-1] = _hexadecimal(row, "address") % PAGE
            pages += 1
            counts["PRP entries"] += 1
        elif event == "prp_list_fetch":
            counts["list fetches"] += 1
            counts["list bytes"] += row.number("length")
        elif event == "cqe_write":
            counts["completions"] += 1
        elif event == "sgl_map":
            phase.shadow = True
    for phase in found.values():
        phase.counts["doorbells"] = len(phase.batches)
        phase.shadow |= shadow
    return dict(found)


# NVM Express Base Specification 2.0, section 5: opcode of Doorbell Buffer Config.
_DOORBELL_BUFFER_CONFIG: Final = "0x7c"


def _hexadecimal(row: Row, name: str) -> int:
    text = row.text(name)
    try:
        return int(text, 16)
    except ValueError:
        raise FormatError(f"{row.place}: {name}: {text!r}; expected a hexadecimal number") from None


def counted(steps: np.ndarray, controller: nvme.Controller) -> Mapping[str, int]:
    """Return what steps of a program do, by the names of `Phase.counts`."""
    kind, buffer, size, address = (steps[name] for name in ("kind", "buffer", "bytes", "address"))
    moved = (kind == READ_UP) | (kind == WRITE_UP)
    data = moved & (buffer == BUFFER_DATA)
    of_queues = (kind == READ_UP) & (buffer == BUFFER_QUEUE)
    # Submission queues come first in memory.
    commands = of_queues & (address < HOST_MEMORY + COMMAND_BYTES * controller.entries * controller.queues)
    lists = of_queues & ~commands
    rung = (kind == WRITE_DOWN) & (buffer == BUFFER_MMIO) & (address % 8 == 0)
    ended = steps["stat"][(steps["flags"] & END) > 0]
    trims = data & (steps["stat"] == nvme.TRIM)
    assert (size[trims] == TRIM_BYTES).all()
    out = {
        "doorbells": int(rung.sum()),
        "data bytes": int(size[data & ~trims].sum()),
        "PRP entries": int(((address[data] % PAGE + size[data] + PAGE - 1) // PAGE).sum()),
        "list fetches": int(lists.sum()),
        "list bytes": int(size[lists].sum()),
        "completions": int(size[(kind == WRITE_UP) & (buffer == BUFFER_QUEUE)].sum()) // COMPLETION_BYTES,
    }
    return out | {f"{name} commands": int((ended == i).sum()) for i, name in enumerate(nvme.KINDS)}


def generated(phase: Phase) -> Mapping[str, int]:
    """Return what the generator makes of the inputs of a phase."""
    constant = ((0.0, 0), (1.0, 0))
    batches = phase.batches
    if phase.shadow:
        batches = [(1, 0)] * len(phase.operations)
    queues = 1 + max(queue for _, queue in batches)
    controller = nvme.Controller(constant, constant, 0, 0, True, queues=queues, entries=doorbells.ENTRIES)
    steps = nvme.submitted(
        controller,
        np.array(phase.operations, np.uint8),
        np.array(phase.sizes, np.int64),
        np.array(phase.offsets, np.int64),
        np.array(batches, np.int64),
    )
    return counted(steps, controller)


def compare(data: Path) -> DataSet:
    """Compare every recording in a folder of reference data.

    Raises FormatError for one that cannot be read.
    """
    points: list[Point] = []
    missed: list[str] = []
    skipped: dict[str, int] = {}
    for path in sorted((data / FOLDER).glob(PATTERN)):
        run = path.name.split(".")[0]
        for name, phase in phases(path).items():
            if len(phase.operations) < LEAST_COMMANDS:
                skipped[f"{run} phases of fewer than {LEAST_COMMANDS} commands"] = (
                    skipped.get(f"{run} phases of fewer than {LEAST_COMMANDS} commands", 0) + 1
                )
                continue
            points += _points(f"{run} {name}", phase, missed)
    return DataSet(
        "nvme_driver",
        "What a Linux NVMe driver and its device exchange, given commands and submit batches",
        "per command",
        "phase",
        BAR_PCT,
        BAR_PCT,
        points=points,
        missed=missed,
        not_modelled=skipped,
    )


def _points(where: str, phase: Phase, missed: list[str]) -> Iterator[Point]:
    """Yield a point per count of a phase.  Modified in place: missed."""
    submitted = sum(count for count, _ in phase.batches)
    commands = len(phase.operations)
    if not phase.shadow and submitted != commands:
        missed.append(f"{where}: {submitted} commands submitted and {commands} fetched")
        phase.shadow = True
    ours = generated(phase)
    for name, measured in phase.counts.items():
        if phase.shadow and name in ("doorbells", "PRP entries", "list fetches", "list bytes"):
            continue
        modelled = ours.get(name, 0)
        if measured == 0 and modelled:
            missed.append(f"{where}: {name}: {modelled} where none was recorded")
        elif measured:
            yield Point(f"{where}: {name}", name, commands, measured / commands, modelled / commands)
    for name, modelled in ours.items():
        if modelled and not phase.counts.get(name, 0) and not phase.shadow:
            missed.append(f"{where}: {name}: {modelled} where none was recorded")
