"""Figures of a validation: the model over what was measured, and how far it is off."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from sevpcie_core.report.style import INK, MUTED, Drawing, styled
from sevpcie_core.validate.points import DataSet, Point

# Curves that one panel can show; of more, the largest are drawn and the others counted.
_MOST_CURVES = 8
# Curves of more kinds than that are of one panel.
_MOST_PANELS = 2
# From this ratio of the largest to the smallest on, a linear axis would show the largest only; of times, half
# of a small one matters as half of a large one does.
_LOGARITHMIC = 1000
_LOGARITHMIC_TIMES = 30
# What lies nearer together than this share of itself is not spread over the whole height.
_FLAT = 0.15
# So many places, if they are not bytes, each have their own mark on the axis.
_FEW_PLACES = 9
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#6a3d9a", "#7d5a00")
_TITLE_CHARACTERS = 112
# That fit beside each other in the legend, and what a name has beside its own: line, circle and space.
_LETTERS = 130
_HANDLE = 7
_MARKER = {"marker": "o", "markersize": 3.2, "markerfacecolor": "white"}


@styled
def fig_validation(found: DataSet) -> Drawing:
    """Draw a data set: measured points and the model's line above, the error below.

    Many curves of two kinds, told by the first word of their names, have a panel each. The legend stands
    under the axes, where no point is.

    Raises ValueError for an absent set.
    """
    if not found.points:
        raise ValueError(f"{found.name} has no points")
    panels = _panels(found)
    shown = {
        kind: dict(sorted(curves.items(), key=lambda item: -len(item[1]))[:_MOST_CURVES])
        for kind, curves in panels.items()
    }
    names = {kind: [name.removeprefix(kind).strip() for name in curves] for kind, curves in shown.items()}
    # Panels whose curves have the same names share colours and the legend.
    shared = list(dict.fromkeys(name for of_panel in names.values() for name in of_panel))
    colours = {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(shared)}
    columns = _columns(shared)
    rows = -(-(len(shared) + 3) // columns)
    figure = Drawing(figsize=(8.0, 5.1 + 0.2 * rows), facecolor="white")
    axes = figure.subplots(2, len(panels), sharex="col", sharey="row", height_ratios=(3, 1), squeeze=False)
    upper, lower = axes[0], axes[1]
    for column, (kind, curves) in enumerate(shown.items()):
        for name, (title, points) in zip(names[kind], curves.items(), strict=True):
            _curve(upper[column], lower[column], title, points, colours[name])
        if kind:
            upper[column].set_title(kind, loc="center", fontsize=8.5, color=MUTED)
        _places(lower[column], found, [p.at for points in curves.values() for p in points])
        for panel in (upper[column], lower[column]):
            panel.grid(True, axis="y")
        lower[column].set_xlabel(found.at_unit)
    _errors(lower, found)
    upper[0].set_ylabel(found.unit)
    _values(upper[0], found)
    handles = [Line2D([], [], color=colours[n], linewidth=1.2, **_MARKER, label=n) for n in shared]  # type: ignore[arg-type]
    handles.append(Line2D([], [], color=INK, linewidth=1.2, label="line: model"))
    handles.append(Line2D([], [], color=INK, linestyle="none", **_MARKER, label="circle: reference"))  # type: ignore[arg-type]
    if any(p.published is not None for p in found.points):
        handles.append(Line2D([], [], color=MUTED, linewidth=1.0, linestyle="--", label="pcie-model"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        fontsize=7.5,
        labelcolor=INK,
    )
    drawn = sum(map(len, shown.values()))
    figure.suptitle(_title(found, sum(map(len, panels.values())) - drawn), x=0.01, ha="left", fontsize=9.0)
    figure.set_layout_engine("constrained")
    return figure


def _panels(found: DataSet) -> dict[str, dict[str, list[Point]]]:
    """Return the points by panel and curve; a single panel has no name."""
    curves: dict[str, list[Point]] = {}
    for point in found.points:
        curves.setdefault(point.curve, []).append(point)
    kinds: dict[str, dict[str, list[Point]]] = {}
    for name, points in curves.items():
        kinds.setdefault(name.partition(" ")[0], {})[name] = points
    if len(curves) <= _MOST_CURVES or len(kinds) != _MOST_PANELS:
        return {"": curves}
    return kinds


def _curve(upper: Axes, lower: Axes, name: str, points: Sequence[Point], colour: str) -> None:
    """Draw a curve: the model's line, the measured points, the errors, and the published model's."""
    points = sorted(points, key=lambda p: p.at)
    thinned = _spread(points)
    at = [p.at for p in points]
    upper.plot(at, [p.modelled for p in points], color=colour, linewidth=1.2, label=f"{name}: model")
    upper.plot(
        [p.at for p in thinned],
        [p.measured for p in thinned],
        linestyle="none",
        markeredgecolor=colour,
        label=f"{name}: reference",
        **_MARKER,  # type: ignore[arg-type]
    )
    lower.plot(at, [p.error_pct for p in points], color=colour, linewidth=1.0)
    theirs = [p for p in points if p.published is not None]
    if theirs:
        places = [p.at for p in theirs]
        off = [p.published_error_pct or 0.0 for p in theirs]
        published = [p.published or 0.0 for p in theirs]
        upper.plot(places, published, color=MUTED, linewidth=1.0, linestyle="--", label="pcie-model")
        lower.plot(places, off, color=MUTED, linewidth=1.0, linestyle="--")


def _errors(panels: Sequence[Axes], found: DataSet) -> None:
    """Set up the axes of the errors: the bar in grey, zero in the middle."""
    # A set without a bar on the largest error has one on the mean.
    bar = found.bar_mean_pct if found.bar_max_pct is None else found.bar_max_pct
    off = [abs(p.error_pct) for p in found.points]
    off += [abs(p.published_error_pct) for p in found.points if p.published_error_pct is not None]
    reach = 1.25 * max(bar, *off)
    for axes in panels:
        axes.axhspan(-bar, bar, color="#eef1f4", zorder=0)
        axes.axhline(0, color=MUTED, linewidth=0.7)
    panels[0].set_ylim(-reach, reach)
    panels[0].yaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].set_ylabel("model off by, %")


def _places(axes: Axes, found: DataSet, places: Sequence[float]) -> None:
    """Set up the axis of places: logarithmic, in powers of two, or with a mark at each of a few."""
    if min(places) <= 0:
        return
    axes.set_xscale("log", base=2)
    few = sorted(set(places))
    if len(few) <= _FEW_PLACES and not found.at_unit.endswith("bytes"):
        axes.xaxis.set_major_locator(FixedLocator(few))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(LogLocator(2, numticks=14))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _place(value, found.at_unit)))


def _columns(names: Sequence[str]) -> int:
    """Return how many names of curves stand side by side in the legend."""
    return max(1, min(4, _LETTERS // (max(map(len, names), default=0) + _HANDLE)))


def _values(axes: Axes, found: DataSet) -> None:
    """Set up the axis of what was measured: logarithmic over a wide range; little is not drawn as much."""
    values = [v for p in found.points for v in (p.measured, p.modelled)]
    low, high = min(values), max(values)
    if low > 0 and high > (_LOGARITHMIC_TIMES if found.unit in ("ns", "us") else _LOGARITHMIC) * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif low > 0 and high - low < _FLAT * high:
        middle = (low + high) / 2
        axes.set_ylim(middle * (1 - _FLAT), middle * (1 + _FLAT))


def _title(found: DataSet, hidden: int) -> str:
    """Return what the picture says of its set, in lines that fit."""
    mean, largest = found.mean_abs_error_pct, found.max_abs_error_pct
    assert mean is not None
    assert largest is not None
    of = " of the mean" if found.bar_max_pct is None else ""
    more = f" ({hidden} more curves not drawn)" if hidden > 0 else ""
    counts = f"{len(found.points)} points, {found.held_out} held out"
    errors = f"error {_pct(mean)} in the mean, {_pct(largest)} at most"
    text = f"{counts}; {errors}{_published(found)}; grey: the bar{of}"
    lines = textwrap.wrap(found.title + more, _TITLE_CHARACTERS) + textwrap.wrap(text, _TITLE_CHARACTERS)
    return "\n".join(lines)


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
