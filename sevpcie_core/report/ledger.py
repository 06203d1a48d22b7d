"""Where the time of requests goes: the ledger of a record as a figure and as text.

The rule of this module: means over all requests, whose parts sum to the mean latency; media and compute time
stand apart, for beside them nothing else could be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from sevpcie_core.report import view
from sevpcie_core.report.style import INK, MUTED, Drawing, shorten, styled
from sevpcie_core.report.view import Line, Record, Row

MEDIA = "media"
# Places of `link.layout.PLACES` but media, each with its colour: what protection changes is coloured, what it
# leaves alone is grey. Places of another version are drawn in the last colour.
COLOURS = {
    "device": "#c5ccd4",
    "tags": "#aab3bd",
    "wire": "#8f99a5",
    "host": "#747e8a",
    "iommu": "#59636f",
    "arbitration": "#56b4e9",
    "serialisation": "#0072b2",
    "credits": "#009e73",
    "ordering": "#e69f00",
    "engine": "#cc79a7",
    "hold": "#5e3c99",
    "staging": "#b8860b",
    "replay": "#a0522d",
}
_OTHER = "#d55e00"
# What a request does at a place, for the listing and the page.
MEANINGS = {
    "device": "the device's own time, and its queue",
    "media": "media and compute, and waiting for them",
    "tags": "waiting for a tag",
    "arbitration": "waiting for a port and for what is on the wire before",
    "credits": "waiting for buffers of the receiver",
    "serialisation": "bytes going over the wire",
    "engine": "cipher engines",
    "wire": "flight, and the latency of switches",
    "hold": "waiting at the receiver for the MAC",
    "ordering": "waiting behind TLPs that are not yet released, or writes not yet visible",
    "host": "root complex and memory, the drain of writes",
    "iommu": "translation of addresses",
    "staging": "copies and ciphers of the host's cores",
    "replay": "errors of the wire: the Nak, and the second time",
}
# Parts of what is added that are told in words.
_TOLD = 4


def added(line: Line, row: Row) -> dict[str, float]:
    """Return what protection adds to a mean request by place, ns; empty where no ledger was kept."""
    before: Mapping[str, float] = (line.baseline or {}).get("ledger_ns") or {}
    after: Mapping[str, float] = row.get("ledger_ns") or {}
    if not before or not after:
        return {}
    places = [*after, *(place for place in before if place not in after)]
    return {place: after.get(place, 0.0) - before.get(place, 0.0) for place in places}


def sentences(record: Record) -> Iterator[tuple[str, str]]:
    """Yield (what, text) for every line and protection: the mean latency that is added, and where."""
    for entry in view.scenarios(record):
        for line in entry.lines:
            for arm, row in line.rows:
                if arm is None:
                    continue
                parts = added(line, row)
                if not parts:
                    continue
                total = sum(parts.values())
                largest = sorted(parts.items(), key=lambda part: -abs(part[1]))
                told = [(name, ns) for name, ns in largest[:_TOLD] if abs(ns) >= 0.5]
                rest = total - sum(ns for _, ns in told)
                words = [f"{name} {view.time_text(ns, signed=True)}" for name, ns in told]
                words += [f"other {view.time_text(rest, signed=True)}"] if abs(rest) >= 0.5 else []
                where = ", ".join(words) or "nothing"
                yield (
                    f"{view.clean(entry.name)}: {line.title}, {arm.title}",
                    f"{view.time_text(total, signed=True)} = {where}",
                )


def legend(record: Record) -> str:
    """Say what the places are at which protection adds or takes time, and where a switch's time stands."""
    lines = [line for entry in view.scenarios(record) for line in entry.lines]
    moved = {
        place
        for line in lines
        for row in line.protected.values()
        for place, ns in added(line, row).items()
        if abs(ns) >= 0.5
    }
    for name in {line.scenario for line in lines}:
        workloads = view.scenario_source(record, name).get("workload") or ()
        moved |= {"wire" for workload in workloads if workload.get("switch")}
    return "; ".join(f"{place}: {what}" for place, what in MEANINGS.items() if place in moved)


