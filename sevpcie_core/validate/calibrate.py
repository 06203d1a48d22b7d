"""Find the free parameters of a platform with measurements: least squares over relative errors.

Rule: only what a platform lists as free is changed, within its range, and only the rows that `validate` calls
fitted are looked at. Constants of standards are never touched. The same data give the same numbers.

The sum of squares of log(modelled / measured) over all rows is made small over the logarithms of the times
by the dogleg method of scipy in rectangular trust regions (Voglis, Lagaris 2004), and over counts by trying
their neighbours, until neither helps.
"""

import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..errors import ConfigError, FormatError, NothingMeasuredError
from ..experiment.platforms import Free, Platform, scale
from ..workload.traces.table import Table
from . import gpu, pcie_bench
from .points import Point

Progress = Callable[[str, int, int], object]
Fit = Callable[[Path, Platform], list[Point]]

# What finds the parameters of a platform, of either family of data.
_FAMILIES: Final[dict[str, tuple[str, Fit]]] = {
    pcie_bench.FOLDER: (pcie_bench.PLATFORM, pcie_bench.fitted_points),
    gpu.FOLDER: (gpu.PLATFORM, gpu.fitted_points),
}


def fit_of(platform: Platform) -> Fit:
    """Return what compares the fitted rows of a platform: a copy engine makes it a GPU's."""
    family = gpu.FOLDER if platform.table.copy_engine is not None else pcie_bench.FOLDER
    return _FAMILIES[family][1]


@contextmanager
def measurements(path: Path) -> Iterator[tuple[Path, str]]:
    """Give a folder of reference data for a file or folder, and the platform to start from if none is named.

    A single table is put where such a folder has it, by its columns.

    Raises ConfigError: no such file. FormatError: a table that no parameter is found with.
    """
    if path.is_dir():
        # A folder of reference data, or one of its folders.
        inside = path.parent if path.name in _FAMILIES else path
        families = [path.name] if path.name in _FAMILIES else [f for f in _FAMILIES if (path / f).is_dir()]
        if not families:
            raise ConfigError(
                f"{path}: no folder {' or '.join(map(repr, _FAMILIES))}; expected reference data"
            )
        # Of a folder with both, the project's own measurements.
        yield inside, _FAMILIES[families[-1]][0]
        return
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a table of measurements or a folder of them")
    header = set(Table(path, ()).header)
    for family, file, columns in TABLES:
        if header >= set(columns):
            name = path.name if file is None and path.name.startswith("gpu_gen5x16") else file
            with tempfile.TemporaryDirectory(prefix="sevpcie-") as folder:
                place = Path(folder) / family
                place.mkdir()
                link = place / (name or "gpu_gen5x16.csv")
                link.symlink_to(path.resolve())
                try:
                    yield Path(folder), _FAMILIES[family][0]
                except (FormatError, NothingMeasuredError) as error:
                    # Nobody knows that folder.
                    told = str(error).replace(str(link), str(path)).replace(folder, str(path))
                    raise type(error)(told) from None
            return
    lacking = min((set(columns) - header for _, _, columns in TABLES), key=len)
    raise FormatError(
        f"{path}:1: header: {', '.join(sorted(header))}; expected that of a table of measurements (sevpcie "
        f"measure calibrate --help has them), the nearest of which lacks {', '.join(sorted(lacking))}"
    )


# Tables that tell themselves by their columns: the folder, and the file there (None: its own name).
TABLES: Final = (
    (gpu.FOLDER, None, gpu.COLUMNS),
    (pcie_bench.FOLDER, "lat_dma_sizes.csv", (*pcie_bench.PLACE, pcie_bench.LATENCY)),
    (pcie_bench.FOLDER, "bw_dma_sz_sweep.csv", (*pcie_bench.PLACE, pcie_bench.BANDWIDTH)),
    (pcie_bench.FOLDER, "lat_cdf.csv", pcie_bench.CDF),
)

# Relative steps of a derivative: above what rounding to ps and the randomness of a run do.
_STEP: Final = 0.02
_ROUNDS: Final = 2
_EVALUATIONS: Final = 15
_NEIGHBOUR: Final = 5


