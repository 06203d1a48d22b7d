"""How long copies of the shipped GPU take in plaintext, against measured ones.

Rule: what scenarios run is what is compared, with nothing fitted to a machine but what the device's preset
says of itself: `gpu-gen5` on the link `gen5x16` with the host `server`.

    queued  copies that all wait at the GPU: time from one to the next (`measured/gpu_gen5x16*.csv`)
    jobs    copies of recorded jobs of PyTorch, each replayed whole: median of the durations that the
            profiler saw, per recording, direction and size (`traces/gpu/*.csv.gz`)
"""

import statistics
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from ..experiment.model import Scenario
from ..experiment.programs import recorded
from ..experiment.runner import Task
from ..experiment.scenario import load_scheme
from ..link.run import Outcome
from ..workload.traces.records import GPU_D2H, GPU_H2D
from .gpu import COLUMNS, COUNTERS, FOLDER, QUEUED
from .gpu_jobs import FOLDER as JOBS
from .points import DataSet, Point
from .rows import rows

DEVICE: Final = "gpu-gen5"
LINK: Final = "gen5x16"
HOST: Final = "server"

_METRIC: Final = "us"
_DIRECTIONS: Final[Mapping[str, int]] = {"h2d": GPU_H2D, "d2h": GPU_D2H}
# Rows that told `h2d_setup` and `d2h_pause`, and sizes in jobs that told `d2h_setup` and `small_setup`.
_TOLD: Final = frozenset(
    {
        ("gpu_gen5x16_h100", "h2d", 4096),
        ("gpu_gen5x16_h100", "h2d", 1 << 20),
        ("gpu_gen5x16_h100", "d2h", 4096),
        ("offload_h100", "d2h", 4096),
        ("offload_h100", "d2h", 1 << 16),
        ("training_h100", "h2d", 512),
    }
)
# Smaller ones are not measured waiting.
_SMALL: Final = 4096
# What nobody waits for.
_LARGE: Final = 1 << 28
# Copies of a run, and bytes that are enough for one.
_COPIES: Final = 64
_ENOUGH: Final = 1 << 24
# From here on the link matters more than the set-up.
_MANY: Final = 1 << 16
# Durations that make a median.
_LEAST: Final = 3


def _task(traffic: Mapping[str, Any], requests: int | None = None) -> Task:
    entry = {"preset": DEVICE, "traffic": {"kind": "gpu", **traffic}}
    workload = {"name": "measured", "device": {"gpu": entry}}
    table = {"name": "measured", "link": LINK, "host": HOST, "workload": [workload]}
    scenario = Scenario.from_dict(table if requests is None else {**table, "requests": requests}).resolve()
    return Task.prepare(scenario, scenario.workloads[0], 1)


def _plain(task: Task, keep: int = 0) -> Outcome:
    return task.simulate(load_scheme("none"), "off", keep=keep)


# --- Copies that wait at the GPU ----------------------------------------------------------------------------


