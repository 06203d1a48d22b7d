"""Block I/O logs of fio (`write_iolog`), versions 2 and 3.

Version 3 lines are `time_us file action [offset length]`, times since the start of the job; version 2 lines
are `file action [offset length]`, and only `wait` moves the clock, by `offset` microseconds. Source: fio,
iolog.c (log_io_u, read_iolog) and HOWTO, "Trace file format v2" and "v3". Reads and writes keep their
place; sync and datasync become flushes; add, open, close and trim move no data and are left out. All files
of one log share one address space.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .records import NVME_DTYPE, NVME_FLUSH, NVME_READ, NVME_WRITE, Records
from .source import MAX_RECORD_BYTES, lines, times_ps, whole_numbers

HEADER = re.compile(r"fio version (\d+) iolog\s*")

_OPS = {"read": NVME_READ, "write": NVME_WRITE, "sync": NVME_FLUSH, "datasync": NVME_FLUSH}
_LEFT_OUT = frozenset({"add", "open", "close", "trim"})
_WAIT = "wait"


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the reads, writes and syncs of an iolog.

    Yields: NVME_DTYPE[n], in file order.
    Raises: FormatError: naming file, line and field.
    """
    source = lines(path)
    header = HEADER.fullmatch(next(source))
    if header is None:
        raise FormatError(f"{path}:1: header: not an iolog; expected 'fio version 3 iolog'")
    if header[1] not in ("2", "3"):
        raise FormatError(f"{path}:1: header: version {header[1]}; expected 2 or 3")
    timed = header[1] == "3"
    expected = "time_us file action offset length" if timed else "file action offset length"
    width = 5 if timed else 4
    rows: list[int] = []
    times: list[str] = []
    ops: list[int] = []
    offsets: list[str] = []
    sizes: list[str] = []
    waited_us = 0
    for line, text in enumerate(source, start=2):
        fields = text.split()
        if not fields:
            continue
        action = fields[width - 3] if len(fields) >= width - 2 else ""
        op = _OPS.get(action)
        if op is None:
            if action == _WAIT and not timed and len(fields) >= 3:
                waited_us += int(whole_numbers(path, [fields[2]], [line], "wait")[0])
            elif action not in _LEFT_OUT:
                raise FormatError(f"{path}:{line}: {text.strip()[:60]!r}; expected {expected}")
            continue
        if len(fields) != width:
            raise FormatError(f"{path}:{line}: {len(fields)} fields; expected {width}: {expected}")
        if op != NVME_FLUSH and fields[-1].strip("0.") == "":
            raise FormatError(f"{path}:{line}: length: {fields[-1]!r}; expected 1 or more bytes")
        rows.append(line)
        times.append(fields[0] if timed else str(waited_us))
        ops.append(op)
        offsets.append("0" if op == NVME_FLUSH else fields[-2])
        sizes.append("0" if op == NVME_FLUSH else fields[-1])
    if not rows:
        return
    commands = np.zeros(len(rows), dtype=NVME_DTYPE)
    commands["t_ps"] = times_ps(path, times, rows, "time")
    commands["op"] = ops
    commands["offset"] = whole_numbers(path, offsets, rows, "offset")
    commands["bytes"] = whole_numbers(path, sizes, rows, "length", MAX_RECORD_BYTES)
    bad.place = lambda i: f"{path}:{rows[i]}"
    yield commands
