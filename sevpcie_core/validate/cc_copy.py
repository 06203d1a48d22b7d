"""Published copies of a GPU in confidential mode and without it, against the closed form of copies.

Rule: a platform preset holds every number; nothing is found here. Sizes that are powers of 4 were used to
find them, the others are held out. Rows of systems that the platform is not about are left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from ..errors import FormatError
from ..experiment.copies import CopyPlatform, load_copy_platform
from ..workload.copies import Direction, Memory, copy_ps
from ..workload.traces.table import Table
from .points import DataSet, Point

FILE: Final = Path("published") / "gpu_copy_cc_on_off.csv"
PLATFORM: Final = "h100-tdx"
# Mean errors that copies of pinned and of pageable memory must not exceed, per cent of the published rate.
BAR_PINNED_PCT: Final = 8.0
BAR_PAGEABLE_PCT: Final = 12.0

_COLUMNS: Final = ("source", "cc", "op", "memory", "size_B", "bw_GBps")
_DIRECTIONS: Final[dict[str, Direction]] = {"H2D": "h2d", "D2H": "d2h"}
_MEMORIES: Final[dict[str, Memory]] = {"pinned": "pinned", "pageable": "pageable"}
_MODES: Final = {"off": False, "on": True}
_MAX_SIZE: Final = 1 << 40

_Value = TypeVar("_Value")


def compare(data: Path) -> DataSet:
    """Compare copies of pinned memory in a folder of reference data.

    Raises FormatError for a table that cannot be read.
    """
    return _compare(data, "cc_copy", "pinned", BAR_PINNED_PCT)


def compare_pageable(data: Path) -> DataSet:
    """Compare copies of pageable memory in a folder of reference data.

    Raises FormatError for a table that cannot be read.
    """
    return _compare(data, "cc_copy_pageable", "pageable", BAR_PAGEABLE_PCT)


def _compare(data: Path, name: str, memory: Memory, bar_mean_pct: float) -> DataSet:
    platform = load_copy_platform(PLATFORM)
    path = data / FILE
    return DataSet(
        name,
        f"H100 copies, {memory} memory, confidential mode off and on (ISPASS 2025 artifact)",
        "GB/s",
        "bytes",
        bar_mean_pct,
        None,
        free_parameters=platform.found_with(name),
        points=list(_points(path, platform, memory)) if path.is_file() else [],
    )


def _points(path: Path, platform: CopyPlatform, memory: Memory) -> Iterator[Point]:
    table = Table(path, _COLUMNS)
    for line, row in table:
        cells = {name: row[table.column(name)].strip() for name in _COLUMNS}
        place = f"{path}:{line}"
        if cells["source"] not in platform.systems:
            continue
        confidential = _choice(place, "cc", cells["cc"], _MODES)
        direction = _choice(place, "op", cells["op"], _DIRECTIONS)
        size = _size(place, cells["size_B"])
        rate = _rate(place, cells["bw_GBps"])
        if _choice(place, "memory", cells["memory"], _MEMORIES) != memory:
            continue
        time = copy_ps(platform.plain, platform.bounce if confidential else None, direction, memory, size)
        curve = f"{cells['op']}, confidential mode {cells['cc']}"
        # A byte per ps is a TB/s.
        yield Point(f"{curve}, {memory}, {size} B", curve, size, rate, 1e3 * size / time, fitted(size))


def fitted(size: int) -> bool:
    """Return whether copies of this size were used to find the platform's numbers: powers of 4."""
    return size & (size - 1) == 0 and size.bit_length() % 2 == 1


def _choice(place: str, name: str, text: str, allowed: dict[str, _Value]) -> _Value:
    if text not in allowed:
        raise FormatError(f"{place}: {name}: {text!r}; expected {' or '.join(allowed)}")
    return allowed[text]


def _size(place: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16 and 0 < int(text) <= _MAX_SIZE):
        raise FormatError(
            f"{place}: size_B: {text!r}; expected a whole number of bytes from 1 to {_MAX_SIZE}"
        )
    return int(text)


def _rate(place: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise FormatError(f"{place}: bw_GBps: {text!r}; expected a number above 0")
    return value
