"""How one row of a record is told: every cell of the tables as text.

The rule of this module: terminal and page take the words and numbers of a row from here, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sevpcie_core.report import view
from sevpcie_core.report.view import Arm, Line, Record, Row

Entry = Mapping[str, Any] | None
SYMBOLS_FANCY = {"within": "✓", "inconclusive": "?", "over": "✗"}
SYMBOLS_ASCII = {"within": ".", "inconclusive": "?", "over": "!"}


# Instead of an added latency that grows as long as the run.
SATURATED = "saturated"
# Behind an interval that stands where the range is expected.
SEEDS = " seeds"


@dataclass(frozen=True)
class Glyphs:
    """The characters outside ASCII that a terminal gets, and their plain counterparts."""

    symbols: dict[str, str]
    rule: str
    micro: str
    arrow: str


FANCY = Glyphs(SYMBOLS_FANCY, "─", "µs", "→")
ASCII = Glyphs(SYMBOLS_ASCII, "-", "us", ">")


@dataclass(frozen=True)
class Part:
    """What a protection does to one percentile of a line, in words and numbers."""

    text: str  # the verdict with its symbol, or what the percentile has to do with it
    word: str  # the verdict that colours it, '' without one
    percent: str
    added: str
    span: str


def parts(record: Record, row: Row, glyphs: Glyphs) -> list[Part]:
    """Tell a protected row: p50 with the verdict, then p99 if it alone would get another one than p50.

    Then what is over the budget and not in the verdict: lost throughput, the I/O path.
    """
    budget = view.budget_pct(record)
    word = view.verdict(row)
    told = [(mark(word, glyphs), word, "latency_p50")]
    note = view.tail_note(row, budget)
    if note:
        told.append((note, view.judge(view.overhead(row, "latency_p99"), budget), "latency_p99"))
    over = glyphs.symbols["over"]
    told += [(f"{over} {name}", "over", metric) for name, metric in view.beside_latency(record, row)]
    return [
        Part(text, word or "", share(row, metric), extra(row, metric, glyphs), bounds(row, metric, budget))
        for text, word, metric in told
    ]


def share(row: Row, metric: str) -> str:
    """Write what is added in per cent, as far as there is an end to it."""
    return SATURATED if _endless(row, metric) else percent(view.overhead(row, metric))


def extra(row: Row, metric: str, glyphs: Glyphs) -> str:
    """Write what is added as a time, as far as there is an end to it; ``lost`` of a rate."""
    if metric == "throughput":
        return "lost"
    return view.NOTHING if _endless(row, metric) else added(view.overhead(row, metric), glyphs)


def bounds(row: Row, metric: str, budget: float) -> str:
    """Write the range of an overhead in per cent, or the interval over the seeds where that decides."""
    entry = view.overhead(row, metric)
    if entry is not None and view.seeds_decide(entry, budget) and not _endless(row, metric):
        return span(entry, "ci") + SEEDS
    return reach(row, metric)


def reach(row: Row, metric: str) -> str:
    """Write the range of an overhead in per cent, as far as there is an end to it."""
    entry = view.overhead(row, metric)
    if entry is None or entry.get("range_low_pct") is None:
        return SATURATED if _endless(row, metric) else view.NOTHING
    if not _endless(row, metric, "unfavourable"):
        return span(entry)
    if _endless(row, metric, "favourable"):
        return SATURATED
    return f"{view.pct_text(entry['range_low_pct'], False)} % to {SATURATED}"


def _endless(row: Row, metric: str, variant: str = "typical") -> bool:
    """Return whether an overhead there grows as long as the run: a latency's, of what is saturated."""
    return metric.startswith(("latency", "io_path")) and view.saturates(row, variant)


def mark(word: str | None, glyphs: Glyphs) -> str:
    """Write a verdict with its symbol."""
    return f"{glyphs.symbols.get(word, '')} {word}".strip() if word else view.NOTHING


def limits(line: Line) -> list[str]:
    """Return what limits: without protection, then with any, if that is another one for all of them."""
    with_any = _limits_with(line)
    found = [limit(line.baseline)] if line.baseline and line.baseline.get("limited_by") else []
    return list(dict.fromkeys(found + (list(with_any.values()) if _agree(line) else [])))


def limit_under(line: Line, arm: Arm) -> str:
    """Say what limits with one protection where that differs between them and from none, else ''."""
    found = _limits_with(line).get(arm)
    return "" if found is None or _agree(line) or found in limits(line) else f"limited by {found}"


def _limits_with(line: Line) -> dict[Arm, str]:
    return {arm: limit(row) for arm, row in line.protected.items() if row.get("limited_by")}


def _agree(line: Line) -> bool:
    return len(set(_limits_with(line).values())) <= 1


def limit(row: Row) -> str:
    """Return what limits, of links which one and in which direction."""
    return view.clean(row.get("limited_at") or row["limited_by"] or view.NOTHING)


