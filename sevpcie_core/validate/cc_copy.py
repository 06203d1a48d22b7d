"""Published copies of a GPU in confidential mode and without it, against the closed form of copies.

Rule: a platform preset holds every number; nothing is found here. Sizes that are powers of 4 were used to
find them, the others are held out. Rows of other systems, modes or memories are counted as not modelled.
"""

from pathlib import Path
from typing import Final

from ..experiment.copies import load_copy_platform
from ..workload.copies import Direction, Memory, copy_ps
from .points import DataSet, Point
from .rows import rows

FILE: Final = Path("published") / "gpu_copy_cc_on_off.csv"
PLATFORM: Final = "h100-tdx"
# Mean errors that copies of pinned and of pageable memory must not exceed, per cent of the published rate.
BAR_PINNED_PCT: Final = 8.0
BAR_PAGEABLE_PCT: Final = 12.0

_COLUMNS: Final = ("source", "cc", "op", "memory", "size_B", "bw_GBps")
_DIRECTIONS: Final[dict[str, Direction]] = {"H2D": "h2d", "D2H": "d2h"}
_MEMORIES: Final[dict[str, Memory]] = {"pinned": "pinned", "pageable": "pageable"}
_MODES: Final = {"off": False, "on": True}


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
    points: list[Point] = []
    skipped: dict[str, int] = {}
    for row in rows(path, _COLUMNS) if path.is_file() else ():
        source, mode, operation, kind = (row.text(column) for column in _COLUMNS[:4])
        known = source in platform.systems and mode in _MODES
        if not (known and operation in _DIRECTIONS and kind in _MEMORIES):
            # Told once, by the first of the two sets.
            if memory == "pinned":
                what = f"{FILE.stem} {source} {operation} {kind}, confidential mode {mode}"
                skipped[what] = skipped.get(what, 0) + 1
            continue
        size, rate = row.size("size_B"), row.value("bw_GBps")
        if _MEMORIES[kind] != memory:
            continue
        bounce = platform.bounce if _MODES[mode] else None
        time = copy_ps(platform.plain, bounce, _DIRECTIONS[operation], memory, size)
        curve = f"{operation}, confidential mode {mode}"
        # A byte per ps is a TB/s.
        points.append(
            Point(f"{curve}, {memory}, {size} B", curve, size, rate, 1e3 * size / time, fitted(size))
        )
    return DataSet(
        name,
        f"H100 copies, {memory} memory, confidential mode off and on (ISPASS 2025 artifact)",
        "GB/s",
        "bytes",
        bar_mean_pct,
        None,
        free_parameters=platform.found_with(name),
        points=points,
        not_modelled=skipped,
    )


def fitted(size: int) -> bool:
    """Return whether copies of this size were used to find the platform's numbers: powers of 4."""
    return size & (size - 1) == 0 and size.bit_length() % 2 == 1
