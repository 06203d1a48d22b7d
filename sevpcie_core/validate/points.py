"""What a comparison with reference data is made of: points, and what a set of them must reach."""

import statistics
from collections.abc import Mapping, Sequence
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
    published : what the analytic model of pcie-bench says of it, where it says something.
    """

    conditions: str
    curve: str
    at: float
    measured: float
    modelled: float
    fitted: bool = False
    published: float | None = None

    @property
    def error_pct(self) -> float:
        """How far the model is off, per cent; positive: it is above."""
        return 100 * (self.modelled / self.measured - 1)

    @property
    def published_error_pct(self) -> float | None:
        """The same of the published model."""
        return None if self.published is None else 100 * (self.published / self.measured - 1)


@dataclass(frozen=True)
class DataSet:
    """A data set, compared; without points it is absent.

    Attributes
    ----------
    name : as in docs/validation.md. title, unit, at_unit : for people.
    bar_mean_pct, bar_max_pct : what mean and largest error may be, per cent; None: no bar on the largest.
    free_parameters : how many of the model's were found with these data.
    missed : what else the set must show and does not, a sentence each.
    not_modelled : what is in the data and not in the model, and how many rows each has.
    """

    name: str
    title: str
    unit: str
    at_unit: str
    bar_mean_pct: float
    bar_max_pct: float | None
    free_parameters: int = 0
    points: Sequence[Point] = field(default_factory=list)
    missed: Sequence[str] = ()
    not_modelled: Mapping[str, int] = field(default_factory=dict)

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
        """Whether the bars are met and nothing else is missed; None for an absent set."""
        mean, most = self.mean_abs_error_pct, self.max_abs_error_pct
        if mean is None or most is None:
            return None
        within = self.bar_max_pct is None or most <= self.bar_max_pct
        return mean <= self.bar_mean_pct and within and not self.missed

    @property
    def published_mean_abs_error_pct(self) -> float | None:
        """The mean error of the published model, over the points that it has a figure for."""
        errors = [abs(e) for e in (p.published_error_pct for p in self.points) if e is not None]
        return statistics.fmean(errors) if errors else None

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
