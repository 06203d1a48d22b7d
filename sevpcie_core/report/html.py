"""The report as one HTML file that needs nothing else: no network, no script, figures inline as SVG.

The rule of this module: the same record gives the same bytes (presets are written out where the digest of
the scenario shows that they are still what the run read),
and every text of a record passes through jinja2's autoescape. The SVG is ours and the only markup that does
not.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from sevpcie_core.errors import SevPcieError
from sevpcie_core.experiment.toml_text import dumps
from sevpcie_core.files import write_atomically
from sevpcie_core.report import cells, figures, style, view
from sevpcie_core.report.cells import FANCY
from sevpcie_core.report.ledger import MEANINGS, fig_ledger
from sevpcie_core.report.sentence import basis, meaning
from sevpcie_core.report.view import Arm, Line, Record

FILE_NAME = "report.html"

# Colours of the figures that follow the light or dark page; the template gives each variable two values.
THEMED = {
    style.INK: "ink",
    style.MUTED: "muted",
    style.GRID: "grid",
    "#ffffff": "paper",
    style.BASELINE: "baseline",
    **{colour: f"arm-{scheme}-{policy}" for (scheme, policy), colour in style.ARM_COLOURS.items()},
    **{colour: f"wire-{key.removesuffix('_bytes')}" for _, key, colour in figures.WIRE_PARTS},
}


def render_html(record: Record) -> str:
    """Return the report of a record as the text of one HTML page."""
    arms = view.arms(record)
    scenarios = view.scenarios(record)
    lines = view.all_lines(record)
    sources = [(e["name"], e["digest"], _effective(e)) for e in record["options"].get("scenarios") or ()]
    page = _summary(record) | {
        "record": record,
        "names": ", ".join(view.clean(s.name) for s in scenarios),
        "budget": view.plain_number(view.budget_pct(record)),
        "counts": [{"title": arm.title, "counts": view.counts(record, arm)} for arm in arms],
        "symbols": FANCY.symbols,
        "verdicts": view.VERDICTS,
        "lines": len(lines),
        "wide": _wide(record),
        "cdfs": [
            _svg(figures.fig_cdf(record, s.name), f"cdf{i}", f"Latency distributions: {s.name}")
            for i, s in enumerate(scenarios)
        ],
        "overhead": _svg(figures.fig_overhead(record), "overhead", "Added latency against the budget"),
        "ledger": _svg(fig_ledger(record), "ledger", "Where the time of a mean request goes"),
        "wire": _svg(figures.fig_wire(record), "wire", "Bytes on the wire per byte of payload"),
        "ranges": _ranges([scenario for _, _, scenario in sources]),
        "sources": [{"name": name, "digest": digest, "toml": dumps(told)} for name, digest, told in sources],
        "schemes": {arm.scheme for arm in arms},
        "places": MEANINGS,
        "copies": any(not view.on_the_link(record, arm) for arm in arms),
    }
    return _environment().get_template("report.html").render(page)


def summary_html(record: Record) -> str:
    """Return the summary table and the sentences below it as HTML to stand in a notebook."""
    return _environment().get_template("notebook.html").render(_summary(record))


def write_html(record: Record, path: str | Path) -> Path:
    """Write the report of a record to a file, whole or not at all, and return its path.

    Args:
        record: the record.
        path: the file; a folder that exists gets ``report.html``.

    Raises ConfigError if it cannot be written.
    """
    path = Path(path)
    if os.path.isdir(path):
        path = path / FILE_NAME
    write_atomically(path, page(record))
    return path


def page(record: Record) -> str:
    """Return the report as text that UTF-8 can hold: names of files may have bytes that are none."""
    return render_html(record).encode(errors="replace").decode()


def _code(text: object) -> Markup:
    """Return text as HTML in which what stands between backticks is code."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    told = (Markup("<code>{}</code>" if i % 2 else "{}").format(part) for i, part in enumerate(parts))
    return Markup("").join(told)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sevpcie_core.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _svg(figure: Figure, salt: str, label: str) -> Markup:
    """Return a figure for inline use: colours follow the page, the size its width."""
    text = style.svg(figure, salt)
    for colour, name in THEMED.items():
        text = text.replace(colour, f"var(--{name})")
    box = re.search(r'viewBox="([-0-9. ]*)"', text)
    assert box is not None
    opening = Markup('<svg viewBox="{}" role="img" aria-label="{}">').format(box[1], label)
    # Drawn here: names are outlines of glyphs in it, not text, so there is nothing to escape.
    return opening + Markup(text[text.index(">") + 1 :])


