"""NVMe commands out of the log of QEMU's controller: `-trace 'pci_nvme_*' -msg timestamp=on -D FILE`.

Lines are `PID@SECONDS.MICROSECONDS:EVENT NAME VALUE NAME VALUE ...`. Source: QEMU, hw/nvme/trace-events and
scripts/tracetool/backend/log.py. Commands are `pci_nvme_read`, `pci_nvme_write` (its opname tells a write
from write zeroes), and of `pci_nvme_io_cmd` those with opcode 0 (flush) and 9 (dataset management: a trim,
whose ranges follow elsewhere, so without bytes). The submission queue is that of the `pci_nvme_io_cmd`
before, 0 if the log has none. All other events are left out; reads of the firmware at the start are not.
Offsets are block numbers times the block size, which is `count` over `nlb`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from .bad import Bad
from .fields import CLOCK, NUMBER, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, Rows, records, rows
from .records import (
    MAX_QUEUE,
    NVME_DTYPE,
    NVME_FLUSH,
    NVME_READ,
    NVME_TRIM,
    NVME_WRITE,
    NVME_WRITE_ZEROES,
    Records,
)
from .source import MAX_RECORD_BYTES
from .values import clock, is_whole, number

RECORD: Final = re.compile(r"\d+@\d+\.\d+:\w+( .*)?", re.ASCII)
WITHOUT_TIME: Final = re.compile(r"pci_nvme_\w+( .*)?", re.ASCII)

_READ: Final = "pci_nvme_read"
_WRITE: Final = "pci_nvme_write"
_COMMAND: Final = "pci_nvme_io_cmd"
_EVENTS: Final = (_READ, _WRITE, _COMMAND)
_ZEROES: Final = "'NVME_NVM_CMD_WRITE_ZEROES'"
# What pci_nvme_write is about, and what of it the fast path knows.
_OPNAME: Final = ("opname",)
_OPNAMES: Final = ("'NVME_NVM_CMD_WRITE'", _ZEROES)
# NVM Express NVM Command Set Specification 1.0, figure 12: opcodes.
_FLUSH_OPCODE: Final = 0x00
_DSM_OPCODE: Final = 0x09
_OF_COMMAND: Final = {_FLUSH_OPCODE: NVME_FLUSH, _DSM_OPCODE: NVME_TRIM}
_QUEUED: Final = 100
"""Operation of a row that only names the queue of the rows behind it."""

_LEAST: Final = 3
"""Fields of an event without values."""
_SECOND: Final = 12
_MAX_OPCODE: Final = 0xFF
_MAX_LBA: Final = 2**44
_MAX_BLOCK: Final = 2**16
# With @ and : as separators: pid, time, event, then names and values. A write has its opname in between.
_LABELS: Final = ("nlb", "count", "lba", "sqid", "opc")
_NLB, _COUNT, _LBA, _SQID, _OPC = range(5)


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the I/O commands of a log.

    Yields: NVME_DTYPE[n], in file order. Raises: FormatError: naming file, line and field.
    """
    columns = [
        Column(0, WHOLE),
        Column(1, CLOCK, digits=_SECOND),
        Column(2, WORD, _EVENTS, keep=len(_EVENTS), unknown=True),
        Column(5, WORD, _OPNAME),
        Column(6, WORD, _OPNAMES),
        Column(7, WORD, _LABELS),
        Column(8, NUMBER),
        Column(9, WORD, _LABELS),
        Column(10, NUMBER),
        Column(11, WORD, _LABELS),
        Column(12, NUMBER),
        Column(13, WORD, _LABELS),
        Column(14, NUMBER),
    ]
    parts = rows(path, bad, Layout(" \t@:", columns, _LEAST), _fast, _slow)
    return records(_queued(parts), Clock(path, bad, _SECOND, "time"), NVME_DTYPE)