@cache
def period_us(direction: str, size: int) -> float:
    """Return the time from a copy to the next of one direction, in a queue that does not run dry."""
    count = max(4, min(_COPIES, _ENOUGH // size))
    few, more = (
        _plain(_task({"job": "copies", "direction": direction, "size": size}, n)).span_ps
        for n in (count, 2 * count)
    )
    return (more - few) / count / 1e6


def queued(data: Path) -> DataSet:
    """Compare copies that wait at the GPU. Raises FormatError."""
    table: dict[tuple[str, str, int], list[float]] = {}
    skipped: dict[str, int] = {}
    for path in sorted((data / FOLDER).glob("gpu_gen5x16*.csv")):
        if path.name.startswith(COUNTERS):
            continue
        for row in rows(path, COLUMNS):
            if (row.text("experiment"), row.text("metric")) != (QUEUED, _METRIC):
                continue
            direction, size, value = (
                row.text("direction"),
                row.size("size_bytes", 0),
                row.value("value", True),
            )
            why = _passed(direction, size, value)
            if why:
                skipped[f"{path.stem} {QUEUED} {why}"] = skipped.get(f"{path.stem} {QUEUED} {why}", 0) + 1
            else:
                table.setdefault((path.stem, direction, size), []).append(value)
    points = [
        Point(
            f"{QUEUED} {file} {direction} {size} B",
            f"{file} {direction}",
            size,
            statistics.median(values),
            period_us(direction, size),
            fitted=(file, direction, size) in _TOLD,
        )
        for (file, direction, size), values in table.items()
    ]
    return DataSet(
        "gpu_copy_queued",
        f"GPU: copies that wait at the GPU, from one to the next ({DEVICE} on {LINK})",
        "us",
        "bytes",
        5,
        10,
        free_parameters=2,
        points=points,
        not_modelled=skipped,
    )


def _passed(direction: str, size: int, value: float) -> str:
    """Return why a row is not compared, or nothing."""
    if direction not in _DIRECTIONS:
        return f"direction {direction}"
    if not (size and value):
        return "of nothing"
    if size < _SMALL:
        return f"below {_SMALL >> 10} KiB"
    return f"above {_LARGE >> 20} MiB" if size > _LARGE else ""


# --- Copies of recorded jobs --------------------------------------------------------------------------------


def jobs(data: Path) -> DataSet:
    """Compare copies of recorded jobs from 64 KiB on. Raises FormatError."""
    return _jobs(data, "gpu_job_copies", "from 64 KiB on", 5, lambda size: size >= _MANY, free=1)


def small_jobs(data: Path) -> DataSet:
    """Compare smaller ones, most of whose time is the set-up. Raises FormatError."""
    return _jobs(data, "gpu_job_small", "below 64 KiB", 15, lambda size: size < _MANY, free=2)


def _jobs(
    data: Path, name: str, words: str, bar: float, takes: Callable[[int], bool], free: int = 0
) -> DataSet:
    points: list[Point] = []
    skipped: dict[str, int] = {}
    for path in sorted((data / JOBS).glob("*.csv.gz")):
        file = path.name.removesuffix(".csv.gz")
        for (direction, size), (measured, modelled) in _replayed(path).items():
            if not takes(size):
                continue
            why = _left_out(path, direction, size, len(measured))
            if why:
                skipped[f"{file} copies {why}"] = skipped.get(f"{file} copies {why}", 0) + len(measured)
                continue
            points.append(
                Point(
                    f"{file} {direction} {size} B, {len(measured)} copies",
                    f"{file} {direction}",
                    size,
                    statistics.median(measured),
                    statistics.median(modelled),
                    fitted=(file, direction, size) in _TOLD,
                )
            )
    return DataSet(
        name,
        f"GPU: durations of copies of recorded PyTorch jobs {words}, replayed ({DEVICE} on {LINK})",
        "us",
        "bytes",
        bar,
        None,
        free_parameters=free,
        points=points,
        not_modelled=skipped,
    )


@lru_cache(maxsize=64)
def _replayed(path: Path) -> Mapping[tuple[str, int], tuple[list[float], list[float]]]:
    """Return recorded durations and simulated latencies of copies, us, by direction and bytes."""
    task = _task({"trace": str(path)})
    records = recorded(task.workload.devices[0].traffic).records
    latency = _plain(task, len(records)).kept_ps[0][: len(records)]
    found = {}
    for direction, kind in _DIRECTIONS.items():
        mine = (records["kind"] == kind) & (records["bytes"] > 0) & (latency >= 0)
        for size in sorted({int(n) for n in records["bytes"][mine]}):
            these = mine & (records["bytes"] == size)
            measured, modelled = records["dur_ps"][these] / 1e6, latency[these] / 1e6
            found[direction, size] = measured.tolist(), modelled.tolist()
    return found


def _left_out(path: Path, direction: str, size: int, count: int) -> str:
    """Return why copies of a size are not compared, or nothing."""
    if (direction, size) in _pageable(path):
        return "of pageable memory"
    return f"of sizes with fewer than {_LEAST}" if count < _LEAST else ""


@cache
def _pageable(path: Path) -> frozenset[tuple[str, int]]:
    """Return (direction, bytes) of copies from or to pageable memory: the host moves their data, too."""
    found = set()
    for row in rows(path, ("event", "name", "bytes")):
        name = row.text("name")
        if row.text("event") == "memcpy" and "Pageable" in name:
            found.add(("h2d" if "HtoD" in name else "d2h", row.size("bytes", 0)))
    return frozenset(found)