def _summary(record: Record) -> dict[str, Any]:
    """Return what the summary table and the sentences need."""
    arms = view.arms(record)
    return {
        "baseline": view.baseline_title(record),
        "arms": [arm.title for arm in arms],
        "meaning": meaning(record),
        "basis": basis(record),
        "summary": [
            {
                "name": view.clean(s.name),
                "title": s.title,
                "lines": [_line(record, line, arms) for line in s.lines],
            }
            for s in view.scenarios(record)
        ],
    }


def _line(record: Record, line: Line, arms: Sequence[Arm]) -> dict[str, Any]:
    """Return the cells of one line of the summary."""
    jobs = line.baseline is not None and line.baseline.get("job_ms") is not None
    costs = []
    for arm in arms:
        row = line.protected.get(arm)
        entry = view.overhead(row, "job")
        costs.append(
            {
                "parts": cells.parts(record, row, FANCY) if row is not None else [],
                "job": (cells.added(entry, FANCY), cells.percent(entry)) if jobs else None,
                "limit": cells.limit_under(line, arm),
            }
        )
    return {
        "workload": view.clean(line.workload),
        "class": line.class_title,
        "p50": cells.latency(line.baseline, "p50", FANCY),
        "p99": cells.latency(line.baseline, "p99", FANCY),
        "job": cells.job(line.baseline, FANCY) if jobs else None,
        "costs": costs,
        "limits": cells.limits(line),
    }


def _wide(record: Record) -> dict[str, Any]:
    """Return the wide table: its heads, and for each scenario its rows of (text, verdict, right) cells."""
    columns = cells.wide_columns(record)
    bodies = []
    for scenario in view.scenarios(record, every_class=True):
        rows = []
        for line in scenario.lines:
            for arm, row in line.rows:
                words = [view.verdict(row, c.verdict) if c.verdict else None for c in columns]
                told = [c.tell(line, arm, row, FANCY) for c in columns]
                rows.append(
                    [(text, word or "", c.right) for text, word, c in zip(told, words, columns, strict=True)]
                )
        bodies.append({"name": view.clean(scenario.name), "rows": rows})
    return {"heads": [(*c.head, c.right) for c in columns], "bodies": bodies}


def _effective(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a scenario of a record with its presets written out, if they still are what the run read."""
    from sevpcie_core.experiment.scenario import Scenario

    source: Mapping[str, Any] = entry["scenario"]
    try:
        scenario = Scenario.from_dict(source)
        same = scenario.digest() == entry["digest"]
        return scenario.to_dict(inline=True) if same else source
    except SevPcieError:
        return source


def _ranges(scenarios: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return every {low, typical, high} that the scenarios hold, once, with the schemes that have it."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for scenario in scenarios:
        for path, scheme, table in _tables(scenario, (), ""):
            if {"low", "typical", "high"} <= set(table):
                told = {k: table.get(k, "") for k in ("low", "typical", "high", "source")}
                name = ".".join(path[-2:])
                row = found.setdefault(
                    (name, *map(str, told.values())), {"name": name, "schemes": [], **told}
                )
                if scheme and scheme not in row["schemes"]:
                    row["schemes"].append(scheme)
    return list(found.values())


def _tables(
    data: Any, path: tuple[str, ...], scheme: str
) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, Any]]]:
    """Yield every table inside with the path to it and the name of the scheme around it."""
    if isinstance(data, Mapping):
        if "mechanism" in data:
            scheme = view.scheme_title(str(data.get("name", "")))
        yield path, scheme, data
        for key, value in data.items():
            yield from _tables(value, (*path, str(key)), scheme)
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _tables(item, path, scheme)
