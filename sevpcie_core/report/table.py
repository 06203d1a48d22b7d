"""The tables of a comparison on a terminal or in a file.

The rule of this module: a table is lines of spans (text, role). Layout happens on plain text, so the same
lines go to a terminal with colour and to a pipe without, where every character that this module adds is
ASCII.

Layouts of the summary: protections side by side where they fit, else one below the other. ``wide`` has a row
for each workload, class and protection, and is as wide as it needs to be.
"""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import IO, TYPE_CHECKING

from sevpcie_core.report import cells, view
from sevpcie_core.report.cells import ASCII, FANCY, Glyphs
from sevpcie_core.report.sentence import basis, meaning
from sevpcie_core.report.view import Arm, Line, Record, Row

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 120
"""Columns used where there is no terminal to ask (``COLUMNS`` in the environment wins)."""

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
    from rich.text import Text as RichText

    if console is None:
        console = Console(file=file, highlight=False)
        if not console.is_terminal:
            width = os.environ.get("COLUMNS", "")
            console.width = int(width) if width.isdigit() and int(width) > 0 else PIPE_WIDTH
    fancy = console.is_terminal and not console.no_color and "utf" in (console.encoding or "").lower()
    encoding = console.encoding or "ascii"
    for line in render(record, width=console.width, wide=wide, glyphs=FANCY if fancy else ASCII):
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
        body = _wide(record, glyphs)
    else:
        body = _side_by_side(record, arms, glyphs)
        if not arms or max(len(line.plain.rstrip()) for line in body) > width:
            body = _stacked(record, arms, glyphs, width)
    lines = [_head(record), *([] if wide else [Text()]), *body, Text()]
    below = [("", " ".join(meaning(record))), ("", " ".join(basis(record)))]
    if arms:
        below.insert(0, ("dim", _legend(record, glyphs, wide)))
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


def _rule(scenario: view.ScenarioView, glyphs: Glyphs, width: int) -> Text:
    line = Text().add(f"{glyphs.rule * 2} ", "rule").add(view.clean(scenario.name), "strong").add(" ")
    line.add(f"{scenario.title} " if scenario.title else "", "dim")
    return line.add(glyphs.rule * max(2, width - len(line.plain)), "rule")


def _legend(record: Record, glyphs: Glyphs, wide: bool) -> str:
    said = ["a..b: range over the unknown parameters, favourable to unfavourable"]
    if wide:
        said.append("[a..b]: 95 % interval over the paired seeds")
    else:
        said.append(f"limited by: without {glyphs.arrow} with protection")
    percentiles = ("p50", "p99", "p999") if wide else ("p50", "p99")
    lines = (line for scenario in view.scenarios(record, every_class=wide) for line in scenario.lines)
    if any(row["latency_ns"].get(p) is None for line in lines for _, row in line.rows for p in percentiles):
        said.append(f"{view.NOTHING}: fewer than 10 samples above that percentile")
    return "; ".join(said)


# The summary with the protections side by side: a block of two or more printed lines per line of the table


def _side_by_side(record: Record, arms: list[Arm], glyphs: Glyphs) -> list[Text]:
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
        out += [Text(), _rule(scenario, glyphs, total)]
        for line in scenario.lines:
            out += _print_block(blocks[id(line)], widths)
    return out


def _block(record: Record, line: Line, arms: list[Arm], glyphs: Glyphs) -> list[list[Cell]]:
    """Return the columns of one line: name, baseline, one per protection, what limits."""
    name = [Cell(view.clean(line.workload), role="strong")]
    name += [Cell(f"  {line.class_title}")] if line.class_title else []
    p50, p99 = (cells.latency(line.baseline, p, glyphs) for p in ("p50", "p99"))
    plain = [Cell(p50.rjust(7), p99)]
    costs = [_cost(record, line.protected.get(arm), glyphs) for arm in arms]
    if line.baseline is not None and line.baseline.get("job_ms") is not None and line.cls == "all":
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


def _cost(record: Record, row: Row | None, glyphs: Glyphs) -> list[Cell]:
    """Return what one protection does to one line: verdict and per cent, below them time and range."""
    if row is None:
        return [Cell(view.NOTHING)]
    out = []
    for part in cells.parts(record, row, glyphs):
        out += [Cell(part.text, part.percent, part.word), Cell(part.added, part.span, "dim")]
    return out


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
    out: list[Text] = []
    for scenario in view.scenarios(record):
        out += [*([Text()] if out else []), _rule(scenario, glyphs, min(width, 80))]
        names = max(len(line.title) for line in scenario.lines)
        for line in scenario.lines:
            p50, p99 = (f"{p} {cells.latency(line.baseline, p, glyphs)}" for p in ("p50", "p99"))
            text = Text().add(line.title, "strong", max(names, titles + 2)).add(f"  {p50:<14}{p99:<14}")
            if line.baseline is not None and line.baseline.get("job_ms") is not None and line.cls == "all":
                text.add(f"job {cells.job(line.baseline, glyphs)}  ")
            limits = f" {glyphs.arrow} ".join(cells.limits(line)) or view.NOTHING
            out.append(text.add(f"limited by {limits}", "dim"))
            for arm in arms:
                out += _stacked_arm(
                    record, line.protected.get(arm), arm.title.ljust(titles), glyphs, line.cls == "all"
                )
    return out


def _stacked_arm(record: Record, row: Row | None, title: str, glyphs: Glyphs, whole: bool) -> list[Text]:
    """Return what one protection does to one line; `whole`: it is all of its workload, which a job has."""
    lead = f"  {title}  "
    if row is None:
        return [Text().add(lead + view.NOTHING)]
    out: list[Text] = []
    for part in cells.parts(record, row, glyphs):
        text = Text().add("" if out else lead, width=len(lead))
        text.add(part.text, part.word, 14).add(part.percent, part.word, 9, right=True)
        out.append(text.add(part.added, "dim", 10, right=True).add(f"  {part.span}", "dim"))
    job = view.overhead(row, "job") if whole else None
    if job is not None:
        text = Text().add("", width=len(lead)).add("job time", "dim", 14)
        text.add(cells.percent(job), "dim", 9, right=True).add(
            cells.added(job, glyphs), "dim", 10, right=True
        )
        out.append(text)
    return out


# The wide table: one row per workload, class and protection


def _wide(record: Record, glyphs: Glyphs) -> list[Text]:
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
    out = []
    for k in range(2):
        line = Text()
        for c, width in zip(columns, widths, strict=True):
            line.add(c.head[k], "head" if k == 0 else "dim", width, c.right).add("  ")
        out.append(line)
    total = sum(widths) + 2 * (len(widths) - 1)
    for scenario in views:
        out += [Text(), _rule(scenario, glyphs, total)]
        for row, told in table[scenario.name]:
            line = Text()
            for c, text, width in zip(columns, told, widths, strict=True):
                role = c.role or (view.verdict(row, c.verdict) or "" if c.verdict else "")
                line.add(text, role, width, c.right).add("  ")
            out.append(line)
    return out
