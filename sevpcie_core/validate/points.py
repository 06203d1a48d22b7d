"""What a comparison with reference data is made of: points, and what a set of them must reach."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Point:
    """One measured figure and the model's.

    Attributes
    ----------
    conditions : all that tells the point from the others, in words.
    curve : the line of the picture that it belongs to. at : its place on it (bytes, ...).
    measured, modelled : of one unit, not 0.
    fitted : the point was used to find a parameter.
    """

    conditions: str
    curve: str
    at: float
    measured: float
    modelled: float
    fitted: bool = False

    @property
    def error_pct(self) -> float:
        """How far the model is off, per cent; positive: it is above."""
        return 100 * (self.modelled / self.measured - 1)


@dataclass(frozen=True)
class DataSet:
    """A data set, compared; without points it is absent.

    Attributes
    ----------
    name : as in docs/validation.md. title, unit, at_unit : for people.
    bar_mean_pct, bar_max_pct : what mean and largest error may be, per cent; None: no bar on the largest.
    free_parameters : how many of the model's were found with these data.
    """

    name: str
    title: str
    unit: str
    at_unit: str
    bar_mean_pct: float
    bar_max_pct: float | None
    free_parameters: int = 0
    points: Sequence[Point] = field(default_factory=list)

    @property
    def held_out(self) -> int:
        """Points that no parameter was found with."""
        return sum(not point.fitted for point in self.points)

    @property
    def mean_abs_error_pct(self) -> float | None:
        """The mean error without its sign; None for an absent set."""
        return statistics.fmean(abs(p.error_pct) for p in self.points) if self.points else None

    @property
    def max_abs_error_pct(self) -> float | None:
        """The largest error without its sign; None for an absent set."""
        return max((abs(p.error_pct) for p in self.points), default=None)

    @property
    def ok(self) -> bool | None:
        """Whether the bars are met; None for an absent set."""
        mean, most = self.mean_abs_error_pct, self.max_abs_error_pct
        if mean is None or most is None:
            return None
        within = self.bar_max_pct is None or most <= self.bar_max_pct
        return mean <= self.bar_mean_pct and within

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `sevpcie validate --json` prints it."""
        return {
            "name": self.name,
            "points": len(self.points),
            "held_out_points": self.held_out,
            "mean_abs_error_pct": self.mean_abs_error_pct,
            "max_abs_error_pct": self.max_abs_error_pct,
            "bar_mean_pct": self.bar_mean_pct,
            "bar_max_pct": self.bar_max_pct,
            "free_parameters": self.free_parameters,
            "ok": self.ok,
        }
