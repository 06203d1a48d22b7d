"""The picture of two workloads side by side: their sizes and their gaps, one over the other.

Rule: as in `report.figures`: a figure depends on the document of `experiment.against` and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sevpcie_core.report import view
from sevpcie_core.report.against import SIDES, distinct, joined
from sevpcie_core.report.figures import time_axis
from sevpcie_core.report.style import GRID, INK, MUTED, Drawing, shorten, styled
from sevpcie_core.report.workload import planned
from sevpcie_core.report.workload_figure import short_size

Document = Mapping[str, Any]

# Okabe and Ito (2008); the second is drawn over the first, and thinner.
_COLOURS: Final = ("#e69f00", "#0072b2")
_WIDTHS: Final = (3.0, 1.3)
# Inches: of the page, of one class, around its panels.
_WIDTH: Final = 11.0
_CELL: Final = 2.45
_TOP: Final = 0.62
_LEFT: Final = 0.75
_BELOW: Final = 0.55
_ABOVE: Final = 0.46


@styled
def fig_against(document: Document) -> Drawing:
    """Draw a row of two panels for each class that both sides have.

    Cumulative distributions of both: left of sizes, right of the times between two arrivals; where they are
    farthest from each other there is a line between them.
    """
    rows = [
        (pairs, found)
        for pairs in distinct(document)
        for found in pairs[0]["classes"]
        if all(found["operations"].values())
    ]
    common = [len({joined(pairs, side) for pairs in distinct(document)}) == 1 for side in SIDES]
    height = _TOP + len(rows) * _CELL
    figure = Drawing(figsize=(_WIDTH, height), facecolor="white")
    half = (_WIDTH - 0.3) / 2
    tall = (_CELL - _BELOW - _ABOVE) / height
    for i, (pairs, found) in enumerate(rows):
        base = (height - _TOP - (i + 1) * _CELL + _BELOW) / height
        sizes = figure.add_axes((_LEFT / _WIDTH, base, (half - _LEFT - 0.1) / _WIDTH, tall))
        gaps = figure.add_axes(((half + _LEFT) / _WIDTH, base, (half - _LEFT - 0.1) / _WIDTH, tall))
        several = len(distinct(document)) > 1
        name = view.clean(found["class"])
        if several:
            name = ", ".join(
                [*(joined(pairs, s) for s, same in zip(SIDES, common, strict=True) if not same), name]
            )
        counts = " and ".join(f"{found['operations'][side]:,}" for side in SIDES)
        sizes.set_title(shorten(name, 48), loc="left", weight="bold", size=9.5, pad=14)
        gaps.set_title(f"{counts} operations", loc="left", size=8.5, color=MUTED, pad=14)
        _draw(
            sizes,
            found["sizes"],
            "bytes",
            _size_axis,
            f"data of {view.clean(found['class'])} operations",
            "no data",
        )
        plan = " and ".join(view.clean(pairs[0][s]["name"]) for s in SIDES if planned(pairs[0][s]))
        label = "time from one arrival to the next" + (f"; of {plan} as planned" if plan else "")
        _draw(gaps, found["gaps"], "ns", time_axis, label, "no arrivals are given")
    told = distinct(document)
    title = f"{view.clean(document['options']['name'])} against {view.clean(document['options']['against'])}"
    if len(told) == 1:
        title = f"{joined(told[0], 'one')} against {joined(told[0], 'other')}"
    figure.text(0.18 / _WIDTH, 1 - 0.14 / height, shorten(title, 110), va="top", weight="bold", size=11)
    figure.legend(
        handles=[
            Line2D([], [], color=colour, lw=wide, label=label)
            for colour, wide, label in zip(_COLOURS, _WIDTHS, _labels(told), strict=True)
        ],
        loc="upper left",
        bbox_to_anchor=(0.10 / _WIDTH, 1 - 0.34 / height),
        ncols=2,
        fontsize=8.5,
        borderaxespad=0.2,
    )
    return figure


def _labels(told: Sequence[Sequence[Document]]) -> list[str]:
    """Return the names of the sides; of a side that differs from row to row, what all are."""
    named = [list(dict.fromkeys(joined(pairs, side) for pairs in told)) for side in SIDES]
    return [shorten(names[0], 50) if len(names) == 1 else "what the row names" for names in named]


def _draw(
    axes: Axes,
    found: Document,
    unit: str,
    scale: Callable[[Axes, Sequence[float]], None],
    label: str,
    nothing: str,
) -> None:
    """Draw the cumulative distributions of both sides, of values above 0 on a logarithmic axis."""
    present = [i for i, side in enumerate(SIDES) if found[side] is not None]
    reach = [v for i in present for v in found[SIDES[i]]["cdf"][unit] if v > 0]
    if not reach:
        axes.set_axis_off()
        axes.text(0.0, 0.5, nothing, transform=axes.transAxes, color=MUTED, size=8.5, va="center")
        return
    low, high = min(reach), max(reach)
    for i in present:
        values, shares = found[SIDES[i]]["cdf"][unit], found[SIDES[i]]["cdf"]["p"]
        none = next((share for value, share in zip(values, shares, strict=True) if value == 0), 0.0)
        drawn = [(value, share) for value, share in zip(values, shares, strict=True) if value > 0]
        xs = [low / 100, *(value for value, _ in drawn), 100 * high]
        ys = [100 * none, *(100 * share for _, share in drawn), 100.0]
        axes.plot(xs, ys, color=_COLOURS[i], lw=_WIDTHS[i], drawstyle="steps-post", zorder=3 + i)
    scale(axes, [low, high] if high > 1.2 * low else [low / 1.3, 1.3 * high])
    if low == high:
        axes.xaxis.set_major_locator(FixedLocator([low]))
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel("%", size=8.5)
    axes.grid(True, zorder=0, color=GRID)
    axes.set_xlabel(label, size=8.5)
    distance = found["distance"]
    if distance is None:
        words = f"of one side {nothing}"
        axes.text(0, 1.03, words, transform=axes.transAxes, color=MUTED, size=7.5, va="bottom")
        return
    at, shares = distance["ks_at"], sorted(100 * distance[f"share_{side}"] for side in SIDES)
    if distance["ks"] > 0 and at > 0:
        axes.plot([at, at], shares, color=INK, lw=1.0, ls=(0, (2, 1.5)), zorder=6)
    words = f"KS {distance['ks']:.3f} (limit {distance['ks_limit']:.3f})"
    if distance["total_variation"] is not None:
        words += f", TV {distance['total_variation']:.3f}"
    if (scaled := found.get("over_mean")) is not None:
        words += f"; over the mean: KS {scaled['ks']:.3f}"
    axes.text(0, 1.03, words, transform=axes.transAxes, color=MUTED, size=7.5, va="bottom")


def _size_axis(axes: Axes, reach: Sequence[float]) -> None:
    """Give sizes a logarithmic axis whose ticks carry units."""
    low, high = min(reach), max(reach)
    axes.set_xscale("log")
    pad = max((high / low) ** 0.03, 1.01)
    axes.set_xlim(low / pad, high * pad)
    if high / low < 2:
        ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
        axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    else:
        axes.xaxis.set_major_locator(LogLocator(base=2 if high / low < 300 else 16, numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short_size(round(size))))
