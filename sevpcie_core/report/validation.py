"""Figures of a validation: the model over what was measured, and how far it is off."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sevpcie_core.report.style import INK, MUTED, Drawing, styled
from sevpcie_core.validate.points import DataSet, Point

# Curves that one picture can show; of more, the largest are drawn and the others counted.
_MOST_CURVES = 6
# From this ratio of the largest to the smallest on, a linear axis would show the largest only.
_LOGARITHMIC = 1000
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")


@styled
def fig_validation(found: DataSet) -> Drawing:
    """Draw a data set: measured points and the model's line above, the error below.

    Raises ValueError for an absent set.
    """
    if not found.points:
        raise ValueError(f"{found.name} has no points")
    curves: dict[str, list[Point]] = {}
    for point in found.points:
        curves.setdefault(point.curve, []).append(point)
    shown = sorted(curves, key=lambda name: -len(curves[name]))[:_MOST_CURVES]
    figure = Drawing(figsize=(8.0, 5.4), facecolor="white")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    largest = max(abs(p.error_pct) for p in found.points)
    reached = largest
    for name, colour in zip(shown, _COLOURS, strict=False):
        points = sorted(curves[name], key=lambda p: p.at)
        thinned = _spread(points)
        at = [p.at for p in points]
        upper.plot(at, [p.modelled for p in points], color=colour, linewidth=1.2, label=f"{name}: model")
        upper.plot(
            [p.at for p in thinned],
            [p.measured for p in thinned],
            linestyle="none",
            marker="o",
            markersize=3.2,
            markerfacecolor="white",
            markeredgecolor=colour,
            label=f"{name}: reference",
        )
        lower.plot(at, [p.error_pct for p in points], color=colour, linewidth=1.0)
        theirs = [p for p in points if p.published is not None]
        if theirs:
            places = [p.at for p in theirs]
            off = [p.published_error_pct or 0.0 for p in theirs]
            published = [p.published or 0.0 for p in theirs]
            upper.plot(places, published, color=MUTED, linewidth=1.0, linestyle="--", label="pcie-model")
            lower.plot(places, off, color=MUTED, linewidth=1.0, linestyle="--")
            reached = max(reached, *map(abs, off))
    # A set without a bar on the largest error has one on the mean.
    bar = found.bar_mean_pct if found.bar_max_pct is None else found.bar_max_pct
    reach = 1.25 * max(bar, reached)
    lower.axhspan(-bar, bar, color="#eef1f4", zorder=0)
    lower.axhline(0, color=MUTED, linewidth=0.7)
    lower.set_ylim(-reach, reach)
    lower.yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.set_ylabel("model off by, %")
    lower.set_xlabel(found.at_unit)
    upper.set_ylabel(found.unit)
    if min(p.at for p in found.points) > 0:
        lower.set_xscale("log", base=2)
        lower.xaxis.set_major_locator(LogLocator(2, numticks=14))
        lower.xaxis.set_minor_formatter(NullFormatter())
        lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _place(value, found.at_unit)))
    rates = [v for p in found.points for v in (p.measured, p.modelled)]
    if min(rates) > 0 and max(rates) > _LOGARITHMIC * min(rates):
        upper.set_yscale("log")
        upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in (upper, lower):
        axes.grid(True, axis="y")
    upper.legend(loc="best", ncols=2, fontsize=7.5, labelcolor=INK)
    mean = found.mean_abs_error_pct
    assert mean is not None
    of = " of the mean" if found.bar_max_pct is None else ""
    rest = len(curves) - len(shown)
    more = f" ({rest} more curves not drawn)" if rest > 0 else ""
    counts = f"{len(found.points)} points, {found.held_out} held out"
    errors = f"error {_pct(mean)} in the mean, {_pct(largest)} at most"
    upper.set_title(
        f"{found.title}{more}\n{counts}; {errors}{_published(found)}; grey: the bar{of}",
        loc="left",
        fontsize=9.0,
    )
    figure.set_layout_engine("constrained")
    return figure


def _published(found: DataSet) -> str:
    """Return what the published model reaches on the same points, if it has any."""
    mean = found.published_mean_abs_error_pct
    return "" if mean is None else f"; pcie-model (dashed): {_pct(mean)}"


def _spread(points: Sequence[Point], most: int = 48) -> list[Point]:
    """Return points of a curve that lie apart in the picture, whose axis is logarithmic; of few, all."""
    if len(points) <= 2 * most:
        return list(points)
    kept: list[Point] = []
    low, high = math.log(max(points[0].at, 1)), math.log(max(points[-1].at, 1))
    step = (high - low) / most
    for point in points:
        if not kept or math.log(max(point.at, 1)) - math.log(max(kept[-1].at, 1)) >= step:
            kept.append(point)
    return kept


def _place(value: float, unit: str) -> str:
    """Return a place on the axis: 64 as such, 2**20 bytes as 1 Mi."""
    steps = ((1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")) if unit.endswith("bytes") else ()
    for step, prefix in steps:
        if value >= step:
            return f"{value / step:g} {prefix}"
    return f"{value:g}"


def _pct(value: float) -> str:
    return f"{value:.2g} %"