@styled
def fig_ledger(record: Record) -> Drawing:
    """Draw where the mean request of every line spends its time, and where protection adds to it.

    Left: a stacked bar per line and protection, plaintext first, without media. Right: what is added to
    plaintext, place by place; what is less stands left of 0.
    """
    bars: list[tuple[float, str, Line, Row]] = []
    heads: list[tuple[float, str]] = []
    at = 0.0
    for entry in view.scenarios(record):
        for line in entry.lines:
            rows = [(arm, row) for arm, row in line.rows if row.get("ledger_ns")]
            if not rows:
                continue
            heads.append((at, f"{view.clean(entry.name)}: {line.title}"))
            at += 1.1
            for arm, row in rows:
                bars.append((at, arm.title if arm else view.baseline_title(record), line, row))
                at += 1.0
            at += 0.5
    width, top, bottom = 11.0, 1.02, 0.5
    height = top + bottom + max(at, 2.0) * 0.19
    figure = Drawing(figsize=(width, height), facecolor="white")
    title = "Where the time of a mean request goes, media and compute left out"
    figure.text(0.18 / width, 1 - 0.14 / height, title, va="top", weight="bold", size=11)
    if not bars:
        figure.text(0.5, 0.5, "The record holds no ledger.", ha="center", color=MUTED)
        return figure
    names = 0.3 + 0.068 * max(len(shorten(text, 30)) for _, text, _, _ in bars)
    span = width - names - 0.3
    box = (bottom / height, 1 - (top + bottom) / height)
    left = figure.add_axes((names / width, box[0], (0.44 * span) / width, box[1]))
    right = figure.add_axes(
        ((names + 0.56 * span) / width, box[0], (0.44 * span) / width, box[1]), sharey=left
    )
    known = [place for place in COLOURS if any(place in row["ledger_ns"] for *_, row in bars)]
    others = {p for *_, row in bars for p in row["ledger_ns"] if p not in COLOURS and p != MEDIA}
    order = [*known, *sorted(others)]
    # In shares of the plaintext line: beside a line of milliseconds one of microseconds would not be seen.
    for y, _, line, row in bars:
        base = _total((line.baseline or row)["ledger_ns"])
        _stack(left, y, {p: 100 * row["ledger_ns"].get(p, 0.0) / base for p in order} if base else {})
        total = _total(row["ledger_ns"])
        left.text(
            100 * total / base if base else 0.0,
            y,
            f" {view.time_text(total)}",
            va="center",
            size=7.5,
        )
        if row is line.baseline:
            continue
        parts = added(line, row)
        parts.pop(MEDIA, None)
        share = {p: 100 * parts.get(p, 0.0) / base for p in order} if base else {}
        _stack(right, y, share)
        end = sum(v for v in share.values() if v > 0)
        right.text(end, y, f" {view.time_text(sum(parts.values()), signed=True)}", va="center", size=7.5)
    _finish(left, "% of the plaintext line", bars, heads)
    _finish(right, "added, % of the plaintext line", bars, heads)
    right.tick_params(axis="y", labelleft=False)
    right.axvline(0, color=INK, lw=0.7)
    handles = [Patch(color=COLOURS.get(place, _OTHER), label=place) for place in order]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.10 / width, 1 - 0.32 / height),
        ncols=min(len(handles), 7),
        fontsize=8,
        handlelength=1.1,
        columnspacing=1.2,
    )
    return figure


def _total(ledger: Mapping[str, float]) -> float:
    return sum(ns for place, ns in ledger.items() if place != MEDIA)


def _stack(axes: Axes, y: float, parts: Mapping[str, float]) -> None:
    """Draw a bar: what is above 0 to the right, what is below to the left."""
    ends = {True: 0.0, False: 0.0}
    for place, value in parts.items():
        more = value > 0
        if value:
            axes.barh(y, value, left=ends[more], height=0.82, color=COLOURS.get(place, _OTHER), lw=0)
            ends[more] += value


def _finish(
    axes: Axes,
    label: str,
    bars: Sequence[tuple[float, str, Line, Row]],
    heads: Sequence[tuple[float, str]],
) -> None:
    axes.grid(True, axis="x", zorder=0)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0), max(high * 1.16, 1e-3))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(label, size=8.5)
    axes.set_yticks([y for y, *_ in bars], [shorten(text, 30) for _, text, _, _ in bars], size=7.5)
    axes.set_ylim(bars[-1][0] + 0.7, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for y, text in heads:
        axes.text(
            -0.01, y, shorten(text, 44), transform=axes.get_yaxis_transform(), ha="left", va="center",
            size=8.5, weight="bold",
        ) if "added" not in label else None  # fmt: skip
