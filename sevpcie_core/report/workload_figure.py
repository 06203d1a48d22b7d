"""The picture of a workload: how large its operations are, and how they follow each other.

Rule: as in `report.figures`: a figure depends on the document of `experiment.looks` and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from sevpcie_core.report import view
from sevpcie_core.report.figures import time_axis
from sevpcie_core.report.style import INK, MUTED, Drawing, shorten, styled
from sevpcie_core.report.workload import alike, names, planned, title

Document = Mapping[str, Any]

_OPERATIONS: Final = "#0072b2"
_BYTES: Final = "#56b4e9"
# Inches: of the page, of one device, around its panels.
_WIDTH: Final = 11.0
_CELL: Final = 2.35
_TOP: Final = 0.62
_LEFT: Final = 0.75
_BELOW: Final = 0.55
_ABOVE: Final = 0.42
# Sizes that fill a panel.
_FEW: Final = 5


@styled
def fig_workload(document: Document) -> Drawing:
    """Draw a row of two panels for each device.

    Left: the share of operations, and of their bytes of data, by size. Right: the cumulative distribution of
    the times between two arrivals, where they are given.
    """
    rows = [
        (title(document, workload), devices)
        for workload in document["workloads"]
        for devices in alike(workload["devices"], lambda device: (device["sizes"], device["gaps"]))
    ]
    height = _TOP + len(rows) * _CELL
    figure = Drawing(figsize=(_WIDTH, height), facecolor="white")
    half = (_WIDTH - 0.3) / 2
    tall = (_CELL - _BELOW - _ABOVE) / height
    for i, (name, devices) in enumerate(rows):
        device = devices[0]
        base = (height - _TOP - (i + 1) * _CELL + _BELOW) / height
        sizes = figure.add_axes((_LEFT / _WIDTH, base, (half - _LEFT - 0.1) / _WIDTH, tall))
        gaps = figure.add_axes(((half + _LEFT) / _WIDTH, base, (half - _LEFT - 0.1) / _WIDTH, tall))
        several = sum(other == name for other, _ in rows) > 1 or len(devices) > 1
        if several or device["device"] != device["kind"]:
            name = f"{name} {names(devices, 'device')}"
        on = f"{names(devices, 'preset')} on {view.clean(device['link']['name'])}"
        sizes.set_title(shorten(name, 40), loc="left", weight="bold", size=9.5, pad=6)
        gaps.set_title(shorten(f"{on}, {device['arrivals']}", 60), loc="left", size=8.5, color=MUTED, pad=6)
        _draw_sizes(sizes, device)
        _draw_gaps(gaps, device)
    head = f"{view.clean(document['scenario'])}: sizes and arrivals"
    told = f" - {view.clean(document['title'])}" if document["title"] else ""
    figure.text(0.18 / _WIDTH, 1 - 0.14 / height, shorten(head + told, 118), va="top", weight="bold", size=11)
    figure.legend(
        handles=[
            Patch(color=_OPERATIONS, label="share of operations"),
            Patch(color=_BYTES, label="share of their data"),
        ],
        loc="upper left",
        bbox_to_anchor=(0.10 / _WIDTH, 1 - 0.34 / height),
        ncols=2,
        fontsize=8.5,
        borderaxespad=0.2,
    )
    return figure


def _draw_sizes(axes: Axes, device: Document) -> None:
    octaves: Sequence[Document] = device["sizes"]["octaves"]
    if not octaves:
        _say(axes, "no operation of its own")
        return
    count = sum(o["count"] for o in octaves)
    moved = sum(o["bytes"] for o in octaves) or 1
    places = range(len(octaves))
    width = 0.36
    for shift, key, whole, colour in ((-1, "count", count, _OPERATIONS), (1, "bytes", moved, _BYTES)):
        heights = [100 * o[key] / whole for o in octaves]
        bars = axes.bar([p + shift * width / 2 for p in places], heights, width, color=colour, zorder=3)
        if len(octaves) <= 6:
            axes.bar_label(bars, [_share(h) for h in heights], size=7, color=MUTED, padding=1.5)
    axes.set_xticks(list(places), [_size_label(o) for o in octaves])
    axes.tick_params(axis="x", length=0)
    if len(octaves) > 5:
        axes.tick_params(axis="x", labelsize=7)
    # One size alone is no wall.
    room = 0.5 + max(0, _FEW - len(octaves)) / 2
    axes.set_xlim(-room, len(octaves) - 1 + room)
    axes.set_ylim(0, 112)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel("%", size=8.5)
    axes.grid(True, axis="y", zorder=0)
    named = device["operations"]["with_data"]
    of = "an operation"
    if len(named) < len(device["operations"]["by_class"]):
        of = " and ".join(view.clean(name) for name in named)
    axes.set_xlabel(f"data of {of}", size=8.5)


def _share(percent: float) -> str:
    if percent == 0:
        return ""
    return "<1" if percent < 0.95 else f"{percent:.0f}"


def _size_label(octave: Document) -> str:
    least, most = octave["least_bytes"], octave["most_bytes"]
    return (
        short_size(least)
        if least == most
        else f"{short_size(least).removesuffix(' B')}\nto {short_size(most)}"
    )


def short_size(size: int) -> str:
    """Write a size as short as it goes without rounding, else rounded to three digits."""
    for scale, unit in ((1 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")):
        if size >= scale and size % scale == 0:
            return f"{size // scale} {unit}B"
    if size < 100_000:
        return f"{size} B"
    for power, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= power:
            return f"{size / power:.3g} {unit}B"
    return f"{size} B"


def _draw_gaps(axes: Axes, device: Document) -> None:
    found = device["gaps"]
    if found is None:
        _say(axes, "no arrivals are given: the next operation starts when one is complete")
        return
    if not found["samples"]:
        _say(axes, "a single arrival")
        return
    values, shares = found["cdf"]["ns"], [100 * p for p in found["cdf"]["p"]]
    none = next((share for value, share in zip(values, shares, strict=True) if value == 0), 0.0)
    drawn = [(value, share) for value, share in zip(values, shares, strict=True) if value > 0]
    if not drawn:
        _say(axes, "all arrive at the same time")
        return
    low, high = drawn[0][0], drawn[-1][0]
    xs = [low / 10, *(value for value, _ in drawn), 2 * high]
    ys = [none, *(share for _, share in drawn), 100.0]
    axes.plot(xs, ys, color=INK, lw=1.5, drawstyle="steps-post", zorder=3)
    time_axis(axes, [low, high] if high > 1.2 * low else [low / 1.1, 1.1 * high])
    axes.set_ylim(0, 104)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel("% of gaps", size=8.5)
    axes.grid(True, zorder=0)
    for name in ("p50", "p99"):
        at = found["ns"][name]
        if low <= at <= high:
            percent = float(name[1:])
            # There the axis ends before the words do.
            late = math.log(at / low) > 0.75 * math.log(high / low)
            axes.plot([at], [percent], "o", ms=4, color=_OPERATIONS, zorder=4)
            axes.annotate(
                f"{name} {view.time_text(at, micro='µs')}",
                (at, percent),
                (-5, -9) if late else (5, -9),
                textcoords="offset points",
                size=7.5,
                color=MUTED,
                ha="right" if late else "left",
            )
    below = f", {none:.3g} % are 0" if none else ""
    axes.set_xlabel(f"time from one arrival to the next{planned(device)}{below}", size=8.5)


def _say(axes: Axes, text: str) -> None:
    """Leave a panel empty but for a sentence."""
    axes.set_axis_off()
    axes.text(0.0, 0.5, text, transform=axes.transAxes, color=MUTED, size=8.5, va="center")
