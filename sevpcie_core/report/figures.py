"""Figures of a comparison: latency distributions, overheads against the budget, bytes on the wire.

The rule of this module: a figure depends on the record and on nothing else, and names from a record are drawn
as plain text, never as mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from sevpcie_core.report import view
from sevpcie_core.report.style import (
    BASELINE,
    INK,
    MUTED,
    VERDICT_COLOURS,
    VERDICT_MARKS,
    VERDICT_SYMBOLS,
    Drawing,
    arm_colours,
    shorten,
    styled,
)
from sevpcie_core.report.view import Arm, Line, Record, Row

WIRE_PARTS = (
    ("payload", "payload_bytes", "#d0d6dd"),
    ("TLP headers", "header_bytes", "#a3acb7"),
    ("framing, sequence, LCRC", "link_bytes", "#747e8a"),
    ("encryption: prefix, MAC, PCRC", "ide_bytes", "#5e3c99"),
)
NINES = ((0.0, "min"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"))

# Latency distributions


@styled
def fig_cdf(record: Record, scenario: str) -> Drawing:
    """Draw the latency distributions of a scenario, one panel for each line of the summary.

    Left: the share of requests (in nines, so that the tail has room) against latency on a logarithmic axis,
    plaintext and protected. Right: what protection adds at the same percentile, in per cent, with the budget.

    Raises KeyError if the record has no such scenario.
    """
    found = {entry.name: entry for entry in view.scenarios(record)}[scenario]
    arms = view.arms(record)
    lines = found.lines
    columns = 1 if len(lines) == 1 else 2
    rows = -(-len(lines) // columns)
    width, cell, top, bottom = 11.0, 2.30, 0.58, 0.52
    height = top + rows * cell + 0.10
    figure = Drawing(figsize=(width, height), facecolor="white")
    for i, line in enumerate(lines):
        left = 0.62 + (i % columns) * (width - 0.35) / columns
        base = height - top - (i // columns + 1) * cell + bottom
        span = (width - 0.35) / columns - 0.62
        box = (left / width, base / height, span * 0.69 / width, (cell - bottom - 0.28) / height)
        main = figure.add_axes(box)
        beside = figure.add_axes(
            ((left + span * 0.74) / width, box[1], span * 0.26 / width, box[3]), sharey=main
        )
        _cdf_panel(record, line, arms, main, beside, last=i + columns >= len(lines))
    handles = [Line2D([], [], color=BASELINE, lw=3.2, label=view.baseline_title(record))]
    handles += [Line2D([], [], color=c, lw=1.5, label=a.title) for a, c in arm_colours(arms).items()]
    budget = f"budget {view.plain_number(view.budget_pct(record))} %"
    handles += [Line2D([], [], color=INK, lw=1.0, ls=(0, (4, 2)), label=budget)] if arms else []
    title = f"{view.clean(scenario)}: latency" + (f" - {found.title}" if found.title else "")
    figure.text(0.18 / width, 1 - 0.14 / height, shorten(title, 110), va="top", weight="bold", size=11)
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.10 / width, 1 - 0.32 / height),
        ncols=len(handles),
        fontsize=8.5,
        borderaxespad=0.2,
    )
    return figure


def _cdf_panel(record: Record, line: Line, arms: Sequence[Arm], main: Axes, beside: Axes, last: bool) -> None:
    colours = arm_colours(arms)
    drawn = list(line.rows)
    depth = max([_depth(row) for _, row in drawn], default=1.0)
    reach: list[float] = []
    added: list[float] = [0.0]
    for arm, row in drawn:
        x, y = _steps(row["cdf"], depth)
        reach += x
        if arm is None:
            main.plot(x, y, color=BASELINE, lw=3.2, drawstyle="steps-post", zorder=2)
            continue
        main.plot(x, y, color=colours[arm], lw=1.4, drawstyle="steps-post", zorder=3)
        pct, at = _added(line.baseline, row)
        added += pct
        beside.plot(pct, at, color=colours[arm], lw=1.2, marker="o", ms=3.8, zorder=3)
    time_axis(main, reach)
    ticks = [(_nines(p), name) for p, name in NINES if _nines(p) <= depth + 1e-9]
    main.set_ylim(0, depth)
    main.set_yticks([t for t, _ in ticks], [name for _, name in ticks])
    main.grid(True, zorder=0)
    main.set_title(shorten(line.title, 34), loc="left", weight="bold", size=9.5, pad=5)
    budget = view.budget_pct(record)
    low, high = min(added), max(added)
    if high > 100 * budget > 0:
        # Beside a bounce buffer's, what encryption adds would be a line at 0.
        _percent_axis(beside, added, budget, float(beside.bbox.width / beside.figure.dpi))
    else:
        right = max(high * 1.08, budget * 1.12)
        beside.set_xlim(min(low - 0.06 * (right - low), -0.03 * right), right)
        beside.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    beside.axvline(budget, color=INK, lw=1.0, ls=(0, (4, 2)), zorder=2)
    beside.axvline(0, color=MUTED, lw=0.7, zorder=1)
    beside.tick_params(axis="y", labelleft=False, length=0)
    beside.grid(True, zorder=0)
    beside.set_title("added there", loc="left", size=8.5, color=MUTED, pad=5)
    if last:
        main.set_xlabel("latency", size=8.5)
        beside.set_xlabel("% of " + view.baseline_title(record), size=8.5)


def _steps(cdf: Mapping[str, Sequence[float]], depth: float) -> tuple[list[float], list[float]]:
    """Return the corners of a distribution (ns, nines), the first on the axis, the last beyond ``depth``."""
    told = [(ns, _nines(p)) for ns, p in zip(cdf["ns"], cdf["p"], strict=True) if ns > 0]
    inside = sum(nines <= depth for _, nines in told)
    kept = [(ns, min(nines, 1.1 * depth)) for ns, nines in told[: inside + 1]]
    corners = [(kept[0][0], 0.0), *kept] if kept else []
    return [ns for ns, _ in corners], [nines for _, nines in corners]


def _added(before: Row | None, after: Row) -> tuple[list[float], list[float]]:
    """Return what is added at the percentiles that the record tells exactly: per cent, nines."""
    pct, at = [], []
    for name, p in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        entry = view.overhead(after, f"latency_{name}")
        old, new = (row["latency_ns"].get(name) if row else None for row in (before, after))
        if entry is not None:
            pct.append(float(entry["value_pct"]))
        elif old and new is not None:
            pct.append(100 * (new / old - 1))
        else:
            continue
        at.append(_nines(p))
    return pct, at


def _depth(row: Row) -> float:
    """Return the nines that a row can tell: 10 samples must lie above the last; between p90 and p99.99."""
    return min(4.0, max(1.0, math.log10(max(row["requests"], 1) / 10)))


def _nines(p: float) -> float:
    return -math.log10(1 - p) if p < 1 else math.inf


def time_axis(axes: Axes, reach: Sequence[float]) -> None:
    """Give times in ns a logarithmic axis whose ticks carry units."""
    low, high = (min(reach), max(reach)) if reach else (1.0, 10.0)
    pad = max((high / low) ** 0.03, 1.01)
    axes.set_xscale("log")
    axes.set_xlim(low / pad, high * pad)
    if high / low < 6:
        ticks = [
            t
            for t in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
            if low / pad <= t <= high * pad
        ]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
    else:
        every = {20: (1.0, 2.0, 3.0, 5.0), 60: (1.0, 2.0, 5.0), 600: (1.0, 3.0)}
        subs = next((s for ratio, s in every.items() if high / low < ratio), (1.0,))
        axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ns, _: _tick(ns)))


def _tick(ns: float) -> str:
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= scale * 0.9995:
            return f"{ns / scale:.4g} {unit}"
    return f"{ns:.4g} ns"


# Overheads against the budget

# Metric, its place beside the line's, size of the mark, and whether that is open.
_DRAWN = (("latency_p50", -0.17, 5.2, False), ("latency_p99", 0.2, 3.9, True))


@styled
def fig_overhead(record: Record) -> Drawing:
    """Draw the added latency of every line under every protection, with the budget.

    One panel per protection. For p50 (filled) and p99 (open): the point with typical parameters, a thick
    bar over the interval of the paired seeds, a thin bar over the range of the unknown ones.
    """
    arms = view.arms(record)
    views = view.scenarios(record)
    budget = view.budget_pct(record)
    labels: list[tuple[float, str, bool]] = []
    places: list[tuple[float, Line]] = []
    at = 0.0
    for entry in views:
        labels.append((at, shorten(view.clean(entry.name), 30), True))
        at += 0.85
        for line in entry.lines:
            labels.append((at, shorten(line.title, 30), False))
            places.append((at, line))
            at += 1.0
        at += 0.25
    width, top, bottom = 11.0, 0.66, 1.14
    height = top + bottom + max(at, 2.0) * 0.30
    left = 0.25 + 0.075 * max([len(text) for _, text, _ in labels], default=8)
    figure = Drawing(figsize=(width, height), facecolor="white")
    title = f"Added latency over {view.baseline_title(record)}, and its range over what is not known"
    figure.text(0.18 / width, 1 - 0.14 / height, title, va="top", weight="bold", size=11)
    if not arms:
        figure.text(0.5, 0.5, "No protection was compared.", ha="center", color=MUTED)
        return figure
    span = (width - left - 0.15) / len(arms)
    share: Axes | None = None
    # What encryption adds and what copies add differ by orders of magnitude: each kind has its axis.
    kinds: dict[bool, list[tuple[int, Axes]]] = {}
    for i, arm in enumerate(arms):
        box = ((left + i * span) / width, bottom / height, (span - 0.42) / width, 1 - (top + bottom) / height)
        kind = kinds.setdefault(view.on_the_link(record, arm), [])
        axes = figure.add_axes(box, sharex=kind[0][1] if kind else None, sharey=share)
        share = share or axes
        kind.append((i, axes))
        _overhead_panel(axes, arm, places, budget)
        axes.set_title(shorten(arm.title, 40), loc="left", weight="bold", size=9.5, pad=5)
        axes.tick_params(axis="y", length=0, labelleft=i == 0)
        axes.spines["left"].set_visible(False)
    assert share is not None
    share.set_ylim(at - 0.4, -0.55)
    share.set_yticks([y for y, _, _ in labels], [text for _, text, _ in labels])
    for tick, (_, _, heading) in zip(share.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("bold" if heading else "normal")
        tick.set_fontsize(9 if heading else 8.5)
    for kind in kinds.values():
        rows = [line.protected.get(arms[i]) for i, _ in kind for _, line in places]
        bend = _percent_axis(kind[0][1], [v for row in rows if row for v in _reach(row)], budget, span - 0.42)
        label = f"{chr(10) if len(kind) == 1 else ' '}(logarithmic beyond {view.plain_number(bend)} %)"
        for i, axes in kind:
            _open_ends(axes, arms[i], places)
        middle = left + (sum(i for i, _ in kind) / len(kind) + 0.5) * span - 0.21
        figure.text(
            middle / width,
            0.82 / height,
            "added latency, %" + (label if bend else ""),
            ha="center",
            va="top",
            size=9,
        )
    figure.legend(
        handles=_overhead_key(budget, any(row.get("saturated") for row in record["results"])),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.06 / height),
        ncols=5,
        fontsize=8,
        columnspacing=1.6,
        handlelength=1.8,
    )
    return figure


def _overhead_panel(axes: Axes, arm: Arm, places: Sequence[tuple[float, Line]], budget: float) -> None:
    axes.grid(True, axis="x", zorder=0)
    axes.axvline(0, color=MUTED, lw=0.7, zorder=1)
    axes.axvline(budget, color=INK, lw=1.1, ls=(0, (4, 2)), zorder=2)
    for at, line in places:
        row = line.protected.get(arm)
        word = view.verdict(row)
        colour = VERDICT_COLOURS.get(word or "", MUTED)
        mark = VERDICT_MARKS.get(word or "", "o")
        for metric, shift, size, open_ in _DRAWN:
            entry = view.overhead(row, metric)
            if entry is None:
                continue
            if view.saturates(row):
                continue
            y = at + shift
            for ends, lw in (("range", 1.1), ("ci", 4.2)):
                low, high = entry.get(f"{ends}_low_pct"), entry.get(f"{ends}_high_pct")
                if ends == "range" and view.saturates(row, "unfavourable"):
                    continue
                if low is not None and high is not None:
                    axes.plot([low, high], [y, y], color=colour, lw=lw, solid_capstyle="butt", zorder=3)
            axes.plot(
                [entry["value_pct"]],
                [y],
                marker=mark,
                ms=size,
                mfc="white" if open_ else colour,
                mec=colour,
                mew=1.1,
                zorder=4,
            )
        if word in VERDICT_SYMBOLS:
            axes.text(
                1.015, at, VERDICT_SYMBOLS[word], transform=axes.get_yaxis_transform(), color=colour,
                va="center", ha="left", size=9.5, weight="bold",
            )  # fmt: skip


def _reach(row: Row) -> list[float]:
    """Return the ends of the bars of a row, but those that there is no end to."""
    out: list[float] = []
    for metric in ("latency_p50", "latency_p99"):
        entry = view.overhead(row, metric)
        if entry is None or view.saturates(row, "favourable"):
            continue
        out += view.bounds(entry, "low")
        if not view.saturates(row):
            out += [float(entry["value_pct"]), float(entry.get("ci_high_pct") or 0.0)]
            out += [] if view.saturates(row, "unfavourable") else view.bounds(entry, "high")
    return out


def _open_ends(axes: Axes, arm: Arm, places: Sequence[tuple[float, Line]]) -> None:
    """Draw the ranges without an end up to the edge, with an arrow: more arrives there than is carried."""
    edge = axes.get_xlim()[1]
    for at, line in places:
        row = line.protected.get(arm)
        colour = VERDICT_COLOURS.get(view.verdict(row) or "", MUTED)
        for metric, shift, _, _ in _DRAWN:
            entry = view.overhead(row, metric)
            if entry is None or not any(view.saturates(row, v) for v in ("typical", "unfavourable")):
                continue
            low = edge if view.saturates(row, "favourable") else min(view.bounds(entry, "low"))
            axes.plot([low, edge], [at + shift] * 2, color=colour, lw=1.1, solid_capstyle="butt", zorder=3)
            inside = axes.get_yaxis_transform()
            axes.plot([0.98], [at + shift], marker=">", ms=4.2, color=colour, transform=inside, zorder=4)


def _percent_axis(axes: Axes, ends: Sequence[float], budget: float, inches: float) -> float:
    """Show every bar: linear up to six budgets, else logarithmic beyond the value that is returned."""
    low, high = min([0.0, *ends]), max([budget * 1.3, *ends])
    bend = 0.0
    if high <= 6 * budget or budget <= 0:
        axes.set_xlim(low - 0.02 * high if low == 0 else low * 1.05, high * 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        bend = 2 * budget
        left, right = min(low * 1.1, -0.06 * budget), high * 1.3
        # Of the axis in decades: what is beyond the bend has room of its own, however short it is.
        linear = min(1.6, max(0.8, 1.3 * math.log10(high / bend)))
        axes.set_xscale("symlog", linthresh=bend, linscale=linear)
        axes.set_xlim(left, right)
        to_inches = axes.transScale.transform
        scale = inches / float(np.diff(to_inches([(left, 0), (right, 0)])[:, 0])[0])

        def apart(one: float, other: float) -> float:
            return scale * float(np.diff(to_inches([(one, 0), (other, 0)])[:, 0])[0])

        steps = [0.0, budget, bend] if apart(budget, bend) > _apart(budget, bend) else [0.0, bend]
        decades = [m * 10.0**e for e in range(12) for m in range(1, 10)]
        # Powers of ten first. Half of a number must have room before the edge, or it hangs over.
        for step in (d for first in ("1", "25") for d in decades if f"{d:g}"[0] in first and bend < d < high):
            room = apart(step, right) > _text(step) / 2
            if room and all(abs(apart(step, other)) > _apart(step, other) for other in steps):
                steps.append(step)
        steps = [-budget, *steps] if low < -budget else steps
        axes.xaxis.set_major_locator(FixedLocator(steps))
        # Without a number where there is no room for one: without them the last number looks like the end.
        between = [d for d in decades if bend < d < right and d not in steps]
        axes.xaxis.set_minor_locator(FixedLocator([*(-d for d in between if -d > left), *between]))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    return bend


def _text(value: float) -> float:
    """Return about how wide a number below an axis is, inches."""
    return 0.068 * len(f"{value:g}")


def _apart(one: float, other: float) -> float:
    """Return how far apart two numbers must be, inches."""
    return (_text(one) + _text(other)) / 2 + 0.05


def _overhead_key(budget: float, endless: bool) -> list[Line2D]:
    plain: dict[str, Any] = {"color": MUTED, "ls": ""}
    verdicts = [
        Line2D(
            [],
            [],
            marker=VERDICT_MARKS[w],
            ls="",
            color=VERDICT_COLOURS[w],
            ms=5.5,
            label=f"{VERDICT_SYMBOLS[w]} {w}",
        )
        for w in view.VERDICTS
    ]
    return [
        Line2D([], [], marker="o", ms=5.2, label="p50, typical parameters", **plain),
        Line2D([], [], marker="o", ms=3.9, mfc="white", label="p99, typical parameters", **plain),
        Line2D([], [], color=MUTED, lw=4.2, solid_capstyle="butt", label="95 % interval over the seeds"),
        Line2D([], [], color=MUTED, lw=1.1, label="range of the unknown parameters"),
        *verdicts,
        *([Line2D([], [], marker=">", ms=4.2, label="without end: saturated", **plain)] if endless else []),
        Line2D([], [], color=INK, lw=1.1, ls=(0, (4, 2)), label=f"budget {view.plain_number(budget)} %"),
    ]


# Bytes on the wire


@styled
def fig_wire(record: Record) -> Drawing:
    """Draw the bytes on the wire per byte of payload, in parts.

    One bar for each workload and protection; protections that are equal on the wire share one.
    """
    views = view.scenarios(record, every_class=True)
    bars: list[tuple[float, str, Row]] = []
    heads: list[tuple[float, str]] = []
    at = 0.0
    for entry in views:
        for workload in dict.fromkeys(line.workload for line in entry.lines):
            lines = [line for line in entry.lines if line.workload == workload]
            line = next((one for one in lines if one.cls == "all"), lines[0])
            told = [(arm, row) for arm, row in line.rows if row["wire"]["payload_bytes"]]
            if not told:
                continue
            parts: dict[tuple[float, ...], tuple[list[str], Row]] = {}
            for arm, row in told:
                shares = tuple(row["wire"][part] / row["wire"]["payload_bytes"] for _, part, _ in WIRE_PARTS)
                parts.setdefault(shares, ([], row))[0].append(
                    arm.title if arm else view.baseline_title(record)
                )
            heads.append((at + (len(parts) - 1) / 2, f"{view.clean(entry.name)}: {view.clean(workload)}"))
            for titles, row in parts.values():
                bars.append((at, " = ".join(titles), row))
                at += 1.0
            at += 0.7
    width, top, bottom = 11.0, 0.68, 0.52
    height = top + bottom + max(at, 2.0) * 0.18
    names = 0.075 * max([len(shorten(text, 30)) for _, text in heads], default=8)
    left = 0.3 + names + 0.066 * max([len(shorten(text, 44)) for _, text, _ in bars], default=8)
    figure = Drawing(figsize=(width, height), facecolor="white")
    figure.text(
        0.18 / width,
        1 - 0.14 / height,
        "Bytes on the wire per byte of payload",
        va="top",
        weight="bold",
        size=11,
    )
    if not bars:
        figure.text(0.5, 0.5, "No payload was moved.", ha="center", color=MUTED)
        return figure
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + 0.6) / width, 1 - (top + bottom) / height)
    )
    axes.grid(True, axis="x", zorder=0)
    axes.set_axisbelow(True)
    ends = []
    for y, _, row in bars:
        start, payload = 0.0, float(row["wire"]["payload_bytes"])
        for _, key, colour in WIRE_PARTS:
            part = row["wire"][key] / payload
            axes.barh(y, part, left=start, height=0.82, color=colour, lw=0)
            start += part
        ends.append(row["wire"]["wire_bytes"] / payload)
        axes.text(ends[-1], y, f" {ends[-1]:.3f}", va="center", size=7.5)
    axes.set_xlim(0, max(ends) * 1.01)
    axes.set_ylim(at - 1.2, -0.7)
    axes.set_yticks([y for y, _, _ in bars], [shorten(text, 44) for _, text, _ in bars], size=7.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("bytes on the wire, both directions, per byte of payload", size=8.5)
    for y, text in heads:
        axes.text(
            (0.18 - left) / (width - left - 0.6), y, shorten(text, 30), transform=axes.get_yaxis_transform(),
            va="center", ha="left", weight="bold", size=8.5,
        )  # fmt: skip
    figure.legend(
        handles=[Patch(color=colour, lw=0, label=name) for name, _, colour in WIRE_PARTS],
        loc="upper left",
        bbox_to_anchor=(0.10 / width, 1 - 0.32 / height),
        ncols=4,
        fontsize=8.5,
        borderaxespad=0.2,
        handlelength=1.2,
    )
    return figure