def _fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
    event_line = (fields >= _LEAST) & (values[:, 0] >= 0) & (values[:, 1] != ODD)
    event = np.where(event_line, values[:, 3], -2)
    read, write = event == 0, event == 1
    read &= (fields == 13) & (values[:, 6] == _NLB) & (values[:, 8] == _COUNT) & (values[:, 10] == _LBA)
    write &= (fields == 15) & (values[:, 8] == _NLB) & (values[:, 10] == _COUNT) & (values[:, 12] == _LBA)
    write &= (values[:, 4] == 0) & (values[:, 5] >= 0)
    command = (event == 2) & (fields >= 11) & (values[:, 6] == _SQID) & (values[:, 8] == _OPC)
    blocks = np.where(read, values[:, 7], values[:, 9])
    counts = np.where(read, values[:, 9], values[:, 11])
    first = np.where(read, values[:, 11], values[:, 13])
    size = counts // np.where(blocks > 0, blocks, 1)
    good = (blocks > 0) & (blocks <= _MAX_BLOCK) & (counts > 0) & (counts <= MAX_RECORD_BYTES)
    good &= (size * blocks == counts) & (size <= _MAX_BLOCK) & (first >= 0) & (first < _MAX_LBA)
    command &= (values[:, 7] >= 0) & (values[:, 7] <= MAX_QUEUE)
    command &= (values[:, 9] >= 0) & (values[:, 9] <= _MAX_OPCODE)
    moves = (read | write) & good

    table = np.zeros((len(values), 6), np.int64)
    table[:, 0:2] = values[:, 1:3]
    table[:, 2] = np.where(read, NVME_READ, np.where(values[:, 5] == 1, NVME_WRITE_ZEROES, NVME_WRITE))
    table[:, 3] = np.where(moves, first, 0) * np.where(moves, size, 0)
    table[:, 4] = np.where(moves, counts, 0)
    table[command, 2] = _QUEUED
    table[command & (values[:, 9] == _FLUSH_OPCODE), 2] = NVME_FLUSH
    table[command & (values[:, 9] == _DSM_OPCODE), 2] = NVME_TRIM
    table[:, 5] = np.where(command, values[:, 7], 0)
    return table, moves | command, np.zeros(len(values), np.bool_)


def _slow(found: list[str]) -> Row | None:
    if len(found) < _LEAST or not is_whole(found[0]):
        raise Malformed(f"{' '.join(found)[:60]!r}; expected PID@SECONDS:EVENT ... as with -msg timestamp=on")
    time = clock(found[1], "time", _SECOND, "seconds")
    event = found[2]
    if event not in _EVENTS:
        return None
    named = dict(zip(found[3::2], found[4::2], strict=False))

    def value(name: str, most: int) -> int:
        if name not in named:
            raise Malformed(f"{name}: none in {event}; expected a number")
        return number(named[name], name, most)

    if event == _COMMAND:
        queue = value("sqid", MAX_QUEUE)
        op = _OF_COMMAND.get(value("opc", _MAX_OPCODE), _QUEUED)
        return (*time, op, 0, 0, queue)
    blocks, count = value("nlb", _MAX_BLOCK), value("count", MAX_RECORD_BYTES)
    if not blocks or not count or count % blocks or count // blocks > _MAX_BLOCK:
        raise Malformed(f"count: {count} for nlb {blocks}; expected a multiple, a block of at most 64 KiB")
    op = NVME_READ
    if event == _WRITE:
        op = NVME_WRITE_ZEROES if named.get("opname") == _ZEROES else NVME_WRITE
    return (*time, op, value("lba", _MAX_LBA - 1) * (count // blocks), count, 0)


def _queued(parts: Iterator[Rows]) -> Iterator[Rows]:
    """Give each row the queue of the command line before it, and leave out what only named a queue."""
    queue = 0
    for part in parts:
        ops, queues = part.table[:, 2], part.table[:, 5]
        names = (ops == _QUEUED) | (ops == NVME_FLUSH) | (ops == NVME_TRIM)
        last = np.maximum.accumulate(np.where(names, np.arange(len(names)), -1))
        part.table[:, 5] = np.where(last >= 0, queues[last], queue)
        if len(names):
            queue = int(part.table[-1, 5])
        keep = ops != _QUEUED
        yield Rows(part.table[keep], part.lines[keep])
