"""What a workload consists of, on a terminal or in a file: tables and small histograms.

Rule: as in `report.table`: lines of spans, laid out on plain text, ASCII where the terminal is not known to
have more. Numbers come from the document of `experiment.looks` and from nowhere else.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from sevpcie_core.report import view
from sevpcie_core.report.table import PIPE_WIDTH, Text
from sevpcie_core.units import parse_operations, parse_rate_bps

Document = Mapping[str, Any]

INDENT: Final = "  "
_LABEL: Final = 13
# Of a histogram: columns of its bars, and the most rows.
_BAR: Final = 24
_ROWS: Final = 12
# So many ranges of sizes of one kind of transaction have rows of their own.
_SIZES: Final = 4
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
WHO: Final = {"up": "device", "down": "host"}
BUFFERS: Final = {"data": "data", "queue": "queue", "mmio": "doorbell", "msi": "interrupt"}
_SI: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
# Values of a traffic table that need no words.
_NOTHING: Final = ("0ps", "0ns")
# A rate of more than four digits.
_LONG_RATE: Final = re.compile(r"[0-9]{5,18}[kMG]?(?:b|ops)/s", re.ASCII)
# A gap below it is none; a mean so near to a whole number is one.
_LEAST_NS: Final = 0.0015
_WHOLE: Final = 1e-9
# From here on one digit behind the point is enough.
_LARGE: Final = 100.0


class Column(NamedTuple):
    """One column of a table: its head, and whether it stands at the right."""

    head: str
    right: bool = True


class Signs(NamedTuple):
    """Characters that a terminal may not have."""

    fancy: bool
    micro: str
    dash: str


FANCY: Final = Signs(True, "µs", "–")
PLAIN: Final = Signs(False, "us", "-")


def render(document: Document, width: int = PIPE_WIDTH, fancy: bool = False) -> list[Text]:
    """Return the lines of all that is shown of some workloads."""
    signs = FANCY if fancy else PLAIN
    words = textwrap.wrap(view.clean(document["title"]), max(40, min(width, PIPE_WIDTH)))
    out = [Text().add(part) for part in words]
    for workload in document["workloads"]:
        for devices in alike(workload["devices"], lambda device: _without(device, "device", "preset")):
            out += [*([Text()] if out else []), *_device(document, workload, devices, width, signs)]
    return out


def alike(devices: Sequence[Document], told: Callable[[Document], object]) -> list[list[Document]]:
    """Return the devices, those together of which the same is told."""
    groups: list[list[Document]] = []
    for device in devices:
        group = next((g for g in groups if told(g[0]) == told(device)), None)
        if group is None:
            groups.append([device])
        else:
            group.append(device)
    return groups


def _without(device: Document, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in device.items() if key not in keys}


def names(devices: Sequence[Document], key: str) -> str:
    """Name devices, or their presets, each once."""
    return " and ".join(dict.fromkeys(view.clean(device[key]) for device in devices))


def title(document: Document, workload: Document) -> str:
    """Name a workload; a recording by its file."""
    scenario, name = view.clean(document["scenario"]), view.clean(workload["workload"])
    recorded = [d["trace"] for d in workload["devices"]]
    return scenario if name == "trace" and len(recorded) == 1 and recorded[0] else f"{scenario}/{name}"


def _device(
    document: Document, workload: Document, devices: Sequence[Document], width: int, signs: Signs
) -> Iterable[Text]:
    device = devices[0]
    link = device["link"]
    mode = ", flit mode" if link["flit"] else ""
    head = Text().add(title(document, workload), "strong")
    if len(workload["devices"]) > 1 or device["device"] != device["kind"]:
        head.add(f"  {names(devices, 'device')}", "strong")
    yield head
    sizes = f"MPS {link['mps']}, MRRS {link['mrrs']}, RCB {link['rcb']} B{mode}"
    presets = names(devices, "preset")
    facts = [("device", f"{presets} on {view.clean(link['name'])}, {sizes}{_place(device)}")]
    facts.append(("traffic", traffic(device)))
    for label, text in [*facts, *trace_facts(device), *_facts(device, signs)]:
        yield from fact(label, text, width)
    yield Text()
    yield from table(_transactions(device, signs), width)
    yield Text()
    yield from table(_tlps(device, signs), width)
    yield Text()
    yield from _histograms(device, width, signs)


def fact(label: str, text: str, width: int, column: int = _LABEL) -> Iterable[Text]:
    """Write what is known in words behind its label, which has so many columns."""
    room = max(40, min(width, PIPE_WIDTH) - column - len(INDENT))
    for i, part in enumerate(textwrap.wrap(text, room, break_on_hyphens=False) or [""]):
        yield Text().add(INDENT).add("" if i else label, "dim", column).add(part)


# What is known in words


def traffic(device: Document) -> str:
    """Say what a device is asked to do."""
    told = {k: v for k, v in device["traffic"].items() if k != "trace" and v not in (False, None, *_NOTHING)}
    if device["trace"] is not None:
        # What stands as it is recorded needs no words.
        usual = {"offset": 0, "speed": 1.0, "direction": "both"}
        told = {k: v for k, v in told.items() if usual.get(k) != v}
    words = ", ".join(
        k.replace("_", " ") if v is True else f"{k.replace('_', ' ')} {_plain(v)}" for k, v in told.items()
    )
    return f"{device['arrivals']}{': ' if words else ''}{words}"


def _place(device: Document) -> str:
    """Say behind which switch a device is, and where its data lie if not in the host's memory."""
    switch, data = device["switch"], device["way"]
    text = f", behind switch {view.clean(switch)}" if switch else ""
    if data is None:
        return text
    why = " (ACS redirect)" if data["acs_redirect"] else ""
    return (
        f"{text}; data in the memory of {view.clean(data['memory_of'])}, turned at "
        f"{view.clean(data['turned_at'])}{why}: over {', '.join(map(view.clean, data['links']))}"
    )


