"""GPU jobs as Nsight Systems exports them to SQLite (`nsys export --type sqlite`). Untried on real files.

Read are the tables CUPTI_ACTIVITY_KIND_MEMCPY, _KERNEL, _MEMSET and _GRAPH_TRACE, those that there are (the
exporter makes a table with its first row): start and end in ns, streamId, and bytes and copyKind of copies.
All other tables are left out. Rows may lie in any order. A graph whose nodes were not recorded one by one
(`--cuda-graph-trace=graph`) has one row per launch, and counts as one kernel. Source: Nsight Systems, "SQLite
Export Schema Reference"; kinds of copies: CUPTI, CUpti_ActivityMemcpyKind, and the exporter's
ENUM_CUDA_MEMCPY_OPER for unified memory.

SQLite needs the file itself, so a gzip-compressed export is unpacked to a temporary file.
"""

import errno
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import ConfigError, FormatError
from .bad import Bad
from .gpu_csv import note_pageable
from .records import GPU_D2H, GPU_DTYPE, GPU_H2D, GPU_WORK, MAX_STREAM, Records
from .source import GZIP_MAGIC, MAX_CLOCK_PS, MAX_RECORD_BYTES, MAX_SPAN_PS, opened

# https://www.sqlite.org/fileformat.html, section 1.3.
MAGIC: Final = b"SQLite format 3\0"

_COPIES: Final = "CUPTI_ACTIVITY_KIND_MEMCPY"
_TABLES: Final = (
    _COPIES,
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE",
)
_COLUMNS: Final = ("start", "end", "streamId")
_COPY_COLUMNS: Final = (*_COLUMNS, "bytes", "copyKind")
_GPU: Final = "deviceId"
"""Read where there is one, to tell whether there are several."""
_SIDES: Final = ("srcKind", "dstKind")
"""Read where there are both: kinds of memory."""
# ENUM_CUDA_MEM_KIND: 0 pageable, 1 pinned, 2 device, ... (the same reference).
_PAGEABLE: Final = 0
# CUpti_ActivityMemcpyKind: 1 HtoD, 2 DtoH, 3 HtoA, 4 AtoH (arrays lie on the device), 5 AtoA, 6 AtoD, 7 DtoA,
# 8 DtoD, 9 HtoH, 10 PtoP; ENUM_CUDA_MEMCPY_OPER: 11, 12, 13 HtoD, DtoH, DtoD of unified memory.
_KINDS: Final = {
    **dict.fromkeys((1, 3, 11), GPU_H2D),
    **dict.fromkeys((2, 4, 12), GPU_D2H),
    **dict.fromkeys((5, 6, 7, 8, 9, 10, 13), GPU_WORK),
}
_NANOSECOND_PS: Final = 1000
_ROWS: Final = 8192
_PIECE: Final = 1 << 20
_MAX_CLOCK_NS: Final = MAX_CLOCK_PS // _NANOSECOND_PS
_MAX_SPAN_NS: Final = MAX_SPAN_PS // _NANOSECOND_PS


@contextmanager
def _plain(path: Path) -> Iterator[Path]:
    """Give the path of the unpacked file."""
    with opened(path) as file:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP_MAGIC
        if not zipped:
            yield path
            return
        with tempfile.NamedTemporaryFile(prefix="sevpcie-", suffix=".sqlite") as copy:
            while piece := file.read(_PIECE):
                try:
                    copy.write(piece)
                    copy.flush()
                except OSError as error:
                    reason = "no space left" if error.errno == errno.ENOSPC else error.strerror or str(error)
                    raise ConfigError(
                        f"{path}: does not fit unpacked in {tempfile.gettempdir()} ({reason}); expected a "
                        "folder with room (TMPDIR names another one)"
                    ) from None
            yield Path(copy.name)


def _row(row: tuple[object, ...]) -> tuple[int, int, int, int, int] | str:
    """Return start in ns, duration in ps, kind, bytes and stream, or what is wrong."""
    if len(row) == len(_COPY_COLUMNS):
        start, end, stream, size, which = row
        kind = _KINDS.get(which) if isinstance(which, int) else None
        if kind is None:
            return f"copyKind: {_shown(which)}; expected a number from 1 to 13"
    else:
        start, end, stream = row
        size, kind = 0, GPU_WORK
    if not isinstance(start, int) or start < 0:
        return f"start: {_shown(start)}; expected nanoseconds of 0 or more"
    if not isinstance(end, int) or not 0 <= end - start < _MAX_SPAN_NS:
        return f"end: {_shown(end)}; expected 0 to 2 h after start {start}"
    if not isinstance(stream, int) or not 0 <= stream <= MAX_STREAM:
        return f"streamId: {_shown(stream)}; expected a whole number from 0 to {MAX_STREAM}"
    if not isinstance(size, int) or not (kind != GPU_WORK) <= size <= MAX_RECORD_BYTES:
        least = "1" if kind != GPU_WORK else "0"
        return f"bytes: {_shown(size)}; expected a whole number from {least} to {MAX_RECORD_BYTES}"
    return start, (end - start) * _NANOSECOND_PS, kind, size, stream


