"""Block traces of MSR Cambridge, as SNIA's IOTTA repository hands them out.

Rows, without a header: `Timestamp,Hostname,DiskNumber,Type,Offset,Size,ResponseTime`. Timestamp counts 100 ns
since 1601 (Windows filetime), Type is Read or Write, Offset and Size are bytes. Source: the repository's
README of "MSR Cambridge Traces". Hosts and disks share one address space; the response time is not used: how
long a device takes is a question for the simulator. These traces are a week long: cut and speed them up.
Untried on real files.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from .bad import Bad
from .fields import CLOCK, ODD, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, header, records, rows
from .records import NVME_DTYPE, NVME_READ, NVME_WRITE, Records
from .source import MAX_RECORD_BYTES
from .values import clock, size, whole

COLUMNS: Final = ("Timestamp", "Hostname", "DiskNumber", "Type", "Offset", "Size", "ResponseTime")
HEADER: Final = re.compile(r"\s*,\s*".join(COLUMNS), re.IGNORECASE)
"""Some copies have one."""
RECORD: Final = re.compile(r"\d{17,18},[^,]*,\d+,(read|write),\d+,\d+,\d*", re.ASCII | re.IGNORECASE)

_WORDS: Final = ("Read", "Write", "read", "write", "READ", "WRITE")
_OPS: Final = np.array([NVME_READ, NVME_WRITE] * 3 + [-1], np.int64)
_TYPES: Final = {"read": NVME_READ, "write": NVME_WRITE}
_TICK: Final = 5
"""100 ns are 10^5 ps."""
_MAX_OFFSET: Final = 2**62


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the reads and writes of a trace.

    Yields: NVME_DTYPE[n], in file order. Raises: FormatError: naming file, line and field.
    """
    columns = [Column(0, CLOCK, digits=_TICK), Column(3, WORD, _WORDS), Column(4, WHOLE), Column(5, WHOLE)]

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        sound = fields == len(COLUMNS)
        ops = _OPS[np.where(sound, values[:, 2], -1)]
        offsets, sizes = values[:, 3], values[:, 4]
        taken = sound & (ops >= 0) & (values[:, 0] != ODD) & (offsets >= 0) & (offsets <= _MAX_OFFSET)
        taken &= (sizes > 0) & (sizes <= MAX_RECORD_BYTES)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 0:2]
        table[:, 2] = ops
        table[:, 3] = offsets
        table[:, 4] = sizes
        return table, taken, np.zeros(len(values), np.bool_)

    def slow(found: list[str]) -> Row:
        op = _TYPES.get(found[3].strip().lower())
        if op is None:
            raise Malformed(f"Type: {found[3][:40]!r}; expected Read or Write")
        time = clock(found[0], "Timestamp", _TICK, "ticks of 100 ns")
        return (*time, op, whole(found[4], "Offset", _MAX_OFFSET), size(found[5], "Size"), 0)

    skip = 1 if HEADER.fullmatch(header(path).strip()) else 0
    parts = rows(path, bad, Layout(",", columns, len(COLUMNS)), fast, slow, skip)
    return records(parts, Clock(path, bad, _TICK, "Timestamp"), NVME_DTYPE)
