"""Bytes on a GPU's link: its own counters (`measured/gpu_counters_*.csv`) against the steps of programs.

Rule: one device and one link explain all rows, `gpu-gen5` on `gen5x16`; steps become TLPs by the cuts and
sizes that the simulator has, too. The counters have whole TLPs, framing to LCRC, and no DLLPs (README of the
data); a profiler's have them without the data link layer. rx is what goes to the GPU, tx what it sends.

Of repetitions the median counts, less what is counted on an idle link in the same time. The numbers of
commands are from one of the files; those of other GPUs are held out.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import FormatError
from ..spec import DATA_LINK_BYTES
from .gpu import COLUMNS, COUNTERS, FOLDER
from .gpu_wire_model import KINDS, Bytes, Row, access, awaited_copy, command, copy
from .points import DataSet, Point
from .rows import rows

# Whose file told the numbers of commands.
_TOLD: Final = "h100"

# Metrics by direction: of whole TLPs on the wire, and without framing, sequence number and LCRC.
_WIRE: Final = {"rx": "rx_bytes_per_op", "tx": "tx_bytes_per_op"}
_TLP: Final = {"rx": "pcie__read_bytes.sum_per_op", "tx": "pcie__write_bytes.sum_per_op"}
_NS: Final = "ns_per_op"
_METRICS: Final = (*_WIRE.values(), *_TLP.values(), _NS)
_IDLE: Final = {"rx": "rx_bytes_per_s", "tx": "tx_bytes_per_s"}

_LARGE: Final = 1 << 16
_SMALL: Final = 4096
# What nobody waits for.
_MOST: Final = 1 << 30
# Most that is counted where nothing should go, bytes.
_NOTHING: Final = 0.05


# --- What is compared ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Set:
    """How rows are compared.

    takes : whether a row belongs to it. metrics : of a row, those that are compared, by direction.
    fitted : whether a row's bytes of a direction told a number.
    """

    name: str
    title: str
    bar_mean: float
    bar_max: float
    takes: Callable[[Row], bool]
    model: Callable[[Row], Bytes]
    metrics: Callable[[Row], Sequence[tuple[str, str]]]
    fitted: Callable[[Row, str], bool]
    free: int = 0


_WAYS: Final = ("h2d", "d2h")
_COPIES: Final = (("copy", "h2d"), ("copy", "d2h"), ("copy_both", "both"))
_ACCESSES: Final = (
    "zerocopy_read",
    "zerocopy_write",
    "zerocopy_read_in_order",
    "zerocopy_write_in_order",
    "zerocopy_poll",
)


def _of(modelled: Bytes, way: str, metric: str) -> float:
    """Return the bytes of a direction as a metric counts them."""
    found, tlps = (modelled.rx, modelled.rx_tlps) if way == "rx" else (modelled.tx, modelled.tx_tlps)
    return found if metric == _WIRE[way] else found - DATA_LINK_BYTES * tlps


def _all_levels(row: Row) -> Sequence[tuple[str, str]]:
    levels = [_WIRE] if row.experiment == "zerocopy_poll" else [_WIRE, _TLP]
    return [(way, level[way]) for level in levels for way in ("rx", "tx")]


def _copy_levels(row: Row) -> Sequence[tuple[str, str]]:
    large = row.size > _LARGE
    # What the firmware says meanwhile is more than the commands of a long copy.
    ways = ("tx",) if large and row.direction == "d2h" else ("rx", "tx")
    # Under the profiler the driver writes small ones into the commands.
    levels = [_WIRE, _TLP] if large else [_WIRE]
    return [(way, level[way]) for level in levels for way in ways]


def _wire_levels(row: Row) -> Sequence[tuple[str, str]]:
    return tuple(_WIRE.items())


def _is_command(row: Row) -> bool:
    if row.experiment == "copy":
        return row.direction == "d2h" and 0 < row.size < _SMALL
    if row.experiment == "copy_sync":
        # Small ones to the device the driver writes into the commands.
        return row.direction in _WAYS and (row.size >= _LARGE or (row.direction == "d2h" and row.size > 0))
    if row.experiment == "memset":
        return row.size <= _SMALL
    if row.experiment == "launch_graph":
        return row.parallel == 1
    return (row.experiment, row.direction) in KINDS


_OTHERS: Final[Mapping[str, Callable[[Row], Bytes]]] = {"copy": copy, "copy_sync": awaited_copy}


def _found(row: Row, way: str) -> bool:
    kind = KINDS.get((row.experiment, row.direction))
    return kind is not None and kind.found == row.size and way in kind.by


# Rows that told doorbells, entry and commands of copies; and what reads ask for.
_COPIES_FOUND: Final = (("d2h", _SMALL, "rx"), ("d2h", _SMALL, "tx"), ("h2d", 1 << 28, "tx"))


_SETS: Final = (
    _Set(
        "gpu_wire_access",
        "GPU: bytes on the wire of loads and stores of threads",
        0.05,
        0.1,
        lambda row: row.experiment in _ACCESSES and row.size > 0,
        access,
        _all_levels,
        lambda row, way: False,
    ),
    _Set(
        "gpu_wire_copy",
        "GPU: bytes on the wire of copies from 4 KiB on",
        0.1,
        0.5,
        lambda row: (row.experiment, row.direction) in _COPIES and row.size >= _SMALL,
        copy,
        _copy_levels,
        lambda row, way: (row.direction, row.size, way) in _COPIES_FOUND,
        free=3,
    ),
    _Set(
        "gpu_wire_command",
        "GPU: bytes on the wire of launches, semaphores, events and other commands",
        0.1,
        0.3,
        _is_command,
        lambda row: _OTHERS.get(row.experiment, command)(row),
        _wire_levels,
        _found,
        free=11,
    ),
)


def _why(row: Row) -> str:
    """Return why a row of no set is not compared."""
    if row.size > _MOST:
        return f"above {_MOST >> 30} GiB"
    if row.experiment == "copy" and row.direction == "h2d":
        return f"to the device below {_SMALL >> 10} KiB"
    if row.experiment == "copy_sync" and row.direction == "h2d":
        return "to the device, in the commands"
    if row.experiment == "launch_graph":
        return "of several kernels"
    return "by a kernel of the driver" if row.experiment == "memset" else ""


# --- Reading ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """Rows of a file, what an idle link counts per ns, and what is not modelled."""

    gpu: str
    rows: Sequence[Row]
    idle: Mapping[str, float]
    skipped: Mapping[str, int]


def _files(data: Path) -> list[Path]:
    """Return the files of a folder, in order of their names."""
    return sorted((data / FOLDER).glob(f"{COUNTERS}*.csv"))


def _read(path: Path) -> _Read:
    """Read a file. Raises FormatError."""
    table: dict[tuple[str, str, int, int], dict[str, list[float]]] = {}
    idle = dict.fromkeys(_IDLE, 0.0)
    skipped: dict[str, int] = {}
    for row in rows(path, COLUMNS):
        experiment, metric = row.text("experiment"), row.text("metric")
        if experiment == "idle":
            for way, name in _IDLE.items():
                if metric == name:
                    idle[way] = row.value("value", zero=True) / 1e9
        elif experiment == "resolution" or metric not in _METRICS:
            what = f"{path.stem} {experiment} {metric}"
            skipped[what] = skipped.get(what, 0) + 1
        else:
            key = (
                experiment,
                row.text("direction"),
                row.size("size_bytes", 0),
                row.size("parallel", 0),
            )
            table.setdefault(key, {}).setdefault(metric, []).append(_signed(row))
    found = []
    for key, metrics in table.items():
        one = Row(*key, {name: statistics.median(values) for name, values in metrics.items()})
        if one.size <= _MOST and any(which.takes(one) for which in _SETS):
            found.append(one)
            continue
        what = f"{path.stem} {one.experiment} {_why(one)}".rstrip()
        skipped[what] = skipped.get(what, 0) + sum(map(len, metrics.values()))
    return _Read(path.stem.removeprefix(COUNTERS), found, idle, skipped)


def _signed(row: Any) -> float:
    """Return a number that may be a little below 0, as a difference of counters may."""
    text = row.text("value")
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise FormatError(f"{row.place}: value: {text!r}; expected a number")
    return value


def _points(which: _Set, read: _Read) -> Iterator[Point | str]:
    """Yield the points of a set, and what it misses."""
    for row in read.rows:
        if not which.takes(row):
            continue
        modelled = which.model(row)
        words = f"{read.gpu} {row.experiment} {row.direction} {row.size} B"
        for way, metric in which.metrics(row):
            if metric not in row.values:
                continue
            measured = row.values[metric] - read.idle[way] * row.values.get(_NS, 0.0)
            expected = _of(modelled, way, metric)
            level = "" if metric == _WIRE[way] else ", TLPs alone"
            if not expected:
                if abs(measured) > _NOTHING:
                    yield f"{words}: {measured:.3g} B {way}{level}; expected none"
                continue
            if measured <= 0:
                yield f"{words}: no bytes {way}{level}; expected {expected:.5g}"
                continue
            yield Point(
                f"{words} {way}{level}",
                f"{read.gpu} {row.experiment} {row.direction} {way}{level}",
                max(row.size, 1),
                measured,
                expected,
                read.gpu == _TOLD and which.fitted(row, way),
            )


def _compare(which: _Set, files: Sequence[_Read], first: bool) -> DataSet:
    found = [one for read in files for one in _points(which, read)]
    skipped = {what: count for read in files for what, count in read.skipped.items()}
    return DataSet(
        which.name,
        which.title,
        "B per operation",
        "bytes",
        which.bar_mean,
        which.bar_max,
        free_parameters=which.free,
        points=[one for one in found if isinstance(one, Point)],
        missed=[one for one in found if isinstance(one, str)],
        not_modelled=skipped if first else {},
    )


def sets() -> Iterator[Callable[[Path], DataSet]]:
    """Yield what compares each set of a folder. Raises FormatError for data that cannot be read."""

    def one(which: _Set, first: bool) -> Callable[[Path], DataSet]:
        return lambda data: _compare(which, [_read(path) for path in _files(data)], first)

    for i, which in enumerate(_SETS):
        yield one(which, i == 0)
