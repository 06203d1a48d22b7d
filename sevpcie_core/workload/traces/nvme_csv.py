"""NVMe commands out of a CSV of device interactions: what a driver and a controller said to each other.

Columns, in any order: `time_us`, `event`, `address`, `length`; optional `qid` (submission queue); others are
ignored, except that rows whose optional `phase` is `marker` (reads that separate the phases of a recording)
are left out. Of the events only `read`, `write` (address: first 512-byte block, length: bytes), `flush` and
`dsm_trim` are commands of the application; doorbells, fetches and transfers are what a simulator derives from
them. A trim's ranges are not in such a recording: it has no bytes.

Where doorbells are asked for, the events `mmio_write_sq_doorbell` (address: of the register, `arg`: the new
tail) and `create_sq` (length: of the ring, in bytes) count, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from . import doorbells
from .bad import Bad
from .csv_header import Header
from .fields import CLOCK, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Row, records, rows
from .records import (
    MAX_QUEUE,
    NVME_DTYPE,
    NVME_FLUSH,
    NVME_READ,
    NVME_RUNG_DTYPE,
    NVME_TRIM,
    NVME_WRITE,
    Records,
)
from .source import MAX_RECORD_BYTES
from .values import clock, number, size, whole

COLUMNS: Final = ("time_us", "event", "address", "length")

_EVENTS: Final = {"read": NVME_READ, "write": NVME_WRITE, "flush": NVME_FLUSH, "dsm_trim": NVME_TRIM}
_BELL: Final = "mmio_write_sq_doorbell"
_CREATE: Final = "create_sq"
# By place among the words of the gate; the last one is for none of them.
_OPS: Final = np.array([*_EVENTS.values(), -1, -1, -1], np.int64)
_MICROSECOND: Final = 6
_BLOCK: Final = 512
_MAX_BLOCK: Final = 2**53 - 1
_MARKER: Final = "marker"


def batches(path: Path, bad: Bad, rung: bool = False) -> Iterator[Records]:
    """Read the read, write, flush and trim commands of a driver trace.

    rung : with their doorbells.

    Yields: NVME_DTYPE[n], or NVME_RUNG_DTYPE, in file order; offsets in bytes.
    Raises: FormatError: naming file, line and field.
    """
    header = Header(path, (*COLUMNS, "arg") if rung else COLUMNS)
    at_t, at_event, at_address, at_length = (header.column(name) for name in COLUMNS)
    at_phase, at_queue, at_tail = header.column("phase"), header.column("qid"), header.column("arg")
    words = (*_EVENTS, _BELL, _CREATE) if rung else tuple(_EVENTS)
    columns = [
        Column(at_event, WORD, words, keep=len(words), unknown=True),
        Column(at_t, CLOCK, digits=_MICROSECOND),
        Column(at_address, WHOLE),
        Column(at_length, WHOLE),
        Column(max(at_queue, 0), WHOLE),
        Column(max(at_phase, 0), WORD, (_MARKER,)),
    ]

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        sound = fields == header.width
        ops = _OPS[np.where(sound, values[:, 0], -1)]
        none = (values[:, 6] == 0) & (at_phase >= 0)
        blocks, sizes = values[:, 3], values[:, 4]
        moves = (ops == NVME_READ) | (ops == NVME_WRITE)
        in_range = (blocks >= 0) & (blocks <= _MAX_BLOCK) & (sizes > 0) & (sizes <= MAX_RECORD_BYTES)
        taken = (ops >= 0) & ~none & (values[:, 1] != ODD) & (~moves | in_range)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 1:3]
        table[:, 2] = ops
        table[:, 3] = np.where(moves & taken, blocks, 0) * _BLOCK
        table[:, 4] = np.where(moves, sizes, 0)
        if at_queue >= 0:
            taken &= (values[:, 5] >= 0) & (values[:, 5] <= MAX_QUEUE)
            table[:, 5] = values[:, 5]
        # Commands that separate phases had their doorbells, too.
        return table, taken, none & (not rung)

    def slow(found: list[str]) -> Row | None:
        event = found[at_event].strip()
        op = _EVENTS.get(event)
        if rung and event in (_BELL, _CREATE):
            return told(found, event)
        aside = at_phase >= 0 and found[at_phase].strip() == _MARKER
        if op is None or (aside and not rung):
            return None
        time = clock(found[at_t], "time_us", _MICROSECOND, "microseconds")
        queue = 0
        if at_queue >= 0 and found[at_queue].strip():
            queue = whole(found[at_queue], "qid", MAX_QUEUE)
        if aside:
            return (*time, op | doorbells.ASIDE, 0, 0, queue)
        if op not in (NVME_READ, NVME_WRITE):
            return (*time, op, 0, 0, queue)
        length = size(found[at_length], "length")
        return (*time, op, whole(found[at_address], "address", _MAX_BLOCK) * _BLOCK, length, queue)

    def told(found: list[str], event: str) -> Row | None:
        time = clock(found[at_t], "time_us", _MICROSECOND, "microseconds")
        if event == _CREATE:
            size = whole(found[at_length], "length", doorbells.MOST_BYTES)
            queue = whole(found[at_queue], "qid", MAX_QUEUE) if at_queue >= 0 else 0
            return (*time, doorbells.CREATED, doorbells.entries_of(size), 0, queue)
        address = number(found[at_address], "address", doorbells.MOST_ADDRESS)
        queue = doorbells.queue_of(address)
        tail = whole(found[at_tail], "arg", doorbells.MOST_ENTRIES)
        # The first queue is for administration.
        return (*time, doorbells.RUNG, tail, 0, queue) if queue > 0 else None

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    dtype = NVME_DTYPE
    if rung:
        parts, dtype = doorbells.with_doorbells(parts, path, bad, _EVENTS.values()), NVME_RUNG_DTYPE
    return records(parts, Clock(path, bad, _MICROSECOND, "time_us"), dtype)
