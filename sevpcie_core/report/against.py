"""Two workloads side by side, on a terminal or in a file.

Rule: as in `report.workload`: lines of spans, laid out on plain text; numbers come from the document of
`experiment.against` and from nowhere else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sevpcie_core.report import view
from sevpcie_core.report.table import PIPE_WIDTH, Text
from sevpcie_core.report.workload import (
    BUFFERS,
    FANCY,
    PLAIN,
    WHO,
    Column,
    Signs,
    Table,
    alike,
    bytes_text,
    fact,
    per_text,
    percent,
    planned,
    si_text,
    table,
    trace_facts,
    traffic,
)

Document = Mapping[str, Any]

SIDES: Final = ("one", "other")
_PERCENTILES: Final = ("p1", "p50", "p90", "p99", "max")
# Of the head of a column.
_HEAD: Final = 22
# What the queues of a device hold, by who moves it: written by the device, and read.
_QUEUES: Final = {
    "nvme": ("completions", "commands and lists"),
    "nic": ("completions", "descriptors"),
    "gpu": ("semaphores", "commands"),
}
# What one operation is called.
_OPERATION: Final = {"rx": "frame", "tx": "frame", "h2d": "copy", "d2h": "copy"}
_LEGEND: Final = (
    "KS: the largest distance of the two cumulative distributions (Kolmogorov and Smirnov), and the value "
    "where it is, with the shares at or below it. Limit: two samples of one distribution are farther apart "
    "once in a hundred times at most, if values do not depend on each other; arrivals in bursts do. TV: the "
    "share of operations that would have to change their size. Wasserstein: by how much values would have to "
    "change in the mean. Gap / mean: each side in units of its own mean gap, so that rates do not matter."
)


def render(document: Document, width: int = PIPE_WIDTH, fancy: bool = False) -> list[Text]:
    """Return the lines of all that is shown of pairs of workloads."""
    signs = FANCY if fancy else PLAIN
    out: list[Text] = []
    for pairs in distinct(document):
        out += [*([Text()] if out else []), *_pair(pairs, width, signs)]
    out.append(Text())
    out += [Text().add(line, "dim") for line in textwrap.wrap(_LEGEND, max(40, min(width, PIPE_WIDTH)))]
    return out


def distinct(document: Document) -> list[list[Document]]:
    """Return the pairs, those together of which the same is told."""
    return alike(document["pairs"], _numbers)


def _numbers(pair: Document) -> object:
    """Return what two pairs must have in common to be shown as one."""
    return [
        {k: v for k, v in pair[side].items() if k not in ("name", "device", "preset")} for side in SIDES
    ] + [
        pair["classes"],
        pair["all"],
    ]


def joined(pairs: Sequence[Document], side: str, key: str = "name") -> str:
    """Name one side of pairs of which the same is told."""
    return " and ".join(dict.fromkeys(view.clean(pair[side][key]) for pair in pairs))


def heads(pairs: Sequence[Document]) -> list[str]:
    """Return what the two sides are called above their columns: the last part of their names."""
    named = [view.clean(pairs[0][side]["name"]) for side in SIDES]
    short = [name.rsplit("/", 1)[-1] for name in named]
    if short[0] == short[1]:
        short = named if named[0] != named[1] else ["first", "second"]
    return [name if len(name) <= _HEAD else f"{name[: _HEAD - 9]}..{name[-7:]}" for name in short]


def _pair(pairs: Sequence[Document], width: int, signs: Signs) -> Iterable[Text]:
    pair = pairs[0]
    yield Text().add(f"{joined(pairs, 'one')} against {joined(pairs, 'other')}", "strong")
    named = heads(pairs)
    label = max(map(len, named)) + 2
    for side, name in zip(SIDES, named, strict=True):
        yield from fact(name, _described(pairs, side), width, label)
    only = [c for c in pair["classes"] if not all(c["operations"].values())]
    for found in pair["classes"]:
        if found not in only:
            yield Text()
            yield from _class(pair, found, named, width, signs)
    if len(pair["classes"]) > 1:
        yield Text()
        yield from table(_moved(pair, pair["all"], named, "operation of any kind"), width)
    for found in only:
        side = next(s for s in SIDES if found["operations"][s])
        count = found["operations"][side]
        yield Text()
        yield from fact(
            view.clean(found["class"]), f"only in {view.clean(pair[side]['name'])}: {count:,}", width
        )


def _described(pairs: Sequence[Document], side: str) -> str:
    mine = pairs[0][side]
    presets = joined(pairs, side, "preset")
    parts = [f"{presets} on {view.clean(mine['link']['name'])}", f"{traffic(mine)}{_as_planned(mine)}"]
    return "; ".join([*parts, *(text for _, text in trace_facts(mine))])


def _as_planned(device: Document) -> str:
    return ", gaps are as planned: copies take no time" if planned(device) else ""


def _class(pair: Document, found: Document, named: Sequence[str], width: int, signs: Signs) -> Iterable[Text]:
    operation = _OPERATION.get(found["class"], "operation")
    yield from table(_quantiles(pair, found, named, signs), width)
    yield Text()
    distances = _distances(found, signs)
    if distances.rows:
        yield from table(distances, width)
        yield Text()
    yield from table(_moved(pair, found, named, operation), width)


def _quantiles(pair: Document, found: Document, named: Sequence[str], signs: Signs) -> Table:
    """Return the samples side by side: how many, how often, sizes and gaps."""
    columns = [Column(view.clean(found["class"]), right=False), Column("", right=False), *map(Column, named)]
    rows: list[list[str | float]] = [
        ["operations", "", *(f"{found['operations'][side]:,}" for side in SIDES)]
    ]
    if any(found["rate"].values()):
        rows.append(["rate", "", *(_rate(found["rate"][side]) for side in SIDES)])

    def add(label: str, key: str, unit: str, told: Any) -> None:
        values = [found[key][side] and found[key][side][unit] for side in SIDES]
        if not any(values):
            return
        same = all(v is None or v["min"] == v["max"] for v in values)
        for i, name in enumerate(("mean",) if same else ("mean", *_PERCENTILES)):
            cells = [view.NOTHING if v is None else told(v[name]) for v in values]
            rows.append(["" if i else label, "" if same else name, *cells])

    add("data", "sizes", "bytes", _size)
    add("gap", "gaps", "ns", lambda ns: view.time_text(ns, micro=signs.micro))
    return Table(columns, rows, total=False)


def _rate(rate: Document | None) -> str:
    if rate is None:
        return "not given"
    if "line_gbps" in rate:
        return f"{si_text(1e9 * rate['line_gbps'], 'b/s')} on the line"
    return si_text(rate["operations_per_s"], "per second", " ")


def _size(size: float) -> str:
    return f"{size:,.0f} B" if size < 100_000 else bytes_text(size)


def _distances(found: Document, signs: Signs) -> Table:
    """Return how far the samples are from each other."""
    columns = [
        Column("distance", right=False),
        *(Column(head) for head in ("KS", "limit", "largest at", "shares there", "TV", "Wasserstein")),
    ]

    def time(ns: float) -> str:
        return view.time_text(ns, micro=signs.micro)

    def share(of_mean: float) -> str:
        return f"{of_mean:.3g}"

    rows: list[list[str | float]] = []
    for label, distance, told in (
        ("data", found["sizes"]["distance"], _size),
        ("gap", found["gaps"]["distance"], time),
        ("gap / mean", found["gaps"]["over_mean"], share),
    ):
        if distance is None:
            continue
        variation = distance["total_variation"]
        equal = distance["ks"] == 0
        rows.append(
            [
                label,
                f"{distance['ks']:.3f}",
                f"{distance['ks_limit']:.3f}",
                view.NOTHING if equal else told(distance["ks_at"]),
                view.NOTHING
                if equal
                else f"{percent(100 * distance['share_one'])}, {percent(100 * distance['share_other'])}",
                view.NOTHING if variation is None else f"{variation:.3f}",
                told(distance["wasserstein"]),
            ]
        )
    return Table(columns, rows, total=False)


def _moved(pair: Document, found: Document, named: Sequence[str], operation: str) -> Table:
    """Return transactions per operation side by side."""
    moved = [Column(f"bytes {name}") for name in named]
    columns = [Column(f"per {operation}", right=False), *map(Column, named), *moved]
    rows: list[list[str | float]] = []
    for entry in found["transactions"]:
        told = [entry[side] for side in SIDES]
        rows.append(
            [
                _what(pair["kind"], entry),
                *(per_text(t["count_per_operation"]) for t in told),
                *(per_text(t["bytes_per_operation"]) for t in told),
            ]
        )
    for way, wire in found.get("wire_bytes_per_operation", {}).items():
        rows.append([f"wire, {way}", "", "", *(per_text(wire[side]) for side in SIDES)])
    return Table(columns, rows, total=False)


def _what(kind: str, entry: Document) -> str:
    """Name a kind of transactions."""
    verb, who, buffer = entry["kind"], WHO[entry["direction"]], entry["buffer"]
    if who == "host" and buffer == "mmio":
        return "doorbells"
    if who == "device" and buffer == "msi":
        return "interrupts"
    if who == "device" and buffer == "queue":
        written, read = _QUEUES[kind]
        return f"{written}, written" if verb == "write" else f"{read}, read"
    if who == "device" and buffer == "data":
        return "data, to the host" if verb == "write" else "data, from the host"
    return f"{verb} by {who}, {BUFFERS[buffer]}"