def _plain(value: object) -> str:
    if isinstance(value, float):
        return view.plain_number(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    if isinstance(value, str) and _LONG_RATE.fullmatch(value):
        # A share of a load comes out as a whole number of its unit.
        per_second = parse_operations(value) if "ops" in value else parse_rate_bps(value)
        return si_text(per_second, "ops/s" if "ops" in value else "b/s")
    return view.clean(value)


def trace_facts(device: Document) -> Iterable[tuple[str, str]]:
    """Yield what is known of a recording: labels and texts."""
    trace = device["trace"]
    if trace is None:
        return
    parts = [f"{view.clean(trace['file'])}: {trace['format']}", _count(trace["records"], "record")]
    parts += [_count(trace[key], key[:-1]) for key in ("streams", "queues") if trace.get(key, 1) > 1]
    parts.append(f"{view.time_text(trace['span_ns'])} from first to last")
    yield "trace", ", ".join(parts)
    if trace["bad"]:
        yield (
            "left out",
            f"{_count(trace['bad'], 'malformed record')}; the first: {view.clean(trace['bad_examples'][0])}",
        )
    if trace.get("left_out"):
        yield (
            "left out",
            ", ".join(f"{count:,} {view.clean(name)}" for name, count in trace["left_out"].items()),
        )
    yield from _reads(trace.get("reads"))


def _reads(reads: Mapping[str, Any] | None) -> Iterable[tuple[str, str]]:
    """Yield how the device's reads were answered where TLPs were recorded."""
    if reads is None or not reads["count"]:
        return
    text = f"{reads['answered']:,} of {reads['count']:,} are answered in full"
    if reads["latency"]["samples"]:
        took = reads["latency"]["ns"]
        text += f", as captured p50 {view.time_text(took['p50'])}, p99 {view.time_text(took['p99'])}"
    if reads["refused"]:
        text += f"; {reads['refused']:,} without data"
    yield "reads", text


def _facts(device: Document, signs: Signs) -> Iterable[tuple[str, str]]:
    by_class = device["operations"]["by_class"]
    count = device["operations"]["count"]
    parts = [f"{n:,} {view.clean(name)}" for name, n in by_class.items() if n]
    classes = f": {', '.join(parts)}" if len(by_class) > 1 else ""
    yield "operations", f"{count:,}{classes}{_part_of_run(device)}"
    data = device["data"]
    yield "data", f"{bytes_text(data['bytes'])}, {per_text(data['bytes_per_operation'])} B per operation"
    rate = device["rate"]
    if rate is not None:
        span = view.time_text(rate["span_ns"], micro=signs.micro)
        yield (
            "rate",
            f"{si_text(rate['operations_per_s'], 'per second', ' ')}{_of(device)}, "
            f"{si_text(1e9 * rate['data_gbps'], 'b/s')} of data, over {span}{planned(device)}",
        )
    rung, raised = device["doorbells_per_operation"], device["interrupts_per_operation"]
    yield "doorbells", f"{per_text(rung)} per operation; interrupts: {per_text(raised)} per operation"
    protected = device["protected"]
    shares = [_share(name, share) for name, share in protected["shares"].items() if share > 0]
    if not shares:
        yield "protected", "by policy selective: nothing"
        return
    text = f"by policy selective ({' and '.join(shares)}): "
    text += f"{percent(protected['tlps_pct'])} of TLPs, {percent(protected['payload_pct'])} of payload; "
    up, down = (percent(protected[f"wire_added_{way}_pct"]) for way in ("up", "down"))
    text += f"a prefix and a MAC on each add {up} to the wire up and {down} down"
    yield "protected", text


def _part_of_run(device: Document) -> str:
    """Say how much of a run the operations are that are looked at, where they are not what ends it."""
    ends = device["ends"]
    if ends is None:
        told = "; so many are looked at: in the background it goes on as long as the others"
        return told if device["background"] else ""
    lasts = view.time_text(ends["duration_ns"])
    if not ends["all"]:
        return f", the first ones: a run ends after {lasts}"
    return f", which begin in the {lasts} of a run{planned(device)}"


def planned(device: Document) -> str:
    """Say of intended starts that they are a plan, where nobody recorded them and the link decides."""
    return " as planned (copies take no time)" if device["arrivals"] == "generated job" else ""


def _of(device: Document) -> str:
    """Return which operations are the device's own, where there are others."""
    own = device["operations"]["with_data"]
    others = len(own) < len(device["operations"]["by_class"])
    return f" ({' and '.join(map(view.clean, own))})" if others else ""


def _share(name: str, share: float) -> str:
    return name if share == 1 else f"{percent(100 * share)} of {name}"


# Tables


class Table(NamedTuple):
    """A table: cells are texts, or numbers that are means of an operation."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str | float]]
    """Cells; numbers are means of an operation."""
    total: bool
    """Whether the last row is a sum."""


def table(made: Table, width: int) -> Iterable[Text]:
    """Lay a table out; where it is too wide, columns stand closer, then below, each with those that name."""
    columns, cells, total = made
    told = [_means(column) for column in zip(*cells, strict=True)]
    rows = list(zip(*told, strict=True))
    widths = [max(len(c.head), *(len(row[i]) for row in rows)) for i, c in enumerate(columns)]

    def wide(fold: Sequence[int], gap: int) -> int:
        return len(INDENT) + sum(widths[i] for i in fold) + gap * (len(fold) - 1)

    every = range(len(columns))
    gap = 2 if wide(every, 2) <= width else 1
    keys = [i for i in every if not columns[i].right]
    folds = [[*keys]]
    for i in every[len(keys) :]:
        if wide([*folds[-1], i], gap) > width and folds[-1] != keys:
            folds.append([*keys])
        folds[-1].append(i)
    lines: list[tuple[str, Sequence[str]]] = [("dim", [c.head for c in columns])]
    lines += [("strong" if total and i == len(rows) - 1 else "", row) for i, row in enumerate(rows)]
    for k, fold in enumerate(folds):
        if k:
            yield Text()
        for role, row in lines:
            line = Text().add(INDENT)
            for n, i in enumerate(fold):
                line.add(" " * gap if n else "").add(row[i], role, widths[i], columns[i].right)
            yield line


def _means(column: Sequence[str | float]) -> list[str]:
    """Write the cells of a column, its means with as many digits as the column needs, but never one as 0."""
    numbers = [cell for cell in column if not isinstance(cell, str)]
    whole = all(abs(n - round(n)) < _WHOLE for n in numbers)
    digits = 0 if whole else 1 if max(numbers) >= _LARGE else 2
    least = 0.5 * 10.0**-digits

    def told(cell: str | float) -> str:
        if isinstance(cell, str):
            return cell
        return f"< {10.0**-digits:.{digits}f}" if 0 < cell < least else f"{cell:,.{digits}f}"

    return [told(cell) for cell in column]


def _sizes_of(sizes: Sequence[Document], signs: Signs) -> str:
    """Write the sizes of TLPs as a range."""
    found = [entry["bytes"] for entry in sizes]
    return f"{_range(min(found), max(found), signs)} B"


def _transactions(device: Document, signs: Signs) -> Table:
    columns = [
        Column("transaction", right=False),
        Column("by", right=False),
        Column("buffer", right=False),
        Column("size"),
        Column("per op"),
        Column("B per op"),
        Column("of bytes"),
    ]
    rows: list[list[str | float]] = []
    for entry in _merged(device["transactions"]):
        least, most = entry["least_bytes"], entry["most_bytes"]
        rows.append(
            [
                entry["kind"],
                WHO[entry["direction"]],
                BUFFERS[entry["buffer"]],
                f"{_range(least, most, signs)} B",
                entry["count_per_operation"],
                entry["bytes_per_operation"],
                percent(entry["share_pct"]),
            ]
        )
    whole = device["transactions"]
    rows.append(
        [
            "all",
            "",
            "",
            "",
            sum(e["count_per_operation"] for e in whole),
            sum(e["bytes_per_operation"] for e in whole),
            percent(100.0) if whole else "-",
        ]
    )
    return Table(columns, rows, total=True)


def _merged(entries: Sequence[Document]) -> Iterable[Document]:
    """Yield transactions, those of one kind and buffer in one row where they have many sizes."""
    groups: dict[tuple[str, str, str], list[Document]] = {}
    for entry in entries:
        groups.setdefault((entry["kind"], entry["direction"], entry["buffer"]), []).append(entry)
    for group in groups.values():
        if len(group) <= _SIZES:
            yield from group
            continue
        sums = ("count", "bytes", "count_per_operation", "bytes_per_operation", "share_pct")
        yield {
            **group[0],
            "least_bytes": min(e["least_bytes"] for e in group),
            "most_bytes": max(e["most_bytes"] for e in group),
            **{key: sum(e[key] for e in group) for key in sums},
        }


def _tlps(device: Document, signs: Signs) -> Table:
    columns = [
        Column(f"TLP on {view.clean(device['link']['name'])}", right=False),
        Column("way", right=False),
        Column("size"),
        Column("per op"),
        Column("payload B"),
        Column("wire B"),
        Column("efficiency"),
        Column("protected"),
    ]
    operations = device["operations"]["count"] or 1
    rows: list[list[str | float]] = []
    tlps = device["tlps"]
    for entry in tlps:
        payload = entry["payload_bytes"]
        rows.append(
            [
                entry["kind"],
                entry["direction"],
                _sizes_of(entry["sizes"], signs),
                entry["count_per_operation"],
                payload / operations,
                entry["wire_bytes_per_operation"],
                percent(entry["efficiency_pct"]) if payload else view.NOTHING,
                percent(entry["protected_pct"]),
            ]
        )
    for way in ("up", "down"):
        mine = [e for e in tlps if e["direction"] == way]
        wire = sum(e["wire_bytes"] for e in mine)
        payload = sum(e["payload_bytes"] for e in mine)
        count = sum(e["count"] for e in mine)
        sealed = sum(e["protected_pct"] * e["count"] for e in mine)
        rows.append(
            [
                "all",
                way,
                "",
                count / operations,
                payload / operations,
                wire / operations,
                percent(100 * payload / wire) if payload else view.NOTHING,
                percent(sealed / count) if count else view.NOTHING,
            ]
        )
    return Table(columns, rows, total=False)


# Histograms


class _Bars(NamedTuple):
    title: str
    rows: Sequence[tuple[str, int]]
    note: str


def _histograms(device: Document, width: int, signs: Signs) -> Iterable[Text]:
    blocks = [list(_draw(bars, signs)) for bars in (_sizes(device, signs), _gaps(device, signs))]
    left = max(len(line.plain) for line in blocks[0])
    right = max(len(line.plain) for line in blocks[1])
    if left + 4 + right > width:
        yield from blocks[0]
        yield Text()
        yield from blocks[1]
        return
    for one, other in zip_longest(*blocks, fillvalue=Text()):
        line = Text([*one.spans])
        line.add(" " * (left + 4 - len(one.plain)))
        line.spans += other.spans[1:] if other.spans and other.spans[0][1] == INDENT else other.spans
        yield line


def _draw(bars: _Bars, signs: Signs) -> Iterable[Text]:
    yield Text().add(INDENT).add(bars.title, "dim")
    total = sum(count for _, count in bars.rows)
    most = max((count for _, count in bars.rows), default=1)
    label = max((len(name) for name, _ in bars.rows), default=0)
    for name, count in bars.rows:
        if not count:
            yield Text().add(INDENT).add(name, "dim", label, right=True)
            continue
        line = Text().add(INDENT).add(name, width=label, right=True).add("  ")
        line.add(percent(100 * count / total), width=7, right=True).add("  ")
        yield line.add(_bar(count / most, signs), "rule")
    if bars.note:
        yield Text().add(INDENT).add(bars.note, "dim")


def _bar(share: float, signs: Signs) -> str:
    """Return a bar of a share of _BAR columns; what is there is never without one."""
    if not signs.fancy:
        return "#" * max(round(share * _BAR), 1 if share else 0)
    eighths = max(round(share * _BAR * 8), 1 if share else 0)
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _sizes(device: Document, signs: Signs) -> _Bars:
    found = device["sizes"]
    rows = _few([(o["least_bytes"], o["most_bytes"], o["count"]) for o in found["octaves"]])
    title = f"data of an operation{_of(device)}"
    told = [(f"{_range(least, most, signs)} B", count) for least, most, count in rows]
    return _Bars(title, told, _percentiles(found["bytes"], lambda v: f"{v:,.0f} B"))


def _gaps(device: Document, signs: Signs) -> _Bars:
    found = device["gaps"]
    title = f"time from one arrival to the next{planned(device)}"
    if found is None:
        return _Bars(title, [], "none are given: the next operation starts when one is complete")
    rows = _few([(b["from_ns"], b["to_ns"], b["count"]) for b in found["bins"]])
    told: list[tuple[str, int]] = []
    for low, high, count in rows:
        if count:
            told.append((_gap(low, high, signs), count))
        elif told[-1][1]:
            told.append(("...", 0))
    return _Bars(title, told, _percentiles(found["ns"], lambda v: view.time_text(v, micro=signs.micro)))


def _few(rows: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Return rows (low, high, count), neighbours added up where there are too many of them."""
    while len(rows) > _ROWS:
        pairs = [rows[i : i + 2] for i in range(0, len(rows), 2)]
        rows = [(pair[0][0], pair[-1][1], sum(count for *_, count in pair)) for pair in pairs]
    return rows


def _percentiles(values: Mapping[str, float], told: Callable[[float], str]) -> str:
    """Return a line of percentiles, if there is more than one value."""
    if not values or values["min"] == values["max"]:
        return ""
    return ", ".join(f"{name} {told(values[name])}" for name in ("p50", "p90", "p99", "max"))


# How numbers are written


def _range(least: float, most: float, signs: Signs) -> str:
    return f"{least:,.0f}" if least == most else f"{least:,.0f}{signs.dash}{most:,.0f}"


def _gap(low: float, high: float, signs: Signs) -> str:
    """Write a bin of gaps; bins start at 0, below 1 ns, and at 1, 2 and 5 of each decade."""
    if high <= _LEAST_NS:
        return "0"
    if low < 1:
        return f"< {_whole_time(high, signs)}"
    one, other = _whole_time(low, signs), _whole_time(high, signs)
    if one.split()[1] == other.split()[1]:
        one = one.split()[0]
    return f"{one}{signs.dash}{other}"


def _whole_time(ns: float, signs: Signs) -> str:
    for scale, unit in ((1e9, "s"), (1e6, "ms"), (1e3, signs.micro), (1.0, "ns")):
        if ns >= scale * 0.999:
            return f"{ns / scale:.0f} {unit}"
    return f"{ns:.3f} ns"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def per_text(value: float) -> str:
    """Write what one operation has in the mean: whole if it is, never 0 if it is not."""
    if abs(value - round(value)) < _WHOLE:
        return f"{value:,.0f}"
    if value >= 1000:
        return f"{value:,.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def percent(value: float) -> str:
    """Write a share with one digit behind the point; what is near 0 or 100 is neither."""
    if 0 < value < 0.1:
        return "< 0.1 %"
    if 99.9 < value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %" if 0 < value < 100 else f"{value:.0f} %"


def bytes_text(value: float) -> str:
    """Write a number of bytes, a large one with three digits and a prefix."""
    return f"{value:,.0f} B" if value < 10_000 else si_text(value, "B")


def si_text(value: float, unit: str, gap: str = "") -> str:
    """Write a number with three digits and a prefix before its unit, with a gap if that is a word."""
    for scale, prefix in _SI:
        if value >= scale * 0.9995:
            digits = value / scale
            return f"{digits:.{2 if digits < 9.995 else 1 if digits < 99.95 else 0}f} {prefix}{gap}{unit}"
    return f"{value:.3g} {unit}"