def percent(entry: Entry) -> str:
    """Write what is added in per cent, with a sign."""
    return f"{view.pct_text(entry['value_pct'])} %" if entry else view.NOTHING


def span(entry: Entry, ends: str = "range") -> str:
    """Write the range (or, with ``ends="ci"``, the interval) in per cent."""
    found = (entry.get(f"{ends}_low_pct"), entry.get(f"{ends}_high_pct")) if entry else (None, None)
    return view.span_text(*found)


def latency(row: Row | None, percentile: str, glyphs: Glyphs) -> str:
    """Write a percentile of the end-to-end latency."""
    return view.time_text(row["latency_ns"].get(percentile) if row else None, micro=glyphs.micro)


def added(entry: Entry, glyphs: Glyphs) -> str:
    """Write what is added as a time, with a sign."""
    return view.time_text(entry.get("added_ns") if entry else None, signed=True, micro=glyphs.micro)


def job(row: Row | None, glyphs: Glyphs) -> str:
    """Write the time of a GPU job."""
    job_ms = row.get("job_ms") if row else None
    return view.time_text(None if job_ms is None else job_ms * 1e6, micro=glyphs.micro)


def wide_columns(record: Record) -> list[Column]:
    """Return the columns of the wide table; those of GPU jobs only if there is one."""
    jobs = any(row.get("job_ms") is not None for row in record["results"])
    return [column for column in WIDE if jobs or column.head[0] != "job"]


@dataclass(frozen=True)
class Column:
    """One column of the wide table: its head (name, unit) and how a row tells it."""

    head: tuple[str, str]
    tell: Callable[[Line, Arm | None, Row, Glyphs], str]
    right: bool = True  # its text stands at its right end
    role: str = ""
    verdict: str = ""  # the path whose verdict colours it
    block: str = ""  # columns of a block stand in one row where the table is folded


def _overhead_columns(percentile: str) -> tuple[Column, ...]:
    """Return the columns of what is added to a percentile: time, per cent, interval, range."""
    metric = f"latency_{percentile}"
    return (
        Column(
            ("added", percentile), lambda line, arm, row, glyphs: extra(row, metric, glyphs), block=metric
        ),
        Column((percentile, "%"), lambda line, arm, row, _: _bare(share(row, metric)), block=metric),
        Column(("interval", "%"), lambda line, arm, row, _: _interval(row, metric), block=metric),
        Column(("range", "%"), lambda line, arm, row, _: _bare(reach(row, metric)), block=metric),
    )


def _number(value: float | None, digits: int) -> str:
    return view.NOTHING if value is None else f"{value:.{digits}f}"


def _interval(row: Row, metric: str) -> str:
    found = view.NOTHING if _endless(row, metric) else _bare(span(view.overhead(row, metric), "ci"))
    return found if found == view.NOTHING else f"[{found}]"


def _bare(text: str) -> str:
    return text.replace(" %", "")


def _efficiency(row: Row) -> float | None:
    found = row["wire"].get("efficiency")
    return None if found is None else 100 * float(found)


def _column(name: str, unit: str, tell: Callable[[Line, Arm | None, Row, Glyphs], str]) -> Column:
    return Column((name, unit), tell)


WIDE = (
    Column(("workload", ""), lambda line, *_: view.clean(line.workload), right=False, role="strong"),
    Column(("class", ""), lambda line, *_: view.clean(line.cls), right=False),
    Column(
        ("protection", ""),
        lambda line, arm, row, _: arm.title if arm else view.scheme_title(str(row["scheme"])),
        right=False,
    ),
    _column("p50", "", lambda line, arm, row, glyphs: latency(row, "p50", glyphs)),
    _column("p99", "", lambda line, arm, row, glyphs: latency(row, "p99", glyphs)),
    _column("p99.9", "", lambda line, arm, row, glyphs: latency(row, "p999", glyphs)),
    _column("through-", "put Gb/s", lambda line, arm, row, _: _number(row.get("throughput_gbps"), 2)),
    _column("wire", "eff. %", lambda line, arm, row, _: _number(_efficiency(row), 1)),
    *_overhead_columns("p50"),
    *_overhead_columns("p99"),
    _column("lost", "thr. %", lambda line, arm, row, _: _bare(share(row, "throughput"))),
    Column(("job", "time"), lambda line, arm, row, glyphs: job(row, glyphs), block="job"),
    Column(("job", "%"), lambda line, arm, row, _: _bare(share(row, "job")), block="job"),
    Column(
        ("verdict", "end to end"),
        lambda line, arm, row, glyphs: mark(view.verdict(row), glyphs),
        right=False,
        verdict="end_to_end",
    ),
    Column(
        ("verdict", "I/O path"),
        lambda line, arm, row, glyphs: mark(view.verdict(row, "io_path"), glyphs),
        right=False,
        verdict="io_path",
    ),
    Column(("decided", "by"), lambda line, arm, row, _: view.clean(row["decided_by"] or "-"), right=False),
    Column(("limited", "by"), lambda line, arm, row, _: limit(row), right=False),
)
