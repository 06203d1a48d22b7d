"""GPU jobs as CSV: one row per copy, kernel or API call, as profilers list them.

Columns, in any order: `t_us` start, `dur_us`, `event` (memcpy, kernel, memset, runtime), `name`, `bytes`;
optional `stream` (without it all work forms one stream) and others, which are ignored. `runtime` rows
belong to the CPU and are dropped. The direction of a copy is read from its name: HtoD, DtoH, DtoD, PtoP,
HtoH as CUPTI abbreviates them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import FormatError
from .bad import Bad
from .records import GPU_D2H, GPU_DTYPE, GPU_H2D, GPU_WORK, Records
from .source import MAX_RECORD_BYTES, durations_ps, times_ps, whole_numbers
from .table import Table

COLUMNS = ("t_us", "dur_us", "event", "name", "bytes")

_RUNTIME = "runtime"
_COPY = re.compile(r"\b(?:(HtoD)|(DtoH)|DtoD|PtoP|HtoH)\b", re.IGNORECASE)


def _kind(event: str, name: str) -> int:
    """Return GPU_H2D, GPU_D2H or GPU_WORK, -1 for an unknown event, -2 for a copy without direction."""
    if event in ("kernel", "memset"):
        return GPU_WORK
    if event != "memcpy":
        return -1
    match = _COPY.search(name)
    if match is None:
        return -2
    return GPU_H2D if match[1] else GPU_D2H if match[2] else GPU_WORK


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the device work of a GPU job.

    Yields: GPU_DTYPE[n], in file order.
    Raises: FormatError: naming file, line and field.
    """
    table = Table(path, COLUMNS)
    at_t, at_dur, at_event, at_name, at_bytes = (table.column(name) for name in COLUMNS)
    at_stream = table.column("stream")
    rows: list[int] = []
    starts: list[str] = []
    durations: list[str] = []
    sizes: list[str] = []
    streams: list[str] = []
    kinds: list[int] = []
    known: dict[tuple[str, str], int] = {}
    for line, row in table:
        event = row[at_event]
        if event == _RUNTIME:
            continue
        name = row[at_name]
        kind = known.get((event, name))
        if kind is None:
            kind = known[event, name] = _kind(event, name)
        if kind == -1:
            raise FormatError(f"{path}:{line}: event: {event!r}; expected memcpy, kernel, memset or runtime")
        if kind == -2:
            raise FormatError(
                f"{path}:{line}: name: {name[:60]!r}; expected a copy's direction such as HtoD or DtoH"
            )
        size = row[at_bytes]
        if kind != GPU_WORK and size.strip("0. ") == "":
            raise FormatError(f"{path}:{line}: bytes: {size!r}; expected 1 or more for a copy over the link")
        rows.append(line)
        starts.append(row[at_t])
        durations.append(row[at_dur])
        sizes.append(size or "0")
        kinds.append(kind)
        if at_stream >= 0:
            streams.append(row[at_stream])
    if not rows:
        return
    events = np.zeros(len(rows), dtype=GPU_DTYPE)
    events["t_ps"] = times_ps(path, starts, rows, "t_us")
    events["dur_ps"] = durations_ps(path, durations, rows, "dur_us")
    events["bytes"] = whole_numbers(path, sizes, rows, "bytes", MAX_RECORD_BYTES)
    events["kind"] = kinds
    if at_stream >= 0:
        numbers = whole_numbers(path, streams, rows, "stream")
        if numbers.max() > np.iinfo(np.int32).max:
            line = rows[int(np.argmax(numbers))]
            raise FormatError(f"{path}:{line}: stream: {numbers.max()}; expected a number below 2^31")
        events["stream"] = numbers
    bad.place = lambda i: f"{path}:{rows[i]}"
    yield events
