"""One plain CSV for each kind of device, for traces that no other program writes.

The header names the columns, in any order; others are ignored. Times are microseconds, fractions down to a
picosecond count.

    nvme:  time_us, op, bytes, and optionally offset, queue     op: read write flush trim write_zeroes
    nic:   time_us, bytes, direction                            direction: rx tx
    gpu:   time_us, duration_us, kind, bytes, optionally stream kind: h2d d2h kernel memset d2d

A flush has no bytes and no offset whatever stands there; a trim may have 0 bytes. Bytes of a frame count its
Ethernet header and not its frame check sequence. Rows of a GPU may lie in any order; a kernel, a memset or a
copy within the device (d2d) moves nothing over the link.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from .bad import Bad
from .csv_header import Header
from .fields import CLOCK, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, records, rows
from .records import (
    GPU_D2H,
    GPU_DTYPE,
    GPU_H2D,
    GPU_WORK,
    MAX_QUEUE,
    MAX_STREAM,
    NIC_DTYPE,
    NIC_RX,
    NIC_TX,
    NVME_DTYPE,
    NVME_FLUSH,
    NVME_READ,
    NVME_TRIM,
    NVME_WRITE,
    NVME_WRITE_ZEROES,
    Records,
)
from .source import MAX_RECORD_BYTES, MAX_SPAN_PS
from .values import clock, duration_ps, size, whole

NVME_COLUMNS: Final = ("time_us", "op", "bytes")
NIC_COLUMNS: Final = ("time_us", "bytes", "direction")
GPU_COLUMNS: Final = ("time_us", "duration_us", "kind", "bytes")

_NVME_OPS: Final = {
    "read": NVME_READ,
    "write": NVME_WRITE,
    "flush": NVME_FLUSH,
    "trim": NVME_TRIM,
    "write_zeroes": NVME_WRITE_ZEROES,
}
_DIRECTIONS: Final = {"rx": NIC_RX, "tx": NIC_TX}
_KINDS: Final = {"h2d": GPU_H2D, "d2h": GPU_D2H, "kernel": GPU_WORK, "memset": GPU_WORK, "d2d": GPU_WORK}
_MICROSECOND: Final = 6
_MAX_OFFSET: Final = 2**62
# libpcap, MAXIMUM_SNAPLEN: as long as a captured packet may be.
_MAX_FRAME: Final = 262144
_MAX_DURATION_US: Final = MAX_SPAN_PS // 10**_MICROSECOND


def _codes(words: dict[str, int]) -> Ints:
    """Code by place of the word, and -1 for place -1."""
    return np.array([*words.values(), -1], np.int64)


def _code(words: dict[str, int], text: str, field: str) -> int:
    code = words.get(text.strip())
    if code is None:
        *most, last = words
        raise Malformed(f"{field}: {text[:40]!r}; expected {', '.join(most)} or {last}")
    return code


def _in(values: Ints, least: int | Ints, most: int) -> Flags:
    return (values >= least) & (values <= most)


def _optional(header: Header, name: str, most: int) -> tuple[Column, Callable[[list[str]], int], bool]:
    """Return an optional column, its reader for a line, and whether the file has it. Empty means 0."""
    at = header.column(name)

    def read(found: list[str]) -> int:
        return whole(found[at], name, most) if at >= 0 and found[at].strip() else 0

    return Column(max(at, 0), WHOLE), read, at >= 0


def _none(values: Ints) -> Flags:
    return np.zeros(len(values), np.bool_)


def nvme(path: Path, bad: Bad) -> Iterator[Records]:
    """Read NVMe commands. Yields: NVME_DTYPE[n], in file order. Raises: FormatError."""
    header = Header(path, NVME_COLUMNS)
    at_t, at_op, at_bytes = (header.column(name) for name in NVME_COLUMNS)
    offset, offset_of, placed = _optional(header, "offset", _MAX_OFFSET)
    queue, queue_of, queued = _optional(header, "queue", MAX_QUEUE)
    time = Column(at_t, CLOCK, digits=_MICROSECOND)
    columns = [time, Column(at_op, WORD, tuple(_NVME_OPS)), Column(at_bytes, WHOLE), offset, queue]
    codes = _codes(_NVME_OPS)

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        ops = codes[np.where(fields == header.width, values[:, 2], -1)]
        flush, trim = ops == NVME_FLUSH, ops == NVME_TRIM
        taken = (ops >= 0) & (values[:, 0] != ODD)
        taken &= flush | _in(values[:, 3], np.where(trim, 0, 1), MAX_RECORD_BYTES)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 0:2]
        table[:, 2] = ops
        table[:, 4] = np.where(flush, 0, values[:, 3])
        if placed:
            taken &= flush | _in(values[:, 4], 0, _MAX_OFFSET)
            table[:, 3] = np.where(flush, 0, values[:, 4])
        if queued:
            taken &= _in(values[:, 5], 0, MAX_QUEUE)
            table[:, 5] = values[:, 5]
        return table, taken, _none(values)

    def slow(found: list[str]) -> Row:
        op = _code(_NVME_OPS, found[at_op], "op")
        at = clock(found[at_t], "time_us", _MICROSECOND, "microseconds")
        if op == NVME_FLUSH:
            return (*at, op, 0, 0, queue_of(found))
        if op == NVME_TRIM:
            moved = whole(found[at_bytes], "bytes", MAX_RECORD_BYTES)
        else:
            moved = size(found[at_bytes], "bytes")
        return (*at, op, offset_of(found), moved, queue_of(found))

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    return records(parts, Clock(path, bad, _MICROSECOND, "time_us"), NVME_DTYPE)


def nic(path: Path, bad: Bad) -> Iterator[Records]:
    """Read frames. Yields: NIC_DTYPE[n], in file order. Raises: FormatError."""
    header = Header(path, NIC_COLUMNS)
    at_t, at_bytes, at_direction = (header.column(name) for name in NIC_COLUMNS)
    time = Column(at_t, CLOCK, digits=_MICROSECOND)
    columns = [time, Column(at_bytes, WHOLE), Column(at_direction, WORD, tuple(_DIRECTIONS))]
    codes = _codes(_DIRECTIONS)

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        directions = codes[np.where(fields == header.width, values[:, 3], -1)]
        taken = (directions >= 0) & (values[:, 0] != ODD) & _in(values[:, 2], 1, _MAX_FRAME)
        return np.column_stack((values[:, :3], directions)), taken, _none(values)

    def slow(found: list[str]) -> Row:
        direction = _code(_DIRECTIONS, found[at_direction], "direction")
        at = clock(found[at_t], "time_us", _MICROSECOND, "microseconds")
        length = whole(found[at_bytes], "bytes", _MAX_FRAME)
        if not length:
            raise Malformed(f"bytes: {found[at_bytes]!r}; expected 1 or more bytes")
        return (*at, length, direction)

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    return records(parts, Clock(path, bad, _MICROSECOND, "time_us"), NIC_DTYPE)


def gpu(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the work of a GPU. Yields: GPU_DTYPE[n], in file order. Raises: FormatError."""
    header = Header(path, GPU_COLUMNS)
    at_t, at_duration, at_kind, at_bytes = (header.column(name) for name in GPU_COLUMNS)
    stream, stream_of, streamed = _optional(header, "stream", MAX_STREAM)
    clocks = [Column(at, CLOCK, digits=_MICROSECOND) for at in (at_t, at_duration)]
    columns = [*clocks, Column(at_kind, WORD, tuple(_KINDS)), Column(at_bytes, WHOLE), stream]
    codes = _codes(_KINDS)

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        kinds = codes[np.where(fields == header.width, values[:, 4], -1)]
        taken = (kinds >= 0) & (values[:, 0] != ODD) & _in(values[:, 2], 0, _MAX_DURATION_US - 1)
        taken &= _in(values[:, 5], np.where(kinds == GPU_WORK, 0, 1), MAX_RECORD_BYTES)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 0:2]
        table[:, 2] = np.where(taken, values[:, 2], 0) * 10**_MICROSECOND + values[:, 3]
        table[:, 3] = kinds
        table[:, 4] = values[:, 5]
        if streamed:
            taken &= _in(values[:, 6], 0, MAX_STREAM)
            table[:, 5] = values[:, 6]
        return table, taken, _none(values)

    def slow(found: list[str]) -> Row:
        kind = _code(_KINDS, found[at_kind], "kind")
        at = clock(found[at_t], "time_us", _MICROSECOND, "microseconds")
        duration = duration_ps(found[at_duration], "duration_us")
        if kind == GPU_WORK:
            moved = whole(found[at_bytes].strip() or "0", "bytes", MAX_RECORD_BYTES)
        else:
            moved = size(found[at_bytes], "bytes", "1 or more for a copy over the link")
        return (*at, duration, kind, moved, stream_of(found))

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    return records(parts, Clock(path, bad, _MICROSECOND, "time_us"), GPU_DTYPE)