def _shown(value: object) -> str:
    return repr(value)[:40]


def _tables(path: Path, base: sqlite3.Connection) -> dict[str, str]:
    """Return the tables that are read, and the SQL of each one's GPU and kinds of memory.

    Raises: FormatError: there is none, or it lacks a column.
    """
    names = {row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = [name for name in _TABLES if name in names]
    if not found:
        some = ", ".join(sorted(map(str, names))[:3]) or "none"
        raise FormatError(
            f"{path}: an SQLite file of another program (tables: {some[:80]!r}); expected "
            f"{', '.join(_TABLES)} of an Nsight Systems export"
        )
    more = {}
    for name in found:
        columns = {row[1] for row in base.execute(f"PRAGMA table_info({name})")}
        missing = [column for column in _needed(name) if column not in columns]
        if missing:
            raise FormatError(
                f"{path}: table {name}: no column {', '.join(map(repr, missing))}; "
                f"expected {', '.join(_needed(name))}"
            )
        sides = ", ".join(f'"{side}"' for side in _SIDES) if columns.issuperset(_SIDES) else "NULL, NULL"
        more[name] = (f'"{_GPU}"' if _GPU in columns else "NULL") + ", " + sides
    return more


def _needed(table: str) -> tuple[str, ...]:
    return _COPY_COLUMNS if table == _COPIES else _COLUMNS


def batches(path: Path, bad: Bad) -> Iterator[Records]:
    """Read the device work of a GPU job.

    Yields: GPU_DTYPE[n], table by table. Raises: FormatError: naming file, table, row and column;
    ConfigError: no room to unpack it.
    """
    first: int | None = None
    with _plain(path) as plain:
        try:
            # `immutable`: nothing is locked or written beside it. as_uri quotes what a URI must not hold.
            with closing(
                sqlite3.connect(f"{plain.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
            ) as base:
                # Texts are looked at nowhere; those that are no UTF-8 must not matter.
                base.text_factory = lambda text: text.decode("utf-8", "replace")
                base.execute("PRAGMA trusted_schema = OFF")
                for table, more in _tables(path, base).items():
                    columns = ", ".join([*(f'"{column}"' for column in _needed(table)), more])
                    cursor = base.execute(f"SELECT {columns} FROM {table}")
                    before = 0
                    while rows := cursor.fetchmany(_ROWS):
                        good: list[tuple[int, int, int, int, int]] = []
                        places: list[int] = []
                        for number, row in enumerate(rows, start=before + 1):
                            *cells, gpu, source, target = row
                            found = _row(tuple(cells))
                            if not isinstance(found, str):
                                first = found[0] if first is None else first
                                if abs(found[0] - first) < _MAX_CLOCK_NS:
                                    good.append(found)
                                    places.append(number)
                                    if isinstance(gpu, int):
                                        bad.gpus.add(gpu)
                                    side = source if found[2] == GPU_H2D else target
                                    note_pageable(bad, found[2], found[3], side == _PAGEABLE)
                                    continue
                                days = MAX_CLOCK_PS // (86400 * 10**12)
                                found = f"start: more than {days} days from the first; expected one recording"
                            if good and not bad.skip:
                                # What lies before it may be all that is wanted.
                                yield _records(good, first, path, table, places, bad)
                            bad.report(f"{path}: table {table}, row {number}: {found}")
                        before += len(rows)
                        if good:
                            yield _records(good, first, path, table, places, bad)
        except sqlite3.Error as error:
            raise FormatError(f"{path}: damaged SQLite file ({error}); expected a complete export") from None


def _records(
    rows: list[tuple[int, int, int, int, int]],
    first: int | None,
    path: Path,
    table: str,
    places: list[int],
    bad: Bad,
) -> Records:
    assert first is not None
    out = np.empty(len(rows), GPU_DTYPE)
    start, out["dur_ps"], out["kind"], out["bytes"], out["stream"] = zip(*rows, strict=True)
    out["t_ps"] = (np.array(start, np.int64) - first) * _NANOSECOND_PS
    bad.place = lambda i: f"{path}: table {table}, row {places[i]}"
    return out
