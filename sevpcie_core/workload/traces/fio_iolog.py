"""Block I/O logs of fio (`write_iolog`), versions 2 and 3.

Version 3 lines are `time_us file action [offset length]`, times since the start of the job; version 2 lines
are `file action [offset length]`, and only `wait` moves the clock, by `offset` microseconds. Source: fio,
iolog.c (log_io_u, read_iolog) and HOWTO, "Trace file format v2" and "v3". (fio 3.33 itself replays a wait as
milliseconds since its start; what HOWTO documents is read here.) Version 2 as fio wrote it has no waits: all
its requests are issued at once. Reads, writes and trims keep their place; sync and datasync become flushes;
add, open and close move no data and are left out. All files of one log share one address space.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .fields import CLOCK, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, Rows, header, records, rows
from .records import NVME_DTYPE, NVME_FLUSH, NVME_READ, NVME_TRIM, NVME_WRITE, Records
from .source import MAX_CLOCK_PS, MAX_RECORD_BYTES
from .values import clock, size, whole

HEADER: Final = re.compile(r"fio version (\d+) iolog\s*", re.ASCII)

_ACTIONS: Final = {
    "read": NVME_READ,
    "write": NVME_WRITE,
    "trim": NVME_TRIM,
    "sync": NVME_FLUSH,
    "datasync": NVME_FLUSH,
}
_LEFT_OUT: Final = ("add", "open", "close")
_WAIT: Final = "wait"
_WAITED: Final = 100
"""Operation of a row that moves the clock of version 2, until it has."""
_WORDS: Final = (*_ACTIONS, *_LEFT_OUT)
_OPS: Final = np.array([*_ACTIONS.values(), *(-2 for _ in _LEFT_OUT), _WAITED, -1], np.int64)
"""Operation by place of the word: -2 for a line that is left out, -1 for an unknown word."""
_MICROSECOND: Final = 6
_MAX_OFFSET: Final = 2**62
_MAX_WAIT_US: Final = MAX_CLOCK_PS // 10**_MICROSECOND
_NAMES: Final = ("file", "action", "offset", "length")


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the reads, writes, trims and syncs of an iolog.

    Yields: NVME_DTYPE[n], in file order. Raises: FormatError: naming file, line and field.
    """
    first = header(path)
    found = HEADER.fullmatch(first)
    if found is None:
        raise FormatError(f"{path}:1: header: not an iolog; expected 'fio version 3 iolog'")
    if found[1] not in ("2", "3"):
        raise FormatError(f"{path}:1: header: version {found[1]}; expected 2 or 3")
    timed = found[1] == "3"
    names = ("time_us", *_NAMES) if timed else _NAMES
    parts = _rows(path, bad, names, timed)
    if not timed:
        parts = _waited(parts)
    return records(parts, Clock(path, bad, _MICROSECOND, "time"), NVME_DTYPE)


def _rows(path: Path, bad: Bad, names: tuple[str, ...], timed: bool) -> Iterator[Rows]:
    width = len(names)
    expected = " ".join(names)
    action, offset, length = width - 3, width - 2, width - 1
    words = _WORDS if timed else (*_WORDS, _WAIT)
    columns = [Column(action, WORD, words), Column(offset, WHOLE), Column(length, WHOLE)]
    if timed:
        columns.append(Column(0, CLOCK, digits=_MICROSECOND))

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        ops = _OPS[np.where(fields > action, values[:, 0], -1)]
        at, sizes = values[:, 1], values[:, 2]
        table = np.zeros((len(values), 6), np.int64)
        flush = ops == NVME_FLUSH
        taken = (ops >= 0) & (fields == width)
        taken &= flush | ((at >= 0) & (at <= _MAX_OFFSET) & (sizes > 0) & (sizes <= MAX_RECORD_BYTES))
        if timed:
            taken &= values[:, 3] != ODD
            table[:, 0:2] = values[:, 3:5]
        else:
            waits = (ops == _WAITED) & (at >= 0) & (at <= _MAX_WAIT_US)
            taken = np.where(ops == _WAITED, waits, taken)
            table[:, 0] = np.where(waits, at, 0)
        table[:, 2] = ops
        table[:, 3] = np.where(flush, 0, at)
        table[:, 4] = np.where(flush, 0, sizes)
        return table, taken, ops == -2

    def slow(found: list[str]) -> Row | None:
        word = found[action] if len(found) > action else ""
        if word in _LEFT_OUT:
            return None
        if word == _WAIT and not timed and len(found) > offset:
            return whole(found[offset], "wait", _MAX_WAIT_US), 0, _WAITED, 0, 0, 0
        op = _ACTIONS.get(word)
        if op is None:
            raise Malformed(f"{' '.join(found)[:60]!r}; expected {expected}")
        if len(found) != width:
            raise Malformed(f"{len(found)} fields; expected {width}: {expected}")
        time = clock(found[0], "time", _MICROSECOND, "microseconds") if timed else (0, 0)
        if op == NVME_FLUSH:
            return (*time, op, 0, 0, 0)
        return (*time, op, whole(found[offset], "offset"), size(found[length], "length"), 0)

    return rows(path, bad, Layout(" \t", columns), fast, slow, skip=1)


def _waited(parts: Iterator[Rows]) -> Iterator[Rows]:
    """Give each row of version 2 the sum of the waits before it, and leave out the waits."""
    clock_us = 0
    for part in parts:
        table = part.table
        table[:, 0] = np.cumsum(table[:, 0]) + clock_us
        if len(table):
            # Far beyond what any record may say, and far below what 64 bits hold.
            clock_us = min(int(table[-1, 0]), 10**17)
        moves = table[:, 2] != _WAITED
        yield Rows(table[moves], part.lines[moves])
