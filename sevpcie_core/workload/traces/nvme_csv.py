"""NVMe commands out of a CSV of device interactions: what a driver and a controller said to each other.

Columns, in any order: `time_us`, `event`, `address`, `length`; others are ignored, except that rows whose
optional `phase` is `marker` (reads that separate the phases of a recording) are left out. Of the events
only `read`, `write` (address: first 512-byte block, length: bytes) and `flush` are commands of the
application; doorbells, fetches and transfers are what a simulator derives from them.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .records import NVME_DTYPE, NVME_FLUSH, NVME_READ, NVME_WRITE, Records
from .source import MAX_RECORD_BYTES, times_ps, whole_numbers
from .table import Table

COLUMNS = ("time_us", "event", "address", "length")

_OPS = {"read": NVME_READ, "write": NVME_WRITE, "flush": NVME_FLUSH}
_BLOCK = 512
_MARKER = "marker"


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the read, write and flush commands of a driver trace.

    Yields: NVME_DTYPE[n], in file order.
    Raises: FormatError: naming file, line and field.
    """
    table = Table(path, COLUMNS)
    at_t, at_event, at_address, at_length = (table.column(name) for name in COLUMNS)
    at_phase = table.column("phase")
    rows: list[int] = []
    times: list[str] = []
    ops: list[int] = []
    blocks: list[str] = []
    sizes: list[str] = []
    for line, row in table:
        op = _OPS.get(row[at_event])
        if op is None or (at_phase >= 0 and row[at_phase] == _MARKER):
            continue
        size = row[at_length]
        if op != NVME_FLUSH and size.strip("0. ") == "":
            raise FormatError(f"{path}:{line}: length: {size!r}; expected 1 or more bytes")
        rows.append(line)
        times.append(row[at_t])
        ops.append(op)
        blocks.append("0" if op == NVME_FLUSH else row[at_address])
        sizes.append("0" if op == NVME_FLUSH else size)
    if not rows:
        return
    commands = np.zeros(len(rows), dtype=NVME_DTYPE)
    commands["t_ps"] = times_ps(path, times, rows, "time_us")
    commands["op"] = ops
    first = whole_numbers(path, blocks, rows, "address")
    if first.max() >= 2**62 // _BLOCK:
        line = rows[int(np.argmax(first))]
        raise FormatError(f"{path}:{line}: address: {first.max()}; expected a block number below 2^53")
    commands["offset"] = first * _BLOCK
    commands["bytes"] = whole_numbers(path, sizes, rows, "length", MAX_RECORD_BYTES)
    bad.place = lambda i: f"{path}:{rows[i]}"
    yield commands
