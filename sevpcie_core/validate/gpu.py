"""Measurements of a GPU: PCIe Gen5 x16, Xeon and H100, in plaintext (`measured/gpu_*.csv`).

Counters of bytes, `measured/gpu_counters_*.csv`, are no matter of these sets (`gpu_wire.py`), and neither are
copies that wait at the GPU (`gpu_times.py`).

Rule: the platform `xeon-h100` was found with few rows of one file; all else is held out, and so is every file
whose name only begins like that one's: another machine of this kind. Other files are of other systems, which
are not modelled, and neither are experiments and metrics that this file does not name. What is passed over is
counted, with its reason, and not looked at.

Repetitions of a row count together: the median, of zero-copy writes the fastest (they ran in two modes), of
the pointer chase the mean.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..experiment.platforms import Platform, load_platform
from ..workload.dma import Kind
from .points import DataSet, Point
from .probe import Conditions, copy_ps, latencies, rate
from .rows import rows

FOLDER: Final = "measured"
COUNTERS: Final = "gpu_counters_"
QUEUED: Final = "copy_queued"
PLATFORM: Final = "xeon-h100"
COLUMNS: Final = ("experiment", "direction", "size_bytes", "parallel", "metric", "value")

# A load of a GPU thread fetches at least one sector of its cache line (CUDA C++ Programming Guide, device
# memory accesses: transactions of 32 bytes).
SECTOR_BYTES: Final = 32
# The window of the zero-copy experiments (README of the data).
_ZERO_COPY_WINDOW: Final = 256 << 20
# Larger spans measure address translation (the same).
_CHASE_MOST: Final = 64 << 20
_SMALL_COPY: Final = 4096
# Requests, and how many at once, that a run of some thousand can have.
_REQUEST_MOST: Final = 1 << 20
_FLIGHT_MOST: Final = 1 << 17
_PLATEAU: Final = 0.95


@dataclass(frozen=True)
class _Cell:
    """Repetitions of one row."""

    file: str
    direction: str
    size: int
    parallel: int
    values: tuple[float, ...]

    @property
    def place(self) -> str:
        return f"{self.file} {self.direction} {self.size} B"


@dataclass(frozen=True)
class _Set:
    """How an experiment is compared.

    take : of repetitions. fitted : whether a cell found parameters. passed : why a cell is not compared, or
    nothing.
    """

    name: str
    title: str
    experiment: str
    metric: str
    unit: str
    at_unit: str
    bar: float
    take: Callable[[tuple[float, ...]], float]
    model: Callable[[Platform, _Cell], float]
    passed: Callable[[_Cell], str]
    fitted: Callable[[_Cell], bool]
    plateau: bool = False
    by_parallel: bool = False


def _chase(platform: Platform, cell: _Cell) -> float:
    conditions = Conditions(window=max(cell.size, SECTOR_BYTES))
    found = latencies(platform, "read", SECTOR_BYTES, conditions, count=200, read_setup_ps=0)
    return float(found.mean()) / 1e3


def _zero_copy(kind: Kind) -> Callable[[Platform, _Cell], float]:
    def model(platform: Platform, cell: _Cell) -> float:
        moved = max(cell.size, SECTOR_BYTES) if kind == "read" else cell.size
        conditions = Conditions(window=_ZERO_COPY_WINDOW)
        return cell.size * rate(platform, kind, moved, conditions, outstanding=cell.parallel) / 1e9

    return model


_DIRECTIONS: Final[dict[str, Kind]] = {"h2d": "read", "d2h": "write"}


def _long_span(cell: _Cell) -> str:
    return f"span above {_CHASE_MOST >> 20} MiB" if cell.size > _CHASE_MOST else ""


def _too_many(cell: _Cell) -> str:
    if cell.size > _REQUEST_MOST:
        return f"requests above {_REQUEST_MOST >> 10} KiB"
    return f"more than {_FLIGHT_MOST} in flight" if cell.parallel > _FLIGHT_MOST else ""


def _large(cell: _Cell) -> str:
    if cell.direction not in _DIRECTIONS:
        return f"direction {cell.direction}"
    return f"above {_SMALL_COPY >> 10} KiB" if cell.size > _SMALL_COPY else ""


def _small(cell: _Cell) -> str:
    if cell.direction not in _DIRECTIONS:
        return f"direction {cell.direction}"
    return _small_pair(cell)


def _small_pair(cell: _Cell) -> str:
    return f"below {_SMALL_COPY >> 10} KiB" if cell.size < _SMALL_COPY else ""


def _copy_rate(platform: Platform, cell: _Cell) -> float:
    return 1e3 * cell.size / copy_ps(platform, _DIRECTIONS[cell.direction], cell.size)


def _copy_both(platform: Platform, cell: _Cell) -> float:
    return 2e3 * cell.size / copy_ps(platform, "both", cell.size)


def _copy_once(platform: Platform, cell: _Cell) -> float:
    engine = platform.table.copy_engine
    once = 0 if engine is None else engine.synchronise
    # One copy of a few bytes takes `synchronise`, set-up included; a longer one what its bytes add.
    kind = _DIRECTIONS[cell.direction]
    alone = platform.changed({"copy_engine.interval": 0})
    return (once + copy_ps(alone, kind, cell.size) - copy_ps(alone, kind, 1)) / 1e6


_SETS: Final = (
    _Set(
        "gpu_chase",
        "GPU: a dependent read of host memory, by span",
        "zerocopy_chase",
        "ns_mean",
        "ns",
        "span, bytes",
        3,
        statistics.fmean,
        _chase,
        _long_span,
        lambda cell: cell.size == 1 << 20,
    ),
    _Set(
        "gpu_zc_read",
        "GPU: zero-copy reads by size and requests in flight",
        "zerocopy_read",
        "GB_per_s",
        "GB/s",
        "requests in flight",
        6,
        statistics.median,
        _zero_copy("read"),
        _too_many,
        lambda cell: cell.parallel in (64, 2048),
        plateau=True,
        by_parallel=True,
    ),
    _Set(
        "gpu_zc_write",
        "GPU: zero-copy writes by size and requests in flight, fastest repetition",
        "zerocopy_write",
        "GB_per_s",
        "GB/s",
        "requests in flight",
        4,
        max,
        _zero_copy("write"),
        _too_many,
        lambda cell: cell.parallel in (64, 2048),
        plateau=True,
        by_parallel=True,
    ),
    _Set(
        "gpu_copy_small",
        "GPU: one small copy and a synchronise, median",
        "copy_sync",
        "us_p50",
        "us",
        "bytes",
        5,
        statistics.median,
        _copy_once,
        _large,
        lambda cell: cell.size == 512,
    ),
    _Set(
        "gpu_copy_bw",
        "GPU: copies of one stream by size",
        "copy_stream",
        "GB_per_s",
        "GB/s",
        "bytes",
        4,
        statistics.median,
        _copy_rate,
        _small,
        lambda cell: cell.size in (1 << 12, 1 << 16, 1 << 20, 1 << 23),
    ),
    _Set(
        "gpu_copy_both",
        "GPU: copies of both directions at once, by size",
        "copy_bidir",
        "GB_per_s_sum",
        "GB/s",
        "bytes",
        8,
        statistics.median,
        _copy_both,
        _small_pair,
        lambda cell: False,
    ),
)


@dataclass(frozen=True)
class _Read:
    """Cells by (experiment, metric), and rows that are not modelled."""

    cells: dict[tuple[str, str], list[_Cell]]
    skipped: dict[str, int]


def _read(data: Path) -> _Read:
    """Read every `gpu_*.csv`. Raises FormatError."""
    table: dict[tuple[str, str], dict[tuple[str, str, int, int], list[float]]] = {}
    skipped: dict[str, int] = {}
    known = {(one.experiment, one.metric): one for one in _SETS}
    experiments = {experiment for experiment, _ in known}
    first = load_platform(PLATFORM).table.systems

    def skip(path: Path, what: str, count: int = 1) -> None:
        skipped[f"{path.stem} {what}"] = skipped.get(f"{path.stem} {what}", 0) + count

    for path in sorted((data / FOLDER).glob("gpu_*.csv")):
        if path.name.startswith(COUNTERS):
            continue
        modelled = path.stem.startswith(first)
        for row in rows(path, COLUMNS if modelled else COLUMNS[:1]):
            experiment = row.text("experiment")
            if modelled and experiment == QUEUED:
                continue
            if not modelled or experiment not in experiments:
                skip(path, experiment)
                continue
            metric = row.text("metric")
            if (experiment, metric) not in known:
                skip(path, f"{experiment} {metric}")
                continue
            size, parallel = row.size("size_bytes", 0), row.size("parallel", 0)
            value = row.value("value", zero=True)
            if not (size and parallel and value):
                skip(path, f"{experiment} of nothing")
                continue
            key = (path.stem, row.text("direction"), size, parallel)
            why = known[experiment, metric].passed(_Cell(*key, (value,)))
            if why:
                skip(path, f"{experiment} {why}")
                continue
            table.setdefault((experiment, metric), {}).setdefault(key, []).append(value)
    cells = {
        what: [_Cell(*key, tuple(values)) for key, values in found.items()] for what, found in table.items()
    }
    return _Read(cells, skipped)


def _compare(one: _Set, read: _Read, platform: Platform | None, fitted_only: bool, first: bool) -> DataSet:
    """Compare a set. A platform that is given is being found, with the rows of any file."""
    used = platform or load_platform(PLATFORM)
    own = load_platform(PLATFORM).table.systems
    points = []
    for cell in read.cells.get((one.experiment, one.metric), ()):
        fitted = one.fitted(cell) and (platform is not None or cell.file in own)
        if fitted_only and not fitted:
            continue
        curve = f"{cell.direction} {cell.size} B" if one.by_parallel else cell.direction
        words = f"{cell.place}, {cell.parallel} in flight" if one.by_parallel else cell.place
        at = cell.parallel if one.by_parallel else cell.size
        measured = one.take(cell.values)
        points.append(Point(f"{one.experiment} {words}", curve, at, measured, one.model(used, cell), fitted))
    return DataSet(
        one.name,
        f"{one.title} (Gen5 x16, Xeon, H100)",
        one.unit,
        one.at_unit,
        one.bar,
        None,
        free_parameters=len(used.free),
        points=points,
        missed=_plateau(points) if one.plateau and not fitted_only else (),
        not_modelled=read.skipped if first else {},
    )


# What cells on the plateau of their size may be off in the mean, per cent.
_PLATEAU_BAR: Final = 4.0


def _plateau(points: list[Point]) -> list[str]:
    """Return what is missed on the plateaus: cells of at least 95 % of the best of their size."""
    best: dict[str, float] = {}
    for point in points:
        best[point.curve] = max(best.get(point.curve, 0.0), point.measured)
    flat = [abs(p.error_pct) for p in points if p.measured >= _PLATEAU * best[p.curve]]
    if flat and statistics.fmean(flat) > _PLATEAU_BAR:
        return [
            f"plateaus are off by {statistics.fmean(flat):.2g} % in the mean; expected {_PLATEAU_BAR:g} %"
        ]
    return []


def sets() -> Iterator[Callable[[Path], DataSet]]:
    """Yield what compares each set of a folder."""

    def one(which: _Set, first: bool) -> Callable[[Path], DataSet]:
        return lambda data: _compare(which, _read(data), None, False, first)

    for i, which in enumerate(_SETS):
        yield one(which, i == 0)


def fitted_points(data: Path, platform: Platform) -> list[Point]:
    """Return the points that the free parameters of a platform are found with."""
    read = _read(data)
    found: list[Point] = []
    for which in _SETS:
        found += _compare(which, read, platform, True, False).points
    return found
