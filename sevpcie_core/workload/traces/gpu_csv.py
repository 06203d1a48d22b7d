"""GPU jobs as CSV: one row per copy, kernel or API call, as profilers list them.

Columns, in any order: `t_us` start, `dur_us`, `event` (memcpy, kernel, memset, runtime), `name`, `bytes`;
optional `stream` (without it all work forms one stream) and others, which are ignored. `runtime` rows
belong to the CPU and are left out. The direction of a copy is read from its name: HtoD, DtoH, DtoD, PtoP,
HtoH as CUPTI abbreviates them. Rows may lie in any order.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from .bad import PAGEABLE_BYTES, Bad
from .csv_header import Header
from .fields import CLOCK, DIRECTION, ODD, WAYS, WHOLE, WORD
from .lines import Clock, Column, Flags, Ints, Layout, Malformed, Row, records, rows
from .records import GPU_D2H, GPU_DTYPE, GPU_H2D, GPU_WORK, MAX_STREAM, Records
from .source import MAX_RECORD_BYTES, MAX_SPAN_PS
from .values import clock, duration_ps, size, whole

COLUMNS: Final = ("t_us", "dur_us", "event", "name", "bytes")

_MEMCPY: Final = "memcpy"
_WORK: Final = ("kernel", "memset")
_RUNTIME: Final = "runtime"
_EVENTS: Final = (_MEMCPY, *_WORK)
DIRECTIONS: Final = np.array(2 * [GPU_H2D, GPU_D2H, GPU_WORK, GPU_WORK, GPU_WORK] + [-1], np.int64)
"""Kind of a copy by place of its direction, as `fields.DIRECTION` says."""
_PAGEABLE: Final = re.compile("pageable", re.IGNORECASE | re.ASCII)
_COPY: Final = re.compile(r"\b(?:(HtoD)|(DtoH)|DtoD|PtoP|HtoH)\b", re.IGNORECASE | re.ASCII)
_MICROSECOND: Final = 6
_MAX_DURATION_US: Final = MAX_SPAN_PS // 10**_MICROSECOND


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the device work of a GPU job.

    Yields: GPU_DTYPE[n], in file order. Raises: FormatError: naming file, line and field.
    """
    header = Header(path, COLUMNS)
    at_t, at_duration, at_event, at_name, at_bytes = (header.column(name) for name in COLUMNS)
    at_stream = header.column("stream")
    columns = [
        Column(at_event, WORD, (*_EVENTS, _RUNTIME), keep=len(_EVENTS)),
        Column(at_t, CLOCK, digits=_MICROSECOND),
        Column(at_duration, CLOCK, digits=_MICROSECOND),
        Column(at_name, DIRECTION),
        Column(at_bytes, WHOLE),
        Column(max(at_stream, 0), WHOLE),
    ]

    def fast(values: Ints, fields: Ints) -> tuple[Ints, Flags, Flags]:
        sound = fields == header.width
        events = np.where(sound, values[:, 0], -1)
        kinds = np.where(events == 0, DIRECTIONS[np.where(sound, values[:, 5], -1)], GPU_WORK)
        sizes = values[:, 6]
        taken = (events >= 0) & (kinds >= 0) & (values[:, 1] != ODD)
        taken &= (values[:, 3] >= 0) & (values[:, 3] < _MAX_DURATION_US)
        taken &= (sizes >= (kinds != GPU_WORK)) & (sizes <= MAX_RECORD_BYTES)
        table = np.zeros((len(values), 6), np.int64)
        table[:, 0:2] = values[:, 1:3]
        table[:, 2] = np.where(taken, values[:, 3], 0) * 10**_MICROSECOND + values[:, 4]
        table[:, 3] = kinds
        table[:, 4] = sizes
        if at_stream >= 0:
            taken &= (values[:, 7] >= 0) & (values[:, 7] <= MAX_STREAM)
            table[:, 5] = values[:, 7]
        copies = taken & (events == 0)
        note_pageable(bad, kinds[copies], sizes[copies], values[copies, 5] >= WAYS)
        return table, taken, np.zeros(len(values), np.bool_)

    def slow(found: list[str]) -> Row | None:
        event = found[at_event].strip()
        if event == _RUNTIME:
            return None
        kind = GPU_WORK
        if event == _MEMCPY:
            kind = copy_kind(found[at_name])
        elif event not in _WORK:
            raise Malformed(f"event: {event[:60]!r}; expected memcpy, kernel, memset or runtime")
        time = clock(found[at_t], "t_us", _MICROSECOND, "microseconds")
        duration = duration_ps(found[at_duration], "dur_us")
        if kind == GPU_WORK:
            moved = whole(found[at_bytes] or "0", "bytes", MAX_RECORD_BYTES)
        else:
            moved = size(found[at_bytes], "bytes", "1 or more for a copy over the link")
        stream = whole(found[at_stream], "stream", MAX_STREAM) if at_stream >= 0 else 0
        note_pageable(bad, kind, moved, bool(_PAGEABLE.search(found[at_name])))
        return (*time, duration, kind, moved, stream)

    parts = rows(path, bad, Layout(",", columns, header.width), fast, slow, skip=1)
    return records(parts, Clock(path, bad, _MICROSECOND, "t_us"), GPU_DTYPE)


def note_pageable(bad: Bad, kinds: Ints | int, sizes: Ints | int, pageable: Flags | bool) -> None:
    """Count the copies over the link whose data the cores of the host move, too. Modified: bad."""
    large = (np.asarray(kinds) != GPU_WORK) & (np.asarray(sizes) >= PAGEABLE_BYTES)
    bad.pageable += int(np.count_nonzero(large & pageable))


def copy_kind(name: str) -> int:
    """Return the kind of a copy of this name. Raises Malformed."""
    match = _COPY.search(name)
    if match is None:
        raise Malformed(f"name: {name[:60]!r}; expected a copy's direction such as HtoD or DtoH")
    return GPU_H2D if match[1] else GPU_D2H if match[2] else GPU_WORK