@dataclass(frozen=True)
class Calibration:
    """A platform with its parameters found, and what is left.

    points : the rows that were looked at, with the model's figures. before : mean error with the numbers that
    the platform had, per cent. unseen : parameters that no row depends on; they keep their values.
    """

    platform: Platform
    points: Sequence[Point]
    before: float
    unseen: frozenset[str] = frozenset()

    @property
    def mean_pct(self) -> float:
        """Mean error without its sign, per cent."""
        return _mean(self.points)

    def residuals(self) -> dict[str, dict[str, float]]:
        """Return what is left by group of rows: points, mean and largest error in per cent."""
        groups: dict[str, list[float]] = {}
        for point in self.points:
            groups.setdefault(_group(point), []).append(abs(point.error_pct))
        return {
            name: {
                "points": len(errors),
                "mean_pct": round(statistics.fmean(errors), 3),
                "max_pct": round(max(errors), 3),
            }
            for name, errors in groups.items()
        }

    def to_toml(self) -> str:
        """Return the platform's file, with its residuals."""
        return self.platform.with_table("residual", self.residuals()).to_toml()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `--json` prints it."""
        return {
            "platform": self.platform.name,
            "points": len(self.points),
            "mean_abs_error_pct": self.mean_pct,
            "mean_abs_error_pct_before": self.before,
            "parameters": [
                {
                    "key": f.key,
                    "value": f.value,
                    "unit": f.unit,
                    "low": f.low,
                    "high": f.high,
                    "seen": f.key not in self.unseen,
                }
                for f in self.platform.free
            ],
            "residuals": self.residuals(),
        }


def calibrate(
    data: Path, platform: Platform, progress: Progress = lambda stage, done, total: None
) -> Calibration:
    """Find a platform's free parameters.

    Parameters
    ----------
    data : a folder of reference data. platform : where to start.

    Raises
    ------
    NothingMeasuredError : the folder has none of the rows. FormatError : a table that cannot be read.
    """
    fit = fit_of(platform)
    start = fit(data, platform)
    if not start:
        systems = ", ".join(map(repr, platform.table.systems))
        which = f"of system {systems}; docs/validation.md lists which rows"
        raise NothingMeasuredError(f"{data}: no row that {platform.name} is found with ({which})")
    search = _Search(data, platform, fit, progress)
    best = search.values()
    for _ in range(_ROUNDS):
        found = search.neighbours(search.continuous(best))
        if found == best:
            break
        best = found
    calibrated = platform.changed(best)
    return Calibration(calibrated, fit(data, calibrated), _mean(start), search.unseen(best))


class _Search:
    """The search for one platform: what has been tried is remembered."""

    def __init__(self, data: Path, platform: Platform, fit: Fit, progress: Progress) -> None:
        self._data = data
        self._platform = platform
        self._fit = fit
        self._progress = progress
        self._tried: dict[tuple[tuple[str, int], ...], np.ndarray] = {}

    def values(self) -> dict[str, int]:
        """Return the values that the platform has, in base units."""
        return {free.key: self._platform.value(free.key) for free in self._platform.free}

    def errors(self, values: Mapping[str, int]) -> np.ndarray:
        """Return log(modelled / measured) of every row."""
        key = tuple(values.items())
        if key not in self._tried:
            self._progress("fitting: runs of all rows", len(self._tried) + 1, 0)
            points = self._fit(self._data, self._platform.changed(values))
            self._tried[key] = np.array([math.log(p.modelled / p.measured) for p in points])
        return self._tried[key]

    def cost(self, values: Mapping[str, int]) -> float:
        """Return the sum of squares."""
        return float(np.sum(self.errors(values) ** 2))

    def unseen(self, values: Mapping[str, int]) -> frozenset[str]:
        """Return the parameters that no row depends on."""
        found = set()
        for free in self._platform.free:
            value = values[free.key]
            other = {**values, free.key: value + max(round(value * 2 * _STEP), 1)}
            if np.array_equal(self.errors(other), self.errors(values)):
                found.add(free.key)
        return frozenset(found)

    def continuous(self, values: Mapping[str, int], evaluations: int = _EVALUATIONS) -> dict[str, int]:
        """Return better times: least squares over their logarithms, in so many steps at most."""
        from scipy.optimize import least_squares

        free = [f for f in self._platform.free if not f.whole]
        if not free:
            return dict(values)
        low = np.log([max(f.low * scale(f.unit), 1) for f in free])
        high = np.log([f.high * scale(f.unit) for f in free])
        start = np.clip(np.log([max(values[f.key], 1) for f in free]), low + 1e-6, high - 1e-6)

        def residuals(x: np.ndarray) -> np.ndarray:
            return self.errors({**values, **self._times(free, x)})

        # A step that is relative to the logarithm would depend on the unit: ps are small.
        found = least_squares(
            residuals,
            start,
            bounds=(low, high),
            method="dogbox",
            diff_step=_STEP / np.abs(start),
            max_nfev=evaluations,
        )
        better = {**values, **self._times(free, found.x)}
        return better if self.cost(better) < self.cost(values) else dict(values)

    def _times(self, free: Sequence[Free], x: np.ndarray) -> dict[str, int]:
        return {f.key: round(math.exp(value)) for f, value in zip(free, x, strict=True)}

    def neighbours(self, values: dict[str, int]) -> dict[str, int]:
        """Return better counts: one more or less, as long as that helps.

        Times that a count goes with are found anew for each: more tags are as good as a faster host.
        """
        best = dict(values)
        for free in self._platform.free:
            if not free.whole:
                continue
            for step in (1, -1):
                while free.low <= best[free.key] + step <= free.high:
                    alone = {**best, free.key: best[free.key] + step}
                    if np.array_equal(self.errors(alone), self.errors(best)):
                        # No row depends on it: what gets better are the times, which need no other count.
                        break
                    other = self.continuous(alone, _NEIGHBOUR)
                    if self.cost(other) >= self.cost(best):
                        break
                    best = other
        return best


def _mean(points: Sequence[Point]) -> float:
    return statistics.fmean(abs(p.error_pct) for p in points)


def _group(point: Point) -> str:
    """Return the experiment that a point is of."""
    words = point.conditions.split()
    return next((w for w in words if w.startswith(("BW_", "LAT_"))), words[0])
