"""The tables of a comparison on a terminal or in a file.

The rule of this module: a table is lines of spans (text, role). Layout happens on plain text, so the same
lines go to a terminal with colour and to a pipe without, where every character that this module adds is
ASCII.

Layouts of the summary: protections side by side where they fit, else one below the other. ``wide`` has a row
for each workload, class and protection; where it is too wide it is folded, and each part names its rows.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, zip_longest
from typing import IO, TYPE_CHECKING, NamedTuple

from sevpcie_core.report import cells, view
from sevpcie_core.report.cells import ASCII, FANCY, SATURATED, SEEDS, Column, Glyphs
from sevpcie_core.report.sentence import basis, meaning
from sevpcie_core.report.view import Arm, Line, Record
from sevpcie_core.stats.interval import MIN_SEEDS as FEWEST_SEEDS

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 120
"""Columns used where there is no terminal to ask (``COLUMNS`` in the environment wins)."""

_KEYS = 3
"""Columns that name a row of the wide table, its first."""

STYLES = {
    "": "",
    "dim": "dim",
    "head": "bold",
    "rule": "cyan",
    "strong": "bold",
    "within": "green",
    "inconclusive": "yellow",
    "over": "bold red",
}


@dataclass
class Text:
    """One line of spans: text and the role that decides its colour."""

    spans: list[tuple[str, str]] = field(default_factory=list)

    def add(self, text: str, role: str = "", width: int = 0, right: bool = False) -> Text:
        """Append text, padded with spaces to ``width`` on the left or right, and return self."""
        padding = " " * max(0, width - len(text))
        self.spans += [("", padding), (role, text)] if right else [(role, text), ("", padding)]
        return self

    @property
    def plain(self) -> str:
        """Return the text without roles."""
        return "".join(text for _, text in self.spans)


@dataclass(frozen=True)
class Cell:
    """One printed line of one column: text at its left end and at its right end."""

    left: str
    right: str = ""
    role: str = ""

    @property
    def width(self) -> int:
        """Return the columns that it needs."""
        return len(self.left) + len(self.right) + 2 * bool(self.left and self.right)


def print_summary(
    record: Record,
    console: Console | None = None,
    wide: bool = False,
    file: IO[str] | None = None,
) -> None:
    """Print the table of a record and the sentences below it.

    Args:
        record: the record. console: where to print; colours and symbols outside ASCII are used if it is a
            terminal, allows colour and its encoding is UTF-8. Default: a new one on ``file``.
        wide: one row per workload, class and protection with all columns, instead of the summary.
        file: used without ``console``; default standard output.
    """
    from rich.console import Console

    if console is None:
        console = Console(file=file, highlight=False)
        if not console.is_terminal:
            width = os.environ.get("COLUMNS", "")
            console.width = int(width) if width.isdigit() and int(width) > 0 else PIPE_WIDTH
    fancy = is_fancy(console)
    print_lines(render(record, width=console.width, wide=wide, glyphs=FANCY if fancy else ASCII), console)


def is_fancy(console: Console) -> bool:
    """Return whether a console gets colours and symbols outside ASCII."""
    return console.is_terminal and not console.no_color and "utf" in (console.encoding or "").lower()


def print_lines(lines: Iterable[Text], console: Console) -> None:
    """Print lines of spans, with colour where the console has it."""
    from rich.text import Text as RichText

    fancy = is_fancy(console)
    encoding = console.encoding or "ascii"
    for line in lines:
        out = RichText(no_wrap=True, overflow="ignore")
        for role, text in line.spans:
            safe = text.encode(encoding, "replace").decode(encoding)
            out.append(safe, style=STYLES[role] if fancy else "")
        out.rstrip()
        console.print(out, soft_wrap=True, highlight=False)


def summary_text(record: Record, width: int = PIPE_WIDTH, wide: bool = False) -> str:
    """Return the table and the sentences as plain text."""
    return "\n".join(line.plain.rstrip() for line in render(record, width, wide, ASCII)) + "\n"


def render(record: Record, width: int = PIPE_WIDTH, wide: bool = False, glyphs: Glyphs = ASCII) -> list[Text]:
    """Return the lines of the table (summary or wide) and of the sentences below it."""
    arms = view.arms(record)
    if wide:
        body = _wide(record, glyphs, width)
    else:
        body = _side_by_side(record, arms, glyphs, width)
        if not arms or max(len(line.plain.rstrip()) for line in body) > width:
            body = _stacked(record, arms, glyphs, width)
    lines = [_head(record), *([] if wide else [Text()]), *body, Text()]
    below = [("", " ".join(meaning(record))), ("", " ".join(basis(record)))]
    if arms:
        below.insert(0, ("dim", _legend(record, glyphs, wide, body)))
    below += [("inconclusive", f"Warning: {view.clean(text)}.") for text in record.get("warnings") or ()]
    for role, paragraph in below:
        parts = textwrap.wrap(paragraph, max(40, min(width, PIPE_WIDTH)))
        lines += [*(Text().add(part, role) for part in parts), Text()]
    return lines[:-1]


# Parts that all layouts share


def _head(record: Record) -> Text:
    budget = view.plain_number(view.budget_pct(record))
    seeds = len(record["seeds"])
    line = Text().add(f"Added latency of {_of_what(record)}", "strong")
    line.add(
        f" over {view.baseline_title(record)}; budget {budget} %; {seeds} seed{'s' if seeds != 1 else ''}"
    )
    if record["options"].get("quick"):
        line.add("; quick")
    if not record.get("complete", True):
        line.add("; INCOMPLETE", "over")
    return line


def _of_what(record: Record) -> str:
    kinds = {view.on_the_link(record, arm) for arm in view.arms(record)}
    if kinds == {False}:
        return "bounce buffers"
    return "link encryption and of bounce buffers" if False in kinds else "link encryption"


def _rule(scenario: view.ScenarioView, glyphs: Glyphs, width: int, most: int) -> Text:
    """Return the line over a scenario: `width` columns, or up to `most` for its title."""
    line = Text().add(f"{glyphs.rule * 2} ", "rule").add(view.clean(scenario.name), "strong").add(" ")
    room = most - len(line.plain) - 3
    title = scenario.title if len(scenario.title) <= room else f"{scenario.title[: max(room - 3, 0)]}..."
    line.add(f"{title} " if title else "", "dim")
    return line.add(glyphs.rule * max(2, width - len(line.plain)), "rule")


def _legend(record: Record, glyphs: Glyphs, wide: bool, body: Sequence[Text]) -> str:
    """Explain what the table shows, and nothing that it does not."""
    shown = "\n".join(line.plain for line in body)
    said = ["a..b: range over the unknown parameters, favourable to unfavourable"]
    if wide:
        said.append("[a..b]: 95 % interval over the paired seeds")
    elif f"%{SEEDS}" in shown:
        said.append(f"a..b{SEEDS}: the 95 % interval over the paired seeds, which decides there")
    if SATURATED in shown:
        said.append(f"{SATURATED}: more arrives than is carried, so latency grows as long as the run")
    lines = [line for scenario in view.scenarios(record, every_class=wide) for line in scenario.lines]
    if not wide:
        with_all = f"{glyphs.arrow} with " if f" {glyphs.arrow} " in shown else ""
        own = any(cells.limit_under(line, arm) for line in lines for arm in line.protected)
        said.append(f"limited by: without {with_all}protection{', below one: with it' if own else ''}")
        if " in bursts" in shown:
            said.append("in bursts: full for moments only, but there requests queue")
        over = glyphs.symbols["over"]
        names = [name for name in ("throughput", "I/O path") if f"{over} {name}" in shown]
        if names:
            said.append(
                f"{over} {', '.join(names)}: over the budget, though latency, which is judged, is not"
            )
    percentiles = ("p50", "p99", "p999") if wide else ("p50", "p99")
    if any(row["latency_ns"].get(p) is None for line in lines for _, row in line.rows for p in percentiles):
        said.append(f"{view.NOTHING}: fewer than 10 samples above that percentile")
    if len(record["seeds"]) < FEWEST_SEEDS:
        said.append(f"below {FEWEST_SEEDS} seeds there is no interval, and so nothing is within or over")
    return "; ".join(said)


# The summary with the protections side by side: a block of two or more printed lines per line of the table


def _side_by_side(record: Record, arms: list[Arm], glyphs: Glyphs, width: int) -> list[Text]:
    views = view.scenarios(record)
    blocks = {id(line): _block(record, line, arms, glyphs) for scenario in views for line in scenario.lines}
    head = [
        [Cell("")],
        [Cell(view.baseline_title(record), role="head"), Cell("p50".rjust(7), "p99", "dim")],
        *(
            [Cell(arm.title, role="head"), Cell("verdict", "added p50", "dim"), Cell("", "its range", "dim")]
            for arm in arms
        ),
        [Cell("limited", role="head"), Cell("by", role="head")],
    ]
    columns = list(zip(*blocks.values(), head, strict=True))
    widths = [max(cell.width for part in column for cell in part) for column in columns]
    total = sum(widths) + 2 * (len(widths) - 1)
    out = _print_block(head, widths)
    for scenario in views:
        out += [Text(), _rule(scenario, glyphs, total, width)]
        for line in scenario.lines:
            out += _print_block(blocks[id(line)], widths)
    return out


def _block(record: Record, line: Line, arms: list[Arm], glyphs: Glyphs) -> list[list[Cell]]:
    """Return the columns of one line: name, baseline, one per protection, what limits."""
    name = [Cell(view.clean(line.workload), role="strong")]
    name += [Cell(f"  {line.class_title}")] if line.class_title else []
    p50, p99 = (cells.latency(line.baseline, p, glyphs) for p in ("p50", "p99"))
    plain = [Cell(p50.rjust(7), p99)]
    costs = [_cost(record, line, arm, glyphs) for arm in arms]
    if _has_job(line):
        height = max([len(name), *(len(cost) for cost in costs)])
        for column in (name, plain, *costs):
            column += [Cell("")] * (height - len(column))
        name.append(Cell("  job time", role="dim"))
        plain.append(Cell(cells.job(line.baseline, glyphs).rjust(7), role="dim"))
        for arm, cost in zip(arms, costs, strict=True):
            entry = view.overhead(line.protected.get(arm), "job")
            cost.append(Cell(cells.added(entry, glyphs), cells.percent(entry), "dim"))
    first, *others = cells.limits(line) or [view.NOTHING]
    limits = [Cell(first), *(Cell(f"{glyphs.arrow} {other}") for other in others)]
    return [name, plain, *costs, limits]


def _cost(record: Record, line: Line, arm: Arm, glyphs: Glyphs) -> list[Cell]:
    """Return what one protection does to one line: verdict and per cent, below them time and range."""
    row = line.protected.get(arm)
    if row is None:
        return [Cell(view.NOTHING)]
    out = []
    for part in cells.parts(record, row, glyphs):
        out += [Cell(part.text, part.percent, part.word), Cell(part.added, part.span, "dim")]
    limit = cells.limit_under(line, arm)
    return [*out, Cell(limit, role="dim")] if limit else out


def _print_block(columns: list[list[Cell]], widths: list[int]) -> list[Text]:
    out: list[Text] = []
    for printed in zip_longest(*columns, fillvalue=Cell("")):
        line = Text()
        for i, (cell, width) in enumerate(zip(printed, widths, strict=True)):
            line.add("  " if i else "")
            line.add(cell.left, cell.role).add(" " * (width - len(cell.left) - len(cell.right)))
            line.add(cell.right, cell.role)
        out.append(line)
    return out


# The summary with the protections one below the other, for narrow terminals and for many protections


def _stacked(record: Record, arms: list[Arm], glyphs: Glyphs, width: int) -> list[Text]:
    titles = max([len(arm.title) for arm in arms], default=0)
    views = view.scenarios(record)
    rows = {
        (id(line), arm): _stacked_arm(record, line, arm, glyphs)
        for scenario in views
        for line in scenario.lines
        for arm in arms
    }
    told = [row for found in rows.values() for row in found]
    widths = [max([len(row[i].text) for row in told], default=0) for i in range(4)]
    gap = "  " if titles + sum(widths) + 10 <= width else " "
    out: list[Text] = []
    for scenario in views:
        out += [*([Text()] if out else []), _rule(scenario, glyphs, min(width, 80), width)]
        names = max(len(line.title) for line in scenario.lines)
        for line in scenario.lines:
            p50, p99 = (f"{p} {cells.latency(line.baseline, p, glyphs)}" for p in ("p50", "p99"))
            lead = " " * (max(names, titles + 2) + 2)
            text = Text().add(line.title, "strong", len(lead)).add(f"{p50:<14}{p99:<14}")
            if _has_job(line):
                text.add(f"job {cells.job(line.baseline, glyphs)}  ")
            limits = f"limited by {f' {glyphs.arrow} '.join(cells.limits(line)) or view.NOTHING}"
            out.append(text)
            if len(text.plain) + len(limits) > width:
                text = Text().add("", width=len(lead))
                out.append(text)
            text.add(limits, "dim")
            for arm in arms:
                for k, (what, share, extra, bounds) in enumerate(rows[id(line), arm]):
                    text = Text().add("" if k else f"  {arm.title}", width=titles + 2).add("  ")
                    text.add(what.text, what.role, widths[0]).add("  ")
                    text.add(share.text, share.role, widths[1], right=True).add(gap)
                    text.add(extra.text, extra.role, widths[2], right=True).add("  ")
                    out.append(text.add(bounds.text, bounds.role))
                if limit := cells.limit_under(line, arm):
                    out.append(Text().add("", width=titles + 4).add(limit, "dim"))
    return out


class _Span(NamedTuple):
    text: str
    role: str


def _stacked_arm(record: Record, line: Line, arm: Arm, glyphs: Glyphs) -> list[tuple[_Span, ...]]:
    """Return what one protection does to one line, a row for each part: what, per cent, time, range."""
    row = line.protected.get(arm)
    if row is None:
        return [(_Span(view.NOTHING, ""), *(_Span("", ""),) * 3)]
    out: list[tuple[_Span, ...]] = [
        (
            _Span(part.text, part.word),
            _Span(part.percent, part.word),
            _Span(part.added, "dim"),
            _Span(part.span, "dim"),
        )
        for part in cells.parts(record, row, glyphs)
    ]
    job = view.overhead(row, "job") if _has_job(line) else None
    if job is not None:
        told = ("job time", cells.percent(job), cells.added(job, glyphs), "")
        out.append(tuple(_Span(text, "dim") for text in told))
    return out


def _has_job(line: Line) -> bool:
    """Return whether a line is all of a GPU job, alone or beside others."""
    return line.baseline is not None and line.baseline.get("job_ms") is not None


# The wide table: one row per workload, class and protection; where it is too wide, several of them below each
# other, each with the columns that name a row


def _wide(record: Record, glyphs: Glyphs, width: int) -> list[Text]:
    views = view.scenarios(record, every_class=True)
    columns = cells.wide_columns(record)
    table = {
        scenario.name: [
            (row, [c.tell(line, arm, row, glyphs) for c in columns])
            for line in scenario.lines
            for arm, row in line.rows
        ]
        for scenario in views
    }
    every = [told for rows in table.values() for _, told in rows]
    widths = [max(map(len, [*c.head, *(told[i] for told in every)])) for i, c in enumerate(columns)]
    folds = _folds(columns, widths, width)
    total = max(sum(widths[i] + 2 for i in fold) - 2 for fold in folds)
    out: list[Text] = []
    for scenario in views:
        out += [*([Text()] if out else []), _rule(scenario, glyphs, total, width)]
        for k, fold in enumerate(folds):
            out += [
                *([Text()] if k else []),
                *_wide_heads([columns[i] for i in fold], [widths[i] for i in fold]),
            ]
            for row, told in table[scenario.name]:
                # Of plaintext there is nothing to say where it is about what is added.
                if all(told[i] == view.NOTHING for i in fold[_KEYS:]):
                    continue
                line = Text()
                for c, text, size in ((columns[i], told[i], widths[i]) for i in fold):
                    role = c.role or (view.verdict(row, c.verdict) or "" if c.verdict else "")
                    line.add(text, role, size, c.right).add("  ")
                out.append(line)
    return out


def _wide_heads(columns: Sequence[Column], widths: Sequence[int]) -> list[Text]:
    out = []
    for k in range(2):
        line = Text()
        for c, size in zip(columns, widths, strict=True):
            line.add(c.head[k], "head" if k == 0 else "dim", size, c.right).add("  ")
        out.append(line)
    return out


def _folds(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[list[int]]:
    """Return the columns that stand side by side, the naming ones first; a block stays whole if it can."""
    keys = list(range(_KEYS))

    def fits(fold: Sequence[int]) -> bool:
        return sum(widths[i] + 2 for i in fold) - 2 <= width

    blocks = [
        list(found) for _, found in groupby(range(_KEYS, len(columns)), lambda i: columns[i].block or i)
    ]
    out = [keys]
    for block in blocks:
        pieces = [block] if fits(keys + block) else [[i] for i in block]
        for piece in pieces:
            if fits(out[-1] + piece) or out[-1] == keys:
                out[-1] = out[-1] + piece
            else:
                out.append(keys + piece)
    return out
